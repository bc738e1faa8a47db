//! The log on disk, and the folder that it lives in.
//!
//! [`DiskLog`] is the [`Storage`](kraft_core::storage::Storage) of a node: a segmented log of its own, over the few
//! file operations of [`Files`]. `format` says what the bytes are, `survey` what recovery makes of them, `restart` why
//! a segment is never appended to after a restart, `fit` how log and newest snapshot become one again.

mod batch;
mod config;
mod disk_log;
mod files;
mod fit;
mod folder;
mod force;
pub mod format;
pub mod inspect;
mod ledger;
mod marks;
#[cfg(any(test, feature = "sim"))]
mod mem;
mod peer_book;
mod pool;
mod real;
mod repair;
mod restart;
mod restore;
mod scan;
mod sealed_text;
pub mod snapshots;
mod survey;
mod work;

pub use config::{Config, ConfigError};
pub use disk_log::DiskLog;
#[cfg(all(feature = "binary", feature = "daemon"))]
pub(crate) use disk_log::OVERHEAD_MAX;
pub use files::{File, Files};
pub use folder::{Expected, Folder, FolderError, Identity, Member};
pub use force::{ForceError, Forced, force_new_cluster};
pub use format::{LogIdentity, Position};
pub use ledger::Contradiction;
#[cfg(any(test, feature = "sim"))]
pub use mem::{Failure, Loss, MemFile, MemFiles, MemLock, Operation};
pub use peer_book::PeerBook;
pub use real::RealFiles;
#[cfg(feature = "sim")]
pub(crate) use repair::repair_log;
pub use repair::{DamageNote, RepairError, Repaired, repair};
pub use restore::RestoreError;
pub use snapshots::{DiskSnapshots, SetAside, SnapshotFile};
pub use survey::{Damage, DamageKind, OpenError, Torn};
pub use work::{DiskDone, DiskWork};

#[cfg(test)]
mod tests;
