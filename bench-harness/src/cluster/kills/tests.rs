use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};

use super::*;
use crate::record::loss;

/// Two deaths.
const SPAN: Span = Span {
    warm_up: Duration::ZERO,
    measured: Duration::ZERO,
    patience: Duration::ZERO,
    turns_min: 0,
    is_slice: false,
};

/// What threads wait for in vain at most, if something is wrong.
const GUARD: Duration = Duration::from_secs(60);

/// What a cluster of a test does wrong, or might.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Nothing.
    Keeps,
    /// With its leader goes one write that it had acknowledged, in the first death or the second.
    Forgets { death: usize },
    /// In the second death it forgets one of the first.
    ForgetsLate,
    /// One that was acknowledged has another's value when the leader is back.
    Mixes,
    /// Writes without a leader happen, and nobody says so.
    Happens,
    /// They happen with another value.
    Garbles,
    /// Its writers are turned away.
    Refuses,
    /// A writer's connection breaks.
    Breaks,
    /// Whoever writes first to a new leader panics.
    Panics,
}

/// Nodes that are a map.
#[derive(Debug)]
struct Nodes {
    way: Way,
    all: Arc<Mutex<All>>,
}

#[derive(Debug, Default)]
struct All {
    map: BTreeMap<u64, Bytes>,
    /// Keys in the order in which they were acknowledged, and around which death.
    acknowledged: Vec<(u64, usize)>,
    /// How often another one came to lead, and how often a node was started again.
    deaths: usize,
    starts: usize,
    is_led: bool,
    /// Writes that found no leader.
    missed: usize,
    watch_ended: bool,
}

impl All {
    fn write(&mut self, way: Way, key: u64, value: &[u8]) -> bool {
        if self.is_led {
            self.map.insert(key, Bytes::copy_from_slice(value));
            self.acknowledged.push((key, self.starts));
            return true;
        }
        self.missed += 1;
        match way {
            Way::Happens => drop(self.map.insert(key, Bytes::copy_from_slice(value))),
            Way::Garbles => drop(self.map.insert(key, Bytes::from_static(b"of nobody"))),
            _ => {}
        }
        false
    }

    /// Keys that were acknowledged around a death.
    fn of(&self, death: usize) -> Vec<u64> {
        let own = self.acknowledged.iter().filter(|(_, around)| *around == death);
        own.map(|(key, _)| *key).collect()
    }

    /// Whether the next death is still to come.
    fn is_before(&self) -> bool {
        self.is_led && self.deaths == self.starts
    }
}

fn lock(all: &Mutex<All>) -> MutexGuard<'_, All> {
    all.lock().expect("nobody panics with it")
}

impl Nodes {
    fn new(way: Way) -> Self {
        let all = Arc::<Mutex<All>>::default();
        lock(&all).is_led = true;
        Self { way, all }
    }

    fn all(&self) -> MutexGuard<'_, All> {
        lock(&self.all)
    }
}

impl Mortal for Nodes {
    fn leader(&mut self) -> Result<usize, Fault> {
        assert!(self.all().is_led, "who has no leader is not asked for one");
        Ok(self.all().deaths % 3)
    }

    fn watch(&mut self, leader: usize) -> Result<Watch, Fault> {
        assert_eq!(leader, self.all().deaths % 3);
        let all = Arc::clone(&self.all);
        Ok(Box::new(move |began, is_over| {
            while !is_over.load(Ordering::Relaxed) {
                assert!(began.elapsed() < GUARD, "nobody said that it is over");
                thread::yield_now();
            }
            lock(&all).watch_ended = true;
            Ok(Seen::default())
        }))
    }

    fn kill(&mut self, at: usize) -> Result<(), Fault> {
        let way = self.way;
        let mut all = self.all();
        assert_eq!(at, all.deaths % 3);
        let acknowledged = all.of(all.starts);
        // Those of all writers, and one of the client whose write is timed.
        assert_eq!(acknowledged.len(), WRITERS * BEFORE + 1);
        let doomed = match way {
            Way::Forgets { death } if death == all.starts => acknowledged.last().copied(),
            Way::ForgetsLate if all.starts == 1 => Some(all.of(0)[3]),
            _ => None,
        };
        if let Some(key) = doomed {
            assert!(all.map.remove(&key).is_some());
        }
        all.is_led = false;
        all.missed = 0;
        Ok(())
    }

    fn start(&mut self, _: usize) -> Result<(), Fault> {
        let way = self.way;
        let mut all = self.all();
        all.starts += 1;
        if way == Way::Mixes {
            let (one, other) = (all.of(0)[0], all.of(0)[1]);
            let found = all.map[&other].clone();
            all.map.insert(one, found);
        }
        Ok(())
    }

    fn writer(&mut self) -> Result<Writer, Fault> {
        let (all, way) = (Arc::clone(&self.all), self.way);
        let mut own = Vec::new();
        Ok(Box::new(move |key, value| match way {
            Way::Refuses => Ok(false),
            Way::Breaks => Err(Fault::closed("it broke")),
            _ => {
                // One that is ahead of the others has a write on its way until the leader dies.
                let began = Instant::now();
                let is_ahead = |all: &All| own.iter().filter(|start| **start == all.starts).count() == BEFORE;
                while Some(lock(&all)).is_some_and(|all| all.is_before() && is_ahead(&all)) {
                    assert!(began.elapsed() < GUARD, "the leader does not die");
                    thread::yield_now();
                }
                let mut all = lock(&all);
                let is_acknowledged = all.write(way, key, value);
                own.extend(Some(all.starts).filter(|_| is_acknowledged));
                Ok(is_acknowledged)
            }
        }))
    }

    fn write(&mut self, key: u64, value: &[u8]) -> Result<bool, Fault> {
        let way = self.way;
        let began = Instant::now();
        // Another one leads when each writer has asked for it in vain.
        while !self.all().is_led {
            assert!(began.elapsed() < GUARD, "nobody writes while there is no leader");
            assert!(way != Way::Panics, "as it should");
            let mut all = self.all();
            if all.missed >= WRITERS {
                all.is_led = true;
                all.deaths += 1;
            }
            drop(all);
            thread::yield_now();
        }
        Ok(self.all().write(way, key, value))
    }

    fn read(&mut self, key: u64) -> Result<Option<Bytes>, Fault> {
        assert!(self.all().is_led);
        Ok(self.all().map.get(&key).cloned())
    }
}

/// What two deaths show of a cluster, and the cluster.
fn killed(way: Way) -> (Result<Figures, Fault>, Nodes) {
    let mut nodes = Nodes::new(way);
    let outcome = kill_leaders(&mut nodes, SPAN);
    (outcome, nodes)
}

#[test]
fn what_is_acknowledged_around_each_death_is_counted_and_there() {
    for way in [Way::Keeps, Way::Happens] {
        let (figures, nodes) = killed(way);
        let trials = figures.expect("nothing is lost").trials;
        assert_eq!(trials.len(), TRIALS_MIN as usize);
        let all = nodes.all();
        let acknowledged: u64 = trials.iter().map(|trial| trial.acknowledged).sum();
        assert_eq!(acknowledged as usize, all.acknowledged.len());
        for trial in &trials {
            assert!(trial.acknowledged as usize > WRITERS * BEFORE + 1, "{trial:?}");
            assert!(trial.acknowledged as usize <= WRITERS * WRITES_MAX + 2, "{trial:?}");
            assert_eq!(trial.lost, 0);
        }
        assert_eq!(loss(&trials), None);
        // Of what was on its way without a leader all is there, or nothing.
        let open = all.map.len() - all.acknowledged.len();
        assert_eq!(open > 0, way == Way::Happens, "{open}");
    }
}

#[test]
fn one_write_that_is_forgotten_fails_the_row() {
    let lost = |way| {
        let (figures, _) = killed(way);
        let trials = figures.expect("what is lost is told in the trials").trials;
        let fault = loss(&trials).expect("one is lost");
        assert!(matches!(fault, Fault::Corrupt(_)) && fault.is_failure(), "{fault}");
        assert!(fault.to_string().starts_with("corrupt: 1 of "), "{fault}");
        trials.iter().map(|trial| trial.lost).collect::<Vec<_>>()
    };
    assert_eq!(lost(Way::Forgets { death: 0 }), [1, 0]);
    assert_eq!(lost(Way::Forgets { death: 1 }), [0, 1]);
    // Behind its own death it was there.
    assert_eq!(lost(Way::ForgetsLate), [1, 0]);
}

#[test]
fn a_value_that_nobody_wrote_is_corrupt() {
    for way in [Way::Garbles, Way::Mixes] {
        let (outcome, _) = killed(way);
        let fault = outcome.expect_err("it is another value");
        assert!(matches!(fault, Fault::Corrupt(_)), "{fault}");
        assert!(fault.to_string().ends_with("bytes that nobody wrote"), "{fault}");
    }
}

#[test]
fn without_writers_under_way_nobody_is_killed() {
    let (outcome, nodes) = killed(Way::Refuses);
    let fault = outcome.expect_err("nobody writes");
    assert!(matches!(fault, Fault::Stalled(_)), "{fault}");
    assert!(nodes.all().is_led && nodes.all().deaths == 0);
    // What befell a writer is told, and not what follows from it.
    let (outcome, nodes) = killed(Way::Breaks);
    assert_eq!(outcome.expect_err("nobody writes"), Fault::closed("it broke"));
    assert!(nodes.all().is_led && nodes.all().deaths == 0);
}

#[test]
fn who_panics_leaves_nobody_running() {
    let mut nodes = Nodes::new(Way::Panics);
    let outcome = catch_unwind(AssertUnwindSafe(|| kill_leaders(&mut nodes, SPAN)));
    assert!(outcome.is_err());
    assert!(nodes.all().watch_ended, "it was not told");
}
