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
                    // What was counted behind the rounds is the row's, and stands in each of its lines.
                    let round = round.as_ref();
                    let value = round.and_then(|round| round.get(&figure).or_else(|| row.counts.get(&figure)));
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
    use crate::record::tests::sample;

    #[test]
    fn what_was_counted_stands_in_each_line_of_its_row() {
        let mut record = sample();
        let counts = &mut record.cells[0].rows[0].counts;
        counts.insert(Figure::SyscallsPerMessage, 2.5);
        counts.insert(Figure::AllocationsPerMessage, 0.0);
        let mut out = Vec::new();
        print(&record, &mut out).expect("memory takes all");
        let text = String::from_utf8(out).expect("it is text");
        let mut lines = text.lines();
        let headings: Vec<&str> = lines.next().expect("there is one").split(',').collect();
        let lines: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
        let of = |contender: &str, key: &str| -> Vec<&str> {
            let at = headings.iter().position(|heading| *heading == key).expect("a column");
            let own = lines.iter().filter(|line| line[1] == contender);
            own.map(|line| line[at]).collect()
        };
        assert_eq!(of("fast", "syscalls_per_message"), ["2.5000"; 10]);
        assert_eq!(of("fast", "allocations_per_message"), ["0.0000"; 10]);
        assert_eq!(of("slow", "syscalls_per_message"), [""; 10]);
        // Who has no round has nothing.
        assert_eq!(of("dead", "syscalls_per_message"), [""; 10]);
    }

    #[test]
    fn what_would_split_a_line_is_quoted() {
        assert_eq!(quoted("epoll"), "epoll");
        assert_eq!(quoted("epoll, \"1\" put"), "\"epoll, \"\"1\"\" put\"");
    }
}
