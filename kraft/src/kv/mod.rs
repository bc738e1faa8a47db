//! The key-value state machine: an ordered map in memory.
//!
//! [`Kv`] is the [`StateMachine`](kraft_core::machine::StateMachine) of `kraftd`; [`Command`], [`Query`] and
//! [`Reply`] are what clients and it say to each other.
//!
//! # Encoding
//!
//! The first byte of every command, query and reply is the version, 1; the second says what it is. Numbers are
//! little-endian, keys and values any bytes. `key` is a `u32` length and the bytes; `rest` is all that is left.
//! Bytes behind the last field make the whole invalid.
//!
//! | command | second byte | fields |
//! |---|---|---|
//! | put | 1 | `key`, value: `rest` |
//! | delete | 2 | key: `rest` |
//! | compare-and-set | 3 | `key`, `u8` 1 and `key`-shaped expected value, or `u8` 0 for an absent key; new value: `rest` |
//! | increment | 4 | `i64` by how much, key: `rest` |
//!
//! | query | second byte | fields |
//! |---|---|---|
//! | get | 1 | key: `rest` |
//! | scan | 2 | `u32` limit (0: as many as fit), `key`-shaped prefix, after: `rest` (empty: from the first) |
//!
//! | reply | second byte | fields | to |
//! |---|---|---|---|
//! | done | 1 | | put, delete, compare-and-set |
//! | not found | 2 | | get, delete |
//! | value | 3 | `rest` | get |
//! | mismatch | 4 | `u8` 1 and `rest`, the value that is there; `u8` 0 if none is | compare-and-set |
//! | number | 5 | `i64`, the sum | increment |
//! | not a number | 6 | | increment |
//! | overflow | 7 | | increment |
//! | entries | 8 | `u8` 1 if there are more, `u32` how many, then `key` and `key`-shaped value each | scan |
//! | invalid | 9 | | a command that this version cannot read |
//!
//! A number is kept as its decimal text, so that `get` shows it and `put` may set it; an absent key counts as 0.
//!
//! In a snapshot, [`KvImage`]: the same bytes on every node that applied the same commands.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version, 1 |
//! | 8 | how many keys; then for each, in the order of their bytes: |
//! | 4 | bytes of the key, at most 1 GiB |
//! | 4 | bytes of the value, at most 1 GiB |
//! | | the key |
//! | | the value |
//!
//! # Limits
//!
//! Every [limit](Limits) is judged by the leader, before it proposes, and refused there by name; what is committed is
//! applied without one. A limit is a node's setting and no part of the replicated state, so nodes that differ in it,
//! as they do while it is changed one by one, answer and hold the same. A command that is tried again while the state
//! is at its limit may be refused although its first attempt was applied: a client that lost an answer says that the
//! outcome is unknown.

mod command;
mod fields;
mod image;
mod key;
mod machine;
mod map;
mod reply;
#[cfg(test)]
mod tests;

pub use command::{Command, Query};
pub use fields::DecodeError;
pub use image::{KvImage, KvTotals};
pub use machine::{Kv, Limits};
pub use reply::{Entries, Reply};
