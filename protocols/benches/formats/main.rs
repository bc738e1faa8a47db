//! What it costs to make bytes of a message and back, in each format, against the libraries of the same standard used
//! plainly and against the least that must be done with the bytes.
//!
//! `cargo bench -p kraft-protocols --bench formats` prints the tables of docs/benchmarks.md and says which of the
//! project's targets are reached. All take turns in each round; the medians of the rounds count.

mod contenders;
mod plain;
mod report;
mod shapes;

use std::time::{Duration, Instant};

use crate::contenders::{Contender, Name};
use crate::report::{Cell, Report};
use crate::shapes::SHAPES;

const ROUNDS: usize = 61;

/// How long a cell is measured in each round, about.
const SLICE: Duration = Duration::from_micros(300);

fn main() {
    let mut cells: Vec<_> = SHAPES
        .iter()
        .flat_map(|&shape| Name::ALL.map(|name| Measured::new(name.with(shape))))
        .collect();
    for round in 0..ROUNDS {
        // From one end and from the other, so that none stands behind the same neighbour always.
        let count = cells.len();
        for at in 0..count {
            let at = if round % 2 == 0 { at } else { count - 1 - at };
            cells[at].round();
        }
    }
    let cells = cells.into_iter().map(Measured::cell).collect();
    Report::new(cells).print();
}

/// A contender with a message, and how long it took.
struct Measured {
    contender: Box<dyn Contender>,
    encode_turns: u32,
    decode_turns: u32,
    /// Nanoseconds a message, by round.
    encode: Vec<f64>,
    decode: Vec<f64>,
}

impl Measured {
    fn new(mut contender: Box<dyn Contender>) -> Self {
        Self {
            encode_turns: turns(|turns| contender.encode_times(turns)),
            decode_turns: turns(|turns| contender.decode_times(turns)),
            contender,
            encode: Vec::with_capacity(ROUNDS),
            decode: Vec::with_capacity(ROUNDS),
        }
    }

    fn round(&mut self) {
        let contender = &mut self.contender;
        // What others left in the caches is no part of it.
        contender.encode_times(self.encode_turns / 8 + 1);
        let encode = time(self.encode_turns, |turns| contender.encode_times(turns));
        contender.decode_times(self.decode_turns / 8 + 1);
        let decode = time(self.decode_turns, |turns| contender.decode_times(turns));
        self.encode.push(encode);
        self.decode.push(decode);
    }

    fn cell(self) -> Cell {
        Cell {
            wire_bytes: self.contender.wire_bytes(),
            encode: self.encode,
            decode: self.decode,
        }
    }
}

/// As many as fill a slice.
fn turns(mut run: impl FnMut(u32)) -> u32 {
    let mut turns = 1;
    loop {
        let start = Instant::now();
        run(turns);
        if start.elapsed() >= SLICE {
            return turns;
        }
        turns *= 2;
    }
}

/// Nanoseconds of one of so many.
fn time(turns: u32, run: impl FnOnce(u32)) -> f64 {
    let start = Instant::now();
    run(turns);
    start.elapsed().as_secs_f64() * 1e9 / f64::from(turns)
}
