//! A table of text.

use std::io::{self, Write};

/// Aligned columns: the first to the left, what begins with a letter too, numbers to the right.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With a heading a column.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self {
            rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()],
        }
    }

    /// A line of it, a cell a column.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let columns = self.rows[0].len();
        let width = |column: usize| {
            self.rows
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let is_text = |column: usize| {
            let mut cells = self.rows[1..].iter().map(|row| row[column].as_str());
            cells.any(|cell| cell.starts_with(|first: char| first.is_ascii_alphabetic()))
        };
        let shape: Vec<(usize, bool)> = (0..columns).map(|column| (width(column), is_text(column))).collect();
        for row in &self.rows {
            let mut line = String::from(" ");
            for (cell, &(width, is_text)) in row.iter().zip(&shape) {
                line.push(' ');
                line.push_str(&if is_text {
                    format!("{cell:<width$} ")
                } else {
                    format!("{cell:>width$} ")
                });
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
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
}
