//! Calls for pieces of a snapshot: each goes to one site, once.

use bytes::Bytes;

use super::call::{CallId, Kind, Refused};
use super::engine::Client;
use super::output::{End, Output};
use crate::message::{self, Body, Message, SnapshotId};

/// A piece of a snapshot, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Of which snapshot.
    pub id: SnapshotId,
    /// Where in it the piece begins.
    pub offset: u64,
    /// The piece.
    pub data: Bytes,
}

/// Why there is no piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPiece {
    /// The node refused. [`Refusal::Invalid`](crate::message::Refusal::Invalid) also if it does not keep that snapshot
    /// any more.
    Refused(Refused),
    /// No answer came, and why, for a person. It may be asked for again.
    Lost(String),
}

impl Kind {
    /// Whether it may well take longer than an attempt: a whole state is written before the first piece of a new
    /// snapshot is there, and on a slow line several pieces wait for each other. Its caller says how long it may take.
    pub(super) fn may_take_long(&self) -> bool {
        matches!(self, Self::Fetch { .. })
    }
}

impl Client {
    /// The answer to a call for a piece.
    pub(super) fn fetched(&mut self, id: CallId, site: usize, message: &Message<'_>) {
        match &message.body {
            Body::FetchReply(chunk) => {
                let piece = Piece {
                    id: chunk.id,
                    offset: chunk.offset,
                    data: Bytes::copy_from_slice(chunk.data),
                };
                self.piece(id, Ok(piece));
            }
            Body::Reply(message::Outcome::Refused(refused)) => {
                self.piece(id, Err(NoPiece::Refused(Refused::of(refused))));
            }
            _ => {
                let why = "answered something else than was asked";
                self.attempt_lost(id, why);
                self.lose(site, why.into(), true);
            }
        }
    }

    pub(super) fn piece(&mut self, id: CallId, piece: Result<Piece, NoPiece>) {
        self.remove(id);
        let end = End::Piece(piece);
        self.outputs.push_back(Output::Done { call: id, end });
    }

    /// A call to one site has no answer and will have none.
    pub(super) fn fail(&mut self, id: CallId, why: String) {
        match self.calls[&id].kind {
            Kind::Fetch { .. } => self.piece(id, Err(NoPiece::Lost(why))),
            _ => self.report(id, Err(why)),
        }
    }
}
