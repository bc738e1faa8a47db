//! Servers end with the run that started them, also where the system does not see to it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

#[test]
fn a_leashed_server_ends_when_its_pipe_does() {
    let mut server = Command::new(env!("CARGO_BIN_EXE_kraft-bench"))
        .args("serve --engine raw-threads --connections 1 --leash".split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program was built");
    let mut stdout = BufReader::new(server.stdout.take().expect("it is a pipe"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("it is text");
    let is_running = server.try_wait().expect("it is ours").is_none();
    // What a parent that is gone leaves: nobody at the other end. Waiting closes it too, so nothing waits for that.
    drop(server.stdin.take());
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("it ends with the server");
    let status = server.wait().expect("it was started");
    assert!(line.starts_with("listening ") && is_running, "{line}");
    assert_eq!(status.code(), Some(1), "{rest}");
}
