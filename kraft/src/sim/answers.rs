//! What nodes answer clients, and what that rests on (law R10).

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use kraft_adapters::mock::Leaving;
use kraft_core::id::{Index, NodeId, RequestId, Term};
use kraft_core::laws::Mark;
use kraft_core::membership::{Configuration, Wish};
use kraft_core::message::{Basis, Body, Change, Commit, Consistency, EntryKind, Message, Outcome};
use kraft_core::raft::quorum::VoteResult;
use kraft_core::session;

use super::audit::Audited;
use super::watch::lock;

/// What the [`Mark`](kraft_core::laws::Mark) of an entry says that opens a session.
const SESSION: u64 = (EntryKind::OpenSession as u64) << 32;

/// What clients asked for and were answered. A run bounds how many these are.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// By connection and request.
    asked: BTreeMap<(u64, RequestId), Asked>,
    /// Entries that an answer rests on: each is the answer to one request alone.
    answered: BTreeSet<(Index, Term)>,
    /// The same of answers to commands that were not committed by then.
    early: BTreeSet<(Index, Term)>,
    /// Changes of the members that were answered: by whom, what, and at which index it is so. Judged when the turn is over.
    pub(super) changes: Vec<(NodeId, Wish, Index)>,
    payload: BytesMut,
}

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Session,
    /// By what the entry's [`Mark`](kraft_core::laws::Mark) will say of it.
    Command(u64, Commit),
    Read(Consistency),
    Change(Wish),
}

impl Answers {
    /// A frame leaves between a client and a node.
    ///
    /// # Errors
    ///
    /// R10: it is an answer that rests on what a majority's disks may lose, or that nobody asked for.
    pub(super) fn frame(
        &mut self,
        nodes: &[Audited],
        leaving: &Leaving<'_>,
        message: &Message<'_>,
    ) -> Result<(), String> {
        // Both directions of a connection differ in the lowest bit.
        let request = (leaving.stream >> 1, message.header.request);
        let asked = match &message.body {
            Body::OpenSession => Asked::Session,
            Body::Read(read) => Asked::Read(read.consistency),
            Body::Change(change) => Asked::Change(Wish::from(*change)),
            Body::Command(command) => {
                self.payload.clear();
                session::encode(command, &mut self.payload);
                let digest = (EntryKind::Command as u64) << 32 | u64::from(crc32c::crc32c(&self.payload));
                Asked::Command(digest, command.commit)
            }
            Body::Reply(outcome) => {
                let asked = self.asked.remove(&request);
                let from = leaving.from.index();
                return match outcome {
                    Outcome::Committed(reply) => self.judge(nodes, from, asked, reply),
                    Outcome::Weaker { basis, answer } => self.judge_weaker(nodes, from, asked, *basis, answer),
                    Outcome::Refused(_) | Outcome::Unknown => Ok(()),
                };
            }
            _ => return Ok(()),
        };
        self.asked.insert(request, asked);
        Ok(())
    }

    fn judge(&mut self, nodes: &[Audited], from: usize, asked: Option<Asked>, reply: &[u8]) -> Result<(), String> {
        let node = &nodes[from];
        let applied = lock(&node.record).applied();
        let rests_on = match &asked {
            None => None,
            Some(Asked::Change(wish)) => Change::index(reply).map(|index| {
                self.changes.push((node.id, wish.clone(), index));
            }),
            // What it read from is the work of all entries through this one.
            Some(Asked::Read(_)) if applied == Index::ZERO => return Ok(()),
            Some(Asked::Read(_)) => is_stable(nodes, node, applied).map(|_| ()),
            // Its id is the index of its entry, which has no payload.
            Some(Asked::Session) => session::decode_opened(reply)
                .map(|id| Index(id.0))
                .filter(|index| replacing(nodes, node).any(|node| has_session(node, *index)))
                .and_then(|index| Some((index, is_stable(nodes, node, index)?)))
                .filter(|entry| self.answered.insert(*entry))
                .map(|_| ()),
            Some(Asked::Command(digest, _)) => self.rest_on(nodes, node, *digest),
        };
        rests_on.ok_or_else(|| {
            format!(
                "R10: node {} answered {asked:?} with {reply:02x?}, and no majority has on disk what that rests on",
                node.id
            )
        })
    }

    /// An answer that stands for less.
    fn judge_weaker(
        &mut self,
        nodes: &[Audited],
        from: usize,
        asked: Option<Asked>,
        basis: Basis,
        reply: &[u8],
    ) -> Result<(), String> {
        let node = &nodes[from];
        let is_so = match asked {
            // What is applied is committed, whatever else may be.
            Some(Asked::Read(consistency)) if consistency.takes(basis) => {
                return self.judge(nodes, from, asked, reply);
            }
            Some(Asked::Command(digest, commit)) if commit.takes(basis) => {
                let record = lock(&node.record);
                let is_there = |index: &Index| match basis {
                    Basis::Leader => record.disk_entry(*index) == record.entry(*index),
                    _ => true,
                };
                let mut places = record.all_like(digest);
                // What waited on a slow line may speak of what was overwritten since.
                places.any(|(index, mark)| is_there(&index) && self.early.insert((index, mark.term)))
                    || record.is_gone(digest)
            }
            _ => false,
        };
        match is_so {
            true => Ok(()),
            false => Err(format!(
                "R10: node {} answered {asked:?} by {basis:?}, which it does not rest on",
                node.id
            )),
        }
    }

    /// Finds the entry of an answered command, from the end: it was proposed not long ago. Commands without a session may
    /// be alike; there are as many such entries as answers.
    fn rest_on(&mut self, nodes: &[Audited], node: &Audited, digest: u64) -> Option<()> {
        replacing(nodes, node).find_map(|node| self.rest_on_log(nodes, node, digest))
    }

    fn rest_on_log(&mut self, nodes: &[Audited], node: &Audited, digest: u64) -> Option<()> {
        let mut below = Index(u64::MAX);
        loop {
            below = lock(&node.record).last_like(digest, below)?;
            if let Some(term) = is_stable(nodes, node, below)
                && self.answered.insert((below, term))
            {
                return Some(());
            }
        }
    }
}

/// Whose logs have what a node answered: what waited on a slow line may speak of a log that a snapshot replaced since, and
/// others have that.
fn replacing<'a>(nodes: &'a [Audited], node: &'a Audited) -> impl Iterator<Item = &'a Audited> {
    let is_replaced = lock(&node.record).base().0 > Index::ZERO;
    std::iter::once(node).chain(nodes.iter().filter(move |_| is_replaced))
}

fn has_session(node: &Audited, index: Index) -> bool {
    lock(&node.record).last_like(SESSION, index.next()) == Some(index)
}

/// By which configurations what a node knows to be committed may have been: those that it may need, and later ones, which
/// it may lack so far though its leader counted by them.
fn needed(nodes: &[Audited], node: &Audited) -> Vec<Configuration> {
    let (mut needed, newest) = {
        let record = lock(&node.record);
        let own = record.members_needed();
        let newest = own.last().map_or(Index::ZERO, |(at, _)| *at);
        (own.iter().map(|(_, of)| of.clone()).collect::<Vec<_>>(), newest)
    };
    for other in nodes {
        let record = lock(&other.record);
        let later = record.members().iter().rev().take_while(|(at, _)| *at > newest);
        for (_, of) in later {
            if !needed.contains(of) {
                needed.push(of.clone());
            }
        }
    }
    needed
}

/// Whether the entry that a node has at `index`, in its log or as a part of a snapshot, is on the disks of a majority, by
/// one of the configurations that this node may need. If so, of which term it is.
fn is_stable(nodes: &[Audited], node: &Audited, index: Index) -> Option<Term> {
    let is_held = |mark: Mark| {
        let holds = |voter| {
            let mut of = nodes.iter().filter(|node| node.id == voter);
            of.any(|node| node.survives(index, mark)).then_some(true)
        };
        let is_by = |of: &Configuration| of.quorum().vote_result(holds) == VoteResult::Won;
        needed(nodes, node).iter().any(is_by).then_some(mark.term)
    };
    let (entry, base) = {
        let record = lock(&node.record);
        (record.entry(index), record.base().0)
    };
    if entry.is_some() || index > base {
        return is_held(entry?);
    }
    let known = nodes.iter().filter_map(|node| lock(&node.record).entry(index));
    // Nobody may have it but in snapshots.
    let unknown = Mark {
        term: Term(0),
        digest: 0,
    };
    known.chain([unknown]).find_map(is_held)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use kraft_adapters::mock::Network;
    use kraft_core::id::{NodeId, Sequence, SessionId};
    use kraft_core::message::{Command, Header, Read};
    use kraft_core::time::Instant;

    use super::super::watch::Record;
    use super::*;

    const COMMAND: Command<'_> = Command {
        session: SessionId(0),
        sequence: Sequence(0),
        first_unanswered: Sequence(0),
        command: b"add",
        commit: Commit::Strong,
    };

    fn mark(kind: EntryKind, payload: &[u8]) -> Mark {
        Mark {
            term: Term(2),
            digest: (kind as u64) << 32 | u64::from(crc32c::crc32c(payload)),
        }
    }

    /// A session, and two commands that are alike.
    fn log() -> Vec<Mark> {
        let mut payload = BytesMut::new();
        session::encode(&COMMAND, &mut payload);
        let command = mark(EntryKind::Command, &payload);
        vec![mark(EntryKind::OpenSession, b""), command, command]
    }

    /// Three nodes that all have the log, of which each has so many entries on disk and as many applied.
    fn nodes(durable: [usize; 3]) -> Vec<Audited> {
        let node = |(id, durable): (u64, usize)| {
            let record = Record::of(log(), log()[..durable].to_vec(), Index(durable as u64));
            Audited::new(NodeId(id), &Arc::new(Mutex::new(record)))
        };
        (1..).zip(durable).map(node).collect()
    }

    /// Asks the first node, which answers. Whether it may.
    fn ask(answers: &mut Answers, nodes: &[Audited], asked: Option<Body<'_>>, reply: &[u8]) -> bool {
        answered(answers, nodes, asked, Outcome::Committed(reply))
    }

    fn answered(answers: &mut Answers, nodes: &[Audited], asked: Option<Body<'_>>, outcome: Outcome<'_>) -> bool {
        let network = Network::new(1);
        let (node, client) = (network.add_host(), network.add_host());
        let leaving = |stream, from, to| Leaving {
            at: Instant::ZERO,
            from,
            to,
            port: 0,
            stream,
            bytes: b"",
        };
        let message = |body| Message {
            header: Header::default(),
            body,
        };
        if let Some(asked) = asked {
            let heard = answers.frame(nodes, &leaving(6, client, node), &message(asked));
            heard.expect("one may ask for anything");
        }
        let answer = message(Body::Reply(outcome));
        answers.frame(nodes, &leaving(7, node, client), &answer).is_ok()
    }

    #[test]
    fn an_answer_before_a_majority_has_it_on_disk_is_seen() {
        let command = || Some(Body::Command(COMMAND));
        let read = || {
            Some(Body::Read(Read {
                query: b"",
                consistency: Consistency::Linearizable,
            }))
        };
        let session = || Some(Body::OpenSession);
        let mut answers = Answers::default();
        assert!(!ask(&mut answers, &nodes([0, 3, 0]), command(), b""));
        assert!(!ask(&mut answers, &nodes([1, 1, 1]), command(), b""));
        assert!(ask(&mut answers, &nodes([0, 2, 2]), command(), b""));
        assert!(
            !ask(&mut answers, &nodes([0, 2, 2]), command(), b""),
            "its twin is not on disk"
        );
        assert!(ask(&mut answers, &nodes([3, 3, 0]), command(), b""));
        assert!(!ask(&mut answers, &nodes([3, 3, 3]), command(), b""), "there are two");

        let id = 1_u64.to_le_bytes();
        assert!(!ask(&mut answers, &nodes([1, 0, 0]), session(), &id));
        assert!(!ask(&mut answers, &nodes([3, 3, 3]), session(), &4_u64.to_le_bytes()));
        assert!(ask(&mut answers, &nodes([1, 1, 0]), session(), &id));

        assert!(ask(&mut answers, &nodes([0, 0, 0]), read(), b"of nothing"));
        assert!(!ask(&mut answers, &nodes([2, 1, 1]), read(), b""));
        assert!(ask(&mut answers, &nodes([2, 1, 2]), read(), b""));
        assert!(!ask(&mut answers, &nodes([3, 3, 3]), None, b""), "nobody asked");
    }

    #[test]
    fn an_answer_on_less_rests_on_what_it_says() {
        let ask = |durable: [usize; 3], commit, basis| {
            let asked = Body::Command(Command { commit, ..COMMAND });
            let answer = Outcome::Weaker { basis, answer: b"" };
            answered(&mut Answers::default(), &nodes(durable), Some(asked), answer)
        };
        assert!(!ask([1, 3, 3], Commit::Leader, Basis::Leader), "its own disk counts");
        assert!(ask([2, 0, 0], Commit::Leader, Basis::Leader));
        assert!(ask([1, 0, 0], Commit::Async, Basis::Received));
        assert!(
            !ask([3, 3, 3], Commit::Leader, Basis::Received),
            "less than was asked for"
        );
        assert!(!ask([3, 3, 3], Commit::Strong, Basis::Leader));

        let read = |durable: [usize; 3], consistency, basis| {
            let asked = Body::Read(Read {
                query: b"",
                consistency,
            });
            let answer = Outcome::Weaker { basis, answer: b"" };
            answered(&mut Answers::default(), &nodes(durable), Some(asked), answer)
        };
        let stale = |age_max_ms| Consistency::Stale { age_max_ms };
        let of = |age_ms| Basis::Stale { age_ms };
        assert!(read([2, 2, 0], stale(5), of(4)) && !read([2, 2, 0], stale(5), of(5)));
        assert!(!read([2, 0, 0], stale(5), of(4)), "what is not committed is nobody's");
        assert!(read([2, 2, 0], Consistency::Lease, Basis::Lease));
        assert!(!read([2, 2, 0], Consistency::Linearizable, Basis::Lease));
    }

    #[test]
    fn a_disk_that_was_wiped_counts_as_what_it_was() {
        let mut nodes = nodes([2, 2, 0]);
        nodes[1].wipe(&Arc::default());
        let mut answers = Answers::default();
        assert!(ask(&mut answers, &nodes, Some(Body::Command(COMMAND)), b""));
        nodes.swap(0, 1);
        assert!(
            !ask(&mut answers, &nodes, Some(Body::Command(COMMAND)), b""),
            "it has nothing"
        );
    }
}
