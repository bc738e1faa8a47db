//! Random scripts, on an adapter and on the mock: what each connection saw must be the same.
//!
//! A script is a list of steps. A step is what happens between two turns: to each connection a put from either end, or a
//! pause, or a close, by an adapter or by a remote; timers and wakes besides. After each step everybody has turns until
//! all has come about that must, so that the outcome of a script depends on its seed and not on time.

use std::time::Duration;

use bytes::Bytes;
use kraft_core::adapter::{Adapter, CloseReason, Endpoint};
use kraft_core::id::ConnId;
use kraft_core::link::CloseMode;
use kraft_core::outbox::Full;

use super::Wires;
use super::environment::{Environment, Remote};
use super::party::{Party, Track, assert_same, loopback, nobody, pattern, read_some, seeds, until, write_some};
use crate::Config;

/// Scripts of one test, unless `KRAFT_SEEDS` says otherwise.
const SCRIPTS: u64 = 50;

/// Steps of a script.
const STEPS: usize = 25;

/// Connections of a script at most.
const LINES_MAX: usize = 10;

/// The adapter's `write_queue_max`. Some steps put more.
const QUEUE_MAX: usize = 40_000;

/// What is put in one step by a remote, or to somebody who does not read, at most: every system takes it.
const SAFE_MAX: usize = 16_000;

/// Random scripts end on this adapter as they do on the mock.
pub fn random_scripts_end_as_on_the_mock<E: Environment>(environment: &E) {
    for seed in seeds(SCRIPTS) {
        let ours = Stage::new(environment, seed).play();
        let expected = Stage::new(&Wires::new(seed), seed).play();
        for (ours, expected) in ours.iter().zip(&expected) {
            assert_eq!(ours, expected, "another outcome than on the mock (left: ours)");
        }
        assert_eq!(
            ours.len(),
            expected.len(),
            "another number of connections than on the mock"
        );
    }
}

/// The parties of a script, and what they have done so far.
struct Stage<'a, E: Environment> {
    environment: &'a E,
    rng: fastrand::Rng,
    /// Dials. The other one listens.
    a: Party<E::Adapter>,
    b: Party<E::Adapter>,
    at: Endpoint,
    lines: Vec<Line<E::Remote>>,
    refused: Vec<ConnId>,
    /// Connections of `b` that have said which line they are.
    known: usize,
    timers: Vec<String>,
}

/// A connection, and what its ends have done.
struct Line<R> {
    /// Of the dialler, if it is no adapter.
    remote: Option<R>,
    is_remote: bool,
    /// What the remote has read.
    read: Vec<u8>,
    /// The dialler and the other.
    ends: [End; 2],
}

#[derive(Debug, Default)]
struct End {
    conn: Option<ConnId>,
    /// Bytes that it has put, its line's number among them.
    put: usize,
    marks: Vec<u64>,
    /// Refusals that are answered by one `Drained` each.
    refusals: usize,
    is_paused: bool,
    has_reset: bool,
    /// How it closed, and what it had of the other's bytes, of its marks and of `Drained` by then. The rest it never gets,
    /// or may get.
    close: Option<(CloseMode, [usize; 3])>,
}

impl End {
    fn is_open(&self) -> bool {
        self.close.is_none() && !self.has_reset
    }
}

impl<R> Line<R> {
    fn new(remote: Option<R>, ends: [End; 2]) -> Self {
        Self {
            is_remote: remote.is_some(),
            remote,
            read: Vec::new(),
            ends,
        }
    }

    fn is_quiet(&self) -> bool {
        self.ends.iter().all(|end| !end.is_paused)
    }
}

impl<'a, E: Environment> Stage<'a, E> {
    fn new(environment: &'a E, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let config = Config {
            read_buffer: [512, 5000, 65_536][rng.usize(..3)],
            write_queue_max: QUEUE_MAX,
            reads_per_turn: rng.usize(1..4),
            accepts_per_turn: rng.usize(1..4),
            ..Config::default()
        };
        let a = Party::open(environment, &config);
        let mut b = Party::open(environment, &config);
        let (_, at) = b.listen(&loopback());
        Self {
            environment,
            rng,
            a,
            b,
            at,
            lines: Vec::new(),
            refused: Vec::new(),
            known: 0,
            timers: Vec::new(),
        }
    }

    /// Plays the script. Returns what each connection saw.
    fn play(mut self) -> Vec<String> {
        for step in 0..STEPS {
            let mut deeds = Vec::new();
            for _ in 0..self.rng.usize(..3) {
                deeds.push(self.begin_something());
            }
            for line in 0..self.lines.len() {
                if self.lines[line].ends[1].conn.is_some() && self.rng.u8(..3) > 0 {
                    deeds.extend(self.act_on(line));
                }
            }
            self.settle(&format!("step {step}: {}", deeds.join(", ")));
        }
        for line in 0..self.lines.len() {
            for side in 0..2 {
                self.pause(line, side, false);
            }
        }
        self.settle("everybody to get what he was spared");
        for side in 0..2 {
            for line in 0..self.lines.len() {
                self.close(line, side, CloseMode::Flush);
            }
            self.settle("the end");
        }
        assert_eq!(self.a.adapter.stats().active + self.b.adapter.stats().active, 0);
        self.tell()
    }

    /// A connect, to somebody or nobody, a remote's, timers or a wake.
    fn begin_something(&mut self) -> String {
        let line = self.lines.len();
        let tag = u32::try_from(line).expect("there are a few").to_le_bytes();
        let mut ends = [End::default(), End::default()];
        ends[0].put = tag.len();
        match self.rng.u8(..6) {
            0 | 1 if line < LINES_MAX => {
                let conn = self.a.connect(&self.at);
                self.a.put(conn, &tag);
                ends[0].conn = Some(conn);
                self.lines.push(Line::new(None, ends));
                format!("connect line {line}")
            }
            2 if line < LINES_MAX => {
                let mut remote = self.environment.dial(&self.at).expect("it listens");
                assert_eq!(write_some(&mut remote, &tag), tag.len());
                self.lines.push(Line::new(Some(remote), ends));
                format!("a remote dials line {line}")
            }
            3 => {
                self.refused.push(self.a.connect(&nobody()));
                "connect to nobody".to_owned()
            }
            4 => self.run_timers(),
            _ => {
                let woken = self.b.woken;
                self.b.adapter.waker().wake();
                self.b.until("a wake", |b| b.woken > woken);
                "wake".to_owned()
            }
        }
    }

    /// Starts timers, stops some, and waits for the others.
    fn run_timers(&mut self) -> String {
        let before = self.a.expired.len();
        let now = self.a.adapter.now();
        let mut due = Vec::new();
        for nth in 0..self.rng.usize(1..8) {
            let deadline = now + Duration::from_micros(100 * self.rng.u64(..10));
            let timer = self.a.adapter.timers().start(deadline);
            if self.rng.u8(..4) == 0 {
                assert!(self.a.adapter.timers().stop(timer));
            } else {
                due.push((deadline, nth, timer));
            }
        }
        self.a.until("timers", |a| a.expired.len() == before + due.len());
        let nth = |timer| due.iter().find(|due| due.2 == timer).map(|due| due.1);
        let order: Vec<_> = self.a.expired[before..].iter().map(|(_, timer)| nth(*timer)).collect();
        self.timers.push(format!("timers expired: {order:?}"));
        "timers".to_owned()
    }

    /// What happens to one line in a step.
    fn act_on(&mut self, line: usize) -> Option<String> {
        let side = self.rng.usize(..2);
        let held = &self.lines[line];
        let is_open = held.ends[side].is_open();
        let quiet = held.is_quiet();
        let is_remote = held.is_remote && side == 0;
        match self.rng.u8(..16) {
            0..9 => {
                self.put(line, 0);
                self.put(line, 1);
                Some(format!("put on line {line}"))
            }
            9..12 if is_open && !is_remote => {
                let pauses = !self.lines[line].ends[side].is_paused;
                self.pause(line, side, pauses);
                Some(format!("pause line {line} side {side}: {pauses}"))
            }
            12 if is_open && !is_remote => {
                self.put(line, side);
                self.close(line, side, CloseMode::Flush);
                Some(format!("put and close line {line} side {side} by flush"))
            }
            13 if quiet => {
                self.close(line, 0, CloseMode::Flush);
                self.close(line, 1, CloseMode::Flush);
                Some(format!("close line {line} from both sides"))
            }
            14 if quiet && is_open => {
                self.close(line, side, CloseMode::Now);
                Some(format!("cut line {line} side {side}"))
            }
            15 if quiet && held.ends.iter().all(End::is_open) => {
                let remote = self.lines[line].remote.take()?;
                remote.reset().expect("the remote lives");
                self.lines[line].ends[0].has_reset = true;
                Some(format!("reset line {line}"))
            }
            _ => None,
        }
    }

    fn put(&mut self, line: usize, side: usize) {
        let held = &mut self.lines[line];
        let other = &held.ends[1 - side];
        // Who cut the connection answers by a reset, sooner or later.
        let is_cut = other.has_reset || matches!(other.close, Some((CloseMode::Now, _)));
        if is_cut || !held.ends[side].is_open() {
            return;
        }
        let unread = !other.is_open() || other.is_paused;
        let read = other
            .conn
            .map_or(0, |conn| [&self.a, &self.b][1 - side].track(conn).received_count);
        let mut room = match unread {
            true => SAFE_MAX.saturating_sub(held.ends[side].put.saturating_sub(read)),
            false => usize::MAX,
        };
        let end = &mut held.ends[side];
        if held.is_remote && side == 0 {
            let count = self.rng.usize(..SAFE_MAX).min(room);
            let remote = held.remote.as_mut().expect("it is open");
            assert_eq!(write_some(remote, &stream(line, side, end.put, count)), count);
            end.put += count;
            return;
        }
        let conn = end.conn.expect("it is there by now");
        let outbox = [&mut self.a, &mut self.b][side].link(conn).outbox();
        let mut is_refused = false;
        for _ in 0..self.rng.usize(1..5) {
            let most = [10, 5000, 20_000][self.rng.usize(..3)];
            let count = self.rng.usize(1..=most);
            if count > room {
                break;
            }
            let bytes = Bytes::from(stream(line, side, end.put, count));
            let taken = match self.rng.u8(..3) {
                0 => outbox.put(&bytes),
                1 => outbox.put_shared(&bytes),
                _ => outbox.frame(|frame| {
                    frame.put(&bytes[..count / 2])?;
                    frame.put_shared(&bytes.slice(count / 2..))
                }),
            };
            match taken {
                Ok(()) => {
                    end.put += count;
                    room -= count;
                }
                Err(Full) => is_refused = true,
            }
            if self.rng.u8(..3) == 0 && end.marks.last() != Some(&(end.put as u64)) {
                assert_eq!(outbox.mark(), end.put as u64);
                end.marks.push(end.put as u64);
            }
        }
        end.refusals += usize::from(is_refused);
    }

    fn pause(&mut self, line: usize, side: usize, pauses: bool) {
        let end = &mut self.lines[line].ends[side];
        let Some(conn) = end.conn else { return };
        end.is_paused = pauses;
        if let Some(link) = [&mut self.a, &mut self.b][side].adapter.link(conn) {
            if pauses { link.pause() } else { link.resume() }
        }
    }

    fn close(&mut self, line: usize, side: usize, mode: CloseMode) {
        let held = &mut self.lines[line];
        if !held.ends[side].is_open() || held.ends[1 - side].has_reset {
            return;
        }
        if held.is_remote && side == 0 {
            held.ends[0].close = Some((mode, [0; 3]));
            match mode {
                CloseMode::Flush => held
                    .remote
                    .as_mut()
                    .expect("it is open")
                    .end()
                    .expect("the remote lives"),
                // It has read what there is, or the drop would be a reset.
                CloseMode::Now => held.remote = None,
            }
            return;
        }
        let end = &mut held.ends[side];
        let conn = end.conn.expect("it is there by now");
        let party = if side == 0 { &mut self.a } else { &mut self.b };
        let track = party.track(conn);
        end.close = Some((mode, [track.received_count, track.written.len(), track.drained]));
        end.is_paused = false;
        party.link(conn).close(mode);
    }

    /// Turns until all has come about that must.
    fn settle(&mut self, what: &str) {
        let Self {
            a,
            b,
            lines,
            known,
            refused,
            ..
        } = self;
        until(a, b, what, |a, b| {
            while let Some(&conn) = b.begun().get(*known)
                && let Some(tag) = b.track(conn).received.first_chunk()
            {
                lines[u32::from_le_bytes(*tag) as usize].ends[1].conn = Some(conn);
                *known += 1;
            }
            for line in lines.iter_mut() {
                if let Some(remote) = &mut line.remote {
                    read_some(remote, &mut line.read);
                }
            }
            refused
                .iter()
                .all(|&conn| a.track(conn).closed == Some(CloseReason::Refused))
                && lines.iter().all(|line| is_settled(line, [a, b]))
        });
    }

    /// What each connection saw.
    fn tell(&self) -> Vec<String> {
        let mut told = self.timers.clone();
        for (number, line) in self.lines.iter().enumerate() {
            for (side, end) in line.ends.iter().enumerate() {
                if line.is_remote && side == 0 {
                    assert_same(&line.read, &whole(number, 1, line.read.len()));
                }
                let Some(conn) = end.conn else { continue };
                let track = [&self.a, &self.b][side].track(conn);
                assert_same(&track.received, &whole(number, 1 - side, track.received_count));
                assert!(end.marks.starts_with(&track.written), "A29: marks that were not made");
                let [_, written, drained] = end.close.map_or([0; 3], |close| close.1);
                told.push(format!(
                    "line {number} side {side}: received {}, ended: {}, closed: {:?}, written {:?}, drained {drained}",
                    track.received_count,
                    track.ended,
                    track.closed,
                    &track.written[..written],
                ));
            }
        }
        told
    }
}

/// Whether both ends of a line have got what is theirs.
fn is_settled<A: Adapter, R>(line: &Line<R>, parties: [&Party<A>; 2]) -> bool {
    (0..2).all(|side| {
        let (end, other) = (&line.ends[side], &line.ends[1 - side]);
        if line.is_remote && side == 0 {
            return line.remote.is_none() || line.read.len() == other.put;
        }
        let Some(conn) = end.conn else { return false };
        let Some(track) = parties[side].known(conn) else {
            return false;
        };
        is_end_settled(end, other, track)
    })
}

fn is_end_settled(end: &End, other: &End, track: &Track) -> bool {
    if other.has_reset {
        return track.closed == Some(CloseReason::Reset);
    }
    let is_over = other.close.is_some();
    match end.close {
        Some((CloseMode::Now, _)) => track.closed.is_some(),
        Some((CloseMode::Flush, _)) => track.closed.is_some() == is_over,
        None if !track.begun || track.closed.is_some() => false,
        None => {
            let is_told = track.written == end.marks && track.drained == end.refusals;
            let is_read = end.is_paused || (track.received_count == other.put && track.ended == is_over);
            is_told && is_read
        }
    }
}

/// A stretch of what a side of a line sends.
fn stream(line: usize, side: usize, from: usize, count: usize) -> Vec<u8> {
    pattern((2 * line + side) << 32 | from, count)
}

/// All that a side of a line sends, its number first.
fn whole(line: usize, side: usize, count: usize) -> Vec<u8> {
    let mut bytes = stream(line, side, 0, count);
    if side == 0 {
        let tag = u32::try_from(line).expect("there are a few").to_le_bytes();
        let count = count.min(tag.len());
        bytes[..count].copy_from_slice(&tag[..count]);
    }
    bytes
}
