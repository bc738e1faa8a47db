//! Whole nodes in virtual time: every other seed under all faults, the others under those that they draw.

use std::time::Duration;

use kraft::sim::{Faults, Options, run};
use kraft_core::canary::Reach;

use crate::Trial;

pub(crate) const TRIAL: Trial = Trial {
    name: "whole nodes",
    reach: Reach::Nodes,
    seeds: 400,
    run: |seed| {
        let options = if seed % 2 == 1 {
            Options::drawn(seed)
        } else {
            Options {
                seed,
                nodes: [3, 5][seed as usize / 2 % 2],
                users: 4,
                span: Duration::from_secs(20),
                faults: Faults::ALL,
                ..Options::default()
            }
        };
        run(&options).map(drop).map_err(|violation| violation.what)
    },
};
