//! Messages of every kind, drawn from a seed.

use bytes::Bytes;
use fastrand::Rng;
use kraft_core::handshake::Kind;
use kraft_core::id::{ClusterId, GroupId, Incarnation, Index, NodeId, RequestId, Round, Sequence, SessionId, Term};
use kraft_core::message::{
    Append, AppendReply, AppendResult, Basis, Body, Change, Command, Commit, Consistency, Entries, Entry, EntryKind,
    Fetch, Goaway, GoawayReason, Header, Heartbeat, HeartbeatReply, Hello, MemberStatus, Message, NodeState, Outcome,
    Read, ReadIndexReply, Refusal, Refused, Role, SnapshotChunk, SnapshotId, SnapshotReply, SnapshotResult, Standing,
    StatusReply, Transfer, Versions, Vote, VoteReply, Welcome,
};

/// The reasons of a goaway, to draw from.
pub const GOAWAY_REASONS: [GoawayReason; 15] = [
    GoawayReason::WrongCluster,
    GoawayReason::WrongNode,
    GoawayReason::OwnId,
    GoawayReason::UnknownNode,
    GoawayReason::WrongIncarnation,
    GoawayReason::DuplicateNode,
    GoawayReason::NoCommonVersion,
    GoawayReason::NotAllowed,
    GoawayReason::Malformed,
    GoawayReason::TooLarge,
    GoawayReason::TooSlow,
    GoawayReason::TooMany,
    GoawayReason::Stopping,
    GoawayReason::Violation,
    GoawayReason::Removed,
];

/// The reasons of a refusal, to draw from.
pub const REFUSALS: [Refusal; 16] = [
    Refusal::NotLeader,
    Refusal::Overloaded,
    Refusal::NoSpace,
    Refusal::SessionExpired,
    Refusal::TooLarge,
    Refusal::Invalid,
    Refusal::Stopping,
    Refusal::UnknownMember,
    Refusal::MemberConflict,
    Refusal::ChangeUnderWay,
    Refusal::NotCaughtUp,
    Refusal::Voters,
    Refusal::Unreachable,
    Refusal::Transferring,
    Refusal::TimedOut,
    Refusal::TooStale,
];

/// A message's worth of owned memory; [`message`](Self::message) lends it.
#[derive(Clone, Debug)]
pub struct Sample {
    kind: Kind,
    seed: u64,
    payload: Vec<u8>,
    texts: Vec<String>,
    entries: Vec<Entry>,
    /// Where the log's ring, from which entries are lent, wraps.
    wrap: usize,
}

impl Sample {
    /// The sample of `kind` that `seed` stands for. A third are small, a third have payloads of some hundred bytes, a
    /// third have some that are shared with the outbox.
    #[must_use]
    pub fn new(kind: Kind, seed: u64) -> Self {
        let sizes: &[usize] = match seed % 3 {
            0 => &[0, 1, 7, 24],
            1 => &[0, 1, 255, 256, 700],
            _ => &[0, 100, 4095, 4096, 4097, 20_000],
        };
        let mut rng = Rng::with_seed(seed ^ ((kind as u64) << 56));
        let count = rng.usize(0..=[3, 8, 70][usize::try_from(seed % 3).expect("it is below 3")]);
        let entries: Vec<_> = entries(&mut rng, sizes, count);
        Self {
            kind,
            seed: rng.u64(..),
            payload: bytes(&mut rng, sizes),
            texts: (0..8).map(|_| text(&mut rng)).collect(),
            wrap: rng.usize(0..=entries.len()),
            entries,
        }
    }

    /// One sample of each kind.
    pub fn each_kind(seed: u64) -> impl Iterator<Item = Self> {
        Kind::ALL.into_iter().map(move |kind| Self::new(kind, seed))
    }

    /// The kind that it is of.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The message; the same one each time.
    #[must_use]
    pub fn message(&self) -> Message<'_> {
        let mut rng = Rng::with_seed(self.seed);
        Message {
            header: Header {
                cluster: ClusterId(number(&mut rng)),
                group: GroupId(rng.choice([0, 1, u32::MAX]).expect("it is not empty")),
                from: NodeId(number(&mut rng)),
                term: Term(number(&mut rng)),
                request: RequestId(number(&mut rng)),
            },
            body: self.body(&mut rng),
        }
    }

    fn body(&self, rng: &mut Rng) -> Body<'_> {
        match self.kind {
            Kind::Hello => Body::Hello(self.hello(rng)),
            Kind::Welcome => Body::Welcome(Welcome {
                incarnation: Incarnation(number(rng)),
                nonce: rng.u64(..),
                version: rng.u16(..),
                features: number(rng),
                frame_max: rng.u32(..),
            }),
            Kind::Goaway => Body::Goaway(Goaway {
                reason: rng.choice(GOAWAY_REASONS).expect("it is not empty"),
                detail: &self.texts[0],
            }),
            Kind::Append => Body::Append(self.append(rng)),
            Kind::AppendReply => Body::AppendReply(append_reply(rng)),
            Kind::Heartbeat => Body::Heartbeat(Heartbeat {
                commit: Index(number(rng)),
                round: Round(number(rng)),
            }),
            Kind::HeartbeatReply => Body::HeartbeatReply(HeartbeatReply {
                round: Round(number(rng)),
                promise_us: number(rng),
            }),
            Kind::Vote => Body::Vote(Vote {
                pre: rng.bool(),
                by_transfer: rng.bool(),
                term: Term(number(rng)),
                last_index: Index(number(rng)),
                last_term: Term(number(rng)),
            }),
            Kind::VoteReply => Body::VoteReply(VoteReply {
                pre: rng.bool(),
                granted: rng.bool(),
                term: Term(number(rng)),
            }),
            Kind::ReadIndex => Body::ReadIndex,
            Kind::ReadIndexReply => Body::ReadIndexReply(match rng.bool() {
                true => ReadIndexReply::At(Index(number(rng))),
                false => ReadIndexReply::Refused,
            }),
            Kind::Snapshot => Body::Snapshot(self.chunk(rng)),
            Kind::SnapshotReply => Body::SnapshotReply(SnapshotReply {
                id: snapshot(rng),
                result: match rng.u8(0..3) {
                    0 => SnapshotResult::Received(number(rng)),
                    1 => SnapshotResult::NoSpace,
                    _ => SnapshotResult::Damaged,
                },
            }),
            Kind::TimeoutNow => Body::TimeoutNow,
            Kind::OpenSession => Body::OpenSession,
            Kind::Command => Body::Command(Command {
                session: SessionId(number(rng)),
                sequence: Sequence(number(rng)),
                first_unanswered: Sequence(number(rng)),
                command: &self.payload,
                commit: rng
                    .choice([Commit::Strong, Commit::Leader, Commit::Async])
                    .expect("it is not empty"),
            }),
            Kind::Read => Body::Read(Read {
                query: &self.payload,
                consistency: match rng.u8(0..3) {
                    0 => Consistency::Linearizable,
                    1 => Consistency::Lease,
                    _ => Consistency::Stale {
                        age_max_ms: number(rng),
                    },
                },
            }),
            Kind::Change => Body::Change(self.change(rng)),
            Kind::Transfer => Body::Transfer(Transfer {
                to: NodeId(number(rng)),
            }),
            Kind::Fetch => Body::Fetch(Fetch {
                id: snapshot(rng),
                offset: number(rng),
            }),
            Kind::FetchReply => Body::FetchReply(self.chunk(rng)),
            Kind::Reply => Body::Reply(self.outcome(rng)),
            Kind::Status => Body::Status,
            Kind::StatusReply => Body::StatusReply(self.status(rng)),
        }
    }

    fn hello(&self, rng: &mut Rng) -> Hello<'_> {
        Hello {
            role: if rng.bool() { Role::Peer } else { Role::Client },
            to: NodeId(number(rng)),
            incarnation: Incarnation(number(rng)),
            nonce: rng.u64(..),
            versions: Versions {
                min: rng.u16(..),
                max: rng.u16(..),
            },
            features: number(rng),
            frame_max: rng.u32(..),
            cluster_name: &self.texts[0],
            membership: Index(number(rng)),
        }
    }

    fn chunk(&self, rng: &mut Rng) -> SnapshotChunk<'_> {
        let id = snapshot(rng);
        let length = self.payload.len() as u64;
        // So that the piece lies within the snapshot.
        let bytes = id.bytes.max(length);
        SnapshotChunk {
            id: SnapshotId { bytes, ..id },
            offset: number(rng).min(bytes - length),
            data: &self.payload,
        }
    }

    fn change(&self, rng: &mut Rng) -> Change<'_> {
        let node = NodeId(number(rng));
        let address = self.texts[0].as_str();
        match rng.u8(0..5) {
            0 => Change::Add {
                node,
                address,
                promote: rng.bool(),
            },
            1 => Change::Promote { node },
            2 => Change::Remove { node },
            3 => Change::Replace {
                node,
                by: NodeId(number(rng)),
                address,
            },
            _ => Change::Move { node, address },
        }
    }

    fn append(&self, rng: &mut Rng) -> Append<'_> {
        let (front, back) = self.entries.split_at(self.wrap);
        Append {
            // So that the last entry's index is a number.
            prev_index: Index(number(rng).min(u64::MAX - self.entries.len() as u64)),
            prev_term: Term(number(rng)),
            commit: Index(number(rng)),
            round: Round(number(rng)),
            entries: if rng.u8(..) < 64 {
                Entries::Lent(self.entries.iter().map(Entry::as_ref).collect())
            } else {
                Entries::Shared(front, back)
            },
        }
    }

    fn outcome(&self, rng: &mut Rng) -> Outcome<'_> {
        match rng.u8(0..4) {
            0 => Outcome::Committed(&self.payload),
            3 => Outcome::Weaker {
                basis: match rng.u8(0..4) {
                    0 => Basis::Lease,
                    1 => Basis::Stale { age_ms: number(rng) },
                    2 => Basis::Leader,
                    _ => Basis::Received,
                },
                answer: &self.payload,
            },
            1 => Outcome::Refused(Refused {
                why: rng.choice(REFUSALS).expect("it is not empty"),
                leader: NodeId(number(rng)),
                detail: &self.texts[0],
            }),
            _ => Outcome::Unknown,
        }
    }

    fn status(&self, rng: &mut Rng) -> StatusReply<'_> {
        let states = [
            NodeState::Follower,
            NodeState::PreCandidate,
            NodeState::Candidate,
            NodeState::Leader,
        ];
        let standings = [
            Standing::Voter,
            Standing::Learner,
            Standing::Leaving,
            Standing::Joining,
            Standing::Recovering,
        ];
        let members = rng.usize(0..=6);
        StatusReply {
            state: rng.choice(states).expect("it is not empty"),
            leader: NodeId(number(rng)),
            commit: Index(number(rng)),
            applied: Index(number(rng)),
            first: Index(number(rng)),
            last: Index(number(rng)),
            durable: Index(number(rng)),
            snapshot: Index(number(rng)),
            membership: Index(number(rng)),
            uptime_ms: number(rng),
            version: &self.texts[0],
            backend: &self.texts[1],
            members: self.texts[2..2 + members]
                .iter()
                .map(|address| MemberStatus {
                    node: NodeId(number(rng)),
                    address,
                    standing: rng.choice(standings).expect("it is not empty"),
                    matched: Index(number(rng)),
                    heard_ms: number(rng),
                    snapshot_percent: rng.u8(..=100),
                })
                .collect(),
        }
    }
}

fn snapshot(rng: &mut Rng) -> SnapshotId {
    SnapshotId {
        index: Index(number(rng)),
        term: Term(number(rng)),
        bytes: number(rng),
        crc: rng.u32(..),
    }
}

fn append_reply(rng: &mut Rng) -> AppendReply {
    AppendReply {
        round: Round(number(rng)),
        result: match rng.bool() {
            true => AppendResult::Matched(Index(number(rng))),
            false => AppendResult::Rejected {
                prev_index: Index(number(rng)),
                hint_index: Index(number(rng)),
                hint_term: Term(number(rng)),
            },
        },
    }
}

fn entries(rng: &mut Rng, sizes: &[usize], count: usize) -> Vec<Entry> {
    let kinds = [
        EntryKind::Noop,
        EntryKind::Command,
        EntryKind::OpenSession,
        EntryKind::Membership,
    ];
    let mut term = number(rng) / 2;
    (0..count)
        .map(|_| {
            term += u64::from(rng.u8(..) < 32);
            let payload = Bytes::from(bytes(rng, sizes));
            Entry {
                term: Term(term),
                kind: rng.choice(kinds).expect("it is not empty"),
                crc: crc32c::crc32c(&payload),
                payload,
            }
        })
        .collect()
}

fn bytes(rng: &mut Rng, sizes: &[usize]) -> Vec<u8> {
    let mut bytes = vec![0; sizes[rng.usize(..sizes.len())]];
    rng.fill(&mut bytes);
    bytes
}

/// Mostly the edges, where encodings break.
fn number(rng: &mut Rng) -> u64 {
    match rng.u8(0..10) {
        0 => 0,
        1 => 1,
        2 => u64::MAX,
        3 => u64::from(u32::MAX) + rng.u64(0..2),
        // Above it, a JSON number loses bits.
        4 => (1 << 53) + rng.u64(0..2),
        5 => 1 << rng.u32(0..64),
        6..8 => rng.u64(0..1000),
        _ => rng.u64(..),
    }
}

/// Up to 40 characters of one to four bytes, quotes, escapes and nulls among them.
fn text(rng: &mut Rng) -> String {
    let count = rng.usize(0..=40);
    (0..count)
        .map(|_| match rng.u8(0..8) {
            0 => rng
                .choice(['"', '\\', '\0', '\n', '\u{7f}', '\u{2028}'])
                .expect("it is not empty"),
            1 => rng.char(..),
            _ => rng.char('!'..='~'),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_stands_for_one_message() {
        for (one, other) in Sample::each_kind(7).zip(Sample::each_kind(7)) {
            assert_eq!(one.message(), other.message());
            assert_eq!(one.message(), one.message());
            assert_eq!(Kind::of(&one.message().body), one.kind());
        }
    }
}
