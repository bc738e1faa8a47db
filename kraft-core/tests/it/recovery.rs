//! Voters that lost their logs: what they must not do, and until when.

use std::panic::{self, AssertUnwindSafe};

use kraft_core::id::{Index, Term};
use kraft_core::laws::{Laws, View};
use kraft_core::message::{Body, NodeState};
use kraft_core::raft::term_after_damage;

use crate::cluster::Cluster;

/// The law that is broken, if one is.
#[track_caller]
fn broken(run: impl FnOnce()) -> Option<String> {
    let what = panic::catch_unwind(AssertUnwindSafe(run)).err()?;
    let text = what.downcast_ref::<String>().cloned();
    Some(text.expect("what a law says"))
}

/// The leader and the two others.
fn roles(cluster: &mut Cluster) -> (u64, u64, u64) {
    cluster.commit(3);
    let leader = cluster.elect();
    let others: Vec<_> = cluster.ids().filter(|id| *id != leader).collect();
    (leader, others[0], others[1])
}

/// Entries that the leader and `rotten` alone have are committed, and then `rotten` loses its log and the leader is
/// down: whether the third one is elected.
fn forgotten_acknowledgement(heeds_damage: bool) -> (Cluster, u64, u64, u64) {
    let mut cluster = Cluster::new(3, 11);
    let (leader, rotten, third) = roles(&mut cluster);
    cluster.isolate(third);
    cluster.commit_at_leader(5);
    assert!(cluster.rot(rotten));
    cluster.crash(leader);
    cluster.heal();
    cluster.nodes[rotten as usize - 1].config.recovering = heeds_damage;
    cluster.restart(rotten);
    cluster.run_for(3_000);
    (cluster, leader, rotten, third)
}

#[test]
fn a_voter_that_forgot_what_it_acknowledged_votes_for_nobody() {
    let (mut cluster, leader, rotten, third) = forgotten_acknowledgement(true);
    assert_eq!(cluster.leader(), None);
    assert!(cluster.status(third).last < cluster.laws.committed());
    cluster.restart(leader);
    assert_eq!(cluster.elect(), leader, "nobody else has all");
    cluster.run_until("it makes up for that", |cluster| !cluster.node(rotten).is_recovering());
    cluster.commit(3);
    // Its vote counts as much as any.
    cluster.crash(leader);
    cluster.elect();
    cluster.commit(3);
}

#[test]
fn a_committed_entry_is_lost_if_it_votes() {
    let law = broken(|| drop(forgotten_acknowledgement(false))).expect("an entry is lost");
    assert!(law.starts_with("R4") || law.starts_with("R6"), "{law}");
}

/// A leader is cut off, the others commit under a later one, and then one of these loses its log and meets the former
/// leader, who has entries of its own. `term` is what the log begins anew in, of the one that is durable.
fn stale_leader(term: impl Fn(Term) -> Term) {
    let mut cluster = Cluster::with(3, 5, |config| config.check_quorum = false);
    let (stale, rotten, _) = roles(&mut cluster);
    cluster.isolate(stale);
    cluster.run_until("a later leader", |cluster| {
        cluster.leader().is_some_and(|id| id != stale)
    });
    let leader = cluster.leader().expect("it was just seen");
    let (rotten, third) = if leader == rotten {
        (6 - stale - rotten, rotten)
    } else {
        (rotten, leader)
    };
    cluster.commit_at_leader(5);
    cluster.propose(stale, 9).expect("it believes to lead");
    let before = cluster.node(rotten).disk();
    assert!(cluster.rot(rotten));
    cluster.nodes[rotten as usize - 1].disk.durable.hard.term = term(before.term);
    // Who lost its term goes back, which is a law of its own: here it is about the entries.
    cluster.laws = Laws::new(3);
    cluster.heal();
    cluster.isolate(third);
    cluster.restart(rotten);
    cluster.run_for(3_000);
    cluster.heal();
    cluster.commit(3);
}

#[test]
fn a_stale_leader_is_told_of_the_fresh_term() {
    stale_leader(|term| term_after_damage(term).term);
}

#[test]
fn a_committed_entry_is_lost_if_the_term_is_lost() {
    let law = broken(|| stale_leader(|term| Term(term.0 - 1))).expect("an entry is lost");
    assert!(
        law.starts_with("R5") || law.starts_with("R6") || law.starts_with("R11"),
        "{law}"
    );
}

/// It rots when the others are far ahead, with so much left of their logs.
#[track_caller]
fn catches_up(by_snapshot: bool) {
    let mut cluster = Cluster::with(3, 3, |config| {
        config.snapshot_margin_entries = 0;
        config.snapshot_margin_bytes = 0;
    });
    let (leader, rotten, third) = roles(&mut cluster);
    cluster.commit(50);
    assert!(cluster.rot(rotten));
    if by_snapshot {
        for id in [leader, third] {
            cluster.snapshot(id);
        }
        cluster.nodes[rotten as usize - 1].disk.forget_snapshots();
        cluster.run_for(100);
        cluster.commit(1);
    }
    let sent = cluster.node(leader).snapshots.sent + cluster.node(third).snapshots.sent;
    // While it lacks what it lost it is asked, and gives no vote.
    cluster.filter = Some(Box::new(move |wire| {
        let grants = matches!(&wire.body, Body::VoteReply(reply) if reply.granted);
        assert!(wire.header.from.0 != rotten || !grants, "it votes");
        true
    }));
    cluster.restart(rotten);
    assert_eq!(cluster.status(rotten).durable, Index::ZERO);
    cluster.run_until("it makes up for that", |cluster| {
        cluster.status(rotten).commit >= Index(50) && !cluster.node(rotten).is_recovering()
    });
    let sent_now = cluster.node(leader).snapshots.sent + cluster.node(third).snapshots.sent;
    assert_eq!(sent_now > sent, by_snapshot);
    cluster.heal();
    assert!(
        cluster
            .node(rotten)
            .roles
            .iter()
            .all(|role| role.0 == NodeState::Follower)
    );
    cluster.crash(leader);
    cluster.elect();
    cluster.commit(3);
}

#[test]
fn it_catches_up_by_entries() {
    catches_up(false);
}

#[test]
fn it_catches_up_by_a_snapshot() {
    catches_up(true);
}

#[test]
fn a_crash_before_the_damage_is_forgotten_leaves_it_recovering() {
    let mut cluster = Cluster::new(3, 9);
    let (leader, rotten, _) = roles(&mut cluster);
    assert!(cluster.rot(rotten));
    cluster.weather.sync = 50_000..50_001;
    cluster.restart(rotten);
    cluster.run_until("it has all", |cluster| {
        cluster.status(rotten).durable >= cluster.laws.committed()
    });
    cluster.run_for(10);
    assert!(cluster.node(rotten).is_recovering());
    cluster.crash(rotten);
    cluster.restart(rotten);
    assert!(cluster.node(rotten).is_recovering(), "its disk does not know better");
    cluster.crash(leader);
    cluster.run_for(20);
    cluster.restart(leader);
    cluster.run_until("it is forgotten", |cluster| !cluster.node(rotten).is_recovering());
    cluster.commit(1);
}
