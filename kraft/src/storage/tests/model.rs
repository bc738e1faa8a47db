//! Random calls, faults and crashes, against a model.

use super::*;
use crate::storage::mem::{Failure, Operation};

/// What the calls add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    hard: HardState,
    entries: Vec<(Term, Bytes)>,
}

/// The states after each call, and which of them a sync has covered.
struct Model {
    /// From the last one that is known to be durable to the newest.
    states: Vec<State>,
    /// Syncs that were asked for, and the state each covers, counted from the first of `states`.
    asked: Vec<(SyncId, usize)>,
}

impl Model {
    fn begin(state: State) -> Self {
        Self {
            states: vec![state],
            asked: Vec::new(),
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
    match chance.u32(..20) {
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
            let count = model.newest().entries.len();
            if count > 0 {
                let from = chance.usize(count.saturating_sub(20)..count);
                rig.truncate(from as u64 + 1);
                model.push(|state| state.entries.truncate(from));
            }
        }
        11..17 => {
            let id = rig.ask();
            model.asked.push((id, model.states.len() - 1));
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
fn check(rig: &mut Rig, model: &Model, seed: u64) -> State {
    let payloads = rig.payloads();
    let terms = &rig.recovered.terms;
    let term_at = |index: u64| terms[terms.partition_point(|run| run.0.0 <= index) - 1].1;
    let entries: Vec<_> = payloads
        .into_iter()
        .enumerate()
        .map(|(at, payload)| (term_at(at as u64 + 1), Bytes::from(payload)))
        .collect();
    let found = State {
        hard: rig.recovered.hard,
        entries,
    };
    assert!(
        model.states.contains(&found),
        "seed {seed}: found term {} and {} entries, which is none of the {} states from {} entries on",
        found.hard.term,
        found.entries.len(),
        model.states.len(),
        model.states[0].entries.len()
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
                model = Model::begin(check(&mut again, &model, seed));
            }
            loss = Loss::Random(chance.u64(..));
        };
        let mut again = Rig::try_open(files, small()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let found = check(&mut again, &model, seed);
        // The node speaks: what it found must stay.
        model = Model::begin(found);
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
