//! The load: one thread that sends to every connection, checks every byte that comes back, and takes the times.
//!
//! It must cost less than the server that it measures, or it is the load that is measured. So: edge-triggered
//! readiness, one receive and one send a connection and event however many messages they hold, bytes sent from a
//! pattern that all connections share. It spins by default, on a core of its own: a server that had to wake it would
//! pay for that with every answer, and how often depends on the load's sleep and not on the server. How much of its
//! time it found something to do is [`Figures::busy`]; where that comes near 1 the load is the limit, and ratios of
//! throughput shrink towards 1.

mod accepts;
#[cfg(feature = "cluster")]
mod cluster;
mod conn;
mod fan_out;
mod slow;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

pub(crate) use self::accepts::Comers;
#[cfg(feature = "cluster")]
pub(crate) use self::cluster::Askers;
use self::conn::Conn;
use crate::cli::Waiting;
use crate::fault::Fault;
use crate::interrupt;
use crate::job::Job;
use crate::pattern::{Pattern, Place, WINDOW};
use crate::request;

/// A round ends in so many times what it should take, and [`Span::patience`], whatever an engine does: one that answers
/// a byte a second is never silent.
const OVERTIME: u32 = 4;

/// Events of one wait: few, so that the clock that ends the round is looked at often.
const EVENTS: usize = 256;

/// After so many connects the server shows that it keeps up, well below what its queue holds.
const CONNECTS_AT_ONCE: usize = 512;

/// The open loop gives up when so many seconds' worth of messages are on their way.
const BEHIND_SECONDS_MAX: u64 = 2;

/// When a sleeping load looks whether messages are due, or the round is over.
const NAP: Duration = Duration::from_millis(1);

/// Connections and what is sent over them.
#[derive(Debug)]
pub(crate) struct Load {
    conns: Vec<Conn>,
    poll: Poll,
    pattern: &'static Pattern,
    buffer: Vec<u8>,
    waiting: Waiting,
}

/// How long, and from when on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    /// No answer for so long ends a round: a stall, where the slowest answer of a live server takes milliseconds.
    pub(crate) patience: Duration,
}

impl Span {
    /// When a round is given up.
    fn end(self) -> Duration {
        (self.warm_up + self.measured) * OVERTIME + self.patience * 2
    }
}

/// What a measured span showed.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) messages: u64,
    pub(crate) elapsed: Duration,
    /// Nanoseconds from sending (closed loop) or from when it was due (open loop) to the last byte of the answer.
    pub(crate) latency: Histogram<u64>,
    /// When it began.
    pub(crate) since: SystemTime,
    /// What server and load used.
    pub(crate) used: Clocks,
    /// The share of the time in which the load had something to do.
    pub(crate) busy: f64,
    /// Bytes by which the server grew meanwhile, where that is asked.
    pub(crate) growth: Option<f64>,
}

/// What was used so far, or in a span; `None` where the system does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clocks {
    /// Context switches of the server.
    pub(crate) switches: Option<u64>,
    /// System calls of the server, where they are counted.
    pub(crate) syscalls: Option<u64>,
    /// CPU time of the server.
    pub(crate) server: Option<Duration>,
    /// CPU time of this process.
    pub(crate) own: Option<Duration>,
}

/// Reads the clocks.
pub(crate) type ReadClocks<'a> = &'a dyn Fn() -> Clocks;

impl Clocks {
    fn since(self, before: Self) -> Self {
        let time = |to: Option<Duration>, from: Option<Duration>| Some(to?.saturating_sub(from?));
        let count = |to: Option<u64>, from: Option<u64>| Some(to?.saturating_sub(from?));
        Self {
            switches: count(self.switches, before.switches),
            syscalls: count(self.syscalls, before.syscalls),
            server: time(self.server, before.server),
            own: time(self.own, before.own),
        }
    }
}

impl Load {
    /// Connects `count` times to an echo, over each connection one message of `greeting` bytes if that is not zero. When
    /// it returns the server has accepted them all.
    pub(crate) fn connect(
        at: SocketAddr,
        count: usize,
        greeting: usize,
        waiting: Waiting,
        patience: Duration,
    ) -> Result<Self, Fault> {
        Self::connect_to(Job::Echo, at, count, greeting, waiting, patience)
    }

    /// As [`connect`](Self::connect), to a server that does `job`. In a fan-out nobody hears himself: there the last
    /// connection has to be heard by all others to know as much, and all send and expect the stream of the first.
    pub(crate) fn connect_to(
        job: Job,
        at: SocketAddr,
        count: usize,
        greeting: usize,
        waiting: Waiting,
        patience: Duration,
    ) -> Result<Self, Fault> {
        let poll = Poll::new().map_err(|error| Fault::own("epoll", &error))?;
        let pattern = Pattern::shared();
        let mut conns = Vec::with_capacity(count);
        for number in 0..count {
            let mut stream =
                open(at).map_err(|error| Fault::Own(format!("connection {number} of {count}: {error}")))?;
            // Connections are accepted in order, so an answer over this one says that all before it are.
            let is_last = number + 1 == count;
            let is_probe = is_last || number % CONNECTS_AT_ONCE == CONNECTS_AT_ONCE - 1;
            let (place, greeting) = match job {
                Job::FanOut => (Place::of(0), 0),
                _ if is_probe => (Place::of(number), greeting.max(1)),
                _ => (Place::of(number), greeting),
            };
            if greeting > 0 {
                greet(&mut stream, place, greeting, job, patience)?;
            }
            let stream = register(stream, &poll, number)?;
            let conn = Conn::new(stream, place.forward(greeting));
            conns.push(if job == Job::Pump { conn.pumping() } else { conn });
        }
        Ok(Self {
            conns,
            poll,
            pattern,
            buffer: vec![0; WINDOW],
            waiting,
        })
    }

    /// Each connection has `depth` messages of `size` bytes on their way, and sends one for each that comes back.
    pub(crate) fn closed(
        &mut self,
        size: usize,
        depth: usize,
        span: Span,
        clocks: ReadClocks<'_>,
    ) -> Result<Figures, Fault> {
        // Every connection comes round once before it counts: first messages touch memory for the first time.
        let mut meter = Meter::new(span, (self.conns.len() * depth) as u64);
        let mut events = Events::with_capacity(EVENTS);
        for conn in &mut self.conns {
            let now = meter.now();
            (0..depth).for_each(|_| conn.owe(size, now));
            conn.send(self.pattern)?;
        }
        while !meter.is_over(clocks)? {
            let found = self.wait(&mut events, &mut meter)?;
            for event in &events {
                let conn = &mut self.conns[event.token().0];
                let now = meter.now();
                let count = conn.receive(&mut self.buffer, self.pattern, size, |since| meter.note(now, since))?;
                if count > 0 {
                    (0..count).for_each(|_| conn.owe(size, now));
                }
                conn.send(self.pattern)?;
            }
            meter.worked(found);
        }
        Ok(meter.figures())
    }

    /// `rate` messages a second of `size` bytes, over the connections in turn, each when it is due.
    pub(crate) fn open(
        &mut self,
        size: usize,
        rate: u64,
        span: Span,
        clocks: ReadClocks<'_>,
    ) -> Result<Figures, Fault> {
        let mut meter = Meter::new(span, 0);
        let mut events = Events::with_capacity(EVENTS);
        let (mut sent, mut answered) = (0_u64, 0_u64);
        while !meter.is_over(clocks)? {
            let now = meter.now();
            let due = u64::try_from(u128::from(now) * u128::from(rate) / 1_000_000_000).unwrap_or(u64::MAX);
            if due - answered > rate * BEHIND_SECONDS_MAX {
                return Err(Fault::Stalled(format!(
                    "{rate} messages a second are more than it answers"
                )));
            }
            // All that are due over one connection leave together.
            let first = sent;
            while sent < due {
                let conn = (sent % self.conns.len() as u64) as usize;
                let when = u128::from(sent) * 1_000_000_000 / u128::from(rate);
                self.conns[conn].owe(size, when as u64);
                sent += 1;
            }
            let touched = (sent - first).min(self.conns.len() as u64);
            for turn in first..first + touched {
                let conn = (turn % self.conns.len() as u64) as usize;
                self.conns[conn].send(self.pattern)?;
            }
            let found = self.wait(&mut events, &mut meter)?;
            for event in &events {
                let conn = &mut self.conns[event.token().0];
                let now = meter.now();
                let note = |since| meter.note(now, since);
                answered += conn.receive(&mut self.buffer, self.pattern, size, note)? as u64;
                conn.send(self.pattern)?;
            }
            meter.worked(found || touched > 0);
        }
        Ok(meter.figures())
    }

    /// Lets the connections do nothing for the span, then checks that each is alive. Returns the server's CPU time.
    pub(crate) fn idle(mut self, span: Span, clocks: ReadClocks<'_>) -> Result<Option<Duration>, Fault> {
        rest(span.warm_up)?;
        let before = clocks();
        rest(span.measured)?;
        let used = clocks().since(before);
        self.see_all_alive(span)?;
        Ok(used.server)
    }

    /// A byte there and back over each connection.
    pub(crate) fn see_all_alive(&mut self, span: Span) -> Result<(), Fault> {
        let mut meter = Meter::new(span, 0);
        for conn in &mut self.conns {
            conn.owe(1, 0);
            conn.send(self.pattern)?;
        }
        let mut events = Events::with_capacity(EVENTS);
        while self.conns.iter().any(|conn| conn.outstanding() > 0) {
            meter.look()?;
            self.wait(&mut events, &mut meter)?;
            for event in &events {
                let conn = &mut self.conns[event.token().0];
                conn.receive(&mut self.buffer, self.pattern, 1, |_| {})?;
            }
        }
        Ok(())
    }

    fn wait(&mut self, events: &mut Events, meter: &mut Meter) -> Result<bool, Fault> {
        wait(&mut self.poll, self.waiting, events, meter)
    }
}

/// One wait. Whether there were events.
fn wait(poll: &mut Poll, waiting: Waiting, events: &mut Events, meter: &mut Meter) -> Result<bool, Fault> {
    let timeout = match waiting {
        Waiting::Spin => Duration::ZERO,
        Waiting::Block => NAP,
    };
    match poll.poll(events, Some(timeout)) {
        Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
            return Err(Fault::own("epoll_wait", &error));
        }
        _ => {}
    }
    let found = !events.is_empty();
    meter.waited(found);
    let patience = meter.span.patience;
    if !found && meter.silence() > patience {
        return Err(Fault::Stalled(format!("no answer for {} s", patience.as_secs_f64())));
    }
    Ok(found)
}

/// Sleeps, unless somebody wants to end.
fn rest(long: Duration) -> Result<(), Fault> {
    let end = Instant::now() + long;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        if interrupt::is_asked() {
            return Err(Fault::Interrupted);
        }
        std::thread::sleep(left.min(INTERRUPT_NAP));
    }
    Ok(())
}

/// How long one who waits for nothing sleeps between looks for ^C.
const INTERRUPT_NAP: Duration = Duration::from_millis(50);

/// A connection that ends with a reset, not with ten thousand ports that wait for a minute.
fn open(at: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(at)?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(stream)
}

/// Makes a connection one of the load's, under its number.
fn register(stream: TcpStream, poll: &Poll, number: usize) -> Result<mio::net::TcpStream, Fault> {
    let nonblocking = stream.set_nonblocking(true);
    nonblocking.map_err(|error| Fault::own("O_NONBLOCK", &error))?;
    let mut stream = mio::net::TcpStream::from_std(stream);
    let both = Interest::READABLE | Interest::WRITABLE;
    let registered = poll.registry().register(&mut stream, Token(number), both);
    registered.map_err(|error| Fault::own("epoll_ctl", &error))?;
    Ok(stream)
}

/// A message there and back, blocking.
fn greet(stream: &mut TcpStream, at: Place, count: usize, job: Job, patience: Duration) -> Result<(), Fault> {
    let pattern = Pattern::shared();
    let request = request::encode(at, count);
    let bytes = match job {
        Job::Pump => &request,
        _ => pattern.window(at, count),
    };
    let mut back = vec![0; count];
    let exchanged = stream
        .set_read_timeout(Some(patience))
        .and_then(|()| stream.write_all(bytes))
        .and_then(|()| stream.read_exact(&mut back));
    exchanged.map_err(|error| Fault::closed(format!("the first message: {error}")))?;
    match pattern.difference(at, &back) {
        None => Ok(()),
        Some(place) => Err(Fault::Corrupt(format!(
            "byte {place} of the first message is not what was sent"
        ))),
    }
}

/// The clock of a load, and what it counts while it is measured.
struct Meter {
    origin: Instant,
    span: Span,
    /// Answers that belong to the warm-up, however long it takes, but for one's patience.
    warm_up_messages: u64,
    /// When measuring began: in nanoseconds behind the origin, in the world's time, and by the clocks of that moment.
    began: Option<(u64, SystemTime, Clocks)>,
    figures: Option<Figures>,
    messages: u64,
    latency: Histogram<u64>,
    /// When the last wait or work ended, and how long waits found nothing.
    last: u64,
    idle: u64,
    /// When the last answer came.
    heard: u64,
}

impl Meter {
    fn new(span: Span, warm_up_messages: u64) -> Self {
        Self {
            origin: Instant::now(),
            span,
            warm_up_messages,
            began: None,
            figures: None,
            messages: 0,
            // Three digits from 100 ns to a minute.
            latency: Histogram::new_with_bounds(100, 60_000_000_000, 3).expect("the bounds are in order"),
            last: 0,
            idle: 0,
            heard: 0,
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Begins and ends what is measured. Whether it has ended.
    fn is_over(&mut self, clocks: ReadClocks<'_>) -> Result<bool, Fault> {
        self.look()?;
        let now = self.last;
        let Some((began, since, before)) = self.began else {
            let passed = Duration::from_nanos(now);
            let is_warm = self.messages >= self.warm_up_messages || passed >= self.span.patience;
            if passed >= self.span.warm_up && is_warm {
                let used = clocks();
                (self.messages, self.idle) = (0, 0);
                self.latency.reset();
                self.last = self.now();
                self.began = Some((self.last, SystemTime::now(), used));
            }
            return Ok(false);
        };
        let elapsed = Duration::from_nanos(now - began);
        // On a crowded machine a short span may pass without an answer; one that never comes ends in `wait`.
        if elapsed < self.span.measured || self.messages == 0 {
            return Ok(false);
        }
        self.figures = Some(Figures {
            messages: self.messages,
            elapsed,
            latency: std::mem::replace(&mut self.latency, Histogram::new(1).expect("one digit is allowed")),
            since,
            used: clocks().since(before),
            busy: 1.0 - Duration::from_nanos(self.idle).as_secs_f64() / elapsed.as_secs_f64(),
            growth: None,
        });
        Ok(true)
    }

    /// Whether it may go on.
    fn look(&self) -> Result<(), Fault> {
        if interrupt::is_asked() {
            return Err(Fault::Interrupted);
        }
        let end = self.span.end();
        if Duration::from_nanos(self.last) > end {
            return Err(Fault::Stalled(format!("not through after {:.1} s", end.as_secs_f64())));
        }
        Ok(())
    }

    /// A wait has ended.
    fn waited(&mut self, found: bool) {
        if !found {
            let now = self.now();
            self.idle += now - self.last;
            self.last = now;
        }
    }

    /// A turn has ended.
    fn worked(&mut self, worked: bool) {
        if worked {
            self.last = self.now();
        }
    }

    /// A message since `since` was answered at `now`.
    fn note(&mut self, now: u64, since: u64) {
        self.messages += 1;
        self.heard = now;
        self.latency.saturating_record(now.saturating_sub(since));
    }

    /// How long no answer came.
    fn silence(&self) -> Duration {
        Duration::from_nanos(self.last.saturating_sub(self.heard))
    }

    fn figures(self) -> Figures {
        self.figures.expect("a load asks for its figures when it is over")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_CLOCKS: ReadClocks<'static> = &Clocks::default;

    const AT_ONCE: Span = Span {
        warm_up: Duration::ZERO,
        measured: Duration::ZERO,
        patience: Duration::from_secs(10),
    };

    fn is_over(meter: &mut Meter) -> bool {
        meter.is_over(NO_CLOCKS).expect("it is in time")
    }

    #[test]
    fn the_warm_up_lasts_until_all_came_round() {
        let mut meter = Meter::new(AT_ONCE, 2);
        meter.note(10, 0);
        assert!(!is_over(&mut meter) && meter.began.is_none());
        meter.note(20, 0);
        assert!(!is_over(&mut meter) && meter.began.is_some());
        // What came before does not count.
        let now = meter.now();
        meter.note(now, now);
        meter.worked(true);
        assert!(is_over(&mut meter));
        assert_eq!(meter.figures().messages, 1);
    }

    #[test]
    fn a_span_without_an_answer_is_not_over() {
        let mut meter = Meter::new(AT_ONCE, 0);
        for _ in 0..3 {
            meter.worked(true);
            assert!(!is_over(&mut meter));
        }
        meter.note(0, 0);
        assert!(is_over(&mut meter));
    }

    #[test]
    fn a_round_without_an_end_is_given_up() {
        let mut meter = Meter::new(AT_ONCE, 0);
        meter.last = 21_000_000_000;
        let fault = meter.is_over(NO_CLOCKS).expect_err("20 s are over");
        assert_eq!(fault, Fault::Stalled("not through after 20.0 s".into()));
    }
}
