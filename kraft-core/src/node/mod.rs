//! The driver: joins adapter, protocol, storage and state machine to Raft.
