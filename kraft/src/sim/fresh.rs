//! How old what nodes know is, by what they were told: a stale read says no less (law R7).
//!
//! A node is as up to date as the newest message of its leader was when that was put into an outbox, if all is applied
//! that the leader knew to be committed at that time; a leader, as its majority was heard. How long a message waited there
//! and was under way is not in it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kraft_core::id::{Index, NodeId, Round, Term};
use kraft_core::membership::Configuration;
use kraft_core::message::{Body, Message};
use kraft_core::time::Instant;

/// Rounds of all leaders that are remembered, and messages of a leader that a node has not applied so far.
const KEPT: usize = 1 << 14;

/// What the leaders of a run knew when they spoke.
#[derive(Debug, Default)]
pub(super) struct Spoken(BTreeMap<(Term, Round), Index>);

impl Spoken {
    /// A leader that knew at least so much to be committed puts a message.
    pub(super) fn put(&mut self, message: &Message<'_>, commit: Index) {
        if let Some((round, _)) = leaders(&message.body) {
            self.0.entry((message.header.term, round)).or_insert(commit);
            if self.0.len() > KEPT {
                self.0.pop_first();
            }
        }
    }
}

/// The round and the commit index of what only leaders send.
fn leaders(body: &Body<'_>) -> Option<(Round, Index)> {
    match body {
        Body::Append(append) => Some((append.round, append.commit)),
        Body::Heartbeat(heartbeat) => Some((heartbeat.round, heartbeat.commit)),
        _ => None,
    }
}

/// What a run of a node was told, by its own clock.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    now: Instant,
    /// What it was told to be committed, and when, as long as it had not applied that; ascending by time.
    awaited: VecDeque<(Index, Instant)>,
    /// When it was told last of what it has applied.
    as_of: Option<Instant>,
    /// When it heard each of the others last.
    peers: BTreeMap<NodeId, Instant>,
    /// It leads, or did when the turn began.
    leads: bool,
    /// When it led, up to when a majority was heard last.
    led_as_of: Option<Instant>,
    /// The ages that it claimed in this turn, and when.
    claims: Vec<(Instant, u64)>,
}

impl Heard {
    /// A turn begins.
    pub(super) fn turns(&mut self, now: Instant, leads: bool) {
        self.now = now;
        self.leads = leads;
    }

    /// It decodes a message.
    pub(super) fn heard(&mut self, message: &Message<'_>, spoken: &Spoken) {
        if let Some((round, commit)) = leaders(&message.body) {
            let known = spoken.0.get(&(message.header.term, round)).copied();
            let commit = commit.max(known.unwrap_or_default());
            match self.awaited.back_mut() {
                Some((last, at)) if *last == commit => *at = self.now,
                _ => self.awaited.push_back((commit, self.now)),
            }
            if self.awaited.len() > KEPT {
                self.awaited.pop_front();
            }
        }
        self.peers.insert(message.header.from, self.now);
    }

    /// It claims that what it reads from is so old.
    pub(super) fn claims(&mut self, age_ms: u64) {
        self.claims.push((self.now, age_ms));
    }

    /// A turn ends with so much applied, in this configuration.
    ///
    /// # Errors
    ///
    /// R7: what it read from is older than it claimed.
    pub(super) fn turned(
        &mut self,
        node: NodeId,
        applied: Index,
        leads: bool,
        configuration: &Configuration,
    ) -> Result<(), String> {
        if self.leads || leads {
            let heard = |voter| match voter == node {
                true => Some(self.now),
                false => self.peers.get(&voter).copied(),
            };
            let heard = configuration.quorum().reached(heard).flatten();
            self.led_as_of = self.led_as_of.max(heard);
        }
        if !self.awaited.is_empty() {
            let as_of = &mut self.as_of;
            self.awaited.retain(|(commit, at)| {
                let is_applied = *commit <= applied;
                if is_applied {
                    *as_of = (*as_of).max(Some(*at));
                }
                !is_applied
            });
        }
        let as_of = self.as_of.max(self.led_as_of);
        for (at, age_ms) in self.claims.drain(..) {
            let claimed = at
                .as_nanos()
                .saturating_sub(Duration::from_millis(age_ms).as_nanos() as u64);
            let is_so = age_ms == u64::MAX || as_of.is_some_and(|as_of| as_of.as_nanos() >= claimed);
            if !is_so {
                return Err(format!(
                    "R7: node {node} read from what it says to be {age_ms} ms old; by {at:?} it was up to date at {as_of:?}"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kraft_core::message::{Header, Heartbeat};

    use super::*;

    fn heartbeat(round: u64, commit: u64) -> Message<'static> {
        Message {
            header: Header {
                from: NodeId(1),
                term: Term(2),
                ..Header::default()
            },
            body: Body::Heartbeat(Heartbeat {
                round: Round(round),
                commit: Index(commit),
            }),
        }
    }

    #[test]
    fn what_is_older_than_it_is_said_to_be_is_seen() {
        let members = Configuration::founding(&[NodeId(1), NodeId(2), NodeId(3)]);
        let mut spoken = Spoken::default();
        let at = |ms: u64| Instant::ZERO + Duration::from_millis(ms);
        let mut heard = Heard::default();
        let mut claim = |ms: u64, message: Option<&Message<'_>>, applied: u64, age_ms: u64| {
            heard.turns(at(ms), false);
            if let Some(message) = message {
                spoken.put(message, Index(7));
                heard.heard(message, &spoken);
            }
            heard.claims(age_ms);
            heard.turned(NodeId(2), Index(applied), false, &members).is_ok()
        };
        assert!(claim(5, None, 0, u64::MAX) && !claim(5, None, 0, 5000));
        assert!(claim(10, Some(&heartbeat(1, 7)), 7, 0));
        assert!(!claim(30, None, 7, 19) && claim(30, None, 7, 20));
        assert!(!claim(40, Some(&heartbeat(2, 9)), 8, 10), "nine are committed");
        assert!(claim(50, None, 9, 10), "it has them");
        assert!(
            !claim(60, Some(&heartbeat(3, 6)), 6, 9),
            "its leader knew of more than it said"
        );
    }
}
