//! Appends, heartbeats, commitment.

use kraft_core::id::{Index, NodeId, Term};
use kraft_core::message::{AppendResult, Body, EntryKind, NodeState, Refusal};
use kraft_core::raft::Output;

use crate::cluster::{Cluster, Wire};
use crate::lone::{Lone, append, heartbeat, matched, rejected, terms, vote};

fn commit(node: &Lone) -> u64 {
    node.raft.status().commit.0
}

/// What node 1 sent to `to` as appends: the place before, and how many entries.
fn appends(node: &mut Lone, to: u64) -> Vec<(u64, usize)> {
    let sent: Vec<_> = node.sent.drain(..).collect();
    let append = |wire: &Wire| match &wire.body {
        Body::Append(append) if wire.to.0 == to => Some((append.prev_index.0, wire.entries.len())),
        _ => None,
    };
    sent.iter().filter_map(append).collect()
}

#[test]
fn figure8_commit_old_term() {
    // It has an entry of term 2 that a majority comes to have, and commits it only by one of its own.
    let mut node = Lone::recovered(3, &[1, 2]);
    let term = node.lead();
    node.step(2, term, matched(2));
    assert_eq!(
        commit(&node),
        0,
        "a majority has the entry of term 2, which says nothing (thesis fig. 3.7)"
    );
    node.step(2, term, matched(3));
    assert_eq!(commit(&node), 3);
}

#[test]
fn noop_on_new_leader() {
    let mut cluster = Cluster::new(3, 1);
    cluster.commit(2);
    let old = cluster.elect();
    cluster.isolate(old);
    let _ = cluster.propose(old, 3);
    cluster.crash(old);
    cluster.heal();
    let leader = cluster.elect();
    let status = cluster.status(leader);
    let entry = cluster
        .node(leader)
        .disk
        .written
        .entry(status.commit)
        .expect("its first")
        .clone();
    assert_eq!((entry.kind, entry.term), (EntryKind::Noop, status.hard.term));
}

#[test]
fn conflict_truncate_only_on_mismatch() {
    let mut node = Lone::new();
    node.step(2, 2, append((0, 0), &[1, 1, 2, 2], 0));
    node.step(2, 2, append((0, 0), &[1, 1], 0));
    node.step(2, 2, append((1, 1), &[], 0));
    assert_eq!(terms(&node), [1, 1, 2, 2], "a late, shorter append removes nothing");
    assert!(!node.outputs.iter().any(|output| matches!(output, Output::Truncate(_))));
    node.step(3, 3, append((2, 1), &[3], 0));
    assert_eq!(terms(&node), [1, 1, 3]);
    assert!(node.outputs.contains(&Output::Truncate(Index(3))));
}

#[test]
fn commit_capped_by_last_new() {
    let mut node = Lone::recovered(2, &[1, 2, 2, 2]);
    node.step(2, 3, heartbeat(4));
    assert_eq!(commit(&node), 0, "nothing of its log is known to be the leader's");
    node.step(2, 3, append((0, 0), &[1], 4));
    assert_eq!(commit(&node), 1);
    node.step(2, 3, append((1, 1), &[3], 4));
    node.step(2, 3, heartbeat(9));
    assert_eq!((commit(&node), terms(&node)), (2, vec![3]));
}

#[test]
fn reordered_append_responses() {
    let mut node = Lone::new();
    let term = node.lead();
    node.step(2, term, matched(1));
    node.propose(4);
    node.step(2, term, matched(4));
    node.step(2, term, matched(2));
    node.step(2, term, rejected(1, (0, 0)));
    assert_eq!(node.raft.progress(NodeId(2)).0, Index(4));
    node.sync();
    assert_eq!(commit(&node), 4);
}

#[test]
fn an_acknowledgement_waits_for_the_disk() {
    let mut node = Lone::new();
    node.step(2, 1, append((0, 0), &[1, 1], 0));
    assert_eq!(node.look(), []);
    node.sync();
    assert_eq!(node.look(), [(2, matched(2))]);
    node.step(2, 1, append((0, 0), &[1, 1], 0));
    assert_eq!(
        node.look(),
        [(2, matched(2))],
        "what is durable already is acknowledged again at once"
    );
}

#[test]
fn an_old_term_s_append_is_answered_so_that_its_leader_learns() {
    let mut node = Lone::recovered(5, &[]);
    node.step(2, 3, append((0, 0), &[3], 1));
    assert_eq!((node.sent.len(), node.sent[0].header.term), (1, Term(5)));
    let mut leader = Lone::new();
    leader.lead();
    let wire = node.sent.remove(0);
    leader.step(2, 5, wire.body);
    assert_eq!((leader.state(), leader.term()), (NodeState::Follower, 5));
}

#[test]
fn append_aba_race() {
    let mut node = Lone::new();
    node.step(2, 2, append((0, 0), &[2, 2], 0));
    let old = node.sync;
    node.step(3, 3, append((0, 0), &[3, 3], 0));
    node.raft.synced(old, node.now, &mut node.log);
    node.drain();
    assert_eq!((node.look(), node.raft.status().durable), (vec![], Index(0)));
    node.sync();
    assert_eq!(node.look(), [(3, matched(2))]);
}

/// Two appends in one turn, the second overwrites the first before anything was drained.
#[test]
fn a_truncation_withdraws_what_was_not_handed_out() {
    let mut node = Lone::new();
    let term = node.lead();
    node.propose(1);
    node.look();
    node.outputs.clear();
    let mut payloads = [7, 8].map(|number| crate::cluster::proposal(number, 16)).into_iter();
    node.raft
        .propose(&mut payloads, 32, node.now, &mut node.log)
        .expect("it leads");
    // Not drained. A later leader overwrites all of it.
    node.step(3, term + 1, append((0, 0), &[term + 1], 0));
    let appended: Vec<_> = node
        .outputs
        .iter()
        .filter(|output| matches!(output, Output::Append(_)))
        .collect();
    assert_eq!(appended, [&Output::Append(Index(1)..Index(2))]);
    assert!(
        node.look().iter().all(|(_, body)| !matches!(body, Body::Append(_))),
        "no more of its own appends"
    );
}

#[test]
fn probe_pause_stuck() {
    let mut node = Lone::new();
    let term = node.lead();
    node.propose(3);
    assert_eq!(appends(&mut node, 2), [], "one probe is out, and its answer is lost");
    node.step(
        2,
        term,
        Body::HeartbeatReply(kraft_core::message::HeartbeatReply {
            round: kraft_core::id::Round(0),
            promise_us: 0,
        }),
    );
    assert_eq!(appends(&mut node, 2), [(0, 4)]);

    let mut cluster = Cluster::new(3, 2);
    let leader = cluster.elect();
    let follower = leader % 3 + 1;
    let mut dropped = 0;
    cluster.filter = Some(Box::new(move |wire| {
        let drops = dropped < 5 && wire.header.from.0 == follower && matches!(wire.body, Body::AppendReply(_));
        dropped += usize::from(drops);
        !drops
    }));
    cluster.commit(5);
}

#[test]
fn appends_lost_in_the_window_are_sent_again() {
    let mut cluster = Cluster::new(3, 3);
    cluster.commit(1);
    let leader = cluster.elect();
    let follower = leader % 3 + 1;
    cluster.cut.insert((leader, follower));
    for _ in 0..5 {
        cluster.propose(leader, 4).expect("it leads");
        cluster.run_for(5);
    }
    cluster.heal();
    cluster.commit(1);
    assert_eq!(cluster.leader(), Some(leader), "no election was needed");
}

#[test]
fn a_diverged_follower_is_met_in_a_few_probes() {
    // Logs as in etcd's comment: the follower's tail has greater terms than the leader's.
    let mut node = Lone::recovered(8, &[1, 3, 3, 3, 3, 3, 3, 3, 7]);
    let term = node.lead();
    let mut follower = Lone::recovered(6, &[1, 3, 3, 4, 4, 5, 5, 5, 6]);
    node.propose(1);
    let mut probes = 0;
    let mut probe = (append((9, 7), &[], 0), term);
    loop {
        follower.step(2, probe.1, probe.0);
        let (_, reply) = follower.look().pop().expect("an answer");
        let Body::AppendReply(reply) = reply else {
            panic!("{reply:?}")
        };
        if matches!(reply.result, AppendResult::Matched(_)) {
            break;
        }
        node.step(2, term, Body::AppendReply(reply));
        if let Some((prev, _)) = appends(&mut node, 2).pop() {
            let prev_term = [0, 1, 3, 3, 3, 3, 3, 3, 3, 7][prev as usize];
            probe = (append((prev, prev_term), &[], 0), term);
            probes += 1;
            assert!(probes <= 3, "{probes} probes");
        } else {
            // The entries between left memory; what matters is where it went.
            break;
        }
    }
}

/// An entry of the leader's term comes from that leader, and with it all before it.
#[test]
fn a_follower_that_restarts_in_its_leader_s_term_believes_its_commit_index() {
    for (log, commit) in [([2, 3], 2), ([2, 2], 0)] {
        let mut node = Lone::recovered(3, &log);
        node.step(2, 3, heartbeat(2));
        assert_eq!(node.raft.status().commit, Index(commit), "entries of terms {log:?}");
    }
}

#[test]
fn uncommitted_tail_quota() {
    let mut cluster = Cluster::with(3, 4, |config| {
        config.uncommitted_bytes_max = 160;
        config.check_quorum = false;
    });
    let leader = cluster.elect();
    cluster.isolate(leader);
    let accepted = (0..100).filter(|_| cluster.propose(leader, 1).is_ok()).count();
    assert_eq!(accepted, 10, "ten of 16 bytes");
    assert_eq!(cluster.propose(leader, 1), Err(Refusal::Overloaded));
    cluster.heal();
    cluster.run_until("committed", |cluster| {
        cluster
            .leader()
            .is_some_and(|id| cluster.status(id).commit == cluster.status(id).last)
    });
    cluster.commit(1);
}

#[test]
fn the_first_proposal_may_be_larger_than_the_quota() {
    let mut node = Lone::with(0, &[], |config| config.uncommitted_bytes_max = 8);
    node.lead();
    node.propose(1);
    let mut again = [crate::cluster::proposal(1, 16)].into_iter();
    assert_eq!(
        node.raft.propose(&mut again, 16, node.now, &mut node.log),
        Err(Refusal::Overloaded)
    );
}

#[test]
fn proposal_dropped_on_stepdown() {
    let mut cluster = Cluster::new(3, 5);
    let leader = cluster.elect();
    cluster.isolate(leader);
    let range = cluster.propose(leader, 3).expect("it leads");
    cluster.run_for(400);
    let (state, term, _) = *cluster.node(leader).roles.last().expect("it changed");
    assert_ne!(
        state,
        NodeState::Leader,
        "the driver is told that what is pending is unknown"
    );
    assert_eq!(cluster.propose(leader, 1), Err(Refusal::NotLeader));
    cluster.heal();
    cluster.commit(5);
    // What was pending is unknown, and in this case gone: others wrote in its place.
    let entry = cluster.node(leader).disk.written.entry(range.start).expect("something");
    assert!(entry.term > term);
}

#[test]
fn idle_followers_hear_of_a_commitment_soon() {
    let mut cluster = Cluster::new(3, 6);
    cluster.commit(1);
    let before = cluster.now;
    cluster.commit(1);
    let took = (cluster.now - before).as_millis();
    assert!(took < 10, "{took} ms, not a heartbeat interval");
}

#[test]
fn a_steady_stream_costs_two_messages_an_append() {
    let mut cluster = Cluster::new(3, 7);
    cluster.commit(1);
    let leader = cluster.elect();
    let before = cluster.sent;
    for _ in 0..100 {
        cluster.propose(leader, 10).expect("it leads");
        cluster.run_for(1);
    }
    let sent = cluster.sent - before;
    assert!(
        (400..500).contains(&sent),
        "{sent} messages for 100 appends to two followers"
    );
}

#[test]
fn a_leader_answers_no_vote_while_it_is_heard_and_yields_to_a_later_term() {
    let mut node = Lone::new();
    let term = node.lead();
    node.pass(200);
    node.step(3, term + 1, vote(false, term + 1, (9, term)));
    assert_eq!(node.term(), term + 1, "nobody was heard for the least election timeout");
    assert_eq!(node.state(), NodeState::Follower);
}
