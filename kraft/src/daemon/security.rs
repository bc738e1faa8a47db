//! TLS of a node, as the configuration wants it.

use std::sync::Arc;

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
    tls: Option<tls::Config>,
}

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
            (None, None, None) => return Ok(Self { tls: None }),
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
        let client_authorities = config.tls_client_ca.as_deref().map(tls::read_authorities);
        let client_authorities = client_authorities
            .transpose()
            .map_err(|error| wrong("tls_client_ca", &error))?;
        let unusable = |name: &'static str| move |error: tls::TrustError| Failure::config(format!("{name}: {error}"));
        Ok(Self {
            tls: Some(tls::Config {
                peers: Some(tls::acceptor(&own, Some(&authorities)).map_err(unusable("tls_ca"))?),
                clients: Some(tls::acceptor(&own, client_authorities.as_ref()).map_err(unusable("tls_client_ca"))?),
                // Monitors have a listener of their own, and no keys.
                others: None,
                dial: Some(tls::dialler(&authorities, Some(&own)).map_err(unusable("tls_cert"))?),
                ..tls::Config::default()
            }),
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
        let Some(tls) = self.tls else { return Ok(adapter.into()) };
        let told = Arc::clone(counts);
        let wrapped = tls::Tls::new(adapter, config, tls, move |failure| told.tell_tls(failure));
        let wrapped = wrapped.map_err(|error| Failure::config(format!("TLS: {error}")))?;
        Ok(wrapped.into())
    }
}

/// What SIGHUP does: reads certificates and keys again, for connections that begin from then on. Nothing without TLS.
#[cfg(feature = "tls")]
pub(super) fn reload(config: &Config, transport: &Transport) -> Option<impl FnMut() + Send + 'static> {
    let Transport::Tls(adapter) = transport else {
        return None;
    };
    let (config, renewal) = (config.clone(), adapter.renewal());
    Some(move || {
        let unusable = |error| Failure::config(format!("TLS: {error}"));
        let renewed = Security::read(&config).and_then(|read| match read.tls {
            Some(tls) => renewal.renew(tls).map_err(unusable),
            None => Ok(()),
        });
        match renewed {
            Ok(()) => log::info!(kind = "tls_renewed"; "read certificates and keys again, for connections to come"),
            Err(failure) => log::error!(kind = "tls_renewed"; "{failure}; those that were read before stay in use"),
        }
    })
}

#[cfg(not(feature = "tls"))]
pub(super) fn reload(_: &Config, _: &Transport) -> Option<fn()> {
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
