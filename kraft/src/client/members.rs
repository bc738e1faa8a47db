//! The members of the cluster, as a client sees and changes them.

use std::fmt::Write;

use kraft_core::adapter::Adapter;
use kraft_core::client::{MemberReport, Refused, Request};
use kraft_core::id::{Index, NodeId};
use kraft_core::membership::Wish;
use kraft_core::message::{Change, NodeState, Refusal};
use kraft_core::protocol::Protocol;

use super::{Client, Error};

/// Who the members are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// Who leads, as far as is known; [`NodeId::NONE`] if nobody does.
    pub leader: NodeId,
    /// Where the configuration stands in the log; zero for the one that the cluster was founded with.
    pub index: Index,
    /// The last index of the log of whoever says so.
    pub last: Index,
    /// All of them, ascending. How far their logs match is known if the leader says so.
    pub members: Vec<MemberReport>,
    /// Whether the leader says so. If it is at none of the addresses that the client was given, another node does, and
    /// may be behind.
    pub is_by_leader: bool,
}

impl Members {
    /// The member with this id.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<&MemberReport> {
        self.members.iter().find(|member| member.node == node)
    }
}

impl<A: Adapter, P: Protocol> Client<A, P> {
    /// Who the members are: by the leader, or if that is not among the nodes that the client was given, by the node that
    /// knows the newest configuration.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if no node answers, [`Error::Io`].
    pub fn members(&mut self) -> Result<Members, Error> {
        let statuses = self.status()?;
        let mut silent = String::new();
        let mut best = None;
        for status in &statuses {
            match &status.report {
                Ok(report) => {
                    let leads = report.state == NodeState::Leader;
                    let rank = (leads, report.term, report.membership, report.commit);
                    if best.as_ref().is_none_or(|(before, _)| *before < rank) {
                        best = Some((rank, report));
                    }
                }
                Err(why) => {
                    let separator = if silent.is_empty() { "" } else { "; " };
                    write!(silent, "{separator}{} {why}", status.node.name).expect("a String takes all");
                }
            }
        }
        let Some((_, report)) = best else {
            return Err(Error::Refused(Refused {
                why: Refusal::NotLeader,
                leader: NodeId::NONE,
                detail: silent,
            }));
        };
        Ok(Members {
            leader: report.leader,
            index: report.membership,
            last: report.last,
            members: report.members.clone(),
            is_by_leader: report.state == NodeState::Leader,
        })
    }

    /// Changes the members, and returns where the configuration stands in whose force it is so. What is so already
    /// succeeds, so that a change whose outcome is unknown may be asked for again.
    ///
    /// [`Change::Add`] and [`Change::Replace`] end when the new node is a member that learns; it votes when it has caught
    /// up, which [`members`](Self::members) tells.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: [`Refusal::UnknownMember`], `MemberConflict`, `ChangeUnderWay`, `NotCaughtUp`, `Voters`,
    /// `Unreachable` or `Invalid`, each with cause and cure. [`Error::Unknown`], [`Error::Io`].
    pub fn change(&mut self, change: Change<'_>) -> Result<Index, Error> {
        let wish = Wish::from(change);
        let reply = self.finish(Request::Change { wish })?;
        Change::index(&reply.value).ok_or(Error::BadReply(None))
    }
}
