//! System calls of Kraft's backends, counted by the kernel and held against ceilings that are kept in the tree.
//!
//! What makes a ceiling. A loop that is behind fetches in one call what came meanwhile, so with much on its way a count says
//! how busy the machine was. The most that a message can take is what it takes alone, when everything is called for it and
//! nothing else: that does not depend on time, nor much on optimisation. So cells in which one message is on its way, and
//! the next one is sent when it has arrived everywhere, have ceilings of their own ([`ALONE`]), and cells in which many
//! are have the ceiling of a lone one ([`AMONG`]): they can only save calls. Of clients that come and go no cell has one
//! alone ([`COMERS`]); their ceilings were counted with one at a time, and rise only.

use crate::ceilings::{Bound, Ceilings, Counts};
use crate::command::{Failure, cargo_output};
use crate::libuv;
use crate::steps::Outcome;

/// The span that is counted begins and ends amid a message, which shows where a busy machine lets few through, and
/// completions of a ring come together or one by one: hence the slack. One call more a message is more where there are
/// ten or fewer.
const CEILINGS: Ceilings = Ceilings {
    path: "counts/syscalls.txt",
    head: "System calls a message, as the kernel counts them: `KRAFT_REWRITE=1 cargo ci syscalls` writes this file.\n\
           They are those of a lone message, which bind it among others too (ci/src/syscalls.rs says why), in whole calls;\n\
           10 % more are let pass. Those of multi-accept were counted with one client at a time, and rise only.",
    decimals: 2,
    slack: 10,
    above: 0.1,
    rising: Some(COMERS),
};

/// Backends of every build. A row that is refused fails the run.
const ENGINES: [&str; 4] = ["epoll", "io-uring", "kqueue", THREADED];

/// The one that needs a library.
const LIBUV: &str = "libuv";

/// What they are asked for: a line a round, for machines. Without optimisation, since that is built anyhow and calls as often.
const RUN: &str = "--workloads ping-pong,echo,pump,fan-out,multi-accept,wake --sizes 64 --conns 1,64 --depth 1,16 \
                   --rounds 1 --seconds 0.05 --seed 1 -o csv --engines";

/// The columns that are looked at.
const CELL: &str = "cell";
const CONTENDER: &str = "contender";
const COUNT: &str = "syscalls_per_message";

/// Clients that come, send a message and go, 64 at a time. What of that falls into one turn of a loop depends on time.
const COMERS: &str = "multi-accept 64";

/// A thread a connection: with [`COMERS`] there are at times more threads than are counted.
const THREADED: &str = "threads";

/// One message on its way, but for [`COMERS`].
const ALONE: [&str; 6] = [
    "ping-pong 64B",
    "pump 64KiBx1",
    "fan-out 64B to 2 1 deep",
    "fan-out 64B to 64 1 deep",
    COMERS,
    "wake",
];

/// Many, and where one of them is alone. A flood of wakes makes next to no calls a wake, which are no count.
const AMONG: [(&str, &str); 7] = [
    ("echo 64Bx1", "ping-pong 64B"),
    ("echo 64Bx1 16 deep", "ping-pong 64B"),
    ("echo 64Bx64", "ping-pong 64B"),
    ("echo 64Bx64 16 deep", "ping-pong 64B"),
    ("pump 64KiBx64", "pump 64KiBx1"),
    ("fan-out 64B to 2 16 deep", "fan-out 64B to 2 1 deep"),
    ("fan-out 64B to 64 16 deep", "fan-out 64B to 64 1 deep"),
];

/// Counts and compares.
///
/// # Errors
///
/// A count is above its ceiling, has none, or is gone.
pub(crate) fn run() -> Result<Outcome, Failure> {
    let mut engines = ENGINES.to_vec();
    let (features, outcome): (&[&str], _) = match libuv::ensure() {
        Ok(()) => {
            engines.push(LIBUV);
            (&["--features", LIBUV], Outcome::Passed)
        }
        Err(failure) => (&[], libuv::skipped(&failure)),
    };
    let names = engines.join(",");
    let build = ["run", "-q", "-p", "kraft-bench"];
    let words: Vec<&str> = RUN.split_whitespace().chain([names.as_str()]).collect();
    let text = cargo_output(&[], &[&build, features, &["--", "run"], &words].concat())?;
    let Some(counts) = read(&text, &engines)? else {
        let why = "the kernel does not count them for us: it takes Linux, tracefs and CAP_PERFMON";
        println!("ci: ======== SKIPPED: NO system calls are counted: {why}");
        return Ok(Outcome::Skipped(format!("counts of system calls ({why})")));
    };
    for (name, count) in &counts {
        println!("ci: {name}: {count:.2} system calls a message");
    }
    let (own, bound) = split(counts);
    let is_missing = |name: &str| outcome != Outcome::Passed && name.ends_with(&format!(", {LIBUV}"));
    Ok(CEILINGS.hold(&own, &bound, &is_missing)?.and(outcome.clone()))
}

/// What has ceilings of its own, and what those bind besides.
fn split(counts: Counts) -> (Counts, Vec<Bound>) {
    let mut bound = Vec::new();
    let mut own = Counts::new();
    for (name, count) in counts {
        let lone = name.split_once(", ").and_then(|(cell, engine)| {
            let (_, lone) = AMONG.iter().find(|(among, _)| *among == cell)?;
            Some(format!("{lone}, {engine}"))
        });
        match lone {
            Some(ceiling) => bound.push(Bound { name, count, ceiling }),
            None => {
                own.insert(name, count);
            }
        }
    }
    (own, bound)
}

/// What the lines of a run say; `None` if every cell that is looked at has its rows and none of them a count.
///
/// # Errors
///
/// It is not what the program prints, a row is not there, or some have a count and others do not.
fn read(text: &str, engines: &[&str]) -> Result<Option<Counts>, Failure> {
    let failed = |what: String| Failure::new(format!("`kraft-bench run -o csv` {what}"));
    let mut lines = text.lines().map(fields);
    let headings = lines.next().unwrap_or_default();
    let place = |name: &str| {
        let place = headings.iter().position(|heading| heading == name);
        place.ok_or_else(|| failed(format!("prints no column {name}")))
    };
    let (cell, contender, count) = (place(CELL)?, place(CONTENDER)?, place(COUNT)?);
    let rows: Vec<Vec<String>> = lines.collect();
    let (mut counts, mut empty) = (Counts::new(), Vec::new());
    for of in ALONE.into_iter().chain(AMONG.map(|(among, _)| among)) {
        for &engine in engines.iter().filter(|engine| (of, **engine) != (COMERS, THREADED)) {
            let name = format!("{of}, {engine}");
            let is_it = |row: &&Vec<String>| row.len() == headings.len() && row[cell] == of && row[contender] == engine;
            let row = rows.iter().find(is_it);
            let field = &row.ok_or_else(|| failed(format!("prints no row of {name}")))?[count];
            if field.is_empty() {
                empty.push(name);
            } else {
                let number = field.parse().ok();
                let number = number.ok_or_else(|| failed(format!("prints no count of {name}: {field:?}")))?;
                counts.insert(name, number);
            }
        }
    }
    if counts.is_empty() {
        return Ok(None);
    }
    match &empty[..] {
        [] => Ok(Some(counts)),
        empty => Err(failed(format!("counts nothing of {}, and of others", empty.join("; ")))),
    }
}

/// The fields of a line as RFC 4180 has them: between quotation marks commas separate nothing, and one stands for two.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let (mut is_quoted, mut chars) = (false, line.chars().peekable());
    while let Some(char) = chars.next() {
        match char {
            '"' if is_quoted && chars.next_if_eq(&'"').is_some() => {
                fields.last_mut().into_iter().for_each(|field| field.push('"'))
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(String::new()),
            char => fields.last_mut().into_iter().for_each(|field| field.push(char)),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(all: &[(&str, f64)]) -> Counts {
        all.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
    }

    /// As `kraft-bench run -o csv` prints it, with these counts by cell and engine.
    fn printed(count: impl Fn(&str, &str) -> Option<&'static str>) -> String {
        let mut text = String::from(
            "cell,contender,round,messages_per_second,latency_p50_us,latency_p99_us,latency_p99_9_us,service_p50_us,\
             service_p99_us,detected_ms,elected_ms,first_write_ms,server_cpu_us_per_message,server_cpu_share,\
             context_switches_per_message,syscalls_per_message,completions_per_message,allocations_per_message,\
             resident_bytes,growth_bytes,load_busy_share,load_cpu_share,repeated_rounds,fault\n",
        );
        let cells = ALONE.into_iter().chain(AMONG.map(|(among, _)| among));
        for cell in cells.chain(["open 64Bx64 at 100000/s"]) {
            for engine in ENGINES {
                if let Some(count) = count(cell, engine) {
                    text += &format!(
                        "{cell},{engine},1,39964.0000,22.7000,31.1000,,,,,,,24.1000,0.9700,1.0000,{count},,0.0000,3000000.0000,,\
                         0.3000,0.9900,,\n"
                    );
                }
            }
        }
        text
    }

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let failure = read(text, &ENGINES).expect_err(expected);
        assert_eq!(failure.to_string(), format!("`kraft-bench run -o csv` {expected}"));
    }

    #[test]
    fn counts_are_those_of_their_column() {
        let text = printed(|cell, engine| {
            Some(if (cell, engine) == ("echo 64Bx64", "epoll") {
                "2.0400"
            } else {
                "3.0000"
            })
        });
        let found = read(&text, &ENGINES).expect("it is well-formed");
        let found = found.expect("there are counts");
        assert_eq!(found.len(), (6 + 7) * 4 - 1, "{found:?}");
        let of = |name: &str| found.get(name).copied();
        assert_eq!(
            (of("echo 64Bx64, epoll"), of("ping-pong 64B, threads")),
            (Some(2.04), Some(3.0))
        );
        assert_eq!(of("open 64Bx64 at 100000/s, epoll"), None);
    }

    #[test]
    fn where_nobody_counts_every_row_is_there_and_empty() {
        assert_eq!(read(&printed(|_, _| Some("")), &ENGINES), Ok(None));
    }

    #[test]
    fn what_is_not_there_is_no_reason_to_skip() {
        refused("", "prints no column cell");
        refused(
            "a machine\n\nping-pong 64B\n  engine  syscalls\n             each\n",
            "prints no column cell",
        );
        refused(&printed(|_, _| None), "prints no row of ping-pong 64B, epoll");
        let lost = |cell: &str, engine: &str| (cell != "echo 64Bx64" || engine != "threads").then_some("");
        refused(&printed(lost), "prints no row of echo 64Bx64, threads");
        let some = |cell: &str, engine: &str| {
            Some(if (cell, engine) == ("wake", "epoll") {
                ""
            } else {
                "3.0000"
            })
        };
        refused(&printed(some), "counts nothing of wake, epoll, and of others");
        refused(
            &printed(|_, _| Some("-")),
            "prints no count of ping-pong 64B, epoll: \"-\"",
        );
    }

    #[test]
    fn what_is_quoted_is_one_field() {
        assert_eq!(fields("a,\"b, \"\"c\"\"\",,d"), ["a", "b, \"c\"", "", "d"]);
    }

    #[test]
    fn one_among_many_is_bound_by_a_lone_one() {
        let own = counts(&[("fan-out 64B to 2 1 deep, epoll", 4.0), ("ping-pong 64B, epoll", 3.0)]);
        let mut all = own.clone();
        all.extend(counts(&[("echo 64Bx64, epoll", 2.04)]));
        let bound = Bound {
            name: "echo 64Bx64, epoll".into(),
            count: 2.04,
            ceiling: "ping-pong 64B, epoll".into(),
        };
        assert_eq!(split(all), (own, vec![bound]));
        for (among, lone) in AMONG {
            assert!(ALONE.contains(&lone) && !ALONE.contains(&among), "{among}");
        }
    }
}
