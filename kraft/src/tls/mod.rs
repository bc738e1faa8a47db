//! Encrypted connections: whom one believes and as whom one shows oneself, read from files.
//!
//! `kraftd` and `kraftctl` take these by flags. A program that embeds a node wraps its adapter in [`Tls`]; one that is a
//! client gives [`Security::tls`](crate::client::Security::tls) to its [`Client`](crate::Client).
//!
//! ```no_run
//! use std::path::Path;
//!
//! use kraft::adapters::{Choice, Config as Loop};
//! use kraft::tls::{Config, Tls, acceptor, dialler, read_authorities, read_credentials};
//!
//! let trusted = read_authorities(Path::new("ca.pem"))?;
//! let own = read_credentials(Path::new("node-1.pem"), Path::new("node-1.key"))?;
//! let config = Config {
//!     peers: Some(acceptor(&own, Some(&trusted))?),
//!     clients: Some(acceptor(&own, None)?),
//!     dial: Some(dialler(&trusted, Some(&own))?),
//!     ..Config::default()
//! };
//! let plain = Choice::default().open(&Loop::default())?.adapter;
//! // An adapter like any other, for `Server::open` or `Node::open`, which hold each peer to the name in its certificate.
//! let adapter = Tls::new(plain, &Loop::default(), config, |failure| eprintln!("{failure}"))?;
//! # drop(adapter);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

#[cfg(all(feature = "binary", feature = "daemon"))]
pub(crate) mod authority;
mod files;

pub use kraft_adapters::tls::{
    Authorities, Config, Credentials, Failure, Renewal, Tls, TrustError, Why, acceptor, dialler, rustls,
};

pub use self::files::{FileError, read_authorities, read_credentials};
