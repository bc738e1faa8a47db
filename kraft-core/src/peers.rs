//! Connections to the other nodes: whom to dial, when, and where the last attempt got to.

mod follow;

use std::time::Duration;

use fastrand::Rng;

use crate::adapter::Endpoint;
use crate::handshake::{Member, Policy};
use crate::id::{ConnId, Incarnation, Index, NodeId};
use crate::time::Instant;

pub use self::follow::{Followed, Known};

/// How long to wait between dials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the second dial; doubled for each further one.
    pub min: Duration,
    /// Never longer than this.
    pub max: Duration,
}

impl Default for Backoff {
    /// 10 ms to 2 s: a restarted peer is found within an election timeout or two, a dead one costs nothing.
    fn default() -> Self {
        Self {
            min: Duration::from_millis(10),
            max: Duration::from_secs(2),
        }
    }
}

/// One other node of the cluster.
///
/// Requests to it leave on `dialled`, replies on `accepted`: two nodes that dial each other at once need no rule for
/// which connection survives.
#[derive(Debug)]
pub struct Peer {
    /// Its id.
    pub node: NodeId,
    /// `HOST:PORT` as configured; resolved afresh at each dial.
    pub address: String,
    /// The connection that we dialled, once it was welcomed.
    pub dialled: Option<ConnId>,
    /// The connection that it dialled, once we welcomed it.
    pub accepted: Option<ConnId>,
    /// The life of its data folder, once that is on our disk.
    pub incarnation: Option<Incarnation>,
    /// When a message of it last came.
    pub heard: Option<Instant>,
    /// When a message of it last came on `accepted`. What comes on `dialled` says nothing of that connection: its end
    /// over there may be long gone, and a newer one must then take its place.
    pub accepted_heard: Option<Instant>,
    /// The incarnation that is on its way to our disk.
    remembering: Option<Incarnation>,
    /// What our last hello to it drew.
    pub nonce: u64,
    /// The life of its data folder, as it said on its newest connection.
    pub seen: Option<Incarnation>,
    standing: Standing,
    /// It is a member no more, and is taken leave of then.
    parts_at: Option<Instant>,
    dial: Dial,
    failures: u32,
}

/// Why a node is among the peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// A configuration that may be needed says that it is a member.
    Member,
    /// It is dialled to learn who it is, before it is added.
    Asked,
    /// It came by itself, and may be a member by a configuration that this node does not know so far.
    Guest,
}

/// Where dialling stands.
#[derive(Debug)]
enum Dial {
    /// Is not dialled: nobody knows where it is.
    Never,
    /// Dials at this time.
    Waiting(Instant),
    /// Waits for addresses.
    Resolving,
    /// Connects, or shakes hands; the addresses not yet tried follow.
    Trying(ConnId, Vec<Endpoint>),
    /// Has had a connection since then.
    Up(Instant),
}

/// What to do next about a peer that is due.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Resolve this name and call [`Peers::resolved`].
    Resolve(String),
    /// Connect there and call [`Peers::connecting`].
    Connect(Endpoint, Vec<Endpoint>),
}

/// All other nodes.
#[derive(Debug)]
pub struct Peers {
    all: Vec<Peer>,
    /// Former members.
    removed: Vec<NodeId>,
    /// Where the newest committed configuration stands.
    membership: Index,
    /// This node waits to be told who the members are.
    joins: bool,
    backoff: Backoff,
    rng: Rng,
}

impl Peers {
    /// Peers to be dialled at once. `seed` draws the jitter of back-off.
    pub fn new(
        members: impl Iterator<Item = (NodeId, String, Option<Incarnation>)>,
        backoff: Backoff,
        seed: u64,
        now: Instant,
    ) -> Self {
        let all = members
            .map(|(node, address, incarnation)| {
                Peer::new(
                    &Known {
                        node,
                        address,
                        incarnation,
                    },
                    now,
                )
            })
            .collect();
        Self {
            all,
            removed: Vec::new(),
            membership: Index::ZERO,
            joins: false,
            backoff,
            rng: Rng::with_seed(seed),
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.all.iter()
    }

    /// The peer with this id.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<&Peer> {
        self.all.iter().find(|peer| peer.node == node)
    }

    /// The peer with this id, to change.
    pub fn get_mut(&mut self, node: NodeId) -> Option<&mut Peer> {
        self.all.iter_mut().find(|peer| peer.node == node)
    }

    /// When the next dial is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.all
            .iter()
            .filter_map(|peer| match (peer.parts_at, &peer.dial) {
                (Some(at), _) => Some(at),
                (None, Dial::Waiting(at)) => Some(*at),
                (None, _) => None,
            })
            .min()
    }

    /// The next peer that is due, and what to do about it. An address that is no name needs no resolving.
    pub fn due(&mut self, now: Instant) -> Option<(NodeId, Step)> {
        let peer = self
            .all
            .iter_mut()
            .find(|peer| peer.parts_at.is_none() && matches!(peer.dial, Dial::Waiting(at) if at <= now))?;
        peer.dial = Dial::Resolving;
        let step = peer.address.parse().map_or_else(
            |_| Step::Resolve(peer.address.clone()),
            |address| Step::Connect(Endpoint::Tcp(address), Vec::new()),
        );
        Some((peer.node, step))
    }

    /// Takes the addresses of a name; the first is to be connected to. `None` if there are none: the dial failed.
    pub fn resolved(&mut self, node: NodeId, mut addresses: Vec<Endpoint>, now: Instant) -> Option<Step> {
        let waits = self.get(node).is_some_and(|peer| matches!(peer.dial, Dial::Resolving));
        if !waits {
            return None;
        }
        if addresses.is_empty() {
            self.failed(node, now);
            return None;
        }
        let first = addresses.remove(0);
        Some(Step::Connect(first, addresses))
    }

    /// Draws the nonce of a hello to `node`.
    pub fn draw_nonce(&mut self, node: NodeId) -> u64 {
        let nonce = self.rng.u64(..);
        if let Some(peer) = self.get_mut(node) {
            peer.nonce = nonce;
        }
        nonce
    }

    /// `incarnation` is to be recorded; whether it must be, because none is on its way yet.
    pub fn begin_remembering(&mut self, node: NodeId, incarnation: Incarnation) -> bool {
        self.get_mut(node).is_some_and(|peer| {
            let first = peer.remembering.is_none() && peer.incarnation.is_none();
            peer.remembering.get_or_insert(incarnation);
            first
        })
    }

    /// `incarnation` is recorded.
    pub fn remembered(&mut self, node: NodeId, incarnation: Incarnation) {
        if let Some(peer) = self.get_mut(node) {
            peer.remembering = None;
            peer.incarnation = Some(incarnation);
        }
    }

    /// Whether the last dial to `node` was the first that failed in a row.
    #[must_use]
    pub fn failed_first(&self, node: NodeId) -> bool {
        self.get(node).is_some_and(|peer| peer.failures == 1)
    }

    /// The adapter connects; these addresses are left to try after it.
    pub fn connecting(&mut self, node: NodeId, conn: ConnId, rest: Vec<Endpoint>) {
        if let Some(peer) = self.get_mut(node) {
            peer.dial = Dial::Trying(conn, rest);
        }
    }

    /// The peer welcomed us on `conn`. Returns false if that is not the connection that was dialled last.
    pub fn welcomed(&mut self, node: NodeId, conn: ConnId, now: Instant) -> bool {
        let Some(peer) = self.get_mut(node) else { return false };
        if !matches!(peer.dial, Dial::Trying(trying, _) if trying == conn) {
            return false;
        }
        peer.dial = Dial::Up(now);
        peer.dialled = Some(conn);
        true
    }

    /// A dialled connection closed, before or after it was welcomed. Returns the next address of the same name to try
    /// at once; `None` if the next dial waits.
    pub fn closed(&mut self, node: NodeId, conn: ConnId, now: Instant) -> Option<Step> {
        let lives_long = self.backoff.max;
        let peer = self.get_mut(node)?;
        if peer.dialled == Some(conn) {
            peer.dialled = None;
            // A peer that welcomes us and hangs up at once is as good as dead: its welcome ends no back-off.
            if matches!(peer.dial, Dial::Up(since) if now >= since + lives_long) {
                peer.failures = 0;
            }
            self.failed(node, now);
            return None;
        }
        let Dial::Trying(trying, rest) = &mut peer.dial else {
            return None;
        };
        if *trying != conn {
            return None;
        }
        if rest.is_empty() {
            self.failed(node, now);
            return None;
        }
        let mut rest = std::mem::take(rest);
        let next = rest.remove(0);
        peer.dial = Dial::Resolving;
        Some(Step::Connect(next, rest))
    }

    /// A dial failed: waits, longer after each failure, and by chance, so that nodes that lost the same peer do not
    /// come back in step.
    pub fn failed(&mut self, node: NodeId, now: Instant) {
        let Backoff { min, max } = self.backoff.clone();
        let jitter = self.rng.f64();
        let Some(peer) = self.get_mut(node) else { return };
        let longest = min.saturating_mul(1 << peer.failures.min(20)).min(max);
        peer.failures += 1;
        peer.dial = Dial::Waiting(now + longest.mul_f64(0.5 + jitter / 2.0));
    }
}

impl Policy for Peers {
    fn member(&self, node: NodeId) -> Member {
        if self.removed.contains(&node) {
            return Member::Removed;
        }
        match self.get(node) {
            None => Member::Unknown,
            Some(peer) if peer.standing != Standing::Member => Member::Provisional,
            Some(Peer { incarnation: None, .. }) => Member::New,
            Some(Peer {
                incarnation: Some(incarnation),
                ..
            }) => Member::Known(*incarnation),
        }
    }

    fn admits(&self, _: NodeId, membership: Index) -> bool {
        self.has_room_for_guests() && (self.joins || membership > self.membership)
    }

    fn heard(&self, node: NodeId) -> Option<Instant> {
        let peer = self.get(node)?;
        peer.accepted.and(peer.accepted_heard)
    }

    fn is_own_nonce(&self, nonce: u64) -> bool {
        self.all.iter().any(|peer| peer.nonce == nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(address: &str) -> Peers {
        let members = [(NodeId(2), address.to_owned(), None)];
        Peers::new(members.into_iter(), Backoff::default(), 1, Instant::ZERO)
    }

    fn endpoint(port: u16) -> Endpoint {
        Endpoint::Tcp(([127, 0, 0, 1], port).into())
    }

    #[test]
    fn every_address_of_a_name_is_tried_in_turn() {
        let mut peers = peers("db.example:1");
        let (node, step) = peers.due(Instant::ZERO).expect("dialled at once");
        assert_eq!(step, Step::Resolve("db.example:1".into()));
        let step = peers.resolved(node, vec![endpoint(1), endpoint(2)], Instant::ZERO);
        assert_eq!(step, Some(Step::Connect(endpoint(1), vec![endpoint(2)])));
        let first = ConnId::new(0, 1);
        peers.connecting(node, first, vec![endpoint(2)]);
        assert_eq!(
            peers.closed(node, first, Instant::ZERO),
            Some(Step::Connect(endpoint(2), vec![]))
        );
        let second = ConnId::new(0, 2);
        peers.connecting(node, second, vec![]);
        assert_eq!(
            peers.closed(node, first, Instant::ZERO),
            None,
            "a stale connection changes nothing"
        );
        assert!(peers.welcomed(node, second, Instant::ZERO));
        assert_eq!(peers.deadline(), None);
    }

    #[test]
    fn only_a_connection_that_lasted_ends_the_back_off() {
        let mut peers = peers("127.0.0.1:1");
        let mut now = Instant::ZERO;
        let mut wait_after = |lasts: Duration, attempt: u32| {
            let (node, _) = peers.due(now).expect("due");
            let conn = ConnId::new(0, attempt);
            peers.connecting(node, conn, Vec::new());
            assert!(peers.welcomed(node, conn, now));
            now += lasts;
            assert_eq!(peers.closed(node, conn, now), None);
            let wait = peers.deadline().expect("waits") - now;
            now += wait;
            wait
        };
        let waits: Vec<_> = (0..12).map(|attempt| wait_after(Duration::ZERO, attempt)).collect();
        assert!(waits[11] >= Duration::from_secs(1));
        assert!(wait_after(Duration::from_secs(2), 12) <= Duration::from_millis(10));
    }

    #[test]
    fn what_comes_on_our_connection_keeps_no_dead_one_of_the_peer_alive() {
        let mut peers = peers("127.0.0.1:1");
        let peer = peers.get_mut(NodeId(2)).expect("a member");
        peer.accepted = Some(ConnId::new(0, 1));
        peer.accepted_heard = Some(Instant::ZERO);
        peer.heard = Some(Instant::from_nanos(5_000_000_000));
        assert_eq!(Policy::heard(&peers, NodeId(2)), Some(Instant::ZERO));
    }

    #[test]
    fn connect_refused_storm_backoff() {
        let mut peers = peers("127.0.0.1:1");
        let mut now = Instant::ZERO;
        let mut waits = Vec::new();
        for attempt in 0..12 {
            let (node, _) = peers.due(now).expect("due");
            let conn = ConnId::new(0, attempt);
            peers.connecting(node, conn, Vec::new());
            assert_eq!(peers.closed(node, conn, now), None);
            let next = peers.deadline().expect("waits");
            waits.push(next - now);
            now = next;
        }
        assert!(waits[0] >= Duration::from_millis(5) && waits[0] <= Duration::from_millis(10));
        assert!(
            waits[10..]
                .iter()
                .all(|wait| *wait >= Duration::from_secs(1) && *wait <= Duration::from_secs(2))
        );
    }
}
