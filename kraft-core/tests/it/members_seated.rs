//! To whom a node speaks when the members change, what it says of that, and when a leader goes on by itself.

use kraft_core::id::{Incarnation, Index, NodeId, Round, Term};
use kraft_core::membership::{Configuration, Step};
use kraft_core::message::{Append, Body, Entries, Entry, EntryKind, NodeState};
use kraft_core::raft::Output;

use crate::lone::{Lone, append, matched, voted};
use crate::members::{add, remove};

/// A leader of the voters 1 to 3 that has committed its no-op.
fn leader() -> (Lone, u64) {
    let mut node = Lone::new();
    let term = node.lead();
    node.step(2, term, matched(1));
    (node, term)
}

/// The leader takes these steps, which node 2 has too; but it does not know that when node 2 leads.
fn deposed(steps: &[Step]) -> (Lone, u64) {
    let (mut node, term) = leader();
    node.raft
        .reconfigure(steps, node.now, &mut node.log)
        .expect("it can be");
    node.drain();
    node.sync();
    node.step(2, term + 1, append((2, term), &[], 1));
    node.sync();
    assert_eq!(
        (node.raft.status().membership, node.raft.status().commit),
        (Index(2), Index(1))
    );
    node.look();
    (node, term + 1)
}

/// Whom it spoke to since the last look.
fn spoken_to(node: &mut Lone, id: u64) -> bool {
    node.look().iter().any(|(to, _)| *to == id)
}

#[test]
fn who_was_removed_is_told_so_for_an_election_timeout_and_no_longer() {
    let (mut node, term) = leader();
    node.raft
        .change(&remove(3), Incarnation(0), node.now, &mut node.log)
        .expect("it can be");
    node.drain();
    node.sync();
    node.look();
    node.step(2, term, matched(2));
    assert_eq!(node.raft.status().commit, Index(2));
    for _ in 0..5 {
        node.pass(50);
        node.step(2, term, matched(2));
        assert!(spoken_to(&mut node, 3), "it may not know yet");
    }
    node.pass(49);
    node.look();
    for _ in 0..5 {
        node.pass(50);
        node.step(2, term, matched(2));
        assert!(!spoken_to(&mut node, 3));
    }
    assert_eq!(node.raft.progress(NodeId(3)), (Index::ZERO, None));
    assert_eq!(node.state(), NodeState::Leader);
}

#[test]
fn who_was_removed_is_told_by_who_led_when_that_was_committed_and_by_no_successor() {
    let (mut node, term) = deposed(&[Step::Remove(NodeId(3))]);
    node.step(2, term, append((2, term - 1), &[], 2));
    assert_eq!(node.raft.committed_configuration().0, Index(2));
    node.look();
    node.step(2, term, Body::TimeoutNow);
    node.sync();
    node.step(2, term + 1, voted(false, true, term + 1));
    assert_eq!(node.state(), NodeState::Leader);
    let sent = node.look();
    assert!(!sent.is_empty() && sent.iter().all(|(to, _)| *to == 2), "{sent:?}");
}

#[test]
fn a_leader_goes_on_with_a_change_once_an_entry_of_its_own_is_committed() {
    // What an earlier leader began is known to be committed, and yet another one might have begun something else.
    let (mut node, term) = deposed(&[Step::Voter(NodeId(4)), Step::Remove(NodeId(3))]);
    node.step(2, term, append((2, term - 1), &[], 2));
    assert!(node.raft.committed_configuration().1.is_joint());
    let term = node.lead();
    assert_eq!(node.raft.status().last, Index(3), "its no-op");
    node.pass(50);
    assert_eq!(
        node.raft.status().last,
        Index(3),
        "no leader may change anything before"
    );
    node.step(2, term, matched(3));
    assert_eq!(node.raft.status().commit, Index(1).max(node.raft.status().commit));
    assert!(node.raft.status().commit >= Index(3), "two of each three have it");
    assert_eq!(node.raft.status().last, Index(4));
    assert!(!node.raft.configuration().1.is_joint());
}

/// An append of one entry that brings these voters.
fn brings(prev: (u64, u64), term: u64, voters: &[u64]) -> Body<'static> {
    let voters: Vec<_> = voters.iter().copied().map(NodeId).collect();
    let entry = Entry {
        term: Term(term),
        kind: EntryKind::Membership,
        crc: 0,
        payload: Configuration::founding(&voters).encode(),
    };
    Body::Append(Append {
        prev_index: Index(prev.0),
        prev_term: Term(prev.1),
        commit: Index(0),
        round: Round(0),
        entries: Entries::Shared(Vec::leak(vec![entry]), &[]),
    })
}

#[test]
fn members_that_take_the_place_of_others_at_once_are_told() {
    let members = |node: &mut Lone| {
        let of = |output| match output {
            Output::Members { in_force, committed } => Some((in_force.0, committed.0)),
            _ => None,
        };
        node.outputs.drain(..).filter_map(of).collect::<Vec<_>>()
    };
    let mut node = Lone::new();
    node.step(2, 3, brings((0, 0), 3, &[1, 2, 3, 4]));
    assert_eq!(members(&mut node), [(1, 0)]);
    node.step(2, 3, brings((0, 0), 3, &[1, 2, 3, 4]));
    assert_eq!(members(&mut node), [], "they are there already");
    node.step(3, 4, brings((0, 0), 4, &[1, 2, 3, 5]));
    assert_eq!(members(&mut node), [(1, 0)], "others, in the same place");
    assert!(node.raft.configuration().1.votes(NodeId(5)));
}

#[test]
fn configurations_from_before_what_is_applied_are_forgotten() {
    let (mut node, term) = leader();
    let places = |node: &Lone| {
        let list = node.raft.configurations().iter();
        list.map(|(index, _)| index.0).collect::<Vec<_>>()
    };
    for (id, index) in [(4, 2), (5, 3), (6, 4)] {
        node.raft
            .change(&add(id, false), Incarnation(0), node.now, &mut node.log)
            .expect("nothing is under way");
        node.drain();
        let newest = if index == 2 { 0 } else { index - 1 };
        assert_eq!(places(&node), [newest, index]);
        node.sync();
        node.step(2, term, matched(index));
        assert_eq!(node.raft.status().applied, Index(index));
        assert_eq!(places(&node), [index]);
    }
}
