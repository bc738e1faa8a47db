//! One connection between two ends, as the operating systems at both of them hold it.

use std::collections::VecDeque;
use std::time::Duration;

use kraft_core::adapter::{CloseReason, Endpoint};
use kraft_core::id::ConnId;
use kraft_core::time::Instant;

use super::HostId;
use super::relay::Held;

/// Names a wire for as long as it exists; events for one that is gone find nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WireId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl WireId {
    /// Names one direction of it.
    pub(super) fn stream(self, side: Side) -> u64 {
        let wire = u64::from(self.index) << 32 | u64::from(self.generation);
        wire << 1 | side.index() as u64
    }
}

/// One end of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Dialler,
    Acceptor,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }

    pub(super) fn index(self) -> usize {
        match self {
            Self::Dialler => 0,
            Self::Acceptor => 1,
        }
    }
}

#[derive(Debug)]
pub(super) struct Wire {
    /// The dialler's address.
    pub(super) from: Endpoint,
    /// What was dialled.
    pub(super) to: Endpoint,
    /// Whether the dialler knows that it was accepted.
    pub(super) connected: bool,
    /// Nothing is sent any more: what is left of it arrives, then it breaks.
    pub(super) severed: bool,
    ends: [End; 2],
    /// By the side that sends.
    pipes: [Pipe; 2],
}

/// What one side's system knows.
#[derive(Debug)]
pub(super) struct End {
    /// `None` if it is played by hand.
    pub(super) host: Option<HostId>,
    /// `None` until a mock has it: played by hand, or waiting to be accepted.
    pub(super) conn: Option<ConnId>,
    /// Whether `conn` stands in its host's queue.
    pub(super) ready: bool,
    /// Why this end is of no more use.
    pub(super) broken: Option<CloseReason>,
    /// A `Remote` has it.
    pub(super) held: bool,
    /// Nobody holds it: closed, or not accepted so far. What arrives is answered by a reset.
    pub(super) gone: bool,
}

/// One direction. `arrived + flights' bytes == bytes.len()`, which stays within the window.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    /// What arrived first, behind it what is on its way.
    bytes: VecDeque<u8>,
    arrived: usize,
    pub(super) flights: VecDeque<Flight>,
    /// No flight arrives before this: streams keep their order.
    pub(super) not_before: Instant,
    /// When the line is free again, if its bandwidth is limited.
    pub(super) busy_until: Instant,
    pub(super) fin_sent: bool,
    pub(super) fin_arrived: bool,
    /// The sender has more than there was room for.
    pub(super) wants_room: bool,
    /// Losses in a row of the first flight.
    pub(super) attempts: u32,
    /// Since when the first flight does not get across.
    pub(super) stalled_since: Option<Instant>,
    /// An acknowledgement of this direction is held up by the other one.
    pub(super) unacknowledged: bool,
    /// What a relay holds.
    pub(super) held: Held,
}

/// What one flush sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) arrives: Instant,
    pub(super) bytes: usize,
    pub(super) fin: bool,
}

impl Wire {
    pub(super) fn new(from: Endpoint, to: Endpoint, host: Option<HostId>, conn: Option<ConnId>) -> Self {
        Self {
            from,
            to,
            connected: false,
            severed: false,
            ends: [
                End {
                    host,
                    conn,
                    ready: false,
                    broken: None,
                    held: false,
                    gone: false,
                },
                End {
                    host: None,
                    conn: None,
                    ready: false,
                    broken: None,
                    held: false,
                    gone: true,
                },
            ],
            pipes: [Pipe::default(), Pipe::default()],
        }
    }

    pub(super) fn end(&self, side: Side) -> &End {
        &self.ends[side.index()]
    }

    pub(super) fn end_mut(&mut self, side: Side) -> &mut End {
        &mut self.ends[side.index()]
    }

    /// The direction in which `side` sends.
    pub(super) fn pipe(&self, side: Side) -> &Pipe {
        &self.pipes[side.index()]
    }

    pub(super) fn pipe_mut(&mut self, side: Side) -> &mut Pipe {
        &mut self.pipes[side.index()]
    }

    /// The port that was dialled, zero if there is none.
    pub(super) fn port(&self) -> u16 {
        match &self.to {
            Endpoint::Tcp(address) => address.port(),
            Endpoint::Unix(_) => 0,
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.ends.iter().all(|end| end.gone)
    }
}

impl Pipe {
    pub(super) fn room(&self, window: usize) -> usize {
        window.saturating_sub(self.bytes.len())
    }

    pub(super) fn arrived(&self) -> usize {
        self.arrived
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Sends a flight off. Whether it needs an event of its own, or arrives with the one before.
    pub(super) fn launch(&mut self, flight: Flight) -> bool {
        self.not_before = flight.arrives;
        if let Some(last) = self.flights.back_mut()
            && last.arrives == flight.arrives
        {
            last.bytes += flight.bytes;
            last.fin |= flight.fin;
            return false;
        }
        self.flights.push_back(flight);
        true
    }

    /// Takes in the flights that are due.
    pub(super) fn land(&mut self, now: Instant) {
        self.attempts = 0;
        self.stalled_since = None;
        while let Some(flight) = self.flights.front()
            && flight.arrives <= now
        {
            self.arrived += flight.bytes;
            self.fin_arrived |= flight.fin;
            self.flights.pop_front();
        }
    }

    /// Holds the first flight back, and with it all that would arrive before it.
    pub(super) fn hold(&mut self, until: Instant) {
        if let Some(first) = self.flights.front_mut() {
            first.arrives = until;
        }
        self.not_before = self.not_before.max(until);
    }

    /// Moves at most `max` bytes that arrived behind `into`.
    pub(super) fn read(&mut self, into: &mut Vec<u8>, max: usize) -> usize {
        let count = self.arrived.min(max);
        let (head, tail) = self.bytes.as_slices();
        let of_head = count.min(head.len());
        into.extend_from_slice(&head[..of_head]);
        into.extend_from_slice(&tail[..count - of_head]);
        self.discard(count);
        count
    }

    pub(super) fn discard(&mut self, count: usize) {
        self.bytes.drain(..count);
        self.arrived -= count;
    }

    /// Drops what is on its way.
    pub(super) fn drop_flights(&mut self) {
        self.bytes.truncate(self.arrived);
        self.flights.clear();
        self.attempts = 0;
        self.stalled_since = None;
    }

    /// Of what is on its way a part arrives at once, which `chance` picks, and the rest is gone.
    pub(super) fn tear(&mut self, chance: u64) {
        let flying = self.bytes.len() - self.arrived;
        let kept = usize::try_from(chance % (flying as u64 + 1)).expect("it is at most a length");
        self.bytes.truncate(self.arrived + kept);
        self.arrived += kept;
        self.flights.clear();
        self.fin_sent = true;
        self.attempts = 0;
        self.stalled_since = None;
    }

    /// How long until the first flight is tried again, after one more loss.
    pub(super) fn back_off(&mut self, retransmit: Duration, max: Duration) -> Duration {
        let wait = retransmit.saturating_mul(1 << self.attempts.min(16));
        self.attempts += 1;
        wait.min(max)
    }
}
