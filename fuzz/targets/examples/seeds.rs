//! Makes the inputs that corpora begin with: `cargo run -p kraft-fuzz-targets --example seeds`.
//!
//! They are named `seed-*`, the same each time, and written over. What was found since has other names and stays.

use std::fs;
use std::path::{Path, PathBuf};

use fastrand::Rng;
use kraft_core::handshake::Kind;
use kraft_core::outbox::Outbox;
use kraft_core::protocol::Protocol;
use kraft_fuzz_targets::TARGETS;
use kraft_protocols::conformance::{contents, golden};
use kraft_protocols::frame::HEADER;
use kraft_protocols::{Any, Format};

/// Inputs of a target that chooses what to do by them.
const CHOICES: u64 = 24;

const FRAME_MAX: usize = 1 << 20;

fn main() {
    for (name, target) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(name);
        fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let format = name.strip_prefix("decode_").and_then(|format| format.parse().ok());
        let inputs = match (format, *name) {
            (Some(format), _) => frames(format),
            (None, "config_parse") => files(),
            (None, "snapshot_open") => [choices(name, 200), states()].concat(),
            (None, "core_step" | "wal_open" | "client_reply_decode" | "session_table") => choices(name, 1200),
            (None, _) => choices(name, 400),
        };
        for (at, input) in inputs.iter().enumerate() {
            // None of them finds anything.
            target(input);
            write(&folder.join(format!("seed-{at:02}")), input);
        }
        println!("{}: {}", folder.display(), inputs.len());
    }
}

fn write(path: &PathBuf, bytes: &[u8]) {
    fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// The golden messages: a few as frames, the others as bodies whose kind the target is told.
fn frames(format: Format) -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    for (at, (_, message)) in golden::messages().iter().enumerate() {
        let mut out = Outbox::new(FRAME_MAX);
        Any::new(format)
            .encode(message, FRAME_MAX, &mut out)
            .expect("a golden message fits");
        let frame = contents(&mut out);
        if at % 4 == 0 {
            inputs.push([&[4], &frame[..]].concat());
            continue;
        }
        let kind = Kind::ALL.iter().position(|kind| *kind == Kind::of(&message.body));
        let kind = u8::try_from(kind.expect("a kind is one of all")).expect("there are few");
        let checked = u32::from_le_bytes(frame[12..16].try_into().expect("four bytes")) as usize;
        let payloads = u8::try_from(frame.len() - HEADER - checked).expect("a golden frame is short");
        let last: &[u8] = if format == Format::Binary { &[payloads] } else { &[] };
        inputs.push([&[5, kind], &frame[HEADER..], last].concat());
    }
    inputs
}

/// Bytes by chance, the same each time.
fn choices(name: &str, length: usize) -> Vec<Vec<u8>> {
    let of_name = name
        .bytes()
        .fold(7, |seed: u64, byte| seed.wrapping_mul(31) + u64::from(byte));
    let made = |seed: u64| {
        let mut rng = Rng::with_seed(of_name ^ seed);
        let mut bytes = vec![0; length / 4 + rng.usize(0..length)];
        rng.fill(&mut bytes);
        // Small numbers choose what is common.
        for byte in bytes.iter_mut() {
            *byte >>= rng.u8(0..7);
        }
        bytes
    };
    (0..CHOICES).map(made).collect()
}

/// Files of kraftd, behind the choices of no variables and no flags.
fn files() -> Vec<Vec<u8>> {
    let texts = [
        "heartbeat_ms = 40\nlog_level = \"warn\"\n",
        "cluster = \"blue\"\nid = 2\npeers = { 1 = \"10.0.0.1:4001\", 2 = \"10.0.0.2:4001\" }\nlisten = \"10.0.0.2:4001\"\nclient = \"10.0.0.2:4002\"\n",
        "peers = [\"1=a:1\", \"2=b:1\"]\nbackend = \"uring,epoll\"\nprotocol = \"json\"\nspin = \"50us\"\n",
        "peers = \"1=[::1]:1,2=b:1\"\nmetrics = \"127.0.0.1:9\"\npre_vote = false\ncheck_quorum = true\n",
        "frame_bytes_max = 0x10_0000\nwrite_queue_bytes_max = 4_194_304\nlease_reads = true\n",
        "[raft]\nheartbeat_ms = 1\n",
        "heartbeat_ms = \n",
        "heartbeet_ms = -1\n",
        "# nothing\n",
        "tls_cert = \"/a\"\ntls_key = '/b'\ntls_ca = \"\"\"/c\"\"\"\n",
    ];
    let mut inputs = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        let init = u8::from(at % 2 == 0);
        inputs.push([&[init, 0, 0], text.as_bytes()].concat());
        // A variable and a flag, of fields that the first bytes choose.
        let field = u8::try_from(at).expect("there are few");
        let more = [
            &[init, 1, 1, field, 2, b'1', b'0', 1, 2 * field, 1, b'7'],
            text.as_bytes(),
        ]
        .concat();
        inputs.push(more);
    }
    inputs
}

/// A table without sessions, and a map of two keys; a table of one session with a reply.
fn states() -> Vec<Vec<u8>> {
    let map: &[u8] = &[
        1, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, b'a', b'v', b'w', 1, 0, 0, 0, 0, 0, 0, 0, b'b',
    ];
    let session: &[u8] = &[
        1, 1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0,
        0, 0, 0, 0, 2, 0, 0, 0, b'o', b'k',
    ];
    vec![[&[2, 1], map].concat(), [&[2, 0], session, map].concat()]
}
