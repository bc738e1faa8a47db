//! Disks that are slow, full or forgetful; logs that do not fit into memory.

use bytes::Bytes;
use kraft_core::id::{Index, NodeId, Term};
use kraft_core::laws::View;
use kraft_core::log::{Log, Tail};
use kraft_core::message::{Entries, Entry, EntryKind, NodeState, Refusal};
use kraft_core::raft::Output;

use crate::cluster::{Cluster, proposal};
use crate::lone::{Lone, append, matched, rejected, terms};

/// What was applied is no state of its own on a disk: a crash forgets it together with the machine, and the log gives
/// both back, each entry once (`drain` asserts the order).
#[test]
fn apply_twice_on_crash() {
    let mut cluster = Cluster::new(1, 1);
    cluster.elect();
    cluster.commit(5);
    let applied = cluster.node(1).applied.clone();
    cluster.stall(1);
    cluster.propose(1, 3).expect("it leads");
    cluster.run_for(500);
    cluster.crash(1);
    assert_eq!(cluster.node(1).applied, []);
    cluster.unstall(1);
    cluster.restart(1);
    cluster.elect();
    cluster.commit(1);
    let again = &cluster.node(1).applied;
    assert_eq!(again[..applied.len()], applied);
    assert_eq!(again.len() as u64, cluster.status(1).applied.0);
}

/// No other node's copy makes up for an answer that comes too early.
#[test]
fn a_single_node_applies_what_its_own_syncs_cover_and_nothing_else() {
    let mut node = Lone::with(0, &[], |config| config.voters = vec![NodeId(1)]);
    node.pass(0);
    node.sync();
    let no_op = node.sync;
    node.propose(1);
    assert_ne!(node.sync, no_op);
    let applies = |node: &mut Lone| {
        let applies = node.outputs.drain(..).filter_map(|output| match output {
            Output::Apply(range) => Some((range.start.0, range.end.0)),
            _ => None,
        });
        applies.collect::<Vec<_>>()
    };
    assert_eq!(applies(&mut node), []);
    node.raft.synced(no_op, node.now, &mut node.log);
    node.drain();
    assert_eq!(applies(&mut node), [(1, 2)], "the command is on its way to the disk");
    node.sync();
    assert_eq!(applies(&mut node), [(2, 3)]);
}

#[test]
fn a_stalled_disk_costs_the_leader_its_leadership() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.elect();
    cluster.stall(leader);
    cluster.propose(leader, 1).expect("it leads");
    cluster.run_for(1_001);
    assert_ne!(cluster.status(leader).state, NodeState::Leader);
    let other = cluster.elect();
    assert_ne!(other, leader);
    // Alone with a stalled disk it does not even ask.
    cluster.isolate(leader);
    cluster.run_for(2_000);
    assert_eq!(cluster.status(leader).state, NodeState::Follower);
    cluster.unstall(leader);
    cluster.heal();
    cluster.commit(1);
}

#[test]
fn a_follower_whose_disk_stalls_holds_up_nobody() {
    let mut cluster = Cluster::new(3, 2);
    let leader = cluster.elect();
    cluster.stall(leader % 3 + 1);
    for _ in 0..50 {
        cluster.propose(leader, 1).expect("it leads");
        cluster.run_for(10);
    }
    assert!(cluster.status(leader).commit >= Index(45));
    cluster.unstall(leader % 3 + 1);
    cluster.commit(1);
}

#[test]
fn a_commitment_may_precede_the_leader_s_own_disk() {
    let mut node = Lone::new();
    let term = node.lead();
    node.propose(1);
    node.step(2, term, matched(2));
    assert_eq!(node.raft.status().commit, Index(1), "its own disk and one other");
    node.step(3, term, matched(2));
    assert_eq!(node.raft.status().commit, Index(2), "two others (thesis §10.2.1)");
}

#[test]
fn a_leader_without_room_steps_down_and_does_not_campaign() {
    let mut cluster = Cluster::new(3, 3);
    let full = cluster.elect();
    cluster.with_raft(full, |raft, _, now| raft.room(0, now));
    assert_eq!(cluster.status(full).state, NodeState::Follower);
    let other = cluster.elect();
    assert_ne!(other, full);
    for id in cluster.ids() {
        cluster.with_raft(id, |raft, _, now| raft.room(0, now));
    }
    cluster.run_for(3_000);
    assert_eq!(cluster.leader(), None);
    for id in cluster.ids() {
        cluster.with_raft(id, |raft, _, now| raft.room(1 << 20, now));
    }
    cluster.commit(1);
}

#[test]
fn proposals_leave_room_for_a_successor_s_no_op() {
    let mut node = Lone::new();
    node.lead();
    node.raft.room(10_000, node.now);
    let mut propose = |bytes| {
        let mut proposals = [proposal(1, bytes as usize)].into_iter();
        node.raft
            .propose(&mut proposals, bytes, node.now, &mut node.log)
            .map(|_| ())
    };
    assert_eq!(propose(7_000), Err(Refusal::NoSpace));
    assert_eq!(propose(5_000), Ok(()), "too much was asked, it leads on");
    assert_eq!(propose(5_000), Err(Refusal::NoSpace));
    assert_eq!(node.state(), NodeState::Follower, "there is next to no room");
}

#[test]
fn a_cluster_without_room_has_a_leader_that_refuses() {
    let mut cluster = Cluster::new(3, 4);
    cluster.elect();
    for id in cluster.ids() {
        cluster.with_raft(id, |raft, _, now| raft.room(3_000, now));
    }
    for _ in 0..20 {
        let leader = cluster.elect();
        assert_eq!(cluster.propose(leader, 1), Err(Refusal::NoSpace));
        cluster.run_for(100);
    }
    let leader = cluster.elect();
    let read = cluster.read(leader).expect("it leads");
    cluster.run_until("reads are served", |cluster| cluster.answers.contains_key(&read));
    assert!(
        cluster.elections() <= 3,
        "leadership does not go round: {}",
        cluster.elections()
    );
}

#[test]
fn a_follower_without_room_takes_no_entries_and_catches_up_later() {
    let mut node = Lone::new();
    node.raft.room(8, node.now);
    node.step(2, 1, append((0, 0), &[1, 1], 2));
    node.sync();
    assert_eq!((terms(&node), node.look()), (vec![], vec![]));

    let mut cluster = Cluster::new(3, 5);
    let leader = cluster.elect();
    let full = leader % 3 + 1;
    cluster.with_raft(full, |raft, _, now| raft.room(0, now));
    cluster.commit_at_leader(20);
    let sent = cluster.sent;
    cluster.run_for(1_000);
    assert!(
        cluster.sent - sent < 200,
        "it is not tried again and again: {}",
        cluster.sent - sent
    );
    cluster.with_raft(full, |raft, _, now| raft.room(1 << 20, now));
    cluster.commit(1);
}

#[test]
fn a_restart_replays_by_loading() {
    let mut cluster = Cluster::new(3, 6);
    for _ in 0..10 {
        cluster.commit(50);
    }
    for id in cluster.ids() {
        cluster.crash(id);
    }
    for id in cluster.ids() {
        cluster.restart(id);
        assert_eq!(
            cluster.status(id).commit,
            Index(0),
            "what is committed, the leader says"
        );
    }
    cluster.commit(1);
    assert!(
        cluster
            .nodes
            .iter()
            .all(|node| node.loads >= 8 && node.applied.len() > 500)
    );
}

/// A load is under way; what it reads is overwritten, committed, applied and evicted before it comes back.
#[test]
fn a_stale_load_is_not_taken_for_what_overwrote_it() {
    let mut node = Lone::recovered(2, &[1, 1, 1, 1, 1, 2, 2, 2]);
    node.log = Tail::new(Index(8), 0);
    let term = node.lead();
    let entry = || Entry {
        term: Term(2),
        kind: EntryKind::Command,
        crc: 0,
        payload: Bytes::from_static(b"old"),
    };
    let entries = |count: usize| vec![entry(); count];
    node.step(2, term, rejected(8, (0, 0)));
    assert_eq!(node.outputs.pop(), Some(Output::Load(Index(1)..Index(9))));
    node.log.restore(Index(1), entries(5));
    node.raft.loaded(Index(1)..Index(6), &mut node.log);
    node.drain();
    node.step(2, term, matched(5));
    assert_eq!(node.outputs.pop(), Some(Output::Load(Index(6)..Index(9))));
    // Another leader overwrites from 6 on; it all is committed and applied.
    let later = term + 1;
    node.step(3, later, append((5, 1), &[later, later, later], 8));
    node.sync();
    assert_eq!(node.raft.status().applied, Index(8));
    node.log.restore(Index(6), entries(3));
    node.raft.loaded(Index(6)..Index(9), &mut node.log);
    node.drain();
    assert!(
        node.log.fit(Index(6)..Index(9), 99, 99).is_empty(),
        "nothing old is left"
    );
}

#[test]
fn slow_followers_are_served_from_the_disk() {
    let mut cluster = Cluster::new(3, 7);
    cluster.commit(1);
    let leader = cluster.elect();
    let slow = leader % 3 + 1;
    cluster.crash(slow);
    cluster.nodes[leader as usize - 1].tail = {
        // As if the leader had little memory: everything but the last entries has left it.
        let mut tail = Tail::new(Index(0), 64);
        let log = &cluster.node(leader).disk.written.log;
        tail.append(Index(1), &Entries::Shared(log, &[]));
        tail
    };
    for _ in 0..20 {
        cluster.commit_at_leader(100);
    }
    let first = cluster.node(leader).tail.first();
    assert!(first > Index(500), "memory is bounded: {first}");
    cluster.restart(slow);
    cluster.commit(1);
    assert!(cluster.node(leader).loads > 5);
    assert_eq!(cluster.leader(), Some(leader));
}

#[test]
fn what_was_not_synced_may_be_lost_and_is_sent_again() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(3, seed);
        let leader = cluster.elect();
        let follower = leader % 3 + 1;
        cluster.stall(follower);
        cluster.propose(leader, 10).expect("it leads");
        cluster.run_for(20);
        cluster.crash(follower);
        cluster.unstall(follower);
        cluster.restart(follower);
        cluster.with_raft(leader, |raft, _, now| raft.unreachable(NodeId(follower), now));
        cluster.commit(1);
        assert!(cluster.node(follower).entry(Index(11)).is_some());
    }
}
