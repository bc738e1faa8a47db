//! Leadership handed over: to whom, how it ends, and that it ends.

use std::time::Duration;

use kraft_core::id::{Incarnation, Index, NodeId, Term};
use kraft_core::message::{Body, EntryKind, NodeState, Refusal};
use kraft_core::raft::{Output, Violation};

use crate::cluster::{Cluster, Wire};
use crate::lone::{Lone, append, heartbeat, matched, vote, voted};
use crate::members::add;

/// The longest election timeout.
const BOUND_MS: u64 = 300;

/// Loses the entries that anybody sends to this node.
fn starve(cluster: &mut Cluster, id: u64) {
    cluster.filter = Some(Box::new(move |wire: &Wire| wire.to.0 != id || wire.entries.is_empty()));
}

/// Runs until all transfers have ended; how the last one did.
#[track_caller]
fn end(cluster: &mut Cluster) -> Result<NodeId, Refusal> {
    cluster.run_until("the transfer ends", |cluster| cluster.transfers.is_empty());
    cluster.transferred.last().expect("one ended").2
}

#[test]
fn the_named_voter_leads_before_anybody_times_out() {
    let mut cluster = Cluster::new(3, 1);
    cluster.commit(3);
    let leader = cluster.elect();
    let (to, term, elections) = (leader % 3 + 1, cluster.status(leader).hard.term, cluster.elections());
    cluster.transfer(leader, to).expect("it is heard");
    let began = cluster.now;
    assert_eq!(end(&mut cluster), Ok(NodeId(to)));
    assert!(
        cluster.now - began < Duration::from_millis(10),
        "{:?}",
        cluster.now - began
    );
    assert_eq!(cluster.elect(), to);
    assert_eq!(
        (cluster.elections(), cluster.status(to).hard.term),
        (elections + 1, term.next())
    );
    assert_eq!(cluster.transferred.len(), 1);
    cluster.commit(3);
}

#[test]
fn without_a_name_it_goes_to_the_voter_with_most_of_the_log() {
    for seed in 0..10 {
        let mut cluster = Cluster::new(5, seed);
        cluster.commit(1);
        let leader = cluster.elect();
        let lagging = leader % 5 + 1;
        starve(&mut cluster, lagging);
        cluster.commit_at_leader(3);
        cluster.run_for(60);
        cluster.transfer(leader, 0).expect("others are heard");
        let next = end(&mut cluster).expect("one is up to date").0;
        assert!(next != lagging && next != leader, "{next}");
    }
}

#[test]
fn leader_transfer_to_lagging() {
    let mut cluster = Cluster::new(3, 2);
    cluster.commit(1);
    let leader = cluster.elect();
    let (to, elections) = (leader % 3 + 1, cluster.elections());
    starve(&mut cluster, to);
    cluster.commit_at_leader(3);
    cluster.transfer(leader, to).expect("it gives signs of life");
    let began = cluster.now;
    assert_eq!(cluster.propose(leader, 1), Err(Refusal::Transferring));
    assert_eq!(end(&mut cluster), Err(Refusal::TimedOut));
    assert_eq!(cluster.now - began, Duration::from_millis(BOUND_MS));
    assert_eq!(
        (cluster.elect(), cluster.elections()),
        (leader, elections),
        "it leads all the time"
    );
    cluster.heal();
    cluster.commit(1);

    // It dies in the middle, and its connection with it.
    starve(&mut cluster, to);
    cluster.commit_at_leader(1);
    cluster.transfer(leader, to).expect("it gives signs of life");
    cluster.crash(to);
    let lost = NodeId(to);
    cluster.with_raft(leader, |raft, _, now| raft.unreachable(lost, now));
    assert_eq!(end(&mut cluster), Err(Refusal::Unreachable), "at once");
    cluster.commit_at_leader(1);

    // It dies when it was told to campaign, and nobody hears of that.
    cluster.heal();
    cluster.restart(to);
    cluster.commit(1);
    cluster.transfer(leader, to).expect("it is heard");
    cluster.crash(to);
    assert_eq!(end(&mut cluster), Err(Refusal::TimedOut));
    cluster.commit_at_leader(1);
}

#[test]
fn transfer_during_write() {
    let mut refused = 0;
    for seed in 0..30 {
        println!("seed {seed}");
        let mut cluster = Cluster::new([3, 5][seed as usize % 2], seed);
        cluster.weather.delay = 50..5_000;
        cluster.weather.turn = [0, 2_000][seed as usize / 2 % 2];
        cluster.commit(1);
        let mut accepted = 0;
        for round in 0..200 {
            let (at, any) = (cluster.leader(), round % cluster.ids().end);
            if let Some(at) = at {
                match cluster.propose(at, 1) {
                    Ok(_) => accepted += 1,
                    Err(Refusal::Transferring | Refusal::NotLeader) => refused += 1,
                    Err(other) => panic!("{other:?}"),
                }
                if round % 20 == 10 {
                    let _ = cluster.transfer(at, any);
                }
            }
            cluster.run_for(3);
        }
        cluster.run_until("no transfer is under way", |cluster| cluster.transfers.is_empty());
        cluster.commit(1);
        let done = cluster.transferred.iter().filter(|ended| ended.2.is_ok()).count();
        assert!(done > 3, "seed {seed}: {:?}", cluster.transferred);
        // Nothing that was taken is lost by it, and nothing stands twice: as many commands as were accepted.
        let (leader, last) = (cluster.elect(), cluster.status(1).applied);
        let log = &cluster.node(leader).disk.written.log[..last.0 as usize];
        let commands = log.iter().filter(|entry| entry.kind == EntryKind::Command).count();
        assert_eq!(commands, accepted + 2, "seed {seed}");
    }
    assert!(refused > 0, "nothing was refused meanwhile");
}

#[test]
fn a_transfer_that_cannot_begin_is_refused_by_its_name() {
    let mut node = Lone::new();
    assert_eq!(node.raft.transfer(NodeId(2), node.now), Err(Refusal::NotLeader));
    node.lead();
    assert_eq!(node.raft.transfer(NodeId(9), node.now), Err(Refusal::UnknownMember));
    node.raft.transfer(NodeId(1), node.now).expect("it leads already");
    node.drain();
    let (to, result) = (NodeId(1), Ok(NodeId(1)));
    assert_eq!(node.outputs.pop(), Some(Output::Transferred { to, result }));
    node.raft
        .transfer(NodeId(2), node.now)
        .expect("a fresh leader believes in all");
    assert_eq!(node.raft.transfer(NodeId(3), node.now), Err(Refusal::Transferring));

    let mut node = Lone::new();
    let term = node.lead();
    node.pass(149);
    node.step(3, term, matched(1));
    node.pass(1);
    assert_eq!(node.raft.transfer(NodeId(2), node.now), Err(Refusal::Unreachable));
    node.raft
        .transfer(NodeId::NONE, node.now)
        .expect("node 3 was just heard");

    let mut alone = Lone::with(0, &[], |config| config.voters = vec![NodeId(1)]);
    alone.pass(0);
    alone.sync();
    assert_eq!(alone.state(), NodeState::Leader);
    assert_eq!(
        alone.raft.transfer(NodeId::NONE, alone.now),
        Err(Refusal::UnknownMember)
    );
}

#[test]
fn a_learner_is_handed_nothing_however_much_of_the_log_it_has() {
    let mut node = Lone::new();
    let term = node.lead();
    node.step(2, term, matched(1));
    node.raft
        .change(&add(4, false), Incarnation(0), node.now, &mut node.log)
        .expect("it leads");
    node.drain();
    node.sync();
    node.step(4, term, matched(2));
    node.look();
    assert_eq!(node.raft.transfer(NodeId(4), node.now), Err(Refusal::UnknownMember));
    node.raft.transfer(NodeId::NONE, node.now).expect("voters were heard");
    node.drain();
    node.look();
    node.step(2, term, matched(2));
    assert!(node.look().contains(&(2, Body::TimeoutNow)));
}

/// A leader whose no-op at 1 is applied, and which hands over to node 2 or 3; only node 3 is known to have the no-op.
fn transferring(to: u64) -> (Lone, u64) {
    let mut node = Lone::new();
    let term = node.lead();
    node.step(3, term, matched(1));
    node.raft.transfer(NodeId(to), node.now).expect("it was heard");
    node.drain();
    node.outputs.clear();
    node.look();
    (node, term)
}

#[track_caller]
fn check_end(node: &mut Lone, result: Result<u64, Refusal>) {
    let (to, result) = (NodeId(2), result.map(NodeId));
    node.drain();
    node.outputs
        .retain(|output| matches!(output, Output::Transferred { .. }));
    assert_eq!(node.outputs, [Output::Transferred { to, result }]);
    assert!(!node.raft.is_transferring());
}

#[test]
fn the_successor_is_told_once_it_has_all_and_all_is_applied() {
    let (mut node, term) = transferring(2);
    assert_eq!(node.look(), [], "node 2 has not acknowledged the no-op");
    node.step(2, term, matched(1));
    assert_eq!(node.look(), [(2, Body::TimeoutNow)]);
    node.step(2, term, matched(1));
    assert_eq!(node.look(), [], "once");
}

#[test]
fn a_leader_that_loses_its_term_to_another_says_so() {
    let (mut node, term) = transferring(2);
    node.step(2, term, matched(1));
    let mut asked = vote(false, term + 1, (1, term));
    if let Body::Vote(vote) = &mut asked {
        vote.by_transfer = true;
    }
    node.step(2, term + 1, asked);
    assert_eq!(node.state(), NodeState::Follower);
    assert!(node.raft.is_transferring(), "nobody is known to lead");
    node.step(3, term + 2, heartbeat(0));
    check_end(&mut node, Err(Refusal::NotLeader));

    let (mut node, term) = transferring(2);
    node.step(2, term + 1, heartbeat(0));
    check_end(&mut node, Ok(2));

    let (mut node, _) = transferring(2);
    node.raft.room(0, node.now);
    check_end(&mut node, Err(Refusal::NotLeader));

    // It is deposed, and nobody comes after it.
    let (mut node, term) = transferring(2);
    node.step(3, term + 1, vote(true, term + 2, (1, term)));
    node.step(3, term + 1, voted(false, false, term));
    assert_eq!(node.state(), NodeState::Follower);
    let end = node.raft.deadline().expect("it waits");
    assert!(end <= node.now + Duration::from_millis(BOUND_MS));
    node.pass(BOUND_MS);
    check_end(&mut node, Err(Refusal::TimedOut));
}

#[test]
fn a_successor_that_is_lost_is_replaced_if_any_will_do() {
    let mut node = Lone::new();
    let term = node.lead();
    node.step(3, term, matched(1));
    node.raft.transfer(NodeId::NONE, node.now).expect("both are heard");
    node.drain();
    assert!(node.look().contains(&(3, Body::TimeoutNow)), "it has more of the log");
    node.raft.unreachable(NodeId(3), node.now);
    node.step(2, term, matched(1));
    assert!(node.look().contains(&(2, Body::TimeoutNow)));
    node.outputs.clear();
    node.raft.unreachable(NodeId(3), node.now);
    node.drain();
    assert_eq!(node.outputs, [], "it is asked for no more");
    node.pass(150);
    node.raft.unreachable(NodeId(2), node.now);
    check_end(&mut node, Err(Refusal::Unreachable));
}

#[test]
fn one_successor_is_tried_behind_another_and_no_third() {
    let mut node = Lone::new();
    let term = node.lead();
    node.step(3, term, matched(1));
    node.raft.transfer(NodeId::NONE, node.now).expect("both are heard");
    node.drain();
    assert!(node.look().contains(&(3, Body::TimeoutNow)), "it has more of the log");
    node.raft.unreachable(NodeId(3), node.now);
    node.step(2, term, matched(1));
    assert!(node.look().contains(&(2, Body::TimeoutNow)));
    node.outputs.clear();
    // The first one is back, and the other one does not campaign.
    for _ in 0..2 {
        node.pass(BOUND_MS / 2 - 1);
        node.step(3, term, matched(1));
        assert!(!node.look().iter().any(|(_, body)| *body == Body::TimeoutNow));
        assert!(node.raft.is_transferring());
        node.pass(1);
        node.step(3, term, matched(1));
        assert!(!node.look().iter().any(|(_, body)| *body == Body::TimeoutNow));
    }
    check_end(&mut node, Err(Refusal::TimedOut));
}

/// A leader that stopped waited out an election timeout for a successor that was recovering, while another one was idle.
#[test]
fn a_successor_that_does_not_campaign_is_replaced_if_any_will_do() {
    let told = |named: u64| {
        let mut node = Lone::new();
        let term = node.lead();
        for peer in [2, 3] {
            node.step(peer, term, matched(1));
        }
        node.raft.transfer(NodeId(named), node.now).expect("both are heard");
        node.drain();
        let mut told = Vec::new();
        for millis in [0, BOUND_MS / 2 - 1, 1, BOUND_MS / 2 - 1] {
            node.pass(millis);
            for peer in [2, 3] {
                node.step(peer, term, matched(1));
            }
            let sent = node.look().into_iter().filter(|(_, body)| *body == Body::TimeoutNow);
            told.push(sent.map(|(to, _)| to).collect::<Vec<_>>());
        }
        assert!(node.raft.is_transferring(), "it may come about still");
        node.outputs.clear();
        node.pass(1);
        let ended = node.outputs.iter().filter_map(|output| match output {
            Output::Transferred { to, result } => Some((to.0, *result)),
            _ => None,
        });
        (told, ended.collect::<Vec<_>>())
    };
    let timed_out = Err(Refusal::TimedOut);
    assert_eq!(told(0), (vec![vec![3], vec![], vec![2], vec![]], vec![(2, timed_out)]));
    assert_eq!(told(3), (vec![vec![3], vec![], vec![], vec![]], vec![(3, timed_out)]));
}

#[test]
fn who_is_told_to_campaign_asks_for_votes_at_once_and_says_why() {
    let mut node = Lone::new();
    node.step(2, 3, append((0, 0), &[3], 1));
    node.sync();
    node.look();
    node.step(2, 3, Body::TimeoutNow);
    assert_eq!(
        (node.state(), node.term()),
        (NodeState::Candidate, 4),
        "without a pre-vote"
    );
    assert_eq!(node.look(), [], "its vote is not durable");
    node.sync();
    let asked = node.look();
    assert_eq!(asked.len(), 2);
    for (_, body) in asked {
        assert!(matches!(body, Body::Vote(vote) if vote.by_transfer && !vote.pre && vote.term == Term(4)));
    }
    node.step(3, 4, voted(false, true, 4));
    assert_eq!(node.state(), NodeState::Leader);
    // The next candidacy is its own.
    let mut node = Lone::new();
    node.step(2, 3, append((0, 0), &[3], 1));
    node.step(2, 3, Body::TimeoutNow);
    node.pass(BOUND_MS);
    node.sync();
    node.step(3, 4, voted(true, true, 5));
    node.sync();
    let asked = node.look();
    assert!(
        asked
            .iter()
            .any(|(_, body)| matches!(body, Body::Vote(vote) if vote.term == Term(5))),
        "{asked:?}"
    );
    for (_, body) in asked {
        assert!(!matches!(body, Body::Vote(vote) if vote.by_transfer), "{body:?}");
    }
}

#[test]
fn nobody_campaigns_for_a_leader_of_the_past_nor_for_one_that_does_not_lead() {
    let mut node = Lone::new();
    node.step(2, 3, append((0, 0), &[3], 1));
    node.sync();
    node.look();
    node.step(2, 2, Body::TimeoutNow);
    node.step(3, 1, Body::TimeoutNow);
    assert_eq!((node.state(), node.term()), (NodeState::Follower, 3));
    assert_eq!(node.try_step(3, 3, Body::TimeoutNow), Err(Violation::SecondLeader));
    // Who is no member here may lead, since this node's configuration may be behind; but not two in a term.
    assert_eq!(node.try_step(9, 3, Body::TimeoutNow), Err(Violation::SecondLeader));
    // Of a term that it did not know, so that its log is of another one.
    node.step(3, 5, Body::TimeoutNow);
    assert_eq!((node.state(), node.term()), (NodeState::Follower, 5));
    assert_eq!(node.raft.status().leader, NodeId(3));
    assert_eq!(node.raft.status().last, Index(1));

    let mut leader = Lone::new();
    let term = leader.lead();
    assert_eq!(leader.try_step(2, term, Body::TimeoutNow), Err(Violation::SecondLeader));
}

#[test]
fn who_could_not_lead_leaves_the_leader_in_office() {
    let follower = || {
        let mut node = Lone::new();
        node.step(2, 3, append((0, 0), &[3], 1));
        node
    };
    let mut node = follower();
    node.sync();
    node.raft.room(100, node.now);
    node.step(2, 3, Body::TimeoutNow);
    assert_eq!(node.state(), NodeState::Follower, "its no-op would hardly fit");
    let mut node = follower();
    node.now += Duration::from_secs(1);
    node.step(2, 3, heartbeat(0));
    node.step(2, 3, Body::TimeoutNow);
    assert_eq!(node.state(), NodeState::Follower, "its disk does not answer");
}
