//! Two adapters and many connections between them, used at random on both ends.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::Duration;

use bytes::Bytes;
#[cfg(feature = "io-uring")]
use kraft_adapters::Uring;
use kraft_adapters::{Config, Epoll};
use kraft_core::adapter::{Adapter, CloseReason, Endpoint, Event, ListenOptions};
use kraft_core::id::ConnId;
use kraft_core::link::{CloseMode, Link};
use kraft_core::outbox::Full;

const CONNS: usize = 40;
const STEPS: usize = 3000;

/// The stream that every sender sends, from an offset of his own.
fn stream() -> Bytes {
    let mut random = fastrand::Rng::with_seed(7);
    (0..1 << 16).map(|_| random.u8(..)).collect()
}

/// One end of a connection.
struct End {
    conn: ConnId,
    /// Where its stream begins, and the other's.
    begins: (usize, usize),
    accepted: usize,
    received: usize,
    /// The next two are in the order in which they happened.
    ended: bool,
    closing: bool,
    closed: Option<CloseReason>,
    marks: VecDeque<u64>,
    refused: bool,
}

impl End {
    fn new(conn: ConnId, begins: (usize, usize)) -> Self {
        Self {
            conn,
            begins,
            accepted: 0,
            received: 0,
            ended: false,
            closing: false,
            closed: None,
            marks: VecDeque::new(),
            refused: false,
        }
    }

    fn act(&mut self, link: &mut Link, stream: &Bytes, random: &mut fastrand::Rng) {
        match random.u8(..20) {
            0 => link.pause(),
            1..3 => link.resume(),
            3..6 => {
                let mark = link.outbox().mark();
                assert_eq!(mark, self.accepted as u64);
                if self.marks.back() != Some(&mark) {
                    self.marks.push_back(mark);
                }
            }
            6 if random.u8(..8) == 0 => {
                link.close(CloseMode::Flush);
                self.closing = true;
            }
            _ => self.put(link, stream, random),
        }
    }

    fn put(&mut self, link: &mut Link, stream: &Bytes, random: &mut fastrand::Rng) {
        let from = (self.begins.0 + self.accepted) % stream.len();
        let most = if random.bool() { 100 } else { 30_000 };
        let count = random.usize(..most).min(stream.len() - from);
        let piece = stream.slice(from..from + count);
        let outbox = link.outbox();
        let outcome = match random.u8(..3) {
            0 => outbox.put(&piece),
            1 => outbox.put_shared(&piece),
            _ => outbox.frame(|frame| {
                frame.put(&piece[..count / 2])?;
                frame.put_shared(&piece.slice(count / 2..))
            }),
        };
        match outcome {
            Ok(()) => self.accepted += count,
            Err(Full) => self.refused = !self.closing,
        }
    }

    fn hear(&mut self, event: &mut Event<'_>, stream: &Bytes) {
        assert_eq!(self.closed, None, "an event after Closed");
        match event {
            Event::Received { bytes, .. } => {
                assert!(!self.closing && !self.ended, "bytes after a close, or after FIN");
                for byte in *bytes {
                    assert_eq!(*byte, stream[(self.begins.1 + self.received) % stream.len()]);
                    self.received += 1;
                }
            }
            Event::Written { mark, .. } => assert_eq!(self.marks.pop_front(), Some(*mark)),
            Event::Drained { .. } => assert!(std::mem::take(&mut self.refused), "nothing was refused"),
            Event::Ended { .. } => {
                assert!(!self.closing);
                self.ended = true;
            }
            Event::Closed { reason, .. } => self.closed = Some(*reason),
            Event::Accepted { .. } | Event::Connected { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// One adapter and its ends, by the other's name for them.
struct Side<A> {
    adapter: A,
    ends: Vec<End>,
}

impl<A: Adapter> Side<A> {
    fn new(adapter: A) -> Self {
        Self {
            adapter,
            ends: Vec::new(),
        }
    }

    fn turn(&mut self, wait: Duration, stream: &Bytes, random: &mut fastrand::Rng) {
        let deadline = self.adapter.now() + wait;
        let ends = &mut self.ends;
        self.adapter
            .poll(Some(deadline), |_, mut event| {
                let conn = match event {
                    Event::Accepted { conn, .. } => {
                        // The first to dial is the first to be accepted.
                        ends.push(End::new(conn, (2 * ends.len() + 1, 2 * ends.len())));
                        conn
                    }
                    Event::Connected { conn, .. }
                    | Event::Received { conn, .. }
                    | Event::Written { conn, .. }
                    | Event::Drained { conn, .. }
                    | Event::Ended { conn, .. }
                    | Event::Closed { conn, .. } => conn,
                    ref other => panic!("{other:?}"),
                };
                let end = ends.iter_mut().find(|end| end.conn == conn).expect("it was heard of");
                end.hear(&mut event, stream);
                if random.bool()
                    && let Event::Received { link, .. } | Event::Written { link, .. } | Event::Ended { link, .. } =
                        event
                {
                    end.act(link, stream, random);
                }
            })
            .expect("the adapter works");
    }

    fn act(&mut self, stream: &Bytes, random: &mut fastrand::Rng) {
        for _ in 0..random.usize(..8) {
            let Some(nth) = (!self.ends.is_empty()).then(|| random.usize(..self.ends.len())) else {
                return;
            };
            let end = &mut self.ends[nth];
            if let Some(link) = self.adapter.link(end.conn) {
                end.act(link, stream, random);
            }
        }
        self.adapter.flush().expect("the adapter works");
    }

    fn finish(&mut self) {
        for end in &mut self.ends {
            if let Some(link) = self.adapter.link(end.conn) {
                link.resume();
                // One end closes first, so that the other gets all of it.
                if end.begins.0 % 2 == 0 || end.ended {
                    link.close(CloseMode::Flush);
                    end.closing = true;
                }
            }
        }
        self.adapter.flush().expect("the adapter works");
    }
}

fn chaos<A: Adapter>(open: impl Fn(&Config) -> io::Result<A>, at: &Endpoint) {
    let seed = match std::env::var("KRAFT_SEED") {
        Ok(seed) => seed.parse().expect("KRAFT_SEED is a number"),
        Err(_) => RandomState::new().hash_one(0),
    };
    println!("KRAFT_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let stream = stream();
    let config = Config {
        read_buffer: random.usize(512..100_000),
        write_queue_max: random.usize(30_000..300_000),
        reads_per_turn: random.usize(1..4),
        accepts_per_turn: random.usize(1..10),
        linger: Duration::from_secs(60),
        ..Config::default()
    };
    let open = || Side::new(open(&config).expect("the backend is there"));
    let (mut server, mut client) = (open(), open());
    let listener = server.adapter.listen(at, ListenOptions::default()).expect("it is free");
    let at = server.adapter.local_endpoint(listener).expect("it listens");
    for nth in 0..CONNS {
        let conn = client.adapter.connect(&at).expect("a descriptor is free");
        client.ends.push(End::new(conn, (2 * nth, 2 * nth + 1)));
    }
    for _ in 0..STEPS {
        server.act(&stream, &mut random);
        client.act(&stream, &mut random);
        client.turn(Duration::ZERO, &stream, &mut random);
        server.turn(Duration::ZERO, &stream, &mut random);
    }
    let is_open = |side: &Side<A>| side.ends.len() < CONNS || side.ends.iter().any(|end| end.closed.is_none());
    let started = std::time::Instant::now();
    while is_open(&server) || is_open(&client) {
        assert!(started.elapsed() < Duration::from_secs(30), "it hangs");
        server.finish();
        client.finish();
        client.turn(Duration::from_millis(1), &stream, &mut random);
        server.turn(Duration::from_millis(1), &stream, &mut random);
    }
    for (one, other) in server.ends.iter().zip(&client.ends) {
        assert_eq!(one.closed, Some(CloseReason::Requested));
        assert_eq!(other.closed, Some(CloseReason::Requested));
        for (sender, receiver) in [(one, other), (other, one)] {
            assert!(receiver.received <= sender.accepted);
            if receiver.ended {
                assert_eq!(receiver.received, sender.accepted, "bytes before FIN were lost");
            }
        }
    }
    for side in [&server, &client] {
        let stats = side.adapter.stats();
        assert_eq!((stats.active, stats.closed), (0, CONNS as u64));
    }
}

fn loopback() -> Endpoint {
    Endpoint::Tcp(([127, 0, 0, 1], 0).into())
}

fn path(name: &str) -> Endpoint {
    Endpoint::Unix(std::env::temp_dir().join(format!("kraft-chaos-{name}-{}", std::process::id())))
}

#[test]
fn any_use_of_both_ends_over_tcp() {
    chaos(Epoll::open, &loopback());
}

#[test]
fn any_use_of_both_ends_over_unix_sockets() {
    chaos(Epoll::open, &path("epoll"));
}

#[cfg(feature = "io-uring")]
#[test]
fn any_use_of_both_ends_by_io_uring() {
    chaos(Uring::open, &loopback());
    chaos(Uring::open, &path("io-uring"));
}

/// Short of buffers and of room for completions all the time.
#[cfg(feature = "io-uring")]
#[test]
fn any_use_of_both_ends_by_a_tiny_io_uring() {
    for setup in kraft_adapters::Setup::LADDER {
        let open = |config: &Config| {
            let tiny = Config {
                ring_bytes: 4096,
                ..config.clone()
            };
            Uring::open_by(&tiny, setup, 8)
        };
        chaos(open, &loopback());
    }
}
