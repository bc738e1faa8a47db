//! Answers on less than commitment.

use super::*;
use crate::message::{Basis, Commit, Consistency};

fn weaker(basis: Basis) -> message::Outcome<'static> {
    message::Outcome::Weaker { basis, answer: b"a" }
}

#[test]
fn an_answer_on_less_is_one_where_it_was_asked_for() {
    let stale = |age_max_ms| Consistency::Stale { age_max_ms };
    let read = |consistency| Request::Read {
        query: Bytes::from_static(b"get"),
        consistency,
    };
    let command = |commit| Request::Command {
        command: Bytes::from_static(b"put"),
        delivery: Delivery::AtMostOnce,
        commit,
    };
    let of = |age_ms| Basis::Stale { age_ms };
    let cases = [
        (read(Consistency::Linearizable), Basis::Lease, false),
        (read(Consistency::Linearizable), of(0), false),
        (read(Consistency::Lease), Basis::Lease, true),
        (read(Consistency::Lease), of(0), false),
        (read(stale(5)), of(4), true),
        (read(stale(5)), of(5), false),
        (read(stale(u64::MAX)), of(u64::MAX), true),
        (read(stale(5)), Basis::Received, false),
        (command(Commit::Strong), Basis::Leader, false),
        (command(Commit::Strong), Basis::Received, false),
        (command(Commit::Leader), Basis::Leader, true),
        (command(Commit::Leader), Basis::Received, false),
        (command(Commit::Async), Basis::Leader, true),
        (command(Commit::Async), Basis::Received, true),
        (command(Commit::Async), Basis::Lease, false),
    ];
    for (request, basis, takes) in cases {
        let mut script = Script::new();
        script.client.call(request.clone(), script.now).expect("room");
        let sent = script.one(&[0]);
        script.answer(&sent, weaker(basis));
        script.run(&[0]);
        let answer = Bytes::from_static(b"a");
        let ended = script.done.iter().any(|(_, end)| {
            *end == End::Outcome(Outcome::Weaker {
                basis,
                answer: answer.clone(),
            })
        });
        assert_eq!(ended, takes, "{request:?} answered by {basis:?}");
        let committed = |end: &End| matches!(end, End::Outcome(Outcome::Committed(_)));
        assert!(
            !script.done.iter().any(|(_, end)| committed(end)),
            "{request:?} answered by {basis:?}"
        );
    }
}

#[test]
fn a_read_that_is_too_stale_here_is_asked_elsewhere() {
    let mut script = Script::new();
    let consistency = Consistency::Stale { age_max_ms: 5 };
    let query = Bytes::from_static(b"get");
    script
        .client
        .call(Request::Read { query, consistency }, script.now)
        .expect("room");
    let first = script.one(&[0, 1, 2]);
    script.refuse(&first, Refusal::TooStale, 0);
    let second = script.one(&[0, 1, 2]);
    assert_ne!(first.site, second.site);
    script.answer(&second, weaker(Basis::Stale { age_ms: 1 }));
    script.run(&[0, 1, 2]);
    assert_eq!(script.done.len(), 1);
}
