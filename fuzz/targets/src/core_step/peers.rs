//! What peers say: anything, mostly about places and terms that the node knows.

use arbitrary::{Result, Unstructured};
use kraft_core::handshake::Kind;
use kraft_core::id::{Index, NodeId, RequestId, Round, Term};
use kraft_core::membership::Configuration;
use kraft_core::message::{
    Append, AppendReply, AppendResult, Body, Change, Entries, EntryKind, EntryRef, Header, Heartbeat, HeartbeatReply,
    Message, ReadIndexReply, SnapshotChunk, SnapshotId, Vote, VoteReply,
};
use kraft_core::raft::Raft;

use super::disk::Disk;
use crate::said;

/// A message of any node, itself and strangers among them.
pub(super) fn lie<'a>(u: &mut Unstructured<'a>, raft: &Raft, disk: &Disk) -> Result<Message<'a>> {
    let mut near = Near { u, raft, disk };
    let header = Header {
        from: NodeId(near.u.int_in_range(0..=6)?),
        term: near.term()?,
        request: RequestId(near.u.int_in_range(0..=3)?),
        ..Header::default()
    };
    let body = near.body()?;
    Ok(Message { header, body })
}

/// Where the nodes are that changes are about.
const PLACES: [&str; 6] = [
    "10.0.0.1:1",
    "10.0.0.2:1",
    "10.0.0.3:1",
    "10.0.0.4:1",
    "10.0.0.5:1",
    "10.0.0.6:1",
];

/// Changes of a few nodes, each at a place of its own.
pub(super) fn change<'a>(u: &mut Unstructured<'a>) -> Result<Change<'a>> {
    let place = |u: &mut Unstructured<'a>| u.int_in_range(0..=PLACES.len() - 1);
    let of = |place: usize| (NodeId(place as u64 + 1), PLACES[place]);
    let at = place(u)?;
    let (node, address) = of(at);
    Ok(match u.int_in_range(0..=4)? {
        0 => Change::Add {
            node,
            address,
            promote: u.arbitrary()?,
        },
        1 => Change::Promote { node },
        2 => Change::Remove { node },
        3 => {
            let (by, address) = of(place(u)?);
            Change::Replace { node, by, address }
        }
        // To where the next one may be.
        _ => Change::Move {
            node,
            address: PLACES[(at + 1) % PLACES.len()],
        },
    })
}

struct Near<'u, 'a> {
    u: &'u mut Unstructured<'a>,
    raft: &'u Raft,
    disk: &'u Disk,
}

impl<'a> Near<'_, 'a> {
    fn term(&mut self) -> Result<Term> {
        let own = self.raft.status().hard.term.0;
        Ok(Term(match self.u.int_in_range(0..=7)? {
            0..=3 => own,
            4 => own.saturating_add(1),
            5 => own.saturating_sub(1),
            6 => own.saturating_add(self.u.int_in_range(0..=3)?),
            _ => said::number(self.u)?,
        }))
    }

    fn index(&mut self) -> Result<Index> {
        let status = self.raft.status();
        Ok(Index(match self.u.int_in_range(0..=7)? {
            0..=1 => status.last.0,
            2 => status.commit.0,
            3 => status.last.0.saturating_add(self.u.int_in_range(0..=3)?),
            4 => status.commit.0.saturating_sub(self.u.int_in_range(0..=3)?),
            5 => self.raft.base().0,
            6 => self.u.int_in_range(0..=9)?,
            _ => said::number(self.u)?,
        }))
    }

    /// A place and a term, mostly the one that stands there.
    fn place(&mut self) -> Result<(Index, Term)> {
        let index = self.index()?;
        let term = match self.raft.term_at(index) {
            Some(term) if self.u.ratio(7, 8)? => term,
            _ => self.term()?,
        };
        Ok((index, term))
    }

    fn round(&mut self) -> Result<Round> {
        Ok(Round(said::number(self.u)?))
    }

    fn body(&mut self) -> Result<Body<'a>> {
        Ok(match self.u.int_in_range(0..=15)? {
            0..=3 => Body::Append(self.append()?),
            4 => Body::Heartbeat(Heartbeat {
                commit: self.index()?,
                round: self.round()?,
            }),
            5 => Body::Vote(self.vote()?),
            6 => Body::VoteReply(VoteReply {
                pre: self.u.arbitrary()?,
                granted: self.u.arbitrary()?,
                term: self.term()?,
            }),
            7 => Body::AppendReply(self.append_reply()?),
            8 => Body::HeartbeatReply(HeartbeatReply {
                round: self.round()?,
                promise_us: said::number(self.u)?,
            }),
            9 => Body::ReadIndex,
            10 => Body::ReadIndexReply(match self.u.arbitrary()? {
                true => ReadIndexReply::At(self.index()?),
                false => ReadIndexReply::Refused,
            }),
            11 => Body::TimeoutNow,
            12 | 13 => Body::Snapshot(self.snapshot()?),
            _ => {
                let kind = *self.u.choose(&Kind::ALL)?;
                said::body(self.u, kind)?
            }
        })
    }

    fn append(&mut self) -> Result<Append<'a>> {
        let (prev_index, prev_term) = self.place()?;
        let mut term = self.term()?.max(prev_term);
        let mut entries = Vec::new();
        for _ in 0..self.u.int_in_range(0..=4)? {
            if self.u.ratio(1, 4)? {
                term = self.term()?;
            }
            let (kind, payload) = self.content()?;
            entries.push(EntryRef {
                term,
                kind,
                crc: crc32c::crc32c(payload),
                payload,
            });
        }
        // What a decoder lets through: the last entry's index is a number.
        let prev_index = Index(prev_index.0.min(u64::MAX - entries.len() as u64));
        Ok(Append {
            prev_index,
            prev_term,
            commit: self.index()?,
            round: self.round()?,
            entries: Entries::Lent(entries),
        })
    }

    fn content(&mut self) -> Result<(EntryKind, &'a [u8])> {
        Ok(match self.u.int_in_range(0..=7)? {
            0 => (EntryKind::Noop, &[]),
            1 => (EntryKind::Membership, founded(self.u.int_in_range(0..=6)?)),
            2 => (EntryKind::Membership, said::payload(self.u)?),
            _ => {
                let length = self.u.int_in_range(0..=20)?;
                (EntryKind::Command, self.u.bytes(length.min(self.u.len()))?)
            }
        })
    }

    fn vote(&mut self) -> Result<Vote> {
        let (last_index, last_term) = self.place()?;
        Ok(Vote {
            pre: self.u.arbitrary()?,
            by_transfer: self.u.arbitrary()?,
            term: self.term()?,
            last_index,
            last_term,
        })
    }

    fn append_reply(&mut self) -> Result<AppendReply> {
        let round = self.round()?;
        let result = match self.u.arbitrary()? {
            true => AppendResult::Matched(self.index()?),
            false => {
                let (hint_index, hint_term) = self.place()?;
                AppendResult::Rejected {
                    prev_index: self.index()?,
                    hint_index,
                    hint_term,
                }
            }
        };
        Ok(AppendReply { round, result })
    }

    fn snapshot(&mut self) -> Result<SnapshotChunk<'a>> {
        // One that it has is named again, or another one.
        let known = self.disk.snapshots.last_key_value().map(|(_, snapshot)| snapshot.id);
        let (index, term) = self.place()?;
        let made = SnapshotId {
            index,
            term,
            bytes: 100,
            crc: 7,
        };
        Ok(SnapshotChunk {
            id: known.filter(|_| self.u.ratio(1, 4).unwrap_or(false)).unwrap_or(made),
            offset: 0,
            data: &[],
        })
    }
}

/// Configurations in bytes, by a number.
fn founded(number: u64) -> &'static [u8] {
    static MADE: std::sync::LazyLock<Vec<bytes::Bytes>> = std::sync::LazyLock::new(|| {
        let ids = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
        let of = |members: &[u64]| Configuration::founding(&ids(members)).encode();
        vec![
            of(&[1, 2, 3]),
            of(&[1]),
            of(&[2, 3]),
            of(&[1, 2]),
            of(&[1, 2, 3, 4]),
            of(&[4, 5, 6]),
            Configuration::founding(&ids(&[1, 2, 3])).alone(NodeId(1)).encode(),
        ]
    });
    usize::try_from(number)
        .ok()
        .and_then(|at| MADE.get(at))
        .map_or(&[], |bytes| &bytes[..])
}
