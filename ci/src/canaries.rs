//! Deliberate bugs, each of which a law must find.

use crate::command::{Failure, cargo_output};
use crate::steps::Outcome;

/// The tests that plant them.
const TESTS: &[&str] = &["-p kraft-core --test it canaries::", "-p kraft-raft --test canaries"];

/// What Kraft and its tests assert on their own, where that comes before a law is looked at. Any other panic is an
/// accident, not a find.
const ASSERTIONS: &[&str] = &[
    // kraft-core: what Raft hands to the log.
    "entries are appended after the last",
    "the range is in memory",
    // kraft::storage: what the log is handed, and what it reads.
    "contradicts the log",
    "the log is damaged",
    // The clusters of Raft alone.
    "without a candidacy",
    "is told to campaign without",
    "hands over, and over",
    "was not told in",
];

/// Builds with the bugs, plants one at a time, and prints which law found it and when.
///
/// # Errors
///
/// A bug is not found, or not by a law, or was never planted; or something is found where none is planted.
pub(crate) fn run() -> Result<Outcome, Failure> {
    let variables = [
        ("RUSTFLAGS", "--cfg kraft_canary"),
        ("CARGO_TARGET_DIR", "target/canary"),
        // It is built more often than it runs for long.
        ("CARGO_PROFILE_RELEASE_LTO", "off"),
        ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
        ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
        // Each where it has to be found, whatever the caller's environment asks of the tests.
        ("KRAFT_CANARIES", ""),
    ];
    let mut said = Vec::new();
    for tests in TESTS {
        let command = format!("test --locked --release {tests} -- --nocapture");
        said.push(cargo_output(
            &variables,
            &command.split_whitespace().collect::<Vec<_>>(),
        )?);
    }
    let rows: Vec<_> = said
        .iter()
        .flat_map(|said| said.lines())
        .filter_map(Row::parse)
        .collect();
    println!("{}", table(&rows));
    judge(&said)
}

/// Whether each canary was found once, by a law, of what the tests said.
fn judge(said: &[String]) -> Result<Outcome, Failure> {
    let mut missing: Option<Vec<&str>> = None;
    for (tests, said) in TESTS.iter().zip(said) {
        let Some((_, names)) = said.lines().find_map(|line| line.split_once("all canaries: ")) else {
            return Err(Failure::new(format!(
                "{tests}: it does not say which canaries there are"
            )));
        };
        let missing = missing.get_or_insert_with(|| names.split(' ').collect());
        let rows: Vec<_> = said.lines().filter_map(Row::parse).collect();
        if rows.is_empty() {
            return Err(Failure::new(format!("{tests}: it does not say that it found a canary")));
        }
        for Row { canary, complaint, .. } in rows {
            let Some(at) = missing.iter().position(|name| *name == canary) else {
                return Err(Failure::new(format!("{canary}: it was found twice, or is none")));
            };
            missing.swap_remove(at);
            if !is_a_find(complaint) {
                return Err(Failure::new(format!("{canary}: what found it is no law: {complaint}")));
            }
        }
    }
    match missing.unwrap_or_default().as_slice() {
        [] => Ok(Outcome::Passed),
        missing => Err(Failure::new(format!("nothing tried {}", missing.join(", ")))),
    }
}

/// Whether it names a law, R1 to R11, or is of the [`ASSERTIONS`].
fn is_a_find(complaint: &str) -> bool {
    let mut words = complaint.split(|sign: char| !sign.is_ascii_alphanumeric());
    let is_law = |word: &str| {
        let number = word.strip_prefix('R').and_then(|number| number.parse().ok());
        number.is_some_and(|number: u32| (1..=11).contains(&number))
    };
    words.any(is_law) || ASSERTIONS.iter().any(|text| complaint.contains(text))
}

/// What a test says of a canary: `canary: name | what runs | seeds | complaint`.
#[derive(Debug)]
struct Row<'a> {
    canary: &'a str,
    runs: &'a str,
    seeds: &'a str,
    complaint: &'a str,
}

impl<'a> Row<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        // The name of a test may stand before the first one.
        let (_, row) = line.split_once("canary: ")?;
        let mut words = row.splitn(4, " | ");
        Some(Self {
            canary: words.next()?,
            runs: words.next()?,
            seeds: words.next()?,
            complaint: words.next()?,
        })
    }
}

fn table(rows: &[Row<'_>]) -> String {
    let mut table = format!("{:<22}{:<27}{:>5}  found by", "canary", "in", "seeds");
    for row in rows {
        let Row {
            canary,
            runs,
            seeds,
            complaint,
        } = row;
        let complaint: String = complaint.chars().take(100).collect();
        table.push_str(&format!("\n{canary:<22}{runs:<27}{seeds:>5}  {complaint}"));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_test_says_of_a_canary_is_a_row() {
        let said = "test a ... canary: AckByIndex | whole nodes | 3 | R10: node 1 | acknowledges\nok\n";
        let rows: Vec<_> = said.lines().filter_map(Row::parse).collect();
        let expected = "AckByIndex            whole nodes                    3  R10: node 1 | acknowledges";
        assert_eq!(table(&rows).lines().skip(1).collect::<Vec<_>>(), [expected]);
    }

    #[track_caller]
    fn check(raft: &str, nodes: &str, expected: Option<&str>) {
        let lines = |rows: &str| {
            let rows = rows.split(',').filter(|row| !row.is_empty());
            let rows = rows.map(|row| {
                let (canary, complaint) = row.split_once('=').expect("a name and a complaint");
                format!("canary: {canary} | here | 1 | {complaint}\n")
            });
            format!("test a ... all canaries: A B C\n{}", rows.collect::<String>())
        };
        let failure = judge(&[lines(raft), lines(nodes)])
            .err()
            .map(|failure| failure.to_string());
        match (&failure, expected) {
            (None, None) => {}
            (Some(failure), Some(expected)) if failure.contains(expected) => {}
            _ => panic!("{failure:?}, not {expected:?}"),
        }
    }

    #[test]
    fn each_canary_has_to_be_found_once_and_by_a_law() {
        let good = "B=it says (R6)";
        check(
            "A=R11: no",
            "B=a panic: entries are appended after the last,C=R1: no",
            None,
        );
        check("A=R11: no", good, Some("nothing tried C"));
        check(
            "",
            good,
            Some("kraft-core --test it canaries::: it does not say that it found"),
        );
        check("A=R1: no", "", Some("--test canaries: it does not say that it found"));
        check("A=R1: no,A=R1: no", good, Some("A: it was found twice"));
        check("D=R1: no", good, Some("D: it was found twice, or is none"));
        for accident in ["index out of bounds", "R0", "R12", "R", "FOR1", "(R1st)"] {
            check(&format!("A={accident}"), good, Some("A: what found it is no law"));
        }
        assert!(judge(&[String::new(), String::new()]).is_err());
    }
}
