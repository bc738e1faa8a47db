//! A line for each round of each contender.

use std::io::{self, Write};

use crate::figures::{self, Figure};
use crate::record::Record;

pub(super) fn print(record: &Record, out: &mut impl Write) -> io::Result<()> {
    let names = figures::ALL.map(Figure::key);
    writeln!(out, "cell,contender,round,{},fault", names.join(","))?;
    for cell in &record.cells {
        for row in &cell.rows {
            for (number, round) in row.rounds.iter().enumerate() {
                let values = figures::ALL.map(|figure| {
                    let value = round.as_ref().and_then(|round| round.get(&figure));
                    value.map(|value| format!("{value:.4}")).unwrap_or_default()
                });
                let fault = row.fault.as_ref().filter(|_| round.is_none());
                let fault = fault.map(|fault| quoted(&fault.to_string())).unwrap_or_default();
                let (name, contender) = (quoted(&cell.name), quoted(&row.contender));
                writeln!(out, "{name},{contender},{},{},{fault}", number + 1, values.join(","))?;
            }
        }
    }
    Ok(())
}

/// RFC 4180: quoted where it has a separator, quotation marks doubled.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_split_a_line_is_quoted() {
        assert_eq!(quoted("epoll"), "epoll");
        assert_eq!(quoted("epoll, \"1\" put"), "\"epoll, \"\"1\"\" put\"");
    }
}
