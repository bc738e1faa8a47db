//! Whole nodes in virtual time: every other seed under all faults, every fourth under those that it draws, and every
//! fourth so that reads meet leaders that were succeeded.

use std::time::Duration;

use kraft::sim::{Faults, Kind, Kinds, Options, run};
use kraft_core::canary::Reach;

use crate::Trial;

pub(crate) const TRIAL: Trial = Trial {
    name: "whole nodes",
    reach: Reach::Nodes,
    seeds: 400,
    run: |seed| {
        let options = match seed % 4 {
            1 => Options::drawn(seed),
            // Leaders that were succeeded and do not know it, whose clocks are slow, and who are asked for all that.
            3 => Options {
                seed,
                users: 6,
                keys: 2,
                pace: Duration::from_millis(5),
                span: Duration::from_secs(20),
                faults: Faults::These(Kinds::of(&[Kind::Partition, Kind::OneWay, Kind::Drift, Kind::Transfer])),
                ..Options::default()
            },
            _ => Options {
                seed,
                nodes: [3, 5][seed as usize / 2 % 2],
                users: 4,
                span: Duration::from_secs(20),
                faults: Faults::ALL,
                ..Options::default()
            },
        };
        run(&options).map(drop).map_err(|violation| violation.what)
    },
};
