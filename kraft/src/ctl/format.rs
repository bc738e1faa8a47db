//! Tables, JSON and tab-separated lines.

use std::fmt::Write as _;
use std::io::{self, Write};

/// Rows of text in aligned columns; a column of numbers stands to the right.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
    right: &'static [bool],
}

impl Table {
    /// A table with these headings; `right` says which columns are numbers.
    pub(super) fn new(headings: &[&str], right: &'static [bool]) -> Self {
        Self {
            rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()],
            right,
        }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                // By hand: a width in a format string is 16 bits, and a value may have more characters.
                let padding = " ".repeat(widths[column] - cell.chars().count());
                match self.right.get(column) {
                    Some(true) => line.extend([&padding, cell, "  "]),
                    _ => line.extend([cell, padding.as_str(), "  "]),
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Bytes for a terminal or a line: text as it is, control characters and what is no text escaped.
pub(super) fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || c == '\\' {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect("a String takes all");
        }
    }
    text
}

/// `"NAME":"TEXT"`, or `"NAME_HEX":"BYTES"` if the bytes are no text: JSON has no other way to keep them.
pub(super) fn json_bytes(name: &str, bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => format!("{}:{}", json_text(name), json_text(text)),
        Err(_) => {
            let mut hex = String::with_capacity(2 * bytes.len());
            for byte in bytes {
                write!(hex, "{byte:02x}").expect("a String takes all");
            }
            format!("{}:\"{hex}\"", json_text(&format!("{name}_hex")))
        }
    }
}

/// A JSON string (RFC 8259, section 7).
pub(super) fn json_text(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\t' => json.push_str("\\t"),
            c if c.is_control() => write!(json, "\\u{:04x}", u32::from(c)).expect("a String takes all"),
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_stand_right() {
        let mut table = Table::new(&["NAME", "N"], &[false, true]);
        table.row(vec!["é".into(), "10".into()]);
        table.row(vec!["longer".into(), "7".into()]);
        let mut out = Vec::new();
        table.print(&mut out).expect("a Vec takes all");
        assert_eq!(String::from_utf8(out).unwrap(), "NAME     N\né       10\nlonger   7\n");
    }

    #[test]
    fn a_cell_may_be_as_long_as_a_value() {
        let value = "x".repeat(usize::from(u16::MAX) + 1);
        let mut table = Table::new(&["KEY", "VALUE", "N"], &[false, false, true]);
        table.row(vec!["k".into(), value.clone(), "7".into()]);
        table.row(vec!["l".into(), "v".into(), "10".into()]);
        let mut out = Vec::new();
        table.print(&mut out).expect("a Vec takes all");
        let lines = String::from_utf8(out).expect("text");
        assert_eq!(lines.lines().nth(1), Some(format!("k    {value}   7").as_str()));
        assert!(
            lines
                .lines()
                .all(|line| line.len() == value.len() + "KEY    ".len() - 2 + " 10".len() + 1),
            "aligned"
        );
    }

    #[test]
    fn a_value_cannot_move_the_cursor() {
        assert_eq!(printable(b"ok \x1b[2J\n\xff\\"), "ok \\u{1b}[2J\\n\\xff\\\\");
    }

    #[test]
    fn json_keeps_every_byte() {
        assert_eq!(
            json_bytes("value", "a\"\\\n\u{1}é".as_bytes()),
            "\"value\":\"a\\\"\\\\\\n\\u0001é\""
        );
        assert_eq!(json_bytes("value", b"\xff\x00"), "\"value_hex\":\"ff00\"");
    }
}
