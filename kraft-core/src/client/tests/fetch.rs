//! Calls for pieces of a snapshot.

use super::*;
use crate::id::{Index, Term};
use crate::message::{Fetch, SnapshotChunk, SnapshotId};

const ID: SnapshotId = SnapshotId {
    index: Index(9),
    term: Term(2),
    bytes: 6,
    crc: 7,
};

impl Script {
    fn fetch(&mut self, site: usize, fetch: Fetch) -> CallId {
        let request = Request::Fetch { site, fetch };
        self.client.call(request, self.now).expect("room")
    }

    fn give(&mut self, sent: &Sent, offset: u64, data: &[u8]) {
        let chunk = SnapshotChunk { id: ID, offset, data };
        let node = sent.site as u64 + 1;
        self.say(sent.site, node, CLUSTER, sent.request, Body::FetchReply(chunk));
    }

    /// Why the call ended without a piece.
    #[track_caller]
    fn missed(&mut self, call: CallId) -> NoPiece {
        match std::mem::take(&mut self.done).pop() {
            Some((ended, End::Piece(Err(why)))) if ended == call => why,
            other => panic!("{other:?} is no failure of {call:?}"),
        }
    }
}

fn piece(offset: u64, data: &'static [u8]) -> End {
    End::Piece(Ok(Piece {
        id: ID,
        offset,
        data: Bytes::from_static(data),
    }))
}

fn part(offset: u64) -> Fetch {
    Fetch { id: ID, offset }
}

#[test]
fn pieces_come_from_the_node_that_was_asked_whoever_leads() {
    let mut script = Script::new();
    let first = script.fetch(1, Fetch::default());
    let sent = script.one(&[0, 1, 2]);
    assert_eq!((sent.site, &sent.body), (1, &SendingBody::Fetch(Fetch::default())));
    script.give(&sent, 0, b"abc");
    script.run(&[]);
    script.ended(first, piece(0, b"abc"));
    let next = script.fetch(1, part(3));
    let sent = script.one(&[]);
    assert_eq!((sent.site, &sent.body), (1, &SendingBody::Fetch(part(3))));
    script.give(&sent, 3, b"def");
    script.run(&[]);
    script.ended(next, piece(3, b"def"));
}

#[test]
fn a_piece_may_take_as_long_as_its_call() {
    let mut script = Script::new();
    let first = script.fetch(0, Fetch::default());
    let sent = script.one(&[0]);
    // Far longer than an attempt.
    script.pass(Duration::from_secs(4));
    assert!(script.run(&[0]).is_empty() && script.done.is_empty());
    script.give(&sent, 0, b"abc");
    script.run(&[]);
    script.ended(first, piece(0, b"abc"));
    let next = script.fetch(0, part(3));
    script.one(&[0]);
    script.pass(Duration::from_secs(4));
    assert!(script.run(&[0]).is_empty() && script.done.is_empty());
    script.pass(Duration::from_secs(1));
    script.run(&[0]);
    let why = script.missed(next);
    assert_eq!(why, NoPiece::Lost("10.0.0.1:7001 did not answer in time".into()));
    // It said nothing else either.
    assert!(!script.client.is_connected(0));
}

#[test]
fn a_silent_node_that_is_writing_a_snapshot_is_found_out_by_another_question() {
    let mut script = Script::new();
    let first = script.fetch(0, Fetch::default());
    script.one(&[0]);
    script.pass(Duration::from_secs(2));
    let status = script.client.call(Request::Status { site: 0 }, script.now);
    assert_eq!(script.one(&[0]).body, SendingBody::Status);
    script.pass(Duration::from_secs(1));
    script.run(&[]);
    let ended: Vec<_> = std::mem::take(&mut script.done)
        .into_iter()
        .map(|done| done.0)
        .collect();
    assert_eq!(ended, [first, status.expect("room")]);
}

#[test]
fn a_lost_connection_and_a_dead_node_end_a_fetch_at_once() {
    let mut script = Script::new();
    let call = script.fetch(2, part(3));
    let sent = script.one(&[2]);
    script.client.closed(sent.site, &"connection reset", script.now);
    script.run(&[]);
    assert_eq!(script.missed(call), NoPiece::Lost("connection reset".into()));
    let call = script.fetch(2, part(3));
    script.run(&[]);
    assert_eq!(script.missed(call), NoPiece::Lost("connection refused".into()));
}

#[test]
fn a_refusal_of_a_piece_moves_nothing() {
    let mut script = Script::new();
    for why in [
        Refusal::Invalid,
        Refusal::NoSpace,
        Refusal::Overloaded,
        Refusal::Stopping,
    ] {
        let call = script.fetch(0, part(3));
        let sent = script.one(&[0]);
        script.refuse(&sent, why, 2);
        script.run(&[0]);
        match script.missed(call) {
            NoPiece::Refused(refused) => assert_eq!(refused.why, why),
            other => panic!("{other:?}"),
        }
    }
    // Commands go where they went before.
    script.put(Delivery::AtMostOnce);
    assert_eq!(script.one(&[0]).site, 0);
}

#[test]
fn a_node_that_answers_another_question_is_left() {
    let mut script = Script::new();
    let call = script.fetch(0, part(3));
    let sent = script.one(&[0]);
    script.commit(&sent, b"abc");
    script.run(&[]);
    let why = script.missed(call);
    assert_eq!(why, NoPiece::Lost("answered something else than was asked".into()));
    assert!(!script.client.is_connected(0));
    // And the other way round.
    let call = script.put(Delivery::AtMostOnce);
    let sent = script.one(&[1]);
    script.give(&sent, 3, b"def");
    script.run(&[]);
    script.ended(call, UNKNOWN);
    assert!(!script.client.is_connected(1));
}

#[test]
fn a_full_outbox_only_delays_a_fetch() {
    let mut script = Script::new();
    let call = script.fetch(0, part(3));
    let sent = script.one(&[0]);
    let message = Sending {
        request: sent.request,
        body: sent.body.clone(),
    };
    script.client.unsent(0, &message, EncodeError::Full, script.now);
    assert!(script.run(&[0]).is_empty());
    script.client.drained(0, script.now);
    let sent = script.one(&[0]);
    script.give(&sent, 3, b"def");
    script.run(&[]);
    script.ended(call, piece(3, b"def"));
}
