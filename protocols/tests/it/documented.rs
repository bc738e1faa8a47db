//! `docs/wire-format.md` and `docs/standard-formats.md` say what is on the wire.

use std::fs;
use std::path::Path;

use kraft_core::handshake::Kind;
use kraft_core::id::NodeId;
use kraft_core::message::{Body, Goaway, Header, Message, Outcome, Refused};
use kraft_protocols::conformance::{Sample, arbitrary, golden};
use kraft_protocols::frame::HEADER;

use crate::forge;

fn document() -> String {
    page("wire-format.md")
}

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn encode(body: Body<'_>) -> Vec<u8> {
    let header = Header::default();
    forge::encode(&Message { header, body })
}

fn u16_at(frame: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([frame[at], frame[at + 1]])
}

/// A row that begins with these cells.
#[track_caller]
fn expect_row(document: &str, cells: &str) {
    assert!(
        document.lines().any(|line| line.starts_with(cells)),
        "no row begins with {cells:?}"
    );
}

#[test]
fn the_numbers_of_reasons_are_on_the_wire() {
    let document = document();
    for reason in arbitrary::GOAWAY_REASONS {
        let frame = encode(Body::Goaway(Goaway { reason, detail: "" }));
        expect_row(&document, &format!("| {} | {reason:?} |", u16_at(&frame, HEADER + 40)));
    }
    for why in arbitrary::REFUSALS {
        let refused = Refused {
            why,
            leader: NodeId::NONE,
            detail: "",
        };
        let frame = encode(Body::Reply(Outcome::Refused(refused)));
        expect_row(&document, &format!("| {} | {why:?} |", u16_at(&frame, HEADER + 42)));
    }
}

#[test]
fn the_numbers_of_kinds_are_on_the_wire() {
    let document = document();
    for sample in Sample::each_kind(0) {
        let frame = forge::encode(&sample.message());
        let name = words(sample.kind());
        expect_row(&document, &format!("| {name} | {} |", u16_at(&frame, 6)));
    }
}

/// "append reply" of `AppendReply`.
fn words(kind: Kind) -> String {
    let mut words = String::new();
    for letter in format!("{kind:?}").chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

/// The first line of a kind's section says how long its fixed part is; where two kinds share one, the first line of
/// the question and the second number of the reply.
#[test]
fn the_lengths_of_fixed_parts_are_on_the_wire() {
    let document = document();
    for sample in Sample::each_kind(0) {
        let frame = forge::encode(&sample.message());
        let number = u16_at(&frame, 6);
        let (_, section) = document
            .split_once(&format!("({number})"))
            .unwrap_or_else(|| panic!("kind {number} has no section"));
        let (section, _) = section.split_once("\n###").unwrap_or((section, ""));
        let length = u16_at(&frame, HEADER);
        let says = [format!("{length} bytes"), format!("reply has {length}")];
        assert!(
            says.iter().any(|says| section.contains(says)),
            "the section of {number} says {says:?}"
        );
    }
}

/// The golden frame `name` of a format.
fn golden(format: &str, name: &str) -> Vec<u8> {
    let path = format!("{}/tests/golden/{format}/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    golden::read(Path::new(&path))
}

#[test]
fn the_examples_of_the_standard_formats_are_on_the_wire() {
    let document = page("standard-formats.md");
    let mut count = 0;
    for (at, _) in document.match_indices("\n```") {
        let (fence, rest) = document[at + 4..].split_once('\n').unwrap();
        if fence.is_empty() || fence == "sh" {
            continue;
        }
        let name = document[..at].trim_end().lines().last().unwrap();
        let name = name.trim_matches(|c| c == '`' || c == ':');
        let (example, _) = rest.split_once('\n').unwrap();
        let body = &golden(fence, name)[HEADER..];
        let said = match fence {
            "json" => String::from_utf8(body.to_vec()).unwrap(),
            _ => body
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<Vec<_>>()
                .join(" "),
        };
        assert_eq!(example, said, "{name}");
        count += 1;
    }
    assert_eq!(count, 5);
}

#[test]
fn the_sizes_of_golden_frames_are_those_of_the_table() {
    let document = page("standard-formats.md");
    for (name, row) in [
        ("heartbeat", "heartbeat"),
        ("append", "append, four entries of 7 bytes together"),
        ("command", "command of 13 bytes"),
    ] {
        let sizes = ["binary", "protobuf", "msgpack", "json"].map(|format| golden(format, name).len().to_string());
        expect_row(&document, &format!("| {row} | {} |", sizes.join(" | ")));
    }
}
