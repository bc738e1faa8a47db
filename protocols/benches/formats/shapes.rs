//! The messages that are measured.

use bytes::Bytes;
use kraft_core::id::{ClusterId, Index, NodeId, RequestId, Round, Term};
use kraft_core::message::{Append, Body, Entries, Entry, EntryKind, Header, Heartbeat, Message};
use kraft_core::protocol::Limits;

/// What a node accepts.
pub(crate) const LIMITS: Limits = Limits {
    frame_max: 1 << 20,
    entries_max: 1024,
};

/// A message by its kind and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A leader's sign of life.
    Heartbeat,
    /// An append of so many entries of so many bytes each.
    Append {
        /// How many.
        entries: usize,
        /// Of each payload.
        bytes: usize,
    },
}

/// What is measured: the smallest message that there are many of, and appends from one command to bulk.
pub(crate) const SHAPES: [Shape; 4] = [
    Shape::Heartbeat,
    Shape::Append { entries: 1, bytes: 256 },
    Shape::Append {
        entries: 64,
        bytes: 256,
    },
    Shape::Append {
        entries: 1,
        bytes: 64 * 1024,
    },
];

impl Shape {
    /// Its name in tables.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Heartbeat => "heartbeat".to_owned(),
            Self::Append { entries, bytes } if bytes % 1024 == 0 => format!("{entries} x {} KiB", bytes / 1024),
            Self::Append { entries, bytes } => format!("{entries} x {bytes} B"),
        }
    }

    /// How many entries it has.
    pub(crate) fn entries(self) -> usize {
        match self {
            Self::Heartbeat => 0,
            Self::Append { entries, .. } => entries,
        }
    }

    /// Bytes of all payloads together.
    pub(crate) fn payload_bytes(self) -> usize {
        match self {
            Self::Heartbeat => 0,
            Self::Append { entries, bytes } => entries * bytes,
        }
    }

    /// The message. Its entries are never given back: a program makes a few such, once.
    pub(crate) fn message(self) -> Message<'static> {
        let body = match self {
            Self::Heartbeat => Body::Heartbeat(Heartbeat {
                commit: Index(1_000_000),
                round: Round(5_000),
            }),
            Self::Append { entries, bytes } => {
                let entries: Vec<_> = (0..entries).map(|at| entry(at, bytes)).collect();
                Body::Append(Append {
                    prev_index: Index(1_000_000),
                    prev_term: Term(7),
                    commit: Index(999_990),
                    round: Round(5_000),
                    entries: Entries::Shared(entries.leak(), &[]),
                })
            }
        };
        Message {
            header: Header {
                cluster: ClusterId(0x7b19_6ae1_b5d7_2a01),
                from: NodeId(2),
                term: Term(7),
                request: RequestId(0x0a0b_0c0d_0e0f_1011),
                ..Header::default()
            },
            body,
        }
    }
}

fn entry(at: usize, bytes: usize) -> Entry {
    // Each byte differs from its neighbours, and each entry from the others.
    let payload: Bytes = (0..bytes).map(|byte| (at + byte * 31) as u8).collect();
    Entry {
        term: Term(7),
        kind: EntryKind::Command,
        crc: crc32c::crc32c(&payload),
        payload,
    }
}
