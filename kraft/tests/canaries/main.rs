//! Each deliberate bug is found; `cargo ci canaries` builds this with `--cfg kraft_canary`.
//!
//! `KRAFT_CANARIES=Name,Name` tries these alone, `KRAFT_CANARIES=all` also those that another set-up is to find.

#![cfg(kraft_canary)]

mod log;
mod nodes;
mod state;

use std::panic;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use kraft_core::canary::{Canary, Reach, plant};

/// What tries a seed.
struct Trial {
    name: &'static str,
    reach: Reach,
    /// Each canary is found by one of so many seeds, and without one all of them pass.
    seeds: u64,
    run: fn(u64) -> Result<(), String>,
}

impl Trial {
    /// What the run of a seed says, if something.
    fn complaint(&self, seed: u64) -> Option<String> {
        let what = match panic::catch_unwind(|| (self.run)(seed)) {
            Ok(result) => return result.err(),
            Err(what) => what,
        };
        let text = what.downcast_ref::<String>().cloned();
        Some(text.unwrap_or_else(|| what.downcast_ref::<&str>().map_or("a panic", |text| *text).to_owned()))
    }

    fn is_wanted(&self, canary: Canary) -> bool {
        match std::env::var("KRAFT_CANARIES").as_deref() {
            Err(_) | Ok("") => canary.reach() == self.reach,
            Ok("all") => true,
            Ok(names) => names.split(',').any(|name| name == format!("{canary:?}")),
        }
    }

    /// Plants all in turn, on every processor. What is not as it should be.
    fn find_all(&self) -> Vec<String> {
        // `None` is a run without any.
        let jobs: Vec<_> = std::iter::once(None)
            .chain(
                Canary::ALL
                    .iter()
                    .copied()
                    .filter(|canary| self.is_wanted(*canary))
                    .map(Some),
            )
            .collect();
        let next = AtomicUsize::new(0);
        let failures = Mutex::new(Vec::new());
        let loud = panic::take_hook();
        // A panic is what is hoped for here.
        panic::set_hook(Box::new(|_| {}));
        let work = || {
            while let Some(canary) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                plant(*canary);
                let found = (0..self.seeds).find_map(|seed| Some((seed, self.complaint(seed)?)));
                plant(None);
                if let Err(failure) = self.judge(*canary, found) {
                    failures.lock().expect("nobody panics with it").push(failure);
                }
            }
        };
        let threads = thread::available_parallelism().map_or(1, |count| count.get());
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        panic::set_hook(loud);
        failures.into_inner().expect("nobody panics with it")
    }

    fn judge(&self, canary: Option<Canary>, found: Option<(u64, String)>) -> Result<(), String> {
        let Self { name, seeds, .. } = self;
        match (canary, found) {
            (None, None) => Ok(()),
            (None, Some((seed, what))) => Err(format!("{name}, no canary, seed {seed}: {what}")),
            (Some(canary), None) => Err(format!("{name}: {canary:?} is not found within {seeds} seeds")),
            (Some(canary), Some((seed, what))) => {
                let what = what.lines().next().unwrap_or_default();
                println!("canary: {canary:?} | {name} | {} | {what}", seed + 1);
                Ok(())
            }
        }
    }
}

// One test, for what is done with panics is of the whole process.
#[test]
fn every_canary_is_found() {
    let names: Vec<_> = Canary::ALL.iter().map(|canary| format!("{canary:?}")).collect();
    println!("all canaries: {}", names.join(" "));
    let failures = [log::TRIAL.find_all(), nodes::TRIAL.find_all(), state::TRIAL.find_all()].concat();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
