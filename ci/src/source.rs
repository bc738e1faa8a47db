//! The Rust files of the workspace, and their text without comments and strings.

use std::fs;
use std::path::{Path, PathBuf};

use crate::command::Failure;

/// A Rust file of the workspace.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// From the root of the workspace, with `/` between its parts.
    pub(crate) path: String,
    /// As it stands.
    pub(crate) text: String,
    /// With comments and the contents of strings and characters blanked, line by line where it was.
    pub(crate) code: String,
}

impl Source {
    /// A file with this path and text.
    pub(crate) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            path: path.into(),
            code: blank(&text),
            text,
        }
    }

    /// The lines of code that hold this identifier, counted from 1.
    pub(crate) fn lines_with<'a>(&'a self, word: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
        let lines = self.code.lines().enumerate();
        lines
            .filter(move |(_, line)| identifiers(line).any(|found| found == word))
            .map(|(at, line)| (at + 1, line))
    }

    /// Whether it is compiled for tests, benchmarks or examples alone.
    pub(crate) fn is_test(&self) -> bool {
        let mut parts = self.path.split('/');
        parts.any(|part| matches!(part, "tests" | "benches" | "examples" | "tests.rs" | "test.rs"))
    }
}

/// The root of the workspace: the folder above this crate.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// All Rust files below the current folder, by path.
///
/// # Errors
///
/// A folder or file cannot be read.
pub(crate) fn all() -> Result<Vec<Source>, Failure> {
    let mut paths = Vec::new();
    collect(Path::new("."), &mut paths)?;
    paths.sort();
    let mut sources = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).map_err(|error| failed(&path, &error))?;
        let parts: Vec<_> = path.iter().skip(1).map(|part| part.to_string_lossy()).collect();
        sources.push(Source::new(parts.join("/"), text));
    }
    Ok(sources)
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for entry in fs::read_dir(folder).map_err(|error| failed(folder, &error))? {
        let path = entry.map_err(|error| failed(folder, &error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(&path, paths)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
    Ok(())
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

/// The identifiers and keywords of a line of code.
pub(crate) fn identifiers(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

/// Blanks comments and the contents of strings and characters; keeps line breaks.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = token_end(&chars, at);
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// Where the comment, string or character that begins at `at` ends; `at` if none begins there.
fn token_end(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    match rest {
        ['/', '/', ..] => at + rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => at + comment_length(rest),
        ['"', ..] => at + string_length(rest),
        ['r', '"' | '#', ..] if !follows_identifier(chars, at) => at + raw_length(rest),
        ['\'', '\\', ..] => {
            at + 3
                + rest
                    .iter()
                    .skip(3)
                    .position(|c| *c == '\'')
                    .map_or(0, |found| found + 1)
        }
        ['\'', _, '\'', ..] => at + 3,
        _ => at,
    }
    .min(chars.len())
}

/// `br"…"` is a raw string too, `var"` is not Rust.
fn follows_identifier(chars: &[char], at: usize) -> bool {
    let before = at.checked_sub(1).map(|before| chars[before]);
    before.is_some_and(|c| (c.is_alphanumeric() && c != 'b') || c == '_')
}

/// Block comments nest.
fn comment_length(rest: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at + 1 < rest.len() {
        match (rest[at], rest[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn string_length(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#` and so on; 0 for a raw identifier.
fn raw_length(rest: &[char]) -> usize {
    let hashes = rest.iter().skip(1).take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let body = 2 + hashes;
    let closes = |at: &usize| rest[*at] == '"' && rest[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
    (body..rest.len()).find(closes).map_or(rest.len(), |at| at + 1 + hashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, words: &[&str]) {
        let code = blank(text);
        assert_eq!(code.lines().count(), text.lines().count());
        assert_eq!(identifiers(&code).collect::<Vec<_>>(), words);
    }

    #[test]
    fn comments_and_strings_are_no_code() {
        check("a // unsafe\nb", &["a", "b"]);
        check("a /* unsafe /* nested */ still */ b", &["a", "b"]);
        check(r#"a "unsafe \" unsafe" b"#, &["a", "b"]);
        check("a r#\"unsafe \" unsafe\"# b", &["a", "b"]);
        check("a br\"unsafe\\\" b", &["a", "b", "b"]);
        check("r#type a", &["r", "type", "a"]);
        check("'\"' a '\\'' b '\\u{7f}' c", &["a", "b", "c"]);
        check("fn f<'a>(x: &'a str) {}", &["fn", "f", "a", "x", "a", "str"]);
        check("a \"never closed", &["a"]);
    }
}
