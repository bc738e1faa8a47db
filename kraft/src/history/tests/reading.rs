//! Histories as text.

use super::super::{Action, Answer, Fate, History, Operation};
use super::cases::history;

#[test]
fn a_history_survives_the_round_trip() {
    let mut all = History::new();
    let nasty: [&[u8]; 5] = [b"", b"~", b"%41 -> x", b"a\nb\xff", b"plain"];
    for (at, bytes) in nasty.iter().enumerate() {
        let bytes = bytes.to_vec();
        let actions = [
            Action::Get,
            Action::Put(bytes.clone()),
            Action::Delete,
            Action::CompareAndSet {
                expected: (at % 2 == 0).then(|| bytes.clone()),
                value: bytes.clone(),
            },
            Action::Increment(i64::MIN),
        ];
        let answers = [
            Answer::Done,
            Answer::NotFound,
            Answer::Value(bytes.clone()),
            Answer::Mismatch((at % 2 == 0).then(|| bytes.clone())),
            Answer::Number(-1),
            Answer::NotANumber,
            Answer::Overflow,
            Answer::Other,
        ];
        let answered = answers
            .into_iter()
            .map(|answer| Fate::Answered { end: u64::MAX, answer });
        let fates: Vec<_> = answered.chain([Fate::Refused, Fate::Unknown]).collect();
        for action in actions {
            for fate in &fates {
                all.push(Operation {
                    client: at as u32,
                    key: bytes.clone(),
                    action: action.clone(),
                    begin: 7,
                    fate: fate.clone(),
                });
            }
        }
    }
    let mut text = Vec::new();
    all.write(&mut text).expect("memory takes it");
    assert_eq!(History::read(&text[..]).expect("a history"), all);
    // A line an operation, whatever is in it.
    assert_eq!(
        text.iter().filter(|byte| **byte == b'\n').count(),
        1 + all.operations().len()
    );
}

#[test]
fn what_is_no_history_is_refused_with_its_line() {
    for (text, said) in [
        ("", Some("line 1 has no end")),
        ("# kraft history 1", Some("line 1 has no end")),
        ("# kraft history 1\n", None),
        ("# kraft history 2\n", Some("line 1 is not")),
        ("\n# kraft history 1\n", Some("line 1 is not")),
        ("1 1 2 k get -> not-found\n", Some("line 1 is not")),
        ("# kraft history 1\n\n# a remark\n1 1 - k get -> unknown\n", None),
        ("# kraft history 1\n1 1 2 k get -> unknown\n", Some("line 2 is no")),
        ("# kraft history 1\n1 1 - k get -> not-found\n", Some("line 2 is no")),
        ("# kraft history 1\n1 3 2 k get -> not-found\n", Some("line 2 is no")),
        ("# kraft history 1\n1 1 2 k get -> value\n", Some("line 2 is no")),
        ("# kraft history 1\n1 1 2 k put %4 -> done\n", Some("line 2 is no")),
        ("# kraft history 1\n1 1 2 k put %+4 -> done\n", Some("line 2 is no")),
        ("# kraft history 1\n1 1 2 k delete -> done x\n", Some("line 2 is no")),
        (
            "# kraft history 1\n1 1 2 k get -> value a\n1 1 2\n",
            Some("line 3 is no"),
        ),
        // It is cut short, and what is there is an operation.
        ("# kraft history 1\n1 1 2 k get -> value a", Some("line 2 has no end")),
    ] {
        let read = History::read(text.as_bytes());
        match said {
            None => assert!(read.is_ok(), "{text:?}: {read:?}"),
            Some(said) => {
                let error = read.expect_err(text).to_string();
                assert!(error.starts_with(said), "{text:?}: {error}");
            }
        }
    }
}

#[test]
fn a_line_that_is_anything_is_quoted_in_part_and_escaped() {
    let text = format!("# kraft history 1\n\x1b[2J{}\n", "x".repeat(10_000));
    let error = History::read(text.as_bytes()).expect_err("no operation").to_string();
    let expected = format!("line 2 is no operation: \\u{{1b}}[2J{}...", "x".repeat(56));
    assert_eq!(error, expected);
}

#[test]
fn histories_of_several_clients_are_one() {
    let mut one = history("1 1 2 k put a -> done");
    one.merge(history("2 3 4 k get -> not-found"));
    assert_eq!(one.operations().len(), 2);
    assert!(!one.check(super::super::Budget::default()).is_linearizable());
}
