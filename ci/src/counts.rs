//! Instructions of hot paths, counted by callgrind and held against ceilings that are kept in the tree.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::ceilings::Ceilings;
use crate::command::{Failure, cargo_output, output};
use crate::steps::Outcome;
use crate::{debian, source, tools};

/// Compilers differ, and the system's memcpy: hence the slack.
const CEILINGS: Ceilings = Ceilings {
    path: "counts/ceilings.txt",
    head: "Instructions, as callgrind counts them: `KRAFT_REWRITE=1 cargo ci counts` writes this file.",
    decimals: 0,
    slack: 5,
    above: 0.0,
    rising: None,
};

/// Where counts are left, below the root.
const RESULTS: &str = "target/counts";

/// Counts of this group are shown, and have no ceiling: libraries that ours are compared with.
const RIVALS: &str = "rivals";

/// Runs the benchmarks of `kraft-counts` and compares.
///
/// # Errors
///
/// A count is above its ceiling, has none, is gone or is zero.
pub(crate) fn run() -> Result<Outcome, Failure> {
    let path = match ensure() {
        Ok(path) => path,
        Err(failure) => {
            println!("ci: ======== SKIPPED: NO instructions are counted: {failure}");
            return Ok(Outcome::Skipped(format!("counts of instructions ({failure})")));
        }
    };
    let results = source::root().join(RESULTS);
    // What is not counted any more leaves nothing behind.
    if results.exists() {
        fs::remove_dir_all(&results).map_err(|error| Failure::new(format!("{}: {error}", results.display())))?;
    }
    let home = results.to_string_lossy();
    let variables = [("PATH", path.as_str()), ("GUNGRAUN_HOME", &home)];
    let command = "bench --locked -p kraft-counts --features callgrind";
    cargo_output(&variables, &command.split_whitespace().collect::<Vec<_>>())?;
    let counts = read_counts(&results)?;
    print(&counts);
    let idle = idle(&counts);
    if !idle.is_empty() {
        return Err(Failure::new(format!("nothing is counted by {}", idle.join(", "))));
    }
    let ours = counts.into_iter().filter(|(name, _)| name.group != RIVALS);
    let ours = ours.map(|(name, count)| (name.to_string(), count as f64));
    CEILINGS.hold(&ours.collect(), &[], &|_| false)
}

/// Brings valgrind and gungraun's runner here. The search path on which they are found.
fn ensure() -> Result<String, Failure> {
    if output("valgrind", &["--version"]).is_err() {
        println!("ci: valgrind is missing; installing Debian's package");
        debian::install(&["valgrind"])?;
    }
    // Of the same version as the library, or the two do not speak with each other.
    tools::ensure_version("gungraun-runner", &locked("gungraun-runner")?)
}

/// The version of a crate in the lock file.
fn locked(krate: &str) -> Result<String, Failure> {
    let lock = fs::read_to_string("Cargo.lock").map_err(|error| Failure::new(format!("Cargo.lock: {error}")))?;
    let mut lines = lock.lines().skip_while(|line| *line != format!("name = \"{krate}\""));
    let version = lines
        .nth(1)
        .and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    version
        .map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("Cargo.lock: there is no {krate}")))
}

/// What was counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    bench: String,
    group: String,
    function: String,
    case: String,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            bench, function, case, ..
        } = self;
        write!(f, "{bench}/{function}/{case}")
    }
}

/// The counts that gungraun left in `PACKAGE/BENCH/GROUP/FUNCTION.CASE/callgrind.FUNCTION.CASE.out`.
fn read_counts(results: &Path) -> Result<BTreeMap<Name, u64>, Failure> {
    let mut counts = BTreeMap::new();
    for package in folders(results)? {
        for bench in folders(&results.join(&package))? {
            let bench_folder = results.join(&package).join(&bench);
            for group in folders(&bench_folder)? {
                for case in folders(&bench_folder.join(&group))? {
                    let (function, id) = case.split_once('.').unwrap_or((&case, ""));
                    let name = Name {
                        bench: bench.clone(),
                        group: group.clone(),
                        function: function.to_owned(),
                        case: id.to_owned(),
                    };
                    let file = bench_folder.join(&group).join(&case);
                    counts.insert(name, read_count(&file.join(format!("callgrind.{case}.out")))?);
                }
            }
        }
    }
    if counts.is_empty() {
        return Err(Failure::new(format!("{}: there is no count", results.display())));
    }
    Ok(counts)
}

fn folders(path: &Path) -> Result<Vec<String>, Failure> {
    let failed = |error| Failure::new(format!("{}: {error}", path.display()));
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found.sort();
    Ok(found)
}

fn read_count(path: &Path) -> Result<u64, Failure> {
    let text = fs::read_to_string(path).map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    count_of(&text).ok_or_else(|| Failure::new(format!("{}: no sum of instructions", path.display())))
}

/// The sum of the first event, which is instructions.
fn count_of(callgrind: &str) -> Option<u64> {
    let events = callgrind.lines().find_map(|line| line.strip_prefix("events: "))?;
    let sums = callgrind.lines().find_map(|line| line.strip_prefix("summary: "))?;
    let place = events.split_whitespace().position(|event| event == "Ir")?;
    sums.split_whitespace().nth(place)?.parse().ok()
}

/// Benchmarks in which nothing was counted: they have no ceiling that they could be above, but are no benchmarks either.
fn idle(counts: &BTreeMap<Name, u64>) -> Vec<String> {
    let idle = counts.iter().filter(|(_, count)| **count == 0);
    idle.map(|(name, _)| name.to_string()).collect()
}

/// The counts of a group, by functions and cases.
type Functions<'a> = BTreeMap<&'a str, Vec<(&'a str, u64)>>;

/// A table for each group: functions by cases if all have the same ones, or a line a count.
fn print(counts: &BTreeMap<Name, u64>) {
    let mut groups: BTreeMap<(&str, &str), Functions<'_>> = BTreeMap::new();
    for (name, &count) in counts {
        let group = groups.entry((&name.bench, &name.group)).or_default();
        group.entry(&name.function).or_default().push((&name.case, count));
    }
    for ((bench, group), functions) in groups {
        let cases = |counts: &[(&str, u64)]| counts.iter().map(|(case, _)| (*case).to_owned()).collect::<Vec<_>>();
        let heads = functions
            .values()
            .next()
            .map(|counts| cases(counts))
            .unwrap_or_default();
        if functions.values().all(|counts| cases(counts) == heads) {
            println!("\n| instructions: {bench}, {group} | {} |", heads.join(" | "));
            println!("|---|{}", "---|".repeat(heads.len()));
            for (function, counts) in functions {
                let cells: Vec<_> = counts.iter().map(|(_, count)| thousands(*count)).collect();
                println!("| `{function}` | {} |", cells.join(" | "));
            }
            continue;
        }
        println!("\n| instructions: {bench}, {group} | |\n|---|---|");
        for (function, counts) in functions {
            for (case, count) in counts {
                println!("| `{function}/{case}` | {} |", thousands(count));
            }
        }
    }
    println!();
}

fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_benchmark_that_counts_nothing_is_named() {
        let name = |case: &str| Name {
            bench: "core".into(),
            group: RIVALS.into(),
            function: "put".into(),
            case: case.into(),
        };
        let counts = BTreeMap::from([(name("small"), 1), (name("large"), 0)]);
        assert_eq!(idle(&counts), ["core/put/large"]);
    }

    #[test]
    fn instructions_are_one_of_the_events() {
        let text = "version: 1\nevents: Dr Ir Dw\nsummary: 3 13848 2\n\nfn=main\n0 1 2 3\n";
        assert_eq!(count_of(text), Some(13_848));
        assert_eq!(count_of("events: Dr Dw\nsummary: 3 4\n"), None);
        assert_eq!(count_of(""), None);
    }

    #[test]
    fn long_numbers_are_read_in_threes() {
        assert_eq!(
            [7, 999, 1000, 1_637_332].map(thousands),
            ["7", "999", "1,000", "1,637,332"]
        );
    }
}
