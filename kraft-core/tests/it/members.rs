//! Changes of the members (thesis §4).

use std::time::Duration;

use kraft_core::id::{Incarnation, Index, NodeId, Term};
use kraft_core::laws::View;
use kraft_core::membership::{Configuration, Plan, Seat, Step};
use kraft_core::message::{Append, Body, Change, Entries, Entry, EntryKind, NodeState, Refusal, SnapshotId, Standing};
use kraft_core::raft::{Config, Raft, Violation};
use kraft_core::snapshot::{Head, Snapshot};
use kraft_core::storage::Recovered;
use kraft_core::time::Instant;

use crate::cluster::Cluster;
use crate::lone::{Lone, heartbeat, matched, terms};

pub(crate) fn add(node: u64, promote: bool) -> Change<'static> {
    Change::Add {
        node: NodeId(node),
        address: String::leak(format!("h{node}:1")),
        promote,
    }
}

pub(crate) fn promote(node: u64) -> Change<'static> {
    Change::Promote { node: NodeId(node) }
}

pub(crate) fn remove(node: u64) -> Change<'static> {
    Change::Remove { node: NodeId(node) }
}

pub(crate) fn replace(node: u64, by: u64) -> Change<'static> {
    Change::Replace {
        node: NodeId(node),
        by: NodeId(by),
        address: String::leak(format!("h{by}:1")),
    }
}

fn voters(configuration: &Configuration) -> Vec<u64> {
    configuration.voters().iter().map(|voter| voter.0).collect()
}

/// Whether every member that is up has this configuration in force and committed, and nothing is under way.
fn agree(cluster: &Cluster, expected: &[u64]) -> bool {
    let is_so = |id: u64| {
        let raft = cluster.node(id).raft.as_ref().expect("it is up");
        let (index, configuration) = raft.committed_configuration();
        raft.configuration().0 == index && voters(configuration) == expected && !configuration.is_joint()
    };
    expected.iter().all(|id| !cluster.node(*id).is_up() || is_so(*id))
}

#[track_caller]
pub(crate) fn settle(cluster: &mut Cluster, expected: &[u64]) {
    cluster.run_until(&format!("the voters are {expected:?}"), |cluster| {
        agree(cluster, expected)
    });
}

/// Some member of `among` that does not lead.
pub(crate) fn follower(cluster: &Cluster, among: &[u64], leader: u64) -> u64 {
    let mut others = among.iter().filter(|id| **id != leader && cluster.node(**id).is_up());
    *others.next().expect("there is one")
}

#[test]
fn a_node_is_added_catches_up_and_is_promoted_by_itself() {
    let mut cluster = Cluster::new(3, 1);
    cluster.commit(20);
    let leader = cluster.elect();
    let new = cluster.join();
    cluster.run_for(1_000);
    assert_eq!(
        cluster.status(new).hard.term,
        Term(0),
        "it knows of no majority, and does not ask"
    );
    cluster.change(leader, &add(new, true)).expect("it leads");
    settle(&mut cluster, &[1, 2, 3, 4]);
    let member = cluster
        .configuration(leader)
        .member(NodeId(new))
        .expect("it is one")
        .clone();
    assert_eq!((member.address.as_str(), member.seat), ("h4:1", Seat::Voter));
    cluster.commit(3);
    let of_new = cluster.node(new);
    assert_eq!(
        of_new.applied.len() as u64,
        cluster.status(leader).applied.0,
        "it has the whole log"
    );
    assert!(!of_new.members.is_empty(), "its driver was told");
    // It counts: with two of the others gone there are two of four.
    let gone: Vec<_> = (1..=3).filter(|id| *id != leader).collect();
    cluster.crash(gone[0]);
    cluster.commit(1);
    cluster.crash(gone[1]);
    let last = cluster.propose(leader, 1).expect("it leads").start;
    cluster.run_for(100);
    assert!(cluster.status(leader).commit < last);
}

#[test]
fn learner_promotion_lag() {
    let mut cluster = Cluster::new(3, 2);
    cluster.commit(1);
    let leader = cluster.elect();
    let new = cluster.join();
    cluster.cut.insert((new, leader));
    cluster.change(leader, &add(new, false)).expect("it leads");
    cluster.commit_at_leader(5);
    assert_eq!(cluster.change(leader, &promote(new)), Err(Refusal::NotCaughtUp));
    cluster.heal();
    cluster.run_until("caught up", |cluster| {
        cluster
            .node(leader)
            .raft
            .as_ref()
            .expect("it is up")
            .is_caught_up(NodeId(new))
    });
    assert_eq!(
        cluster.status(new).leader,
        NodeId(leader),
        "a learner has the log and the heartbeats"
    );
    // It does not count: with both followers gone nothing is committed.
    for id in (1..=3).filter(|id| *id != leader) {
        cluster.crash(id);
    }
    let last = cluster.propose(leader, 1).expect("it leads").start;
    cluster.run_for(100);
    assert!(cluster.status(new).last == last && cluster.status(leader).commit < last);
    // Nor does it vote for itself, or keep a leader in office.
    cluster.run_for(2_000);
    assert_eq!(cluster.leader(), None);
    assert_eq!(cluster.status(new).state, NodeState::Follower);
    assert_eq!(
        cluster.status(new).leader,
        NodeId::NONE,
        "it forgets a leader that it does not hear"
    );
    for id in (1..=3).filter(|id| *id != leader) {
        cluster.restart(id);
    }
    let leader = cluster.elect();
    cluster.run_for(100);
    cluster.change(leader, &promote(new)).expect("it has caught up");
    settle(&mut cluster, &[1, 2, 3, 4]);
}

#[test]
fn single_server_change_bug() {
    // Four nodes; the leader of the first term removes a node, and nobody hears of it.
    let mut cluster = Cluster::new(4, 3);
    cluster.commit(1);
    let old = cluster.elect();
    cluster.isolate(old);
    let removed = follower(&cluster, &[1, 2, 3, 4], old);
    cluster.change(old, &remove(removed)).expect("it leads");
    assert_eq!(
        cluster.configuration(old).voters().len(),
        3,
        "in force as soon as it is appended"
    );
    // The next one may not add one before it has committed an entry of its own.
    let news = cluster.join();
    cluster.cut_both(old, news);
    cluster.filter = Some(Box::new(|wire| !matches!(wire.body, Body::AppendReply(_))));
    cluster.run_until("another leader", |cluster| {
        cluster.leader().is_some_and(|leader| leader != old)
    });
    let leader = cluster.leader().expect("it was just seen");
    assert_eq!(cluster.change(leader, &add(news, true)), Err(Refusal::ChangeUnderWay));
    assert_eq!(
        cluster.reconfigure(leader, &[Step::Voter(NodeId(news))]),
        Err(Refusal::ChangeUnderWay)
    );
    cluster.heal();
    let leader = cluster.elect();
    cluster.change(leader, &add(news, true)).expect("its term has begun");
    settle(&mut cluster, &[1, 2, 3, 4, 5]);
}

#[test]
fn conf_change_uncommitted_rollback() {
    let mut cluster = Cluster::new(3, 4);
    cluster.commit(1);
    let old = cluster.elect();
    cluster.isolate(old);
    let other = follower(&cluster, &[1, 2, 3], old);
    let index = cluster.change(old, &remove(other)).expect("it leads");
    assert_eq!(cluster.configuration(old).voters().len(), 2);
    assert_eq!(
        cluster.change(old, &add(9, false)),
        Err(Refusal::ChangeUnderWay),
        "one at a time"
    );
    cluster.run_until("another leader", |cluster| {
        cluster.leader().is_some_and(|leader| leader != old)
    });
    cluster.commit_at_leader(3);
    cluster.heal();
    cluster.commit(1);
    assert_eq!(voters(cluster.configuration(old)), [1, 2, 3]);
    assert_eq!(cluster.node(old).members, [(index, Index(0)), (Index(0), Index(0))]);
    // The quorum is that of three again, at the one that forgot it as well.
    cluster.crash(other);
    cluster.commit(1);
    cluster.run_until("it leads again, or follows", |cluster| cluster.leader().is_some());
    let third = (1..=3).find(|id| *id != old && *id != other).expect("three");
    cluster.crash(third);
    cluster.run_for(3_000);
    assert_eq!(cluster.leader(), None, "one of three is no majority");
}

#[test]
fn joint_consensus_leader_removed() {
    let mut cluster = Cluster::new(3, 5);
    cluster.commit(2);
    let leader = cluster.elect();
    for _ in 0..2 {
        let new = cluster.join();
        cluster.change(leader, &add(new, false)).expect("it leads");
        cluster.run_until("added", |cluster| {
            cluster.status(leader).commit >= cluster.status(leader).membership
        });
    }
    cluster.run_for(100);
    // Everybody goes but one, and the leader, too: {leader, a, b} becomes {b, 4, 5}.
    let gone = follower(&cluster, &[1, 2, 3], leader);
    let stays = (1..=3).find(|id| ![leader, gone].contains(id)).expect("three");
    let steps = [
        Step::Remove(NodeId(leader)),
        Step::Remove(NodeId(gone)),
        Step::Voter(NodeId(4)),
        Step::Voter(NodeId(5)),
    ];
    cluster.reconfigure(leader, &steps).expect("it leads");
    assert!(cluster.configuration(leader).is_joint());
    assert_eq!(
        cluster.configuration(leader).member(NodeId(leader)).map(|of| of.seat),
        Some(Seat::Leaving)
    );
    cluster.run_until("left", |cluster| !cluster.configuration(leader).is_joint());
    // One of the three that count is there, and the leader, which does not.
    cluster.isolate(4);
    cluster.isolate(5);
    let index = cluster.status(leader).membership;
    cluster.run_for(100);
    assert_eq!(
        cluster.status(leader).state,
        NodeState::Leader,
        "it leads until that is committed"
    );
    assert!(cluster.status(leader).commit < index && cluster.status(stays).last >= index);
    assert!(!cluster.status(leader).is_removed);
    cluster.heal();
    cluster.run_until("it gives way", |cluster| cluster.status(leader).is_removed);
    let status = cluster.status(leader);
    assert_eq!((status.state, status.commit >= index), (NodeState::Follower, true));
    settle(&mut cluster, &[stays, 4, 5]);
    cluster.commit(3);
    let term = cluster.status(leader).hard.term;
    cluster.run_for(5_000);
    assert_eq!(cluster.status(leader).hard.term, term, "it campaigns no more");
    let role = cluster.node(leader).roles.last().expect("it led").0;
    assert_eq!(role, NodeState::Follower);
}

#[test]
fn a_leader_that_removes_itself_is_succeeded_before_anybody_times_out() {
    for seed in 0..10 {
        let mut cluster = Cluster::new(5, seed);
        cluster.commit(2);
        let leader = cluster.elect();
        let elections = cluster.elections();
        // One lags, and would not be elected.
        let lagging = leader % 5 + 1;
        cluster.cut.insert((leader, lagging));
        cluster.commit_at_leader(3);
        cluster.change(leader, &remove(leader)).expect("it leads");
        cluster.run_until("it gives way", |cluster| cluster.status(leader).is_removed);
        let began = cluster.now;
        cluster.run_until("another one leads", |cluster| cluster.leader().is_some());
        assert!(
            cluster.now - began < Duration::from_millis(10),
            "{:?}",
            cluster.now - began
        );
        assert_eq!(cluster.elections(), elections + 1);
        assert_ne!(cluster.leader(), Some(lagging));
        cluster.heal();
        cluster.commit(1);
    }
}

/// Thesis figure 4.6.
#[test]
fn a_leader_that_removes_itself_may_be_needed_once_more() {
    let mut cluster = Cluster::new(2, 6);
    cluster.commit(1);
    let leader = cluster.elect();
    let other = 3 - leader;
    cluster.isolate(leader);
    let index = cluster.change(leader, &remove(leader)).expect("it leads");
    cluster.run_until("on its disk", |cluster| cluster.status(leader).durable >= index);
    cluster.crash(leader);
    cluster.crash(other);
    cluster.heal();
    cluster.restart(other);
    cluster.run_for(2_000);
    assert_eq!(cluster.leader(), None, "it lacks the entry, and needs both");
    cluster.restart(leader);
    settle(&mut cluster, &[other]);
    cluster.run_until("the removed one knows", |cluster| cluster.status(leader).is_removed);
    cluster.commit(1);
}

#[test]
fn auto_leave_joint_crash() {
    // The first leader dies when the joint configuration is appended, or a while later.
    for micros in (0..3_000).step_by(100) {
        let mut cluster = Cluster::new(3, 7 + micros);
        cluster.commit(1);
        let leader = cluster.elect();
        let new = cluster.join();
        cluster.change(leader, &add(new, false)).expect("it leads");
        cluster.commit(1);
        let gone = follower(&cluster, &[1, 2, 3], leader);
        let steps = [Step::Voter(NodeId(new)), Step::Remove(NodeId(gone))];
        let index = cluster.reconfigure(leader, &steps).expect("it leads");
        cluster.run_until("others have it", |cluster| {
            let have = |id: &u64| *id != leader && cluster.status(*id).durable >= index;
            cluster.ids().filter(have).count() >= 2
        });
        let end = cluster.now + Duration::from_micros(micros);
        while cluster.now < end {
            cluster.step();
        }
        cluster.crash(leader);
        let kept: Vec<_> = (1..=4).filter(|id| *id != gone).collect();
        settle(&mut cluster, &kept);
        cluster.restart(leader);
        settle(&mut cluster, &kept);
        cluster.commit(1);
    }
}

#[test]
fn duplicate_conf_change_retry() {
    let mut cluster = Cluster::new(3, 8);
    cluster.commit(1);
    let leader = cluster.elect();
    let (new, next) = (cluster.join(), cluster.join());
    let gone = follower(&cluster, &[1, 2, 3], leader);
    let moved = Change::Move {
        node: NodeId(new),
        address: "elsewhere:2",
    };
    let changes = [add(new, true), moved, remove(gone), replace(new, next)];
    for change in changes {
        cluster.run_for(500);
        let last = cluster.status(leader).last;
        let index = cluster.change(leader, &change).expect("it can be");
        assert_eq!((index, cluster.status(leader).last), (last.next(), last.next()));
        // Again while it is under way, which may have gone on by itself since, and when it is through.
        let change = match change {
            Change::Add { node, promote, .. } => Change::Add {
                node,
                address: "h4:1",
                promote,
            },
            other => other,
        };
        assert_eq!(cluster.change(leader, &change), Ok(index), "{change:?}");
        assert_eq!(cluster.status(leader).last, index);
        cluster.run_for(1_000);
        let last = cluster.status(leader).last;
        let through = cluster.status(leader).membership;
        assert_eq!(cluster.change(leader, &change), Ok(through), "{change:?}");
        assert_eq!(cluster.status(leader).last, last);
    }
    let mut kept = vec![
        leader,
        (1..=3).find(|id| ![leader, gone].contains(id)).expect("three"),
        next,
    ];
    kept.sort_unstable();
    settle(&mut cluster, &kept);
    assert_eq!(
        cluster.change(leader, &remove(gone)),
        Ok(cluster.status(leader).membership)
    );
}

#[test]
fn a_dead_member_is_replaced() {
    let mut cluster = Cluster::new(3, 9);
    cluster.commit(5);
    let leader = cluster.elect();
    let dead = follower(&cluster, &[1, 2, 3], leader);
    cluster.crash(dead);
    let new = cluster.join();
    cluster.cut_both(new, leader);
    cluster.change(leader, &replace(dead, new)).expect("it leads");
    cluster.commit_at_leader(3);
    assert!(
        cluster.configuration(leader).votes(NodeId(dead)),
        "it goes when the other one is there"
    );
    cluster.heal();
    let kept: Vec<_> = (1..=4).filter(|id| *id != dead).collect();
    settle(&mut cluster, &kept);
    // Its disk comes back to life: it is no member any more, and disturbs nobody.
    let term = cluster.status(leader).hard.term;
    cluster.restart(dead);
    cluster.run_for(3_000);
    assert_eq!(
        (cluster.status(leader).hard.term, cluster.leader()),
        (term, Some(leader))
    );
    cluster.commit(1);
}

#[test]
fn a_removed_node_that_can_be_reached_is_told() {
    let mut cluster = Cluster::new(4, 10);
    cluster.commit(1);
    let leader = cluster.elect();
    let gone = follower(&cluster, &[1, 2, 3, 4], leader);
    cluster.change(leader, &remove(gone)).expect("it leads");
    cluster.run_until("it is told", |cluster| cluster.status(gone).is_removed);
    let term = cluster.status(gone).hard.term;
    cluster.run_for(5_000);
    assert_eq!(cluster.status(gone).hard.term, term);
    assert_eq!(cluster.status(gone).state, NodeState::Follower);
    assert_eq!(cluster.leader(), Some(leader));
    // A restart forgets what is committed: it asks, and nobody listens.
    cluster.crash(gone);
    cluster.restart(gone);
    cluster.run_for(5_000);
    assert_eq!((cluster.status(gone).hard.term, cluster.leader()), (term, Some(leader)));
}

#[test]
fn add_node_to_single() {
    let mut cluster = Cluster::new(1, 11);
    cluster.commit(3);
    // As a learner first: while it cannot be reached everything goes on.
    let new = cluster.join();
    cluster.isolate(new);
    cluster.change(1, &add(new, true)).expect("it leads");
    cluster.commit_at_leader(3);
    cluster.run_for(1_000);
    assert_eq!((cluster.leader(), voters(cluster.configuration(1))), (Some(1), vec![1]));
    cluster.heal();
    settle(&mut cluster, &[1, 2]);
    cluster.commit(1);
    // Back to one: either may be the one that stays.
    let leader = cluster.elect();
    cluster.change(leader, &remove(3 - leader)).expect("it leads");
    settle(&mut cluster, &[leader]);
    cluster.commit(1);
}

#[test]
fn a_voter_that_cannot_be_reached_stops_a_single_one_and_loses_nothing() {
    let mut cluster = Cluster::new(1, 12);
    cluster.commit(3);
    let new = cluster.join();
    cluster.isolate(new);
    let index = cluster.reconfigure(1, &[Step::Voter(NodeId(new))]).expect("it leads");
    cluster.run_for(100);
    assert_eq!(
        cluster.status(1).state,
        NodeState::Leader,
        "it gives the new one time to answer"
    );
    cluster.run_for(2_000);
    assert_eq!(
        (cluster.leader(), cluster.status(1).commit.next()),
        (None, index),
        "both are needed"
    );
    cluster.crash(1);
    cluster.restart(1);
    cluster.heal();
    settle(&mut cluster, &[1, 2]);
    cluster.commit(1);
    assert_eq!(cluster.node(2).applied, cluster.node(1).applied);
}

#[test]
fn a_change_that_cannot_be_is_refused_by_its_name() {
    let mut cluster = Cluster::new(3, 13);
    cluster.commit(1);
    let leader = cluster.elect();
    let other = follower(&cluster, &[1, 2, 3], leader);
    let mut refused = |id: u64, change: &Change<'_>| {
        let last = cluster.status(id).last;
        let why = cluster.change(id, change).expect_err("it cannot be");
        assert_eq!(cluster.status(id).last, last, "nothing happened");
        why
    };
    assert_eq!(refused(other, &add(4, false)), Refusal::NotLeader);
    assert_eq!(refused(leader, &promote(4)), Refusal::UnknownMember);
    assert_eq!(refused(leader, &remove(4)), Refusal::UnknownMember);
    assert_eq!(refused(leader, &replace(4, 5)), Refusal::UnknownMember);
    assert_eq!(refused(leader, &replace(other, other)), Refusal::MemberConflict);
    assert_eq!(refused(leader, &replace(other, leader)), Refusal::MemberConflict);
    assert_eq!(
        refused(leader, &add(other, true)),
        Refusal::MemberConflict,
        "at another address"
    );
    assert_eq!(refused(leader, &add(0, true)), Refusal::MemberConflict);
    let add_at = |address| Change::Add {
        node: NodeId(4),
        address,
        promote: false,
    };
    assert_eq!(refused(leader, &add_at("")), Refusal::Invalid);
    assert_eq!(refused(leader, &add_at(&"a".repeat(261))), Refusal::Invalid);
    let nowhere = Change::Move {
        node: NodeId(4),
        address: "h:1",
    };
    assert_eq!(refused(leader, &nowhere), Refusal::UnknownMember);

    let new = cluster.join();
    cluster.isolate(new);
    cluster.change(leader, &add(4, false)).expect("it can be");
    assert_eq!(cluster.change(leader, &add(5, false)), Err(Refusal::ChangeUnderWay));
    assert_eq!(cluster.change(leader, &remove(other)), Err(Refusal::ChangeUnderWay));
    cluster.commit_at_leader(1);
    let mut refused = |change: &Change<'_>| cluster.change(leader, change).expect_err("it cannot be");
    let same_address = Change::Add {
        node: NodeId(5),
        address: "h4:1",
        promote: false,
    };
    assert_eq!(refused(&same_address), Refusal::MemberConflict);
    let there = Change::Move {
        node: NodeId(leader),
        address: "h4:1",
    };
    assert_eq!(refused(&there), Refusal::MemberConflict);
    assert_eq!(refused(&promote(4)), Refusal::NotCaughtUp, "nobody has seen it");
    cluster.change(leader, &remove(4)).expect("it can be");
    cluster.commit_at_leader(1);
    assert_eq!(
        cluster.change(leader, &add(4, false)),
        Err(Refusal::MemberConflict),
        "ids are not used again"
    );
    let back = [Step::Voter(NodeId(4))];
    assert_eq!(cluster.reconfigure(leader, &back), Err(Refusal::MemberConflict));

    let mut single = Cluster::new(1, 14);
    single.commit(1);
    assert_eq!(single.change(1, &remove(1)), Err(Refusal::Voters));
    let mut many = Cluster::new(15, 14);
    many.commit(1);
    let leader = many.elect();
    assert_eq!(many.change(leader, &add(16, true)), Err(Refusal::Voters));
    assert_eq!(
        many.reconfigure(leader, &[Step::Voter(NodeId(16))]),
        Err(Refusal::Voters)
    );
    for id in 16..=31 {
        many.join();
        many.change(leader, &add(id, false))
            .expect("there is room for learners");
        many.commit_at_leader(1);
    }
    assert_eq!(many.change(leader, &add(32, false)), Err(Refusal::Voters));
}

#[test]
fn another_incarnation_is_another_node() {
    let mut node = Lone::new();
    let term = node.lead();
    node.step(2, term, matched(1));
    let mut change = |incarnation, log: &mut _| {
        node.raft
            .change(&add(4, false), Incarnation(incarnation), node.now, log)
    };
    let index = change(7, &mut node.log).expect("it leads");
    assert_eq!(change(7, &mut node.log), Ok(index));
    assert_eq!(change(0, &mut node.log), Ok(index), "who was not asked may be anybody");
    assert_eq!(change(8, &mut node.log), Err(Refusal::ChangeUnderWay));
    node.drain();
    node.sync();
    node.step(2, term, matched(index.0));
    let result = node
        .raft
        .change(&add(4, false), Incarnation(8), node.now, &mut node.log);
    assert_eq!(result, Err(Refusal::MemberConflict));
}

#[test]
fn reads_need_both_majorities_of_a_joint_configuration() {
    let mut cluster = Cluster::new(3, 15);
    cluster.commit(1);
    let leader = cluster.elect();
    let news: Vec<_> = (0..3).map(|_| cluster.join()).collect();
    let mut steps: Vec<_> = news.iter().map(|id| Step::Voter(NodeId(*id))).collect();
    steps.extend((1..=3).filter(|id| *id != leader).map(|id| Step::Remove(NodeId(id))));
    // The old ones are there, of the new ones none is.
    for id in &news {
        cluster.isolate(*id);
    }
    cluster.reconfigure(leader, &steps).expect("it leads");
    let read = cluster.read(leader).expect("it leads");
    cluster.run_for(100);
    assert_eq!(cluster.answers.get(&read), None);
    cluster.heal();
    cluster.run_until("it is answered", |cluster| cluster.answers.contains_key(&read));
    let mut kept = news;
    kept.insert(0, leader);
    settle(&mut cluster, &kept);
}

#[test]
fn a_learner_reads_by_asking_the_leader() {
    let mut cluster = Cluster::new(3, 16);
    cluster.commit(1);
    let leader = cluster.elect();
    let new = cluster.join();
    cluster.change(leader, &add(new, false)).expect("it leads");
    cluster.commit(1);
    let read = cluster.read(new).expect("it knows a leader");
    cluster.run_until("it is answered", |cluster| cluster.answers.contains_key(&read));
    assert_eq!(cluster.answers[&read], Ok(cluster.status(leader).commit));
}

/// An append of one entry that says who the members are.
fn membership(prev: (u64, u64), payload: Vec<u8>) -> Body<'static> {
    let entry = Entry {
        term: Term(3),
        kind: EntryKind::Membership,
        crc: 0,
        payload: payload.into(),
    };
    Body::Append(Append {
        prev_index: Index(prev.0),
        prev_term: Term(prev.1),
        commit: Index(0),
        round: kraft_core::id::Round(0),
        entries: Entries::Shared(Vec::leak(vec![entry]), &[]),
    })
}

#[test]
fn members_that_cannot_be_read_are_a_violation_and_nothing_is_taken() {
    let mut node = Lone::new();
    node.step(2, 3, heartbeat(0));
    let right = Configuration::founding(&[NodeId(1), NodeId(2)]).encode();
    let before = node.raft.status();
    for payload in [vec![], vec![9; 40], right[..right.len() - 1].to_vec()] {
        let result = node.try_step(2, 4, membership((0, 0), payload));
        assert_eq!(result, Err(Violation::Membership));
        assert_eq!(node.raft.status(), before);
        assert_eq!(terms(&node), [0; 0]);
    }
    node.step(2, 4, membership((0, 0), right.to_vec()));
    assert_eq!(voters(node.raft.configuration().1), [1, 2]);
    assert_eq!(node.raft.status().membership, Index(1));
    // What is there already is not read again.
    node.step(2, 4, membership((0, 0), right.to_vec()));
    assert_eq!(node.raft.configurations().len(), 2);
}

#[test]
fn conf_in_snapshot_lost() {
    let of = |ids: &[u64]| Configuration::founding(&ids.iter().copied().map(NodeId).collect::<Vec<_>>());
    let mut recovered = Recovered {
        base_index: Index(7),
        base_term: Term(2),
        terms: vec![(Index(8), Term(2))],
        last: Index(9),
        snapshot: Some(Snapshot {
            id: SnapshotId {
                index: Index(7),
                term: Term(2),
                ..SnapshotId::default()
            },
            head: Head {
                index: Index(7),
                term: Term(2),
                membership_index: Index(5),
                membership: of(&[1, 4, 5]).encode(),
            },
        }),
        ..Recovered::default()
    };
    let config = Config::new(NodeId(1), vec![NodeId(1), NodeId(2), NodeId(3)], 1);
    let start = |recovered: &Recovered| Raft::new(config.clone(), recovered, Instant::ZERO);
    let raft = start(&recovered).expect("it is right");
    assert_eq!(raft.configuration(), (Index(5), &of(&[1, 4, 5])));
    // Behind it is what the log says; it is in force, and not known to be committed.
    recovered.memberships = vec![(Index(9), of(&[1, 4]).encode())];
    let raft = start(&recovered).expect("it is right");
    assert_eq!(raft.configuration(), (Index(9), &of(&[1, 4])));
    assert_eq!(raft.committed_configuration(), (Index(5), &of(&[1, 4, 5])));
    recovered.memberships[0].1 = vec![7].into();
    let error = start(&recovered).expect_err("it cannot be read");
    assert!(error.contains("index 9") && error.contains("version 7"), "{error}");
}

#[test]
fn what_was_founded_with_addresses_tells_them_to_who_is_added() {
    let mut cluster = Cluster::with(1, 17, |config| config.addresses = vec![(NodeId(1), "a:1".into())]);
    cluster.commit(1);
    let new = cluster.join();
    cluster.change(1, &add(new, false)).expect("it leads");
    cluster.run_until("it knows", |cluster| cluster.status(new).membership > Index(0));
    let configuration = cluster.configuration(new);
    let told: Vec<_> = configuration
        .members()
        .iter()
        .map(|of| (of.address.as_str(), of.seat))
        .collect();
    assert_eq!(told, [("a:1", Seat::Voter), ("h2:1", Seat::Learner(Plan::Stay))]);
    let standing = |node: u64| configuration.member(NodeId(node)).map(|of| of.seat.standing());
    assert_eq!(
        (standing(1), standing(2)),
        (Some(Standing::Voter), Some(Standing::Learner))
    );
}

#[test]
fn who_is_sent_a_snapshot_learns_the_members_from_it() {
    let mut cluster = Cluster::with(3, 18, |config| {
        (config.snapshot_margin_entries, config.snapshot_margin_bytes) = (0, 0);
    });
    cluster.commit(3);
    let leader = cluster.elect();
    for _ in 0..2 {
        let new = cluster.join();
        cluster.isolate(new);
        cluster
            .change(leader, &add(new, false))
            .expect("it leads, and nothing is under way");
        cluster.commit_at_leader(20);
        cluster.snapshot(leader);
        cluster.run_for(500);
    }
    let raft = cluster.node(leader).raft.as_ref().expect("it is up");
    assert!(raft.base() > raft.configuration().0, "the log does not say it any more");
    cluster.heal();
    cluster.run_until("both have it", |cluster| {
        (4..=5).all(|id| cluster.status(id).membership == cluster.status(leader).membership)
    });
    assert!(cluster.node(4).snapshots.installed > 0);
    let told = cluster.configuration(leader).clone();
    assert_eq!(cluster.configuration(4), &told);
    // A restart has the snapshot alone.
    for id in [leader, 4] {
        cluster.crash(id);
        cluster.restart(id);
        assert_eq!(cluster.configuration(id), &told);
    }
    cluster.commit(1);
}
