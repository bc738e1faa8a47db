//! The commands on snapshots.

mod partial;
mod save;

use std::io::{ErrorKind, Write};
use std::path::Path;

use kraft_core::id::NodeId;
use kraft_core::message::Standing;

use super::cli::Format;
use super::exit::{Exit, Failure};
use super::format::{Table, json_text, printable};
use super::member::standing_name;
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
    facts.push(Fact {
        name: "members",
        value: Value::Members(members_of(&sound)),
    });
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
    report.verdict.map_err(|(offset, flaw)| match flaw.is_version() {
        true => failure(
            Exit::Failed,
            format!("{shown}: {flaw}: that is no damage, run the version of kraftctl that goes with it"),
        ),
        false => failure(
            Exit::Damaged,
            format!("{shown} is damaged at byte {offset}: {flaw}; take another copy, or save a new one"),
        ),
    })
}

fn failure(exit: Exit, message: String) -> Failure {
    Failure::Snapshot { exit, message }
}

/// Something to be printed, by name.
struct Fact {
    name: &'static str,
    value: Value,
}

enum Value {
    Text(String),
    Number(u64),
    /// `None`: the snapshot does not say who they are.
    Members(Option<Vec<Seated>>),
}

/// A member, as it is printed.
struct Seated {
    node: NodeId,
    address: String,
    standing: Standing,
}

impl Fact {
    fn text(name: &'static str, value: impl Into<String>) -> Self {
        Self {
            name,
            value: Value::Text(value.into()),
        }
    }

    fn number(name: &'static str, value: u64) -> Self {
        Self {
            name,
            value: Value::Number(value),
        }
    }
}

/// What a snapshot says of itself.
fn facts_of(shown: &str, sound: &SoundSnapshot) -> Vec<Fact> {
    let SoundSnapshot { owner, id, head, .. } = sound;
    let configuration = match head.membership.len() {
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
        Fact::text("configuration", configuration),
    ]
}

/// Who the members are, if the snapshot says so.
fn members_of(sound: &SoundSnapshot) -> Option<Vec<Seated>> {
    // Whether it can be read was checked with all else.
    let configuration = sound.head.configuration().ok().flatten()?;
    let members = configuration.members().iter().map(|member| Seated {
        node: member.node,
        address: member.address.clone(),
        standing: member.seat.standing(),
    });
    Some(members.collect())
}

fn print(facts: &[Fact], format: Format, out: &mut impl Write) -> Result<(), Failure> {
    match format {
        Format::Table => {
            let mut table = Table::new(&["FIELD", "VALUE"], &[]);
            for Fact { name, value } in facts {
                match value {
                    Value::Text(text) => table.row(vec![(*name).to_owned(), text.clone()]),
                    Value::Number(number) => table.row(vec![(*name).to_owned(), number.to_string()]),
                    Value::Members(members) => {
                        for Seated {
                            node,
                            address,
                            standing,
                        } in members.iter().flatten()
                        {
                            let (address, standing) = (printable(address.as_bytes()), standing_name(*standing));
                            table.row(vec!["member".to_owned(), format!("{node} at {address}, {standing}")]);
                        }
                    }
                }
            }
            table.print(out)?;
        }
        Format::Plain => {
            for Fact { name, value } in facts {
                match value {
                    Value::Text(text) => writeln!(out, "{name}\t{text}")?,
                    Value::Number(number) => writeln!(out, "{name}\t{number}")?,
                    Value::Members(members) => {
                        for Seated {
                            node,
                            address,
                            standing,
                        } in members.iter().flatten()
                        {
                            let (address, standing) = (printable(address.as_bytes()), standing_name(*standing));
                            writeln!(out, "member\t{node}\t{address}\t{standing}")?;
                        }
                    }
                }
            }
        }
        Format::Json => {
            let fields: Vec<_> = facts.iter().map(json_field).collect();
            writeln!(out, "{{{}}}", fields.join(","))?;
        }
    }
    Ok(())
}

fn json_field(Fact { name, value }: &Fact) -> String {
    let value = match value {
        Value::Text(text) => json_text(text),
        Value::Number(number) => number.to_string(),
        Value::Members(None) => "null".to_owned(),
        Value::Members(Some(members)) => {
            let members = members.iter().map(
                |Seated {
                     node,
                     address,
                     standing,
                 }| {
                    let (address, standing) = (json_text(address), standing_name(*standing));
                    format!("{{\"node\":{node},\"address\":{address},\"standing\":\"{standing}\"}}")
                },
            );
            format!("[{}]", members.collect::<Vec<_>>().join(","))
        }
    };
    format!("\"{name}\":{value}")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kraft_core::id::{ClusterId, GroupId, Incarnation, Index, Term};
    use kraft_core::membership::{Changer, Configuration, Plan, Step};
    use kraft_core::message::SnapshotId;
    use kraft_core::snapshot::Head;

    use super::*;
    use crate::storage::snapshots::format::Owner;

    fn sound(membership: Bytes) -> SoundSnapshot {
        let head = Head {
            index: Index(7),
            term: Term(2),
            membership_index: Index(if membership.is_empty() { 0 } else { 3 }),
            membership,
        };
        SoundSnapshot {
            owner: Owner {
                cluster: ClusterId(1),
                group: GroupId(0),
            },
            id: SnapshotId::default(),
            head,
            content_bytes: 0,
            block_count: 0,
        }
    }

    fn printed(sound: &SoundSnapshot, format: Format) -> String {
        let members = Fact {
            name: "members",
            value: Value::Members(members_of(sound)),
        };
        let mut out = Vec::new();
        print(&[members], format, &mut out).expect("a Vec takes all");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn members_are_printed_with_id_address_and_standing() {
        let founding = Configuration::founding(&[NodeId(1), NodeId(2)]);
        let changer = Changer {
            configuration: &founding,
            progress: &Default::default(),
            last: Index(3),
        };
        let (grown, _) = changer
            .simple(&[Step::Learner(NodeId(4), Plan::Promote)])
            .expect("it is simple");
        let grown = grown
            .described(NodeId(1), "10.0.0.1:4001", Incarnation(1))
            .described(NodeId(2), "a\u{1b}b:1", Incarnation(2))
            .described(NodeId(4), "10.0.0.4:4001", Incarnation(4));
        let sound = sound(grown.encode());
        assert_eq!(
            printed(&sound, Format::Plain),
            "member\t1\t10.0.0.1:4001\tvoter\nmember\t2\ta\\u{1b}b:1\tvoter\nmember\t4\t10.0.0.4:4001\tlearner\n"
        );
        assert!(printed(&sound, Format::Table).contains("member  4 at 10.0.0.4:4001, learner\n"));
        assert_eq!(
            printed(&sound, Format::Json),
            "{\"members\":[{\"node\":1,\"address\":\"10.0.0.1:4001\",\"standing\":\"voter\"},\
             {\"node\":2,\"address\":\"a\\u001bb:1\",\"standing\":\"voter\"},\
             {\"node\":4,\"address\":\"10.0.0.4:4001\",\"standing\":\"learner\"}]}\n"
        );
    }

    #[test]
    fn a_snapshot_of_the_founders_names_nobody() {
        let sound = sound(Bytes::new());
        assert_eq!(printed(&sound, Format::Plain), "");
        assert_eq!(printed(&sound, Format::Json), "{\"members\":null}\n");
    }
}
