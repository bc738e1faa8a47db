//! What the documents say of the source, held against it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::command::Failure;
use crate::readme;
use crate::source::{Source, identifiers};

/// The table of scenarios and threats, each with the tests that hold it.
const TESTING: &str = "docs/testing.md";

/// Tests that are no Rust, and stand in that table, too.
const PYTHON: &str = "protocols/examples/python/test_client.py";

/// The example whose code README.md shows.
const EMBED: &str = "kraft/examples/embed.rs";

/// A longer overview is none.
const ARCHITECTURE: (&str, usize) = ("docs/architecture.md", 300);

/// Where other documents stand.
const FOLDER: &str = "docs";

/// What the documents say and the source does not hold.
///
/// # Errors
///
/// A document cannot be read.
pub(crate) fn problems(sources: &[Source]) -> Result<Vec<String>, Failure> {
    let mut problems = missing_tests(&read(TESTING)?, sources, &read(PYTHON)?);
    problems.extend(example_differs(&read("README.md")?, sources));
    for document in documents()? {
        problems.extend(dead_links(&document)?);
    }
    let (path, lines_max) = ARCHITECTURE;
    let text = read(path)?;
    let gone = paths(&text).into_iter().filter(|named| !Path::new(named).exists());
    problems.extend(gone.map(|named| format!("{path}: there is no {named}")));
    let lines = text.lines().count();
    if lines > lines_max {
        problems.push(format!("{path}: {lines} lines, at most {lines_max}"));
    }
    Ok(problems)
}

/// All documents, by path.
fn documents() -> Result<Vec<String>, Failure> {
    let failed = |error| Failure::new(format!("{FOLDER}: {error}"));
    let mut found = vec!["CHANGELOG.md".to_owned(), "README.md".to_owned()];
    for entry in fs::read_dir(FOLDER).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") {
            found.push(format!("{FOLDER}/{name}"));
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &str) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::new(format!("{path}: {error}")))
}

/// Every name in backticks in the last column of a table is a test, or a law of a suite, that exists.
fn missing_tests(document: &str, sources: &[Source], python: &str) -> Vec<String> {
    let rust = sources.iter().flat_map(functions);
    let known: BTreeSet<&str> = rust.chain(python_functions(python)).collect();
    let mut problems = Vec::new();
    for (at, line) in document.lines().enumerate() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').collect();
        if !line.starts_with('|') || cells.len() < 2 {
            continue;
        }
        let last = cells.last().copied().unwrap_or_default();
        for name in last.split('`').skip(1).step_by(2) {
            if !known.contains(name) {
                problems.push(format!("{TESTING}:{}: there is no test `{name}`", at + 1));
            }
        }
    }
    problems
}

/// Links of a document to files that do not exist.
fn dead_links(document: &str) -> Result<Vec<String>, Failure> {
    let text = read(document)?;
    let folder = Path::new(document).parent().unwrap_or_else(|| Path::new(""));
    let dead = links(&text).into_iter().filter(|link| !folder.join(link).exists());
    Ok(dead
        .map(|link| format!("{document}: links to {link}, which does not exist"))
        .collect())
}

/// The targets of links within the repository, without their anchors.
fn links(document: &str) -> Vec<&str> {
    let targets = document.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = targets
        .filter(|target| !target.contains("://"))
        .filter_map(|target| target.split('#').next());
    files.filter(|file| !file.is_empty()).collect()
}

/// What stands in backticks and is a path from the root: a file, or a folder with a slash behind it.
fn paths(document: &str) -> Vec<&str> {
    let quoted = document.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    quoted
        .filter(|word| word.ends_with('/') || (word.contains('/') && word.contains('.') && !word.contains(' ')))
        .collect()
}

/// The names of all functions of a file.
fn functions(source: &Source) -> impl Iterator<Item = &str> {
    source
        .lines_with("fn")
        .filter_map(|(_, code)| identifiers(code).skip_while(|word| *word != "fn").nth(1))
}

/// The names of all functions and methods of a file in Python.
fn python_functions(text: &str) -> impl Iterator<Item = &str> {
    let defined = text.lines().filter_map(|line| line.trim_start().strip_prefix("def "));
    defined.filter_map(|rest| rest.split('(').next())
}

/// README.md shows the example as it is compiled and run, from its first `use` to its tests.
fn example_differs(readme: &str, sources: &[Source]) -> Option<String> {
    let example = sources.iter().find(|source| source.path == EMBED)?;
    let blocks = readme::fenced(readme, "rust");
    let shown = blocks.iter().any(|block| example.text.contains(block.trim()));
    (!shown).then(|| format!("README.md: no rust block stands in {EMBED} word for word"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_is_gone_is_missed() {
        let sources = [Source::new(
            "kraft/tests/it/votes.rs",
            "#[test]\nfn two_votes() {}\n// fn three_votes() {}",
        )];
        let document =
            "| scenario | test |\n|---|---|\n| `a` | `two_votes` |\n| b | `two_votes`, `three_votes` |\n`c`\n";
        let missing = ["docs/testing.md:4: there is no test `three_votes`"];
        assert_eq!(missing_tests(document, &sources, "# def three_votes(self):"), missing);
        let python = "class Votes:\n    def three_votes(self):\n";
        assert!(missing_tests(document, &sources, python).is_empty());
    }

    #[test]
    fn links_within_the_repository_are_followed() {
        let document = "[a](docs/a.md), [b](../b.md#c), [c](#d) and [e](https://semver.org)";
        assert_eq!(links(document), ["docs/a.md", "../b.md"]);
    }

    #[test]
    fn paths_are_told_from_other_names() {
        let document = "`adapters/` and `ci/src/main.rs`, not `raft/tail`, `Log` or `-D warnings`";
        assert_eq!(paths(document), ["adapters/", "ci/src/main.rs"]);
    }

    #[test]
    fn the_example_is_shown_word_for_word() {
        let sources = [Source::new(
            EMBED,
            "//! Head.\n\nfn main() {}\n\n#[test]\nfn runs() {}\n",
        )];
        assert_eq!(example_differs("```rust\nfn main() {}\n```\n", &sources), None);
        assert!(example_differs("```rust\nfn main() { old() }\n```\n", &sources).is_some());
        assert!(example_differs("no block", &sources).is_some());
        assert_eq!(example_differs("no block", &[]), None);
    }
}
