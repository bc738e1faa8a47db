//! Plaintext and other protocols where TLS is spoken, and TLS where it is not.

use std::net::Shutdown;

use super::certificates::Authority;
use super::lab::{Lab, connect, dial, init, talk};
use crate::process::{Daemon, http, kraftctl};

/// A hello of TLS 1.2 that offers no later version.
fn old_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    // No session, two suites, no compression, no extensions.
    body.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0]);
    let mut handshake = vec![1, 0, 0, u8::try_from(body.len()).expect("it is short")];
    handshake.extend(body);
    let mut record = vec![22, 3, 1, 0, u8::try_from(handshake.len()).expect("it is short")];
    record.extend(handshake);
    record
}

#[test]
fn what_is_no_tls_is_refused_in_words_and_answered_by_an_alert() {
    let mut lab = Lab::start(false);
    let ports = [lab.listen.clone(), lab.client.clone()];
    for at in &ports {
        for says in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0; 64]] {
            let answer = talk(&mut connect(at), says);
            assert_eq!(answer.first(), Some(&21), "an alert, not {answer:?}");
            let line = lab.daemon.line("\"tls_failed\"");
            assert!(line.contains("the other end speaks in plaintext"), "{line}");
        }
        // No older version of TLS.
        let answer = talk(&mut connect(at), &old_hello());
        assert_eq!(answer.first(), Some(&21), "an alert, not {answer:?}");
        let line = lab.daemon.line("\"tls_failed\"");
        assert!(line.contains("incompatible"), "{line}");
        // One that leaves, which is nothing to warn of.
        connect(at).shutdown(Shutdown::Both).expect("it was open");
        let line = lab.daemon.line("\"tls_failed\"");
        assert!(line.contains("\"level\":\"debug\""), "{line}");
    }
}

#[test]
fn kraftctl_in_plaintext_is_told_that_the_node_speaks_tls() {
    let mut lab = Lab::start(false);
    let ran = kraftctl(&["--nodes", &lab.client, "--timeout", "2s", "status"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("speaks TLS, and this client does not"), "{ran:?}");
    lab.daemon.line("the other end speaks in plaintext");
    let file = lab.folder.path().join("snapshot");
    for what in [
        &["put", "k", "v"][..],
        &["member", "remove", "2"],
        &["leader", "transfer"],
        &["snapshot", "save", crate::process::path(&file)],
    ] {
        let ran = kraftctl(&[&["--nodes", &lab.client, "--timeout", "500ms"], what].concat());
        assert_eq!(ran.code, Some(4), "{ran:?}");
        assert!(ran.err.ends_with("give it the authorities of the nodes\n"), "{ran:?}");
    }
}

#[test]
fn a_tls_hello_at_a_plaintext_port_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path(), "127.0.0.1:1");
    let mut daemon = Daemon::serve(&data, &[]);
    let start = daemon.line("\"serving\"");
    assert!(start.contains("\"tls\":\"off\""), "{start}");
    let authority = Authority::new();
    let own = authority.node(2).credentials();
    for name in ["listen", "client"] {
        let at = Daemon::address(&start, name);
        let answer = talk(&mut dial(&at, &authority.authorities(), Some(&own)), b"x");
        assert!(answer.is_empty(), "{answer:?}");
        let line = daemon.line("\"garbage\"");
        assert!(line.contains("a TLS record on a plaintext port"), "{line}");
    }
    let ca = authority.write(folder.path(), "ca.pem");
    let at = Daemon::address(&start, "client");
    let trust = ["--tls-ca", crate::process::path(&ca), "--timeout", "2s", "status"];
    let ran = kraftctl(&[&["--nodes", &at][..], &trust].concat());
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("does the other end speak TLS?"), "{ran:?}");
}

#[test]
fn a_flood_of_plaintext_gives_few_lines_and_hides_no_other_kind() {
    const FLOOD: usize = 100;
    let mut lab = Lab::start(false);
    for _ in 0..FLOOD {
        talk(&mut connect(&lab.client), b"GET / HTTP/1.1\r\n\r\n");
    }
    talk(&mut dial(&lab.listen, &lab.authority.authorities(), None), b"x");
    lab.daemon.line("it showed no certificate");
    // Monitors have a listener of their own, and no keys.
    let metrics = http(&lab.metrics, "GET /metrics HTTP/1.0\r\n\r\n");
    for line in [
        format!("kraft_notices_total{{kind=\"tls_failed\"}} {FLOOD}"),
        "kraft_notices_total{kind=\"tls_refused\"} 1".to_owned(),
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line} is not in {metrics}");
    }
    lab.daemon.signal("TERM");
    assert!(lab.daemon.end().success());
    let of_kind = |line: &&String| line.contains("\"kind\":\"tls_failed\"");
    let lines = lab.daemon.said.iter().filter(of_kind).count();
    assert!(
        (10..FLOOD / 2).contains(&lines),
        "{lines} lines: {:#?}",
        lab.daemon.said
    );
}
