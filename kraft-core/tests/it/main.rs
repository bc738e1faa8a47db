//! Raft as its users see it: whole clusters in virtual time, and single nodes fed by hand.

mod bounds;
#[cfg(kraft_canary)]
mod canaries;
mod cluster;
mod disk;
mod election;
mod hostile;
mod leases;
mod lone;
mod members;
mod members_judged;
mod members_leaving;
mod members_seated;
mod members_weather;
mod random;
mod reads;
mod recovery;
mod releases;
mod replication;
mod scenario;
mod snapshots;
mod storage;
mod transfer;
