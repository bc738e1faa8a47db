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

/// In front of an address, what people are told of a handshake that came to nothing. What was wrong follows, and what to do.
#[cfg(any(feature = "tls", feature = "ctl"))]
const NO_TLS: &str = "no TLS with";

/// Of a connection that was lost.
#[cfg(feature = "tls")]
const LOST: &str = "TLS connection to";

/// Whether TLS kept the client from a node, by what it was told `why` nothing came of a call: then it matters little who is
/// up, and what to do is told already.
#[cfg(feature = "ctl")]
pub(crate) fn is_kept_out(why: &str) -> bool {
    why.contains(NO_TLS) || why.contains(kraft_core::client::SPEAKS_TLS)
}

/// Why connections of a client came to nothing, by the address that was dialled: the event loop tells of a connection
/// that it ended, and not of what TLS thought. As many as there are addresses, at most. Each is two texts, the address to
/// stand between them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trouble(Arc<Mutex<BTreeMap<String, (&'static str, String)>>>);

impl Trouble {
    #[cfg(feature = "tls")]
    fn note(&self, failure: &tls::Failure) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Who is slow, or gone, may have been kept from nothing by TLS.
        let what = match failure.why {
            tls::Why::Truncated | tls::Why::TooSlow | tls::Why::TooMany => LOST,
            _ => NO_TLS,
        };
        known.insert(failure.peer.to_string(), (what, failure.why.to_string()));
    }

    /// A call begins: what was told of earlier ones is theirs.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What was wrong at an address.
    pub(crate) fn at(&self, address: &str) -> Option<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (what, why) = known.get(address)?;
        Some(format!("{what} {address}: {why}"))
    }

    /// Adds to the refusal of who found no leader what was wrong with its connections; alike ones once.
    pub(super) fn explain(&self, mut refused: Refused) -> Refused {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.why == Refusal::NotLeader {
            let mut told: Vec<&str> = Vec::new();
            for (address, (what, why)) in known.iter() {
                if !told.contains(&why.as_str()) {
                    told.push(why);
                    write!(refused.detail, "; {what} {address}: {why}").expect("a String takes all");
                }
            }
        }
        refused
    }
}

#[cfg(all(test, feature = "tls", feature = "ctl"))]
mod tests {
    use std::net::SocketAddr;

    use kraft_core::id::NodeId;

    use super::*;

    #[test]
    fn whom_tls_kept_out_is_told_apart_from_who_was_lost() {
        for (why, is_verdict) in [
            (tls::Why::Expired, true),
            (tls::Why::NotTls, true),
            (tls::Why::Unfinished, true),
            (tls::Why::Truncated, false),
            (tls::Why::TooSlow, false),
        ] {
            let trouble = Trouble::default();
            let told = why.to_string();
            trouble.note(&tls::Failure {
                peer: SocketAddr::from(([127, 0, 0, 1], 1)).into(),
                dialled: true,
                why,
            });
            let refused = Refused {
                why: Refusal::NotLeader,
                leader: NodeId::NONE,
                detail: "no leader".to_owned(),
            };
            let detail = trouble.explain(refused).detail;
            assert!(detail.starts_with("no leader; ") && detail.ends_with(&format!(" 127.0.0.1:1: {told}")));
            assert_eq!(is_kept_out(&detail), is_verdict, "{detail}");
            let at = trouble.at("127.0.0.1:1").expect("it is known");
            assert_eq!(is_kept_out(&at), is_verdict, "{at}");
            trouble.forget();
            assert_eq!(trouble.at("127.0.0.1:1"), None);
        }
    }
}
