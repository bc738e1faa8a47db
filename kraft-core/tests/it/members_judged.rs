//! What a leader makes of each change that it is asked for: in which configuration, with which refusal, and that to ask
//! beforehand comes to the same.

use kraft_core::id::{Incarnation, Index, NodeId};
use kraft_core::membership::{Configuration, Plan, Seat, Step};
use kraft_core::message::{Body, Change, HeartbeatReply, Refusal};

use crate::lone::{Lone, heartbeat, matched};
use crate::members::{add, promote, remove, replace};

/// What comes of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comes {
    /// It is so already.
    Done,
    /// An entry, which brings these seats.
    To(&'static str),
    Refused(Refusal),
}

use Comes::{Done, Refused, To};

/// The seats, and the address of whoever is not at home: `v1` votes, `j4` joins, `x3` leaves, `d3` is demoted, `l4` learns,
/// `p4` is to be promoted, `4>3` is to take the place of 3.
fn seats(configuration: &Configuration) -> String {
    let seat = |(node, seat): (NodeId, Seat)| match seat {
        Seat::Voter => format!("v{node}"),
        Seat::Joining => format!("j{node}"),
        Seat::Leaving => format!("x{node}"),
        Seat::Demoted => format!("d{node}"),
        Seat::Learner(Plan::Stay) => format!("l{node}"),
        Seat::Learner(Plan::Promote) => format!("p{node}"),
        Seat::Learner(Plan::Replace(by)) => format!("{node}>{by}"),
    };
    let members = configuration.members().iter().map(|member| {
        let away = match member.address == format!("h{}:1", member.node) {
            true => String::new(),
            false => format!("@{}", &member.address[..2]),
        };
        seat((member.node, member.seat)) + &away
    });
    members.collect::<Vec<_>>().join(" ")
}

/// A leader of the voters 1 to 3 at home, which has committed its no-op. Node 2 has all that is in its log.
fn leader() -> (Lone, u64) {
    let mut node = Lone::with(0, &[], |config| {
        config.addresses = (1..=3).map(|id| (NodeId(id), format!("h{id}:1"))).collect();
    });
    let term = node.lead();
    node.step(2, term, matched(1));
    (node, term)
}

/// It is committed, by the nodes 1 and 2.
fn through(node: &mut Lone, term: u64) {
    node.drain();
    node.sync();
    let last = node.raft.status().last;
    node.step(2, term, matched(last.0));
    assert_eq!(node.raft.committed_configuration(), node.raft.configuration());
}

/// The same leader when these changes are through.
fn after(changes: &[Change<'_>]) -> (Lone, u64) {
    let (mut node, term) = leader();
    for change in changes {
        let index = node.raft.change(change, Incarnation(0), node.now, &mut node.log);
        assert_eq!(index, Ok(node.raft.status().last), "{change:?}");
        through(&mut node, term);
    }
    (node, term)
}

/// The same leader with node 4 as a learner, while these steps are under way.
fn during(steps: &[Step]) -> (Lone, u64) {
    let (mut node, term) = after(&[add(4, false)]);
    node.raft
        .reconfigure(steps, node.now, &mut node.log)
        .expect("it can be");
    (node, term)
}

#[track_caller]
fn check(start: &str, set_up: impl Fn() -> (Lone, u64), table: &[(Change<'_>, Comes)]) {
    for (change, expected) in table {
        let (mut node, _) = set_up();
        let before = (node.raft.status(), seats(node.raft.configuration().1));
        assert_eq!(before.1, start, "where it begins");
        let would = match node.raft.would_change(change, Incarnation(0)) {
            Ok(true) => Ok(None),
            Ok(false) => Ok(Some(())),
            Err(why) => Err(why),
        };
        assert_eq!(
            (node.raft.status(), seats(node.raft.configuration().1)),
            before,
            "a question changes nothing"
        );
        let result = node.raft.change(change, Incarnation(0), node.now, &mut node.log);
        let (last, now) = (node.raft.status().last, seats(node.raft.configuration().1));
        match (expected, result) {
            (Done, Ok(index)) => {
                assert_eq!((index, would), (before.0.membership, Ok(None)), "{change:?}");
                assert_eq!((last, now), (before.0.last, before.1), "{change:?}");
            }
            (To(seats), Ok(index)) => {
                assert_eq!((index, would), (last, Ok(Some(()))), "{change:?}");
                assert_eq!((last, now.as_str()), (before.0.last.next(), *seats), "{change:?}");
            }
            (Refused(why), Err(said)) => {
                assert_eq!((said, would), (*why, Err(*why)), "{change:?}");
                assert_eq!((node.raft.status(), now), before, "{change:?}: nothing happened");
            }
            (expected, result) => panic!("{change:?}: {result:?} and {now}, not {expected:?}"),
        }
    }
}

fn add_at(node: u64, address: &str) -> Change<'_> {
    let node = NodeId(node);
    Change::Add {
        node,
        address,
        promote: false,
    }
}

fn go(node: u64, address: &str) -> Change<'_> {
    let node = NodeId(node);
    Change::Move { node, address }
}

#[test]
fn founders_stay_who_they_are_and_others_begin_as_learners() {
    let longest = format!("h2{}:65535", "h".repeat(251));
    let longer = format!("h{longest}");
    let table = [
        (add(4, false), To("v1 v2 v3 l4")),
        (add(4, true), To("v1 v2 v3 p4")),
        (add(2, false), Done),
        (add(2, true), Done),
        (add_at(2, "h9:1"), Refused(Refusal::MemberConflict)),
        (add(0, false), Refused(Refusal::MemberConflict)),
        (add_at(4, "h2:1"), Refused(Refusal::MemberConflict)),
        (add_at(4, ""), Refused(Refusal::Invalid)),
        (add_at(4, "h4"), Refused(Refusal::Invalid)),
        (add_at(4, "h4:0"), Refused(Refusal::Invalid)),
        (add_at(4, "h4:01"), Refused(Refusal::Invalid)),
        (add_at(4, "\u{1b}[2J:1"), Refused(Refusal::Invalid)),
        (add_at(4, &longest), To("v1 v2 v3 l4@h2")),
        (add_at(4, &longer), Refused(Refusal::Invalid)),
        (promote(2), Done),
        (promote(4), Refused(Refusal::UnknownMember)),
        (remove(3), To("v1 v2")),
        (remove(4), Refused(Refusal::UnknownMember)),
        (go(2, "h2:1"), Done),
        (go(2, "h9:1"), To("v1 v2@h9 v3")),
        (go(2, "h3:1"), Refused(Refusal::MemberConflict)),
        (go(2, &longest), To("v1 v2@h2 v3")),
        (go(2, &longer), Refused(Refusal::Invalid)),
        (go(2, "nonsense"), Refused(Refusal::Invalid)),
        (go(2, "h 2:1"), Refused(Refusal::Invalid)),
        (go(4, "h4:1"), Refused(Refusal::UnknownMember)),
        (replace(3, 4), To("v1 v2 v3 4>3")),
        (replace(3, 3), Refused(Refusal::MemberConflict)),
        (replace(3, 2), Refused(Refusal::MemberConflict)),
        (replace(4, 5), Refused(Refusal::UnknownMember)),
    ];
    check("v1 v2 v3", leader, &table);
}

#[test]
fn a_learner_takes_over_who_has_no_plan_yet_and_gives_way_at_once() {
    let table = [
        (add(4, false), Done),
        (add(4, true), To("v1 v2 v3 p4")),
        (promote(4), Refused(Refusal::NotCaughtUp)),
        (remove(4), To("v1 v2 v3")),
        (replace(3, 4), To("v1 v2 v3 4>3")),
        (replace(4, 5), To("v1 v2 v3 l5")),
        (replace(4, 4), Refused(Refusal::MemberConflict)),
        (replace(4, 2), Refused(Refusal::MemberConflict)),
    ];
    check("v1 v2 v3 l4", || after(&[add(4, false)]), &table);
    // Another learner takes its place.
    let table = [(replace(4, 5), To("v1 v2 v3 l5")), (replace(5, 4), To("v1 v2 v3 l4"))];
    check("v1 v2 v3 l4 l5", || after(&[add(4, false), add(5, false)]), &table);
}

#[test]
fn what_is_planned_of_a_learner_is_not_planned_otherwise() {
    let table = [
        (add(4, false), Done),
        (add(4, true), Done),
        (replace(3, 4), Refused(Refusal::MemberConflict)),
        (replace(4, 5), To("v1 v2 v3 p5")),
    ];
    check("v1 v2 v3 p4", || after(&[add(4, true)]), &table);
    let table = [
        (add(4, false), Done),
        (add(4, true), Refused(Refusal::MemberConflict)),
        (replace(3, 4), Done),
        (replace(2, 4), Refused(Refusal::MemberConflict)),
        (replace(4, 5), To("v1 v2 v3 5>3")),
    ];
    check("v1 v2 v3 4>3", || after(&[replace(3, 4)]), &table);
}

#[test]
fn who_was_removed_stays_removed() {
    let table = [
        (add(3, false), Refused(Refusal::MemberConflict)),
        (promote(3), Refused(Refusal::UnknownMember)),
        (remove(3), Done),
        (go(3, "h3:1"), Refused(Refusal::UnknownMember)),
        (replace(3, 2), Done),
        (replace(3, 4), Refused(Refusal::UnknownMember)),
        (replace(2, 3), Refused(Refusal::MemberConflict)),
    ];
    check("v1 v2", || after(&[remove(3)]), &table);
}

#[test]
fn while_a_change_is_under_way_only_what_it_brings_is_so() {
    let under_way = Refused(Refusal::ChangeUnderWay);
    let table = [
        (add(2, false), Done),
        (add(3, false), under_way),
        (add(4, true), Done),
        (add(5, false), under_way),
        (promote(3), under_way),
        (promote(4), Done),
        (remove(2), under_way),
        (remove(3), Done),
        (go(3, "h3:1"), under_way),
        (go(4, "h4:1"), Done),
        (replace(3, 4), Done),
        (replace(3, 2), Done),
    ];
    let steps = [Step::Voter(NodeId(4)), Step::Remove(NodeId(3))];
    check("v1 v2 x3 j4", || during(&steps), &table);
    let table = [
        (add(3, false), under_way),
        (promote(3), under_way),
        (remove(3), under_way),
        (go(3, "h3:1"), under_way),
        (replace(3, 4), under_way),
    ];
    let steps = [Step::Voter(NodeId(4)), Step::Learner(NodeId(3), Plan::Stay)];
    check("v1 v2 d3 j4", || during(&steps), &table);
    // So it is with a change of one, until it is committed.
    let table = [
        (add(4, false), Done),
        (add(4, true), under_way),
        (add(5, false), under_way),
        (remove(2), under_way),
        (remove(4), under_way),
    ];
    let uncommitted = || {
        let (mut node, term) = leader();
        node.raft
            .change(&add(4, false), Incarnation(0), node.now, &mut node.log)
            .expect("it can be");
        (node, term)
    };
    check("v1 v2 v3 l4", uncommitted, &table);
}

#[test]
fn who_cannot_change_members_says_so_before_it_is_asked_to() {
    let fresh = || {
        let mut node = Lone::with(0, &[], |config| config.addresses = vec![(NodeId(1), "h1:1".into())]);
        let term = node.lead();
        (node, term)
    };
    let table = [
        (promote(2), Done),
        (remove(2), Refused(Refusal::ChangeUnderWay)),
        (add(4, false), Refused(Refusal::ChangeUnderWay)),
    ];
    let handing_over = || {
        let (mut node, term) = leader();
        node.raft.transfer(NodeId(2), node.now).expect("it was heard");
        (node, term)
    };
    let (start, _) = fresh();
    assert_eq!(start.raft.would_change(&promote(2), Incarnation(0)), Ok(true));
    for (change, expected) in table {
        let Refused(why) = expected else { continue };
        assert_eq!(start.raft.would_change(&change, Incarnation(0)), Err(why));
    }
    let table = [
        (promote(2), Done),
        (remove(2), Refused(Refusal::Transferring)),
        (remove(4), Refused(Refusal::Transferring)),
    ];
    check("v1 v2 v3", handing_over, &table);
    let following = || {
        let (mut node, term) = leader();
        node.step(2, term + 1, heartbeat(0));
        (node, term)
    };
    let table = [
        (promote(2), Refused(Refusal::NotLeader)),
        (remove(2), Refused(Refusal::NotLeader)),
    ];
    check("v1 v2 v3", following, &table);
    let alone = || {
        let mut node = Lone::with(0, &[], |config| {
            config.voters = vec![NodeId(1)];
            config.addresses = vec![(NodeId(1), "h1:1".into())];
        });
        node.pass(0);
        node.sync();
        node.sync();
        (node, 1)
    };
    check("v1", alone, &[(remove(1), Refused(Refusal::Voters))]);
}

fn sign_of_life() -> Body<'static> {
    Body::HeartbeatReply(HeartbeatReply {
        round: kraft_core::id::Round(0),
        promise_us: 0,
    })
}

#[test]
fn who_keeps_up_has_the_log_and_was_heard_within_an_election_timeout() {
    let (mut node, term) = leader();
    let keeps_up = |node: &Lone, id: u64| node.raft.is_caught_up(NodeId(id));
    assert!(keeps_up(&node, 1), "the leader itself");
    assert!(keeps_up(&node, 2));
    assert!(!keeps_up(&node, 3), "it was not heard");
    assert!(!keeps_up(&node, 9), "it is no member");
    node.pass(1);
    node.step(3, term, sign_of_life());
    assert!(keeps_up(&node, 3), "it has what there was before this leader's term");
    node.pass(148);
    assert!(keeps_up(&node, 2), "149 ms ago");
    node.pass(1);
    assert!(!keeps_up(&node, 2), "150 ms ago");
    node.step(2, term, sign_of_life());
    assert!(keeps_up(&node, 2), "it has all, however long it was silent");
    node.pass(1);
    node.step(3, term, sign_of_life());
    assert!(!keeps_up(&node, 3), "it lives, and has not got the no-op for so long");
    node.step(3, term + 1, heartbeat(0));
    for id in [1, 2, 3, 9] {
        assert!(!keeps_up(&node, id), "who does not lead knows of nobody: {id}");
    }
}

#[test]
fn lives_that_are_known_are_said_by_the_next_change_and_those_that_are_said_stay() {
    let (mut node, term) = leader();
    let lives = |node: &Lone| {
        let members = node.raft.configuration().1.members().iter();
        members.map(|member| member.incarnation.0).collect::<Vec<_>>()
    };
    for (id, life) in [(1, 7), (2, 8), (4, 9), (5, 10)] {
        node.raft.know_life(NodeId(id), Incarnation(life));
    }
    assert_eq!(lives(&node), [0, 0, 0], "no change, no word of it");
    let asked = Incarnation(30);
    let index = node.raft.change(&add(4, false), asked, node.now, &mut node.log);
    assert_eq!(index, Ok(Index(2)));
    assert_eq!(lives(&node), [7, 8, 0, 30]);
    through(&mut node, term);
    node.raft.know_life(NodeId(2), Incarnation(99));
    let index = node
        .raft
        .change(&go(3, "h9:1"), Incarnation(0), node.now, &mut node.log);
    assert_eq!(index, Ok(Index(3)));
    assert_eq!(lives(&node), [7, 8, 0, 30]);
    assert_eq!(seats(node.raft.configuration().1), "v1 v2 v3@h9 l4");
}

#[test]
fn a_change_leaves_room_for_a_successor_to_the_byte() {
    let (mut node, _) = after(&[]);
    node.raft
        .change(&add(4, false), Incarnation(0), node.now, &mut node.log)
        .expect("there is room");
    let bytes = node.raft.configuration().1.encode().len() as u64;
    let with_room = |room: u64| {
        let (mut node, _) = leader();
        node.raft.room(room, node.now);
        node.raft
            .change(&add(4, false), Incarnation(0), node.now, &mut node.log)
    };
    assert_eq!(with_room(1024 + bytes), Ok(Index(2)));
    assert_eq!(with_room(1024 + bytes - 1), Err(Refusal::NoSpace));
    assert_eq!(with_room(1024), Err(Refusal::NoSpace));
}
