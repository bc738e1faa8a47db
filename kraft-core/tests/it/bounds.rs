//! Limits to the unit, and turns: what only a change of one sign in Raft would show.

use std::time::Duration;

use kraft_core::id::{Index, NodeId, Round, Term};
use kraft_core::log::{Log, Proposal, Tail};
use kraft_core::message::{Append, Body, Entries, Entry, EntryKind, NodeState, Refusal};
use kraft_core::raft::{Config, Output, Raft, Violation};
use kraft_core::storage::Recovered;
use kraft_core::time::Instant;

use crate::cluster::{owned, proposal};
use crate::lone::{Lone, append, heartbeat, matched, terms, vote, voted};

/// Proposes one command of so many bytes.
fn propose(node: &mut Lone, bytes: usize) -> Result<(), Refusal> {
    let mut one = [proposal(1, bytes)].into_iter();
    let result = node.raft.propose(&mut one, bytes as u64, node.now, &mut node.log);
    node.drain();
    result.map(drop)
}

/// What is to be loaded, first and one past the last.
fn loads(node: &mut Lone) -> Vec<(u64, u64)> {
    let outputs: Vec<_> = node.outputs.drain(..).collect();
    let load = |output| match output {
        Output::Load(range) => Some((range.start.0, range.end.0)),
        _ => None,
    };
    outputs.into_iter().filter_map(load).collect()
}

/// Entries of term 1 come back from the disk.
fn load(node: &mut Lone, first: u64, count: u64) {
    let entry = |at: u64| Entry {
        term: Term(1),
        kind: EntryKind::Command,
        crc: 0,
        payload: at.to_le_bytes().to_vec().into(),
    };
    let entries = (first..first + count).map(entry).collect();
    node.log.restore(Index(first), entries);
    node.raft.loaded(Index(first)..Index(first + count), &mut node.log);
    node.drain();
}

#[test]
fn the_state_machine_and_followers_take_turns_at_the_disk() {
    let mut node = Lone::recovered(1, &[1; 8]);
    let term = node.lead();
    node.step(2, term, matched(9));
    assert_eq!(loads(&mut node), [(1, 9)], "to be applied");
    node.step(3, term, matched(3));
    load(&mut node, 1, 1);
    assert_eq!(loads(&mut node), [(4, 9)], "for node 3");
    load(&mut node, 4, 1);
    assert_eq!(loads(&mut node), [(2, 9)], "to be applied");
    load(&mut node, 2, 1);
    assert_eq!(loads(&mut node), [(5, 9)], "for node 3");
}

#[test]
fn what_is_loaded_for_a_follower_does_not_keep_others_in_memory() {
    let mut node = Lone::recovered(1, &[1; 4]);
    node.log = Tail::new(Index(4), 0);
    let term = node.lead();
    node.step(2, term, matched(5));
    load(&mut node, 1, 2);
    load(&mut node, 3, 2);
    node.outputs.clear();
    node.step(3, term, matched(1));
    assert_eq!(loads(&mut node), [(2, 5)]);
    node.propose(1);
    node.sync();
    node.step(2, term, matched(6));
    assert_eq!(node.raft.status().applied, Index(6));
    assert!(
        node.log.fit(Index(6)..Index(7), 100, 1).is_empty(),
        "entry 6 was applied"
    );
}

#[test]
fn a_leader_leaves_room_for_its_successors_to_the_byte() {
    let mut node = Lone::new();
    node.lead();
    node.raft.room(4096 + 16, node.now);
    assert_eq!(propose(&mut node, 16), Ok(()));
    node.raft.room(u64::MAX, node.now);
    node.raft.room(4096 + 15 + 8192, node.now);
    assert_eq!(propose(&mut node, 8192 + 16), Err(Refusal::NoSpace));
    assert_eq!(node.state(), NodeState::Leader, "there is room for smaller ones");
}

#[test]
fn a_leader_with_little_room_yields_at_the_byte() {
    for (room, state) in [(8192, NodeState::Leader), (8191, NodeState::Follower)] {
        let mut node = Lone::new();
        node.lead();
        node.raft.room(room, node.now);
        assert_eq!(propose(&mut node, 8192), Err(Refusal::NoSpace));
        assert_eq!(node.state(), state, "{room} bytes");
    }
}

#[test]
fn a_leader_steps_down_where_its_successor_s_first_entry_would_not_fit() {
    for (room, state) in [(1024, NodeState::Leader), (1023, NodeState::Follower)] {
        let mut node = Lone::new();
        node.lead();
        node.raft.room(room, node.now);
        assert_eq!(node.state(), state, "{room} bytes");
    }
}

#[test]
fn a_leader_alone_tells_how_far_the_voters_have_come() {
    let mut node = Lone::recovered(1, &[1, 1]);
    let of = |node: &Lone, id| {
        let (matched, heard) = node.raft.progress(NodeId(id));
        (matched.0, heard)
    };
    for id in 1..=4 {
        assert_eq!(of(&node, id), (0, None), "it follows");
    }
    let term = node.lead();
    node.propose(1);
    node.pass(10);
    node.step(2, term, matched(3));
    let heard = node.now;
    node.pass(10);
    assert_eq!(of(&node, 1), (3, Some(node.now)), "the fourth is not durable");
    assert_eq!(of(&node, 2), (3, Some(heard)));
    assert_eq!(of(&node, 3), (0, None), "it said nothing");
    assert_eq!(of(&node, 4), (0, None), "it is no voter");
}

#[test]
fn who_was_elected_with_little_room_does_not_hand_its_office_on() {
    for (room, state) in [(8192, NodeState::Follower), (8191, NodeState::Leader)] {
        let mut node = Lone::new();
        node.raft.room(room, node.now);
        if room < 8192 {
            // It lets others ask first.
            node.pass(300);
        }
        node.lead();
        node.raft.room(8191, node.now);
        assert_eq!(propose(&mut node, 8192), Err(Refusal::NoSpace));
        assert_eq!(node.state(), state, "elected with {room} bytes");
    }
}

#[test]
fn room_is_less_what_storage_was_not_handed_yet() {
    let mut node = Lone::new();
    node.lead();
    // All in one turn: nothing is drained.
    let mut take = |room: u64, bytes: usize| {
        let mut one = [proposal(1, bytes)].into_iter();
        node.raft.room(room, node.now);
        let result = node.raft.propose(&mut one, bytes as u64, node.now, &mut node.log);
        result.map(drop)
    };
    assert_eq!(take(u64::MAX, 5_000), Ok(()));
    assert_eq!(take(u64::MAX, 6_000), Ok(()));
    assert_eq!(take(11_000 + 4096 + 16, 16), Ok(()));
    assert_eq!(take(11_016 + 4096 + 15, 16), Err(Refusal::NoSpace));
}

#[test]
fn what_is_uncommitted_is_bounded_to_the_byte() {
    let mut node = Lone::with(0, &[], |config| config.uncommitted_bytes_max = 32);
    node.lead();
    assert_eq!(propose(&mut node, 16), Ok(()));
    assert_eq!(propose(&mut node, 17), Err(Refusal::Overloaded));
    assert_eq!(propose(&mut node, 16), Ok(()));
    assert_eq!(propose(&mut node, 8), Err(Refusal::Overloaded));
}

#[test]
fn no_proposals_are_no_entries() {
    let mut node = Lone::new();
    node.lead();
    let last = node.raft.status().last;
    let mut none = std::iter::empty::<Proposal>().collect::<Vec<_>>().into_iter();
    let range = node.raft.propose(&mut none, 0, node.now, &mut node.log);
    node.drain();
    assert_eq!(range, Ok(last.next()..last.next()));
    assert_eq!(node.raft.status().last, last);
}

#[test]
fn what_is_below_the_base_agrees_and_what_is_above_is_compared() {
    let above = || Lone::above((5, 2), 3, &[2, 3], |_| {});
    let mut node = above();
    // Whatever its terms are below the base, they are not known here.
    node.step(2, 3, append((3, 1), &[1, 2, 2, 3, 3], 0));
    assert_eq!((terms(&node), node.raft.status().last), (vec![3], Index(8)));
    let conflict = Err(Violation::CommittedConflict);
    assert_eq!(
        above().try_step(2, 3, append((5, 1), &[2], 0)),
        conflict,
        "behind another base"
    );
    assert_eq!(
        above().try_step(2, 3, append((4, 1), &[3], 0)),
        conflict,
        "at another base"
    );
    assert_eq!(above().try_step(2, 3, append((4, 1), &[2, 2], 0)), Ok(()));
}

#[test]
fn what_is_below_the_base_is_committed_and_applied() {
    let mut node = Lone::above((5, 2), 3, &[3, 3], |_| {});
    let status = node.raft.status();
    assert_eq!((status.commit, status.applied), (Index(5), Index(5)));
    assert_eq!(loads(&mut node), []);
    node.step(2, 3, append((7, 3), &[], 7));
    assert_eq!(loads(&mut node), [(6, 8)], "the first entry above the base comes next");
}

#[test]
fn a_node_whose_configuration_is_wrong_is_none() {
    let config = Config::new(NodeId(4), vec![NodeId(1), NodeId(2), NodeId(3)], 1);
    let refused = Raft::new(config, &Recovered::default(), Instant::ZERO).expect_err("it is no voter");
    assert!(refused.starts_with("voters"), "{refused}");
}

#[test]
fn a_follower_takes_what_it_has_room_for_to_the_byte() {
    for (room, last) in [(24, 3), (23, 0)] {
        let mut node = Lone::new();
        node.raft.room(room, node.now);
        node.step(2, 1, append((0, 0), &[1, 1, 1], 0));
        assert_eq!(
            node.raft.status().last,
            Index(last),
            "three of 8 bytes, room for {room}"
        );
    }
}

#[test]
fn answers_to_an_earlier_term_of_office_do_not_count() {
    let mut node = Lone::new();
    let first = node.lead();
    node.step(3, first + 1, heartbeat(0));
    let second = node.lead();
    let last = node.raft.status().last;
    node.step(2, first, matched(last.0));
    assert_eq!((node.raft.status().commit, node.state()), (Index(0), NodeState::Leader));
    node.step(2, second, matched(last.0));
    assert_eq!(node.raft.status().commit, last);
}

#[test]
fn entries_that_are_there_are_skipped_in_both_halves_of_a_ring() {
    let entry = |at: u64| Entry {
        term: Term(1),
        kind: EntryKind::Command,
        crc: 0,
        payload: at.to_le_bytes().to_vec().into(),
    };
    let entries: Vec<_> = (1..=5).map(entry).collect();
    for (there, front) in [(3, 1), (2, 3), (3, 2)] {
        let mut node = Lone::new();
        let send = |node: &mut Lone, front: &[Entry], back: &[Entry]| {
            let append = Append {
                prev_index: Index(0),
                prev_term: Term(0),
                commit: Index(0),
                round: Round(0),
                entries: Entries::Shared(front, back),
            };
            node.step(2, 1, Body::Append(append));
        };
        send(&mut node, &entries[..there], &[]);
        send(&mut node, &entries[..front], &entries[front..]);
        let range = node.log.first()..Index(6);
        let log: Vec<_> = node.log.entries(range).iter().map(owned).collect();
        assert_eq!(log, entries, "{there} were there, the ring ends behind {front}");
    }
}

#[test]
fn who_loses_its_leader_asks_within_a_tenth_of_a_timeout_and_not_all_at_once() {
    let left = |seed| {
        let mut node = Lone::with(0, &[], |config| config.seed = seed);
        node.step(2, 1, heartbeat(0));
        let before = node.raft.deadline();
        node.raft.unreachable(NodeId(3), node.now);
        assert_eq!(node.raft.deadline(), before, "it led nobody");
        node.raft.unreachable(NodeId(2), node.now);
        let deadline = node.raft.deadline().expect("it waits for an election");
        deadline.saturating_since(node.now).as_millis()
    };
    let all: Vec<_> = (0..64).map(left).collect();
    let (least, most) = (all.iter().min(), all.iter().max());
    assert!(
        least < Some(&5) && (Some(&10)..Some(&15)).contains(&most),
        "{least:?} {most:?} of 15 ms"
    );
}

#[test]
fn a_voter_clings_to_a_leader_for_the_least_timeout_and_no_longer() {
    for (nanos, granted) in [(149_999_999, false), (150_000_000, true)] {
        let mut node = Lone::new();
        node.step(2, 1, heartbeat(0));
        node.look();
        node.now += Duration::from_nanos(nanos);
        node.step(3, 1, vote(true, 2, (0, 0)));
        assert_eq!(node.look(), [(3, voted(true, granted, 2))], "after {nanos} ns");
    }
}

#[test]
fn without_check_quorum_a_leader_that_hears_nobody_stays() {
    let mut node = Lone::with(0, &[], |config| config.check_quorum = false);
    node.lead();
    for _ in 0..100 {
        node.pass(50);
    }
    assert_eq!(node.state(), NodeState::Leader);
}

#[test]
fn a_leader_that_hears_nobody_stays_for_the_greatest_timeout() {
    let mut node = Lone::new();
    node.lead();
    node.pass(299);
    assert_eq!(node.state(), NodeState::Leader);
    node.pass(1);
    assert_eq!(node.state(), NodeState::Follower);
}

#[test]
fn a_sync_that_takes_too_long_costs_the_leader_its_office_to_the_millisecond() {
    let mut node = Lone::with(0, &[], |config| config.check_quorum = false);
    node.lead();
    node.propose(1);
    node.pass(999);
    assert_eq!(node.state(), NodeState::Leader);
    node.pass(1);
    assert_eq!(node.state(), NodeState::Follower);
}

#[test]
fn a_leader_s_deadline_is_that_of_its_next_heartbeat() {
    let mut node = Lone::new();
    node.lead();
    let next = |node: &Lone| node.raft.deadline().map(|at| at.saturating_since(node.now).as_millis());
    assert_eq!(next(&node), Some(50));
    node.pass(50);
    assert_eq!(node.look().len(), 2, "a heartbeat each");
    assert_eq!(next(&node), Some(50));
}

#[test]
fn who_has_little_room_lets_others_ask_first_and_who_has_none_never_asks() {
    let (follower, asks) = (NodeState::Follower, NodeState::PreCandidate);
    for (room, states) in [
        (8192, [asks, asks, asks]),
        (8191, [follower, asks, asks]),
        (1024, [follower, asks, asks]),
        (1023, [follower, follower, follower]),
    ] {
        let mut node = Lone::new();
        node.raft.room(room, node.now);
        let seen = [0; 3].map(|_| {
            node.pass(300);
            node.state()
        });
        assert_eq!(seen, states, "room for {room} bytes");
    }
    let mut single = Lone::with(0, &[], |config| config.voters = vec![NodeId(1)]);
    single.raft.room(1024, single.now);
    single.pass(300);
    assert_ne!(single.state(), follower, "there is nobody to ask first");
}

#[test]
fn a_pre_vote_for_a_term_in_which_the_vote_is_given_is_refused() {
    let mut node = Lone::recovered(4, &[]);
    node.step(2, 5, vote(false, 5, (0, 0)));
    node.sync();
    node.look();
    node.step(3, 4, vote(true, 5, (0, 0)));
    assert_eq!(node.look(), [(3, voted(true, false, 5))]);
}

#[test]
fn who_votes_for_another_stops_asking_for_itself() {
    let mut node = Lone::recovered(5, &[]);
    node.pass(300);
    assert_eq!(node.state(), NodeState::PreCandidate);
    node.step(2, 5, vote(false, 5, (0, 0)));
    assert_eq!(node.state(), NodeState::Follower);
}

#[test]
fn votes_of_an_earlier_candidacy_do_not_count() {
    let mut node = Lone::with(0, &[], |config| config.pre_vote = false);
    for term in 1..=2 {
        node.pass(300);
        node.sync();
        assert_eq!((node.term(), node.state()), (term, NodeState::Candidate));
    }
    node.step(2, 1, voted(false, true, 1));
    assert_eq!(node.state(), NodeState::Candidate);
    node.step(2, 2, voted(false, true, 2));
    assert_eq!(node.state(), NodeState::Leader);
}
