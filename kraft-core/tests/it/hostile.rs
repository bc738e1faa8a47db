//! What no honest peer sends: it is refused by name, and nothing of it is taken.

use bytes::Bytes;
use fastrand::Rng;
use kraft_core::id::{Index, NodeId, RequestId, Round, Term};
use kraft_core::message::{
    Append, AppendReply, AppendResult, Body, Entries, EntryKind, EntryRef, Heartbeat, HeartbeatReply, NodeState,
    ReadIndexReply, SnapshotChunk, SnapshotId, SnapshotReply, SnapshotResult, Vote, VoteReply,
};
use kraft_core::raft::{Output, Violation};
use kraft_core::snapshot::{Head, Snapshot};

use crate::lone::{Lone, append, heartbeat, matched, rejected, vote, voted};

/// The message breaks this rule, and changes nothing.
#[track_caller]
fn check(node: &mut Lone, from: u64, term: u64, body: Body<'_>, expected: Violation) {
    let before = node.raft.status();
    assert_eq!(node.try_step(from, term, body), Err(expected));
    assert_eq!(node.raft.status(), before);
}

/// A follower of node 2 in term 3, with two committed entries.
fn follower() -> Lone {
    let mut node = Lone::new();
    node.step(2, 3, append((0, 0), &[1, 3, 3], 2));
    node.sync();
    node.look();
    node
}

#[test]
fn terms_that_would_end_all_terms_are_refused() {
    let far = (1 << 32) + 4;
    let mut node = follower();
    check(&mut node, 3, far, heartbeat(0), Violation::TermJump);
    check(
        &mut node,
        3,
        u64::MAX,
        vote(false, u64::MAX, (0, 0)),
        Violation::TermJump,
    );
    check(&mut node, 3, far - 1, vote(true, far, (0, 0)), Violation::TermJump);
    check(&mut node, 3, u64::MAX, voted(true, false, 4), Violation::TermJump);
    check(&mut node, 3, u64::MAX, Body::ReadIndex, Violation::TermJump);
    node.step(3, far - 1, heartbeat(0));
    assert_eq!(node.term(), far - 1, "a jump within the bound is a jump");
}

#[test]
fn indexes_that_overflow_are_refused() {
    let mut node = follower();
    check(
        &mut node,
        2,
        3,
        append((u64::MAX, 3), &[3], 0),
        Violation::IndexOverflow,
    );
    check(
        &mut node,
        2,
        3,
        append((u64::MAX - 1, 3), &[3], 0),
        Violation::IndexOverflow,
    );
    check(&mut node, 2, 3, append((3, 3), &[], u64::MAX), Violation::IndexOverflow);
    node.step(2, 3, append((u64::MAX - 1, 3), &[], 0));
    assert_eq!(node.look().len(), 1, "a place that is not there is rejected");
}

#[test]
fn terms_out_of_order_are_refused() {
    let mut node = follower();
    check(&mut node, 2, 3, append((3, 3), &[2], 0), Violation::TermOrder);
    check(&mut node, 2, 4, append((3, 3), &[4, 3], 0), Violation::TermOrder);
    check(&mut node, 2, 3, append((3, 3), &[4], 0), Violation::TermOrder);
    check(&mut node, 2, 3, append((0, 0), &[0], 0), Violation::TermOrder);
    check(&mut node, 2, 3, append((0, 1), &[1], 0), Violation::TermOrder);
    check(&mut node, 3, 4, vote(false, 5, (3, 3)), Violation::TermOrder);
    check(&mut node, 3, 4, vote(true, 4, (3, 3)), Violation::TermOrder);
    check(&mut node, 3, 4, vote(false, 4, (3, 5)), Violation::TermOrder);
    check(&mut Lone::new(), 2, 0, heartbeat(0), Violation::TermOrder);
}

#[test]
fn what_is_committed_is_not_overwritten() {
    let mut node = follower();
    check(&mut node, 2, 4, append((1, 1), &[4], 0), Violation::CommittedConflict);
    check(&mut node, 2, 4, append((2, 1), &[4], 0), Violation::CommittedConflict);
    check(&mut node, 2, 4, append((0, 0), &[4], 0), Violation::CommittedConflict);
}

#[test]
fn a_leader_does_not_overwrite_what_it_sent() {
    let mut node = Lone::new();
    node.step(2, 3, append((0, 0), &[1, 1], 0));
    check(&mut node, 2, 3, append((1, 1), &[3], 0), Violation::CommittedConflict);
}

#[test]
fn a_second_leader_of_a_term_is_refused() {
    let mut node = follower();
    check(&mut node, 3, 3, heartbeat(0), Violation::SecondLeader);
    check(&mut node, 3, 3, append((3, 3), &[3], 0), Violation::SecondLeader);
    let mut leader = Lone::new();
    let term = leader.lead();
    check(
        &mut leader,
        2,
        term,
        append((0, 0), &[term], 0),
        Violation::SecondLeader,
    );
    assert_eq!(leader.state(), NodeState::Leader);
}

#[test]
fn replies_that_were_never_asked_for_are_refused_or_ignored() {
    let mut leader = Lone::new();
    let term = leader.lead();
    check(&mut leader, 2, term, matched(2), Violation::Unasked);
    check(&mut leader, 2, term, rejected(7, (0, 0)), Violation::Unasked);
    let round = Round(u64::MAX);
    check(
        &mut leader,
        2,
        term,
        Body::HeartbeatReply(HeartbeatReply { round, promise_us: 0 }),
        Violation::Unasked,
    );
    leader.step(2, term, Body::ReadIndexReply(ReadIndexReply::At(Index(9))));
    leader.step(2, term, voted(false, true, term));
    let mut node = follower();
    for body in [matched(9), voted(false, true, 3), voted(true, true, 4)] {
        node.step(2, 3, body);
    }
    assert_eq!((node.state(), node.term()), (NodeState::Follower, 3));
}

#[test]
fn votes_count_once_and_only_of_voters() {
    let mut node = Lone::with(0, &[], |config| {
        config.voters = (1..=5).map(NodeId).collect();
        config.pre_vote = false;
    });
    node.pass(300);
    node.sync();
    for from in [2, 2, 2, 6, 7, 0, 1] {
        node.step(from, 1, voted(false, true, 1));
    }
    assert_eq!(node.state(), NodeState::Candidate);
    node.step(3, 1, voted(false, true, 1));
    assert_eq!(node.state(), NodeState::Leader);
}

fn piece(index: u64, term: u64) -> Body<'static> {
    let id = SnapshotId {
        index: Index(index),
        term: Term(term),
        bytes: u64::MAX,
        crc: 0,
    };
    let (offset, data) = (u64::MAX, &b"piece"[..]);
    Body::Snapshot(SnapshotChunk { id, offset, data })
}

#[test]
fn snapshots_that_cannot_be_are_refused() {
    let mut node = follower();
    check(&mut node, 2, 3, piece(u64::MAX, 3), Violation::IndexOverflow);
    check(&mut node, 2, 3, piece(0, 0), Violation::TermOrder);
    check(&mut node, 2, 3, piece(0, 3), Violation::TermOrder);
    check(&mut node, 2, 3, piece(9, 0), Violation::TermOrder);
    check(&mut node, 2, 3, piece(9, 4), Violation::TermOrder);
    check(&mut node, 3, 3, piece(9, 3), Violation::SecondLeader);
    check(&mut node, 2, 1 << 33, piece(9, 3), Violation::TermJump);
    check(&mut node, 2, 3, piece(2, 1), Violation::CommittedConflict);
    check(&mut node, 3, 4, piece(1, 2), Violation::CommittedConflict);
    // Not committed, but what this leader sent itself; and terms never decrease along a log.
    check(&mut node, 2, 3, piece(3, 2), Violation::CommittedConflict);
    check(&mut node, 2, 3, piece(9, 2), Violation::CommittedConflict);
    check(&mut node, 3, 4, piece(9, 2), Violation::CommittedConflict);
    let mut leader = Lone::new();
    let term = leader.lead();
    check(&mut leader, 2, term, piece(9, term), Violation::SecondLeader);
    check(&mut node, 2, 3, piece((1 << 62) + 1, 3), Violation::IndexOverflow);
    node.step(2, 3, piece(1 << 62, 3));
}

#[test]
fn kinds_that_are_not_raft_s_are_refused() {
    check(&mut follower(), 2, 3, Body::Status, Violation::Kind);
    check(&mut follower(), 2, 3, Body::OpenSession, Violation::Kind);
}

fn draw_number(rng: &mut Rng) -> u64 {
    match rng.u32(0..10) {
        0 => u64::MAX - rng.u64(0..3),
        1 => rng.u64(..),
        _ => rng.u64(0..8),
    }
}

fn draw_body(rng: &mut Rng) -> Body<'static> {
    let mut number = || draw_number(rng);
    let (a, b, c, d) = (number(), number(), number(), number());
    let round = Round(d);
    let terms: Vec<u64> = (0..b % 5).map(|at| a.saturating_add(at)).collect();
    match rng.u32(0..10) {
        8 => piece(a, b),
        9 => Body::SnapshotReply(SnapshotReply {
            id: SnapshotId::default(),
            result: SnapshotResult::Received(a),
        }),
        0 => Body::Heartbeat(Heartbeat {
            commit: Index(a),
            round,
        }),
        1 => Body::HeartbeatReply(HeartbeatReply { round, promise_us: 0 }),
        2 => {
            let (pre, by_transfer) = (rng.bool(), rng.bool());
            let (term, last_index, last_term) = (Term(a), Index(b), Term(c));
            Body::Vote(Vote {
                pre,
                by_transfer,
                term,
                last_index,
                last_term,
            })
        }
        3 => {
            let (pre, granted) = (rng.bool(), rng.bool());
            Body::VoteReply(VoteReply {
                pre,
                granted,
                term: Term(a),
            })
        }
        4 => {
            let result = match rng.bool() {
                true => AppendResult::Matched(Index(a)),
                false => AppendResult::Rejected {
                    prev_index: Index(a),
                    hint_index: Index(b),
                    hint_term: Term(c),
                },
            };
            Body::AppendReply(AppendReply { round, result })
        }
        5 => Body::ReadIndexReply(ReadIndexReply::At(Index(a))),
        6 => Body::ReadIndex,
        _ => {
            let entry = |term: &u64| EntryRef {
                term: Term(*term),
                kind: EntryKind::Command,
                crc: 0,
                payload: b"payload",
            };
            Body::Append(Append {
                prev_index: Index(c),
                prev_term: Term(a.min(d)),
                commit: Index(d),
                round,
                entries: Entries::Lent(terms.iter().map(entry).collect()),
            })
        }
    }
}

/// Any messages in any order: no panic, and terms, votes and commitments never go back.
#[test]
fn no_message_of_a_peer_panics() {
    for seed in 0..400 {
        println!("seed {seed}");
        let mut rng = Rng::with_seed(seed);
        let mut node = Lone::recovered(2, &[1, 1, 2]);
        if rng.bool() {
            node.lead();
        }
        for _ in 0..300 {
            let before = node.raft.status();
            let term = match rng.u32(0..3) {
                0 => draw_number(&mut rng),
                _ => node.term() + rng.u64(0..2),
            };
            // Loads and payloads are the driver's; here the entries of the recovered log are made up.
            let body = draw_body(&mut rng);
            let taken = node.try_step(rng.u64(0..5), term, body.clone());
            if let (Ok(()), Body::Snapshot(chunk)) = (taken, &body) {
                // It says so, and it came whole; maybe of a node that may not say so.
                let head = Head {
                    index: chunk.id.index,
                    term: chunk.id.term,
                    membership_index: Index::ZERO,
                    membership: Bytes::new(),
                };
                let snapshot = Snapshot { id: chunk.id, head };
                if rng.bool() {
                    node.raft.install(&snapshot, node.now, &mut node.log);
                    node.drain();
                }
            }
            for output in std::mem::take(&mut node.outputs) {
                if let Output::Restore(id) = output {
                    node.raft.applied(id.index, &mut node.log);
                    node.drain();
                } else if let Output::Release(through) = output {
                    node.raft.released(Index(rng.u64(0..=through.0)));
                    node.drain();
                } else if let Output::Load(range) = output {
                    let count = range.end.0 - range.start.0;
                    let entry = || kraft_core::message::Entry {
                        term: Term(1),
                        kind: EntryKind::Noop,
                        crc: 0,
                        payload: Bytes::new(),
                    };
                    kraft_core::log::Log::restore(&mut node.log, range.start, (0..count).map(|_| entry()).collect());
                    node.raft.loaded(range, &mut node.log);
                    node.drain();
                }
            }
            match rng.u32(0..8) {
                0 => node.pass(rng.u64(0..200)),
                1 if node.sync.0 > 0 => node.sync(),
                2 => drop(node.raft.read(RequestId(rng.u64(..)), node.now)),
                3 if node.state() == NodeState::Leader => node.propose(1),
                4 => node.raft.unreachable(NodeId(rng.u64(0..4)), node.now),
                5 => {
                    let applied = node.raft.status().applied;
                    node.raft.snapshot_taken(applied, node.now);
                    node.raft.snapshot_ended(NodeId(rng.u64(0..4)), node.now);
                }
                _ => {}
            }
            node.sent.clear();
            let after = node.raft.status();
            assert!(after.hard.term >= before.hard.term && after.commit >= before.commit);
            let same_term = after.hard.term == before.hard.term && before.hard.vote.is_some();
            assert!(!same_term || after.hard.vote == before.hard.vote);
        }
    }
}
