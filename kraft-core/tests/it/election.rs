//! Elections: at most one leader a term, a leader soon, and none without need.

use std::time::Duration;

use kraft_core::id::{NodeId, Term};
use kraft_core::message::{Body, NodeState};
use kraft_core::raft::Output;
use kraft_core::storage::HardState;

use crate::cluster::Cluster;
use crate::lone::{Lone, append, heartbeat, vote, voted};

fn upper() -> u64 {
    300
}

#[test]
fn vote_persist_before_reply() {
    let mut node = Lone::new();
    node.step(2, 1, vote(false, 1, (0, 0)));
    let hard = HardState {
        term: Term(1),
        vote: NodeId(2),
    };
    assert!(node.outputs.contains(&Output::Save(hard)));
    assert_eq!(node.look(), [], "nothing leaves before the disk has it");
    node.step(3, 1, vote(false, 1, (0, 0)));
    assert_eq!(
        node.look(),
        [(3, voted(false, false, 1))],
        "a second vote is refused at once"
    );
    node.sync();
    assert_eq!(node.look(), [(2, voted(false, true, 1))]);
    node.step(2, 1, vote(false, 1, (0, 0)));
    assert_eq!(
        node.look(),
        [(2, voted(false, true, 1))],
        "a repeated request gets the same answer"
    );
}

#[test]
fn stale_vote_after_restart_is_refused() {
    let mut cluster = Cluster::new(3, 1);
    cluster.elect();
    for id in cluster.ids() {
        cluster.crash(id);
        cluster.restart(id);
    }
    // The laws hold what each had voted against what it votes afterwards (R11).
    cluster.commit(1);
}

#[test]
fn a_vote_request_waits_for_the_own_vote_and_the_log_that_it_claims() {
    let mut node = Lone::new();
    node.step(2, 1, append((0, 0), &[1], 0));
    node.pass(upper());
    node.look();
    assert_eq!(node.state(), NodeState::PreCandidate);
    let before = node.sync;
    node.step(3, 1, voted(true, true, 2));
    assert_eq!(node.state(), NodeState::Candidate);
    node.raft.synced(before, node.now, &mut node.log);
    node.drain();
    assert_eq!(node.look(), [], "the entry is durable, the vote is not");
    node.sync();
    assert_eq!(node.look(), [(2, vote(false, 2, (1, 1))), (3, vote(false, 2, (1, 1)))]);
}

#[test]
fn a_withdrawn_grant_is_never_sent() {
    let mut node = Lone::new();
    node.step(2, 1, vote(false, 1, (0, 0)));
    node.step(3, 5, vote(false, 5, (0, 0)));
    node.sync();
    assert_eq!(node.look(), [(3, voted(false, true, 5))]);
}

#[test]
fn cloudflare_partial_partition() {
    let mut cluster = Cluster::new(5, 3);
    cluster.elect();
    for (a, b) in [(4, 1), (4, 3), (4, 5), (5, 1), (5, 2)] {
        cluster.cut_both(a, b);
    }
    cluster.run_for(2_000);
    let (leader, elections) = (cluster.leader().expect("one leads"), cluster.elections());
    let term = cluster.status(leader).hard.term;
    assert!(term < Term(8), "terms are bounded: {term}");
    let commit = cluster.status(leader).commit;
    cluster.propose(leader, 5).expect("it leads");
    cluster.run_for(10_000);
    assert_eq!(
        (cluster.leader(), cluster.elections()),
        (Some(leader), elections),
        "the leader is stable"
    );
    assert!(cluster.status(leader).commit > commit);
}

#[test]
fn one_way_link_leader_deaf() {
    let mut cluster = Cluster::new(3, 4);
    let deaf = cluster.elect();
    cluster.cut.extend(cluster.ids().map(|other| (other, deaf)));
    cluster.run_for(upper() + 60);
    assert_ne!(cluster.status(deaf).state, NodeState::Leader, "check-quorum");
    cluster.run_until("another leads", |cluster| {
        cluster.leader().is_some_and(|leader| leader != deaf)
    });
}

#[test]
fn one_way_link_leader_mute() {
    let mut cluster = Cluster::new(3, 5);
    let mute = cluster.elect();
    cluster.cut.extend(cluster.ids().map(|other| (mute, other)));
    cluster.run_until("another leads", |cluster| {
        cluster.leader().is_some_and(|leader| leader != mute)
    });
    cluster.run_until("it follows", |cluster| {
        cluster.status(mute).state == NodeState::Follower
    });
}

#[test]
fn prevote_no_disrupt_on_rejoin() {
    let mut cluster = Cluster::new(3, 6);
    let leader = cluster.elect();
    let term = cluster.status(leader).hard.term;
    let lost = leader % 3 + 1;
    cluster.isolate(lost);
    cluster.run_for(100 * upper());
    assert_eq!(cluster.status(lost).hard.term, term, "its term did not grow");
    cluster.heal();
    cluster.run_for(2 * upper());
    assert_eq!((cluster.elect(), cluster.status(leader).hard.term), (leader, term));
}

/// A node whose term ran ahead and whose log fell behind gets no votes, and with check-quorum its requests are ignored.
/// The leader must learn of its term from its answer to an append.
#[test]
fn prevote_checkquorum_deadlock() {
    let mut cluster = Cluster::new(3, 7);
    let leader = cluster.elect();
    let ahead = leader % 3 + 1;
    // It grows its term as a node without pre-vote would.
    cluster.crash(ahead);
    cluster.commit(3);
    let disk = &mut cluster.nodes[ahead as usize - 1].disk;
    disk.durable.hard = HardState {
        term: Term(50),
        vote: NodeId(ahead),
    };
    disk.written.hard = disk.durable.hard;
    cluster.restart(ahead);
    cluster.commit(3);
    assert!(cluster.status(ahead).hard.term >= Term(50));
}

#[test]
fn a_refused_pre_vote_brings_the_later_term() {
    let mut node = Lone::new();
    node.pass(upper());
    assert_eq!(node.state(), NodeState::PreCandidate);
    node.step(2, 5, voted(true, false, 1));
    assert_eq!((node.state(), node.term()), (NodeState::Follower, 5));
}

#[test]
fn prevote_migration() {
    for seed in 0..20 {
        let mut cluster = Cluster::with(4, seed, |config| config.pre_vote = config.id.0 % 2 == 0);
        cluster.commit(1);
        let leader = cluster.elect();
        cluster.crash(leader);
        cluster.commit(1);
        cluster.restart(leader);
        cluster.commit(1);
    }
}

#[test]
fn removed_server_disruption() {
    // Node 4 is no member, which it does not know. Whoever hears a leader does not listen to it.
    let mut node = Lone::new();
    node.step(2, 3, append((0, 0), &[3], 0));
    node.sync();
    node.look();
    node.step(4, 9, vote(false, 9, (9, 9)));
    node.step(4, 9, vote(true, 10, (9, 9)));
    assert_eq!(node.look(), [(4, voted(true, false, 10))]);
    assert_eq!((node.term(), node.raft.status().leader), (3, NodeId(2)));
}

#[test]
fn campaign_learner_must_vote() {
    // What it believes of itself and of the candidate may be old: logs decide.
    let mut node = Lone::with(2, &[1, 2], |config| config.voters.clear());
    node.pass(upper());
    assert_eq!(node.look(), [], "it knows of no majority, and asks nobody");
    node.step(7, 3, vote(false, 3, (1, 1)));
    assert_eq!(node.look(), [(7, voted(false, false, 3))], "a shorter log");
    node.step(8, 4, vote(false, 4, (2, 2)));
    node.sync();
    assert_eq!(node.look(), [(8, voted(false, true, 4))]);
}

#[test]
fn voters_cling_to_a_leader_that_they_hear() {
    let mut node = Lone::new();
    node.step(2, 3, heartbeat(0));
    node.look();
    node.pass(149);
    node.step(3, 9, vote(false, 9, (9, 9)));
    assert_eq!((node.look(), node.term()), (vec![], 3), "ignored");
    node.step(3, 9, vote(true, 10, (9, 9)));
    assert_eq!(node.look(), [(3, voted(true, false, 10))]);
    let mut by_transfer = vote(false, 9, (9, 9));
    if let Body::Vote(vote) = &mut by_transfer {
        vote.by_transfer = true;
    }
    node.step(3, 9, by_transfer);
    assert_eq!(node.term(), 9, "the leader itself asked for it");
}

#[test]
fn a_leader_with_a_quorum_clings_to_its_office() {
    let mut node = Lone::new();
    let term = node.lead();
    node.step(3, term + 5, vote(false, term + 5, (9, term + 4)));
    assert_eq!(
        (node.state(), node.term(), node.look()),
        (NodeState::Leader, term, vec![])
    );
}

#[test]
fn split_vote_even_cluster() {
    // All four draw from the same seed at the same instant.
    let mut rounds = 0;
    for seed in 0..50 {
        let mut cluster = Cluster::new(4, seed);
        let leader = cluster.elect();
        rounds += cluster.status(leader).hard.term.0;
    }
    assert!(rounds < 100, "{rounds} terms for 50 elections");
}

#[test]
fn candidate_gets_append_same_term() {
    let mut node = Lone::with(0, &[], |config| config.pre_vote = false);
    node.pass(upper());
    assert_eq!((node.state(), node.term()), (NodeState::Candidate, 1));
    node.step(2, 1, append((0, 0), &[1], 0));
    assert_eq!(
        (node.state(), node.raft.status().leader),
        (NodeState::Follower, NodeId(2))
    );
}

/// The core knows no wall clock; what comes nearest is a host that slept for an hour, so that every timer is long past.
#[test]
fn clock_jump_forward_hour() {
    let mut cluster = Cluster::new(3, 8);
    cluster.elect();
    let elections = cluster.elections();
    cluster.now += Duration::from_secs(3600);
    cluster.commit(1);
    assert!(cluster.elections() <= elections + 1);
}

#[test]
fn a_dead_leader_s_reset_starts_a_pre_vote_at_once() {
    let mut slowest = 0;
    for seed in 0..50 {
        let mut cluster = Cluster::new(3, seed);
        let dead = cluster.elect();
        cluster.commit(1);
        cluster.crash(dead);
        let killed_at = cluster.now;
        for id in cluster.ids().filter(|id| *id != dead) {
            cluster.with_raft(id, |raft, _, now| raft.unreachable(NodeId(dead), now));
        }
        cluster.elect();
        slowest = slowest.max((cluster.now - killed_at).as_millis());
    }
    assert!(slowest <= 300, "{slowest} ms");
}

#[test]
fn a_live_leader_s_reset_changes_nothing() {
    let mut cluster = Cluster::new(3, 9);
    let leader = cluster.elect();
    let (term, elections) = (cluster.status(leader).hard.term, cluster.elections());
    let follower = leader % 3 + 1;
    cluster.with_raft(follower, |raft, _, now| raft.unreachable(NodeId(leader), now));
    cluster.run_for(2 * upper());
    assert_eq!((cluster.elect(), cluster.elections()), (leader, elections));
    assert_eq!(cluster.status(leader).hard.term, term);
}

#[test]
fn a_frame_in_progress_counts_as_hearing_the_leader() {
    let mut node = Lone::new();
    node.step(2, 1, heartbeat(0));
    node.sync();
    for _ in 0..10 {
        node.pass(100);
        node.raft.heard(NodeId(2), node.now);
    }
    assert_eq!(node.state(), NodeState::Follower);
    node.pass(100);
    let deadline = node.raft.deadline();
    node.raft.heard(NodeId(3), node.now);
    assert_eq!(node.raft.deadline(), deadline, "one of another node does not");
    node.pass(upper());
    assert_eq!(node.state(), NodeState::PreCandidate);
}

#[test]
fn a_single_voter_elects_itself_at_once_and_waits_for_its_disk() {
    let mut node = Lone::with(0, &[], |config| config.voters = vec![NodeId(1)]);
    assert_eq!(node.raft.deadline(), Some(node.now));
    node.pass(0);
    assert_eq!(node.state(), NodeState::Candidate, "its vote is not durable");
    node.sync();
    assert_eq!((node.state(), node.raft.status().commit.0), (NodeState::Leader, 0));
    node.propose(1);
    assert_eq!(
        node.raft.status().commit.0,
        0,
        "nothing is committed before its own sync"
    );
    node.sync();
    assert_eq!(node.raft.status().commit.0, 2);
}
