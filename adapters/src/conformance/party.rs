//! An adapter under judgement, and what it did.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use kraft_core::adapter::{Adapter, CloseReason, Endpoint, Event, ListenOptions};
use kraft_core::id::{ConnId, ListenerId, TimerId};
use kraft_core::link::Link;
use kraft_core::time::Instant;

use super::counting::Counting;
use super::environment::{Environment, Remote};
use crate::Config;

/// Without any event for so long a law is taken to hang. In the adapter's time.
const HANG: Duration = Duration::from_secs(10);

/// So long a law goes round at most, whatever happens in it. None takes a minute, unless under a sanitizer.
const ENDLESS: Duration = Duration::from_secs(600);

/// How long a turn waits when nothing is to be done at once.
const PATIENCE: Duration = Duration::from_millis(1);

/// Turns of all parties of this process, for [`Watch`].
static TURNS: AtomicU64 = AtomicU64::new(0);

/// An adapter whose every event is checked against what was seen of its connection before.
#[derive(Debug)]
pub(super) struct Party<A> {
    pub(super) adapter: A,
    conns: BTreeMap<ConnId, Track>,
    /// In the order in which they began.
    order: Vec<ConnId>,
    pub(super) expired: Vec<(Instant, TimerId)>,
    pub(super) woken: usize,
    /// Whether received bytes are kept, or counted alone.
    pub(super) keeps: bool,
    last_event: Instant,
    last_now: Instant,
}

/// What was seen of one connection.
#[derive(Debug, Default)]
pub(super) struct Track {
    pub(super) begun: bool,
    pub(super) received: Vec<u8>,
    pub(super) received_count: usize,
    /// Events of the kind.
    pub(super) deliveries: usize,
    pub(super) drained: usize,
    pub(super) written: Vec<u64>,
    pub(super) ended: bool,
    pub(super) closed: Option<CloseReason>,
}

impl<A: Adapter> Party<A> {
    pub(super) fn open<E: Environment<Adapter = A>>(environment: &E, config: &Config) -> Self {
        let adapter = environment.open(config).expect("the adapter opens");
        let now = adapter.now();
        Self {
            adapter,
            conns: BTreeMap::new(),
            order: Vec::new(),
            expired: Vec::new(),
            woken: 0,
            keeps: true,
            last_event: now,
            last_now: now,
        }
    }

    pub(super) fn listen(&mut self, at: &Endpoint) -> (ListenerId, Endpoint) {
        self.listen_with(at, ListenOptions::default())
    }

    pub(super) fn listen_with(&mut self, at: &Endpoint, options: ListenOptions) -> (ListenerId, Endpoint) {
        let listener = self
            .adapter
            .listen(at, options)
            .unwrap_or_else(|error| panic!("listen at {at}: {error}"));
        let at = self.adapter.local_endpoint(listener).expect("it listens");
        (listener, at)
    }

    pub(super) fn connect(&mut self, to: &Endpoint) -> ConnId {
        let conn = self
            .adapter
            .connect(to)
            .unwrap_or_else(|error| panic!("connect to {to}: {error}"));
        let before = self.conns.insert(conn, Track::default());
        assert!(before.is_none(), "A5: {conn} was used before");
        conn
    }

    #[track_caller]
    pub(super) fn link(&mut self, conn: ConnId) -> &mut Link {
        self.adapter.link(conn).expect("the connection lives")
    }

    #[track_caller]
    pub(super) fn put(&mut self, conn: ConnId, bytes: &[u8]) {
        self.link(conn).outbox().put(bytes).expect("it fits");
    }

    #[track_caller]
    pub(super) fn track(&self, conn: ConnId) -> &Track {
        self.conns.get(&conn).expect("the connection was seen")
    }

    /// What was seen of a connection, if anything was.
    pub(super) fn known(&self, conn: ConnId) -> Option<&Track> {
        self.conns.get(&conn)
    }

    /// Forgets what a connection received so far.
    pub(super) fn take_received(&mut self, conn: ConnId) -> Vec<u8> {
        let track = self.conns.get_mut(&conn).expect("the connection was seen");
        std::mem::take(&mut track.received)
    }

    /// Forgets all connections, which are closed.
    pub(super) fn forget(&mut self) {
        assert!(self.conns.values().all(|track| track.closed.is_some()), "one lives");
        self.conns.clear();
        self.order.clear();
    }

    /// Connections that were accepted or connected, in that order.
    pub(super) fn begun(&self) -> &[ConnId] {
        &self.order
    }

    pub(super) fn closed_count(&self) -> usize {
        self.conns.values().filter(|track| track.closed.is_some()).count()
    }

    /// One turn that waits at most `wait`.
    pub(super) fn turn(&mut self, wait: Duration) -> usize {
        self.turn_with(wait, |_, _| ())
    }

    /// One turn in which `react` gets every event, after it was checked.
    pub(super) fn turn_with(&mut self, wait: Duration, react: impl FnMut(Instant, Event<'_>)) -> usize {
        let deadline = match wait {
            Duration::ZERO => Instant::ZERO,
            wait => self.adapter.now() + wait,
        };
        self.turn_until(Some(deadline), react)
    }

    pub(super) fn turn_until(&mut self, deadline: Option<Instant>, mut react: impl FnMut(Instant, Event<'_>)) -> usize {
        count_turn();
        let mut count = 0;
        let mut turn_now = None;
        let Self {
            adapter,
            conns,
            order,
            expired,
            woken,
            keeps,
            ..
        } = self;
        let polled = adapter.poll(deadline, |now, event| {
            count += 1;
            let first = *turn_now.get_or_insert(now);
            assert_eq!(first, now, "A17: `now` changed within a turn");
            match &event {
                Event::Expired { timer } => expired.push((now, *timer)),
                Event::Woken => *woken += 1,
                event => record(conns, order, *keeps, event),
            }
            react(now, event);
        });
        let polled = polled.unwrap_or_else(|error| panic!("poll failed: {error}"));
        assert_eq!(polled, count, "poll miscounted its events");
        let now = self.adapter.now();
        assert!(now >= self.last_now, "A17: `now` went back");
        assert!(
            turn_now.is_none_or(|turn| turn == now),
            "A17: the turn had another `now`"
        );
        self.last_now = now;
        if count > 0 {
            self.last_event = now;
        }
        count
    }

    /// Turns until `is_done`.
    #[track_caller]
    pub(super) fn until(&mut self, what: &str, mut is_done: impl FnMut(&mut Self) -> bool) {
        self.last_event = self.adapter.now();
        while !is_done(self) {
            if self.turn(Duration::ZERO) == 0 {
                self.turn(PATIENCE);
            }
            self.check_hang(what);
        }
    }

    #[track_caller]
    fn check_hang(&self, what: &str) {
        let idle = self.adapter.now() - self.last_event;
        assert!(idle < HANG, "nothing happened for {idle:?}, waiting for: {what}");
    }
}

/// Counts a turn that no party saw.
pub(super) fn count_turn() {
    TURNS.fetch_add(1, Ordering::Relaxed);
}

/// Turns of both, without waiting while one of them has work, until `is_done`.
#[track_caller]
pub(super) fn until<A: Adapter>(
    a: &mut Party<A>,
    b: &mut Party<A>,
    what: &str,
    mut is_done: impl FnMut(&mut Party<A>, &mut Party<A>) -> bool,
) {
    (a.last_event, b.last_event) = (a.adapter.now(), b.adapter.now());
    while !is_done(a, b) {
        if a.turn(Duration::ZERO) + b.turn(Duration::ZERO) == 0 {
            a.turn(PATIENCE);
            b.turn(PATIENCE);
        }
        // A hang is when neither does anything.
        let idle = (a.adapter.now() - a.last_event).min(b.adapter.now() - b.last_event);
        assert!(idle < HANG, "nothing happened for {idle:?}, waiting for: {what}");
    }
}

/// Checks an event against what was seen of its connection.
fn record(conns: &mut BTreeMap<ConnId, Track>, order: &mut Vec<ConnId>, keeps: bool, event: &Event<'_>) {
    let conn = match event {
        Event::Accepted { conn, .. } => {
            let before = conns.insert(*conn, Track::default());
            assert!(before.is_none(), "A5: accepted as {conn}, which was used before");
            *conn
        }
        Event::Connected { conn, .. }
        | Event::Received { conn, .. }
        | Event::Written { conn, .. }
        | Event::Drained { conn, .. }
        | Event::Ended { conn, .. }
        | Event::Closed { conn, .. } => *conn,
        other => panic!("an event that the suite does not know: {other:?}"),
    };
    let Some(track) = conns.get_mut(&conn) else {
        panic!("A1: {event:?} for a connection that never was")
    };
    assert_eq!(track.closed, None, "A3, A4: {event:?} after Closed");
    match event {
        Event::Accepted { .. } | Event::Connected { .. } => {
            assert!(!track.begun, "A1: {conn} began twice");
            track.begun = true;
            order.push(conn);
            return;
        }
        Event::Closed { reason, .. } => {
            track.closed = Some(*reason);
            return;
        }
        _ => assert!(track.begun, "A1: {event:?} before the connection began"),
    }
    match event {
        Event::Received { bytes, .. } => {
            assert!(!track.ended, "A6: {conn} received after Ended");
            assert!(!bytes.is_empty(), "{conn} received nothing");
            track.received_count += bytes.len();
            track.deliveries += 1;
            if keeps {
                track.received.extend_from_slice(bytes);
            }
        }
        Event::Ended { .. } => {
            assert!(!track.ended, "{conn} ended twice");
            track.ended = true;
        }
        Event::Written { mark, .. } => track.written.push(*mark),
        Event::Drained { .. } => track.drained += 1,
        _ => {}
    }
}

/// Two adapters with a connection between them, which `a` dialled.
#[derive(Debug)]
pub(super) struct Pair<A> {
    pub(super) a: Party<A>,
    pub(super) b: Party<A>,
    pub(super) at_a: ConnId,
    pub(super) at_b: ConnId,
}

impl<A: Adapter> Pair<A> {
    pub(super) fn open<E: Environment<Adapter = A>>(environment: &E, config: &Config) -> Self {
        let mut a = Party::open(environment, config);
        let mut b = Party::open(environment, config);
        let (_, at) = b.listen(&loopback());
        let at_a = a.connect(&at);
        until(&mut a, &mut b, "a connection", |a, b| {
            !a.begun().is_empty() && !b.begun().is_empty()
        });
        let at_b = b.begun()[0];
        Self { a, b, at_a, at_b }
    }

    #[track_caller]
    pub(super) fn until(&mut self, what: &str, is_done: impl FnMut(&mut Party<A>, &mut Party<A>) -> bool) {
        until(&mut self.a, &mut self.b, what, is_done);
    }

    /// Sends a byte there and back.
    #[track_caller]
    pub(super) fn check_works(&mut self) {
        let (at_a, at_b) = (self.at_a, self.at_b);
        let goal = (
            self.a.track(at_a).received_count + 1,
            self.b.track(at_b).received_count + 1,
        );
        self.a.put(at_a, b"?");
        self.b.put(at_b, b"!");
        self.until("a byte there and one back", |a, b| {
            (a.track(at_a).received_count, b.track(at_b).received_count) == goal
        });
    }
}

/// An adapter with a listener, and connections to it that are not made by adapters.
#[derive(Debug)]
pub(super) struct Served<A, R> {
    pub(super) party: Party<A>,
    pub(super) at: Endpoint,
    pub(super) remotes: Vec<R>,
}

impl<A: Adapter, R: Remote> Served<A, R> {
    pub(super) fn open<E: Environment<Adapter = A, Remote = R>>(
        environment: &E,
        config: &Config,
        count: usize,
    ) -> Self {
        let mut party = Party::open(environment, config);
        let (_, at) = party.listen(&loopback());
        let mut remotes = Vec::new();
        for accepted in 1..=count {
            remotes.push(environment.dial(&at).expect("it listens"));
            // One after the other, so that the n-th remote is the n-th connection.
            party.until("an accepted connection", |party| party.begun().len() == accepted);
        }
        Self { party, at, remotes }
    }
}

/// Any port of the loopback.
pub(super) fn loopback() -> Endpoint {
    Endpoint::Tcp((std::net::Ipv4Addr::LOCALHOST, 0).into())
}

/// Where nobody listens: a port for the privileged that nobody has used for decades. One that was free a moment ago may
/// be somebody else's by then.
pub(super) fn nobody() -> Endpoint {
    Endpoint::Tcp((std::net::Ipv4Addr::LOCALHOST, 1).into())
}

/// Writes all, as long as there is room. Returns how many bytes.
pub(super) fn write_some(remote: &mut impl Write, bytes: &[u8]) -> usize {
    let mut written = 0;
    while written < bytes.len() {
        match remote.write(&bytes[written..]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("the remote cannot write: {error}"),
        }
    }
    written
}

/// Reads what is there behind `into`. Whether the end came.
pub(super) fn read_some(remote: &mut impl Read, into: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match remote.read(&mut buffer) {
            Ok(0) => return true,
            Ok(count) => into.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) => panic!("the remote cannot read: {error}"),
        }
    }
}

/// Whether the remote sees that its connection is over, by an end or by a reset.
pub(super) fn is_over(remote: &mut impl Read) -> bool {
    let mut buffer = [0; 4096];
    match remote.read(&mut buffer) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

/// Bytes that show where they come from: no two stretches of a few are alike.
pub(super) fn pattern(start: usize, count: usize) -> Vec<u8> {
    let mix = |place| ((place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
    (start..start + count).map(mix).collect()
}

/// Compares long streams without printing them.
#[track_caller]
pub(super) fn assert_same(received: &[u8], sent: &[u8]) {
    assert_eq!(received.len(), sent.len(), "A2: bytes are lost or come twice");
    if received == sent {
        return;
    }
    let differs = received.iter().zip(sent).position(|(a, b)| a != b);
    assert_eq!(differs, None, "A2: bytes differ from there on");
}

/// The seed of a randomised law, printed so that a failure can be repeated.
pub(super) fn seed() -> u64 {
    let given = std::env::var("KRAFT_SEED").ok();
    let seed = given.map_or_else(
        || RandomState::new().hash_one(0),
        |text| text.parse().expect("KRAFT_SEED is a number"),
    );
    say_seed(seed);
    seed
}

/// The seeds of a test that tries many: `KRAFT_SEED` alone if it is given, else `KRAFT_SEEDS` of them, or `count`.
pub(super) fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let number = |name| {
        let text = std::env::var(name).ok()?;
        Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    let (first, count) = match number("KRAFT_SEED") {
        Some(seed) => (seed, 1),
        None => (RandomState::new().hash_one(0), number("KRAFT_SEEDS").unwrap_or(count)),
    };
    // The last one that was printed is the one that failed.
    (0..count)
        .map(move |nth| first.wrapping_add(nth))
        .inspect(|&seed| say_seed(seed))
}

thread_local! {
    /// The last seed that this thread's law drew from, for its failure to name. Shared with the watch over it.
    static SEED: RefCell<Arc<Mutex<Option<u64>>>> = RefCell::default();
}

fn say_seed(seed: u64) {
    println!("KRAFT_SEED={seed}");
    *of_law(&SEED.with_borrow(Arc::clone)) = Some(seed);
}

fn of_law(seed: &Mutex<Option<u64>>) -> MutexGuard<'_, Option<u64>> {
    seed.lock().unwrap_or_else(PoisonError::into_inner)
}

fn advice(seed: &Mutex<Option<u64>>) -> String {
    of_law(seed).map_or_else(String::new, |seed| format!("; the same again with KRAFT_SEED={seed}"))
}

/// Runs a law.
///
/// # Panics
///
/// If it is broken: with its name, why, and the seed if it drew from one.
pub(super) fn judge(backend: &str, law: &str, run: impl FnOnce()) {
    SEED.take();
    let _watch = Watch::over(law);
    let Err(payload) = panic::catch_unwind(AssertUnwindSafe(run)) else {
        return;
    };
    let reason = match (payload.downcast_ref::<String>(), payload.downcast_ref::<&str>()) {
        (Some(text), _) => text,
        (_, Some(text)) => *text,
        _ => "a panic without a text",
    };
    panic!(
        "{backend} breaks {law}: {reason}{}",
        advice(&SEED.with_borrow(Arc::clone))
    );
}

/// Says that the machine lacks what a law needs.
pub(super) fn skip(what: &str, reason: &str) {
    let may_skip = std::env::var_os("KRAFT_NO_SKIP").is_none();
    assert!(may_skip, "skipped {what}: {reason} (KRAFT_NO_SKIP is set)");
    say_skipped(what, reason);
}

/// Says that something was not judged, and why.
pub(super) fn say_skipped(what: &str, reason: &str) {
    // Past the capture of the test harness: skipping is loud.
    let _ = writeln!(io::stderr(), "skipped {what}: {reason}");
}

/// Ends the process if a law hangs in a poll, or goes round for ever: from there no other thread can bring it back.
#[derive(Debug)]
struct Watch {
    over: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Watch {
    fn over(law: &str) -> Self {
        let (over, is_over) = mpsc::channel::<()>();
        let (begins, has_begun) = mpsc::channel::<()>();
        let law = law.to_owned();
        let seed = SEED.with_borrow(Arc::clone);
        let watch = move || {
            // Before the law begins, so that a law that counts allocations can leave this thread out.
            Counting::see_thread();
            drop(begins);
            let began = std::time::Instant::now();
            let mut turns = TURNS.load(Ordering::Relaxed);
            while is_over.recv_timeout(HANG) == Err(mpsc::RecvTimeoutError::Timeout) {
                let since = std::mem::replace(&mut turns, TURNS.load(Ordering::Relaxed));
                let how = if turns == since {
                    format!("hangs: no poll returned for {HANG:?}")
                } else if began.elapsed() > ENDLESS {
                    format!("goes round without an end: {ENDLESS:?} so far")
                } else {
                    continue;
                };
                let seed = advice(&seed);
                let _ = writeln!(io::stderr(), "{law} {how}{seed}");
                std::process::abort();
            }
        };
        let thread = thread::spawn(watch);
        let _ = has_begun.recv();
        Self {
            over: Some(over),
            thread: Some(thread),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
