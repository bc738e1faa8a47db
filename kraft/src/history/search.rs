//! The search for an order.
//!
//! It places one operation after another. At each point those may come next that began before the first of the
//! operations still to be placed ended. What makes this fast, and why nothing is missed:
//!
//! - What fits and changes nothing is placed at once: in any order that can still be completed it can be moved to here.
//! - An operation of unknown outcome is placed only in a chain that ends in an operation that fits behind the chain and
//!   does not fit without it: in any other place it can be left out, or be moved behind the operation that follows it.
//!   So chains are looked for backwards, from what is needed to what is there, and pass no value twice.
//! - Of two ways to the same set of known operations and the same value the one that used more operations of unknown
//!   outcome is not followed.
//! - No value is left that somebody still has to see and nobody can write again.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use super::Operation;
use super::model::{ABSENT, ANONYMOUS, Effect, Known, Model, Need, Value};

/// Operations of unknown outcome in one chain. Beyond it the answer is that the budget is used up.
const CHAIN_MAX: usize = 1000;

/// What a search came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The operations, by their places, in an order that explains them; those that took no effect are not in it.
    Ordered(Vec<usize>),
    Impossible,
    OutOfBudget {
        steps: u64,
    },
}

/// Looks for an order of the operations of one key.
pub(super) fn decide(operations: &[&Operation], budget: u64) -> Decision {
    match Model::new(operations) {
        Some(model) => Search::new(model, budget).run(),
        None => Decision::Impossible,
    }
}

/// An operation in its place.
#[derive(Clone, Copy, Debug)]
enum Placed {
    Known(u32),
    /// The next member of this class.
    Loose(u32),
}

/// A chain, by its classes, and the known operation that it is for.
#[derive(Debug)]
struct Move {
    chain: Vec<u32>,
    known: u32,
}

/// A point at which there was a choice.
#[derive(Debug)]
struct Choice {
    /// How much was placed by then.
    placed: usize,
    moves: std::vec::IntoIter<Move>,
}

/// Sets of known operations, as hashes, and the value after them; with how many members of each class were used.
type Tried = HashMap<(u128, Value), Vec<Box<[u32]>>, BuildHasherDefault<Mixed>>;

#[derive(Debug)]
struct Search {
    model: Model,
    line: Line,
    value: Value,
    /// What is placed, each with the value before it.
    placed: Vec<(Placed, Value)>,
    /// Of the known operations that are placed: what their numbers hash to, each alone, combined by exclusive or. That
    /// two of the sets that a search meets are taken for one has a chance below 2^-80.
    set: u128,
    /// How many members of each class are placed.
    used: Vec<u32>,
    /// Additions of unknown outcome that are not placed.
    adds_left: usize,
    /// By value: known operations to be placed that need exactly it, and operations to be placed that leave it.
    wanted: Vec<u32>,
    writers: Vec<u32>,
    /// Of a key that only grows: numbers that known operations to be placed need.
    numbers: BTreeMap<i64, u32>,
    tried: Tried,
    steps: u64,
    budget: u64,
    /// A chain was not followed to its end.
    is_cut: bool,
}

impl Search {
    fn new(model: Model, budget: u64) -> Self {
        let values = model.values.len();
        let mut search = Self {
            line: Line::new(&model.known),
            value: ABSENT,
            placed: Vec::new(),
            set: 0,
            used: vec![0; model.classes.len()],
            adds_left: 0,
            wanted: vec![0; values],
            writers: vec![0; values],
            numbers: BTreeMap::new(),
            tried: Tried::default(),
            steps: 0,
            budget,
            is_cut: false,
            model,
        };
        for at in 0..search.model.known.len() {
            search.count(search.model.known[at], true);
        }
        for class in &search.model.classes {
            match class.effect.leaves() {
                Some(value) => search.writers[value.at()] += class.members.len() as u32,
                None => search.adds_left += class.members.len(),
            }
        }
        search
    }

    fn run(mut self) -> Decision {
        let mut choices: Vec<Choice> = Vec::new();
        let mut is_open = true;
        loop {
            if self.steps > self.budget {
                return Decision::OutOfBudget { steps: self.steps };
            }
            if is_open {
                let Some((candidates, first_end)) = self.place_what_changes_nothing() else {
                    return Decision::Ordered(self.order());
                };
                let moves = if self.is_new() {
                    self.moves(candidates, first_end)
                } else {
                    Vec::new()
                };
                choices.push(Choice {
                    placed: self.placed.len(),
                    moves: moves.into_iter(),
                });
            }
            let Some(choice) = choices.last_mut() else {
                return if self.is_cut {
                    Decision::OutOfBudget { steps: self.steps }
                } else {
                    Decision::Impossible
                };
            };
            self.take_back(choice.placed);
            is_open = match choice.moves.next() {
                Some(next) => self.make(&next),
                None => {
                    choices.pop();
                    false
                }
            };
        }
    }

    /// Places everything that fits and changes nothing; returns the [`candidates`](Self::candidates) then, if anything
    /// is to be placed still.
    fn place_what_changes_nothing(&mut self) -> Option<(Vec<u32>, u64)> {
        while !self.line.is_empty() {
            let before = self.placed.len();
            let (candidates, first_end) = self.candidates();
            for at in &candidates {
                let Known { need, set, .. } = self.model.known[*at as usize];
                if set.is_none() && self.model.values.fits(need, self.value) {
                    self.place_known(*at);
                }
            }
            if self.placed.len() == before {
                return Some((candidates, first_end));
            }
        }
        None
    }

    /// Known operations that may come next, and when the first of those to be placed ends.
    fn candidates(&mut self) -> (Vec<u32>, u64) {
        let mut candidates = Vec::new();
        let first_end = self.line.candidates(&mut candidates);
        self.steps += 1 + candidates.len() as u64;
        (candidates, self.model.known[first_end as usize].end)
    }

    /// Whether no way led to what is placed, or to as much with less of unknown outcome.
    fn is_new(&mut self) -> bool {
        let ways = self.tried.entry((self.set, self.value)).or_default();
        // Each way is compared, and one kept, class by class.
        self.steps += (1 + ways.len() as u64) * (1 + self.used.len() as u64 / 8);
        let is_within = |way: &[u32], used: &[u32]| way.iter().zip(used).all(|(a, b)| a <= b);
        if ways.iter().any(|way| is_within(way, &self.used)) {
            return false;
        }
        ways.retain(|way| !is_within(&self.used, way));
        ways.push(self.used.as_slice().into());
        true
    }

    /// All that may come next, what must come soonest first.
    fn moves(&mut self, mut candidates: Vec<u32>, first_end: u64) -> Vec<Move> {
        candidates.sort_by_key(|at| self.model.known[*at as usize].end);
        let mut moves = Vec::new();
        for known in candidates {
            let need = self.model.known[known as usize].need;
            if self.model.values.fits(need, self.value) {
                let chain = Vec::new();
                moves.push(Move { chain, known });
            } else if !self.used.is_empty() {
                let chains = Chains::find(self, need, first_end);
                moves.extend(chains.into_iter().map(|chain| Move { chain, known }));
            }
        }
        moves
    }

    /// Places a chain and its known operation; takes them back and returns false if nothing can follow.
    fn make(&mut self, next: &Move) -> bool {
        self.steps += 1;
        let base = self.placed.len();
        let mut holds = true;
        for class in &next.chain {
            let left = self.value;
            self.place_loose(*class);
            holds = holds && !self.is_stranded(left);
        }
        let left = self.value;
        self.place_known(next.known);
        holds = holds && !self.is_stranded(left);
        if !holds {
            self.take_back(base);
        }
        holds
    }

    /// Whether somebody has to see what was just left, and cannot any more.
    fn is_stranded(&self, left: Value) -> bool {
        if left == self.value {
            return false;
        }
        let number = self.model.values.number(left);
        let can_be_summed = left != ABSENT && number.is_some() && self.adds_left > 0 && !self.model.only_grows;
        if self.wanted[left.at()] > 0 && self.writers[left.at()] == 0 && !can_be_summed {
            return true;
        }
        match (self.numbers.first_key_value(), self.model.values.number(self.value)) {
            (Some((least, _)), Some(now)) => *least < now,
            _ => false,
        }
    }

    fn place_known(&mut self, at: u32) {
        let known = self.model.known[at as usize];
        self.line.take(at);
        self.set ^= mixed_u128(at);
        self.count(known, false);
        self.placed.push((Placed::Known(at), self.value));
        self.value = known.set.unwrap_or(self.value);
    }

    fn place_loose(&mut self, at: u32) {
        let effect = self.model.classes[at as usize].effect;
        let after = self.model.values.after(effect, self.value);
        self.grow();
        self.used[at as usize] += 1;
        match effect.leaves() {
            Some(value) => self.writers[value.at()] -= 1,
            None => self.adds_left -= 1,
        }
        self.placed.push((Placed::Loose(at), self.value));
        self.value = after.expect("a chain has no idle link");
    }

    /// Undoes everything but the first `base` placements.
    fn take_back(&mut self, base: usize) {
        while self.placed.len() > base {
            let (placed, value) = self.placed.pop().expect("there are more");
            self.value = value;
            match placed {
                Placed::Known(at) => {
                    self.line.put_back(at);
                    self.set ^= mixed_u128(at);
                    self.count(self.model.known[at as usize], true);
                }
                Placed::Loose(at) => {
                    self.used[at as usize] -= 1;
                    match self.model.classes[at as usize].effect.leaves() {
                        Some(value) => self.writers[value.at()] += 1,
                        None => self.adds_left += 1,
                    }
                }
            }
        }
    }

    /// A known operation is to be placed, or is placed.
    fn count(&mut self, known: Known, is_left: bool) {
        let change = |count: &mut u32| if is_left { *count += 1 } else { *count -= 1 };
        if let Need::Exactly(value) = known.need {
            change(&mut self.wanted[value.at()]);
        }
        if let Some(value) = known.set {
            change(&mut self.writers[value.at()]);
        }
        if !self.model.only_grows {
            return;
        }
        let number = match known.need {
            Need::Number(number) => number,
            Need::Exactly(value) if value != ABSENT => match self.model.values.number(value) {
                Some(number) => number,
                None => return,
            },
            _ => return,
        };
        let count = self.numbers.entry(number).or_default();
        change(count);
        if *count == 0 {
            self.numbers.remove(&number);
        }
    }

    /// Sums that appeared need room in the tables.
    fn grow(&mut self) {
        self.wanted.resize(self.model.values.len(), 0);
        self.writers.resize(self.model.values.len(), 0);
    }

    fn order(&self) -> Vec<usize> {
        let mut next = vec![0; self.used.len()];
        let operation = |(placed, _): &(Placed, Value)| match placed {
            Placed::Known(at) => self.model.known[*at as usize].operation,
            Placed::Loose(at) => {
                let next = &mut next[*at as usize];
                *next += 1;
                self.model.classes[*at as usize].members[*next - 1].1
            }
        };
        self.placed.iter().map(operation).collect()
    }
}

/// Chains of operations of unknown outcome, from the value that is there to one that fits.
struct Chains<'a> {
    search: &'a mut Search,
    /// Who began later cannot come yet.
    first_end: u64,
    /// What is in the chain so far, its last link first where it is built backwards.
    links: Vec<u32>,
    /// Values that the chain passes.
    passed: Vec<Value>,
    found: Vec<Vec<u32>>,
}

impl<'a> Chains<'a> {
    fn find(search: &'a mut Search, need: Need, first_end: u64) -> Vec<Vec<u32>> {
        let mut chains = Self {
            search,
            first_end,
            links: Vec::new(),
            passed: Vec::new(),
            found: Vec::new(),
        };
        match need {
            Need::Nothing => {}
            Need::Exactly(value) => chains.backwards(value),
            Need::Number(number) => {
                chains.search.model.values.of_sum(number);
                for value in chains.search.model.values.of_number(number).to_vec() {
                    chains.backwards(value);
                }
            }
            Need::Present | Need::NotANumber | Need::Overflow(_) => chains.forwards(chains.search.value, need),
        }
        chains.search.grow();
        chains.found
    }

    /// Whether a member of the class can come next, behind those in the chain.
    fn is_available(&self, class: u32) -> bool {
        let in_chain = self.links.iter().filter(|link| **link == class).count();
        let next = self.search.used[class as usize] as usize + in_chain;
        let members = &self.search.model.classes[class as usize].members;
        members.get(next).is_some_and(|(begin, _)| *begin <= self.first_end)
    }

    /// Counts a step; whether to go no further.
    fn is_over(&mut self) -> bool {
        self.search.steps += 1 + self.search.model.classes.len() as u64 / 8;
        if self.links.len() >= CHAIN_MAX {
            self.search.is_cut = true;
            return true;
        }
        self.search.steps > self.search.budget
    }

    /// All chains from what is there to `target`.
    fn backwards(&mut self, target: Value) {
        let from = self.search.value;
        if target == from {
            let chain = self.links.iter().rev().copied().collect();
            self.found.push(chain);
            return;
        }
        if self.passed.contains(&target) || self.is_out_of_reach(target) || self.is_over() {
            return;
        }
        self.passed.push(target);
        for class in 0..self.search.model.classes.len() as u32 {
            let effect = self.search.model.classes[class as usize].effect;
            if !self.is_available(class) {
                continue;
            }
            match effect {
                Effect::Set(value) if value == target => {
                    let chain = [class].into_iter().chain(self.links.iter().rev().copied());
                    self.found.push(chain.collect());
                }
                Effect::Swap { expected, value } if value == target => {
                    self.links.push(class);
                    self.backwards(expected);
                    self.links.pop();
                }
                Effect::Add(by) if target != ABSENT => self.backwards_over_sum(class, by, target),
                Effect::Set(_) | Effect::Swap { .. } | Effect::Add(_) => {}
            }
        }
        self.passed.pop();
    }

    /// Chains whose next link, seen backwards, adds.
    fn backwards_over_sum(&mut self, class: u32, by: i64, target: Value) {
        let Some(sum) = self.search.model.values.number(target) else {
            return;
        };
        // Sums are in their shortest form: `007` is none.
        if self.search.model.values.of_sum(sum) != target {
            return;
        }
        let Some(before) = sum.checked_sub(by) else { return };
        self.search.model.values.of_sum(before);
        // Sums that only grow do not depend on the order of their parts.
        let is_out_of_order = self.links.last().is_some_and(|last| *last < class);
        if self.search.model.only_grows && is_out_of_order {
            return;
        }
        self.links.push(class);
        for value in self.search.model.values.of_number(before).to_vec() {
            self.backwards(value);
        }
        self.links.pop();
    }

    /// The number of a key that only grows is beyond the target.
    fn is_out_of_reach(&self, target: Value) -> bool {
        let values = &self.search.model.values;
        let numbers = (values.number(target), values.number(self.search.value));
        match numbers {
            (Some(target), Some(now)) => self.search.model.only_grows && target < now,
            _ => false,
        }
    }

    /// All chains from `value` to the first value that fits.
    fn forwards(&mut self, value: Value, need: Need) {
        if self.is_over() {
            return;
        }
        self.passed.push(value);
        for class in 0..self.search.model.classes.len() as u32 {
            let effect = self.search.model.classes[class as usize].effect;
            // What sets the key does not need what came before it.
            if matches!(effect, Effect::Set(_)) && !self.links.is_empty() || !self.is_available(class) {
                continue;
            }
            let Some(after) = self.search.model.values.after(effect, value) else {
                continue;
            };
            if self.passed.contains(&after) {
                continue;
            }
            self.links.push(class);
            if self.search.model.values.fits(need, after) {
                self.found.push(self.links.clone());
            } else {
                self.forwards(after, need);
            }
            self.links.pop();
            // Nothing else can use an anonymous value, so it need not be saved for later.
            if need == Need::Present && effect == Effect::Set(ANONYMOUS) && !self.search.model.adds {
                self.found = self.found.split_off(self.found.len() - 1);
                break;
            }
        }
        self.passed.pop();
    }
}

/// Beginnings and ends of the known operations that are to be placed, in the order of their times: a doubly linked
/// list, from which operations are taken and to which they are put back in reverse order.
#[derive(Debug)]
struct Line {
    /// By place; an operation's beginning is at twice its number, its end at the place behind, the head behind all.
    next: Vec<u32>,
    previous: Vec<u32>,
    head: u32,
}

impl Line {
    fn new(known: &[Known]) -> Self {
        let head = u32::try_from(2 * known.len()).expect("a history has fewer operations");
        let time = |place: &u32| {
            let known = &known[*place as usize / 2];
            // What ends as another begins is simultaneous with it.
            if place.is_multiple_of(2) {
                (known.begin, false)
            } else {
                (known.end, true)
            }
        };
        let mut places: Vec<u32> = (0..head).collect();
        places.sort_by_key(time);
        let mut line = Self {
            next: vec![head; places.len() + 1],
            previous: vec![head; places.len() + 1],
            head,
        };
        let mut last = head;
        for place in places {
            line.next[last as usize] = place;
            line.previous[place as usize] = last;
            last = place;
        }
        line.next[last as usize] = head;
        line.previous[head as usize] = last;
        line
    }

    fn is_empty(&self) -> bool {
        self.next[self.head as usize] == self.head
    }

    /// Collects those that began before the first end, and returns whose that is.
    fn candidates(&self, candidates: &mut Vec<u32>) -> u32 {
        let mut place = self.next[self.head as usize];
        while place.is_multiple_of(2) {
            candidates.push(place / 2);
            place = self.next[place as usize];
        }
        place / 2
    }

    fn take(&mut self, at: u32) {
        for place in [2 * at, 2 * at + 1] {
            let (previous, next) = (self.previous[place as usize], self.next[place as usize]);
            self.next[previous as usize] = next;
            self.previous[next as usize] = previous;
        }
    }

    fn put_back(&mut self, at: u32) {
        for place in [2 * at + 1, 2 * at] {
            let (previous, next) = (self.previous[place as usize], self.next[place as usize]);
            self.next[previous as usize] = place;
            self.previous[next as usize] = place;
        }
    }
}

/// Takes what is random already.
#[derive(Debug, Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_u128(&mut self, number: u128) {
        self.0 = number as u64;
    }
}

/// A number of its own for each operation: two outputs of SplitMix64.
fn mixed_u128(at: u32) -> u128 {
    let mix = |seed: u64| {
        let mut z = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    u128::from(mix(2 * u64::from(at))) << 64 | u128::from(mix(2 * u64::from(at) + 1))
}
