//! `kraftd certs`: certificates for a first cluster.

#[cfg(feature = "tls")]
mod folder;

use std::path::PathBuf;

use clap::Args;

#[cfg(feature = "tls")]
pub(super) use self::folder::make;
#[cfg(not(feature = "tls"))]
use super::Failure;

/// What a build says that was asked for what it has not.
#[cfg(not(feature = "tls"))]
pub(super) const WITHOUT_TLS: &str = "this kraftd was built without TLS: build it with --features tls";

/// What is made, and where.
#[derive(Args, Clone, Debug)]
pub(super) struct Certs {
    /// The cluster's name, as init was given it: it stands in the certificates.
    #[arg(long, value_name = "TEXT")]
    cluster: String,
    /// The ids of the nodes that have none so far.
    #[arg(long, value_name = "ID,…", value_delimiter = ',', default_value = "1,2,3",
        value_parser = clap::value_parser!(u64).range(1..))]
    ids: Vec<u64>,
    /// How long the certificates of nodes and clients are good for. The authority's is for ten years.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// The folder that they are written to, made if it is not there. What is in it is kept, and its authority used.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[cfg(not(feature = "tls"))]
impl Certs {
    pub(super) fn run(&self) -> Result<(), Failure> {
        Err(Failure::config(WITHOUT_TLS))
    }
}
