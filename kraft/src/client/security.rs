//! Whether a client's connections are encrypted, and what TLS said of those that came to nothing.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

#[cfg(feature = "tls")]
use kraft_adapters::tls::{self, Authorities, Credentials, Tls, TrustError, rustls};
use kraft_adapters::{Choice, Opened, PassedOver};
use kraft_core::client::Refused;
use kraft_core::message::Refusal;

use crate::transport::Transport;

/// How a client's connections are protected. The default is plaintext.
#[derive(Clone, Debug, Default)]
pub struct Security {
    #[cfg(feature = "tls")]
    dial: Option<Arc<rustls::ClientConfig>>,
}

impl Security {
    /// TLS with nodes that `authorities` vouch for, and no others: what answers must bear a node's name of the client's
    /// cluster, [`node_name`](kraft_core::handshake::node_name). Shows `own` to nodes that ask for a certificate.
    ///
    /// ```no_run
    /// use std::path::Path;
    ///
    /// use kraft::adapters::Choice;
    /// use kraft::client::{Client, Config, Node, Security};
    /// use kraft::tls::read_authorities;
    ///
    /// let security = Security::tls(&read_authorities(Path::new("ca.pem"))?, None)?;
    /// let nodes = Node::resolve_list("10.0.0.1:4002,10.0.0.2:4002")?;
    /// let (mut client, _) = Client::with_security(Config::default(), nodes, &Choice::default(), &security)?;
    /// client.put(b"greeting", b"hello")?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// What of `own` cannot be used.
    #[cfg(feature = "tls")]
    pub fn tls(authorities: &Authorities, own: Option<&Credentials>) -> Result<Self, TrustError> {
        let dial = tls::dialler(authorities, own)?;
        Ok(Self { dial: Some(dial) })
    }

    /// The event loop of a client, and what the choice passed over.
    pub(crate) fn open(
        &self,
        choice: &Choice,
        config: &kraft_adapters::Config,
        trouble: &Trouble,
    ) -> io::Result<(Transport, Vec<PassedOver>)> {
        let Opened { adapter, passed_over } = choice.open(config)?;
        #[cfg(feature = "tls")]
        if let Some(dial) = &self.dial {
            let dialling = tls::Config {
                dial: Some(Arc::clone(dial)),
                ..tls::Config::default()
            };
            let told = trouble.clone();
            let adapter = Tls::new(adapter, config, dialling, move |failure| told.note(failure))?;
            return Ok((adapter.into(), passed_over));
        }
        // Plaintext has no trouble of its own.
        let _ = trouble;
        Ok((adapter.into(), passed_over))
    }
}

/// Why connections of a client came to nothing, by the address that was dialled: the event loop tells of a connection
/// that it ended, and not of what TLS thought. As many as there are addresses, at most.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trouble(Arc<Mutex<BTreeMap<String, String>>>);

impl Trouble {
    #[cfg(feature = "tls")]
    fn note(&self, failure: &tls::Failure) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(failure.peer.to_string(), failure.why.to_string());
    }

    /// A call begins: what was told of earlier ones is theirs.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What was wrong at an address.
    pub(crate) fn at(&self, address: &str) -> Option<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .get(address)
            .map(|why| format!("TLS connection to {address}: {why}"))
    }

    /// Adds to the refusal of who found no leader what was wrong with its connections; alike ones once.
    pub(super) fn explain(&self, mut refused: Refused) -> Refused {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.why == Refusal::NotLeader {
            let mut told: Vec<&str> = Vec::new();
            for (address, why) in known.iter() {
                if !told.contains(&why.as_str()) {
                    told.push(why);
                    write!(refused.detail, "; TLS connection to {address}: {why}").expect("a String takes all");
                }
            }
        }
        refused
    }
}
