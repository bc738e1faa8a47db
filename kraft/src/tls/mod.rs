//! Encrypted connections: whom one believes and as whom one shows oneself, read from files.
//!
//! `kraftd` and `kraftctl` take these by flags. A program that embeds a node wraps its adapter in [`Tls`]; one that is a
//! client gives [`Security::tls`](crate::client::Security::tls) to its [`Client`](crate::Client).

#[cfg(feature = "daemon")]
pub(crate) mod authority;
mod files;

pub use kraft_adapters::tls::{
    Authorities, Config, Credentials, Failure, Tls, TrustError, Why, acceptor, dialler, rustls,
};

pub use self::files::{FileError, read_authorities, read_credentials};
