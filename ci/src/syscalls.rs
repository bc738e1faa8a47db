//! System calls of Kraft's backends, counted by the kernel and held against ceilings that are kept in the tree.
//!
//! Most counts vary with time: what comes while a loop is busy is fetched in one call later on. So each is of a cell in
//! which nothing can come meanwhile, one message on its way and the next one sent when it has arrived everywhere. With
//! many connections the busiest loop saves calls and the idlest cannot need more than for a lone message, which is what
//! is asked of `echo`.

use std::collections::BTreeSet;

use crate::ceilings::{Bound, Ceilings, Counts};
use crate::command::{Failure, cargo_output};
use crate::steps::Outcome;

/// The span that is counted begins and ends amid a message, which shows where a busy machine lets few through, and
/// completions of a ring come together or one by one: hence the slack. One call more a message is a fifth at least.
const CEILINGS: Ceilings = Ceilings {
    path: "counts/syscalls.txt",
    head: "System calls a message, as the kernel counts them: `KRAFT_REWRITE=1 cargo ci counts` writes this file.\n\
           One message is on its way at a time, so they hardly vary; 10 % more are let pass.",
    decimals: 2,
    slack: 10,
};

/// Backends that are in every build for Linux. A row that is refused fails the run.
const RUN: &str = "run -q -p kraft-bench -- run --workloads ping-pong,fan-out,echo --engines epoll,io-uring,threads \
                   --sizes 64 --conns 64 --depth 1 --filter 64B --rounds 1 --seconds 0.5 --seed 1";

/// How its tables name what they count.
const HEADING: &str = "syscalls each";

/// One message on its way: every call is made for it.
const EXACT: [&str; 2] = ["ping-pong 64B", "fan-out 64B to 2 1 deep"];

/// A message among others may cost what a lone one does, and no more.
const SHARED: (&str, &str) = ("echo 64Bx64", "ping-pong 64B");

/// Counts and compares.
///
/// # Errors
///
/// A count is above its ceiling, has none, or is gone.
pub(crate) fn run() -> Result<Outcome, Failure> {
    let words: Vec<&str> = RUN.split_whitespace().collect();
    let text = cargo_output(&[], &words)?;
    let counts = read(&text);
    if counts.is_empty() {
        let why = "the kernel does not count them for us: it takes Linux, tracefs and CAP_PERFMON";
        println!("ci: ======== SKIPPED: NO system calls are counted: {why}");
        return Ok(Outcome::Skipped(format!("counts of system calls ({why})")));
    }
    for (name, count) in &counts {
        println!("ci: {name}: {count:.2} system calls a message");
    }
    let (exact, shared) = split(counts);
    CEILINGS.hold(&exact, &shared)
}

/// What has ceilings of its own, and what those bind besides.
fn split(counts: Counts) -> (Counts, Vec<Bound>) {
    let (cell, lone) = SHARED;
    let mut shared = Vec::new();
    let mut exact = Counts::new();
    for (name, count) in counts {
        match name.strip_prefix(&format!("{cell}, ")) {
            Some(engine) => shared.push(Bound {
                ceiling: format!("{lone}, {engine}"),
                name,
                count,
            }),
            None => {
                exact.insert(name, count);
            }
        }
    }
    (exact, shared)
}

/// What the tables of a run say: below the name of a cell a line of headings, then one an engine.
fn read(tables: &str) -> Counts {
    let cells: BTreeSet<&str> = EXACT.into_iter().chain([SHARED.0]).collect();
    let mut counts = Counts::new();
    let mut lines = tables.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(cell) = cells.get(line) else { continue };
        let headings: Vec<&str> = lines.next().map(columns).unwrap_or_default();
        let Some(place) = headings.iter().position(|heading| *heading == HEADING) else {
            continue;
        };
        while let Some(row) = lines.next_if(|line| columns(line).len() == headings.len()) {
            let row = columns(row);
            if let Ok(count) = row[place].parse() {
                counts.insert(format!("{cell}, {}", row[0]), count);
            }
        }
    }
    counts
}

/// Columns are two blanks apart at least, words in one of them one.
fn columns(line: &str) -> Vec<&str> {
    line.split("  ")
        .map(str::trim)
        .filter(|column| !column.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(all: &[(&str, f64)]) -> Counts {
        all.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
    }

    #[test]
    fn counts_stand_below_their_heading() {
        let text = "a machine\n\nping-pong 64B\n  engine    messages/s  p50 µs  syscalls each  load busy\n  \
                    epoll         39,964    22.7           3.00       99 %\n  io-uring      37,395    23.6              \
                    -       99 %\n  ratio of   to  what\n  epoll  x  1.00\n\necho 64Bx8\n  engine   syscalls each\n  \
                    epoll   9.00\n\necho 64Bx64\n  engine   syscalls each\n  epoll            2.04\n\nfan-out 64B to 2 1 \
                    deep\n  engine   load busy\n  epoll         99 %\n";
        let expected = counts(&[("ping-pong 64B, epoll", 3.0), ("echo 64Bx64, epoll", 2.04)]);
        assert_eq!(read(text), expected);
    }

    #[test]
    fn one_among_many_is_bound_by_a_lone_one() {
        let exact = counts(&[("fan-out 64B to 2 1 deep, epoll", 4.0), ("ping-pong 64B, epoll", 3.0)]);
        let mut all = exact.clone();
        all.extend(counts(&[("echo 64Bx64, epoll", 2.04)]));
        let bound = Bound {
            name: "echo 64Bx64, epoll".into(),
            count: 2.04,
            ceiling: "ping-pong 64B, epoll".into(),
        };
        assert_eq!(split(all), (exact, vec![bound]));
    }
}
