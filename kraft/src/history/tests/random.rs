//! Histories at random: made by a machine that is linearizable, then spoilt; small ones are judged by trying every
//! order on the real machine, too.
//!
//! `KRAFT_SEED=n` runs one seed, `KRAFT_SEEDS=n` so many of them.

use bytes::BytesMut;
use fastrand::Rng;
use kraft_core::client::{Delivery, Request};
use kraft_core::id::Index;
use kraft_core::machine::StateMachine;

use super::super::{Action, Answer, Budget, Fate, History, Operation, Verdict};
use crate::kv::{Command, Kv, Limits, Reply};

fn seeds(usual: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    match number("KRAFT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("KRAFT_SEEDS").unwrap_or(usual),
    }
}

/// What a history is made of.
#[derive(Clone, Copy, Debug)]
struct Kind {
    operations: usize,
    keys: usize,
    clients: u32,
    /// How often nobody learns what came of an operation.
    unknown: f64,
    /// Values that nobody else writes, and keys that are either numbers or not.
    is_tidy: bool,
}

/// An operation on the real machine.
fn perform(kv: &mut Kv, key: &[u8], action: &Action) -> Answer {
    let mut reply = BytesMut::new();
    match action.request(key, Delivery::AtMostOnce) {
        Request::Command { command, .. } => kv.apply(Index(1), &command, &mut reply),
        Request::Read { query, .. } => kv.read(&query, &mut reply).expect("a get is taken"),
        Request::Change { .. } | Request::Transfer { .. } | Request::Status { .. } | Request::Fetch { .. } => {
            unreachable!()
        }
    }
    Answer::from(&Reply::decode(&reply).expect("a reply"))
}

fn action(rng: &mut Rng, kind: &Kind, at: usize, key: usize, seen: &[Vec<u8>]) -> Action {
    let value = |rng: &mut Rng| match kind.is_tidy {
        true => format!("v{at}").into_bytes(),
        false => rng
            .choice(["a", "b", "0", "1", "2", "01", "9223372036854775807"])
            .expect("some")
            .into(),
    };
    let number = [1, 1, 1, 2, -1, 0];
    match (kind.is_tidy, key % 2, rng.u32(..10)) {
        (_, _, 0..3) => Action::Get,
        (true, 0, _) => Action::Increment(1),
        (false, _, 3..5) => Action::Increment(*rng.choice(&number).expect("some")),
        (_, _, 5) => Action::Delete,
        (_, _, 6..8) => Action::CompareAndSet {
            expected: match kind.is_tidy {
                true => rng.choice(seen).cloned(),
                false => rng.bool().then(|| value(rng)),
            },
            value: value(rng),
        },
        _ => Action::Put(value(rng)),
    }
}

/// A history of a machine that takes each operation at one point between its beginning and its end.
fn linearizable(rng: &mut Rng, kind: &Kind) -> History {
    let mut clocks = vec![0; kind.clients as usize];
    // Begin, point, end, whose, key, and how it ends: 0 answered, 1 unknown and done, 2 unknown and not, 3 refused.
    let mut drafts = Vec::new();
    for _ in 0..kind.operations {
        let client = rng.usize(..clocks.len());
        let begin = clocks[client] + rng.u64(..4);
        let fate = match rng.f64() {
            draw if draw < kind.unknown => 1 + rng.u32(..2),
            draw if draw < kind.unknown * 1.2 => 3,
            _ => 0,
        };
        let end = begin + rng.u64(..8);
        let point = if fate == 1 {
            begin + rng.u64(..100)
        } else {
            rng.u64(begin..=end)
        };
        clocks[client] = end + 1;
        drafts.push((point, begin, end, client as u32, rng.usize(..kind.keys), fate));
    }
    drafts.sort_unstable();
    let mut kv = Kv::new(Limits::default());
    let mut history = History::new();
    let mut seen = vec![Vec::new(); kind.keys];
    for (at, (_, begin, end, client, key, fate)) in drafts.into_iter().enumerate() {
        let action = action(rng, kind, at, key, &seen[key]);
        let name = format!("k{key}").into_bytes();
        let answer = if fate < 2 {
            perform(&mut kv, &name, &action)
        } else {
            Answer::Other
        };
        if let Answer::Value(value) = &answer {
            seen[key] = vec![value.clone()];
        }
        let fate = match fate {
            0 => Fate::Answered { end, answer },
            3 => Fate::Refused,
            _ => Fate::Unknown,
        };
        history.push(Operation {
            client,
            key: name,
            action,
            begin,
            fate,
        });
    }
    history
}

/// Changes what an operation saw, or when, or takes one away.
fn spoil(rng: &mut Rng, history: &History) -> History {
    let mut operations = history.operations().to_vec();
    let answers = operations.iter().filter_map(|one| match &one.fate {
        Fate::Answered { answer, .. } => Some(answer.clone()),
        _ => None,
    });
    let answers: Vec<_> = answers.collect();
    let at = rng.usize(..operations.len());
    let one = &mut operations[at];
    match (rng.u32(..5), &mut one.fate) {
        (0 | 1, Fate::Answered { answer, .. }) => *answer = rng.choice(answers).expect("there is one"),
        (
            2,
            Fate::Answered {
                answer: Answer::Number(number),
                ..
            },
        ) => *number = number.wrapping_add(1),
        (2 | 3, Fate::Answered { end, .. }) => {
            let span = *end - one.begin;
            one.begin += rng.u64(..10);
            *end = one.begin + span;
        }
        _ => {
            operations.remove(at);
        }
    }
    let mut spoilt = History::new();
    for operation in operations {
        spoilt.push(operation);
    }
    spoilt
}

/// Whether some order explains the operations of one key: tries all of them.
fn has_order(left: &[&Operation], value: Option<&[u8]>) -> bool {
    let is_answered = |one: &&&Operation| matches!(one.fate, Fate::Answered { .. });
    let ends = left.iter().filter(is_answered).map(|one| match one.fate {
        Fate::Answered { end, .. } => end,
        _ => unreachable!(),
    });
    let Some(first_end) = ends.min() else {
        return true;
    };
    for (at, next) in left.iter().enumerate() {
        if next.begin > first_end || next.fate == Fate::Refused {
            continue;
        }
        let mut kv = Kv::new(Limits::default());
        if let Some(value) = value {
            let mut command = BytesMut::new();
            Command::Put { key: b"k", value }.encode(&mut command);
            kv.apply(Index(1), &command, &mut BytesMut::new());
        }
        let answered = perform(&mut kv, b"k", &next.action);
        if matches!(&next.fate, Fate::Answered { answer, .. } if *answer != answered) {
            continue;
        }
        let rest: Vec<_> = left
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != at)
            .map(|(_, one)| *one)
            .collect();
        if has_order(&rest, kv.get(b"k")) {
            return true;
        }
    }
    false
}

#[test]
fn small_histories_are_judged_as_by_trying_every_order() {
    let (mut good, mut bad) = (0, 0);
    let seeds = seeds(6000);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let mut rng = Rng::with_seed(seed);
        let kind = Kind {
            operations: rng.usize(2..8),
            keys: 1,
            clients: rng.u32(1..5),
            unknown: rng.f64() * 0.6,
            is_tidy: rng.u32(..4) == 0,
        };
        let mut history = linearizable(&mut rng, &kind);
        for round in 0..3 {
            let expected = has_order(&history.operations().iter().collect::<Vec<_>>(), None);
            assert!(expected || round > 0, "KRAFT_SEED={seed}: {history:#?}");
            let verdict = history.check(Budget::default());
            let is_as_expected = match &verdict {
                Verdict::Linearizable => expected,
                Verdict::NotLinearizable(_) => !expected,
                Verdict::Undecided { .. } => false,
            };
            let mut text = Vec::new();
            history.write(&mut text).expect("memory takes it");
            let text = String::from_utf8_lossy(&text);
            assert!(
                is_as_expected,
                "KRAFT_SEED={seed} round {round}: {expected}, {verdict}\n{text}"
            );
            *(if expected { &mut good } else { &mut bad }) += 1;
            if history.operations().is_empty() {
                break;
            }
            history = spoil(&mut rng, &history);
        }
    }
    // Both kinds are there, or the comparison says nothing.
    assert!(
        count < 100 || good > count / 2 && bad > count / 2,
        "{good} good, {bad} bad"
    );
}

#[test]
fn large_histories_of_a_linearizable_machine_pass() {
    for seed in seeds(20) {
        println!("KRAFT_SEED={seed}");
        let mut rng = Rng::with_seed(seed);
        let kind = Kind {
            operations: 4000,
            keys: rng.usize(1..20),
            clients: rng.u32(1..16),
            unknown: rng.f64() * 0.2,
            is_tidy: true,
        };
        let history = linearizable(&mut rng, &kind);
        let verdict = history.check(Budget::default());
        assert!(verdict.is_linearizable(), "{kind:?}: {verdict}");
    }
}

#[test]
fn one_wrong_answer_in_a_large_history_is_found() {
    for seed in seeds(20) {
        println!("KRAFT_SEED={seed}");
        let mut rng = Rng::with_seed(seed);
        let kind = Kind {
            operations: 3000,
            keys: 6,
            clients: 8,
            unknown: 0.05,
            is_tidy: true,
        };
        let history = linearizable(&mut rng, &kind);
        // A read that sees what was there long before.
        let mut operations = history.operations().to_vec();
        let reads = operations.iter().enumerate().filter_map(|(at, one)| match &one.fate {
            Fate::Answered {
                answer: Answer::Value(value),
                ..
            } if one.key == b"k1" => Some((at, value.clone())),
            _ => None,
        });
        let reads: Vec<_> = reads.collect();
        let (old, new) = (&reads[rng.usize(..reads.len() / 2)].1, reads[reads.len() * 3 / 4].0);
        let Fate::Answered { answer, .. } = &mut operations[new].fate else {
            unreachable!()
        };
        *answer = Answer::Value(old.clone());
        let culprit = operations[new].clone();
        let mut spoilt = History::new();
        for operation in operations {
            spoilt.push(operation);
        }
        match spoilt.check(Budget::default()) {
            Verdict::NotLinearizable(contradiction) => assert_eq!(contradiction.culprit, culprit, "{contradiction}"),
            verdict => panic!("{verdict}"),
        }
    }
}
