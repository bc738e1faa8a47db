//! Leases, and how old what a node knows may be.

use std::time::Duration;

use kraft_core::id::{Index, NodeId, Round};
use kraft_core::message::{Body, Heartbeat, HeartbeatReply, NodeState, Vote};
use kraft_core::raft::Config;
use kraft_core::time::Instant;

use crate::cluster::Cluster;
use crate::lone::{Lone, append, heartbeat, matched, vote, voted};

/// Least election timeout 150 ms, so that a lease holds for 130.
const DRIFT: Duration = Duration::from_millis(20);

/// As little as a follower promises.
const PROMISE: u64 = 150_000;

fn with_leases(config: &mut Config) {
    config.lease_drift_max = Some(DRIFT);
}

fn lone() -> Lone {
    Lone::with(0, &[], with_leases)
}

/// A leader that has committed its no-op.
fn leader() -> (Lone, u64) {
    let mut node = lone();
    let term = node.lead();
    node.step(2, term, matched(1));
    node.look();
    (node, term)
}

/// The rounds of the heartbeats that were sent to node 2.
fn rounds(node: &mut Lone) -> Vec<Round> {
    let to_two = node.look().into_iter().filter(|(to, _)| *to == 2);
    to_two
        .filter_map(|(_, body)| match body {
            Body::Heartbeat(heartbeat) => Some(heartbeat.round),
            _ => None,
        })
        .collect()
}

fn promise(round: Round, promise_us: u64) -> Body<'static> {
    Body::HeartbeatReply(HeartbeatReply { round, promise_us })
}

fn at(node: &Lone, millis: u64) -> Instant {
    node.now + Duration::from_millis(millis)
}

#[test]
fn lease_read_clock_skew() {
    let (mut node, term) = leader();
    node.pass(50);
    let round = rounds(&mut node)[0];
    assert_eq!(node.raft.leased(node.now), None, "nobody has promised");
    let sent = node.now;
    node.now = at(&node, 100);
    node.step(2, term, promise(round, PROMISE));
    let last = sent + (Duration::from_millis(130) - Duration::from_nanos(1));
    assert_eq!(
        node.raft.leased(last).map(|(term, index)| (term.0, index)),
        Some((term, Index(1)))
    );
    // Stopped by a signal between the look at the state and the look at the clock.
    assert_eq!(node.raft.leased(sent + Duration::from_millis(130)), None);
    assert_eq!(node.raft.leased(at(&node, 10_000)), None);
    assert_eq!(node.state(), NodeState::Leader, "it does not know yet");
}

#[test]
fn a_lease_counts_from_the_newest_round_that_a_majority_promised_by() {
    let mut node = Lone::with(0, &[], |config| {
        config.voters = (1..=5).map(NodeId).collect();
        with_leases(config);
    });
    let term = {
        node.pass(300);
        let term = node.term() + 1;
        node.step(2, term - 1, voted(true, true, term));
        node.step(3, term - 1, voted(true, true, term));
        node.sync();
        node.step(2, term, voted(false, true, term));
        node.step(3, term, voted(false, true, term));
        node.sync();
        term
    };
    node.step(2, term, matched(1));
    node.step(3, term, matched(1));
    node.look();
    node.pass(50);
    let (first, first_at) = (rounds(&mut node)[0], node.now);
    node.pass(50);
    let (second, second_at) = (rounds(&mut node)[0], node.now);
    assert!(second > first, "each beat is a round of its own");
    let holds = |node: &Lone, since: Instant| {
        let length = Duration::from_millis(130);
        let last = since + (length - Duration::from_nanos(1));
        node.raft.leased(since + length).is_none() && node.raft.leased(last).is_some()
    };
    node.step(2, term, promise(second, PROMISE));
    assert_eq!(node.raft.leased(node.now), None, "two of five are no majority");
    node.step(3, term, promise(first, PROMISE));
    assert!(holds(&node, first_at));
    node.step(4, term, promise(first, PROMISE));
    assert!(
        holds(&node, first_at),
        "a late answer takes nothing back and adds nothing"
    );
    node.step(5, term, promise(second, PROMISE));
    assert!(holds(&node, second_at));
}

#[test]
fn a_follower_that_promises_less_or_nothing_does_not_count() {
    let (mut node, term) = leader();
    node.pass(50);
    let round = rounds(&mut node)[0];
    node.step(2, term, promise(round, 0));
    node.step(3, term, promise(round, PROMISE - 1));
    assert_eq!(node.raft.leased(node.now), None);
    node.step(3, term, promise(round, PROMISE));
    assert!(node.raft.leased(node.now).is_some());
}

#[test]
fn without_leases_nothing_is_promised_and_nothing_is_believed() {
    let mut node = Lone::new();
    let term = node.lead();
    node.step(2, term, matched(1));
    node.pass(50);
    let round = rounds(&mut node)[0];
    node.step(2, term, promise(round, PROMISE));
    assert_eq!(node.raft.leased(node.now), None);
    node.step(3, term + 1, heartbeat(0));
    assert_eq!(node.look(), [(3, promise(Round(0), 0))]);
}

#[test]
fn a_fresh_leader_has_no_lease_before_it_knows_what_is_committed() {
    let mut node = lone();
    let term = node.lead();
    node.pass(50);
    let round = rounds(&mut node)[0];
    node.step(2, term, promise(round, PROMISE));
    assert_eq!(node.raft.leased(node.now), None);
    node.step(2, term, matched(1));
    assert!(node.raft.leased(node.now).is_some());
}

#[test]
fn a_lease_ends_with_the_leadership_and_is_not_taken_into_the_next() {
    let (mut node, term) = leader();
    node.pass(50);
    let round = rounds(&mut node)[0];
    node.step(2, term, promise(round, PROMISE));
    assert!(node.raft.leased(node.now).is_some());
    node.raft.room(0, node.now);
    node.drain();
    assert_eq!(node.state(), NodeState::Follower);
    assert_eq!(node.raft.leased(node.now), None);
}

#[test]
fn a_dropped_lease_stays_dropped_for_its_term_of_office() {
    let (mut node, term) = leader();
    node.pass(50);
    let round = rounds(&mut node)[0];
    node.step(2, term, promise(round, PROMISE));
    node.raft.drop_lease();
    assert_eq!(node.raft.leased(node.now), None);
    node.pass(50);
    let round = rounds(&mut node)[0];
    node.step(2, term, promise(round, PROMISE));
    // What asked the successor to campaign may arrive however late.
    assert_eq!(node.raft.leased(node.now), None);
}

#[test]
fn who_is_elected_again_has_leases_again() {
    let (mut node, term) = leader();
    node.raft.drop_lease();
    node.step(3, term + 1, heartbeat(0));
    let term = node.lead();
    node.step(2, term, matched(2));
    node.pass(50);
    let round = *rounds(&mut node).last().expect("it beats");
    node.step(2, term, promise(round, PROMISE));
    assert_eq!(node.raft.leased(node.now).map(|leased| leased.0.0), Some(term));
}

#[test]
fn a_leader_has_no_lease_once_its_successor_may_campaign() {
    let (mut node, term) = leader();
    node.pass(50);
    let round = rounds(&mut node)[0];
    node.step(2, term, promise(round, PROMISE));
    node.raft.transfer(NodeId(2), node.now).expect("it is heard");
    assert!(node.raft.leased(node.now).is_some(), "nobody was told so far");
    node.drain();
    assert_eq!(node.look(), [(2, Body::TimeoutNow)]);
    assert_eq!(node.raft.leased(node.now), None);
    // The transfer comes to nothing, and its message may be late.
    for _ in 0..8 {
        node.pass(50);
        let round = *rounds(&mut node).last().expect("it beats");
        node.step(2, term, promise(round, PROMISE));
    }
    assert!(!node.raft.is_transferring());
    assert_eq!(node.raft.leased(node.now), None);
}

/// Whether the node gives its vote in `term`.
fn votes(node: &mut Lone, term: u64, by_transfer: bool) -> bool {
    let Body::Vote(asked) = vote(false, term, (9, 9)) else {
        unreachable!("it was just made")
    };
    let asked = Vote {
        last_term: kraft_core::id::Term(1),
        by_transfer,
        ..asked
    };
    node.step(3, term, Body::Vote(asked));
    node.sync();
    let granted = |(_, body)| matches!(body, Body::VoteReply(reply) if reply.granted);
    node.look().into_iter().any(granted)
}

/// A follower of node 2 whose term is on its disk.
fn in_term_1() -> Lone {
    let mut node = lone();
    node.step(2, 1, heartbeat(0));
    node.sync();
    node.look();
    node
}

#[test]
fn a_promise_that_a_restart_would_not_know_of_is_not_given() {
    let mut node = lone();
    node.step(2, 1, heartbeat(0));
    assert_eq!(node.look(), [(2, promise(Round(0), 0))], "its term is not on its disk");
    node.sync();
    node.step(2, 1, heartbeat(0));
    assert_eq!(node.look(), [(2, promise(Round(0), PROMISE))]);
}

#[test]
fn who_has_promised_votes_for_nobody_whatever_term_comes() {
    let mut node = in_term_1();
    node.step(2, 1, heartbeat(0));
    assert_eq!(node.look(), [(2, promise(Round(0), PROMISE))]);
    node.raft.clock(node.now);
    // It learns of a later term by the way, and has no leader in it.
    node.step(3, 5, Body::ReadIndex);
    node.look();
    assert_eq!(node.term(), 5);
    node.pass(149);
    assert!(!votes(&mut node, 5, false));
    assert!(!votes(&mut node, 6, false));
    node.pass(1);
    assert!(votes(&mut node, 6, false));
}

#[test]
fn a_promise_counts_from_a_time_that_was_read_after_the_heartbeat() {
    let mut node = in_term_1();
    // The turn read its clock, and was stopped for a second before it took the heartbeat.
    node.step(2, 1, heartbeat(0));
    let fresh = at(&node, 1_000);
    node.raft.clock(fresh);
    node.now = fresh;
    node.pass(149);
    assert_eq!(node.state(), NodeState::Follower, "it has no vote for itself either");
    assert!(!votes(&mut node, 2, false));
    node.pass(1);
    assert!(votes(&mut node, 2, false));
}

#[test]
fn a_vote_that_the_leader_asked_for_is_given_in_spite_of_the_promise() {
    let mut node = in_term_1();
    node.step(2, 1, heartbeat(0));
    node.raft.clock(node.now);
    assert!(votes(&mut node, 2, true));
}

#[test]
fn a_restarted_node_votes_for_nobody_for_an_election_timeout() {
    let mut node = Lone::with(3, &[1], with_leases);
    node.pass(149);
    assert!(!votes(&mut node, 4, false));
    node.pass(1);
    assert!(votes(&mut node, 4, false));
    let mut new = lone();
    assert!(votes(&mut new, 1, false), "a new cluster has promised nothing");
}

/// Its leader had made a voter of it, and crashes came before that was on its disk.
#[test]
fn a_restarted_node_that_knows_no_members_votes_for_nobody_either() {
    let mut node = Lone::with(3, &[], |config| {
        config.voters.clear();
        with_leases(config);
    });
    node.pass(149);
    assert!(!votes(&mut node, 4, false));
    node.pass(1);
    assert!(votes(&mut node, 4, false));
    let mut alone = Lone::with(3, &[], |config| {
        config.voters = vec![NodeId(1)];
        with_leases(config);
    });
    alone.pass(0);
    alone.sync();
    assert_eq!(alone.state(), NodeState::Leader, "nobody has a promise of it");
}

#[test]
fn a_broken_connection_to_the_leader_releases_from_no_promise() {
    let mut node = lone();
    node.step(2, 1, heartbeat(0));
    node.raft.clock(node.now);
    node.raft.unreachable(NodeId(2), node.now);
    node.pass(100);
    assert_eq!(node.state(), NodeState::Follower);
    assert!(!votes(&mut node, 2, false));
}

/// The leader is cut off again and again while its clock and those of the others go at these rates; answers by lease.
fn cut_off(seed: u64, leader_rate: u64, other_rate: u64) -> u64 {
    let mut cluster = Cluster::with(3, seed, with_leases);
    cluster.commit(1);
    for _ in 0..20 {
        let old = cluster.elect();
        for node in &mut cluster.nodes {
            // A clock is set to go otherwise, not to show something else.
            node.pace(
                cluster.now,
                if node.config.id.0 == old {
                    leader_rate
                } else {
                    other_rate
                },
            );
        }
        cluster.commit(2);
        cluster.run_for(200);
        cluster.isolate(old);
        cluster.run_until("another leads", |cluster| {
            cluster.leader().is_some_and(|leader| leader != old)
        });
        cluster.commit_at_leader(3);
        cluster.run_for(100);
        cluster.heal();
    }
    cluster.leases
}

#[test]
fn leases_hold_while_clocks_keep_their_bound() {
    for seed in 0..40 {
        println!("KRAFT_SEED={seed}");
        assert!(cut_off(seed, 1_000, 1_000) > 100);
        // Of 150 ms by the one clock and 130 by the other, the first are over later: 1.06 / 0.94 < 150 / 130.
        assert!(cut_off(seed, 940, 1_060) > 100);
    }
}

#[test]
fn a_clock_beyond_the_bound_breaks_a_lease_and_r7_finds_it() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = (0..40).find_map(|seed| std::panic::catch_unwind(|| cut_off(seed, 300, 1_500)).err());
    std::panic::set_hook(loud);
    let what = found.expect("a leader whose clock hardly moves takes itself for one for ever");
    let what = what.downcast_ref::<String>().expect("a law says what it says");
    assert!(what.contains("R7"), "{what}");
    assert!(what.contains("lease"), "{what}");
}

#[test]
fn a_lone_voter_has_a_lease_without_asking() {
    let mut node = Lone::with(0, &[], |config| {
        config.voters = vec![NodeId(1)];
        with_leases(config);
    });
    node.pass(0);
    node.sync();
    node.sync();
    assert!(node.raft.leased(at(&node, 100_000)).is_some());
}

#[test]
fn a_node_knows_how_long_ago_it_was_up_to_date() {
    let age = |node: &Lone| node.raft.age(node.now).map(|age| age.as_millis());
    let mut node = Lone::new();
    assert_eq!(age(&node), None, "it never was");
    node.step(2, 1, append((0, 0), &[1, 1, 1], 2));
    assert_eq!(age(&node), Some(0));
    node.pass(40);
    assert_eq!(age(&node), Some(40));
    // The leader has committed what this node has not got.
    node.step(2, 1, heartbeat(7));
    assert_eq!(node.raft.status().applied, Index(3));
    node.now = at(&node, 30);
    assert_eq!(age(&node), Some(70));
    node.step(2, 1, append((3, 1), &[1, 1, 1, 1], 6));
    node.step(2, 1, append((7, 1), &[], 7));
    assert_eq!(age(&node), Some(30), "since it heard of the seventh");
    node.step(2, 1, heartbeat(7));
    assert_eq!(age(&node), Some(0));
}

#[test]
fn a_fresh_leader_that_has_committed_nothing_makes_nobody_up_to_date() {
    let age = |node: &Lone| node.raft.age(node.now).map(|age| age.as_millis());
    let mut node = Lone::new();
    node.step(2, 1, append((0, 0), &[1], 1));
    node.now = at(&node, 60);
    // It may know less than what its predecessor answered for.
    node.step(3, 2, append((1, 1), &[2], 1));
    node.step(
        3,
        2,
        Body::Heartbeat(Heartbeat {
            commit: Index(1),
            round: Round(0),
        }),
    );
    assert_eq!(age(&node), Some(60));
    node.step(
        3,
        2,
        Body::Heartbeat(Heartbeat {
            commit: Index(2),
            round: Round(0),
        }),
    );
    assert_eq!(age(&node), Some(0));
}

#[test]
fn a_leader_is_as_old_as_its_majority() {
    let age = |node: &Lone| node.raft.age(node.now).map(|age| age.as_millis());
    let mut node = Lone::new();
    let term = node.lead();
    assert_eq!(age(&node), None, "it has committed nothing");
    node.step(2, term, matched(1));
    assert_eq!(age(&node), Some(0));
    node.pass(100);
    assert_eq!(age(&node), Some(100));
    node.step(3, term, promise(Round(0), 0));
    assert_eq!(age(&node), Some(0));
    node.pass(30);
    node.step(2, term + 1, vote(true, term + 2, (9, 1)));
    node.step(2, term + 1, Body::ReadIndex);
    assert_eq!(node.state(), NodeState::Follower);
    assert_eq!(age(&node), Some(30), "what it knew as a leader it knows still");
}
