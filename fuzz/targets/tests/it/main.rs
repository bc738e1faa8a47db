//! The inputs that are kept in `fuzz/corpus`, through their targets.

mod counting;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use kraft::kv::{Command, Kv, Limits};
use kraft_core::machine::StateMachine;
use kraft_core::message::Refusal;
use kraft_fuzz_targets::{TARGETS, measure_by};

/// Below `fuzz/`.
fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("a folder is listed")
                .file_name()
                .into_string()
                .expect("a plain name")
        })
        .collect();
    names.sort();
    names
}

/// All inputs of a target, in the order of their names; the one that fails is the last that is printed.
fn replay(name: &str) {
    measure_by(counting::allocated);
    let (_, target) = TARGETS
        .iter()
        .find(|(other, _)| *other == name)
        .unwrap_or_else(|| panic!("there is no target {name}"));
    let folder = folder("corpus").join(name);
    let names = names(&folder);
    assert!(names.len() >= 10, "{}: {} inputs", folder.display(), names.len());
    for input in names {
        let path = folder.join(input);
        println!("{}", path.display());
        target(&fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
    }
    target(&[]);
}

macro_rules! replayed {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name));
            }
        )*

        const REPLAYED: &[&str] = &[$(stringify!($name)),*];
    };
}

replayed! {
    decode_binary decode_protobuf decode_msgpack decode_json
    roundtrip_binary roundtrip_protobuf roundtrip_msgpack roundtrip_json
    split_stream hello_state_machine core_step wal_open snapshot_open
    config_parse client_reply_decode session_table
}

/// Here, because allocations are counted here: what a client says is lent to the state machine, and refused at the cost of
/// a sentence.
#[test]
fn a_key_or_a_value_above_its_limit_costs_a_sentence() {
    let limits = Limits::default();
    let kv = Kv::new(limits);
    let (key, value) = (vec![1; limits.key_bytes_max + 1], vec![2; limits.value_bytes_max + 1]);
    let commands = [
        Command::Put { key: &key, value: b"" },
        Command::Put {
            key: b"k",
            value: &value,
        },
        Command::Delete { key: &key },
        Command::Increment { key: &key, by: 1 },
    ];
    for command in commands {
        let mut bytes = BytesMut::new();
        command.encode(&mut bytes);
        let before = counting::allocated();
        let refused = kv.check(&bytes).expect_err("it is above a limit");
        let taken = counting::allocated() - before;
        assert_eq!(refused.why, Refusal::TooLarge, "{}", refused.detail);
        assert!(taken <= 256, "{taken} bytes: {}", refused.detail);
    }
}

/// What is added in one place and forgotten in another.
#[test]
fn each_target_has_a_program_a_corpus_and_a_test() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let replayed: BTreeSet<_> = REPLAYED.iter().map(|name| (*name).to_owned()).collect();
    let corpora: BTreeSet<_> = names(&folder("corpus")).into_iter().collect();
    let programs = names(&folder("fuzz_targets"));
    let programs: BTreeSet<_> = programs
        .iter()
        .map(|name| name.trim_end_matches(".rs").to_owned())
        .collect();
    assert_eq!(targets, replayed);
    assert_eq!(targets, corpora);
    assert_eq!(targets, programs);
    let manifest = fs::read_to_string(folder("Cargo.toml")).expect("fuzz/ has a manifest");
    for name in targets {
        assert!(
            manifest.contains(&format!("name = \"{name}\"")),
            "fuzz/Cargo.toml has no {name}"
        );
    }
}
