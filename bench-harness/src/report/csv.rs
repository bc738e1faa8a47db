//! A line for each round of each contender.

use std::io::{self, Write};

use super::{FIGURES, name};
use crate::run::Results;

pub(super) fn print(results: &Results, out: &mut impl Write) -> io::Result<()> {
    let names: Vec<String> = FIGURES.into_iter().map(name).collect();
    writeln!(out, "cell,contender,round,{},fault", names.join(","))?;
    for cell in &results.cells {
        for row in &cell.rows {
            for (round, sample) in row.rounds.iter().enumerate() {
                let values = FIGURES.map(|figure| {
                    let value = sample.as_ref().and_then(|sample| figure.of(sample));
                    value.map(|value| format!("{value:.4}")).unwrap_or_default()
                });
                let fault = row.fault.as_ref().filter(|_| sample.is_none());
                let fault = fault.map(|fault| quoted(&fault.to_string())).unwrap_or_default();
                let (work, label) = (quoted(&cell.work.to_string()), quoted(&row.contender.label));
                writeln!(out, "{work},{label},{},{},{fault}", round + 1, values.join(","))?;
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
