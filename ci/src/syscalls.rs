//! System calls of Kraft's backends, counted by the kernel and held against ceilings that are kept in the tree.
//!
//! Most counts vary with time: what comes while a loop is busy is fetched in one call later on. So each is of a cell in
//! which nothing can come meanwhile, one message on its way and the next one sent when it has arrived everywhere. With
//! many connections the busiest loop saves calls and the idlest cannot need more than for a lone message, which is what
//! is asked of `echo`.

use std::collections::{BTreeMap, BTreeSet};
use std::{env, fs};

use crate::command::{Failure, cargo_output};
use crate::steps::Outcome;

/// What was counted when it was last found to be right.
const CEILINGS: &str = "counts/syscalls.txt";

/// Backends that are in every build for Linux. A row that is refused fails the run.
const RUN: &str = "run -q -p kraft-bench -- run --workloads ping-pong,fan-out,echo --engines epoll,io-uring,threads \
                   --sizes 64 --conns 64 --depth 1 --filter 64B --rounds 1 --seconds 0.5 --seed 1";

/// How its tables name what they count.
const HEADING: &str = "syscalls each";

/// One message on its way: every call is made for it.
const EXACT: [&str; 2] = ["ping-pong 64B", "fan-out 64B to 2 1 deep"];

/// A message among others may cost what a lone one does, and no more.
const SHARED: (&str, &str) = ("echo 64Bx64", "ping-pong 64B");

/// A count may be above its ceiling by so much of it: the span that is counted begins and ends amid a message, which
/// shows where a busy machine lets few through, and completions of a ring come together or one by one. One call more a
/// message is a fifth at least.
const SLACK: f64 = 0.1;

/// Counts, by cell and engine.
type Counts = BTreeMap<String, f64>;

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
    if env::var_os("KRAFT_REWRITE").is_some_and(|value| value == "1") {
        fs::write(CEILINGS, ceilings(&counts)).map_err(|error| Failure::new(format!("{CEILINGS}: {error}")))?;
        return Ok(Outcome::Passed);
    }
    let text = fs::read_to_string(CEILINGS).map_err(|error| Failure::new(format!("{CEILINGS}: {error}")))?;
    let problems = problems(&counts, &parse(&text)?);
    for problem in &problems {
        println!("ci: {problem}");
    }
    if problems.is_empty() {
        return Ok(Outcome::Passed);
    }
    Err(Failure::new(format!(
        "{} counts are not what {CEILINGS} has; where they are right, `KRAFT_REWRITE=1 cargo ci counts` records them",
        problems.len()
    )))
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

/// The file of these counts.
fn ceilings(counts: &Counts) -> String {
    let mut text = format!(
        "# System calls a message, as the kernel counts them: `KRAFT_REWRITE=1 cargo ci counts` writes this file.\n\
         # One message is on its way at a time, so they hardly vary; {:.0} % more are let pass.\n",
        SLACK * 100.0
    );
    let exact = |name: &str| EXACT.iter().any(|cell| name.starts_with(&format!("{cell}, ")));
    for (name, count) in counts.iter().filter(|(name, _)| exact(name)) {
        text.push_str(&format!("{name} {count:.2}\n"));
    }
    text
}

fn parse(text: &str) -> Result<Counts, Failure> {
    let mut counts = Counts::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
        let count = line
            .rsplit_once(' ')
            .and_then(|(name, count)| Some((name, count.parse().ok()?)));
        let Some((name, count)) = count else {
            return Err(Failure::new(format!("{CEILINGS}:{}: no name and count", at + 1)));
        };
        counts.insert(name.to_owned(), count);
    }
    Ok(counts)
}

/// Counts that are not what they were, or not what a lone message costs.
fn problems(counts: &Counts, ceilings: &Counts) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, &count) in counts {
        let (cell, engine) = name.split_once(", ").unwrap_or((name, ""));
        let bound = if cell == SHARED.0 {
            format!("{}, {engine}", SHARED.1)
        } else {
            name.clone()
        };
        match ceilings.get(&bound) {
            None => problems.push(format!("{name}: {count:.2}, and no ceiling")),
            // A loop that makes none was not counted, or not asked.
            _ if count <= 0.0 => problems.push(format!("{name}: {count:.2}, which cannot be")),
            Some(ceiling) if count > ceiling * (1.0 + SLACK) => {
                problems.push(format!(
                    "{name}: {count:.2}, above {ceiling:.2} ({bound}) by more than {:.0} %",
                    SLACK * 100.0
                ));
            }
            Some(ceiling) if count < ceiling * (1.0 - SLACK) && cell != SHARED.0 => {
                println!("ci: {name}: {count:.2}, below {ceiling:.2}: the ceiling can be lowered");
            }
            Some(_) => {}
        }
    }
    let gone = ceilings.keys().filter(|name| !counts.contains_key(*name));
    problems.extend(gone.map(|name| format!("{name}: has a ceiling, and was not counted")));
    problems
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
    fn a_count_above_its_ceiling_is_a_problem() {
        let ceilings = counts(&[("ping-pong 64B, epoll", 3.0)]);
        let check = |all: &[(&str, f64)], expected: &[&str]| assert_eq!(problems(&counts(all), &ceilings), expected);
        check(&[("ping-pong 64B, epoll", 3.2), ("echo 64Bx64, epoll", 2.04)], &[]);
        check(
            &[("ping-pong 64B, epoll", 4.0), ("echo 64Bx64, epoll", 3.4)],
            &[
                "echo 64Bx64, epoll: 3.40, above 3.00 (ping-pong 64B, epoll) by more than 10 %",
                "ping-pong 64B, epoll: 4.00, above 3.00 (ping-pong 64B, epoll) by more than 10 %",
            ],
        );
        check(
            &[("ping-pong 64B, threads", 3.0)],
            &[
                "ping-pong 64B, threads: 3.00, and no ceiling",
                "ping-pong 64B, epoll: has a ceiling, and was not counted",
            ],
        );
        check(
            &[("ping-pong 64B, epoll", 0.0)],
            &["ping-pong 64B, epoll: 0.00, which cannot be"],
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let exact = counts(&[
            ("fan-out 64B to 2 1 deep, epoll", 4.0),
            ("ping-pong 64B, io-uring", 2.0),
        ]);
        let mut all = exact.clone();
        all.extend(counts(&[("echo 64Bx64, epoll", 2.04)]));
        assert_eq!(parse(&ceilings(&all)), Ok(exact));
        let failure = parse("# head\nnonsense\n").expect_err("there is no count");
        assert_eq!(failure.to_string(), "counts/syscalls.txt:2: no name and count");
    }
}
