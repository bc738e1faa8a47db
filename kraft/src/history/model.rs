//! A key's operations as the search sees them: what each needs of the value that it meets, and what it leaves there.

use std::collections::{BTreeMap, HashMap};

use super::{Action, Answer, Fate, Operation};

/// A value of the key, by its place in [`Values`]; so values compare in one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Value(pub(super) u32);

/// The key is not there.
pub(super) const ABSENT: Value = Value(0);

/// Any value that nothing in the history tells from another: written by operations of unknown outcome, and neither seen
/// nor expected by anyone. All are one, so that the search does not try them one by one.
pub(super) const ANONYMOUS: Value = Value(1);

impl Value {
    pub(super) fn at(self) -> usize {
        self.0 as usize
    }
}

/// All values of a key, each once.
#[derive(Debug)]
pub(super) struct Values {
    /// Their numbers, if they are any. An absent key counts as 0.
    numbers: Vec<Option<i64>>,
    by_text: HashMap<Vec<u8>, Value>,
    by_number: HashMap<i64, Vec<Value>>,
}

/// What an operation needs of the value, to have been answered as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    Exactly(Value),
    /// A key that is there.
    Present,
    /// A value of this number.
    Number(i64),
    NotANumber,
    /// A number to which this cannot be added.
    Overflow(i64),
}

/// An operation that took effect. Its answer says what it left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// Which, of those that the model was made of.
    pub(super) operation: usize,
    pub(super) begin: u64,
    pub(super) end: u64,
    pub(super) need: Need,
    /// What is there afterwards, `None` if it changes nothing wherever it fits.
    pub(super) set: Option<Value>,
}

/// What an operation does that may have taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    /// Sets the key, or removes it, whatever is there.
    Set(Value),
    Swap {
        expected: Value,
        value: Value,
    },
    Add(i64),
}

/// Operations of unknown outcome that do the same. Who began first goes first: it can stand wherever another can.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) effect: Effect,
    /// When each began, ascending, and which it is.
    pub(super) members: Vec<(u64, usize)>,
}

/// What is to be ordered.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) known: Vec<Known>,
    pub(super) classes: Vec<Class>,
    pub(super) values: Values,
    /// Somebody adds, so numbers are not as other values.
    pub(super) adds: bool,
    /// Nothing but additions of no negative number changes the key, so that its number never falls.
    pub(super) only_grows: bool,
}

impl Values {
    fn new() -> Self {
        Self {
            numbers: vec![Some(0), None],
            by_text: HashMap::new(),
            by_number: HashMap::from([(0, vec![ABSENT])]),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    fn of(&mut self, text: &[u8]) -> Value {
        if let Some(value) = self.by_text.get(text) {
            return *value;
        }
        let value = Value(u32::try_from(self.numbers.len()).expect("a history has fewer values"));
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        self.numbers.push(number);
        self.by_text.insert(text.to_vec(), value);
        if let Some(number) = number {
            self.by_number.entry(number).or_default().push(value);
        }
        value
    }

    fn of_optional(&mut self, text: Option<&[u8]>) -> Value {
        text.map_or(ABSENT, |text| self.of(text))
    }

    /// The value that an addition leaves.
    pub(super) fn of_sum(&mut self, sum: i64) -> Value {
        self.of(sum.to_string().as_bytes())
    }

    pub(super) fn number(&self, value: Value) -> Option<i64> {
        self.numbers[value.at()]
    }

    /// All values of a number that there are so far.
    pub(super) fn of_number(&self, number: i64) -> &[Value] {
        self.by_number.get(&number).map_or(&[], Vec::as_slice)
    }

    pub(super) fn fits(&self, need: Need, value: Value) -> bool {
        let number = self.number(value);
        match need {
            Need::Nothing => true,
            Need::Exactly(exactly) => value == exactly,
            Need::Present => value != ABSENT,
            Need::Number(needed) => number == Some(needed),
            Need::NotANumber => number.is_none(),
            Need::Overflow(by) => number.is_some_and(|number| number.checked_add(by).is_none()),
        }
    }

    /// What an effect makes of a value; `None` if it leaves it.
    pub(super) fn after(&mut self, effect: Effect, value: Value) -> Option<Value> {
        let after = match effect {
            Effect::Set(set) => set,
            Effect::Swap { expected, value: set } if value == expected => set,
            Effect::Swap { .. } => return None,
            Effect::Add(by) => {
                let sum = self.number(value)?.checked_add(by)?;
                self.of_sum(sum)
            }
        };
        (after != value).then_some(after)
    }
}

impl Effect {
    /// What it leaves, if that does not depend on what it meets.
    pub(super) fn leaves(self) -> Option<Value> {
        match self {
            Self::Set(value) | Self::Swap { value, .. } => Some(value),
            Self::Add(_) => None,
        }
    }
}

impl Model {
    /// Of the operations of one key, in any order.
    ///
    /// `None` if no order can explain them: an answer fits no question, or a value was seen that nobody wrote, or
    /// before it was written.
    pub(super) fn new(operations: &[&Operation]) -> Option<Self> {
        let mut values = Values::new();
        let (mut known, mut loose) = (Vec::new(), Vec::new());
        let (mut adds, mut only_grows) = (false, true);
        for (at, operation) in operations.iter().enumerate() {
            let Operation {
                action, begin, fate, ..
            } = operation;
            adds |= matches!(action, Action::Increment(_)) && *fate != Fate::Refused;
            match fate {
                Fate::Refused => continue,
                Fate::Unknown if action.is_read() => continue,
                Fate::Unknown => loose.push(Some(Loose {
                    operation: at,
                    begin: *begin,
                    effect: effect(action, &mut values),
                })),
                Fate::Answered { end, answer } => {
                    let (need, set) = need(action, answer, &mut values)?;
                    let (operation, begin, end) = (at, *begin, *end);
                    known.push(Known {
                        operation,
                        begin,
                        end,
                        need,
                        set,
                    });
                    if set.is_none() {
                        continue;
                    }
                }
            }
            only_grows &= matches!(action, Action::Increment(by) if *by >= 0);
        }
        pin(&mut known, &mut loose, &values, adds)?;
        let classes = classes(&known, loose, &values, adds);
        known.sort_by_key(|known| (known.begin, known.end));
        Some(Self {
            known,
            classes,
            values,
            adds,
            only_grows,
        })
    }
}

/// An operation of unknown outcome.
#[derive(Clone, Copy, Debug)]
struct Loose {
    operation: usize,
    begin: u64,
    effect: Effect,
}

fn effect(action: &Action, values: &mut Values) -> Effect {
    match action {
        Action::Get => unreachable!("reads of unknown outcome are of no interest"),
        Action::Put(value) => Effect::Set(values.of(value)),
        Action::Delete => Effect::Set(ABSENT),
        Action::CompareAndSet { expected, value } => Effect::Swap {
            expected: values.of_optional(expected.as_deref()),
            value: values.of(value),
        },
        Action::Increment(by) => Effect::Add(*by),
    }
}

/// What an answer tells of the value before and after; `None` if it is none to this question.
fn need(action: &Action, answer: &Answer, values: &mut Values) -> Option<(Need, Option<Value>)> {
    Some(match (action, answer) {
        (Action::Get, Answer::Value(value)) => (Need::Exactly(values.of(value)), None),
        (Action::Get | Action::Delete, Answer::NotFound) => (Need::Exactly(ABSENT), None),
        (Action::Put(value), Answer::Done) => (Need::Nothing, Some(values.of(value))),
        (Action::Delete, Answer::Done) => (Need::Present, Some(ABSENT)),
        (Action::CompareAndSet { expected, value }, Answer::Done) => {
            let expected = values.of_optional(expected.as_deref());
            let value = values.of(value);
            (Need::Exactly(expected), (value != expected).then_some(value))
        }
        (Action::CompareAndSet { expected, .. }, Answer::Mismatch(seen)) if expected != seen => {
            (Need::Exactly(values.of_optional(seen.as_deref())), None)
        }
        (Action::Increment(by), Answer::Number(sum)) => {
            (Need::Number(sum.checked_sub(*by)?), Some(values.of_sum(*sum)))
        }
        (Action::Increment(_), Answer::NotANumber) => (Need::NotANumber, None),
        (Action::Increment(by), Answer::Overflow) => (Need::Overflow(*by), None),
        _ => return None,
    })
}

/// Finds the operations of unknown outcome that did take effect, because a value was seen that nobody else wrote, and
/// by when they did: before the first who saw it ended.
///
/// `None` if a value was seen that nobody wrote, or before it was written.
fn pin(known: &mut Vec<Known>, loose: &mut [Option<Loose>], values: &Values, adds: bool) -> Option<()> {
    // By value: when the first ended who saw it, how many wrote it, and the last of unknown outcome who did.
    let mut seen: Vec<Option<u64>> = vec![None; values.len()];
    let mut writers: Vec<(u32, Option<usize>)> = vec![(0, None); values.len()];
    for known in &*known {
        if let Need::Exactly(value) = known.need {
            let first = seen[value.at()].get_or_insert(known.end);
            *first = known.end.min(*first);
        }
        if let Some(value) = known.set {
            writers[value.at()].0 += 1;
        }
    }
    for (at, one) in loose.iter().enumerate() {
        if let Some(value) = one.and_then(|one| one.effect.leaves()) {
            writers[value.at()] = (writers[value.at()].0 + 1, Some(at));
        }
    }
    let is_written_alone = |value: Value| value != ABSENT && !(adds && values.number(value).is_some());
    let mut left: Vec<Value> = (0..values.len() as u32).map(Value).collect();
    while let Some(value) = left.pop() {
        let Some(end) = seen[value.at()].filter(|_| is_written_alone(value)) else {
            continue;
        };
        let writer = match writers[value.at()] {
            (0, _) => return None,
            (1, Some(writer)) => writer,
            _ => continue,
        };
        let Some(one) = loose[writer].take() else { continue };
        if end < one.begin {
            return None;
        }
        let need = match one.effect {
            Effect::Swap { expected, .. } => {
                let first = seen[expected.at()].get_or_insert(end);
                *first = end.min(*first);
                left.push(expected);
                Need::Exactly(expected)
            }
            _ => Need::Nothing,
        };
        known.push(Known {
            operation: one.operation,
            begin: one.begin,
            end,
            need,
            set: Some(value),
        });
    }
    Some(())
}

/// Puts together the operations of unknown outcome that nothing tells apart.
fn classes(known: &[Known], loose: Vec<Option<Loose>>, values: &Values, adds: bool) -> Vec<Class> {
    let mut matters = vec![false; values.len()];
    matters[ABSENT.at()] = true;
    for known in known {
        if let Need::Exactly(value) = known.need {
            matters[value.at()] = true;
        }
    }
    for one in loose.iter().flatten() {
        if let Effect::Swap { expected, .. } = one.effect {
            matters[expected.at()] = true;
        }
    }
    let anonymous = |value: Value| {
        let is_told_apart = matters[value.at()] || adds && values.number(value).is_some();
        if is_told_apart { value } else { ANONYMOUS }
    };
    let mut classes: BTreeMap<Effect, Vec<(u64, usize)>> = BTreeMap::new();
    for one in loose.into_iter().flatten() {
        let effect = match one.effect {
            Effect::Set(value) => Effect::Set(anonymous(value)),
            Effect::Swap { expected, value } => Effect::Swap {
                expected,
                value: anonymous(value),
            },
            Effect::Add(by) => Effect::Add(by),
        };
        classes.entry(effect).or_default().push((one.begin, one.operation));
    }
    let class = |(effect, mut members): (_, Vec<_>)| {
        members.sort_unstable();
        Class { effect, members }
    };
    classes.into_iter().map(class).collect()
}
