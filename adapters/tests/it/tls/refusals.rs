//! Who is refused, and in which words; ends that are cuts.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use kraft_adapters::tls::{self, Authorities, Credentials, Failure, Tls, Why};
use kraft_adapters::{Config, Epoll};
use kraft_core::adapter::{Adapter, CloseReason, Endpoint, Event, ListenOptions};
use kraft_core::id::ConnId;
use kraft_core::link::CloseMode;

use super::certificates::Authority;

const ONE: &str = "kraft://test/node/1";
const TWO: &str = "kraft://test/node/2";

/// A guard against hangs, in turns of a millisecond.
const TURNS_MAX: u32 = 10_000;

/// An adapter, what it told of failures, and what its connections saw.
struct Side {
    tls: Tls<Epoll>,
    failures: Receiver<Failure>,
    begun: u32,
    conn: Option<ConnId>,
    proof: Option<Vec<String>>,
    received: Vec<u8>,
    ended: bool,
    closed: Option<CloseReason>,
}

impl Side {
    fn open(config: tls::Config) -> Self {
        let adapter = Config {
            linger: Duration::from_secs(2),
            ..Config::default()
        };
        let inner = Epoll::open(&adapter).expect("it opens");
        let (sender, failures) = mpsc::channel();
        let observer = move |failure: &Failure| sender.send(failure.clone()).expect("the test listens");
        Self {
            tls: Tls::new(inner, &adapter, config, observer).expect("the configuration can be used"),
            failures,
            begun: 0,
            conn: None,
            proof: None,
            received: Vec::new(),
            ended: false,
            closed: None,
        }
    }

    /// Shows `own` to whoever dials, and asks for a certificate of `ask`.
    fn accepting(own: &Credentials, ask: Option<&Authorities>) -> Self {
        Self::open(tls::Config {
            others: Some(tls::acceptor(own, ask).expect("it can be used")),
            handshake_timeout: Duration::from_millis(300),
            ..tls::Config::default()
        })
    }

    fn dialling(believed: &Authorities, own: Option<&Credentials>) -> Self {
        Self::open(tls::Config {
            dial: Some(tls::dialler(believed, own).expect("it can be used")),
            ..tls::Config::default()
        })
    }

    fn listen(&mut self) -> Endpoint {
        let any = Endpoint::Tcp(([127, 0, 0, 1], 0).into());
        let listener = self.tls.listen(&any, ListenOptions::default()).expect("a free port");
        self.tls.local_endpoint(listener).expect("it listens")
    }

    fn turn(&mut self) {
        let deadline = self.tls.now() + Duration::from_millis(1);
        let Self {
            tls,
            begun,
            conn: last,
            proof,
            received,
            ended,
            closed,
            ..
        } = self;
        let polled = tls.poll(Some(deadline), |_, event| match event {
            Event::Accepted { conn, link, .. } | Event::Connected { conn, link } => {
                *begun += 1;
                *last = Some(conn);
                *proof = link.proof().map(<[String]>::to_vec);
            }
            Event::Received { bytes, .. } => received.extend_from_slice(bytes),
            Event::Ended { link, .. } => {
                *ended = true;
                link.close(CloseMode::Flush);
            }
            Event::Closed { reason, .. } => *closed = Some(reason),
            _ => {}
        });
        polled.expect("the adapter runs");
    }

    #[track_caller]
    fn failure(&self) -> Failure {
        self.failures.try_recv().expect("a failure was told")
    }
}

#[track_caller]
fn until(what: &str, mut is_done: impl FnMut() -> bool) {
    for _ in 0..TURNS_MAX {
        if is_done() {
            return;
        }
    }
    panic!("waited in vain for: {what}");
}

/// A dial that comes to nothing: what both sides tell of it.
#[track_caller]
fn refused(mut accepting: Side, mut dialling: Side) -> (Failure, Failure) {
    let at = accepting.listen();
    let conn = dialling.tls.connect(&at).expect("there is room");
    let link = dialling.tls.link(conn).expect("it lives");
    link.outbox().put(b"for somebody else").expect("it fits");
    until("both ends", || {
        accepting.turn();
        dialling.turn();
        dialling.closed.is_some() && accepting.tls.stats().turned_away == 1
    });
    assert_eq!(accepting.begun, 0, "shown, though refused");
    assert_eq!(accepting.received, b"", "received, though refused");
    assert_eq!(accepting.closed, None, "told of the end of what it was not shown");
    assert_eq!(accepting.tls.stats().accepted, 0);
    (accepting.failure(), dialling.failure())
}

#[track_caller]
fn says(failure: &Failure, part: &str) {
    let text = failure.to_string();
    assert!(text.contains(part), "{part:?} is not in {text:?}");
}

#[test]
fn both_ends_learn_the_names_that_the_other_proved() {
    let authority = Authority::new();
    let trusted = authority.authorities();
    let mut accepting = Side::accepting(&authority.node(ONE), Some(&trusted));
    let mut dialling = Side::dialling(&trusted, Some(&authority.node(TWO)));
    let at = accepting.listen();
    let conn = dialling.tls.connect(&at).expect("there is room");
    let link = dialling.tls.link(conn).expect("it lives");
    link.outbox().put(b"secret").expect("it fits");
    link.close(CloseMode::Flush);
    until("both ends", || {
        accepting.turn();
        dialling.turn();
        accepting.closed.is_some() && dialling.closed.is_some()
    });
    assert_eq!(accepting.proof.as_deref(), Some(&[TWO.to_owned()][..]));
    assert_eq!(dialling.proof.as_deref(), Some(&[ONE.to_owned()][..]));
    assert_eq!(accepting.received, b"secret");
    assert!(accepting.ended);
    assert_eq!(accepting.closed, Some(CloseReason::Requested));
    assert_eq!(dialling.closed, Some(CloseReason::Requested));
    assert!(accepting.failures.try_recv().is_err() && dialling.failures.try_recv().is_err());
}

#[test]
fn who_shows_no_certificate_where_none_is_asked_proves_nothing() {
    let authority = Authority::new();
    let mut accepting = Side::accepting(&authority.node(ONE), None);
    let mut dialling = Side::dialling(&authority.authorities(), None);
    let at = accepting.listen();
    dialling.tls.connect(&at).expect("there is room");
    until("both begin", || {
        accepting.turn();
        dialling.turn();
        (accepting.begun, dialling.begun) == (1, 1)
    });
    assert_eq!(accepting.proof, None);
    assert_eq!(dialling.proof.as_deref(), Some(&[ONE.to_owned()][..]));
}

#[test]
fn a_server_of_another_authority_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (at_server, at_client) = refused(
        Side::accepting(&other.node(ONE), None),
        Side::dialling(&authority.authorities(), None),
    );
    assert_eq!(at_client.why, Why::UnknownAuthority);
    says(&at_client, "of another authority");
    says(
        &at_server,
        "refuses the certificate of this side: it is of another authority",
    );
}

#[test]
fn a_client_of_another_authority_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (at_server, at_client) = refused(
        Side::accepting(&authority.node(ONE), Some(&authority.authorities())),
        Side::dialling(&authority.authorities(), Some(&other.node(TWO))),
    );
    assert_eq!(at_server.why, Why::UnknownAuthority);
    says(&at_server, "of another authority");
    says(
        &at_client,
        "refuses the certificate of this side: it is of another authority",
    );
}

#[test]
fn expired_and_early_certificates_are_refused() {
    let authority = Authority::new();
    let trusted = authority.authorities();
    let (at_server, at_client) = refused(
        Side::accepting(&authority.node(ONE), Some(&trusted)),
        Side::dialling(&trusted, Some(&authority.expired(TWO))),
    );
    assert_eq!(at_server.why, Why::Expired);
    says(&at_server, "has expired");
    says(&at_client, "refuses the certificate of this side: it has expired");
    let (_, at_client) = refused(
        Side::accepting(&authority.expired(ONE), None),
        Side::dialling(&trusted, None),
    );
    assert_eq!(at_client.why, Why::Expired);
    let (at_server, _) = refused(
        Side::accepting(&authority.node(ONE), Some(&trusted)),
        Side::dialling(&trusted, Some(&authority.early(TWO))),
    );
    assert_eq!(at_server.why, Why::NotYetValid);
    says(&at_server, "not valid yet");
}

#[test]
fn a_client_s_certificate_is_no_server_s() {
    let authority = Authority::new();
    let (_, at_client) = refused(
        Side::accepting(&authority.client(ONE), None),
        Side::dialling(&authority.authorities(), None),
    );
    assert!(matches!(at_client.why, Why::BadCertificate(_)), "{at_client}");
}

#[test]
fn who_shows_no_certificate_where_one_is_asked_is_refused() {
    let authority = Authority::new();
    let (at_server, at_client) = refused(
        Side::accepting(&authority.node(ONE), Some(&authority.authorities())),
        Side::dialling(&authority.authorities(), None),
    );
    assert_eq!(at_server.why, Why::NoCertificate);
    says(&at_server, "showed no certificate");
    says(&at_client, "refuses the certificate of this side: none was shown");
}

fn tcp(at: &Endpoint) -> SocketAddr {
    match at {
        Endpoint::Tcp(address) => *address,
        Endpoint::Unix(_) => unreachable!("the tests listen on TCP"),
    }
}

#[test]
fn who_speaks_in_plaintext_is_refused() {
    let authority = Authority::new();
    for said in [
        &b"KRFT\x01\x01\x00\x00 a frame"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0; 64],
        &[0xff; 64],
    ] {
        let mut accepting = Side::accepting(&authority.node(ONE), None);
        let at = accepting.listen();
        let mut plain = TcpStream::connect(tcp(&at)).expect("it listens");
        plain.write_all(said).expect("it is taken");
        until("the refusal", || {
            accepting.turn();
            accepting.tls.stats().turned_away == 1
        });
        let failure = accepting.failure();
        assert_eq!(failure.why, Why::NotTls, "{said:?}");
        says(&failure, "the other end speaks in plaintext");
        assert_eq!(failure.peer, Endpoint::Tcp(plain.local_addr().expect("it has one")));
        assert_eq!(accepting.begun, 0);
    }
}

#[test]
fn a_server_that_speaks_in_plaintext_is_refused() {
    let authority = Authority::new();
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let mut dialling = Side::dialling(&authority.authorities(), None);
    let at = listener.local_addr().expect("it has one");
    dialling.tls.connect(&at.into()).expect("there is room");
    dialling.turn();
    let (mut plain, _) = listener.accept().expect("it was dialled");
    plain.write_all(b"220 mail.example ESMTP\r\n").expect("it is taken");
    until("the refusal", || {
        dialling.turn();
        dialling.closed.is_some()
    });
    assert_eq!(dialling.failure().why, Why::NotTls);
    assert_eq!(dialling.closed, Some(CloseReason::Failed(ErrorKind::InvalidData)));
    assert_eq!(dialling.tls.stats().failed, 1);
}

#[test]
fn silent_and_early_gone_ones_are_told() {
    let authority = Authority::new();
    let mut accepting = Side::accepting(&authority.node(ONE), None);
    let at = accepting.listen();
    let _silent = TcpStream::connect(tcp(&at)).expect("it listens");
    until("the time-out", || {
        accepting.turn();
        accepting.tls.stats().turned_away == 1
    });
    assert_eq!(accepting.failure().why, Why::TooSlow);
    drop(TcpStream::connect(tcp(&at)).expect("it listens"));
    until("the end", || {
        accepting.turn();
        accepting.tls.stats().turned_away == 2
    });
    assert_eq!(accepting.failure().why, Why::Unfinished);
    assert_eq!((accepting.begun, accepting.tls.stats().active), (0, 0));
    assert_eq!(accepting.tls.stats().timers, 0);
}

#[test]
fn who_is_let_go_unseen_is_counted_nowhere() {
    let authority = Authority::new();
    let mut accepting = Side::accepting(&authority.node(ONE), None);
    let at = accepting.listen();
    let _silent = TcpStream::connect(tcp(&at)).expect("it listens");
    until("the time-out", || {
        accepting.turn();
        // Between the end of the inner connection and word of it.
        accepting.tls.flush().expect("the adapter runs");
        let stats = accepting.tls.stats();
        assert_eq!((stats.accepted, stats.active), (0, 0));
        stats.turned_away == 1
    });
}

/// A connection through somebody on the way, who moves what he wants to: to `near`, the dialler's end, and to `far`.
fn through_another(accepting: &mut Side, dialling: &mut Side) -> (TcpStream, TcpStream) {
    let at = accepting.listen();
    let between = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    dialling
        .tls
        .connect(&between.local_addr().expect("it has one").into())
        .expect("there is room");
    dialling.turn();
    let (mut near, _) = between.accept().expect("it was dialled");
    let mut far = TcpStream::connect(tcp(&at)).expect("it listens");
    for stream in [&near, &far] {
        stream.set_nonblocking(true).expect("the system can");
    }
    until("both begin", || {
        accepting.turn();
        dialling.turn();
        pass(&mut near, &mut far);
        pass(&mut far, &mut near);
        (accepting.begun, dialling.begun) == (1, 1)
    });
    (near, far)
}

#[test]
fn a_stream_that_is_cut_has_not_ended() {
    let authority = Authority::new();
    for pauses in [false, true] {
        let mut accepting = Side::accepting(&authority.node(ONE), None);
        let mut dialling = Side::dialling(&authority.authorities(), None);
        let (mut near, mut far) = through_another(&mut accepting, &mut dialling);
        let conn = accepting.conn.expect("it began");
        if pauses {
            accepting.tls.link(conn).expect("it lives").pause();
            accepting.turn();
        }
        let link = dialling.tls.link(dialling.conn.expect("it began")).expect("it lives");
        link.outbox().put(b"half of it").expect("it fits");
        until("the bytes", || {
            dialling.turn();
            accepting.turn();
            let is_passed = pass(&mut near, &mut far) > 0;
            is_passed || accepting.received == b"half of it"
        });
        // Ends the stream in the system's way alone.
        far.shutdown(Shutdown::Write).expect("it is open");
        if pauses {
            (0..20).for_each(|_| accepting.turn());
            assert_eq!((accepting.closed, &*accepting.received), (None, &b""[..]), "paused");
            accepting.tls.link(conn).expect("it lives").resume();
        }
        until("the cut", || {
            accepting.turn();
            accepting.closed.is_some()
        });
        assert_eq!(accepting.received, b"half of it");
        assert!(!accepting.ended, "a cut taken for an end");
        assert_eq!(accepting.closed, Some(CloseReason::Failed(ErrorKind::UnexpectedEof)));
        assert_eq!(accepting.failure().why, Why::Truncated);
    }
}

#[test]
fn bytes_that_were_changed_on_the_way_reach_nobody() {
    let authority = Authority::new();
    let mut accepting = Side::accepting(&authority.node(ONE), None);
    let mut dialling = Side::dialling(&authority.authorities(), None);
    let (mut near, mut far) = through_another(&mut accepting, &mut dialling);
    let conn = dialling.conn.expect("it began");
    let link = dialling.tls.link(conn).expect("it lives");
    link.outbox().put(b"pay 10").expect("it fits");
    let mut record = Vec::new();
    until("the record", || {
        dialling.turn();
        let mut buffer = [0; 1024];
        if let Ok(count) = near.read(&mut buffer) {
            record.extend_from_slice(&buffer[..count]);
        }
        !record.is_empty()
    });
    *record.last_mut().expect("there is a byte") ^= 1;
    far.write_all(&record).expect("it is taken");
    until("the close", || {
        accepting.turn();
        accepting.closed.is_some()
    });
    assert_eq!(accepting.received, b"");
    assert_eq!(accepting.closed, Some(CloseReason::Failed(ErrorKind::InvalidData)));
    assert!(matches!(accepting.failure().why, Why::Protocol(_)));
}

/// Moves what is there. Returns how many bytes.
fn pass(from: &mut TcpStream, to: &mut TcpStream) -> usize {
    let mut buffer = [0; 4096];
    let count = from.read(&mut buffer).unwrap_or(0);
    to.write_all(&buffer[..count]).expect("it is taken");
    count
}

#[test]
fn a_listener_without_keys_passes_everything_through() {
    let mut accepting = Side::open(tls::Config::default());
    let at = accepting.listen();
    let mut plain = TcpStream::connect(tcp(&at)).expect("it listens");
    plain.write_all(b"plain").expect("it is taken");
    plain.shutdown(Shutdown::Write).expect("it is open");
    until("the end", || {
        accepting.turn();
        accepting.closed.is_some()
    });
    assert_eq!(accepting.received, b"plain");
    assert_eq!((accepting.begun, accepting.proof), (1, None));
    assert!(accepting.ended);
}

#[test]
fn keys_of_another_certificate_and_text_without_any_are_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let wrong = Credentials::from_pem(b"no certificate", b"").expect_err("there is none");
    assert!(wrong.to_string().contains("has no certificate"), "{wrong}");
    let (chain, _) = authority.pem(ONE);
    let (_, key) = other.pem(ONE);
    let wrong = Credentials::from_pem(chain.as_bytes(), chain.as_bytes()).expect_err("there is no key");
    assert!(wrong.to_string().contains("has no private key"), "{wrong}");
    let mixed = Credentials::from_pem(chain.as_bytes(), key.as_bytes()).expect("each is one");
    let wrong = tls::acceptor(&mixed, None).expect_err("the key is another's");
    assert!(
        wrong.to_string().contains("is not the key of the certificate"),
        "{wrong}"
    );
    assert!(!format!("{mixed:?}").contains("PRIVATE"));
}
