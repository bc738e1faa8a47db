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
#[cfg(all(feature = "cluster", feature = "rivals"))]
mod etcd;
mod fan_out;
mod meter;
mod opening;
mod pace;
mod shares;
mod slow;

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;
use mio::{Events, Poll};

pub(crate) use self::accepts::Comers;
#[cfg(feature = "cluster")]
pub(crate) use self::cluster::Askers;
use self::conn::Conn;
#[cfg(all(feature = "cluster", feature = "rivals"))]
pub(crate) use self::etcd::{Callers, Standing, get_once, put_once, standing};
use self::meter::{Meter, Times};
use self::opening::{Greeting, Opening, register};
use self::pace::Crowd;
use crate::cli::Waiting;
use crate::fault::Fault;
use crate::interrupt;
use crate::job::Job;
use crate::pattern::{Pattern, Place, WINDOW};
use crate::record::Trial;

/// A round ends in so many times what it should take, and [`Span::patience`], whatever an engine does: one that answers
/// a byte a second is never silent.
const OVERTIME: u32 = 4;

/// Events of one wait: few, so that the clock that ends the round is looked at often.
const EVENTS: usize = 256;

/// After so many connects the server shows that it keeps up, well below what its queue holds.
const CONNECTS_AT_ONCE: usize = 512;

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
    answered: u64,
}

/// How long, and from when on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    /// No answer for so long ends a round: a stall, where the slowest answer of a live server takes milliseconds.
    pub(crate) patience: Duration,
    /// It lasts until so many answers came for each message that is on its way in a closed loop, however long that takes,
    /// but for one's patience.
    pub(crate) turns_min: u64,
    /// It is one of many, too short for each connection to have its share in; that each is answered is seen all the same.
    pub(crate) is_slice: bool,
}

impl Span {
    /// When a round is given up.
    pub(crate) fn end(self) -> Duration {
        (self.warm_up + self.measured) * OVERTIME + self.patience * 2
    }
}

/// What a measured span showed.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// Answers that came meanwhile.
    pub(crate) messages: u64,
    pub(crate) elapsed: Duration,
    /// Nanoseconds from sending (closed loop) or from when it was due (open loop) to the last byte of the answer: in an
    /// open loop of all messages that were due meanwhile, however late their answers came.
    pub(crate) latency: Histogram<u64>,
    /// In an open loop: of the same messages, from when they were sent. What the load or the messages before held up
    /// is not in it, so it shows the server as nobody meets it.
    pub(crate) service: Option<Histogram<u64>>,
    /// When it began.
    pub(crate) since: SystemTime,
    /// What server and load used.
    pub(crate) used: Clocks,
    /// The share of the time in which the load had something to do.
    pub(crate) busy: f64,
    /// Bytes by which the server grew meanwhile, where that is asked.
    pub(crate) growth: Option<f64>,
    /// What each death of a leader brought, where leaders are killed.
    pub(crate) trials: Vec<Trial>,
}

impl Figures {
    /// Messages a second.
    pub(crate) fn rate(&self) -> f64 {
        self.messages as f64 / self.elapsed.as_secs_f64()
    }

    /// What this slice of a round and the `next` one showed.
    pub(crate) fn and(mut self, next: Self) -> Self {
        let (before, long) = (self.elapsed.as_secs_f64(), next.elapsed.as_secs_f64());
        self.busy = (self.busy * before + next.busy * long) / (before + long);
        self.messages += next.messages;
        self.elapsed += next.elapsed;
        add(&mut self.latency, &next.latency);
        if let (Some(all), Some(service)) = (&mut self.service, &next.service) {
            add(all, service);
        }
        self.used = self.used.and(next.used);
        self
    }
}

fn add(all: &mut Histogram<u64>, more: &Histogram<u64>) {
    all.add(more).expect("a load's histograms have the same bounds");
}

/// What was used so far, or in a span; `None` where the system does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clocks {
    /// Context switches of the server.
    pub(crate) switches: Option<Switches>,
    /// System calls of the server, completions of its ring, and how often it allocated memory, where that is counted.
    pub(crate) syscalls: Option<u64>,
    pub(crate) completions: Option<u64>,
    pub(crate) allocations: Option<u64>,
    /// CPU time of the server.
    pub(crate) server: Option<Duration>,
    /// CPU time of this process.
    pub(crate) own: Option<Duration>,
    /// Bytes of the server's that are resident: of a span, behind it.
    pub(crate) resident: Option<u64>,
}

/// How often threads gave their core up or lost it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Switches {
    pub(crate) count: u64,
    /// What tells these threads from others.
    pub(crate) threads: u64,
}

impl Switches {
    /// Those behind `before`; `None` if it was of other threads: one that has ended takes its count with it.
    fn since(self, before: Self) -> Option<Self> {
        let count = self.count.saturating_sub(before.count);
        (self.threads == before.threads).then_some(Self { count, ..self })
    }
}

/// Reads the clocks. A load does so three times: before its warm-up, where it may take long, when measuring begins, and when
/// that ends.
pub(crate) type ReadClocks<'a> = &'a dyn Fn() -> Clocks;

impl Clocks {
    /// CPU time of two spans; the rest is not for each span.
    fn and(self, next: Self) -> Self {
        let sum = |one: Option<Duration>, other: Option<Duration>| Some(one? + other?);
        Self {
            server: sum(self.server, next.server),
            own: sum(self.own, next.own),
            ..Self::default()
        }
    }

    /// What was used behind `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        let time = |to: Option<Duration>, from: Option<Duration>| Some(to?.saturating_sub(from?));
        let count = |to: Option<u64>, from: Option<u64>| Some(to?.saturating_sub(from?));
        Self {
            switches: self.switches.and_then(|now| now.since(before.switches?)),
            syscalls: count(self.syscalls, before.syscalls),
            completions: count(self.completions, before.completions),
            allocations: count(self.allocations, before.allocations),
            server: time(self.server, before.server),
            own: time(self.own, before.own),
            resident: self.resident,
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
        let opening = Opening::new(at, count, patience);
        let mut conns = Vec::with_capacity(count);
        // First messages go together: one after the other each would wait for the server to wake.
        let mut greeted = Vec::with_capacity(CONNECTS_AT_ONCE);
        for number in 0..count {
            // Connections are accepted in order, so an answer over this one says that all before it are.
            let is_last = number + 1 == count;
            let is_probe = is_last || number % CONNECTS_AT_ONCE == CONNECTS_AT_ONCE - 1;
            let (place, size) = match job {
                Job::FanOut => (Place::of(0), 0),
                _ if is_probe => (Place::of(number), greeting.max(1)),
                _ => (Place::of(number), greeting),
            };
            let first = Greeting { number, place, size };
            let mut stream = opening.open(number)?;
            if size > 0 {
                opening.speak(&mut stream, first, job)?;
            }
            greeted.push((stream, first));
            if is_probe {
                for (mut stream, first) in greeted.drain(..) {
                    opening.hear(&mut stream, first)?;
                    let stream = register(stream, &poll, first.number)?;
                    let conn = Conn::new(stream, first.place.forward(first.size));
                    conns.push(if job == Job::Pump { conn.pumping() } else { conn });
                }
            }
        }
        let mut load = Self {
            conns,
            poll,
            pattern: Pattern::shared(),
            buffer: vec![0; WINDOW],
            waiting,
            answered: 0,
        };
        if job == Job::FanOut {
            load.see_all_hear(patience)?;
        }
        Ok(load)
    }

    /// Each connection has `depth` messages of `size` bytes on their way, and sends one for each that comes back. Behind it,
    /// and behind the other loops, none is on its way, and the next loop may begin.
    pub(crate) fn closed(
        &mut self,
        size: usize,
        depth: usize,
        span: Span,
        clocks: ReadClocks<'_>,
    ) -> Result<Figures, Fault> {
        pace::closed(&mut Sized::new(self, size), depth, span, clocks)
    }

    /// `rate` messages a second of `size` bytes, over the connections in turn, each when it is due.
    pub(crate) fn open(
        &mut self,
        size: usize,
        rate: u64,
        span: Span,
        clocks: ReadClocks<'_>,
    ) -> Result<Figures, Fault> {
        pace::open(&mut Sized::new(self, size), rate, span, clocks)
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
        for conn in &mut self.conns {
            conn.owe(1, 0);
            conn.send(self.pattern)?;
        }
        self.hear_all(span)
    }

    /// Messages of its loops that were answered so far: all that were sent, when none of them runs.
    pub(crate) fn answered(&self) -> u64 {
        self.answered
    }

    /// Hears what all connections expect, in messages of a byte.
    fn hear_all(&mut self, span: Span) -> Result<(), Fault> {
        let Self { conns, pattern, .. } = self;
        let buffer = &mut self.buffer;
        let is_through = |conn: &Conn| conn.outstanding() == 0;
        settle(
            conns,
            &mut self.poll,
            self.waiting,
            span,
            is_through,
            |conn, number, meter| {
                let now = meter.now();
                // Who speaks in a fan-out hears nothing.
                if !is_through(conn) {
                    conn.receive(buffer, pattern, 1, |times| meter.note(number, now, times))?;
                }
                Ok(())
            },
        )
    }

    fn wait(&mut self, events: &mut Events, meter: &mut Meter) -> Result<bool, Fault> {
        wait(&mut self.poll, self.waiting, events, meter)
    }
}

/// Waits until all `conns` are through; `hear` acts on one that has events, by its number.
fn settle<C>(
    conns: &mut [C],
    poll: &mut Poll,
    waiting: Waiting,
    span: Span,
    is_through: impl Fn(&C) -> bool,
    mut hear: impl FnMut(&mut C, usize, &mut Meter) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut meter = Meter::new(span, 0);
    let mut events = Events::with_capacity(EVENTS);
    while !conns.iter().all(&is_through) {
        meter.look()?;
        wait(poll, waiting, &mut events, &mut meter)?;
        for event in &events {
            let number = event.token().0;
            hear(&mut conns[number], number, &mut meter)?;
        }
        meter.worked(true);
    }
    Ok(())
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
    meter.waited(found, waiting);
    no_answer(meter, found)?;
    Ok(found)
}

/// Gives up if nothing was found for too long.
fn no_answer(meter: &Meter, found: bool) -> Result<(), Fault> {
    let patience = meter.span.patience;
    if !found && meter.silence() > patience {
        return Err(Fault::Stalled(format!("no answer for {} s", patience.as_secs_f64())));
    }
    Ok(())
}

/// The connections of a load, and how many bytes their messages have.
struct Sized<'a> {
    load: &'a mut Load,
    size: usize,
    events: Events,
}

impl<'a> Sized<'a> {
    fn new(load: &'a mut Load, size: usize) -> Self {
        let events = Events::with_capacity(EVENTS);
        Self { load, size, events }
    }
}

impl Crowd for Sized<'_> {
    fn conns(&self) -> usize {
        self.load.conns.len()
    }

    fn ask(&mut self, conn: usize, when: u64) -> Result<(), Fault> {
        self.load.conns[conn].owe(self.size, when);
        Ok(())
    }

    fn flush(&mut self, conn: usize, now: u64) -> Result<(), Fault> {
        self.load.conns[conn].send_at(self.load.pattern, now)
    }

    fn hear(&mut self, conn: usize, _: u64, answered: impl FnMut(Times)) -> Result<usize, Fault> {
        let load = &mut *self.load;
        let count = load.conns[conn].receive(&mut load.buffer, load.pattern, self.size, answered)?;
        load.answered += count as u64;
        Ok(count)
    }

    fn wait(&mut self, meter: &mut Meter, ready: &mut Vec<usize>) -> Result<bool, Fault> {
        let found = wait(&mut self.load.poll, self.load.waiting, &mut self.events, meter)?;
        list(&self.events, ready);
        Ok(found)
    }
}

/// Connections that have events.
fn list(events: &Events, ready: &mut Vec<usize>) {
    ready.clear();
    ready.extend(events.iter().map(|event| event.token().0));
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
pub(crate) const INTERRUPT_NAP: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
