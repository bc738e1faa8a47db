//! What is held of a connection whose other end takes nothing, in virtual time.

use std::time::Duration;

use kraft_adapters::Config;
use kraft_adapters::mock::{Mock, Network};
use kraft_adapters::tls::{self, Tls};
use kraft_core::adapter::{Adapter, Endpoint, Event, ListenOptions};
use kraft_core::id::ConnId;

use super::certificates::Authority;

const QUEUE_MAX: usize = 100_000;
const READ_BUFFER: usize = 10_000;
const READS_PER_TURN: usize = 4;

/// Both ends of a connection.
struct Ends {
    dialling: Tls<Mock>,
    accepting: Tls<Mock>,
    dialled: ConnId,
    accepted: ConnId,
    /// What the accepting end was lent.
    received: usize,
    /// What the dialling end was told has room again.
    drained: usize,
}

impl Ends {
    fn new() -> Self {
        let config = Config {
            write_queue_max: QUEUE_MAX,
            read_buffer: READ_BUFFER,
            reads_per_turn: READS_PER_TURN,
            ..Config::default()
        };
        let authority = Authority::new();
        let own = authority.node("kraft://test/node/1");
        let encrypts = tls::Config {
            others: Some(tls::acceptor(&own, None).expect("it can be used")),
            dial: Some(tls::dialler(&authority.authorities(), None).expect("it can be used")),
            ..tls::Config::default()
        };
        let network = Network::new(1);
        let hosts = [network.add_host(), network.add_host()];
        let [mut dialling, mut accepting] = hosts.map(|host| {
            let inner = network.open(host, &config).expect("the host is there");
            let observer = |failure: &tls::Failure| panic!("{failure}");
            Tls::new(inner, &config, encrypts.clone(), observer).expect("the configuration can be used")
        });
        let at = Endpoint::Tcp(hosts[1].address(7000));
        accepting
            .listen(&at, ListenOptions::default())
            .expect("nobody is there");
        let dialled = dialling.connect(&at).expect("there is room");
        let mut accepted = None;
        let mut is_connected = false;
        while !is_connected || accepted.is_none() {
            turn(&mut dialling, |event| {
                is_connected |= matches!(event, Event::Connected { .. })
            });
            turn(&mut accepting, |event| {
                if let Event::Accepted { conn, .. } = event {
                    accepted = Some(conn);
                }
            });
        }
        Self {
            dialling,
            accepting,
            dialled,
            accepted: accepted.expect("it is there"),
            received: 0,
            drained: 0,
        }
    }

    fn turn(&mut self) {
        turn(&mut self.dialling, |event| {
            self.drained += usize::from(matches!(event, Event::Drained { .. }));
        });
        turn(&mut self.accepting, |event| {
            if let Event::Received { bytes, .. } = event {
                self.received += bytes.len();
            }
        });
    }
}

fn turn(tls: &mut Tls<Mock>, on_event: impl FnMut(Event<'_>)) {
    let mut on_event = on_event;
    let deadline = tls.now() + Duration::from_millis(1);
    tls.poll(Some(deadline), |_, event| on_event(event)).expect("it runs");
}

#[test]
fn one_bound_holds_for_plaintext_and_ciphertext_together() {
    let mut ends = Ends::new();
    ends.accepting.link(ends.accepted).expect("it lives").pause();
    ends.turn();
    let handshake = [&ends.dialling, &ends.accepting].map(|tls| tls.stats());
    let piece = [7; 1000];
    let (mut put, mut turns) = (0, 0);
    while turns < 50 {
        let outbox = ends.dialling.link(ends.dialled).expect("it lives").outbox();
        match outbox.put(&piece) {
            Ok(()) => {
                put += piece.len();
                turns = 0;
            }
            Err(_) => turns += 1,
        }
        assert!(outbox.len() <= QUEUE_MAX);
        ends.turn();
        let with_system = ends.dialling.stats().bytes_out - handshake[0].bytes_out;
        assert!(
            put as u64 <= with_system + QUEUE_MAX as u64,
            "{put} bytes were put, and {with_system} of ciphertext are with the system"
        );
        // Who is paused takes in what one turn brings at most, and lends none of it.
        let taken = ends.accepting.stats().bytes_in - handshake[1].bytes_in;
        assert!(
            taken <= (READ_BUFFER * READS_PER_TURN) as u64,
            "{taken} bytes were taken in"
        );
    }
    let outbox = ends.dialling.link(ends.dialled).expect("it lives").outbox();
    assert!(outbox.len() > QUEUE_MAX - piece.len(), "refused with room left");
    assert_eq!(ends.received, 0);
    ends.accepting.link(ends.accepted).expect("it lives").resume();
    (0..1000).for_each(|_| ends.turn());
    assert_eq!(ends.drained, 1);
    assert_eq!(ends.received, put);
    let outbox = ends.dialling.link(ends.dialled).expect("it lives").outbox();
    assert_eq!(outbox.len(), 0, "all of it is with the system");
}
