//! Random calls, faults and crashes, against a model.

use super::*;
use crate::storage::mem::{Failure, Operation};

/// What the calls add up to. What is only released is still in `entries`: a crash may bring it back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    hard: HardState,
    base: (Index, Term),
    entries: Vec<(Term, Bytes)>,
}

impl State {
    fn last(&self) -> Index {
        Index(self.base.0.0 + self.entries.len() as u64)
    }

    fn term_at(&self, index: Index) -> Option<Term> {
        match index.0.checked_sub(self.base.0.0)? {
            0 => Some(self.base.1),
            at => self.entries.get(at as usize - 1).map(|entry| entry.0),
        }
    }

    fn reset(&mut self, base: (Index, Term)) {
        self.base = base;
        self.entries.clear();
    }

    /// What a start makes of this and a snapshot.
    fn fitted(mut self, snapshot: (Index, Term)) -> Self {
        if snapshot.0 > self.base.0 && self.term_at(snapshot.0) != Some(snapshot.1) {
            self.reset(snapshot);
            if self.hard.term < snapshot.1 {
                self.hard = hard(snapshot.1.0, 0);
            }
        }
        self
    }

    /// This without what was given up.
    fn from(mut self, base: Index) -> Option<Self> {
        let count = usize::try_from(base.0.checked_sub(self.base.0.0)?).unwrap();
        self.base = (base, self.term_at(base)?);
        self.entries.drain(..count);
        Some(self)
    }
}

/// The states after each call, and which of them a sync has covered.
struct Model {
    /// From the last one that is known to be durable to the newest.
    states: Vec<State>,
    /// Syncs that were asked for, and the state each covers, counted from the first of `states`.
    asked: Vec<(SyncId, usize)>,
    /// The newest snapshot that is known to be durable: committed, so that nothing up to there is removed.
    held: (Index, Term),
    /// Those that may be durable or not.
    maybe: Vec<(Index, Term)>,
}

impl Model {
    fn begin(state: State) -> Self {
        Self {
            states: vec![state],
            asked: Vec::new(),
            held: Default::default(),
            maybe: Vec::new(),
        }
    }

    fn hold(&mut self, rig: &Rig, snapshot: (Index, Term)) -> bool {
        let head = snapshots::head(snapshot.0.0, snapshot.1.0);
        let content = [7; 3000];
        let saved = rig.log.snapshots().save(&head, &mut |out| out.write_all(&content));
        match saved {
            Ok(_) => self.held = snapshot,
            Err(_) => self.maybe.push(snapshot),
        }
        saved.is_ok()
    }

    /// A place that is durable and stays.
    fn settled(&self, chance: &mut fastrand::Rng) -> Option<(Index, Term)> {
        let last = self.states[0].last();
        if last <= self.held.0 {
            return None;
        }
        let index = Index(chance.u64(self.held.0.0 + 1..=last.0));
        let term = self.states[0].term_at(index)?;
        let mut others = self.states.iter();
        others
            .all(|state| state.term_at(index) == Some(term))
            .then_some((index, term))
    }

    /// Goes on from what a start found.
    fn found(mut self, rig: &mut Rig, seed: u64) -> Self {
        let found = check(rig, &mut self, seed);
        Self {
            held: self.held,
            ..Self::begin(found)
        }
    }

    fn newest(&self) -> &State {
        self.states.last().unwrap()
    }

    fn push(&mut self, change: impl FnOnce(&mut State)) {
        let mut state = self.newest().clone();
        change(&mut state);
        self.states.push(state);
    }

    fn synced(&mut self, id: SyncId) {
        let Some(at) = self.asked.iter().rposition(|asked| asked.0 <= id) else {
            return;
        };
        let durable = self.asked[at].1;
        self.asked.drain(..=at);
        for asked in &mut self.asked {
            asked.1 -= durable;
        }
        self.states.drain(..durable);
    }
}

fn step(rig: &mut Rig, model: &mut Model, chance: &mut fastrand::Rng, stamp: &mut u32) -> Result<(), Fault> {
    match chance.u32(..22) {
        0..8 => {
            let count = chance.usize(1..5);
            for _ in 0..count {
                *stamp += 1;
                let size = if chance.u8(..20) == 0 {
                    chance.usize(..9000)
                } else {
                    chance.usize(..300)
                };
                let mut payload = stamp.to_le_bytes().to_vec();
                payload.resize(4 + size, stamp.to_le_bytes()[0]);
                let term = model.newest().hard.term;
                rig.append(term.0, &[&payload]);
                model.push(|state| state.entries.push((term, Bytes::from(payload))));
            }
        }
        8..10 => {
            let term = model.newest().hard.term.0 + chance.u64(1..3);
            let vote = chance.u64(..4);
            rig.log.save(hard(term, vote));
            model.push(|state| state.hard = hard(term, vote));
        }
        10 => {
            let State { base, .. } = model.newest();
            let (base, last) = (base.0.0, model.newest().last().0);
            let least = base.max(model.held.0.0).max(last.saturating_sub(20));
            if last > least {
                let kept = chance.u64(least..last);
                rig.truncate(kept + 1);
                model.push(|state| state.entries.truncate((kept - base) as usize));
            }
        }
        11..17 => {
            let id = rig.ask();
            model.asked.push((id, model.states.len() - 1));
        }
        17 => {
            // The node takes a snapshot of its own.
            if let Some(place) = model.settled(chance)
                && model.hold(rig, place)
            {
                rig.log.release(Index(place.0.0.saturating_sub(chance.u64(..30))));
            }
        }
        18 if chance.u8(..4) == 0 => {
            // One is received that the log does not reach, or that it contradicts.
            let newest = model.newest();
            let (term, last) = (newest.hard.term, newest.last().0);
            let index = Index(chance.u64(model.held.0.0.max(last.saturating_sub(20)) + 1..last + 100));
            if newest.term_at(index) != Some(term) && term > Term(0) && model.hold(rig, (index, term)) {
                rig.log.reset(index, term);
                rig.last = index;
                model.push(|state| state.reset((index, term)));
            }
        }
        _ => {
            for _ in 0..chance.u8(1..6) {
                let Some(work) = rig.log.next_work() else { break };
                if let Some(Completed::Synced(id)) = rig.log.done(work.run())? {
                    model.synced(id);
                }
            }
        }
    }
    Ok(())
}

/// Nothing that a sync covered is lost, nothing is there that was not called for.
#[track_caller]
fn check(rig: &mut Rig, model: &mut Model, seed: u64) -> State {
    assert!(rig.log.set_aside().is_empty(), "seed {seed}: {:?}", rig.log.set_aside());
    let snapshot = rig.recovered.snapshot.as_ref();
    let snapshot = snapshot.map_or_else(Default::default, |snapshot| (snapshot.id.index, snapshot.id.term));
    assert!(
        snapshot == model.held || snapshot > model.held && model.maybe.contains(&snapshot),
        "seed {seed}: found {snapshot:?}, where {:?} is durable",
        model.held
    );
    model.held = snapshot;
    model.maybe.clear();
    let payloads = rig.payloads();
    let terms = &rig.recovered.terms;
    let term_at = |index: u64| terms[terms.partition_point(|run| run.0.0 <= index) - 1].1;
    let entries: Vec<_> = payloads
        .into_iter()
        .enumerate()
        .map(|(at, payload)| {
            (
                term_at(rig.recovered.base_index.0 + at as u64 + 1),
                Bytes::from(payload),
            )
        })
        .collect();
    let found = State {
        hard: rig.recovered.hard,
        base: (rig.recovered.base_index, rig.recovered.base_term),
        entries,
    };
    let mut expected = model.states.iter().cloned().map(|state| state.fitted(snapshot));
    assert!(found.base.0 <= snapshot.0);
    assert!(
        expected.any(|state| state.from(found.base.0).as_ref() == Some(&found)),
        "seed {seed}: found term {} and entries {}-{}, which is none of the {} states from that up to {} on",
        found.hard.term,
        found.base.0.next(),
        found.last(),
        model.states.len(),
        model.states[0].last()
    );
    found
}

fn run(seed: u64) {
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut rig = Rig::new(small());
    let mut stamp = 0;
    let mut model = Model::begin(State::default());
    for _ in 0..chance.u32(2..6) {
        match chance.u8(..4) {
            0 => rig.files.fail(
                Operation::Sync,
                "",
                chance.u32(..30),
                Failure::Error(io::ErrorKind::Other),
            ),
            1 => rig.files.fail(
                Operation::Write,
                "",
                chance.u32(..30),
                Failure::Error(io::ErrorKind::StorageFull),
            ),
            2 => rig.files.fail(Operation::Write, "", chance.u32(..30), Failure::Short),
            _ => {}
        }
        rig.files.crash_after(chance.u64(1..200));
        for _ in 0..chance.u32(1..300) {
            if step(&mut rig, &mut model, &mut chance, &mut stamp).is_err() {
                break;
            }
        }
        let mut loss = match chance.u8(..4) {
            0 => Loss::All,
            1 => Loss::Nothing,
            _ => Loss::Random(chance.u64(..)),
        };
        // Starts crash too.
        let files = loop {
            rig.files.crash(loss);
            if chance.bool() {
                break rig.files.clone();
            }
            rig.files.crash_after(chance.u64(..20));
            let again = Rig::try_open(rig.files.clone(), small());
            rig.files.crash_after(u64::MAX / 2);
            if let Ok(mut again) = again {
                model = model.found(&mut again, seed);
            }
            loss = Loss::Random(chance.u64(..));
        };
        let mut again = Rig::try_open(files, small()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        // The node speaks: what it found must stay.
        model = model.found(&mut again, seed);
        rig = again;
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_invented() {
    let first: u64 = std::env::var("KRAFT_SEED").map_or(1, |seed| seed.parse().expect("KRAFT_SEED is a number"));
    let count = if first == 1 { 200 } else { 1 };
    println!("seeds {first}..{}", first + count);
    for seed in first..first + count {
        run(seed);
    }
}

/// What a crash left of segments that were given up began higher than the one that follows them, or was cut by it.
#[test]
fn what_is_left_of_a_released_front_is_no_damage() {
    [158, 652, 2044].into_iter().for_each(run);
}
