//! Each deliberate bug that only Raft alone can show is found there, in bad weather or while members change;
//! `cargo ci canaries` builds this.

use std::panic;

use kraft_core::canary::{Canary, Reach, plant};

use crate::{members_weather, random};

/// Each canary is found by one of so many seeds, and without one all of them pass.
const SEEDS: u64 = 10_000;

/// What the run of a seed says, if something.
fn complaint(reach: Reach, seed: u64) -> Option<String> {
    let what = panic::catch_unwind(|| match reach {
        Reach::Members => drop(members_weather::run(seed)),
        _ => drop(random::run(seed)),
    });
    let what = what.err()?;
    let text = what.downcast_ref::<String>().cloned();
    Some(text.unwrap_or_else(|| what.downcast_ref::<&str>().map_or("a panic", |text| *text).to_owned()))
}

#[test]
fn every_canary_of_raft_alone_is_found() {
    let loud = panic::take_hook();
    // A panic is what is hoped for here.
    panic::set_hook(Box::new(|_| {}));
    let of = |reach| (0..SEEDS).filter_map(move |seed| complaint(reach, seed));
    let healthy: Vec<_> = of(Reach::Raft).chain(of(Reach::Members)).collect();
    let wanted = |canary: &&Canary| match std::env::var("KRAFT_CANARIES").as_deref() {
        Err(_) | Ok("") => matches!(canary.reach(), Reach::Raft | Reach::Members),
        Ok("all") => true,
        Ok(names) => names.split(',').any(|name| name == format!("{canary:?}")),
    };
    let names: Vec<_> = Canary::ALL.iter().map(|canary| format!("{canary:?}")).collect();
    println!("all canaries: {}", names.join(" "));
    let mut missed = Vec::new();
    for canary in Canary::ALL.iter().filter(wanted) {
        plant(Some(*canary));
        let reach = match canary.reach() {
            Reach::Members => Reach::Members,
            _ => Reach::Raft,
        };
        let place = match reach {
            Reach::Members => "Raft alone, members change",
            _ => "Raft alone",
        };
        match (0..SEEDS).find_map(|seed| Some((seed, complaint(reach, seed)?))) {
            Some((seed, law)) => println!(
                "canary: {canary:?} | {place} | {} | {}",
                seed + 1,
                law.replace('\n', " ")
            ),
            None => missed.push(canary),
        }
        plant(None);
    }
    panic::set_hook(loud);
    assert_eq!(healthy, [""; 0], "without a canary");
    assert_eq!(missed, [&Canary::ALL[0]; 0], "not found within {SEEDS} seeds");
}
