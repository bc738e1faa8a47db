//! The command line and the layers of the configuration, as an operator meets them.

use std::fs;

use crate::process::{contents, init_alone, kraftd, path, refused, run, run_command};

#[test]
fn wrong_flags_are_usage() {
    for (args, part) in [
        (&["serve", "--dta", "x"][..], "--data"),
        (&["config", "show", "--heartbet-ms", "1"], "--heartbeat-ms"),
        (&["sevre"], "serve"),
        (&[], "Usage"),
        (&["init", "--id", "1"], "--cluster"),
    ] {
        let ran = run(args);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.err.contains(part), "{part} is not in {ran:?}");
    }
    refused(&run(&["serve"]), 2, &["--data DIR or KRAFT_DATA"]);
    refused(
        &run(&[
            "init",
            "--id",
            "1",
            "--cluster",
            "c",
            "--peers",
            "1=a:1",
            "--listen",
            "a:1",
            "--client",
            "a:2",
        ]),
        2,
        &["--data"],
    );
    for args in [&["--help"][..], &["--version"], &["serve", "--help"]] {
        let ran = run(args);
        assert!(
            ran.code == Some(0) && !ran.out.is_empty() && ran.err.is_empty(),
            "{ran:?}"
        );
    }
}

#[test]
fn help_names_the_default_of_each_field() {
    let help = run(&["serve", "--help"]).out;
    let words: Vec<&str> = help.split_whitespace().collect();
    let text = words.join(" ");
    for default in [
        "[default: 50]",
        "[default: auto]",
        "[default: binary]",
        "[default: true]",
    ] {
        assert!(text.contains(default), "{default}: {help}");
    }
    assert!(
        !text.contains("[default: 0]") && !text.contains("[default: ]"),
        "{help}"
    );
}

#[test]
fn config_show_names_the_source_of_each_value() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    init_alone(&data);
    fs::write(
        data.join("kraftd.toml"),
        "heartbeat_ms = 20\nlinger_ms = 1000\nlog_level = \"warn\"\n",
    )
    .expect("a file");
    let args = ["config", "show", "--data", path(&data), "--linger-ms", "3000"];
    let ran = run_command(
        kraftd(&args)
            .env("KRAFT_LINGER_MS", "2000")
            .env("KRAFT_MAX_CONNECTIONS", "7"),
    );
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let file = data.join("kraftd.toml");
    for (value, source) in [
        ("cluster = \"alone\"", "init".to_owned()),
        ("id = 1", "init".to_owned()),
        ("heartbeat_ms = 20", format!("{}:1", file.display())),
        ("log_level = \"warn\"", format!("{}:3", file.display())),
        ("max_connections = 7", "KRAFT_MAX_CONNECTIONS".to_owned()),
        ("linger_ms = 3000", "--linger-ms".to_owned()),
        ("pre_vote = true", "default".to_owned()),
    ] {
        let line = ran
            .out
            .lines()
            .find(|line| line.starts_with(value))
            .unwrap_or_else(|| panic!("{value}: {ran:?}"));
        assert_eq!(line.split("  # ").last(), Some(&*source), "{line}");
    }
    let by_variable = run_command(kraftd(&["config", "show"]).env("KRAFT_DATA", &data));
    assert!(by_variable.out.contains("heartbeat_ms = 20"), "{by_variable:?}");
}

#[test]
fn a_wrong_configuration_is_78_in_one_sentence_and_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    init_alone(&data);
    let file = folder.path().join("other.toml");
    let before = contents(&data);
    let serve = |more: &[&str]| run(&[&["serve", "--data", path(&data)], more].concat());
    refused(
        &serve(&["--heartbeat-ms", "abc"]),
        78,
        &["--heartbeat-ms", "whole number of milliseconds", "default is 50"],
    );
    refused(
        &serve(&["--heartbeat-ms", "200"]),
        78,
        &["--heartbeat-ms: heartbeat_ms is 200", "lower the one"],
    );
    refused(
        &serve(&["--id", "2"]),
        78,
        &["--id: id is 2, but the data folder was written by init for id 1"],
    );
    refused(
        &serve(&["--cluster", "other"]),
        78,
        &["cluster is other", "init for cluster alone"],
    );
    refused(
        &serve(&["--backend", "kqeue"]),
        78,
        &["--backend: backend = \"kqeue\" is wrong: no backend is called \"kqeue\": use auto or one of epoll, "],
    );
    refused(&serve(&["--config", "/nonexistent"]), 78, &["/nonexistent", "--config"]);
    fs::write(&file, "\n\nheartbeet_ms = 1\n").expect("a file");
    refused(
        &serve(&["--config", path(&file)]),
        78,
        &[":3: unknown key heartbeet_ms: did you mean heartbeat_ms?"],
    );
    let mut command = kraftd(&["serve", "--data", path(&data)]);
    refused(
        &run_command(command.env("KRAFT_HEARTBEAT", "1")),
        78,
        &["did you mean KRAFT_HEARTBEAT_MS?"],
    );
    let shown = run(&["config", "show", "--data", path(&data), "--heartbeat-ms", "200"]);
    assert!(shown.out.contains("heartbeat_ms = 200"), "{shown:?}");
    refused(&shown, 78, &["lower the one"]);
    assert_eq!(contents(&data), before);
}
