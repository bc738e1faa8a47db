//! Text of others, fit for a terminal or a line of a log.

use std::char::EscapeDebug;
use std::iter::{self, Once};

/// Text of others for a person: what moves the cursor or cannot be seen is escaped. Quotes and backslashes stay as they are,
/// or a text that passes through several nodes has more backslashes at each.
pub(crate) fn shown(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(|c| match c {
        '"' | '\'' | '\\' => Shown::Plain(iter::once(c)),
        _ => Shown::Escaped(c.escape_debug()),
    })
}

enum Shown {
    Plain(Once<char>),
    Escaped(EscapeDebug),
}

impl Iterator for Shown {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        match self {
            Self::Plain(c) => c.next(),
            Self::Escaped(chars) => chars.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_twice_is_as_what_is_shown_once() {
        let once: String = shown("\u{1b}[2J\n names \"demo\" \\ ü").collect();
        assert_eq!(once, "\\u{1b}[2J\\n names \"demo\" \\ ü");
        assert_eq!(shown(&once).collect::<String>(), once);
    }
}
