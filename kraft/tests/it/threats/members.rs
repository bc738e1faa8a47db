//! Who is added, moved, replaced and removed, by whole nodes: what they dial, whom they believe, and what they say.

use std::time::Duration;

use kraft::id::{Incarnation, Index, NodeId};
use kraft::membership::{Plan, Seat};
use kraft::message::{Change, NodeState, Refusal};
use kraft::node::{Outcome, Ticket};
use kraft::protocols::Binary;

use super::lab::{Lab, address};
use super::line;

fn add(node: u64, promote: bool, at: &str) -> Change<'_> {
    Change::Add {
        node: NodeId(node),
        address: at,
        promote,
    }
}

/// Waits for the end of a change.
#[track_caller]
fn ended(lab: &mut Lab, ticket: Ticket<Outcome>) -> Outcome {
    let (sender, receiver) = std::sync::mpsc::channel();
    ticket.on_done(move |outcome| drop(sender.send(outcome)));
    let mut outcome = None;
    lab.run_until(|_| {
        outcome = outcome.take().or_else(|| receiver.try_recv().ok());
        outcome.is_some()
    });
    outcome.expect("it ended")
}

#[track_caller]
fn change(lab: &mut Lab, leader: u64, change: Change<'_>) -> Outcome {
    let ticket = lab.handle(leader).change(change);
    ended(lab, ticket)
}

#[track_caller]
fn done(lab: &mut Lab, leader: u64, of: Change<'_>) -> Index {
    match change(lab, leader, of) {
        Outcome::Committed(reply) => Change::index(&reply).expect("an index"),
        outcome => panic!("{of:?}: {outcome:?}"),
    }
}

#[track_caller]
fn refused(lab: &mut Lab, leader: u64, of: Change<'_>, expected: Refusal, words: &str) {
    let outcome = change(lab, leader, of);
    let Outcome::Refused { why, detail, .. } = &outcome else {
        panic!("{of:?}: {outcome:?}");
    };
    assert_eq!(*why, expected, "{detail}");
    assert!(detail.contains(words), "{detail:?} has no {words:?}");
}

fn at(id: u64) -> String {
    address(id).to_string()
}

fn seats(lab: &Lab, id: u64) -> Vec<(u64, Seat)> {
    let members = lab.node(id).configuration().1.members().iter();
    members.map(|member| (member.node.0, member.seat)).collect()
}

fn voters(lab: &Lab, id: u64) -> Vec<u64> {
    let voters = lab.node(id).configuration().1.voters().iter();
    voters.map(|voter| voter.0).collect()
}

/// Adds a node that waits to be added, and waits until it votes.
#[track_caller]
fn grow(lab: &mut Lab, leader: u64) -> u64 {
    let id = lab.join(Binary);
    done(lab, leader, add(id, true, &at(id)));
    lab.run_until(|lab| voters(lab, id).contains(&id) && is_settled(lab, leader));
    id
}

/// Whether the configuration in force is committed.
fn is_settled(lab: &Lab, id: u64) -> bool {
    let (index, configuration) = lab.node(id).configuration();
    let is_planned = configuration.members().iter().any(|member| {
        let Seat::Learner(plan) = member.seat else { return false };
        plan != Plan::Stay
    });
    lab.node(id).status().commit >= index && !configuration.is_joint() && !is_planned
}

/// Runs until somebody else leads.
#[track_caller]
fn succeed(lab: &mut Lab, gone: u64) -> u64 {
    let next =
        |lab: &Lab| (1..=lab.sites.len() as u64).find(|id| lab.is_up(*id) && lab.state(*id) == NodeState::Leader);
    lab.run_until(|lab| next(lab).is_some_and(|id| id != gone));
    lab.elect()
}

#[track_caller]
fn write(lab: &mut Lab, leader: u64) {
    let ticket = lab.handle(leader).propose(b"x"[..].into());
    assert!(matches!(ended(lab, ticket), Outcome::Committed(_)));
}

fn runs(lab: &Lab) -> Vec<u64> {
    let sites = 1..=lab.sites.len() as u64;
    sites.filter(|id| lab.is_up(*id)).collect()
}

#[test]
fn a_node_that_knows_nobody_is_added_and_votes_when_it_has_caught_up() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    write(&mut lab, leader);
    let id = grow(&mut lab, leader);
    assert_eq!(voters(&lab, id), [1, 2, 3, 4]);
    let configuration = lab.node(id).configuration().1;
    let own = configuration.member(NodeId(4)).expect("a member");
    assert_eq!(
        (own.incarnation, own.address.as_str()),
        (Incarnation(4), at(4).as_str())
    );
    assert_eq!(configuration.member(NodeId(1)).expect("a member").address, at(1));
    // It counts: with one of the old ones down it makes the majority, and can lead.
    let gone = (1..=3).find(|id| *id != leader).expect("a follower");
    lab.kill(gone);
    write(&mut lab, leader);
    let ticket = lab.handle(leader).transfer(NodeId(id));
    assert!(matches!(ended(&mut lab, ticket), Outcome::Committed(_)));
    lab.elect();
    write(&mut lab, id);
    assert_eq!(lab.state(id), NodeState::Leader);
    // A restart finds everybody in the log.
    lab.kill(id);
    lab.start(id, 0, Binary);
    lab.elect();
    assert_eq!(voters(&lab, id), [1, 2, 3, 4]);
}

/// Scenario 35.
#[test]
fn duplicate_conf_change_retry() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    let id = lab.join(Binary);
    let place = at(id);
    // At once, and again when it is so.
    let first = lab.handle(leader).change(add(id, true, &place));
    let second = lab.handle(leader).change(add(id, true, &place));
    let (first, second) = (ended(&mut lab, first), ended(&mut lab, second));
    assert!(matches!(first, Outcome::Committed(_)));
    assert_eq!(first, second);
    lab.run_until(|lab| voters(lab, leader).contains(&id));
    let index = lab.node(leader).configuration().0;
    assert_eq!(done(&mut lab, leader, add(id, true, &place)), index);
    let follower = (1..=3).find(|id| *id != leader).expect("a follower");
    lab.kill(id);
    assert_eq!(
        done(&mut lab, leader, add(id, true, &place)),
        index,
        "a member that is down is one"
    );
    let remove = Change::Remove { node: NodeId(id) };
    let removed = done(&mut lab, leader, remove);
    assert_eq!(done(&mut lab, leader, remove), removed);
    assert_eq!(lab.node(leader).configuration().0, removed);
    refused(&mut lab, follower, remove, Refusal::NotLeader, "");
}

/// Scenario 33.
#[test]
fn add_node_to_single() {
    let mut lab = Lab::cluster(1);
    lab.elect();
    refused(
        &mut lab,
        1,
        add(2, true, "10.0.0.2:7000"),
        Refusal::Unreachable,
        "see that it runs",
    );
    assert_eq!(lab.node(1).configuration().0, Index(0), "nothing is in the log");
    let id = grow(&mut lab, 1);
    assert_eq!(voters(&lab, 1), [1, 2]);
    write(&mut lab, 1);
    // Both are needed from here on: without the other one this one leads no more, and nothing is lost.
    lab.kill(id);
    let lost = lab.handle(1).propose(b"y"[..].into());
    assert!(matches!(ended(&mut lab, lost), Outcome::Unknown));
    lab.start(id, 0, Binary);
    let leader = lab.elect();
    write(&mut lab, leader);
}

/// Scenario 32.
#[test]
fn learner_promotion_lag() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    let id = lab.join(Binary);
    done(&mut lab, leader, add(id, false, &at(id)));
    lab.run_until(|lab| seats(lab, id).contains(&(id, Seat::Learner(Plan::Stay))));
    lab.kill(id);
    write(&mut lab, leader);
    lab.run_for(Duration::from_secs(1));
    let promote = Change::Promote { node: NodeId(id) };
    refused(&mut lab, leader, promote, Refusal::NotCaughtUp, "entries; wait");
    assert_eq!(voters(&lab, leader), [1, 2, 3]);
    lab.start(id, 0, Binary);
    let mut asked = 0;
    lab.run_until(|lab| {
        asked += 1;
        lab.run_for(Duration::from_millis(50));
        matches!(change(lab, leader, promote), Outcome::Committed(_))
    });
    assert!(asked > 0);
    assert_eq!(voters(&lab, leader), [1, 2, 3, 4]);
}

/// Scenario 10.
#[test]
fn removed_server_disruption() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    let gone = (1..=3).find(|id| *id != leader).expect("a follower");
    // It hears nothing of its removal.
    lab.kill(gone);
    done(&mut lab, leader, Change::Remove { node: NodeId(gone) });
    lab.run_for(Duration::from_secs(2));
    let term = lab.node(leader).status().hard.term;
    lab.start(gone, 3, Binary);
    lab.run_until(|lab| lab.node(gone).is_removed());
    lab.run_until(|lab| lab.node(gone).is_stopped());
    assert_eq!(lab.told(gone, "Removed { by: Some").len(), 1);
    lab.kill(gone);
    lab.run_for(Duration::from_secs(2));
    assert_eq!(
        (lab.state(leader), lab.node(leader).status().hard.term),
        (NodeState::Leader, term)
    );
    // Nor does its old self come back as a new one.
    lab.wipe(gone);
    lab.start(gone, 0, Binary);
    let place = at(gone);
    refused(
        &mut lab,
        leader,
        add(gone, true, &place),
        Refusal::MemberConflict,
        "no id is used twice",
    );
    write(&mut lab, leader);
}

#[test]
fn a_node_that_hears_its_removal_goes_and_says_so() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    let gone = (1..=3).find(|id| *id != leader).expect("a follower");
    done(&mut lab, leader, Change::Remove { node: NodeId(gone) });
    lab.run_until(|lab| lab.node(gone).is_stopped());
    assert!(lab.node(gone).is_removed());
    assert_eq!(lab.told(gone, "Removed {").len(), 1);
    write(&mut lab, leader);
}

/// Scenario 30.
#[test]
fn joint_consensus_leader_removed() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    let by = lab.join(Binary);
    let place = at(by);
    let replace = Change::Replace {
        node: NodeId(leader),
        by: NodeId(by),
        address: &place,
    };
    done(&mut lab, leader, replace);
    lab.run_until(|lab| lab.node(leader).is_stopped());
    lab.kill(leader);
    let next = succeed(&mut lab, leader);
    let mut left: Vec<_> = (1..=3).filter(|id| *id != leader).collect();
    left.push(by);
    assert_eq!(voters(&lab, next), left);
    write(&mut lab, next);
    // Asked again, since the answer may have been lost with it.
    done(&mut lab, next, replace);
}

#[test]
fn a_leader_that_removes_itself_answers_first_and_hands_over() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    write(&mut lab, leader);
    done(&mut lab, leader, Change::Remove { node: NodeId(leader) });
    let asked = lab.network.now();
    lab.run_until(|lab| lab.node(leader).is_stopped());
    // There is nothing to wait for: it hears nobody any more.
    assert!(lab.network.now() - asked < Duration::from_millis(50));
    lab.run_until(|lab| (1..=3).any(|id| id != leader && lab.state(id) == NodeState::Leader));
    assert!(
        lab.network.now() - asked < Duration::from_millis(50),
        "nobody timed out"
    );
    lab.kill(leader);
    let next = succeed(&mut lab, leader);
    assert_eq!(voters(&lab, next).len(), 2);
    write(&mut lab, next);
}

/// Scenario 31.
#[test]
fn a_change_of_a_leader_that_is_cut_off_is_unknown_and_taken_back() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    write(&mut lab, leader);
    let others: Vec<_> = (1..=3).filter(|id| *id != leader).collect();
    let hosts: Vec<_> = others.iter().map(|id| lab.host(*id)).collect();
    lab.network.partition(&[lab.host(leader)], &hosts);
    let remove = Change::Remove {
        node: NodeId(others[0]),
    };
    let asked = lab.handle(leader).change(remove);
    lab.settle();
    assert_eq!(
        voters(&lab, leader).len(),
        2,
        "it is in force as soon as it is in the log"
    );
    assert_eq!(ended(&mut lab, asked), Outcome::Unknown);
    lab.run_until(|lab| others.iter().any(|id| lab.state(*id) == NodeState::Leader));
    lab.network.heal();
    lab.run_for(Duration::from_secs(3));
    let next = lab.elect();
    write(&mut lab, next);
    lab.run_until(|lab| voters(lab, leader) == [1, 2, 3]);
    assert!(!lab.node(others[0]).is_removed());
    // It was never so, and is when it is asked for again.
    done(&mut lab, next, remove);
    lab.run_until(|lab| lab.node(others[0]).is_stopped());
    lab.kill(others[0]);
    let next = succeed(&mut lab, others[0]);
    write(&mut lab, next);
}

#[test]
fn each_refusal_has_its_own_reason() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    let id = grow(&mut lab, leader);
    let place = at(id);
    refused(
        &mut lab,
        leader,
        add(id, true, "10.0.0.9:7000"),
        Refusal::MemberConflict,
        "member move",
    );
    refused(
        &mut lab,
        leader,
        add(9, true, &place),
        Refusal::MemberConflict,
        "is reached at that address",
    );
    refused(
        &mut lab,
        leader,
        add(9, true, "10.0.0.77:7000"),
        Refusal::Unreachable,
        "see that it runs",
    );
    refused(
        &mut lab,
        leader,
        add(9, true, "nowhere:7000"),
        Refusal::Unreachable,
        "nobody knows nowhere",
    );
    refused(&mut lab, leader, add(9, true, ""), Refusal::Invalid, "HOST:PORT");
    for (address, why) in [("nonsense", "HOST:PORT"), ("a b:1", "HOST:PORT"), ("h:0", "at port 0")] {
        let node = NodeId(4);
        refused(&mut lab, leader, Change::Move { node, address }, Refusal::Invalid, why);
    }
    let remove = Change::Remove { node: NodeId(77) };
    refused(
        &mut lab,
        leader,
        remove,
        Refusal::UnknownMember,
        "the members are 1, 2, 3, 4",
    );
    let promote = Change::Promote { node: NodeId(77) };
    refused(&mut lab, leader, promote, Refusal::UnknownMember, "node 77 is none");
    // A node that answers to another id.
    let other = lab.join(Binary);
    refused(
        &mut lab,
        leader,
        add(9, true, &at(other)),
        Refusal::Unreachable,
        "another node answers",
    );
    // Without its majority nobody is removed.
    for gone in (1..=4).filter(|id| *id != leader).take(1) {
        lab.kill(gone);
        lab.run_for(Duration::from_millis(400));
        let stays = (1..=4).find(|id| *id != leader && *id != gone).expect("one");
        let remove = Change::Remove { node: NodeId(stays) };
        done(&mut lab, leader, remove);
        let stays = runs(&lab)
            .into_iter()
            .find(|id| *id != leader && voters(&lab, leader).contains(id));
        let remove = Change::Remove {
            node: NodeId(stays.expect("one")),
        };
        refused(&mut lab, leader, remove, Refusal::Voters, "no majority is heard");
        done(&mut lab, leader, Change::Remove { node: NodeId(gone) });
    }
    write(&mut lab, leader);
}

#[test]
fn the_last_voter_is_not_removed_whoever_else_is_a_member() {
    let mut lab = Lab::cluster(1);
    lab.elect();
    let remove = Change::Remove { node: NodeId(1) };
    refused(&mut lab, 1, remove, Refusal::Voters, "it is the only voter");
    let learner = lab.join(Binary);
    done(&mut lab, 1, add(learner, false, &at(learner)));
    refused(&mut lab, 1, remove, Refusal::Voters, "it is the only voter");
    assert_eq!(seats(&lab, 1).len(), 2);
    write(&mut lab, 1);
}

#[test]
fn a_second_change_is_refused_while_one_runs() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    let (first, second) = (lab.join(Binary), lab.join(Binary));
    let (one, other) = (at(first), at(second));
    let running = lab.handle(leader).change(add(first, true, &one));
    refused(
        &mut lab,
        leader,
        add(second, true, &other),
        Refusal::ChangeUnderWay,
        "node 4 is being added",
    );
    assert!(matches!(ended(&mut lab, running), Outcome::Committed(_)));
    lab.run_until(|lab| is_settled(lab, leader));
    done(&mut lab, leader, add(second, true, &other));
}

#[test]
fn a_member_whose_disk_was_wiped_is_refused_by_that_reason() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    let id = grow(&mut lab, leader);
    lab.kill(id);
    lab.wipe(id);
    lab.start(id, 0, Binary);
    lab.run_for(Duration::from_secs(3));
    refused(
        &mut lab,
        leader,
        add(id, true, &at(id)),
        Refusal::MemberConflict,
        "another data folder",
    );
    assert_eq!(
        lab.node(id).configuration().1.members().len(),
        0,
        "nobody told it anything"
    );
    // Out, and in again as somebody else.
    done(&mut lab, leader, Change::Remove { node: NodeId(id) });
    assert_eq!(grow(&mut lab, leader), 5);
    write(&mut lab, leader);
}

#[test]
fn a_newcomer_does_not_take_a_wiped_founder_for_the_one_that_it_was() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    write(&mut lab, leader);
    lab.run_for(Duration::from_secs(1));
    let wiped = (1..=3).find(|id| *id != leader).expect("a follower");
    lab.kill(wiped);
    lab.wipe(wiped);
    lab.start(wiped, 3, Binary);
    // Who comes has met nobody: it knows whom it may believe by the configuration.
    let id = grow(&mut lab, leader);
    let members = lab.node(id).configuration().1.members().iter();
    let lives: Vec<_> = members.map(|member| member.incarnation).collect();
    assert_eq!(lives, [1, 2, 3, 4].map(Incarnation));
    let ticket = lab.handle(leader).transfer(NodeId(id));
    assert!(matches!(ended(&mut lab, ticket), Outcome::Committed(_)));
    lab.run_for(Duration::from_secs(3));
    write(&mut lab, id);
    let status = lab.node(wiped).status();
    assert_eq!(
        (status.last, status.leader),
        (Index(0), NodeId::NONE),
        "nobody sent it anything"
    );
}

#[test]
fn a_restarted_member_is_let_in_by_a_voter_that_never_heard_of_it() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    write(&mut lab, leader);
    let others: Vec<_> = (1..=3).filter(|id| *id != leader).collect();
    let (behind, other) = (others[0], others[1]);
    lab.kill(behind);
    let id = grow(&mut lab, leader);
    done(&mut lab, leader, Change::Remove { node: NodeId(leader) });
    lab.run_until(|lab| lab.node(leader).is_stopped());
    lab.kill(leader);
    let next = succeed(&mut lab, leader);
    write(&mut lab, next);
    lab.run_for(Duration::from_secs(1));
    // Of the three that are left, one is down, one knows nothing of the change, and only the last one can lead; it has
    // that in its log, and begins without knowing that it is committed.
    lab.kill(other);
    lab.kill(id);
    lab.start(id, 0, Binary);
    lab.start(behind, 3, Binary);
    lab.run_until(|lab| lab.state(id) == NodeState::Leader);
    write(&mut lab, id);
    assert_eq!(voters(&lab, behind), voters(&lab, id));
}

#[test]
fn a_member_that_moved_is_found_again() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    let moved = (1..=3).find(|id| *id != leader).expect("a follower");
    // Its new address leads to nobody so far, which is no reason to refuse it.
    let elsewhere = "10.0.0.9:7000";
    let to = Change::Move {
        node: NodeId(moved),
        address: elsewhere,
    };
    let index = done(&mut lab, leader, to);
    assert_eq!(done(&mut lab, leader, to), index);
    let known = |lab: &Lab, id| {
        lab.node(id)
            .configuration()
            .1
            .member(NodeId(moved))
            .map(|of| of.address.clone())
    };
    lab.run_until(|lab| known(lab, moved).as_deref() == Some(elsewhere));
    lab.kill(moved);
    lab.run_for(Duration::from_secs(1));
    lab.start(moved, 3, Binary);
    // It dials the others, and they dial it where it was said to be.
    lab.run_for(Duration::from_secs(1));
    assert!(lab.node(moved).status().commit < lab.node(leader).status().commit);
    let place = at(moved);
    let back = Change::Move {
        node: NodeId(moved),
        address: &place,
    };
    done(&mut lab, leader, back);
    lab.run_until(|lab| known(lab, moved) == Some(place.clone()));
    write(&mut lab, leader);
    let commit = lab.node(leader).status().commit;
    lab.run_until(|lab| lab.node(moved).status().commit >= commit);
}

/// T19 stays so where somebody knows more: he is heard, and counts for nothing.
#[test]
fn a_stranger_is_let_in_only_where_it_may_be_a_member() {
    let mut lab = Lab::cluster(3);
    let mut stranger = lab.dial_as_peer(1);
    stranger.say(&line::peer(9, 1, 9));
    lab.settle();
    assert!(stranger.heard().concat().contains("UnknownNode"));
    let id = lab.join(Binary);
    let mut leader = lab.peer(9, id);
    leader.say(&line::peer(9, id, 9));
    lab.settle();
    assert!(leader.heard().concat().contains("NotAllowed"), "it was let in before");
    lab.run_for(Duration::from_secs(1));
    assert_eq!(lab.state(id), NodeState::Follower);
    assert_eq!(lab.node(id).status().hard.term.0, 0, "it never campaigns");
}
