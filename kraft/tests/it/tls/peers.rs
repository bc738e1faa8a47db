//! The peer port: certificates of one authority, each with the name of its node, and no others.

use std::io::Read;
use std::net::TcpListener;
use std::time::SystemTime;

use kraft::tls::{Credentials, acceptor};
use kraft_core::handshake::{Handshake, Identity};
use kraft_core::id::{Incarnation, NodeId};
use kraft_core::outbox::{Outbox, Segments};
use kraft_core::protocol::Protocol;
use kraft_core::time::Instant;
use kraft_protocols::Binary;

use super::certificates::{Authority, Pair};
use super::lab::{Lab, Stream, accept, connect, dial, listener, talk};
use crate::process::http;

const FRAME_MAX: usize = 1 << 16;

/// A peer's hello to node 1, as node `node`.
fn hello(node: u64) -> Vec<u8> {
    let identity = Identity::node("lab", NodeId(node), Incarnation(7), FRAME_MAX as u32);
    let handshake = Handshake::dial(NodeId(1), 1, Instant::ZERO);
    let mut outbox = Outbox::new(FRAME_MAX);
    Binary
        .encode(&handshake.hello(&identity), FRAME_MAX, &mut outbox)
        .expect("below every limit");
    let mut segments = Segments::new();
    outbox.take(&mut segments);
    segments.slices().collect::<Vec<_>>().concat()
}

/// Whether the other end welcomed who said that, and said no goaway.
fn is_welcome(stream: &mut Stream) -> bool {
    let mut first = [0; 1];
    stream.read_exact(&mut first).is_ok()
}

/// A peer with `own` is refused before it is heard, in these words; what it said went nowhere.
#[track_caller]
fn refused(lab: &mut Lab, own: Option<&Credentials>, why: &str) {
    let mut stream = dial(&lab.listen, &lab.authority.authorities(), own);
    let answer = talk(&mut stream, &hello(2));
    assert!(answer.is_empty(), "{why}: {answer:?}");
    let line = lab.daemon.line("\"tls_refused\"");
    assert!(line.contains(why), "{why:?} is not in {line}");
    assert!(line.contains("\"from\":\"127.0.0.1:"), "{line}");
}

#[test]
fn a_peer_s_certificate_must_be_of_the_authority_and_good_today() {
    let mut lab = Lab::start(false);
    let other = Authority::new();
    let own = |pair: Pair| pair.credentials();
    let stranger = own(other.node(2));
    refused(&mut lab, Some(&stranger), "its certificate is of another authority");
    let expired = own(lab.authority.expired(2));
    refused(&mut lab, Some(&expired), "its certificate has expired");
    let early = own(lab.authority.early(2));
    refused(&mut lab, Some(&early), "its certificate is not valid yet");
    let server = own(lab.authority.server_alone(2));
    refused(&mut lab, Some(&server), "its certificate is refused");
    refused(&mut lab, None, "it showed no certificate");
    // The port itself is sound.
    let good = own(lab.authority.node(2));
    let mut stream = dial(&lab.listen, &lab.authority.authorities(), Some(&good));
    std::io::Write::write_all(&mut stream, &hello(2)).expect("it is taken");
    assert!(is_welcome(&mut stream));
    lab.daemon.line("\"peer_known\"");
}

#[test]
fn an_id_is_believed_by_a_certificate_with_its_name_alone() {
    let mut lab = Lab::start(false);
    let authorities = lab.authority.authorities();
    let third = lab.authority.node(3).credentials();
    talk(&mut dial(&lab.listen, &authorities, Some(&third)), &hello(2));
    let line = lab.daemon.line("\"turned_away\"");
    for part in [
        "NotAllowed",
        "node 2 needs a certificate with the name kraft://lab/node/2",
        "the one shown has \\\"kraft://lab/node/3\\\"",
    ] {
        assert!(line.contains(part), "{part:?} is not in {line}");
    }
    // A client's names nobody, whatever the authority.
    let client = lab.authority.client().credentials();
    talk(&mut dial(&lab.listen, &authorities, Some(&client)), &hello(2));
    let line = lab.daemon.line("\"turned_away\"");
    assert!(line.contains("the one shown has none"), "{line}");
}

/// Lets a node that dials see `own`, and not go on.
fn show(listener: &TcpListener, own: &Pair) {
    let config = acceptor(&own.credentials(), None).expect("it can be used");
    // Until it is refused.
    let _ = accept(listener, config).read_to_end(&mut Vec::new());
}

#[test]
fn a_node_that_is_dialled_must_be_the_one_that_was_meant() {
    let (listener, at) = listener();
    let mut lab = Lab::with(&Authority::node, &at, false);
    let other = Authority::new();
    for (own, kind, why) in [
        (
            other.node(2),
            "\"tls_refused\"",
            "its certificate is of another authority",
        ),
        (
            lab.authority.expired(2),
            "\"tls_refused\"",
            "its certificate has expired",
        ),
        (
            lab.authority.early(2),
            "\"tls_refused\"",
            "its certificate is not valid yet",
        ),
        (lab.authority.client(), "\"tls_refused\"", "its certificate is refused"),
        (
            lab.authority.node(3),
            "\"turned_away\"",
            "node 2 needs a certificate with the name kraft://lab/node/2",
        ),
    ] {
        show(&listener, &own);
        let line = lab.daemon.line(kind);
        assert!(line.contains(why), "{why:?} is not in {line}");
    }
}

#[test]
fn a_node_with_an_expired_certificate_is_told_at_once_and_by_who_refuses_it() {
    let mut lab = Lab::with(&Authority::expired, "127.0.0.1:1", false);
    let line = lab
        .daemon
        .said
        .iter()
        .find(|line| line.contains("will refuse this node"));
    let line = line.expect("told before it serves");
    assert!(line.contains("node-1.pem") && line.contains("has expired"), "{line}");
    let own = lab.authority.node(2).credentials();
    let mut stream = dial(&lab.listen, &lab.authority.authorities(), Some(&own));
    talk(&mut stream, &hello(2));
    let line = lab.daemon.line("\"from\"");
    assert!(
        line.contains("it refuses the certificate of this side: it has expired"),
        "{line}"
    );
}

/// What monitors are told of the certificate, in seconds since 1970.
fn expiry(lab: &Lab) -> u64 {
    let metrics = http(&lab.metrics, "GET /metrics HTTP/1.0\r\n\r\n");
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix("kraft_tls_certificate_expiry_seconds "));
    value.expect("a sample").parse().expect("a number")
}

#[test]
fn a_certificate_is_warned_of_before_it_expires() {
    let mut lab = Lab::start(false);
    let now = || {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("after 1970")
            .as_secs()
    };
    assert!(expiry(&lab) > now() + 100 * 365 * 86400);
    assert!(!lab.daemon.said.iter().any(|line| line.contains("expires soon")));

    lab.authority.for_a_day(1).write(lab.folder.path(), "node-1");
    lab.daemon.signal("HUP");
    let line = lab.daemon.line("expires soon: renew it, and send SIGHUP");
    assert!(line.contains("\"tls_expiry\"") && line.contains("node-1.pem"), "{line}");
    lab.daemon.line("\"tls_renewed\"");
    let left = expiry(&lab).saturating_sub(now());
    assert!(left <= 86400, "{left}");
}

#[test]
fn what_is_on_the_wire_is_no_plaintext() {
    let lab = Lab::start(false);
    // What it says at all, it says in records of TLS: an alert here.
    for at in [&lab.listen, &lab.client] {
        let answer = talk(&mut connect(at), &hello(2));
        assert_eq!(answer.first(), Some(&21), "{answer:?}");
        assert!(answer.len() < 32, "{answer:?}");
    }
}
