//! When a log's front goes, though its margins or storage would keep it.

use kraft_core::id::{Index, NodeId, Term};
use kraft_core::log::Log;
use kraft_core::message::{Entry, EntryKind};
use kraft_core::raft::{Config, Output};

use crate::lone::{Lone, append, matched, rejected};
use crate::snapshots::{bare, outputs};

/// The log was shorter than its margins, so that nothing of it ever went, and nothing could be written any more.
#[test]
fn a_full_log_is_not_kept_for_its_margins() {
    let mut node = Lone::new();
    let term = node.lead();
    node.propose(19);
    node.sync();
    node.step(2, term, matched(20));
    node.step(3, term, matched(5));
    node.outputs.clear();
    let margin = Config::new(NodeId(1), vec![NodeId(1)], 0).snapshot_margin_bytes;
    node.raft.room(margin, node.now);
    node.raft.snapshot_taken(Index(18), node.now);
    node.drain();
    assert_eq!(outputs(&mut node), [], "there is room for the margin");
    node.raft.room(margin - 1, node.now);
    node.drain();
    assert_eq!(outputs(&mut node), [Output::Release(Index(18))]);
}

/// A node counts what its entries weigh from its start on: behind a restart the margin is that of the entries alone.
#[test]
fn a_log_that_is_full_at_the_start_is_not_kept_for_its_margins() {
    let mut node = Lone::recovered(1, &[1; 20]);
    node.step(2, 1, append((20, 1), &[1], 20));
    node.sync();
    let entry = Entry {
        term: Term(1),
        kind: EntryKind::Command,
        crc: 0,
        payload: bytes::Bytes::new(),
    };
    node.log.restore(Index(1), vec![entry; 20]);
    node.raft.loaded(Index(1)..Index(21), &mut node.log);
    node.drain();
    node.raft.snapshot_taken(Index(20), node.now);
    node.drain();
    let said = outputs(&mut node);
    assert!(
        !said.iter().any(|output| matches!(output, Output::Release(_))),
        "{said:?}"
    );
    node.raft.room(2000, node.now);
    node.drain();
    assert_eq!(outputs(&mut node), [Output::Release(Index(20))]);
}

/// However small the margin, there has to be room for an append, and for the successors of a leader.
#[test]
fn a_margin_of_a_few_entries_does_not_keep_a_log_full() {
    let mut node = Lone::with(0, &[], |config| {
        bare(config);
        config.snapshot_margin_entries = 100;
        config.snapshot_hold_room_min = 0;
        config.voters = vec![NodeId(1)];
    });
    node.pass(0);
    node.sync();
    node.propose(19);
    node.sync();
    let append = Config::new(NodeId(1), vec![NodeId(1)], 0).append_bytes_max as u64;
    node.raft.snapshot_taken(Index(20), node.now);
    node.raft.room(append + (4 << 10), node.now);
    node.drain();
    assert!(!outputs(&mut node).contains(&Output::Release(Index(20))));
    node.raft.room(append + (4 << 10) - 1, node.now);
    node.drain();
    assert_eq!(outputs(&mut node), [Output::Release(Index(20))]);
}

/// Storage kept the log's front because of a load or of what it had not written, and nobody came back to it.
#[test]
fn a_release_that_storage_declined_is_asked_for_again() {
    let mut node = Lone::with(0, &[], bare);
    let term = node.lead();
    node.propose(19);
    node.sync();
    node.step(2, term, matched(20));
    node.step(3, term, matched(20));
    node.outputs.clear();
    let released = |node: &mut Lone, base| {
        let said = outputs(node);
        let asked: Vec<_> = said
            .iter()
            .filter(|output| matches!(output, Output::Release(_)))
            .collect();
        if !asked.is_empty() {
            node.raft.released(Index(base));
        }
        assert!(
            asked.iter().all(|output| **output == Output::Release(Index(20))),
            "{said:?}"
        );
        asked.len()
    };
    node.propose(1);
    node.raft.snapshot_taken(Index(20), node.now);
    node.drain();
    assert_eq!(released(&mut node, 4), 1);
    node.pass(1);
    assert_eq!(released(&mut node, 4), 0, "nothing happened");
    node.sync();
    assert_eq!(released(&mut node, 7), 1, "what stood in its way may be durable");
    for _ in 0..3 {
        node.propose(1);
        node.sync();
        assert_eq!(
            released(&mut node, 7),
            0,
            "it keeps whole segments, and was asked twice"
        );
    }
    node.raft.loaded(Index(9)..Index(24), &mut node.log);
    node.drain();
    assert_eq!(released(&mut node, 20), 1, "nothing is read any more");
    assert_eq!(node.raft.base(), Index(20));
}

#[test]
fn the_front_goes_when_more_than_a_quarter_of_the_margin_would_to_the_entry() {
    let mut node = Lone::with(0, &[], |config| {
        config.snapshot_margin_entries = 100;
        config.snapshot_margin_bytes = u64::MAX;
        config.voters = vec![NodeId(1)];
    });
    node.pass(0);
    node.sync();
    node.propose(124);
    node.sync();
    node.raft.snapshot_taken(Index(90), node.now);
    node.drain();
    let released = |node: &mut Lone| {
        let said = outputs(node).into_iter();
        said.filter(|output| matches!(output, Output::Release(_)))
            .collect::<Vec<_>>()
    };
    assert_eq!(released(&mut node), [], "25 entries are behind the margin");
    node.propose(1);
    node.sync();
    assert_eq!(released(&mut node).first(), Some(&Output::Release(Index(26))));
}

#[test]
fn a_snapshot_from_before_the_log_s_front_is_sent_to_nobody() {
    for (held, sent) in [(4, None), (5, Some(Index(5))), (6, Some(Index(6)))] {
        let mut node = Lone::above((5, 2), 2, &[2], bare);
        node.step(2, 2, append((6, 2), &[], 6));
        let entry = Entry {
            term: Term(2),
            kind: EntryKind::Command,
            crc: 0,
            payload: bytes::Bytes::new(),
        };
        node.log.restore(Index(6), vec![entry]);
        node.raft.loaded(Index(6)..Index(7), &mut node.log);
        node.drain();
        let term = node.lead();
        node.raft.snapshot_taken(Index(held), node.now);
        // What it needs first is entry 4, and a snapshot of less is of no use to it.
        node.step(3, term, rejected(6, (3, 1)));
        node.step(3, term, rejected(5, (3, 1)));
        assert_eq!(node.raft.sends_snapshot(NodeId(3)), sent, "one up to {held}");
    }
}

#[test]
fn a_log_says_the_terms_of_its_entries_and_of_the_place_before_them() {
    let node = Lone::above((4, 1), 3, &[1, 2, 2, 3], |_| {});
    let terms: Vec<_> = (3..=9)
        .map(|index| node.raft.term_at(Index(index)).map(|term| term.0))
        .collect();
    assert_eq!(terms, [None, Some(1), Some(1), Some(2), Some(2), Some(3), None]);
}
