//! The tables of docs/benchmarks.md, and what the project asks of the figures.

use crate::contenders::Name;
use crate::shapes::{SHAPES, Shape};

/// A contender's figures with one message.
#[derive(Debug)]
pub(crate) struct Cell {
    /// Of the frame.
    pub(crate) wire_bytes: usize,
    /// Nanoseconds a message, by round.
    pub(crate) encode: Vec<f64>,
    /// Nanoseconds a message, by round.
    pub(crate) decode: Vec<f64>,
}

impl Cell {
    fn both(&self) -> Vec<f64> {
        self.encode
            .iter()
            .zip(&self.decode)
            .map(|(one, other)| one + other)
            .collect()
    }
}

/// All cells: shape by shape, in each the contenders.
#[derive(Debug)]
pub(crate) struct Report {
    cells: Vec<Cell>,
}

/// The append in which most of what a leader sends is.
const BATCH: usize = 2;

/// The largest message.
const BULK: usize = 3;

impl Report {
    pub(crate) fn new(cells: Vec<Cell>) -> Self {
        Self { cells }
    }

    fn cell(&self, shape: usize, name: Name) -> &Cell {
        let contender = Name::ALL.iter().position(|&other| other == name);
        &self.cells[shape * Name::ALL.len() + contender.expect("it is one of them")]
    }

    pub(crate) fn print(&self) {
        self.print_times();
        self.print_bytes();
        self.print_targets();
    }

    fn print_times(&self) {
        let heads: Vec<_> = SHAPES.iter().map(|shape| shape.name()).collect();
        println!(
            "| encode, decode in ns | {} | an entry of {} |",
            heads.join(" | "),
            heads[BATCH]
        );
        println!("|---|{}", "---|".repeat(heads.len() + 1));
        let entries = SHAPES[BATCH].entries() as f64;
        for name in Name::ALL {
            print!("| {} |", name.text());
            for at in 0..SHAPES.len() {
                let cell = self.cell(at, name);
                print!(" {}, {} |", ns(median(&cell.encode)), ns(median(&cell.decode)));
            }
            let cell = self.cell(BATCH, name);
            let [encode, decode] = [&cell.encode, &cell.decode].map(|times| ns(median(times) / entries));
            println!(" {encode}, {decode} |");
        }
    }

    fn print_bytes(&self) {
        println!();
        let heads: Vec<_> = SHAPES.iter().map(|shape| shape.name()).collect();
        println!("| bytes | {} |", heads.join(" | "));
        println!("|---|{}", "---|".repeat(heads.len()));
        for name in [
            Name::Binary,
            Name::Protobuf,
            Name::Prost,
            Name::Msgpack,
            Name::Rmp,
            Name::Json,
        ] {
            let library = name.text().split(',').next().expect("there is a first part");
            print!("| {library} |");
            for at in 0..SHAPES.len() {
                print!(" {} |", self.cell(at, name).wire_bytes);
            }
            println!();
        }
    }

    fn print_targets(&self) {
        println!();
        for (name, figure) in [
            ("a checksum of all", Name::Least),
            ("a checksum a payload", Name::LeastApart),
        ] {
            let ratio = ratio(&self.cell(BATCH, Name::Binary).both(), &self.cell(BATCH, figure).both());
            let what = format!("`binary`, {}, both ways / memcpy and {name}", SHAPES[BATCH].name());
            verdict(&what, &format!("{ratio:.2}"), "at most 1.5", ratio <= 1.5);
        }
        for at in [BATCH, BULK] {
            self.judge_bulk(SHAPES[at], self.cell(at, Name::Binary));
        }
        for (ours, rivals) in [
            (Name::Protobuf, [Name::Prost, Name::ProstShared]),
            (Name::Protobuf, [Name::ProstFramed; 2]),
            (Name::Msgpack, [Name::Rmp, Name::RmpLent]),
            (Name::Msgpack, [Name::RmpFramed; 2]),
        ] {
            for (at, shape) in SHAPES.iter().enumerate() {
                self.judge_rivals(at, *shape, ours, rivals);
            }
        }
    }

    fn judge_bulk(&self, shape: Shape, cell: &Cell) {
        // Bytes a nanosecond are gigabytes a second.
        let speed = shape.payload_bytes() as f64 / median(&cell.decode);
        let what = format!("`binary`, {}, payload decoded and checked", shape.name());
        verdict(&what, &format!("{speed:.1} GB/s"), "at least 1 GB/s", speed >= 1.0);
    }

    /// Ours against the faster of two ways to use a library.
    fn judge_rivals(&self, at: usize, shape: Shape, ours: Name, rivals: [Name; 2]) {
        let mine = self.cell(at, ours);
        for way in [Way("encode", |cell| &cell.encode), Way("decode", |cell| &cell.decode)] {
            let Way(name, times) = way;
            let faster = |one: &Name, other: &Name| {
                let [one, other] = [one, other].map(|rival| median(times(self.cell(at, *rival))));
                one.total_cmp(&other)
            };
            let rival = rivals
                .iter()
                .min_by(|one, other| faster(one, other))
                .expect("there are two");
            let ratio = ratio(times(mine), times(self.cell(at, *rival)));
            let what = format!("{}, {}, {name} / {}", ours.text(), shape.name(), rival.text());
            verdict(&what, &format!("{ratio:.2}"), "at most 1", ratio <= 1.0);
        }
    }
}

/// A direction, and its times in a cell.
struct Way(&'static str, fn(&Cell) -> &Vec<f64>);

fn verdict(what: &str, figure: &str, asked: &str, is_reached: bool) {
    let verdict = if is_reached { "reached" } else { "missed" };
    println!("{what:<66} {figure:>9}  ({asked}): {verdict}");
}

/// The median of the ratios of the same round.
fn ratio(mine: &[f64], theirs: &[f64]) -> f64 {
    let ratios: Vec<_> = mine.iter().zip(theirs).map(|(mine, theirs)| mine / theirs).collect();
    median(&ratios)
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Three digits, or all in front of the point.
fn ns(ns: f64) -> String {
    match ns {
        _ if ns >= 100.0 => format!("{ns:.0}"),
        _ if ns >= 10.0 => format!("{ns:.1}"),
        _ => format!("{ns:.2}"),
    }
}
