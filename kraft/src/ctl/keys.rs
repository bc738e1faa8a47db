//! The commands on keys.

use std::io::{self, Read, Write};

use bytes::Bytes;

use super::cli::{Format, What};
use super::exit::{Exit, Failure};
use super::format::{Table, json_bytes, printable};
use crate::client::{Basis, Client, Page, Swap};

/// Runs a command on keys.
pub(super) fn run(client: &mut Client, what: &What, format: Format, out: &mut impl Write) -> Result<Exit, Failure> {
    match what {
        What::Get { key, consistency } => {
            let answer = client.get_by(key.as_bytes(), consistency.unwrap_or_default())?;
            let stands_for = consistency.map(|_| answer.basis);
            print_read(key, answer.value.as_ref(), stands_for, format, out)
        }
        What::Put { key, value, commit } => {
            match client.put_by(key.as_bytes(), &bytes_of(value)?, commit.unwrap_or_default())? {
                None => print_done(true, format, out),
                Some(basis) => print_accepted(basis, format, out),
            }
        }
        What::Del { key } => {
            let existed = client.delete(key.as_bytes())?;
            print_done(existed, format, out)
        }
        What::Cas { key, expect, value, .. } => {
            let expected = expect.as_ref().map(String::as_bytes);
            match client.compare_and_set(key.as_bytes(), expected, &bytes_of(value)?)? {
                Swap::Set => print_done(true, format, out),
                Swap::Mismatch(actual) => {
                    if let (Some(_), Format::Table | Format::Plain) = (&actual, format) {
                        // Standard output is for the value alone.
                        let _ = writeln!(io::stderr(), "kraftctl: {}", mismatch(key, expect.is_some()));
                    }
                    print_read(key, actual.as_ref(), None, format, out)?;
                    Ok(Exit::NotFound)
                }
            }
        }
        What::Incr { key, by } => {
            let sum = client.increment(key.as_bytes(), *by)?;
            match format {
                Format::Json => writeln!(out, "{{{},\"sum\":{sum}}}", json_bytes("key", key.as_bytes()))?,
                Format::Table | Format::Plain => writeln!(out, "{sum}")?,
            }
            Ok(Exit::Ok)
        }
        What::Scan { prefix, limit, after } => scan(client, prefix.as_bytes(), after.as_bytes(), *limit, format, out),
        What::Status | What::Member { .. } | What::Leader { .. } | What::Snapshot(_) | What::Bench(_) => {
            unreachable!("not a command on keys")
        }
    }
}

/// No node takes a larger frame: the most that `frame_bytes_max` may be.
const VALUE_BYTES_MAX: u64 = 64 << 20;

fn bytes_of(value: &str) -> Result<Vec<u8>, Failure> {
    if value == "-" {
        return read_value(io::stdin().lock()).map_err(Failure::Input);
    }
    Ok(value.as_bytes().to_vec())
}

/// Reads all that there is, unless it is more than any node takes.
fn read_value(input: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(VALUE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > VALUE_BYTES_MAX {
        let why = format!("it has more than {VALUE_BYTES_MAX} bytes, which no node takes; nothing was changed");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok(bytes)
}

/// Prints a value and, if that was asked for, what the answer stands for.
fn print_read(
    key: &str,
    value: Option<&Bytes>,
    stands_for: Option<Option<Basis>>,
    format: Format,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    let said = stands_for.map_or_else(String::new, |basis| format!(",{}", json_basis(basis)));
    if let (Format::Table | Format::Plain, Some(basis)) = (format, stands_for) {
        // Standard output is for the value alone.
        let _ = writeln!(io::stderr(), "kraftctl: {}", meaning(basis));
    }
    match (format, value) {
        (Format::Json, Some(value)) => {
            let (key, value) = (json_bytes("key", key.as_bytes()), json_bytes("value", value));
            writeln!(out, "{{{key},{value}{said}}}")?;
        }
        (Format::Json, None) => writeln!(out, "{{{},\"value\":null{said}}}", json_bytes("key", key.as_bytes()))?,
        (Format::Table, Some(value)) => writeln!(out, "{}", printable(value))?,
        (Format::Plain, Some(value)) => out.write_all(value)?,
        (Format::Table | Format::Plain, None) => {
            // Standard output is for the value alone.
            let _ = writeln!(io::stderr(), "kraftctl: {}", absence(key));
        }
    }
    Ok(if value.is_some() { Exit::Ok } else { Exit::NotFound })
}

/// Why a key that is there was not set.
fn mismatch(key: &str, is_value_expected: bool) -> String {
    match is_value_expected {
        true => format!("nothing was changed: key {key:?} has another value"),
        false => format!("nothing was changed: key {key:?} exists"),
    }
}

fn absence(key: &str) -> String {
    format!("key {key:?} is absent")
}

/// What an answer stands for, in the words of the command line.
fn json_basis(basis: Option<Basis>) -> String {
    match basis {
        None => "\"basis\":\"linearizable\"".to_owned(),
        Some(Basis::Lease) => "\"basis\":\"lease\"".to_owned(),
        Some(Basis::Stale { age_ms: u64::MAX }) => "\"basis\":\"stale\",\"age_ms\":null".to_owned(),
        Some(Basis::Stale { age_ms }) => format!("\"basis\":\"stale\",\"age_ms\":{age_ms}"),
        Some(Basis::Leader) => "\"basis\":\"leader\"".to_owned(),
        Some(Basis::Received) => "\"basis\":\"async\"".to_owned(),
    }
}

/// The same for a person.
fn meaning(basis: Option<Basis>) -> String {
    match basis {
        None => "linearizable: the newest value at the time of the question".to_owned(),
        Some(Basis::Lease) => "by lease: the newest value, if the nodes' clocks keep their bound".to_owned(),
        Some(Basis::Stale { age_ms: u64::MAX }) => {
            "stale, and nobody knows how old: the node has not been up to date since it started".to_owned()
        }
        Some(Basis::Stale { age_ms }) => format!("stale: the node last knew itself up to date {age_ms} ms ago"),
        Some(Basis::Leader) => {
            "accepted, on the leader's disk: it will be applied unless the leader fails before a majority has it".to_owned()
        }
        Some(Basis::Received) => {
            "accepted, in the leader's memory: it will be applied unless the leader fails or steps down before a majority \
             has it"
                .to_owned()
        }
    }
}

fn print_accepted(basis: Basis, format: Format, out: &mut impl Write) -> Result<Exit, Failure> {
    match format {
        Format::Json => writeln!(out, "{{\"done\":false,\"accepted\":true,{}}}", json_basis(Some(basis)))?,
        Format::Table => writeln!(out, "{}", meaning(Some(basis)))?,
        Format::Plain => {}
    }
    Ok(Exit::Ok)
}

fn print_done(done: bool, format: Format, out: &mut impl Write) -> Result<Exit, Failure> {
    match (format, done) {
        (Format::Json, _) => writeln!(out, "{{\"done\":{done}}}")?,
        (Format::Table, true) => writeln!(out, "done")?,
        (Format::Table, false) => writeln!(out, "not found")?,
        (Format::Plain, _) => {}
    }
    Ok(if done { Exit::Ok } else { Exit::NotFound })
}

/// Page by page, so that no reply is large; a table is aligned within a page of the screen's patience: all of it.
fn scan(
    client: &mut Client,
    prefix: &[u8],
    after: &[u8],
    limit: Option<u32>,
    format: Format,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    let mut table = Table::new(&["KEY", "VALUE"], &[]);
    let mut after = Bytes::copy_from_slice(after);
    let mut left = limit;
    let mut first = true;
    if format == Format::Json {
        write!(out, "[")?;
    }
    while left != Some(0) {
        let Page { entries, more } = client.scan(prefix, &after, left.unwrap_or(0))?;
        for (key, value) in &entries {
            match format {
                Format::Table => table.row(vec![printable(key), printable(value)]),
                Format::Plain => writeln!(out, "{}\t{}", printable(key), printable(value))?,
                Format::Json => {
                    let separator = if first { "" } else { ",\n " };
                    write!(
                        out,
                        "{separator}{{{},{}}}",
                        json_bytes("key", key),
                        json_bytes("value", value)
                    )?;
                }
            }
            first = false;
        }
        if let Some(left) = &mut left {
            *left = left.saturating_sub(u32::try_from(entries.len()).unwrap_or(u32::MAX));
        }
        match entries.last() {
            Some((key, _)) if more => after = key.clone(),
            _ => break,
        }
    }
    match format {
        Format::Table => table.print(out)?,
        Format::Json => writeln!(out, "]")?,
        Format::Plain => {}
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_is_said_in_words_of_what_was_expected() {
        assert_eq!(mismatch("k", true), "nothing was changed: key \"k\" has another value");
        assert_eq!(mismatch("k", false), "nothing was changed: key \"k\" exists");
    }

    #[test]
    fn keys_are_escaped_once() {
        let key = "a\\b\u{1b}[2J";
        let shown = r#"key "a\\b\u{1b}[2J""#;
        for text in [mismatch(key, true), mismatch(key, false), absence(key)] {
            assert!(text.contains(shown), "{text}");
        }
    }

    #[test]
    fn standard_input_without_end_is_refused() {
        assert_eq!(read_value(&b"v\n"[..]).expect("a value"), b"v\n");
        let error = read_value(io::repeat(0)).expect_err("it has no end");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
