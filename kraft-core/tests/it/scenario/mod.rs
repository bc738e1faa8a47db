//! Scenarios in which the order of messages is the point: text files of commands, each with what it brings about.
//!
//! Blocks stand between empty lines: comments behind `#`, a command, `----`, and what it says. `KRAFT_REWRITE=1`
//! writes what it says into the file; read the difference before you commit it. Nothing happens that no command asks
//! for: no message arrives, no sync ends, no time passes. The laws are checked after every command.
//!
//! | command | what it does |
//! |---|---|
//! | `nodes 3 pre-vote=off check-quorum=off` | nodes 1 to 3 with empty disks; first of all, and once |
//! | `log 1 term=3 1 2 2` | before anything happens: node 1 starts in term 3 with entries of terms 1, 2 and 2 |
//! | `campaign 1` | time passes for node 1 until it campaigns |
//! | `tick 1 200ms` | time passes for node 1 |
//! | `propose 1 a b` | two commands at node 1 |
//! | `read 1` | a linearizable read at node 1 |
//! | `transfer 1 2`, `transfer 1` | node 1 hands leadership over to node 2, or to whom it likes |
//! | `deliver 1->2`, `deliver 1->2 3`, `deliver 1->2 #3` | all that is under way from 1 to 2 arrives, or the first three messages, or the third alone |
//! | `drop …` | the same is lost |
//! | `repeat 1->2 #1` | a copy of the first message is the last one under way |
//! | `break 1 2` | the connections between 1 and 2 end, with all that is under way |
//! | `sync 1`, `sync 1 2` | all syncs of node 1 end, or the first two |
//! | `crash 1`, `restart 1` | node 1 ends and loses what was not synced; it starts again |
//! | `settle`, `settle 1 2` | messages arrive and syncs end until nothing is left, everywhere or among these nodes |
//! | `status`, `status 1` | what nodes know |
//! | `quietly COMMAND` | a command of which the transcript is not the point |
//!
//! `3@2` is the entry with index 3 of term 2. Rounds, and ids of forwarded reads, are named in the order in which they
//! are first seen.

mod stage;
mod words;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use self::stage::Stage;

/// One command of a file.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    /// Of the command, from 1.
    line: usize,
    /// The comments and the command, as they stand there.
    head: String,
    command: String,
    expected: String,
}

/// The commands of a file, or the line that belongs to none. What they say need not be there if it is to be written.
fn parse(text: &str, rewrites: bool) -> Result<Vec<Block>, String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let mut head = format!("{line}\n");
        let (mut line, mut command) = (at + 1, line.to_owned());
        while command.starts_with('#') {
            let Some((at, next)) = lines.next() else {
                return Err(format!("{line}: a comment, and nothing behind it"));
            };
            (line, command) = (at + 1, next.to_owned());
            head.push_str(&format!("{next}\n"));
            if next.is_empty() {
                // A comment of its own.
                break;
            }
        }
        if command.is_empty() {
            let block = Block {
                line,
                head,
                command,
                expected: String::new(),
            };
            blocks.push(block);
            continue;
        }
        if lines.next_if(|(_, line)| *line == "----").is_none() && !rewrites {
            return Err(format!("{line}: `{command}` without ---- behind it"));
        }
        let mut expected = String::new();
        while let Some((_, line)) = lines.next_if(|(_, line)| !line.is_empty()) {
            expected.push_str(&format!("{line}\n"));
        }
        blocks.push(Block {
            line,
            head,
            command,
            expected,
        });
    }
    Ok(blocks)
}

/// Plays a text; what it should be, or the line and what is wrong there.
fn play(text: &str, rewrites: bool) -> Result<String, String> {
    let mut stage = Stage::default();
    let mut actual = String::new();
    for block in parse(text, rewrites)? {
        actual.push_str(&block.head);
        if block.command.is_empty() {
            continue;
        }
        let said = stage
            .command(&block.command)
            .map_err(|what| format!("{}: `{}`: {what}", block.line, block.command))?;
        if said != block.expected && !rewrites {
            let difference = difference(&block.expected, &said);
            return Err(format!(
                "{}: `{}` says something else:\n{difference}",
                block.line, block.command
            ));
        }
        actual.push_str(&format!("----\n{said}\n"));
    }
    // One empty line between blocks, none at the end.
    Ok(format!("{}\n", actual.trim_end()))
}

/// Both texts by lines: `-` was expected, `+` was said.
fn difference(expected: &str, said: &str) -> String {
    let (expected, said): (Vec<_>, Vec<_>) = (expected.lines().collect(), said.lines().collect());
    let same = expected.iter().zip(&said).take_while(|(a, b)| a == b).count();
    let rest = expected.len().min(said.len()) - same;
    let (ends, others) = (expected.iter().rev(), said.iter().rev());
    let same_behind = ends.zip(others).take(rest).take_while(|(a, b)| a == b).count();
    let mut text = String::new();
    let mut put = |sign: char, lines: &[&str]| {
        for line in lines {
            writeln!(text, "{sign} {line}").expect("a string takes all");
        }
    };
    put(' ', &expected[..same]);
    put('-', &expected[same..expected.len() - same_behind]);
    put('+', &said[same..said.len() - same_behind]);
    put(' ', &expected[expected.len() - same_behind..]);
    text
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/scenarios")
}

#[track_caller]
fn check(name: &str) {
    let path = folder().join(format!("{name}.txt"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let rewrites = std::env::var_os("KRAFT_REWRITE").is_some_and(|value| value == "1");
    let actual = play(&text, rewrites).unwrap_or_else(|what| panic!("{}:{what}", path.display()));
    if actual != text && rewrites {
        fs::write(&path, actual).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// A test for each file.
macro_rules! files {
    ($($name:ident)*) => {
        $(#[test] fn $name() { check(stringify!($name)); })*

        #[test]
        fn every_file_is_played() {
            let mut played: Vec<_> = [$(stringify!($name)),*].map(|name| format!("{name}.txt")).to_vec();
            let entries = fs::read_dir(folder()).expect("the folder of this file");
            let mut files: Vec<_> = entries
                .map(|entry| entry.expect("it can be read").file_name().into_string().expect("a plain name"))
                .collect();
            files.sort();
            played.sort();
            assert_eq!(files, played);
        }
    };
}

files! {
    append_aba_race
    candidate_gets_append_same_term
    commit_capped_by_last_new
    conflict_truncate_only_on_mismatch
    figure8_commit_old_term
    leader_transfer_to_lagging
    noop_on_new_leader
    prevote_checkquorum_deadlock
    prevote_no_disrupt_on_rejoin
    probe_pause_stuck
    read_index_fresh_leader
    read_index_partitioned_leader
    reordered_append_responses
    vote_persist_before_reply
}

#[track_caller]
fn check_fails(text: &str, expected: &str) {
    let what = play(text, false).expect_err("something is wrong with it");
    assert!(what.starts_with(expected), "{what}");
}

#[test]
fn a_scenario_that_is_wrong_is_told_with_its_line() {
    let nodes = "nodes 3\n----\nok\n\n";
    assert_eq!(play("nodes 3\n----\nok\n", false).as_deref(), Ok("nodes 3\n----\nok\n"));
    check_fails("# Why.\nnodes 3\n", "2: `nodes 3` without ----");
    check_fails("status\n----\n", "1: `status`: no nodes yet");
    check_fails(&format!("{nodes}dance 1\n----\n"), "5: `dance 1`: no such command");
    check_fails(&format!("{nodes}sync 4\n----\n"), "5: `sync 4`: there is no node `4`");
    check_fails(
        &format!("{nodes}deliver 1->2 #1\n----\n"),
        "5: `deliver 1->2 #1`: 0 are under way",
    );
    check_fails(
        &format!("{nodes}tick 1 soon\n----\n"),
        "5: `tick 1 soon`: `soon` is no time",
    );
    check_fails(
        &format!("{nodes}propose 1 a\n----\n"),
        "5: `propose 1 a` says something else:\n+ 1 refuses",
    );
    check_fails(
        &format!("{nodes}sync 1\n----\nmore\n"),
        "5: `sync 1` says something else:\n- more\n+ nothing",
    );
}
