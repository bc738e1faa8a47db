//! A message under way.

use kraft_core::id::NodeId;
use kraft_core::log::Log;
use kraft_core::message::{Append, Body, Entries, Entry, Header, Message};
use kraft_core::raft::{Outgoing, Output};

use super::owned;
use crate::disk::Stored;

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    pub(crate) to: NodeId,
    pub(crate) header: Header,
    /// Of an append, all but the entries.
    pub(crate) body: Body<'static>,
    pub(crate) entries: Vec<Entry>,
    /// Of a snapshot, all of it.
    pub(crate) snapshot: Option<Stored>,
}

impl Wire {
    /// The message as a decoder gives it, payloads lent.
    pub(crate) fn message(&self) -> Message<'_> {
        let body = match &self.body {
            Body::Append(append) => Body::Append(Append {
                entries: Entries::Lent(self.entries.iter().map(Entry::as_ref).collect()),
                ..append.clone()
            }),
            other => other.clone(),
        };
        Message {
            header: self.header,
            body,
        }
    }

    pub(crate) fn new(from: NodeId, output: Output, log: &impl Log) -> Self {
        let Output::Send {
            to,
            request,
            term,
            message,
        } = output
        else {
            panic!("not to be sent: {output:?}");
        };
        let entries = match message.body(log) {
            Body::Append(append) => append.entries.iter().map(owned).collect(),
            _ => Vec::new(),
        };
        let body = match message {
            Outgoing::Append {
                prev_index,
                prev_term,
                commit,
                round,
                ..
            } => Body::Append(Append {
                prev_index,
                prev_term,
                commit,
                round,
                entries: Entries::NONE,
            }),
            Outgoing::Other(body) => body,
        };
        let header = Header {
            from,
            term,
            request,
            ..Header::default()
        };
        Self {
            to,
            header,
            body,
            entries,
            snapshot: None,
        }
    }
}
