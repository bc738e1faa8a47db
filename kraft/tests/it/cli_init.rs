//! `kraftd init`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::process::{contents, init_alone, path, refused, run};

const NODE: [&str; 11] = [
    "init",
    "--id",
    "1",
    "--cluster",
    "c",
    "--peers",
    "1=127.0.0.1:1,2=127.0.0.1:2",
    "--listen",
    "127.0.0.1:1",
    "--client",
    "127.0.0.1:3",
];

#[test]
fn a_data_folder_is_written_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("new/data");
    init_alone(&data);
    let before = contents(&data);
    let mode = fs::metadata(&data).expect("it was made").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    refused(
        &run(&[&NODE[..], &["--data", path(&data)]].concat()),
        78,
        &["is not empty (identity is in it)"],
    );
    assert_eq!(contents(&data), before);
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("letter"), "dear").expect("a file");
    let before = contents(folder.path());
    refused(
        &run(&[&NODE[..], &["--data", path(folder.path())]].concat()),
        78,
        &["is not empty (letter is in it)"],
    );
    refused(
        &run(&[&NODE[..], &["--data", path(&folder.path().join("letter"))]].concat()),
        78,
        &["letter: not a directory", "--data"],
    );
    refused(
        &run(&[&NODE[..], &["--data", path(&folder.path().join("letter/data"))]].concat()),
        78,
        &["ot a directory", "--data"],
    );
    assert_eq!(contents(folder.path()), before);
}

#[test]
fn wrong_fields_make_no_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let with = |flag: &str, value: &str| {
        let place = NODE.iter().position(|arg| *arg == flag).expect("a flag of init");
        let mut args = [&NODE[..], &["--data", path(&data)]].concat();
        args[place + 1] = value;
        run(&args)
    };
    refused(
        &with("--id", "3"),
        78,
        &["--peers: peers does not name the node itself: add 3=HOST:PORT"],
    );
    refused(
        &with("--id", "0"),
        78,
        &["--id: id is not set: kraftd init takes it as --id N, a number from 1"],
    );
    refused(
        &with("--peers", ""),
        78,
        &["--peers: peers is not set: kraftd init takes them as --peers ID=HOST:PORT"],
    );
    refused(&with("--peers", "1=127.0.0.1"), 78, &["--peers", "HOST:PORT"]);
    refused(&with("--cluster", "a b"), 78, &["--cluster", "plain name"]);
    refused(&with("--client", "127.0.0.1:1"), 78, &["--client", "port of their own"]);
    refused(&with("--listen", "[::1"), 78, &["--listen", "HOST:PORT"]);
    assert!(!data.exists());
}
