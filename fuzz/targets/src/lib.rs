//! What fuzzers of Kraft run, as ordinary functions of bytes: each takes any input, and panics if something does not
//! hold that has to.
//!
//! `fuzz/` has a program of libFuzzer for each; `tests/corpus.rs` runs each over the inputs that are kept in
//! `fuzz/corpus`, on any compiler. `fuzz/README.md` says how to go on from there.
//!
//! | target | an input is | what has to hold |
//! |---|---|---|
//! | `decode_*` | a frame, or a body that is put into a sealed one | bounds of memory, of what is consumed and asked for; what is decoded is the same again in every format |
//! | `roundtrip_*` | choices of a message | what is encoded decodes to an equal message, in every format, within its overhead |
//! | `split_stream` | frames, some of them damaged, and where reads end | the same messages and the same end, wherever that is |
//! | `hello_state_machine` | a side, a role, and messages | what passes was agreed on and may be said by that role |
//! | `core_step` | what happens to one node of Raft | its laws, and those of its outputs, in front of any peers |
//! | `wal_open` | files, written by a node or forged, and damage | a log is opened as it was, but for an end that nothing left of it claims to be durable, or refused and left as it is |
//! | `snapshot_open` | a file, a state, and damage | damage is found; what is taken is what was written |
//! | `config_parse` | a file, variables and flags | one sentence, or values that come out the same again |
//! | `client_reply_decode` | what nodes answer, and when | each call ends once, as what it may end |
//! | `session_table` | entries of the log, images | a command applies once; equal entries, equal tables |

#![forbid(unsafe_code)]

mod client;
mod config;
mod core_step;
mod decode;
mod hello;
mod meter;
mod said;
mod sessions;
mod snapshot;
mod stream;
mod wal;

use kraft_protocols::Format;

pub use meter::measure_by;

/// A target: its name, and what runs an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("decode_binary", decode_binary),
    ("decode_protobuf", decode_protobuf),
    ("decode_msgpack", decode_msgpack),
    ("decode_json", decode_json),
    ("roundtrip_binary", roundtrip_binary),
    ("roundtrip_protobuf", roundtrip_protobuf),
    ("roundtrip_msgpack", roundtrip_msgpack),
    ("roundtrip_json", roundtrip_json),
    ("split_stream", split_stream),
    ("hello_state_machine", hello_state_machine),
    ("core_step", core_step),
    ("wal_open", wal_open),
    ("snapshot_open", snapshot_open),
    ("config_parse", config_parse),
    ("client_reply_decode", client_reply_decode),
    ("session_table", session_table),
];

/// Bytes before the decoder of `binary`.
pub fn decode_binary(input: &[u8]) {
    decode::any_bytes(Format::Binary, input);
}

/// Bytes before the decoder of `protobuf`.
pub fn decode_protobuf(input: &[u8]) {
    decode::any_bytes(Format::Protobuf, input);
}

/// Bytes before the decoder of `msgpack`.
pub fn decode_msgpack(input: &[u8]) {
    decode::any_bytes(Format::Msgpack, input);
}

/// Bytes before the decoder of `json`.
pub fn decode_json(input: &[u8]) {
    decode::any_bytes(Format::Json, input);
}

/// A message through `binary`, and from there through the others.
pub fn roundtrip_binary(input: &[u8]) {
    decode::any_message(Format::Binary, input);
}

/// A message through `protobuf`, and from there through the others.
pub fn roundtrip_protobuf(input: &[u8]) {
    decode::any_message(Format::Protobuf, input);
}

/// A message through `msgpack`, and from there through the others.
pub fn roundtrip_msgpack(input: &[u8]) {
    decode::any_message(Format::Msgpack, input);
}

/// A message through `json`, and from there through the others.
pub fn roundtrip_json(input: &[u8]) {
    decode::any_message(Format::Json, input);
}

/// Frames that come in pieces.
pub fn split_stream(input: &[u8]) {
    stream::run(input);
}

/// A handshake, and what follows it.
pub fn hello_state_machine(input: &[u8]) {
    hello::run(input);
}

/// A node of Raft among peers that say anything.
pub fn core_step(input: &[u8]) {
    core_step::run(input);
}

/// A log that is opened.
pub fn wal_open(input: &[u8]) {
    wal::run(input);
}

/// A snapshot that is received, opened and restored.
pub fn snapshot_open(input: &[u8]) {
    snapshot::run(input);
}

/// What kraftd is told.
pub fn config_parse(input: &[u8]) {
    config::run(input);
}

/// A client before nodes that answer anything.
pub fn client_reply_decode(input: &[u8]) {
    client::run(input);
}

/// The table of sessions.
pub fn session_table(input: &[u8]) {
    sessions::run(input);
}
