//! What was asked for in a turn, brought before Raft: proposals in one batch, reads in one question.

use bytes::Bytes;

use super::handle::{Call, Outcome as Owned};
use super::requests::{Origin, ReadGroup};
use super::{Host, Notice};
use crate::adapter::Adapter;
use crate::id::{RequestId, Sequence, SessionId};
use crate::machine::{self, StateMachine};
use crate::message::{Basis, Command, Commit, Outcome, Refusal, Refused};
use crate::protocol::Protocol;
use crate::storage::Storage;
use crate::time::Instant;

impl<S: Storage, M: StateMachine> Host<S, M> {
    /// Takes what handles asked for into the turn's batch.
    pub(super) fn take_calls(&mut self, now: Instant) {
        let mut calls = std::mem::take(&mut self.calls);
        if self.queue.take(&mut calls) {
            self.leave(now);
        }
        for call in calls.drain(..) {
            match call {
                Call::Change(wish, completion) => self.take_change(wish, completion),
                Call::Transfer(to, completion) => self.take_transfer(to, completion, now),
                Call::Status(completion) => completion.end(Some(self.raft.status())),
                Call::Read(query, consistency, completion) => {
                    self.counters.reads += 1;
                    if self.is_full_for(&query) {
                        completion.end(self.refusal(Refusal::Overloaded, String::new()));
                    } else {
                        self.requests.read(&query, consistency, Origin::Local(completion));
                    }
                }
                Call::Propose(command, commit, completion) => {
                    self.counters.commands += 1;
                    match self.judge(&command) {
                        Some(refusal) => completion.end(refusal),
                        None => self
                            .requests
                            .batch
                            .command(&sessionless(&command, commit), Origin::Local(completion)),
                    }
                }
            }
        }
        self.calls = calls;
    }

    /// Whether this query is one too many.
    pub(super) fn is_full_for(&self, query: &[u8]) -> bool {
        let bytes = self.requests.queries_bytes() + query.len();
        self.requests.waiting() >= self.config.requests_max || bytes > self.config.queries_bytes_max
    }

    fn judge(&self, command: &Bytes) -> Option<Owned> {
        if let Some(why) = self.turned_down() {
            return Some(self.refusal(why, String::new()));
        }
        let refused = self.check(command).err()?;
        Some(self.refusal(refused.why, refused.detail))
    }

    /// Whether a command may be proposed: it fits a frame to a follower, and the machine takes it.
    pub(super) fn check(&self, command: &[u8]) -> Result<(), machine::Refused> {
        let command_bytes_max = self.config.command_bytes_max();
        if command.len() <= command_bytes_max {
            return self.machine.check(command);
        }
        let detail = format!(
            "a command of {} bytes is above {command_bytes_max}, what frame_max ({}) leaves for one",
            command.len(),
            self.config.limits.frame_max
        );
        Err(machine::Refused {
            why: Refusal::TooLarge,
            detail,
        })
    }

    fn refusal(&self, why: Refusal, detail: String) -> Owned {
        Owned::Refused {
            why,
            leader: self.place.leader,
            detail,
        }
    }

    /// Tells an operator once that the log is short of room, and once that it has a message's worth more again.
    pub(super) fn tell_room(&mut self, is_short: bool) {
        let bytes = self.room;
        let margin = self.config.raft.append_bytes_max as u64;
        match self.short_at {
            None if is_short => self.short_at = Some(bytes),
            Some(short_at) if !is_short && bytes > short_at.saturating_add(margin) => self.short_at = None,
            _ => return,
        }
        (self.observer)(Notice::Room { is_short, bytes });
    }

    /// Proposes the turn's batch: one append, whatever it holds.
    pub(super) fn propose<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, now: Instant) {
        let room = self.storage.room();
        if room != self.room {
            self.room = room;
            self.raft.room(room, now);
        }
        // A follower takes a message whole or not at all.
        if room < self.config.raft.append_bytes_max as u64 {
            self.tell_room(true);
        } else if self.short_at.is_some() {
            self.tell_room(false);
        }
        if self.requests.batch.is_empty() || self.holds_proposals() {
            return;
        }
        let bytes = self.requests.batch.bytes();
        let proposed = self
            .raft
            .propose(&mut self.requests.batch.take(), bytes, now, &mut self.log);
        match proposed {
            Ok(range) => {
                let header = self.header(RequestId(0));
                let received = Outcome::Weaker {
                    basis: Basis::Received,
                    answer: b"",
                };
                for origin in self.requests.proposed(range) {
                    self.conns
                        .answer(adapter, protocol, header, origin, received, &mut self.counters);
                }
            }
            Err(why) => {
                if why == Refusal::NoSpace {
                    self.tell_room(true);
                }
                self.refuse_batch(adapter, protocol, why);
            }
        }
    }

    pub(super) fn refuse_batch<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, why: Refusal) {
        let header = self.header(RequestId(0));
        let refused = Outcome::Refused(Refused {
            why,
            leader: self.place.leader,
            detail: "",
        });
        // Raft may have taken none of the proposals out of the batch.
        self.requests.batch.take().for_each(drop);
        for origin in self.requests.batch.take_origins() {
            self.conns
                .answer(adapter, protocol, header, origin, refused, &mut self.counters);
        }
    }

    /// Asks Raft once for all reads of the turn.
    pub(super) fn ask_reads<A: Adapter, P: Protocol>(&mut self, adapter: &mut A, protocol: &P, now: Instant) {
        if !self.requests.leases.is_empty() {
            match self.raft.leased(now) {
                Some((term, index)) => {
                    self.requests.leased(self.next_read, term, index, now);
                    self.next_read.0 += 1;
                }
                None => self.requests.ask_leases(),
            }
        }
        if self.requests.reads.is_empty() || self.holds_reads() {
            return;
        }
        let request = self.next_read;
        self.next_read.0 += 1;
        self.requests.asked(request, now);
        if let Err(why) = self.raft.read(request, now) {
            self.refuse_reads(adapter, protocol, request, why);
        }
    }

    pub(super) fn refuse_reads<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        request: RequestId,
        why: Refusal,
    ) {
        if let Some(group) = self.requests.read_refused(request) {
            self.refuse_group(adapter, protocol, group, why);
        }
    }

    pub(super) fn refuse_group<A: Adapter, P: Protocol>(
        &mut self,
        adapter: &mut A,
        protocol: &P,
        mut group: ReadGroup,
        why: Refusal,
    ) {
        let header = self.header(RequestId(0));
        let refused = Outcome::Refused(Refused {
            why,
            leader: self.place.leader,
            detail: "",
        });
        group.drain(|_, origin| {
            self.conns
                .answer(adapter, protocol, header, origin, refused, &mut self.counters)
        });
        self.requests.recycle(group);
    }
}

fn sessionless(command: &[u8], commit: Commit) -> Command<'_> {
    Command {
        session: SessionId(0),
        sequence: Sequence(0),
        first_unanswered: Sequence(0),
        command,
        commit,
    }
}
