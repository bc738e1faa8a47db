//! Raft as its users see it: whole clusters in virtual time, and single nodes fed by hand.

mod cluster;
mod disk;
mod election;
mod hostile;
mod lone;
mod random;
mod reads;
mod replication;
mod scenario;
mod storage;
