//! The same messages as structs, with what `prost` and `serde` derive: how a program would write them that has no
//! reason to do better.

use bytes::Bytes;
use kraft_core::message::{Body, Message};

use self::copied::Entry as CopiedEntry;
use self::mapped::Owned;
use self::shared::Entry as SharedEntry;

/// The messages of `protocols/schema/kraft.proto`, with payloads of a type of prost's.
macro_rules! messages {
    ($module:ident $kind:tt $payload:ty) => {
        pub(crate) mod $module {
            /// Kind 18.
            #[derive(Clone, PartialEq, prost::Message)]
            pub(crate) struct Heartbeat {
                #[prost(fixed64, tag = "1")]
                pub(crate) cluster: u64,
                #[prost(uint32, tag = "2")]
                pub(crate) group: u32,
                #[prost(uint64, tag = "3")]
                pub(crate) from: u64,
                #[prost(uint64, tag = "4")]
                pub(crate) term: u64,
                #[prost(uint64, tag = "5")]
                pub(crate) request: u64,
                #[prost(uint64, tag = "6")]
                pub(crate) commit: u64,
                #[prost(uint64, tag = "7")]
                pub(crate) round: u64,
            }

            /// Kind 16.
            #[derive(Clone, PartialEq, prost::Message)]
            pub(crate) struct Append {
                #[prost(fixed64, tag = "1")]
                pub(crate) cluster: u64,
                #[prost(uint32, tag = "2")]
                pub(crate) group: u32,
                #[prost(uint64, tag = "3")]
                pub(crate) from: u64,
                #[prost(uint64, tag = "4")]
                pub(crate) term: u64,
                #[prost(uint64, tag = "5")]
                pub(crate) request: u64,
                #[prost(uint64, tag = "6")]
                pub(crate) prev_index: u64,
                #[prost(uint64, tag = "7")]
                pub(crate) prev_term: u64,
                #[prost(uint64, tag = "8")]
                pub(crate) commit: u64,
                #[prost(uint64, tag = "9")]
                pub(crate) round: u64,
                #[prost(message, repeated, tag = "10")]
                pub(crate) entries: Vec<Entry>,
            }

            /// An entry of an append.
            #[derive(Clone, PartialEq, prost::Message)]
            pub(crate) struct Entry {
                #[prost(uint64, tag = "1")]
                pub(crate) term: u64,
                #[prost(int32, tag = "2")]
                pub(crate) kind: i32,
                #[prost(fixed32, tag = "3")]
                pub(crate) crc: u32,
                #[prost(bytes = $kind, tag = "4")]
                pub(crate) payload: $payload,
            }
        }
    };
}

messages!(copied "vec" Vec<u8>);
messages!(shared "bytes" super::Bytes);

/// The messages for serde, their payloads lent or owned.
pub(crate) mod mapped {
    use serde::{Deserialize, Serialize};

    /// Kind 18.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Heartbeat {
        pub(crate) cluster: u64,
        pub(crate) group: u32,
        pub(crate) from: u64,
        pub(crate) term: u64,
        pub(crate) request: u64,
        pub(crate) commit: u64,
        pub(crate) round: u64,
    }

    /// Kind 16.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Append<E> {
        pub(crate) cluster: u64,
        pub(crate) group: u32,
        pub(crate) from: u64,
        pub(crate) term: u64,
        pub(crate) request: u64,
        pub(crate) prev_index: u64,
        pub(crate) prev_term: u64,
        pub(crate) commit: u64,
        pub(crate) round: u64,
        pub(crate) entries: Vec<E>,
    }

    /// An entry that owns its payload.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Owned {
        pub(crate) term: u64,
        pub(crate) kind: u8,
        pub(crate) crc: u32,
        #[serde(with = "serde_bytes")]
        pub(crate) payload: Vec<u8>,
    }

    /// An entry whose payload is lent by what was received.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Lent<'a> {
        pub(crate) term: u64,
        pub(crate) kind: u8,
        pub(crate) crc: u32,
        #[serde(with = "serde_bytes")]
        pub(crate) payload: &'a [u8],
    }
}

/// The number of a command among the kinds of entries.
const COMMAND: u8 = 1;

/// Makes one of the structs above of a message.
macro_rules! make {
    ($message:ident $type:ident { $($field:ident: $value:expr,)* }) => {
        $type {
            cluster: $message.header.cluster.0,
            group: $message.header.group.0,
            from: $message.header.from.0,
            term: $message.header.term.0,
            request: $message.header.request.0,
            $($field: $value,)*
        }
    };
}

macro_rules! make_entry {
    ($entry:ident $type:ident, $payload:expr) => {
        $type {
            term: $entry.term.0,
            kind: COMMAND.into(),
            crc: $entry.crc,
            payload: $payload,
        }
    };
}

macro_rules! make_append {
    ($message:ident $type:ident, $entry:ident, |$payload:ident| $take:expr) => {
        match &$message.body {
            Body::Append(append) => Some(make!($message $type {
                prev_index: append.prev_index.0,
                prev_term: append.prev_term.0,
                commit: append.commit.0,
                round: append.round.0,
                entries: append
                    .entries
                    .iter()
                    .map(|entry| {
                        let $payload = entry.payload;
                        make_entry!(entry $entry, $take)
                    })
                    .collect(),
            })),
            _ => None,
        }
    };
}

macro_rules! make_heartbeat {
    ($message:ident $type:ident) => {
        match &$message.body {
            Body::Heartbeat(heartbeat) => Some(make!($message $type {
                commit: heartbeat.commit.0,
                round: heartbeat.round.0,
            })),
            _ => None,
        }
    };
}

impl copied::Append {
    pub(crate) fn of(message: &Message<'_>) -> Option<Self> {
        make_append!(message Self, CopiedEntry, |payload| payload.to_vec())
    }
}

impl shared::Append {
    pub(crate) fn of(message: &Message<'_>) -> Option<Self> {
        make_append!(message Self, SharedEntry, |payload| Bytes::copy_from_slice(payload))
    }
}

impl copied::Heartbeat {
    pub(crate) fn of(message: &Message<'_>) -> Option<Self> {
        make_heartbeat!(message Self)
    }
}

impl shared::Heartbeat {
    pub(crate) fn of(message: &Message<'_>) -> Option<Self> {
        make_heartbeat!(message Self)
    }
}

impl mapped::Append<Owned> {
    pub(crate) fn of(message: &Message<'_>) -> Option<Self> {
        make_append!(message Self, Owned, |payload| payload.to_vec())
    }
}

impl mapped::Heartbeat {
    pub(crate) fn of(message: &Message<'_>) -> Option<Self> {
        make_heartbeat!(message Self)
    }
}
