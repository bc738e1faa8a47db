//! An adapter under test.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use kraft_adapters::{Config, Epoll};
use kraft_core::adapter::{Adapter, CloseReason, Endpoint, Event, ListenOptions};
use kraft_core::id::{ConnId, TimerId};
use kraft_core::time::Instant;

/// No wait of these tests should ever take as long; it ends a hang.
pub(crate) const GUARD: Duration = Duration::from_secs(10);

/// What an event said, without what it lent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Accepted(ConnId),
    Connected(ConnId),
    Received(ConnId, Vec<u8>),
    Written(ConnId, u64),
    Drained(ConnId),
    Ended(ConnId),
    Closed(ConnId, CloseReason),
    Expired(TimerId),
    Woken,
}

pub(crate) fn said(event: &Event<'_>) -> Said {
    match event {
        Event::Accepted { conn, .. } => Said::Accepted(*conn),
        Event::Connected { conn, .. } => Said::Connected(*conn),
        Event::Received { conn, bytes, .. } => Said::Received(*conn, bytes.to_vec()),
        Event::Written { conn, mark, .. } => Said::Written(*conn, *mark),
        Event::Drained { conn, .. } => Said::Drained(*conn),
        Event::Ended { conn, .. } => Said::Ended(*conn),
        Event::Closed { conn, reason } => Said::Closed(*conn, *reason),
        Event::Expired { timer } => Said::Expired(*timer),
        Event::Woken => Said::Woken,
        _ => unreachable!("no other event is known"),
    }
}

/// An adapter that listens, and what it said so far.
pub(crate) struct Rig<A = Epoll> {
    pub(crate) adapter: A,
    pub(crate) at: SocketAddr,
    pub(crate) said: Vec<Said>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(&Config::default(), ListenOptions::default())
    }

    pub(crate) fn with(config: &Config, options: ListenOptions) -> Self {
        Self::over(Epoll::open(config).expect("epoll is there"), options)
    }
}

impl<A: Adapter> Rig<A> {
    pub(crate) fn over(mut adapter: A, options: ListenOptions) -> Self {
        let any = Endpoint::Tcp(([127, 0, 0, 1], 0).into());
        let listener = adapter.listen(&any, options).expect("loopback is there");
        let at = match adapter.local_endpoint(listener).expect("it listens") {
            Endpoint::Tcp(at) => at,
            Endpoint::Unix(path) => unreachable!("{path:?}"),
        };
        let said = Vec::new();
        Self { adapter, at, said }
    }

    pub(crate) fn deadline(&self, span: Duration) -> Instant {
        // `now` is that of the last turn; a poll that does not wait renews it.
        self.adapter.now() + span
    }

    /// Polls until `done`, with `answer` to each event.
    #[track_caller]
    pub(crate) fn run(&mut self, mut answer: impl FnMut(&mut Event<'_>), mut done: impl FnMut(&[Said]) -> bool) {
        let said_so_far = &mut self.said;
        self.adapter
            .poll(Some(Instant::ZERO), |_, mut event| {
                said_so_far.push(said(&event));
                answer(&mut event);
            })
            .expect("the adapter works");
        let guard = self.deadline(GUARD);
        while !done(&self.said) {
            assert!(self.adapter.now() < guard, "it hangs after {:?}", self.said);
            let said_so_far = &mut self.said;
            self.adapter
                .poll(Some(guard), |_, mut event| {
                    said_so_far.push(said(&event));
                    answer(&mut event);
                })
                .expect("the adapter works");
        }
    }

    #[track_caller]
    pub(crate) fn until(&mut self, done: impl FnMut(&[Said]) -> bool) {
        self.run(|_| {}, done);
    }

    /// A peer and the connection that it got.
    pub(crate) fn peer(&mut self) -> (TcpStream, ConnId) {
        let peer = TcpStream::connect(self.at).expect("it listens");
        peer.set_read_timeout(Some(GUARD)).expect("it is a socket");
        let before = self.said.len();
        self.until(|said| said.len() > before);
        match self.said.last() {
            Some(Said::Accepted(conn)) => (peer, *conn),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn closed(&self, conn: ConnId) -> Option<CloseReason> {
        self.said.iter().find_map(|said| match said {
            Said::Closed(of, reason) if *of == conn => Some(*reason),
            _ => None,
        })
    }

    pub(crate) fn received(&self, conn: ConnId) -> Vec<u8> {
        let bytes = self.said.iter().filter_map(|said| match said {
            Said::Received(of, bytes) if *of == conn => Some(bytes.as_slice()),
            _ => None,
        });
        bytes.flatten().copied().collect()
    }

    #[track_caller]
    pub(crate) fn until_closed(&mut self, conn: ConnId) -> CloseReason {
        self.until(|said| {
            said.iter()
                .any(|said| matches!(said, Said::Closed(of, _) if *of == conn))
        });
        self.closed(conn).expect("it was just seen")
    }
}

/// Runs a test of this binary again as a process of its own, for what concerns the process as a whole. True in that
/// process.
#[track_caller]
pub(crate) fn alone(test: &str) -> bool {
    const MARK: &str = "KRAFT_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let output = std::process::Command::new(std::env::current_exe().expect("it runs"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .expect("it can run again");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{}: {text}",
        output.status
    );
    false
}

/// A test of each real backend, which is given to these checks by what opens it.
macro_rules! on_every_backend {
    ($($check:ident),+) => {
        #[test]
        fn epoll() {
            $($check(kraft_adapters::Epoll::open);)+
        }

        #[cfg(feature = "kqueue")]
        #[test]
        fn kqueue() {
            $($check(kraft_adapters::Kqueue::open);)+
        }

        #[cfg(feature = "libuv")]
        #[test]
        fn libuv() {
            $($check(kraft_adapters::Libuv::open);)+
        }

        #[cfg(feature = "threads")]
        #[test]
        fn threads() {
            $($check(kraft_adapters::Threads::open);)+
        }

        #[cfg(feature = "io-uring")]
        #[test]
        fn uring() {
            $($check(kraft_adapters::Uring::open);)+
        }
    };
}
pub(crate) use on_every_backend;
