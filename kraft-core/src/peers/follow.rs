//! Who is a peer follows from the configurations of the log, and from who knocks.

use super::{Dial, Peer, Peers, Standing};
use crate::id::{ConnId, Incarnation, Index, NodeId};
use crate::membership::{Configuration, MEMBERS_MAX};
use crate::time::Instant;

/// What is known of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its id.
    pub node: NodeId,
    /// `HOST:PORT`; empty if nobody knows.
    pub address: String,
    /// The life of its data folder; by the configuration, else by what is on our disk.
    pub incarnation: Option<Incarnation>,
}

/// What is left to do after other members were heard of.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Incarnations that were taken on sight, and are to be recorded.
    pub to_remember: Vec<(NodeId, Incarnation)>,
    /// Connections of nodes that are not who the configuration means.
    pub impostors: Vec<ConnId>,
}

impl Peer {
    /// A member, to be dialled at once.
    pub(super) fn new(known: &Known, now: Instant) -> Self {
        Self {
            node: known.node,
            address: known.address.clone(),
            dialled: None,
            accepted: None,
            incarnation: known.incarnation,
            heard: None,
            accepted_heard: None,
            remembering: None,
            nonce: 0,
            seen: None,
            standing: Standing::Member,
            parts_at: None,
            dial: match known.address.is_empty() {
                true => Dial::Never,
                false => Dial::Waiting(now),
            },
            failures: 0,
        }
    }

    /// Whether the configuration says that it is a member.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.standing == Standing::Member && self.parts_at.is_none()
    }

    /// Its connections.
    pub fn conns(&self) -> impl Iterator<Item = ConnId> {
        let trying = match self.dial {
            Dial::Trying(conn, _) => Some(conn),
            _ => None,
        };
        [self.dialled, self.accepted, trying].into_iter().flatten()
    }

    /// It is reached elsewhere. A connection that is up stays: whoever moves a node ends it.
    fn move_to(&mut self, address: &str, now: Instant) {
        if address.is_empty() || self.address == address {
            return;
        }
        address.clone_into(&mut self.address);
        self.failures = 0;
        // What is under way elsewhere is forgotten: whatever comes of it finds that it was not dialled last.
        if !matches!(self.dial, Dial::Up(_)) {
            self.dial = Dial::Waiting(now);
        }
    }

    fn dial_now(&mut self, now: Instant) {
        if matches!(self.dial, Dial::Waiting(_)) && !self.address.is_empty() {
            self.dial = Dial::Waiting(now);
        }
    }
}

impl Peers {
    /// `members` are those of the configurations that may be needed, this node aside; `committed`, at `membership`, is the
    /// newest of which that is known. Who is a member no more is taken leave of at `parts_at`.
    pub fn follow(
        &mut self,
        members: &[Known],
        membership: Index,
        committed: &Configuration,
        parts_at: Instant,
        now: Instant,
    ) -> Followed {
        self.membership = membership;
        self.removed.clear();
        self.removed.extend_from_slice(committed.removed());
        self.joins = committed.members().is_empty();
        let mut followed = Followed::default();
        for known in members {
            let Some(peer) = self.get_mut(known.node) else {
                self.all.push(Peer::new(known, now));
                continue;
            };
            let was_member = std::mem::replace(&mut peer.standing, Standing::Member) == Standing::Member;
            peer.parts_at = None;
            peer.move_to(&known.address, now);
            if known.incarnation.is_some() {
                peer.incarnation = known.incarnation;
            }
            match (peer.seen, peer.incarnation) {
                (Some(seen), Some(known)) if seen != known => followed.impostors.extend(peer.conns()),
                (Some(seen), None) if !was_member => followed.to_remember.push((peer.node, seen)),
                _ => {}
            }
        }
        let is_none = |peer: &&mut Peer| {
            let is_named = members.iter().any(|known| known.node == peer.node);
            peer.standing == Standing::Member && !is_named
        };
        for peer in self.all.iter_mut().filter(is_none) {
            peer.parts_at.get_or_insert(parts_at);
        }
        followed
    }

    /// A node that is to be added is dialled, to learn who it is; a member is dialled at once if it is not connected.
    pub fn ask(&mut self, node: NodeId, address: &str, now: Instant) {
        if let Some(peer) = self.get_mut(node) {
            if peer.standing == Standing::Guest || peer.parts_at.take().is_some() {
                peer.standing = Standing::Asked;
            }
            peer.move_to(address, now);
            return peer.dial_now(now);
        }
        let known = Known {
            node,
            address: address.to_owned(),
            incarnation: None,
        };
        let mut peer = Peer::new(&known, now);
        peer.standing = Standing::Asked;
        self.all.push(peer);
    }

    /// Nothing came of a node that was to be added.
    pub fn unask(&mut self, node: NodeId, now: Instant) {
        if let Some(peer) = self.get_mut(node).filter(|peer| peer.standing == Standing::Asked) {
            peer.parts_at = Some(now);
        }
    }

    /// Whether another node may come that is unknown so far.
    pub(super) fn has_room_for_guests(&self) -> bool {
        self.all.iter().filter(|peer| peer.standing == Standing::Guest).count() < MEMBERS_MAX
    }

    /// A node that is unknown here was let in.
    pub fn admit(&mut self, node: NodeId, now: Instant) {
        if self.get(node).is_none() {
            let known = Known {
                node,
                address: String::new(),
                incarnation: None,
            };
            let mut peer = Peer::new(&known, now);
            peer.standing = Standing::Guest;
            self.all.push(peer);
        }
    }

    /// A guest's connection is gone, and the guest with it.
    pub fn see_off(&mut self, node: NodeId) {
        self.all
            .retain(|peer| peer.node != node || peer.standing != Standing::Guest || peer.accepted.is_some());
    }

    /// The next former member of which leave is taken, and whether it was one.
    pub fn parted(&mut self, now: Instant) -> Option<(Peer, bool)> {
        let is_due = |peer: &Peer| peer.parts_at.is_some_and(|at| at <= now);
        let at = self.all.iter().position(is_due)?;
        let peer = self.all.remove(at);
        let was_removed = self.removed.contains(&peer.node);
        Some((peer, was_removed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::{Member, Policy};
    use crate::peers::{Backoff, Step};

    const LATER: Instant = Instant::from_nanos(1_000);

    fn peers() -> Peers {
        let members = [(NodeId(2), "a:1".to_owned(), None)];
        Peers::new(members.into_iter(), Backoff::default(), 1, Instant::ZERO)
    }

    fn known(node: u64, address: &str, incarnation: u64) -> Known {
        Known {
            node: NodeId(node),
            address: address.to_owned(),
            incarnation: (incarnation > 0).then_some(Incarnation(incarnation)),
        }
    }

    fn committed() -> Configuration {
        Configuration::founding(&[NodeId(1), NodeId(2)])
    }

    #[test]
    fn a_member_that_comes_is_dialled_and_known_by_the_incarnation_of_the_configuration() {
        let mut peers = peers();
        let members = [known(2, "a:1", 0), known(3, "c:1", 7)];
        let followed = peers.follow(&members, Index(5), &committed(), LATER, Instant::ZERO);
        assert_eq!(followed, Followed::default());
        assert_eq!(peers.member(NodeId(3)), Member::Known(Incarnation(7)));
        assert_eq!(peers.due(Instant::ZERO), Some((NodeId(2), Step::Resolve("a:1".into()))));
        assert_eq!(peers.due(Instant::ZERO), Some((NodeId(3), Step::Resolve("c:1".into()))));
    }

    #[test]
    fn who_is_no_member_is_taken_leave_of_later() {
        let mut peers = peers();
        peers.follow(&[], Index(5), &committed(), LATER, Instant::ZERO);
        assert!(peers.due(Instant::ZERO).is_none(), "it is not dialled any more");
        assert!(peers.parted(Instant::ZERO).is_none());
        assert_eq!(peers.deadline(), Some(LATER));
        let (peer, was_removed) = peers.parted(LATER).expect("its time has come");
        assert_eq!((peer.node, was_removed), (NodeId(2), false));
        assert_eq!(peers.member(NodeId(2)), Member::Unknown);
    }

    #[test]
    fn a_guest_becomes_a_member_and_is_recorded_if_the_configuration_does_not_know_it() {
        let mut peers = peers();
        assert!(!peers.admits(NodeId(3), Index(0)));
        assert!(peers.admits(NodeId(3), Index(1)), "it knows more than this node");
        peers.admit(NodeId(3), Instant::ZERO);
        assert_eq!(peers.member(NodeId(3)), Member::Provisional);
        let guest = peers.get_mut(NodeId(3)).expect("it was let in");
        guest.seen = Some(Incarnation(9));
        guest.accepted = Some(ConnId::new(0, 1));
        let members = [known(2, "a:1", 0), known(3, "c:1", 0)];
        let followed = peers.follow(&members, Index(5), &committed(), LATER, Instant::ZERO);
        assert_eq!(followed.to_remember, [(NodeId(3), Incarnation(9))]);
        let members = [known(2, "a:1", 0), known(3, "c:1", 8)];
        let followed = peers.follow(&members, Index(6), &committed(), LATER, Instant::ZERO);
        assert_eq!(followed.impostors, [ConnId::new(0, 1)]);
    }

    #[test]
    fn guests_are_bounded_and_go_with_their_connection() {
        let mut peers = peers();
        for node in 10..10 + MEMBERS_MAX as u64 {
            assert!(peers.admits(NodeId(node), Index(1)));
            peers.admit(NodeId(node), Instant::ZERO);
        }
        assert!(!peers.admits(NodeId(9), Index(1)));
        peers.see_off(NodeId(10));
        peers.see_off(NodeId(2));
        assert!(peers.admits(NodeId(9), Index(1)));
        assert!(peers.get(NodeId(2)).is_some(), "a member is no guest");
    }

    #[test]
    fn a_member_that_moved_is_dialled_there() {
        let mut peers = peers();
        let conn = ConnId::new(0, 1);
        assert!(peers.due(Instant::ZERO).is_some());
        peers.connecting(NodeId(2), conn, Vec::new());
        peers.follow(&[known(2, "b:1", 0)], Index(5), &committed(), LATER, Instant::ZERO);
        assert_eq!(peers.due(Instant::ZERO), Some((NodeId(2), Step::Resolve("b:1".into()))));
        assert_eq!(peers.closed(NodeId(2), conn, LATER), None);
        assert_eq!(peers.deadline(), None, "the end of what was forgotten changes nothing");
    }
}
