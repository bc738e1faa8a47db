//! Changes that cannot be. Who leads is asked for them by its own process, as by a program that has the node in it, which
//! needs no connection: each is refused for its own reason, and changes nothing.

use fastrand::Rng;
use kraft_core::id::{Index, NodeId};
use kraft_core::membership::{Configuration, Seat, Wish};
use kraft_core::message::{Change, NodeState, Refusal};
use kraft_core::node::Outcome;

use super::audit::Audit;
use super::cluster::Cluster;
use super::host::{Host, PEER_PORT};

/// Where nobody is.
const NOWHERE_PORT: u16 = 7009;

/// What may keep anybody from what he asks for.
const ANY_TIME: [Refusal; 5] = [
    Refusal::NotLeader,
    Refusal::ChangeUnderWay,
    Refusal::Transferring,
    Refusal::Stopping,
    Refusal::Overloaded,
];

/// What cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Vain {
    Change(Wish),
    Transfer(NodeId),
}

/// What may come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// It is refused for the first reason; for the second, if somebody was removed meanwhile.
    Refused(Refusal, Refusal),
    /// It is so already, or will be by itself.
    Done,
}

impl Expected {
    const fn refused(why: Refusal) -> Self {
        Self::Refused(why, why)
    }

    /// Whether `outcome` is what was to come of it: why it is told to be barred, if it is.
    fn judge(self, outcome: &Outcome) -> Result<Option<Refusal>, String> {
        match (self, outcome) {
            (_, Outcome::Unknown) => Ok(None),
            // Before its own reason: anybody may be told this at any time.
            (_, Outcome::Refused { why, .. }) if ANY_TIME.contains(why) => Ok(None),
            (Self::Refused(one, other), Outcome::Refused { why, .. }) if [one, other].contains(why) => Ok(Some(*why)),
            (Self::Done, Outcome::Committed(_)) => Ok(None),
            _ => Err(format!("{self:?} was to come of it, and {outcome:?} came")),
        }
    }
}

impl Cluster {
    /// Somebody asks who leads for what cannot be, if anybody leads.
    pub(super) fn ask_in_vain(&self, rng: &mut Rng) {
        let leads = |host: &&Host| host.last_status().state == NodeState::Leader;
        let mut leaders = self.hosts.iter().filter(leads);
        if let Some(host) = leaders.find(|host| host.node.is_some() && !host.is_paused)
            && let Some((vain, expected)) = self.draw_vain(host, rng)
        {
            ask(host, &self.audit, vain, expected);
        }
    }

    /// By what the node itself knows to be committed: that is never taken back.
    fn draw_vain(&self, host: &Host, rng: &mut Rng) -> Option<(Vain, Expected)> {
        let newest = &host.members.last()?.1;
        let known = known(host)?;
        let stranger = NodeId(self.hosts.len() as u64 + 1 + rng.u64(..3));
        let members = known.members();
        if members.is_empty() {
            // It knows who its members are, and not yet that this is committed.
            return None;
        }
        let member = &members[rng.usize(..members.len())];
        let (node, address) = (member.node, member.address.clone());
        let nowhere = host.host.address(NOWHERE_PORT).to_string();
        let unknown = Expected::refused(Refusal::UnknownMember);
        let conflict = Expected::Refused(Refusal::MemberConflict, Refusal::UnknownMember);
        let (wish, expected) = match rng.u8(..8) {
            0 => (Wish::Promote { node: stranger }, unknown),
            1 => {
                let replace = Wish::Replace {
                    node: stranger,
                    by: node,
                    address,
                };
                (replace, unknown)
            }
            2 => {
                let gone = self.hosts.iter().find(|host| known.is_removed(host.id))?;
                let add = Wish::Add {
                    node: gone.id,
                    address: gone.host.address(PEER_PORT).to_string(),
                    promote: rng.bool(),
                };
                (add, Expected::refused(Refusal::MemberConflict))
            }
            3 => {
                let add = Wish::Add {
                    node,
                    address: nowhere,
                    promote: rng.bool(),
                };
                (add, Expected::refused(Refusal::MemberConflict))
            }
            4 => {
                let address = ["", "nowhere", "a b:1", "a:0"][rng.usize(..4)].to_owned();
                let invalid = Expected::Refused(Refusal::Invalid, Refusal::UnknownMember);
                (Wish::Move { node, address }, invalid)
            }
            5 => {
                let replace = Wish::Replace {
                    node,
                    by: node,
                    address,
                };
                (replace, conflict)
            }
            6 => return Some((Vain::Transfer(stranger), unknown)),
            _ => {
                // Nobody is about to make it two.
                let is_alone = members.len() == 1 && newest == known;
                let now = self.network.now();
                let is_quiet = self.operator.as_ref().is_none_or(|operator| !operator.is_unsure(now));
                if !is_alone || !is_quiet {
                    return None;
                }
                (Wish::Remove { node }, Expected::refused(Refusal::Voters))
            }
        };
        Some((Vain::Change(wish), expected))
    }

    /// After a turn of the node of the host at `at`: a step on the way is over soon, and meanwhile is asked about who
    /// leaves by it.
    pub(super) fn check_vain(&mut self, at: usize) -> Result<(), String> {
        let host = &mut self.hosts[at];
        let Some((index, newest)) = host.members.last() else {
            return Ok(());
        };
        if !newest.is_joint() || host.asked_at == *index || host.last_status().state != NodeState::Leader {
            return Ok(());
        }
        let (index, newest) = (*index, newest.clone());
        host.asked_at = index;
        let leaves = |seat| matches!(seat, Seat::Leaving);
        if let Some(member) = newest.members().iter().find(|member| leaves(member.seat)) {
            let (node, address) = (member.node, member.address.clone());
            let add = Wish::Add {
                node,
                address,
                promote: true,
            };
            // When it has left it cannot come again.
            let under_way = |gone| Expected::Refused(Refusal::ChangeUnderWay, gone);
            let host = &self.hosts[at];
            let asked = [
                (add, under_way(Refusal::MemberConflict)),
                (Wish::Promote { node }, under_way(Refusal::UnknownMember)),
                (Wish::Remove { node }, Expected::Done),
            ];
            for (wish, expected) in asked {
                ask(host, &self.audit, Vain::Change(wish), expected);
            }
        }
        // What others have committed since it may not know.
        match known(&self.hosts[at]) {
            Some(former) => self.check_configuration(&newest, former),
            None => Ok(()),
        }
    }

    /// What was refused has left nothing behind in a configuration that comes after `former`, a committed one.
    pub(super) fn check_configuration(
        &self,
        configuration: &Configuration,
        former: &Configuration,
    ) -> Result<(), String> {
        // Who waits to be told begins with nobody.
        let members = configuration.members();
        let is_empty = !members.is_empty() && configuration.voters().is_empty();
        let is_known = |node: NodeId| self.hosts.iter().any(|host| host.id == node);
        let nowhere = format!(":{NOWHERE_PORT}");
        let is_vain = members
            .iter()
            .any(|member| !is_known(member.node) || member.address.is_empty() || member.address.ends_with(&nowhere));
        let is_back = members.iter().any(|member| former.is_removed(member.node));
        match is_empty || is_vain || is_back {
            true => Err(format!(
                "a change that cannot be: the members are {configuration:?}, and what led there was to be refused"
            )),
            false => Ok(()),
        }
    }
}

/// The newest configuration that a node knows to be committed.
fn known(host: &Host) -> Option<&Configuration> {
    newest(&host.members, host.last_status().commit)
}

/// The newest of `members`, which ascend, at or before `commit`.
fn newest(members: &[(Index, Configuration)], commit: Index) -> Option<&Configuration> {
    let (_, newest) = members.iter().rev().find(|(at, _)| *at <= commit)?;
    Some(newest)
}

fn ask(host: &Host, audit: &Audit, vain: Vain, expected: Expected) {
    let Some(node) = &host.node else { return };
    let ticket = match &vain {
        Vain::Change(wish) => node.handle().change(wish.lend()),
        Vain::Transfer(to) => node.handle().transfer(*to),
    };
    let (id, audit) = (host.id, audit.clone());
    ticket.on_done(move |outcome| {
        let books = &mut *audit.books();
        match expected.judge(&outcome) {
            Ok(why) => why.into_iter().for_each(|why| books.barred.note(why)),
            Err(what) => {
                let broken = format!("a change that cannot be: node {id} was asked for {vain:?}: {what}");
                books.broken.get_or_insert(broken);
            }
        }
        // What is said to be so is judged like any other answer.
        if let (Vain::Change(wish), Outcome::Committed(reply)) = (vain, &outcome)
            && let Some(index) = Change::index(reply)
        {
            books.answers.changes.push((id, wish, index));
        }
    });
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_node_knows_to_be_committed_what_stands_up_to_its_own_commit() {
        let of = |node| Configuration::founding(&[NodeId(node)]);
        let members = [(Index(2), of(1)), (Index(5), of(2)), (Index(7), of(3))];
        assert_eq!(newest(&members, Index(1)), None);
        assert_eq!(newest(&members, Index(4)), Some(&of(1)));
        assert_eq!(newest(&members, Index(5)), Some(&of(2)));
    }

    #[test]
    fn a_change_that_cannot_be_is_refused_for_its_own_reason_alone() {
        let refused = |why| Outcome::Refused {
            why,
            leader: NodeId::NONE,
            detail: String::new(),
        };
        let expected = Expected::Refused(Refusal::Invalid, Refusal::UnknownMember);
        assert_eq!(expected.judge(&refused(Refusal::Invalid)), Ok(Some(Refusal::Invalid)));
        let unknown = Refusal::UnknownMember;
        assert_eq!(expected.judge(&refused(unknown)), Ok(Some(unknown)));
        assert_eq!(expected.judge(&refused(Refusal::NotLeader)), Ok(None));
        let either = Expected::Refused(Refusal::ChangeUnderWay, unknown);
        assert_eq!(either.judge(&refused(Refusal::ChangeUnderWay)), Ok(None));
        assert_eq!(expected.judge(&Outcome::Unknown), Ok(None));
        let done = Outcome::Committed(Bytes::new());
        assert!(expected.judge(&refused(Refusal::Voters)).is_err() && expected.judge(&done).is_err());
        assert_eq!(Expected::Done.judge(&done), Ok(None));
        assert!(Expected::Done.judge(&refused(Refusal::UnknownMember)).is_err());
    }
}
