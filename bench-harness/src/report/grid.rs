//! A table of text.

use std::io::{self, Write};

/// Headings are broken beyond so many characters: `p99.9 µs` is one line.
const HEADING: usize = 8;

/// Aligned columns: the first to the left, what begins with a letter too, numbers to the right. A heading that is wider
/// than what stands below it takes two lines.
#[derive(Debug)]
pub(crate) struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With a heading a column.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self {
            headings: headings.iter().map(|heading| (*heading).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// A line of it, a cell a column.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// One more column, a cell a line.
    pub(crate) fn column(&mut self, heading: &str, cells: Vec<String>) {
        self.headings.push(heading.to_owned());
        for (row, cell) in self.rows.iter_mut().zip(cells) {
            row.push(cell);
        }
    }

    /// As Markdown has tables.
    pub(crate) fn print_markdown(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "| {} |", self.headings.join(" | "))?;
        writeln!(out, "|{}", "--|".repeat(self.headings.len()))?;
        self.rows
            .iter()
            .try_for_each(|row| writeln!(out, "| {} |", row.join(" | ")))
    }

    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let columns: Vec<Column> = (0..self.headings.len()).map(|at| self.shape(at)).collect();
        let height = columns.iter().map(|column| column.heading.len()).max().unwrap_or(0);
        for line in 0..height {
            // Below each other, the last one above the cells.
            let word = |column: &Column| {
                let above = height - column.heading.len();
                line.checked_sub(above)
                    .map_or_else(String::new, |at| column.heading[at].clone())
            };
            let words: Vec<String> = columns.iter().map(word).collect();
            print_line(&columns, &words, out)?;
        }
        self.rows.iter().try_for_each(|row| print_line(&columns, row, out))
    }

    fn shape(&self, at: usize) -> Column {
        let cells = || self.rows.iter().map(|row| row[at].as_str());
        let is_text = cells().any(|cell| cell.starts_with(|first: char| first.is_ascii_alphabetic()));
        let below = cells().map(chars).max().unwrap_or(0);
        let heading = broken(&self.headings[at], below.max(HEADING));
        let width = heading.iter().map(|line| chars(line)).fold(below, usize::max);
        Column {
            width,
            is_text,
            heading,
        }
    }
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

/// In two lines that are as short as may be, if it is wider than that.
fn broken(heading: &str, width: usize) -> Vec<String> {
    let breaks = heading
        .match_indices(' ')
        .map(|(at, _)| (&heading[..at], &heading[at + 1..]));
    match breaks.min_by_key(|(first, second)| chars(first).max(chars(second))) {
        Some((first, second)) if chars(heading) > width => vec![first.to_owned(), second.to_owned()],
        _ => vec![heading.to_owned()],
    }
}

#[derive(Debug)]
struct Column {
    width: usize,
    is_text: bool,
    /// In lines.
    heading: Vec<String>,
}

fn print_line(columns: &[Column], cells: &[String], out: &mut impl Write) -> io::Result<()> {
    let mut line = String::from(" ");
    for (cell, &Column { width, is_text, .. }) in cells.iter().zip(columns) {
        line.push(' ');
        line.push_str(&if is_text {
            format!("{cell:<width$} ")
        } else {
            format!("{cell:>width$} ")
        });
    }
    writeln!(out, "{}", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right_and_words_to_the_left() {
        let mut table = Table::new(&["engine", "rate"]);
        table.row(vec!["epoll".into(), "1,000".into()]);
        table.row(vec!["raw".into(), "9".into()]);
        let mut out = Vec::new();
        table.print(&mut out).expect("memory takes all");
        let text = String::from_utf8(out).expect("it is text");
        assert_eq!(text, "  engine   rate\n  epoll   1,000\n  raw         9\n");
    }

    #[test]
    fn headings_are_no_wider_than_what_they_stand_above() {
        let mut table = Table::new(&["engine", "CPU µs each", "load busy", "what"]);
        table.row(vec![
            "epoll".into(),
            "4.64".into(),
            "99 %".into(),
            "CPU a message".into(),
        ]);
        let mut out = Vec::new();
        table.print(&mut out).expect("memory takes all");
        let text = String::from_utf8(out).expect("it is text");
        let expected = "          CPU µs  load\n  engine    each  busy  what\n  epoll     4.64  99 %  CPU a message\n";
        assert_eq!(text, expected);
    }
}
