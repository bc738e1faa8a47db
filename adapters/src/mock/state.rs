//! What a network consists of: hosts, listeners, wires and the events that are still to happen.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use kraft_core::adapter::{CloseReason, Endpoint};
use kraft_core::id::ConnId;
use kraft_core::outbox::Segments;
use kraft_core::time::Instant;

use super::HostId;
use super::conditions::{Conditions, Paths};
use super::events::{Due, Event};
use super::relay::{Leaving, Relay, Tap};
use super::wake::Wake;
use super::wire::{Flight, Side, Wire, WireId};

/// How long what is left of a torn connection has to be read.
const TEAR_DELAY: Duration = Duration::from_millis(1);

/// Where the ports begin that a system hands out (RFC 6335 §6).
const FIRST_EPHEMERAL_PORT: u16 = 49152;

#[derive(Debug)]
pub(super) struct State {
    pub(super) now: Instant,
    pub(super) rng: fastrand::Rng,
    pub(super) hosts: Vec<Host>,
    pub(super) paths: Paths,
    pub(super) refusing: BTreeSet<Endpoint>,
    pub(super) unroutable: BTreeSet<IpAddr>,
    /// Connects to where nobody listens wait here for a hand instead of being refused.
    pub(super) by_hand: bool,
    pub(super) dialled: VecDeque<WireId>,
    pub(super) listeners: BTreeMap<(HostId, Endpoint), Backlog>,
    pub(super) tap: Tap,
    pub(super) relay: Option<Relay>,
    /// What is sent was lost so often.
    pub(super) lost: u64,
    wires: Vec<Slot>,
    free: Vec<u32>,
    queue: BinaryHeap<Reverse<Due>>,
    queued: u64,
    next_port: u16,
}

/// A machine with an address of its own, and at most one process on it.
#[derive(Debug, Default)]
pub(super) struct Host {
    /// Which process this is; grows.
    pub(super) process: u64,
    pub(super) runs: bool,
    /// Its power is off: it answers nothing, not even with a reset.
    pub(super) off: bool,
    /// Its process does not run for a while; its system does.
    pub(super) frozen: bool,
    /// Connections about which there is news. An id may be stale.
    pub(super) ready: VecDeque<ConnId>,
    /// Connections that wait to be accepted, over all listeners.
    pub(super) to_accept: usize,
    /// The next deadline of its mock itself, as of its last flush or poll.
    pub(super) deadline: Option<Instant>,
    pub(super) wake: Option<Arc<Wake>>,
}

impl Host {
    pub(super) fn has_work(&self, now: Instant) -> bool {
        self.runs
            && (!self.ready.is_empty()
                || self.to_accept > 0
                || self.deadline.is_some_and(|deadline| deadline <= now)
                || self.wake.as_ref().is_some_and(|wake| wake.is_pending()))
    }
}

#[derive(Debug)]
pub(super) struct Backlog {
    pub(super) max: usize,
    pub(super) waiting: VecDeque<WireId>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    wire: Option<Wire>,
}

/// What a mock must know of its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) connected: bool,
    pub(super) broken: Option<CloseReason>,
    pub(super) readable: usize,
    /// Nothing comes behind what is readable.
    pub(super) fin: bool,
}

/// Who answers at an endpoint.
pub(super) enum Route {
    Listener(HostId, Endpoint),
    Hand,
    Nobody(Option<HostId>),
    Unroutable,
}

impl State {
    pub(super) fn new(seed: u64, conditions: Conditions, by_hand: bool) -> Self {
        Self {
            now: Instant::ZERO,
            rng: fastrand::Rng::with_seed(seed),
            hosts: Vec::new(),
            paths: Paths::new(conditions),
            refusing: BTreeSet::new(),
            unroutable: BTreeSet::new(),
            by_hand,
            dialled: VecDeque::new(),
            listeners: BTreeMap::new(),
            tap: Tap::default(),
            relay: None,
            lost: 0,
            wires: Vec::new(),
            free: Vec::new(),
            queue: BinaryHeap::new(),
            queued: 0,
            next_port: FIRST_EPHEMERAL_PORT,
        }
    }
}

/// Time.
impl State {
    pub(super) fn next_event(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse(due)| due.at)
    }

    /// Lets happen what is due until `until`, each at its time.
    pub(super) fn move_to(&mut self, until: Instant) {
        while let Some(&Reverse(due)) = self.queue.peek()
            && due.at <= until
        {
            self.queue.pop();
            self.now = self.now.max(due.at);
            self.happen(due.event);
        }
        self.now = self.now.max(until);
    }

    /// Lets happen what is due.
    pub(super) fn settle(&mut self) {
        self.move_to(self.now);
    }

    pub(super) fn plan(&mut self, at: Instant, event: Event) {
        self.queued += 1;
        self.queue.push(Reverse(Due {
            at,
            order: self.queued,
            event,
        }));
    }
}

/// Hosts and listeners.
impl State {
    pub(super) fn host_mut(&mut self, host: HostId) -> &mut Host {
        &mut self.hosts[host.index()]
    }

    pub(super) fn listen(&mut self, host: HostId, at: &Endpoint, backlog: u32) -> io::Result<Endpoint> {
        let at = match at {
            Endpoint::Tcp(address) if address.port() == 0 => {
                Endpoint::Tcp(SocketAddr::new(address.ip(), self.ephemeral_port()))
            }
            at => at.clone(),
        };
        let key = (host, at.clone());
        if self.listeners.contains_key(&key) {
            let text = format!("cannot listen at {at}: the address is in use");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        // Linux holds one more than the backlog says.
        let max = (backlog as usize).saturating_add(1);
        let waiting = VecDeque::new();
        self.listeners.insert(key, Backlog { max, waiting });
        Ok(at)
    }

    /// Connections that were not accepted are reset, as a system does when a listening socket closes.
    pub(super) fn unlisten(&mut self, host: HostId, at: &Endpoint) {
        let Some(backlog) = self.listeners.remove(&(host, at.clone())) else {
            return;
        };
        self.host_mut(host).to_accept -= backlog.waiting.len();
        for wire in backlog.waiting {
            self.leave(wire, Side::Acceptor, true);
        }
    }

    /// Takes the next connection to be accepted at an endpoint.
    pub(super) fn accept(&mut self, host: HostId, at: &Endpoint) -> Option<WireId> {
        let backlog = self.listeners.get_mut(&(host, at.clone()))?;
        let wire = backlog.waiting.pop_front()?;
        self.host_mut(host).to_accept -= 1;
        Some(wire)
    }

    pub(super) fn ephemeral_port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = port.checked_add(1).unwrap_or(FIRST_EPHEMERAL_PORT);
        port
    }

    /// The process on a host is gone. Its system closes what it held (`reset`), or lost its memory too.
    pub(super) fn end_process(&mut self, host: HostId, reset: bool) {
        let own: Vec<Endpoint> = (self.listeners.keys())
            .filter(|(of, _)| *of == host)
            .map(|(_, at)| at.clone())
            .collect();
        for at in own {
            self.listeners.remove(&(host, at));
        }
        for wire in self.wires_of(|end_host| end_host == host) {
            for side in [Side::Dialler, Side::Acceptor] {
                let held =
                    (self.wire(wire)).is_some_and(|wire| wire.end(side).host == Some(host) && !wire.end(side).gone);
                match (held, reset) {
                    (true, true) => self.leave(wire, side, true),
                    (true, false) => self.vanish(wire, side),
                    (false, _) => {}
                }
            }
        }
        let state = self.host_mut(host);
        state.runs = false;
        state.frozen = false;
        state.ready.clear();
        state.to_accept = 0;
        state.deadline = None;
        state.wake = None;
    }

    /// Resets the connections between two hosts, at both ends.
    pub(super) fn reset_between(&mut self, one: HostId, other: HostId) -> usize {
        let mut count = 0;
        for id in self.wires_of(|host| host == one) {
            let Some(wire) = self.wire(id) else { continue };
            let ends = [wire.end(Side::Dialler).host, wire.end(Side::Acceptor).host];
            if ends == [Some(one), Some(other)] || ends == [Some(other), Some(one)] {
                self.break_end(id, Side::Dialler, CloseReason::Reset);
                self.break_end(id, Side::Acceptor, CloseReason::Reset);
                count += 1;
            }
        }
        count
    }

    /// Ends the connections between two hosts, each direction after a part of what is on its way.
    pub(super) fn tear_between(&mut self, one: HostId, other: HostId) -> usize {
        let mut count = 0;
        for id in self.wires_of(|host| host == one) {
            let Some(wire) = self.wire(id) else { continue };
            let ends = [wire.end(Side::Dialler).host, wire.end(Side::Acceptor).host];
            if ends != [Some(one), Some(other)] && ends != [Some(other), Some(one)] {
                continue;
            }
            for side in [Side::Dialler, Side::Acceptor] {
                let count = self.rng.u64(..);
                let Some(wire) = self.wire_mut(id) else { continue };
                wire.severed = true;
                wire.pipe_mut(side).tear(count);
                self.ready(id, side.other());
            }
            // What is left arrives first.
            let at = self.now + TEAR_DELAY;
            self.plan(at, Event::Torn { wire: id });
            count += 1;
        }
        count
    }

    fn wires_of(&self, is_wanted: impl Fn(HostId) -> bool) -> Vec<WireId> {
        let has_end = |wire: &Wire, side| wire.end(side).host.is_some_and(&is_wanted);
        let wires = self.wires.iter().enumerate();
        wires
            .filter_map(|(index, slot)| {
                let wire = slot.wire.as_ref()?;
                let wanted = has_end(wire, Side::Dialler) || has_end(wire, Side::Acceptor);
                wanted.then_some(WireId {
                    index: u32::try_from(index).expect("slots are made by u32"),
                    generation: slot.generation,
                })
            })
            .collect()
    }
}

/// Wires, as their ends use them.
impl State {
    pub(super) fn wire(&self, id: WireId) -> Option<&Wire> {
        let slot = self.wires.get(id.index as usize)?;
        slot.wire.as_ref().filter(|_| slot.generation == id.generation)
    }

    pub(super) fn wire_mut(&mut self, id: WireId) -> Option<&mut Wire> {
        let slot = self.wires.get_mut(id.index as usize)?;
        slot.wire.as_mut().filter(|_| slot.generation == id.generation)
    }

    pub(super) fn dial(
        &mut self,
        from: Option<HostId>,
        to: &Endpoint,
        conn: Option<ConnId>,
        timeout: Option<Duration>,
    ) -> WireId {
        let port = self.ephemeral_port();
        let source = match (from, to) {
            (_, Endpoint::Unix(_)) => Endpoint::Unix("".into()),
            (Some(host), Endpoint::Tcp(to)) if host_of(to.ip()).is_some() => host.address(port).into(),
            (_, Endpoint::Tcp(to)) => SocketAddr::new(to.ip(), port).into(),
        };
        let wire = Wire::new(source, to.clone(), from, conn);
        let index = self.free.pop().unwrap_or_else(|| {
            self.wires.push(Slot {
                generation: 0,
                wire: None,
            });
            u32::try_from(self.wires.len() - 1).expect("memory ends before 2^32 wires")
        });
        let slot = &mut self.wires[index as usize];
        slot.wire = Some(wire);
        let id = WireId {
            index,
            generation: slot.generation,
        };
        if let Some(timeout) = timeout {
            self.plan(self.now + timeout, Event::DialTimeout { wire: id });
        }
        let target = match self.route(from, to) {
            Route::Listener(host, _) | Route::Nobody(Some(host)) => Some(host),
            Route::Hand | Route::Nobody(None) | Route::Unroutable => None,
        };
        let at = self.now + self.latency(from, target);
        self.plan(at, Event::Dial { wire: id, attempt: 0 });
        id
    }

    pub(super) fn view(&self, id: WireId, side: Side) -> View {
        let Some(wire) = self.wire(id) else {
            return View {
                connected: false,
                broken: Some(CloseReason::Reset),
                readable: 0,
                fin: false,
            };
        };
        let incoming = wire.pipe(side.other());
        View {
            connected: wire.connected,
            broken: wire.end(side).broken,
            readable: incoming.arrived(),
            fin: incoming.fin_arrived,
        }
    }

    /// Takes from `segments` what there is room for. Returns how many bytes.
    pub(super) fn send(&mut self, id: WireId, side: Side, segments: &mut Segments) -> usize {
        let Some((room, _)) = self.room(id, side) else {
            return 0;
        };
        let count = room.min(segments.len());
        let mut left = count;
        let mut put = 0;
        for slice in segments.slices() {
            let part = left.min(slice.len());
            put += self.put(id, side, &slice[..part]);
            left -= part;
            if left == 0 {
                break;
            }
        }
        segments.advance(count);
        let wire = self.wire_mut(id).expect("there was room in it");
        wire.pipe_mut(side).wants_room |= !segments.is_empty();
        self.launch(id, side, put, false);
        count
    }

    /// The same for bytes of a hand.
    pub(super) fn send_bytes(&mut self, id: WireId, side: Side, bytes: &[u8]) -> usize {
        let Some((room, _)) = self.room(id, side) else {
            return 0;
        };
        let count = room.min(bytes.len());
        let put = self.put(id, side, &bytes[..count]);
        self.launch(id, side, put, false);
        count
    }

    /// Puts bytes into a wire, past whoever looks and by way of a relay. Returns how many go on.
    fn put(&mut self, id: WireId, side: Side, bytes: &[u8]) -> usize {
        let slot = &mut self.wires[id.index as usize];
        let wire = slot.wire.as_mut().expect("there was room in it");
        let (from, to) = (wire.end(side).host, wire.end(side.other()).host);
        let (Some(from), Some(to)) = (from, to) else {
            wire.pipe_mut(side).put(bytes);
            return bytes.len();
        };
        let port = wire.port();
        if let Some(tap) = &mut self.tap.0 {
            tap(&Leaving {
                at: self.now,
                from,
                to,
                port,
                stream: id.stream(side),
                bytes,
            });
        }
        if let Some(relay) = self.relay.as_mut().filter(|relay| relay.port == port) {
            let pipe = wire.pipe_mut(side);
            let course = (from, to, side == Side::Dialler);
            let passed = relay.pass(&mut pipe.held, course, bytes, &mut self.rng);
            pipe.put(&passed);
            return passed.len();
        }
        wire.pipe_mut(side).put(bytes);
        bytes.len()
    }

    /// Ends what `side` sends.
    pub(super) fn end(&mut self, id: WireId, side: Side) {
        let Some(wire) = self.wire_mut(id) else { return };
        let pipe = wire.pipe_mut(side);
        if !pipe.fin_sent {
            pipe.fin_sent = true;
            self.launch(id, side, 0, true);
        }
    }

    /// Moves at most `max` bytes that arrived at `side` behind `into`.
    pub(super) fn read(&mut self, id: WireId, side: Side, into: &mut Vec<u8>, max: usize) -> usize {
        let Some(wire) = self.wire(id) else { return 0 };
        let (sender, reader) = (wire.end(side.other()).host, wire.end(side).host);
        let arrived = wire.pipe(side.other()).arrived();
        let mut max = arrived.min(max);
        if max > 1 && self.paths.conditions(sender, reader).split && self.rng.u8(..) < 64 {
            max = self.rng.usize(1..=max);
        }
        let wire = self.wire_mut(id).expect("it was here a moment ago");
        let count = wire.pipe_mut(side.other()).read(into, max);
        self.tell_room(id, side.other());
        count
    }

    /// Throws away what arrived at `side`, and says how much that was.
    pub(super) fn discard(&mut self, id: WireId, side: Side) -> usize {
        let Some(wire) = self.wire_mut(id) else { return 0 };
        let pipe = wire.pipe_mut(side.other());
        let arrived = pipe.arrived();
        pipe.discard(arrived);
        self.tell_room(id, side.other());
        arrived
    }

    /// `side` lets go of its end, as by closing a socket: what it sent still arrives, then the end. If something
    /// arrived that it did not read, or if it aborts, the other side is reset.
    pub(super) fn leave(&mut self, id: WireId, side: Side, abort: bool) {
        let Some(wire) = self.wire_mut(id) else { return };
        let other = side.other();
        let unread = wire.pipe(other).arrived() > 0;
        let arrived = wire.pipe(other).arrived();
        wire.pipe_mut(other).discard(arrived);
        wire.end_mut(side).gone = true;
        if wire.is_gone() {
            self.remove(id);
        } else if abort || unread {
            wire.pipe_mut(side).drop_flights();
            self.send_reset(id, other);
        } else {
            self.end(id, side);
        }
    }

    /// `side` is gone without a trace.
    fn vanish(&mut self, id: WireId, side: Side) {
        let Some(wire) = self.wire_mut(id) else { return };
        wire.end_mut(side).gone = true;
        wire.pipe_mut(side).drop_flights();
        let arrived = wire.pipe(side.other()).arrived();
        wire.pipe_mut(side.other()).discard(arrived);
        if wire.is_gone() {
            self.remove(id);
        }
    }

    /// Makes `side` unusable, with a reason for its holder.
    pub(super) fn break_end(&mut self, id: WireId, side: Side, reason: CloseReason) {
        let Some(wire) = self.wire_mut(id) else { return };
        wire.end_mut(side).broken.get_or_insert(reason);
        self.ready(id, side);
    }

    /// Puts `side` into its host's queue.
    pub(super) fn ready(&mut self, id: WireId, side: Side) {
        let Some(wire) = self.wire_mut(id) else { return };
        let end = wire.end_mut(side);
        if let (Some(host), Some(conn), false, false) = (end.host, end.conn, end.ready, end.gone) {
            end.ready = true;
            self.host_mut(host).ready.push_back(conn);
        }
    }

    /// A hand takes a connect that waits for it.
    pub(super) fn accept_by_hand(&mut self, id: WireId) {
        let Some(wire) = self.wire_mut(id) else { return };
        if !wire.connected {
            wire.connected = true;
            wire.end_mut(Side::Acceptor).gone = false;
            self.ready(id, Side::Dialler);
        }
    }

    /// Nobody looks at a connection any more whose other side was played by a mock's own hand.
    pub(super) fn forget_hand(&mut self, id: WireId, hand: Side) {
        let is_over = (self.wire(id)).is_some_and(|wire| {
            let end = wire.end(hand);
            end.host.is_none() && !end.held && wire.end(hand.other()).gone
        });
        if is_over {
            self.leave(id, hand, true);
        }
    }
}

/// Paths.
impl State {
    pub(super) fn route(&self, from: Option<HostId>, to: &Endpoint) -> Route {
        let address = match to {
            Endpoint::Tcp(address) => Some(address),
            Endpoint::Unix(_) => None,
        };
        if address.is_some_and(|address| self.unroutable.contains(&address.ip())) {
            return Route::Unroutable;
        }
        let owner = address.and_then(|address| host_of(address.ip()));
        let owner = owner.filter(|host| host.index() < self.hosts.len());
        let candidates = [to.clone(), wildcard(to)];
        let find = |host: HostId| {
            let keys = candidates.iter().map(|at| (host, at.clone()));
            let mut found = keys.filter(|key| self.listeners.contains_key(key));
            found.next().map(|(host, at)| Route::Listener(host, at))
        };
        let everybody = (0..self.hosts.len()).map(HostId::from_index);
        let listener = match owner {
            Some(host) => find(host),
            None => from.into_iter().chain(everybody).find_map(find),
        };
        match listener {
            _ if self.refusing.contains(to) => Route::Nobody(owner),
            Some(listener) => listener,
            None if self.by_hand => Route::Hand,
            None => Route::Nobody(owner),
        }
    }

    pub(super) fn latency(&mut self, from: Option<HostId>, to: Option<HostId>) -> Duration {
        let conditions = self.paths.conditions(from, to);
        conditions.latency.draw(&mut self.rng)
    }

    pub(super) fn is_cut(&self, from: Option<HostId>, to: Option<HostId>) -> bool {
        let is_off = |host: Option<HostId>| host.is_some_and(|host| self.hosts[host.index()].off);
        self.paths.is_blocked(from, to) || is_off(from) || is_off(to)
    }

    pub(super) fn is_lost(&mut self, from: Option<HostId>, to: Option<HostId>) -> bool {
        let loss = self.paths.conditions(from, to).loss;
        let is_lost = loss > 0.0 && self.rng.f64() < loss;
        self.lost += u64::from(is_lost);
        is_lost
    }

    /// The wire and how many bytes `side` may send.
    fn room(&mut self, id: WireId, side: Side) -> Option<(usize, &mut Wire)> {
        let wire = self.wire(id)?;
        let conditions = (self.paths).conditions(wire.end(side).host, wire.end(side.other()).host);
        if wire.severed {
            return None;
        }
        let room = wire.pipe(side).room(conditions.window);
        Some((room, self.wire_mut(id)?))
    }

    fn launch(&mut self, id: WireId, side: Side, bytes: usize, fin: bool) {
        if bytes == 0 && !fin {
            return;
        }
        let Some(wire) = self.wire(id) else { return };
        let (from, to) = (wire.end(side).host, wire.end(side.other()).host);
        let conditions = self.paths.conditions(from, to);
        let latency = conditions.latency.draw(&mut self.rng);
        let now = self.now;
        let wire = self.wire_mut(id).expect("it was here a moment ago");
        let pipe = wire.pipe_mut(side);
        let mut departs = now;
        if let Some(bandwidth) = conditions.bandwidth {
            let nanos = (bytes as u128 * 1_000_000_000) / u128::from(bandwidth.max(1));
            let span = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            departs = pipe.busy_until.max(now) + span;
            pipe.busy_until = departs;
        }
        let arrives = pipe.not_before.max(departs + latency);
        if pipe.launch(Flight { arrives, bytes, fin }) {
            self.plan(arrives, Event::Arrive { wire: id, side });
        }
    }

    /// After reading: lets the sender know, if it waits. Once at least half of the window is free, so that a slow
    /// reader does not make it send crumbs (RFC 1122 §4.2.3.3).
    fn tell_room(&mut self, id: WireId, sender: Side) {
        let Some(wire) = self.wire(id) else { return };
        let (from, to) = (wire.end(sender).host, wire.end(sender.other()).host);
        let window = self.paths.conditions(from, to).window;
        let pipe = wire.pipe(sender);
        if !pipe.wants_room || pipe.room(window) < window / 2 {
            return;
        }
        let at = self.now + self.latency(to, from);
        let wire = self.wire_mut(id).expect("it was here a moment ago");
        wire.pipe_mut(sender).wants_room = false;
        self.plan(at, Event::Room { wire: id, side: sender });
    }

    pub(super) fn send_reset(&mut self, id: WireId, to: Side) {
        let Some(wire) = self.wire(id) else { return };
        let (sender, receiver) = (wire.end(to.other()).host, wire.end(to).host);
        let at = self.now + self.latency(sender, receiver);
        self.plan(at, Event::Reset { wire: id, side: to });
    }

    fn remove(&mut self, id: WireId) {
        let slot = &mut self.wires[id.index as usize];
        let wire = slot.wire.take();
        if let (Some(relay), Some(mut wire)) = (&mut self.relay, wire)
            && relay.port == wire.port()
        {
            for side in [Side::Dialler, Side::Acceptor] {
                if let (Some(from), Some(to)) = (wire.end(side).host, wire.end(side.other()).host) {
                    relay.remember((from, to, side == Side::Dialler), &mut wire.pipe_mut(side).held);
                }
            }
        }
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
    }
}

/// The host that has an address: `10.0.0.0/8` and `fd00::/104`, counted from 1.
fn host_of(ip: IpAddr) -> Option<HostId> {
    let number = match ip {
        IpAddr::V4(ip) if ip.octets()[0] == 10 => u32::from(ip) & 0x00ff_ffff,
        IpAddr::V6(ip) if ip.segments()[..6] == [0xfd00, 0, 0, 0, 0, 0] => {
            u32::try_from(u128::from(ip) & 0xffff_ffff).expect("it is masked")
        }
        _ => return None,
    };
    number.checked_sub(1).map(HostId)
}

/// The endpoint at which somebody would listen who takes every address of a host.
fn wildcard(at: &Endpoint) -> Endpoint {
    match at {
        Endpoint::Tcp(SocketAddr::V4(address)) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())).into(),
        Endpoint::Tcp(SocketAddr::V6(address)) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port())).into(),
        Endpoint::Unix(_) => at.clone(),
    }
}
