//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Runs five kraftd under faults and judges what their clients saw.
#[derive(Clone, Debug, Parser)]
#[command(name = "kraft-chaos", version, max_term_width = 100)]
pub(crate) struct Options {
    /// The kraftd to run; by default the one beside this program.
    #[arg(long, value_name = "FILE")]
    pub(crate) kraftd: Option<PathBuf>,
    /// How long faults last, in seconds.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(10..=3600))]
    pub(crate) seconds: u64,
    /// The schedule of faults is drawn from it, or KRAFT_SEED; drawn by the system if there is none.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Where a folder for this run is made: disks, logs, schedule, history. It is kept if the run fails.
    #[arg(long, value_name = "DIR", default_value = "target/chaos")]
    pub(crate) folder: PathBuf,
    /// Keep the folder also if the run is good.
    #[arg(long)]
    pub(crate) keep: bool,
    /// A file that gets a line for each kind of fault that cannot be had here.
    #[arg(long, value_name = "FILE")]
    pub(crate) left_out: Option<PathBuf>,
    /// Break the cluster in a way that must be found: the run fails if the verdict is good.
    #[arg(long, value_enum)]
    pub(crate) plant: Option<Plant>,
    /// The folder of this run, given to the part of the program that runs in the namespaces.
    #[arg(long, hide = true, value_name = "DIR")]
    pub(crate) inside: Option<PathBuf>,
}

/// A deliberate defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Plant {
    /// Disks that forget what they had synced: all five go back to what they were a while ago.
    Rollback,
}
