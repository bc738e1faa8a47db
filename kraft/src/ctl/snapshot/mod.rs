//! The commands on snapshots.

mod partial;
mod save;

use std::io::{ErrorKind, Write};
use std::path::Path;

use super::cli::Format;
use super::exit::{Exit, Failure};
use super::format::{Table, json_text, printable};
use crate::kv::KvTotals;
use crate::storage::SnapshotFile;
use crate::storage::snapshots::SoundSnapshot;

pub(super) use self::save::Order;

/// Checks a file and prints what is in it.
pub(super) fn inspect(path: &Path, format: Format, out: &mut impl Write) -> Result<Exit, Failure> {
    let shown = printable(path.as_os_str().as_encoded_bytes());
    let unreadable = |why: &dyn std::fmt::Display| {
        failure(
            Exit::Failed,
            format!("{shown}: {why}; name a snapshot that this user may read"),
        )
    };
    let file = SnapshotFile::at(path).map_err(|fault| unreadable(&fault.error))?;
    let sound = check(&file, &shown)?;
    let mut facts = facts_of(&shown, &sound);
    let mut state = None;
    let mut sessions = 0;
    let read = file.read(sound.id, &mut |table, input| {
        sessions = table.len();
        state = Some(KvTotals::read(input));
    });
    read.map_err(|error| failure(Exit::Damaged, error.to_string()))?;
    facts.push(Fact::number("sessions", sessions as u64));
    match state {
        Some(Ok(totals)) => {
            facts.push(Fact::number("keys", totals.keys));
            facts.push(Fact::number("key_bytes", totals.key_bytes));
            facts.push(Fact::number("value_bytes", totals.value_bytes));
        }
        Some(Err(error)) if error.kind() != ErrorKind::InvalidData => return Err(unreadable(&error)),
        // All sums fit: it is as it was written.
        _ => facts.push(Fact::text("state", "of another state machine than kraftd's")),
    }
    print(&facts, format, out)?;
    Ok(Exit::Ok)
}

/// Reads all of it and checks every sum.
fn check(file: &SnapshotFile, shown: &str) -> Result<SoundSnapshot, Failure> {
    let report = file.report();
    let report = report.map_err(|fault| failure(Exit::Failed, format!("{fault}; look at the disk")))?;
    report.verdict.map_err(|(offset, flaw)| {
        failure(
            Exit::Damaged,
            format!("{shown} is damaged at byte {offset}: {flaw}; take another copy, or save a new one"),
        )
    })
}

fn failure(exit: Exit, message: String) -> Failure {
    Failure::Snapshot { exit, message }
}

/// Something to be printed, by name.
struct Fact {
    name: &'static str,
    value: String,
    is_number: bool,
}

impl Fact {
    fn text(name: &'static str, value: impl Into<String>) -> Self {
        Self {
            name,
            value: value.into(),
            is_number: false,
        }
    }

    fn number(name: &'static str, value: u64) -> Self {
        Self {
            name,
            value: value.to_string(),
            is_number: true,
        }
    }
}

/// What a snapshot says of itself.
fn facts_of(shown: &str, sound: &SoundSnapshot) -> Vec<Fact> {
    let SoundSnapshot { owner, id, head, .. } = sound;
    let membership = match head.membership.len() {
        0 => "as the cluster was founded".to_owned(),
        length => format!("of index {}, in {length} bytes", head.membership_index),
    };
    vec![
        Fact::text("file", shown),
        Fact::text("cluster", format!("{:016x}", owner.cluster.0)),
        Fact::number("group", owner.group.0.into()),
        Fact::number("index", id.index.0),
        Fact::number("term", id.term.0),
        Fact::number("bytes", id.bytes),
        Fact::text("checksum", format!("{:08x}", id.crc)),
        Fact::text("configuration", membership),
    ]
}

fn print(facts: &[Fact], format: Format, out: &mut impl Write) -> Result<(), Failure> {
    match format {
        Format::Table => {
            let mut table = Table::new(&["FIELD", "VALUE"], &[]);
            for fact in facts {
                table.row(vec![fact.name.to_owned(), fact.value.clone()]);
            }
            table.print(out)?;
        }
        Format::Plain => {
            for fact in facts {
                writeln!(out, "{}\t{}", fact.name, fact.value)?;
            }
        }
        Format::Json => {
            let field = |fact: &Fact| match fact.is_number {
                true => format!("\"{}\":{}", fact.name, fact.value),
                false => format!("\"{}\":{}", fact.name, json_text(&fact.value)),
            };
            let fields: Vec<_> = facts.iter().map(field).collect();
            writeln!(out, "{{{}}}", fields.join(","))?;
        }
    }
    Ok(())
}
