//! Deliberate bugs, each of which a law must find.

use crate::command::{Failure, cargo_output};
use crate::steps::Outcome;

/// Builds with the bugs, plants one at a time, and prints which law found it and when.
///
/// # Errors
///
/// A bug is not found, or something is found where none is planted.
pub(crate) fn run() -> Result<Outcome, Failure> {
    let variables = [
        ("RUSTFLAGS", "--cfg kraft_canary"),
        ("CARGO_TARGET_DIR", "target/canary"),
        // It is built more often than it runs for long.
        ("CARGO_PROFILE_RELEASE_LTO", "off"),
        ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
        ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
    ];
    let mut said = String::new();
    for tests in ["-p kraft-core --test it canaries::", "-p kraft-raft --test canaries"] {
        let command = format!("test --locked --release {tests} -- --nocapture");
        said += &cargo_output(&variables, &command.split_whitespace().collect::<Vec<_>>())?;
    }
    let rows: Vec<_> = said.lines().filter_map(Row::parse).collect();
    if rows.is_empty() {
        return Err(Failure::new("no test says that it found a canary"));
    }
    println!("{}", table(&rows));
    Ok(Outcome::Passed)
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
}
