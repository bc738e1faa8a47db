//! Texts of others, made fit for a line of the log.

use std::borrow::Cow;

/// Characters of a foreign text that are shown.
const CHARS_MAX: usize = 128;

/// `text` with everything escaped that could end the line, colour the terminal or turn the direction of writing, and
/// cut to 128 characters.
///
/// A text of a peer or client that reaches the log as it came could forge lines of it.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric();
    if text.len() <= CHARS_MAX && text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == CHARS_MAX {
            out.push_str(&format!("… ({} bytes)", text.len()));
            break;
        }
        if is_plain(c) {
            out.push(c);
        } else {
            out.extend(c.escape_unicode());
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_forges_lines_is_escaped() {
        assert_eq!(escaped("plain text, größer"), "plain text, größer");
        assert_eq!(escaped("a\nERROR b"), "a\\u{a}ERROR b");
        assert_eq!(escaped("\u{1b}[31mred"), "\\u{1b}[31mred");
        assert_eq!(escaped("\u{202e}turned"), "\\u{202e}turned");
        assert_eq!(escaped("\u{0}\u{7f}\u{85}"), "\\u{0}\\u{7f}\\u{85}");
    }

    #[test]
    fn what_is_long_is_cut() {
        let cut = escaped(&"x".repeat(1 << 20)).into_owned();
        assert!(cut.len() < 200, "{}", cut.len());
        assert!(cut.ends_with("… (1048576 bytes)"), "{cut}");
        assert_eq!(escaped(&"ä".repeat(128)).chars().count(), 128);
    }
}
