//! An adapter with virtual time, for tests and simulations.
//!
//! [`Mock`] keeps the laws of every other backend and passes the same suite, but no time passes while it waits, and
//! nothing happens on it that a seed or a test did not decide.
//!
//! - **By hand.** [`Mock::new`] makes a lone one. The test plays the other side of each connection: it
//!   [accepts](Mock::accept), [refuses](Mock::refuse) and [fails](Mock::fail) what the mock dials, lets it
//!   [receive](Mock::receive), sees what it [sent](Mock::sent), and [advances](Mock::advance) the clock. Where the mock
//!   belongs to a node by then, [`Network::by_hand`] gives the same as [`Remote`]s.
//! - **Joined by wires.** [`Network`] joins mocks that dial each other, with delays, losses, partitions and crashes.
//!
//! ```
//! use std::time::Duration;
//! use kraft_adapters::Config;
//! use kraft_adapters::mock::Mock;
//! use kraft_core::adapter::{Adapter, Event};
//!
//! let mut mock = Mock::new(&Config::default())?;
//! let conn = mock.connect(&"192.0.2.1:7000".parse::<std::net::SocketAddr>()?.into())?;
//! mock.accept(conn);
//! mock.receive(conn, b"ping");
//! mock.poll(None, |_, event| {
//!     if let Event::Received { bytes: b"ping", link, .. } = event {
//!         link.outbox().put(b"pong").expect("it fits");
//!     }
//! })?;
//! mock.flush()?;
//! assert_eq!(mock.sent(conn), b"pong");
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod conditions;
mod events;
mod network;
mod relay;
mod remote;
mod state;
#[cfg(test)]
mod tests;
mod turn;
mod wake;
mod wire;

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use kraft_core::adapter::{Adapter, Capabilities, CloseReason, Endpoint, Event, ListenOptions, Stats, Waker};
use kraft_core::id::{ConnId, ListenerId};
use kraft_core::link::Link;
use kraft_core::outbox::Segments;
use kraft_core::time::Instant;
use kraft_core::timers::Timers;

pub use self::conditions::{Conditions, Latency};
pub use self::network::{HostId, Network};
pub use self::relay::{Happened, Leaving, Meddling};
pub use self::remote::Remote;
use self::wake::Wake;
use self::wire::{Side, WireId};
use crate::Config;

/// An adapter with virtual time.
#[derive(Debug)]
pub struct Mock {
    network: Network,
    host: HostId,
    /// Which process of the host this is: after a crash there may be another one.
    process: u64,
    config: Config,
    now: Instant,
    /// How long ago `now` was, by the clock that is read.
    held_up: Duration,
    slots: Vec<Slot>,
    free: Vec<u32>,
    listeners: Vec<ListenerSlot>,
    timers: Timers,
    wake: Arc<Wake>,
    /// Connections whose link was in the user's hands since the last flush.
    touched: Vec<ConnId>,
    /// When closing flushes end, in order. An id may be stale.
    lingers: VecDeque<(Instant, ConnId)>,
    scratch: Vec<u8>,
    stats: Stats,
}

#[derive(Debug, Default)]
struct Slot {
    /// Of the connection that is there, or of the last one.
    generation: u32,
    conn: Option<Conn>,
    /// The wire of that connection, so that a hand can look at what was sent before it closed.
    wire: Option<(WireId, Side)>,
}

#[derive(Debug)]
struct Conn {
    link: Link,
    wire: WireId,
    side: Side,
    listener: Option<ListenerId>,
    /// Whether `Accepted` or `Connected` was delivered.
    begun: bool,
    ended: bool,
    touched: bool,
    segments: Segments,
    fin_sent: bool,
    lingers: bool,
    /// It is closed, and its user does not know so far.
    closed: Option<CloseReason>,
}

#[derive(Debug, Default)]
struct ListenerSlot {
    generation: u32,
    listener: Option<Listener>,
}

#[derive(Debug)]
struct Listener {
    at: Endpoint,
    max_connections: usize,
    active: usize,
}

impl Mock {
    /// A lone mock, on a network [by hand](Network::by_hand).
    ///
    /// # Errors
    ///
    /// If `config` is out of range.
    pub fn new(config: &Config) -> io::Result<Self> {
        let network = Network::by_hand();
        let host = network.add_host();
        Self::open(&network, host, config)
    }

    fn open(network: &Network, host: HostId, config: &Config) -> io::Result<Self> {
        config.validate()?;
        let wake = Arc::new(Wake::default());
        let mut state = network.state();
        let now = state.now;
        let place = state.host_mut(host);
        assert!(!place.runs, "{host} runs a mock already");
        place.runs = true;
        place.off = false;
        place.process += 1;
        place.wake = Some(Arc::clone(&wake));
        let process = place.process;
        drop(state);
        Ok(Self {
            network: network.clone(),
            host,
            process,
            config: config.clone(),
            now,
            held_up: Duration::ZERO,
            slots: Vec::new(),
            free: Vec::new(),
            listeners: Vec::new(),
            timers: Timers::default(),
            wake,
            touched: Vec::new(),
            lingers: VecDeque::new(),
            scratch: Vec::with_capacity(config.read_buffer),
            stats: Stats::default(),
        })
    }

    /// As if the process were stopped for so long within each turn from here on, behind the reading of
    /// [`now`](Adapter::now): a clock that is read shows so much more.
    pub fn hold_up(&mut self, span: Duration) {
        self.held_up = span;
    }

    /// The network that it is on.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The host that it runs on.
    #[must_use]
    pub fn host(&self) -> HostId {
        self.host
    }
}

/// By hand: what the other side of a connection does.
impl Mock {
    /// The other side accepts a connect. `Connected` follows.
    ///
    /// # Panics
    ///
    /// These methods panic if the connection never was, or if its other side is a mock too.
    pub fn accept(&mut self, conn: ConnId) {
        let (wire, _) = self.hand(conn);
        self.network.state().accept_by_hand(wire);
    }

    /// The other side refuses a connect. `Closed(Refused)` follows.
    pub fn refuse(&mut self, conn: ConnId) {
        self.fail(conn, CloseReason::Refused);
    }

    /// A connection, or a connect, fails. `Closed` follows.
    pub fn fail(&mut self, conn: ConnId, reason: CloseReason) {
        let (wire, side) = self.hand(conn);
        self.network.state().break_end(wire, side.other(), reason);
    }

    /// The other side sends. Returns how many of the bytes there was room for; `Received` follows.
    pub fn receive(&mut self, conn: ConnId, bytes: &[u8]) -> usize {
        let (wire, side) = self.hand(conn);
        let mut state = self.network.state();
        let count = state.send_bytes(wire, side, bytes);
        state.settle();
        count
    }

    /// The other side ends what it sends. `Ended` follows.
    pub fn end(&mut self, conn: ConnId) {
        let (wire, side) = self.hand(conn);
        let mut state = self.network.state();
        state.end(wire, side);
        state.settle();
    }

    /// Takes what was sent and flushed since the last call, also after the connection is closed, until its slot is
    /// used again.
    #[must_use]
    pub fn sent(&mut self, conn: ConnId) -> Vec<u8> {
        let (wire, side) = self.hand(conn);
        let mut bytes = Vec::new();
        let mut state = self.network.state();
        state.settle();
        while state.read(wire, side, &mut bytes, usize::MAX) > 0 {}
        bytes
    }

    /// Lets time pass.
    pub fn advance(&mut self, span: Duration) {
        let to = self.network.now() + span;
        self.network.move_to(to);
        self.now = to;
    }

    /// The wire of a connection, and the side that is played by hand.
    fn hand(&self, conn: ConnId) -> (WireId, Side) {
        let slot = self.slots.get(conn.slot());
        let slot = slot.filter(|slot| slot.generation == conn.generation());
        let (wire, side) =
            (slot.and_then(|slot| slot.wire)).unwrap_or_else(|| panic!("{conn:?} is not, or was reused"));
        let mut state = self.network.state();
        state.settle();
        let other = state.wire(wire).and_then(|wire| wire.end(side.other()).host);
        assert_eq!(other, None, "the other side of {conn:?} is a mock");
        (wire, side.other())
    }
}

/// Slots.
impl Mock {
    fn insert(&mut self, make: impl FnOnce(ConnId) -> Conn) -> Option<ConnId> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < self.config.max_connections => {
                self.slots.push(Slot::default());
                u32::try_from(self.slots.len() - 1).expect("there are at most 2^24 slots")
            }
            None => return None,
        };
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let id = ConnId::new(index, slot.generation);
        let conn = make(id);
        let was = slot.wire.replace((conn.wire, conn.side));
        slot.conn = Some(conn);
        self.stats.active += 1;
        if let Some((wire, side)) = was {
            self.network.state().forget_hand(wire, side.other());
        }
        Some(id)
    }

    fn conn_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        let slot = self.slots.get_mut(id.slot())?;
        slot.conn.as_mut().filter(|_| slot.generation == id.generation())
    }

    /// Frees the slot of a connection whose `Closed` is about to be delivered.
    fn release(&mut self, id: ConnId) -> Option<Conn> {
        let slot = self.slots.get_mut(id.slot())?;
        let conn = slot.conn.take_if(|_| slot.generation == id.generation())?;
        self.free.push(u32::try_from(id.slot()).expect("slots are made by u32"));
        self.stats.active -= 1;
        self.stats.closed += 1;
        self.stats.failed += u64::from(!conn.begun && conn.listener.is_none());
        if let Some(listener) = conn.listener.and_then(|listener| self.listener_mut(listener)) {
            listener.active -= 1;
        }
        Some(conn)
    }

    fn listener_mut(&mut self, id: ListenerId) -> Option<&mut Listener> {
        let slot = self.listeners.get_mut(id.slot())?;
        slot.listener.as_mut().filter(|_| slot.generation == id.generation())
    }

    fn check_alive(&self) -> io::Result<()> {
        let mut state = self.network.state();
        let host = state.host_mut(self.host);
        if host.runs && host.process == self.process {
            return Ok(());
        }
        let text = format!("the process of {} has crashed", self.host);
        Err(io::Error::new(io::ErrorKind::NotConnected, text))
    }
}

impl Conn {
    fn new(wire: WireId, side: Side, listener: Option<ListenerId>, config: &Config) -> Self {
        Self {
            link: Link::new(config.write_queue_max),
            wire,
            side,
            listener,
            begun: false,
            ended: false,
            touched: false,
            segments: Segments::new(),
            fin_sent: false,
            lingers: false,
            closed: None,
        }
    }
}

impl Adapter for Mock {
    fn listen(&mut self, at: &Endpoint, options: ListenOptions) -> io::Result<ListenerId> {
        self.check_alive()?;
        let free = self.listeners.iter().position(|slot| slot.listener.is_none());
        let index = free.unwrap_or_else(|| {
            self.listeners.push(ListenerSlot::default());
            self.listeners.len() - 1
        });
        let generation = self.listeners[index].generation.wrapping_add(1);
        let slot = u32::try_from(index).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let id = ListenerId::new(slot, generation);
        let at = self.network.state().listen(self.host, at, options.backlog)?;
        self.listeners[index] = ListenerSlot {
            generation,
            listener: Some(Listener {
                at,
                max_connections: options.max_connections,
                active: 0,
            }),
        };
        Ok(id)
    }

    fn local_endpoint(&self, listener: ListenerId) -> io::Result<Endpoint> {
        let slot = self.listeners.get(listener.slot());
        let slot = slot.filter(|slot| slot.generation == listener.generation());
        let listener = slot.and_then(|slot| slot.listener.as_ref());
        listener
            .map(|listener| listener.at.clone())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn unlisten(&mut self, listener: ListenerId) {
        if let Ok(at) = self.local_endpoint(listener) {
            self.listeners[listener.slot()].listener = None;
            if self.check_alive().is_ok() {
                self.network.state().unlisten(self.host, &at);
            }
        }
    }

    fn connect(&mut self, to: &Endpoint) -> io::Result<ConnId> {
        self.check_alive()?;
        let (host, timeout) = (self.host, self.config.connect_timeout);
        let (network, config) = (self.network.clone(), self.config.clone());
        let conn = self.insert(|id| {
            let wire = network.state().dial(Some(host), to, Some(id), Some(timeout));
            Conn::new(wire, Side::Dialler, None, &config)
        });
        let conn = conn.ok_or_else(|| {
            let text = format!(
                "cannot connect to {to}: all {} connections are in use",
                config.max_connections
            );
            io::Error::new(io::ErrorKind::QuotaExceeded, text)
        })?;
        self.stats.initiated += 1;
        Ok(conn)
    }

    fn link(&mut self, conn: ConnId) -> Option<&mut Link> {
        let slot = self.slots.get_mut(conn.slot())?;
        let state = slot.conn.as_mut().filter(|_| slot.generation == conn.generation())?;
        // A connection whose close was acted on is gone for its user, although `Closed` is still to come.
        if state.closed.is_some() {
            return None;
        }
        if !state.touched {
            state.touched = true;
            self.touched.push(conn);
        }
        Some(&mut state.link)
    }

    fn timers(&mut self) -> &mut Timers {
        &mut self.timers
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn read_clock(&self) -> Option<Instant> {
        Some(self.now + self.held_up)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.check_alive()?;
        self.act();
        self.tell_deadline();
        Ok(())
    }

    fn poll<F>(&mut self, deadline: Option<Instant>, on_event: F) -> io::Result<usize>
    where
        F: FnMut(Instant, Event<'_>),
    {
        self.turn(deadline, on_event)
    }

    fn waker(&self) -> Waker {
        let wake = Arc::clone(&self.wake);
        Waker::new(move || wake.wake())
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            cannot: &[
                (16, "no system call that a signal could interrupt"),
                (23, "no descriptor to wait on"),
                (25, "a wait takes no time"),
                (26, "no descriptors to run out of"),
                (30, "no ring of buffers"),
            ],
            thread_bound: false,
        }
    }

    fn stats(&self) -> Stats {
        Stats {
            timers: self.timers.len() as u64,
            ..self.stats
        }
    }

    fn name(&self) -> &'static str {
        "mock"
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        if self.check_alive().is_err() {
            return;
        }
        let mut state = self.network.state();
        for conn in self.slots.iter().filter_map(|slot| slot.conn.as_ref()) {
            if conn.closed.is_none() {
                state.leave(conn.wire, conn.side, false);
            }
        }
        for listener in self.listeners.iter().filter_map(|slot| slot.listener.as_ref()) {
            state.unlisten(self.host, &listener.at);
        }
        state.end_process(self.host, true);
    }
}
