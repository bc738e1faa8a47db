//! TLS of a node, as the configuration wants it.

use std::sync::Arc;
#[cfg(feature = "tls")]
use std::time::{Duration, SystemTime};

use kraft_adapters::Any;

use super::Failure;
use super::config::Config;
use super::notices::Counts;
#[cfg(feature = "tls")]
use crate::tls;
use crate::transport::Transport;

/// What the first line of the log calls it.
pub(super) fn word(config: &Config) -> &'static str {
    match (&config.tls_cert, &config.tls_client_ca) {
        (None, _) => "off",
        (Some(_), None) => "on",
        (Some(_), Some(_)) => "on, clients show certificates",
    }
}

/// The configuration of the wrapper; nothing where there is no TLS. `Config::validate` has seen to it that a build without
/// TLS is not asked for any.
pub(super) struct Security {
    #[cfg(feature = "tls")]
    protection: Option<Protection>,
}

#[cfg(feature = "tls")]
struct Protection {
    tls: tls::Config,
    /// Until when peers believe this node, in seconds since 1970.
    expiry: u64,
}

/// A certificate that expires before is warned of.
#[cfg(feature = "tls")]
const EXPIRY_WARNING: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[cfg(not(feature = "tls"))]
impl Security {
    pub(super) fn read(_: &Config) -> Result<Self, Failure> {
        Ok(Self {})
    }

    pub(super) fn protect(
        self,
        adapter: Any,
        _: &kraft_adapters::Config,
        _: &Arc<Counts>,
    ) -> Result<Transport, Failure> {
        Ok(adapter.into())
    }
}

#[cfg(feature = "tls")]
impl Security {
    /// Reads certificates and keys.
    ///
    /// # Errors
    ///
    /// The field whose file is of no use, and why.
    pub(super) fn read(config: &Config) -> Result<Self, Failure> {
        let (certificate, key, ca) = match (&config.tls_cert, &config.tls_key, &config.tls_ca) {
            (None, None, None) => return Ok(Self { protection: None }),
            (Some(certificate), Some(key), Some(ca)) => (certificate, key, ca),
            // `Config::validate` says it better; in any case half of TLS does not pass for none.
            _ => {
                return Err(Failure::config(
                    "tls_cert, tls_key and tls_ca go together: set all three",
                ));
            }
        };
        let authorities = tls::read_authorities(ca).map_err(|error| wrong("tls_ca", &error))?;
        let own = tls::read_credentials(certificate, key).map_err(|error| {
            let name = if error.path() == key { "tls_key" } else { "tls_cert" };
            wrong(name, &error)
        })?;
        check_name(config, &own)?;
        if let Err(why) = own.check(&authorities) {
            log::warn!(kind = "tls_refused", tls_cert:% = certificate.display(), why:% = why;
                "who believes tls_ca, as peers and clients do, will refuse this node");
        }
        let believed_for = own.believed_for(&authorities);
        if (Duration::from_secs(1)..EXPIRY_WARNING).contains(&believed_for) {
            log::warn!(kind = "tls_expiry", tls_cert:% = certificate.display(),
                hours_left = believed_for.as_secs() / 3600; "this node's certificate expires soon: renew it, and send SIGHUP");
        }
        let client_authorities = config.tls_client_ca.as_deref().map(tls::read_authorities);
        let client_authorities = client_authorities
            .transpose()
            .map_err(|error| wrong("tls_client_ca", &error))?;
        let unusable = |name: &'static str| move |error: tls::TrustError| Failure::config(format!("{name}: {error}"));
        let tls = tls::Config {
            peers: Some(tls::acceptor(&own, Some(&authorities)).map_err(unusable("tls_ca"))?),
            clients: Some(tls::acceptor(&own, client_authorities.as_ref()).map_err(unusable("tls_client_ca"))?),
            // Monitors have a listener of their own, and no keys.
            others: None,
            dial: Some(tls::dialler(&authorities, Some(&own)).map_err(unusable("tls_cert"))?),
            ..tls::Config::default()
        };
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let expiry = (since_1970.unwrap_or_default() + believed_for).as_secs();
        Ok(Self {
            protection: Some(Protection { tls, expiry }),
        })
    }

    /// The event loop, encrypted if it is to be.
    ///
    /// # Errors
    ///
    /// What cannot be used.
    pub(super) fn protect(
        self,
        adapter: Any,
        config: &kraft_adapters::Config,
        counts: &Arc<Counts>,
    ) -> Result<Transport, Failure> {
        let Some(Protection { tls, expiry }) = self.protection else {
            return Ok(adapter.into());
        };
        counts.set_certificate_expiry(expiry);
        let told = Arc::clone(counts);
        let wrapped = tls::Tls::new(adapter, config, tls, move |failure| told.tell_tls(failure));
        let wrapped = wrapped.map_err(|error| Failure::config(format!("TLS: {error}")))?;
        Ok(wrapped.into())
    }
}

/// What SIGHUP does: reads certificates and keys again, for connections that begin from then on. Nothing without TLS.
#[cfg(feature = "tls")]
pub(super) fn reload(
    config: &Config,
    transport: &Transport,
    counts: &Arc<Counts>,
) -> Option<impl FnMut() + Send + 'static> {
    let Transport::Tls(adapter) = transport else {
        return None;
    };
    let (config, renewal, counts) = (config.clone(), adapter.renewal(), Arc::clone(counts));
    Some(move || {
        let unusable = |error| Failure::config(format!("TLS: {error}"));
        let renewed = Security::read(&config).and_then(|read| {
            let Some(Protection { tls, expiry }) = read.protection else {
                return Ok(());
            };
            renewal.renew(tls).map_err(unusable)?;
            counts.set_certificate_expiry(expiry);
            Ok(())
        });
        match renewed {
            Ok(()) => log::info!(kind = "tls_renewed"; "read certificates and keys again, for connections to come"),
            Err(failure) => log::error!(kind = "tls_renewed"; "{failure}; those that were read before stay in use"),
        }
    })
}

#[cfg(not(feature = "tls"))]
pub(super) fn reload(_: &Config, _: &Transport, _: &Arc<Counts>) -> Option<fn()> {
    None
}

/// Peers dial a node by its id, and hang up if the certificate that they see is another's.
#[cfg(feature = "tls")]
fn check_name(config: &Config, own: &tls::Credentials) -> Result<(), Failure> {
    let expected = kraft_core::handshake::node_name(&config.cluster, kraft_core::id::NodeId(config.id));
    let names = own.names();
    if names.contains(&expected) {
        return Ok(());
    }
    let shown = match names.first() {
        None => "no name".to_owned(),
        Some(first) => super::escape::escaped(first).into_owned(),
    };
    let path = config.tls_cert.as_deref().unwrap_or_else(|| std::path::Path::new(""));
    Err(Failure::config(format!(
        "tls_cert: {}: it has {shown}, and this is node {} of {}, whose certificate has the name {expected}: name the \
         certificate of this node; `kraftd certs` makes one",
        path.display(),
        config.id,
        config.cluster
    )))
}

#[cfg(feature = "tls")]
fn wrong(name: &str, error: &tls::FileError) -> Failure {
    Failure::config(format!("{name}: {error}"))
}
