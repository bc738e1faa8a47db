//! Snapshots in place of a log's front: taken, released behind, sent, installed, restored.

use kraft_core::id::{Index, NodeId, Term};
use kraft_core::laws::View;
use kraft_core::log::{Log, Tail};
use kraft_core::message::{
    Body, Entry, EntryKind, Header, NodeState, SnapshotChunk, SnapshotId, SnapshotReply, SnapshotResult,
};
use kraft_core::raft::{Config, Output, Raft, Violation};
use kraft_core::snapshot::{Head, Snapshot};
use kraft_core::storage::{HardState, Recovered};
use kraft_core::time::Instant;

use crate::cluster::{Cluster, DRAIN_MAX};
use crate::lone::{Lone, append, heartbeat, matched, rejected, terms};

fn snapshot(index: u64, term: u64) -> Snapshot {
    let (index, term) = (Index(index), Term(term));
    Snapshot {
        id: SnapshotId {
            index,
            term,
            bytes: 100,
            crc: 7,
        },
        head: Head {
            index,
            term,
            membership_index: Index::ZERO,
            membership: bytes::Bytes::new(),
        },
    }
}

fn piece(index: u64, term: u64) -> Body<'static> {
    Body::Snapshot(SnapshotChunk {
        id: snapshot(index, term).id,
        offset: 0,
        data: b"piece",
    })
}

fn takes(node: &Lone, from: u64, term: u64, index: u64, snapshot_term: u64) -> bool {
    let header = Header {
        from: NodeId(from),
        term: Term(term),
        ..Header::default()
    };
    node.raft.takes_snapshot(&header, &snapshot(index, snapshot_term).id)
}

fn install(node: &mut Lone, index: u64, term: u64) -> bool {
    let begins_anew = node.raft.install(&snapshot(index, term), node.now, &mut node.log);
    node.drain();
    begins_anew
}

fn restored(node: &mut Lone, index: u64) {
    node.raft.applied(Index(index), &mut node.log);
    node.drain();
}

fn reset(index: u64, term: u64) -> Output {
    Output::Reset {
        index: Index(index),
        term: Term(term),
    }
}

pub(crate) fn outputs(node: &mut Lone) -> Vec<Output> {
    node.outputs
        .drain(..)
        .filter(|output| !matches!(output, Output::Role { .. } | Output::Save(_)))
        .collect()
}

/// A log without margin.
pub(crate) fn bare(config: &mut Config) {
    config.snapshot_margin_entries = 0;
    config.snapshot_margin_bytes = 0;
}

/// Three nodes whose logs have no margin, and lose all that they may.
fn cluster(seed: u64, change: impl Fn(&mut Config)) -> Cluster {
    let mut cluster = Cluster::with(3, seed, |config| {
        bare(config);
        change(config);
    });
    for node in &mut cluster.nodes {
        node.disk.is_exact = true;
    }
    cluster
}

#[test]
fn a_snapshot_takes_the_place_of_a_log_that_ends_before_it() {
    let mut node = Lone::recovered(3, &[1, 2]);
    node.step(2, 3, piece(7, 3));
    assert!(takes(&node, 2, 3, 7, 3));
    assert_eq!(node.look(), [], "what is received is not acknowledged");
    outputs(&mut node);
    assert!(install(&mut node, 7, 3));
    assert_eq!(outputs(&mut node), [reset(7, 3), Output::Restore(snapshot(7, 3).id)]);
    assert_eq!(node.look(), [(2, matched(7))], "it is durable, and so is the term");
    let status = node.raft.status();
    assert_eq!(
        (status.commit, status.applied, status.last),
        (Index(7), Index(0), Index(7))
    );
    // Entries come meanwhile, and are applied behind it.
    node.step(2, 3, append((7, 3), &[3], 8));
    assert_eq!(outputs(&mut node), [Output::Append(Index(8)..Index(9))]);
    restored(&mut node, 7);
    assert_eq!(outputs(&mut node), [Output::Apply(Index(8)..Index(9))]);
    node.sync();
    assert_eq!(node.look(), [(2, matched(8))]);
    assert_eq!((node.raft.base(), node.raft.snapshot()), (Index(7), Index(7)));
}

#[test]
fn a_snapshot_removes_a_suffix_that_contradicts_it() {
    let mut node = Lone::recovered(5, &[1, 2, 2, 2, 2]);
    node.step(2, 5, piece(3, 4));
    assert!(install(&mut node, 3, 4));
    assert_eq!(node.raft.status().last, Index(3));
    node.step(2, 5, append((3, 4), &[5], 3));
    assert_eq!(terms(&node), [5]);
}

#[test]
fn a_log_that_has_the_snapshot_s_last_entry_goes_on_without_it() {
    let mut node = Lone::with(3, &[], |_| {});
    node.step(2, 3, append((0, 0), &[1, 2, 2, 3], 1));
    node.sync();
    node.look();
    outputs(&mut node);
    node.step(2, 3, piece(3, 2));
    assert!(!takes(&node, 2, 3, 3, 2), "nothing of it is needed");
    assert_eq!(node.look(), [(2, matched(4))]);
    assert_eq!(outputs(&mut node), [Output::Apply(Index(2)..Index(4))]);
    // It had come all the same.
    let mut node = Lone::with(3, &[1, 2, 2, 3], |_| {});
    node.step(2, 4, heartbeat(0));
    node.sync();
    node.look();
    assert!(!install(&mut node, 3, 2));
    assert_eq!(
        (node.raft.status().commit, node.raft.status().last),
        (Index(3), Index(4))
    );
    assert_eq!(node.look(), [(2, matched(3))], "of what is behind it nothing is known");
}

#[test]
fn a_snapshot_is_acknowledged_when_its_sender_s_term_is_durable() {
    let mut node = Lone::recovered(3, &[1]);
    node.step(2, 5, piece(7, 4));
    assert!(install(&mut node, 7, 4));
    assert_eq!(node.look(), []);
    node.sync();
    assert_eq!(node.look(), [(2, matched(7))]);
}

#[test]
fn what_was_written_before_a_reset_is_not_durable_behind_it() {
    let mut node = Lone::recovered(5, &[1, 1]);
    node.step(2, 5, append((2, 1), &[4, 4, 4, 4], 0));
    let before = node.sync;
    node.step(3, 6, piece(4, 5));
    assert!(install(&mut node, 4, 5));
    restored(&mut node, 4);
    node.step(3, 6, append((4, 5), &[6, 6], 4));
    node.look();
    node.raft.synced(before, node.now, &mut node.log);
    node.drain();
    assert_eq!(node.raft.status().durable, Index(4));
    node.sync();
    assert_eq!(node.look(), [(3, matched(6))]);
}

/// The core's part: what storage must have mended before Raft is started is refused, and a log that was not yet reset
/// when the node crashed is reset by the start.
#[test]
fn snapshot_log_gap() {
    let recovered = |base: (u64, u64), last: u64, at: (u64, u64)| Recovered {
        hard: HardState {
            term: Term(9),
            vote: NodeId::NONE,
        },
        base_index: Index(base.0),
        base_term: Term(base.1),
        terms: if last > base.0 {
            vec![(Index(base.0 + 1), Term(4))]
        } else {
            Vec::new()
        },
        last: Index(last),
        snapshot: Some(snapshot(at.0, at.1)),
        ..Recovered::default()
    };
    let start = |recovered: &Recovered| {
        let config = Config::new(NodeId(1), vec![NodeId(1)], 1);
        Raft::new(config, recovered, Instant::ZERO).map(|raft| (raft.status().applied, raft.base()))
    };
    for hole in [
        recovered((5, 3), 9, (4, 3)),
        recovered((5, 3), 9, (10, 4)),
        recovered((5, 3), 9, (7, 3)),
        recovered((5, 3), 9, (5, 2)),
    ] {
        assert!(start(&hole).is_err(), "{hole:?}");
    }
    assert_eq!(start(&recovered((5, 3), 9, (7, 4))), Ok((Index(7), Index(5))));
    assert_eq!(start(&recovered((5, 3), 9, (5, 3))), Ok((Index(5), Index(5))));
    assert_eq!(start(&recovered((5, 3), 5, (5, 3))), Ok((Index(5), Index(5))));

    for seed in 0..40 {
        let mut cluster = cluster(seed, |_| {});
        cluster.commit(3);
        let leader = cluster.elect();
        let slow = leader % 3 + 1;
        cluster.isolate(slow);
        cluster.commit_at_leader(5);
        cluster.snapshot(leader);
        cluster.run_for(1_000);
        cluster.commit_at_leader(1);
        // Its snapshot is durable, and its log is not reset.
        cluster.stall(slow);
        cluster.heal();
        let begun = |cluster: &Cluster| cluster.node(slow).snapshots.installed == 1;
        cluster.run_until("a snapshot is installed", begun);
        cluster.crash(slow);
        cluster.unstall(slow);
        cluster.restart(slow);
        let (index, _) = cluster.node(slow).disk_snapshot();
        assert!(cluster.status(slow).applied >= index && index > Index(5));
        cluster.commit(2);
    }
}

#[test]
fn snapshot_older_than_commit() {
    let mut node = Lone::new();
    node.step(2, 3, append((0, 0), &[1, 2, 3, 3], 3));
    node.sync();
    node.look();
    outputs(&mut node);
    node.step(2, 3, piece(2, 2));
    assert!(!takes(&node, 2, 3, 2, 2));
    assert_eq!(node.look(), [(2, matched(4))], "it says what it has instead");
    node.step(3, 4, piece(2, 2));
    assert_eq!(node.look(), [], "not before the term is durable");
    node.sync();
    assert_eq!(node.look(), [(3, matched(3))], "to another leader what is committed");
    outputs(&mut node);
    let before = node.raft.status();
    assert!(!install(&mut node, 2, 2));
    assert_eq!((node.raft.status(), outputs(&mut node)), (before, vec![]));
    assert_eq!(
        node.raft.snapshot(),
        Index(2),
        "it is stored, and as good as an own one"
    );
}

#[test]
fn a_follower_that_has_more_than_was_known_is_sent_entries_again() {
    let mut node = Lone::with(0, &[], bare);
    let term = node.lead();
    node.propose(9);
    node.sync();
    node.step(2, term, matched(10));
    node.step(3, term, rejected(0, (0, 0)));
    node.raft.snapshot_taken(Index(8), node.now);
    node.drain();
    node.raft.released(Index(6));
    node.drain();
    node.outputs.clear();
    node.raft.unreachable(NodeId(3), node.now);
    node.step(
        3,
        term,
        Body::HeartbeatReply(kraft_core::message::HeartbeatReply {
            round: kraft_core::id::Round(0),
            promise_us: 0,
        }),
    );
    let wanted = Output::SendSnapshot {
        to: NodeId(3),
        index: Index(8),
    };
    assert_eq!(outputs(&mut node), [wanted]);
    assert_eq!(node.raft.sends_snapshot(NodeId(3)), Some(Index(8)));
    node.step(3, term, matched(5));
    assert_eq!(node.raft.sends_snapshot(NodeId(3)), Some(Index(8)), "entry 6 is gone");
    node.step(3, term, rejected(4, (2, term)));
    assert_eq!(node.raft.sends_snapshot(NodeId(3)), Some(Index(8)), "an old answer");
    node.look();
    node.step(3, term, matched(6));
    assert_eq!(node.raft.sends_snapshot(NodeId(3)), None, "entry 7 is there");
    assert!(
        node.look()
            .iter()
            .any(|(to, body)| *to == 3 && matches!(body, Body::Append(_)))
    );
}

/// The core's part: pieces are wanted of whom the node follows, and of one snapshot until it is installed.
#[test]
fn snapshot_interrupted_chunk() {
    let mut node = Lone::recovered(3, &[1]);
    node.step(2, 3, piece(7, 2));
    assert!(takes(&node, 2, 3, 7, 2));
    assert!(!takes(&node, 3, 3, 7, 2), "not of another node");
    // Another leader: the former one's pieces are of no use, and it learns of the term.
    node.step(3, 4, heartbeat(0));
    node.look();
    node.step(2, 3, piece(7, 2));
    assert!(!takes(&node, 2, 3, 7, 2));
    assert_eq!(node.look().len(), 1);
    // The same snapshot from the new one is gone on with; or it is another one.
    node.step(3, 4, piece(7, 2));
    assert!(takes(&node, 3, 4, 7, 2) && takes(&node, 3, 4, 9, 4));
    // Nobody leads: what came whole is installed all the same.
    node.pass(300);
    assert_eq!(node.state(), NodeState::PreCandidate);
    assert!(!takes(&node, 3, 4, 7, 2));
    node.look();
    assert!(install(&mut node, 7, 2));
    assert_eq!(
        (node.state(), node.raft.status().commit),
        (NodeState::Follower, Index(7))
    );
    assert_eq!(node.look(), [], "there is nobody to tell");
    node.step(3, 4, heartbeat(0));
    node.sync();
    assert!(node.look().contains(&(3, matched(7))));
}

#[test]
fn one_snapshot_after_the_other_is_restored_and_the_newest_wins() {
    let mut node = Lone::recovered(3, &[1]);
    node.step(2, 3, piece(7, 2));
    assert!(install(&mut node, 7, 2));
    outputs(&mut node);
    assert!(!takes(&node, 2, 3, 9, 3), "one restore at a time");
    // That it came is not forbidden, though.
    assert!(install(&mut node, 9, 3));
    assert!(!install(&mut node, 8, 3));
    assert_eq!(outputs(&mut node), [reset(9, 3)]);
    restored(&mut node, 7);
    assert_eq!(outputs(&mut node), [Output::Restore(snapshot(9, 3).id)]);
    restored(&mut node, 9);
    node.step(2, 3, piece(12, 3));
    assert!(takes(&node, 2, 3, 12, 3));
}

/// Entries were handed out to be applied when the snapshot came: their end is waited for.
#[test]
fn a_restore_waits_for_what_is_being_applied() {
    let mut node = Lone::recovered(3, &[]);
    let header = Header {
        from: NodeId(2),
        term: Term(3),
        ..Header::default()
    };
    let message = kraft_core::message::Message {
        header,
        body: append((0, 0), &[1, 1], 2),
    };
    node.raft.step(&message, node.now, &mut node.log).expect("no violation");
    let mut said = Vec::new();
    while let Some(output) = node.raft.poll_output(&node.log) {
        said.push(output);
        assert!(said.len() < DRAIN_MAX, "it never ends: {:?}", said.last());
    }
    assert!(said.contains(&Output::Apply(Index(1)..Index(3))));
    assert!(install(&mut node, 7, 2));
    assert!(!node.outputs.contains(&Output::Restore(snapshot(7, 2).id)));
    node.raft.applied(Index(2), &mut node.log);
    node.drain();
    assert!(node.outputs.contains(&Output::Restore(snapshot(7, 2).id)));
}

#[test]
fn a_load_of_what_a_snapshot_replaced_is_not_taken_for_what_came_behind_it() {
    let mut node = Lone::recovered(2, &[1, 1, 1, 1, 1, 1]);
    node.log = Tail::new(Index(6), 0);
    node.step(2, 2, append((6, 1), &[], 2));
    assert_eq!(node.outputs.pop(), Some(Output::Load(Index(1)..Index(3))));
    let term = 3;
    let conflict = node.try_step(3, term, piece(2, 2));
    assert_eq!(conflict, Err(Violation::CommittedConflict));
    assert!(!install(&mut node, 2, 2), "it contradicts what is committed");
    node.step(3, term, piece(4, 2));
    assert!(install(&mut node, 4, 2));
    let entry = Entry {
        term: Term(1),
        kind: EntryKind::Command,
        crc: 0,
        payload: bytes::Bytes::from_static(b"old"),
    };
    node.log.restore(Index(1), vec![entry; 2]);
    node.raft.loaded(Index(1)..Index(3), &mut node.log);
    node.drain();
    assert_eq!(node.log.bytes_held(), 0);
    outputs(&mut node);
    restored(&mut node, 4);
    node.step(3, term, append((4, 2), &[3], 5));
    assert!(outputs(&mut node).contains(&Output::Apply(Index(5)..Index(6))));
}

/// Memory is bounded while a state is restored; what a leader still has to count is in it, though.
#[test]
fn what_is_not_committed_stays_in_memory_while_a_state_is_restored() {
    let mut node = Lone::recovered(3, &[1]);
    node.log = Tail::new(Index(1), 0);
    node.step(2, 3, piece(7, 2));
    assert!(install(&mut node, 7, 2));
    node.step(2, 3, append((7, 2), &[3; 2000], 2007));
    node.sync();
    assert!(
        node.log.bytes_held() < 9_000,
        "it can be loaded back: {}",
        node.log.bytes_held()
    );
    let term = node.lead();
    node.propose(1500);
    node.sync();
    node.step(2, term, matched(2008 + 1500));
    assert_eq!(node.raft.status().commit, Index(2008 + 1500));
    node.outputs.clear();
    restored(&mut node, 7);
    assert!(node.outputs.contains(&Output::Load(Index(8)..node.log.first())));
}

#[test]
fn a_leader_installs_nothing() {
    let mut node = Lone::new();
    let term = node.lead();
    node.propose(2);
    let before = node.raft.status();
    assert!(!install(&mut node, 9, term));
    assert!(!install(&mut node, 2, term));
    assert_eq!(node.raft.status(), before);
}

#[test]
fn what_is_released_is_held_by_a_snapshot_and_needed_by_nobody() {
    let mut node = Lone::with(0, &[], |config| {
        bare(config);
        config.snapshot_margin_entries = 4;
    });
    let term = node.lead();
    node.propose(19);
    node.sync();
    node.step(2, term, matched(12));
    node.step(3, term, matched(9));
    assert_eq!(node.raft.status().applied, Index(12));
    node.outputs.clear();
    node.raft.snapshot_taken(Index(11), node.now);
    node.drain();
    assert_eq!(outputs(&mut node), [Output::Release(Index(9))], "node 3 lives and lags");
    node.raft.released(Index(7));
    assert_eq!(node.raft.base(), Index(7));
    node.step(3, term, matched(14));
    assert_eq!(
        outputs(&mut node).last(),
        Some(&Output::Release(Index(11))),
        "the snapshot is the bound"
    );
    node.raft.released(Index(11));
    node.step(2, term, matched(20));
    node.raft.snapshot_taken(Index(20), node.now);
    node.drain();
    assert_eq!(
        outputs(&mut node).last(),
        Some(&Output::Release(Index(14))),
        "and the margin"
    );
    // With little room nobody is waited for.
    node.propose(9);
    node.sync();
    node.step(2, term, matched(29));
    node.outputs.clear();
    node.raft.snapshot_taken(Index(29), node.now);
    node.drain();
    assert_eq!(outputs(&mut node), []);
    node.raft.room((64 << 20) + 1, node.now);
    node.drain();
    assert_eq!(outputs(&mut node), []);
    node.raft.room(64 << 20, node.now);
    node.drain();
    assert_eq!(outputs(&mut node), [Output::Release(Index(25))]);
}

#[test]
fn a_follower_that_was_not_heard_for_an_election_timeout_holds_nothing() {
    let mut node = Lone::with(0, &[], bare);
    let term = node.lead();
    node.propose(9);
    node.sync();
    node.step(3, term, matched(4));
    node.step(2, term, matched(10));
    node.raft.snapshot_taken(Index(10), node.now);
    node.drain();
    assert_eq!(outputs(&mut node).last(), Some(&Output::Release(Index(4))));
    node.pass(299);
    node.step(2, term, matched(10));
    assert_eq!(outputs(&mut node), []);
    node.pass(1);
    assert_eq!(outputs(&mut node), [Output::Release(Index(10))]);
}

#[test]
fn what_is_being_loaded_does_not_go() {
    let mut node = Lone::above((4, 1), 2, &[1, 1, 1, 1, 2, 2], |config| {
        bare(config);
        config.snapshot_hold_room_min = u64::MAX;
    });
    node.log = Tail::new(Index(10), 0);
    let term = node.lead();
    node.step(2, term, matched(11));
    assert_eq!(
        node.outputs.pop(),
        Some(Output::Load(Index(5)..Index(11))),
        "to be applied"
    );
    let entry = Entry {
        term: Term(1),
        kind: EntryKind::Command,
        crc: 0,
        payload: bytes::Bytes::new(),
    };
    node.log.restore(Index(5), vec![entry; 6]);
    node.raft.loaded(Index(5)..Index(11), &mut node.log);
    node.drain();
    assert_eq!(node.raft.status().applied, Index(11));
    node.log = Tail::new(Index(11), 0);
    // A follower needs what is from 7 on.
    node.step(3, term, rejected(10, (6, 1)));
    assert_eq!(node.outputs.pop(), Some(Output::Load(Index(7)..Index(12))));
    outputs(&mut node);
    node.raft.snapshot_taken(Index(10), node.now);
    node.drain();
    assert_eq!(outputs(&mut node), [Output::Release(Index(6))]);
    node.raft.released(Index(6));
    node.raft.loaded(Index(7)..Index(12), &mut node.log);
    node.drain();
    let said = outputs(&mut node);
    assert!(
        !said.contains(&Output::Release(Index(10))),
        "it is loaded again: {said:?}"
    );
}

#[test]
fn the_log_s_front_goes_in_steps() {
    let mut node = Lone::with(0, &[], |config| {
        config.snapshot_margin_entries = 100;
        config.snapshot_margin_bytes = u64::MAX;
        config.voters = vec![NodeId(1)];
    });
    node.pass(0);
    node.sync();
    let mut released = Vec::new();
    let mut release = |node: &mut Lone| {
        for output in outputs(node) {
            if let Output::Release(through) = output {
                released.push(through.0);
                node.raft.released(through);
            }
        }
    };
    for last in (2..=400).step_by(3) {
        node.propose(3);
        release(&mut node);
        node.sync();
        node.raft.snapshot_taken(Index(last).min(Index(300)), node.now);
        node.drain();
        release(&mut node);
    }
    assert!(
        released
            .windows(2)
            .all(|pair| pair[1] >= pair[0] + 26 || pair[1] == 300),
        "{released:?}"
    );
    assert!(
        (8..=12).contains(&released.len()),
        "a quarter of the margin at a time: {released:?}"
    );
    assert_eq!(released.last(), Some(&300), "and then all that the snapshot holds");
}

/// As `a_stale_load_is_not_taken_for_what_overwrote_it`, with a snapshot between the old and the new.
#[test]
fn a_load_that_reaches_beyond_a_snapshot_is_not_taken_for_what_came_behind_it() {
    let mut node = Lone::recovered(2, &[1, 1, 1, 1, 1, 2, 2, 2]);
    node.log = Tail::new(Index(8), 0);
    let term = node.lead();
    node.step(2, term, rejected(8, (0, 0)));
    assert_eq!(node.outputs.pop(), Some(Output::Load(Index(1)..Index(9))));
    let later = term + 1;
    node.step(3, later, piece(6, later));
    assert!(install(&mut node, 6, later));
    restored(&mut node, 6);
    node.step(3, later, append((6, later), &[later; 2000], 2006));
    node.sync();
    assert_eq!(node.raft.status().applied, Index(2006));
    let old = Entry {
        term: Term(2),
        kind: EntryKind::Command,
        crc: 0,
        payload: bytes::Bytes::from_static(b"old"),
    };
    assert_eq!(node.log.first(), Index(7), "nothing goes before the load is back");
    node.log.restore(Index(1), vec![old; 8]);
    node.raft.loaded(Index(1)..Index(9), &mut node.log);
    node.drain();
    assert!(node.log.first() > Index(7));
    assert!(
        node.log.fit(Index(7)..Index(9), 99, 99).is_empty(),
        "nothing old is left"
    );
}

#[test]
fn a_transfer_that_ended_is_asked_for_again_at_a_sign_of_life() {
    let mut node = Lone::with(0, &[], bare);
    let term = node.lead();
    node.propose(9);
    node.sync();
    node.step(2, term, matched(10));
    node.raft.snapshot_taken(Index(10), node.now);
    node.drain();
    node.raft.released(Index(10));
    node.outputs.clear();
    let wanted = Output::SendSnapshot {
        to: NodeId(3),
        index: Index(10),
    };
    let reply = || {
        Body::SnapshotReply(SnapshotReply {
            id: snapshot(10, term).id,
            result: SnapshotResult::Received(0),
        })
    };
    node.step(3, term, reply());
    assert_eq!(outputs(&mut node), std::slice::from_ref(&wanted));
    node.step(3, term, reply());
    assert_eq!(outputs(&mut node), [], "it is under way");
    node.raft.snapshot_ended(NodeId(3), node.now);
    node.drain();
    assert_eq!(
        (outputs(&mut node), node.raft.sends_snapshot(NodeId(3))),
        (vec![], None)
    );
    node.step(3, term, reply());
    assert_eq!(outputs(&mut node), std::slice::from_ref(&wanted));
    // A broken connection ends it, too.
    node.raft.unreachable(NodeId(3), node.now);
    node.step(3, term, reply());
    assert_eq!(outputs(&mut node), [wanted]);
    node.step(3, term, matched(10));
    assert_eq!(node.raft.sends_snapshot(NodeId(3)), None);
    node.raft.snapshot_ended(NodeId(3), node.now);
    node.propose(1);
    assert!(
        node.look()
            .iter()
            .any(|(to, body)| *to == 3 && matches!(body, Body::Append(_)))
    );
}

/// Leader and follower part where the leader's log begins; nothing is known of what is before.
#[test]
fn a_conflict_at_the_log_s_front_leads_to_a_snapshot() {
    let mut node = Lone::above((5, 2), 2, &[], bare);
    node.raft.snapshot_taken(Index(5), node.now);
    let term = node.lead();
    // Its entry 5 is of an earlier term.
    node.step(3, term, rejected(5, (5, 1)));
    assert_eq!(node.raft.sends_snapshot(NodeId(3)), Some(Index(5)));
    // It has less, and the hint lies before the front.
    let mut node = Lone::above((5, 2), 2, &[], bare);
    node.raft.snapshot_taken(Index(5), node.now);
    let term = node.lead();
    node.step(3, term, rejected(5, (2, 1)));
    assert_eq!(node.raft.sends_snapshot(NodeId(3)), Some(Index(5)));
    // Without a snapshot nobody can help, and nothing is asked for in vain.
    let mut node = Lone::above((5, 2), 2, &[], bare);
    let term = node.lead();
    node.step(3, term, rejected(5, (2, 1)));
    assert_eq!((node.raft.sends_snapshot(NodeId(3)), node.look()), (None, vec![]));
}

#[test]
fn a_follower_that_lags_beyond_the_log_s_front_catches_up() {
    for seed in 0..20 {
        let mut cluster = cluster(seed, |_| {});
        cluster.commit(3);
        let leader = cluster.elect();
        let slow = leader % 3 + 1;
        cluster.crash(slow);
        cluster.run_for(1_000);
        cluster.commit_at_leader(20);
        cluster.snapshot(leader);
        cluster.commit_at_leader(20);
        assert!(
            cluster.node(leader).base().0 > Index::ZERO,
            "without a lagging node that lives the front goes"
        );
        cluster.restart(slow);
        cluster.commit(1);
        let restored = &cluster.node(slow).snapshots.restored;
        assert_eq!(restored.len(), 1, "once is enough: {restored:?}");
    }
}

/// While a snapshot is under way the log moves on by more than its margin, again and again; that alone must not make the
/// follower need another one when it has it.
#[test]
fn snapshot_vs_compaction_race() {
    let race = |hold_room_min| {
        let mut cluster = cluster(7, |config| config.snapshot_hold_room_min = hold_room_min);
        cluster.snapshot_delay = 40_000..50_000;
        cluster.weather.delay = 4_000..5_000;
        cluster.commit(3);
        let leader = cluster.elect();
        let slow = leader % 3 + 1;
        cluster.crash(slow);
        cluster.run_for(1_000);
        cluster.run_with_snapshots(200, 5, |cluster| {
            let _ = cluster.propose(leader, 5);
        });
        cluster.restart(slow);
        cluster.run_with_snapshots(2_000, 5, |cluster| {
            let _ = cluster.propose(leader, 5);
        });
        let lag = cluster.status(leader).commit.0 - cluster.status(slow).commit.0;
        (cluster.node(slow).snapshots.installed, lag)
    };
    let (installed, lag) = race(0);
    assert!(
        installed == 1 && lag < 100,
        "{installed} were installed, it lags by {lag}"
    );
    let (installed, _) = race(u64::MAX);
    assert!(installed > 3, "the race is one: {installed}");
}

#[test]
fn a_restart_begins_with_the_snapshot_s_state() {
    let mut cluster = Cluster::with(1, 3, bare);
    cluster.commit(5);
    cluster.snapshot(1);
    cluster.run_for(10);
    let applied = cluster.node(1).applied.clone();
    cluster.crash(1);
    cluster.restart(1);
    assert_eq!(cluster.node(1).applied, applied, "from the snapshot alone");
    assert_eq!(cluster.status(1).commit.0, applied.len() as u64);
    cluster.commit(1);
}
