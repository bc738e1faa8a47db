//! What joins mocks: hosts, a clock and everything that can go wrong between them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kraft_core::adapter::Endpoint;
use kraft_core::time::Instant;

use super::Mock;
use super::conditions::Conditions;
use super::relay::{Happened, Leaving, Meddling, Relay};
use super::remote::Remote;
use super::state::State;
use super::wire::Side;
use crate::Config;

/// A machine of a [`Network`], with an address of its own and at most one mock at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub(super) u32);

impl HostId {
    /// Where it stands among the hosts of its network, from 0.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Its address, `10.0.0.1` for the first, with a port.
    #[must_use]
    pub fn address(self, port: u16) -> SocketAddr {
        let [_, a, b, c] = (self.0 + 1).to_be_bytes();
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, a, b, c)), port)
    }

    pub(super) fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).expect("hosts are made by u32"))
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host {}", self.0 + 1)
    }
}

/// A network of mocks in one thread, with one virtual clock for all. Clones are the same network.
///
/// Everything that happens on it follows from its seed and from what is done to it and to its mocks, in order: a run
/// that is done again with the same seed is the same run, byte for byte.
///
/// # Time
///
/// Time passes only in [`advance`](Self::advance) and [`move_to`](Self::move_to), and in a mock's `poll` that waits. Who
/// steps several nodes lets each do a turn with a deadline of `now`, which does not wait, and then calls `advance`:
///
/// ```
/// use std::time::Duration;
/// use kraft_adapters::Config;
/// use kraft_adapters::mock::Network;
/// use kraft_core::adapter::{Adapter, Event, ListenOptions};
///
/// let network = Network::new(7);
/// let (one, two) = (network.add_host(), network.add_host());
/// let mut mocks = [network.open(one, &Config::default())?, network.open(two, &Config::default())?];
/// mocks[1].listen(&two.address(7000).into(), ListenOptions::default())?;
/// let conn = mocks[0].connect(&two.address(7000).into())?;
/// mocks[0].link(conn).expect("it was made").outbox().put(b"hello").expect("it fits");
/// mocks[0].flush()?;
///
/// let mut heard = Vec::new();
/// let until = network.now() + Duration::from_secs(1);
/// while let Some(host) = network.advance(until) {
///     mocks[host.index()].poll(Some(network.now()), |_, event| {
///         if let Event::Received { bytes, .. } = event {
///             heard.extend_from_slice(bytes);
///         }
///     })?;
/// }
/// assert_eq!(heard, b"hello");
/// # Ok::<_, std::io::Error>(())
/// ```
///
/// A node has deadlines of its own besides those of its mock's timers; `until` is the least of them.
///
/// # Addresses
///
/// Each host has an address ([`HostId::address`]), and what is dialled there is answered by that host alone. Any other
/// (loopback, a Unix path) is looked for on the dialler's host first, then on all others, so that tests can use what
/// they would use on real sockets.
///
/// # Faults
///
/// Directions between hosts can be [cut](Self::cut), [clogged](Self::clog) and given
/// [conditions](Self::set_conditions_between); hosts [crash](Self::crash), lose [power](Self::power_off) and
/// [freeze](Self::freeze). What is lost is sent again as TCP does, until the sender's end gives up and closes with
/// `TimedOut`.
#[derive(Clone, Debug)]
pub struct Network {
    state: Arc<Mutex<State>>,
}

impl Network {
    /// A network of [`Conditions::LAN`], at time zero, without hosts.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(State::new(seed, Conditions::LAN, false))
    }

    /// A network without delays on which a hand plays whoever is dialled and is not there: such connects wait in
    /// [`dialled`](Self::dialled) instead of being refused.
    #[must_use]
    pub fn by_hand() -> Self {
        Self::with(State::new(0, Conditions::INSTANT, true))
    }

    fn with(state: State) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete before something can panic that is not a bug of the network.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a host.
    #[must_use]
    pub fn add_host(&self) -> HostId {
        let mut state = self.state();
        state.hosts.push(Default::default());
        HostId::from_index(state.hosts.len() - 1)
    }

    /// Starts the process of a host: a mock with nothing open. Also after a crash, and after a loss of power, which
    /// comes back with it.
    ///
    /// # Errors
    ///
    /// If `config` is out of range.
    ///
    /// # Panics
    ///
    /// If the host's mock lives: drop it or let it [crash](Self::crash) first.
    pub fn open(&self, host: HostId, config: &Config) -> std::io::Result<Mock> {
        Mock::open(self, host, config)
    }
}

/// Time.
impl Network {
    /// The time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.state().now
    }

    /// When something happens next: something arrives, or a mock's timer is due. It may concern nobody by then.
    #[must_use]
    pub fn next_event(&self) -> Option<Instant> {
        let state = self.state();
        let awake = state.hosts.iter().filter(|host| host.runs && !host.frozen);
        let deadlines = awake.filter_map(|host| host.deadline);
        deadlines.chain(state.next_event()).min()
    }

    /// Moves the clock to the next moment at which a mock has work, no further than `until`, and says whose; if
    /// several have, one that the seed picks. The clock stays as long as one has. `None` if none has until then, and
    /// the clock is at `until`.
    ///
    /// A mock has work until it was polled. Its timers count as of its last `flush` or `poll`.
    pub fn advance(&self, until: Instant) -> Option<HostId> {
        let mut state = self.state();
        loop {
            state.settle();
            if let Some(host) = pick(&mut state) {
                return Some(host);
            }
            if state.now >= until {
                return None;
            }
            let awake = state.hosts.iter().filter(|host| host.runs && !host.frozen);
            let deadlines = awake.filter_map(|host| host.deadline);
            let next = deadlines.chain(state.next_event()).min();
            let to = next.map_or(until, |next| next.min(until)).max(state.now);
            state.move_to(to);
        }
    }

    /// Moves the clock to `to`, and lets happen on the way what is due.
    pub fn move_to(&self, to: Instant) {
        let mut state = self.state();
        let to = to.max(state.now);
        state.move_to(to);
    }
}

/// Conditions.
impl Network {
    /// How every direction is that has no conditions of its own.
    pub fn set_conditions(&self, conditions: Conditions) {
        self.state().paths.set_usual(conditions);
    }

    /// How the direction from one host to another is.
    pub fn set_conditions_between(&self, from: HostId, to: HostId, conditions: Conditions) {
        self.state().paths.set(from, to, conditions);
    }

    /// Cuts the direction from one host to another: nothing gets across until [`mend`](Self::mend) or
    /// [`heal`](Self::heal). Acknowledgements go the other way: with one direction cut, the other still delivers, and
    /// its sender gives up in the end.
    pub fn cut(&self, from: HostId, to: HostId) {
        self.state().paths.block(from, to, true);
    }

    /// Takes a [`cut`](Self::cut) back.
    pub fn mend(&self, from: HostId, to: HostId) {
        self.state().paths.block(from, to, false);
    }

    /// Cuts both directions between every host of one group and every host of another.
    pub fn partition(&self, one: &[HostId], other: &[HostId]) {
        let mut state = self.state();
        for &a in one {
            for &b in other {
                state.paths.block(a, b, true);
                state.paths.block(b, a, true);
            }
        }
    }

    /// Holds everything from one host to another back for `span`; then it goes on at once, in order.
    pub fn clog(&self, from: HostId, to: HostId, span: Duration) {
        let mut state = self.state();
        let until = state.now + span;
        state.paths.clog(from, to, until);
    }

    /// Takes all cuts and clogs back. What was lost meanwhile is sent again when its sender tries next.
    pub fn heal(&self) {
        self.state().paths.heal();
    }

    /// Refuses whoever dials `at`, although somebody may listen there.
    pub fn refuse(&self, at: Endpoint) {
        self.state().refusing.insert(at);
    }

    /// Takes a [`refuse`](Self::refuse) back.
    pub fn admit(&self, at: &Endpoint) {
        self.state().refusing.remove(at);
    }

    /// Leaves no way to an address.
    pub fn make_unroutable(&self, ip: IpAddr) {
        self.state().unroutable.insert(ip);
    }

    /// Resets every connection between two hosts, at both ends, as a middlebox does that forgot them. Returns how many.
    pub fn reset(&self, one: HostId, other: HostId) -> usize {
        self.state().reset_between(one, other)
    }

    /// Ends every connection between two hosts in the middle: of what is on its way a random part still arrives, down
    /// to the byte. Returns how many.
    pub fn tear(&self, one: HostId, other: HostId) -> usize {
        self.state().tear_between(one, other)
    }

    /// Takes the conditions of one direction back: those for all hold again.
    pub fn unset_conditions_between(&self, from: HostId, to: HostId) {
        self.state().paths.unset(from, to);
    }
}

/// On the way.
impl Network {
    /// Shows `tap` all bytes that leave a host for another one. It must not call the network.
    pub fn tap(&self, tap: impl FnMut(&Leaving<'_>) + Send + 'static) {
        self.state().tap.0 = Some(Box::new(tap));
    }

    /// Puts a relay in the way of all connections to a port, which takes the streams apart into frames and passes these
    /// on. `frame_bytes` says how long a frame is that begins with some bytes, once they tell. Until it is told to
    /// [`meddle`](Self::meddle) it only holds frames until they are whole.
    pub fn relay(&self, port: u16, frame_bytes: fn(&[u8]) -> Option<usize>) {
        self.state().relay = Some(Relay::new(port, frame_bytes));
    }

    /// What chance did so far of what it was allowed to do.
    #[must_use]
    pub fn happened(&self) -> Happened {
        let state = self.state();
        let relay = state.relay.as_ref().map(|relay| relay.happened);
        Happened {
            lost: state.lost,
            ..relay.unwrap_or_default()
        }
    }

    /// What the relay does to frames from here on. The first frame of each connection, which says who sends, always
    /// comes once and first.
    pub fn meddle(&self, meddling: Meddling) {
        if let Some(relay) = &mut self.state().relay {
            relay.meddling = meddling;
        }
    }
}

/// Hosts.
impl Network {
    /// Ends the process of a host as `kill -9` does: its system resets what it held, and nobody listens. A mock that
    /// is still there answers with errors.
    pub fn crash(&self, host: HostId) {
        self.state().end_process(host, true);
    }

    /// Turns a host off: its peers hear nothing, and what they send gets no answer until it is
    /// [opened](Self::open) again.
    pub fn power_off(&self, host: HostId) {
        let mut state = self.state();
        state.end_process(host, false);
        state.host_mut(host).off = true;
    }

    /// Stops the process of a host as SIGSTOP does: its system goes on, and `advance` passes it over.
    pub fn freeze(&self, host: HostId) {
        self.state().host_mut(host).frozen = true;
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self, host: HostId) {
        self.state().host_mut(host).frozen = false;
    }

    /// Whether a host's process runs: opened, not crashed, not dropped.
    #[must_use]
    pub fn is_running(&self, host: HostId) -> bool {
        self.state().host_mut(host).runs
    }
}

/// By hand.
impl Network {
    /// The next connect that waits for a hand, on a network [`by_hand`](Self::by_hand).
    #[must_use]
    pub fn dialled(&self) -> Option<Remote> {
        let mut state = self.state();
        state.settle();
        while let Some(wire) = state.dialled.pop_front() {
            if state.wire(wire).is_some() {
                drop(state);
                return Some(Remote::new(self, wire, Side::Acceptor));
            }
        }
        None
    }

    /// Dials a mock by hand, from outside of all hosts.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused` if no mock listens there.
    pub fn dial(&self, to: &Endpoint) -> std::io::Result<Remote> {
        let mut state = self.state();
        let wire = state.dial(None, to, None, None);
        state.settle();
        let connected = state.wire(wire).is_some_and(|wire| wire.connected);
        drop(state);
        let remote = Remote::new(self, wire, Side::Dialler);
        match connected {
            true => Ok(remote),
            false => Err(std::io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

fn pick(state: &mut State) -> Option<HostId> {
    let now = state.now;
    let has_work = |host: &super::state::Host| host.has_work(now) && !host.frozen;
    let count = state.hosts.iter().filter(|host| has_work(host)).count();
    let nth = match count {
        0 => return None,
        1 => 0,
        count => state.rng.usize(..count),
    };
    let mut hosts = state.hosts.iter().enumerate().filter(|(_, host)| has_work(host));
    let (index, _) = hosts.nth(nth)?;
    Some(HostId::from_index(index))
}
