//! A node from other threads: requests in, tickets out.

#[cfg(all(loom, test))]
mod models;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::adapter::Waker;
use crate::id::NodeId;
use crate::membership::Wish;
use crate::message::{self, Basis, Commit, Consistency, Refusal, Refused};
use crate::raft::Status;
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How a request of this process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Committed and applied, or read; the state machine's answer.
    Committed(Bytes),
    /// It did not and will not happen.
    Refused {
        /// The branch to take.
        why: Refusal,
        /// Who leads, as far as this node knows.
        leader: NodeId,
        /// What a person should read; may be empty.
        detail: String,
    },
    /// It may or may not have happened: leadership was lost, or the node went away.
    Unknown,
    /// It is answered on less, as was asked for.
    Weaker {
        /// On what.
        basis: Basis,
        /// The state machine's answer to a read; of a command, which is not applied, nothing.
        answer: Bytes,
    },
}

impl Outcome {
    /// The same, lent.
    #[must_use]
    pub fn lend(&self) -> message::Outcome<'_> {
        match self {
            Self::Committed(reply) => message::Outcome::Committed(reply),
            Self::Refused { why, leader, detail } => message::Outcome::Refused(Refused {
                why: *why,
                leader: *leader,
                detail,
            }),
            Self::Unknown => message::Outcome::Unknown,
            Self::Weaker { basis, answer } => message::Outcome::Weaker { basis: *basis, answer },
        }
    }

    /// What it takes in memory beyond itself.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Committed(reply) | Self::Weaker { answer: reply, .. } => reply.len(),
            Self::Refused { detail, .. } => detail.len(),
            Self::Unknown => 0,
        }
    }
}

impl From<message::Outcome<'_>> for Outcome {
    fn from(outcome: message::Outcome<'_>) -> Self {
        match outcome {
            message::Outcome::Committed(reply) => Self::Committed(Bytes::copy_from_slice(reply)),
            message::Outcome::Refused(Refused { why, leader, detail }) => Self::Refused {
                why,
                leader,
                detail: detail.to_owned(),
            },
            message::Outcome::Unknown => Self::Unknown,
            message::Outcome::Weaker { basis, answer } => Self::Weaker {
                basis,
                answer: Bytes::copy_from_slice(answer),
            },
        }
    }
}

/// A node, from any thread. Clones speak to the same node.
#[derive(Clone)]
pub struct Handle {
    queue: Arc<Queue>,
    waker: Waker,
}

/// A request that is under way.
#[derive(Debug)]
pub struct Ticket<T> {
    promise: Arc<Promise<T>>,
}

/// What a handle asks of its node.
#[derive(Debug)]
pub(super) enum Call {
    Propose(Bytes, Commit, Completion<Outcome>),
    Read(Bytes, Consistency, Completion<Outcome>),
    Transfer(NodeId, Completion<Outcome>),
    Status(Completion<Option<Status>>),
    Change(Wish, Completion<Outcome>),
}

/// The node's side of a handle. Bounded: [`Queue::calls_max`] calls wait at most.
pub(super) struct Queue {
    state: Mutex<State>,
    calls_max: usize,
}

struct State {
    calls: VecDeque<Call>,
    stop: bool,
    gone: bool,
}

/// The duty to end a ticket. Dropped without an answer, it says that the outcome is unknown.
pub(super) struct Completion<T: Unanswered> {
    promise: Option<Arc<Promise<T>>>,
}

/// What a ticket gets when nobody answers.
pub(super) trait Unanswered: Sized {
    fn unanswered() -> Self;
}

impl Unanswered for Outcome {
    fn unanswered() -> Self {
        Self::Unknown
    }
}

impl Unanswered for Option<Status> {
    fn unanswered() -> Self {
        None
    }
}

struct Promise<T> {
    slot: Mutex<Slot<T>>,
    done: Condvar,
}

enum Slot<T> {
    Pending,
    Callback(Box<dyn FnOnce(T) + Send>),
    Done(T),
    /// Nobody will ask any more.
    Abandoned,
}

/// A thread that panicked while it held one of these locks left no half-made state: each critical section is one
/// assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handle {
    pub(super) fn new(queue: Arc<Queue>, waker: Waker) -> Self {
        Self { queue, waker }
    }

    /// Proposes a command. Without a session: if the outcome is unknown, proposing it again may apply it twice.
    #[must_use]
    pub fn propose(&self, command: Bytes) -> Ticket<Outcome> {
        self.propose_by(command, Commit::Strong)
    }

    /// Proposes a command that is answered as `commit` says. Without a session, as [`propose`](Self::propose).
    #[must_use]
    pub fn propose_by(&self, command: Bytes, commit: Commit) -> Ticket<Outcome> {
        self.call(
            |completion| Call::Propose(command, commit, completion),
            Self::overloaded(),
        )
    }

    /// Reads linearizably.
    #[must_use]
    pub fn read(&self, query: Bytes) -> Ticket<Outcome> {
        self.read_by(query, Consistency::Linearizable)
    }

    /// Reads what holds so much.
    #[must_use]
    pub fn read_by(&self, query: Bytes, consistency: Consistency) -> Ticket<Outcome> {
        self.call(
            |completion| Call::Read(query, consistency, completion),
            Self::overloaded(),
        )
    }

    /// Changes the members. Ends when that is committed, or refused; [`message::Change::index`] reads the answer. It may be
    /// asked for again if the outcome is unknown: what is so already succeeds.
    #[must_use]
    pub fn change(&self, change: message::Change<'_>) -> Ticket<Outcome> {
        let wish = Wish::from(change);
        self.call(|completion| Call::Change(wish, completion), Self::overloaded())
    }

    /// What the node knows; `None` if it went away.
    #[must_use]
    pub fn status(&self) -> Ticket<Option<Status>> {
        self.call(Call::Status, None)
    }

    /// Hands leadership over to a voter, or with [`NodeId::NONE`] to the one that has most of the log. Ends when it is
    /// known who leads, within an election timeout; [`message::Transfer::leader`] reads the answer.
    #[must_use]
    pub fn transfer(&self, to: NodeId) -> Ticket<Outcome> {
        self.call(|completion| Call::Transfer(to, completion), Self::overloaded())
    }

    /// Asks the node to stop: a leader hands over first, which takes an election timeout at most; then it says goodbye to its connections, flushes, and [`Node::is_stopped`] becomes true.
    ///
    /// [`Node::is_stopped`]: super::Node::is_stopped
    pub fn stop(&self) {
        lock(&self.queue.state).stop = true;
        self.waker.wake();
    }

    fn overloaded() -> Outcome {
        Outcome::Refused {
            why: Refusal::Overloaded,
            leader: NodeId::NONE,
            detail: "too many calls of this process wait for the node (calls_max)".to_owned(),
        }
    }

    fn call<T: Unanswered>(&self, make: impl FnOnce(Completion<T>) -> Call, when_full: T) -> Ticket<T> {
        let promise = Arc::new(Promise {
            slot: Mutex::new(Slot::Pending),
            done: Condvar::new(),
        });
        let ticket = Ticket {
            promise: Arc::clone(&promise),
        };
        let completion = Completion { promise: Some(promise) };
        let mut state = lock(&self.queue.state);
        if state.gone {
            drop(state);
            drop(completion);
        } else if state.calls.len() >= self.queue.calls_max {
            drop(state);
            completion.end(when_full);
        } else {
            // The first call of a batch wakes; those behind it are found by the same wake.
            let first = state.calls.is_empty();
            state.calls.push_back(make(completion));
            drop(state);
            if first {
                self.waker.wake();
            }
        }
        ticket
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

impl Queue {
    pub(super) fn new(calls_max: usize) -> Arc<Self> {
        let state = State {
            calls: VecDeque::new(),
            stop: false,
            gone: false,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            calls_max,
        })
    }

    /// Swaps what waits into `calls`, which is empty; whether a stop was asked for.
    pub(super) fn take(&self, calls: &mut VecDeque<Call>) -> bool {
        let mut state = lock(&self.state);
        std::mem::swap(&mut state.calls, calls);
        state.stop
    }

    /// The node goes away: what waits, and what still comes, is unknown.
    pub(super) fn close(&self) {
        let calls = {
            let mut state = lock(&self.state);
            state.gone = true;
            std::mem::take(&mut state.calls)
        };
        drop(calls);
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("calls_max", &self.calls_max)
            .finish_non_exhaustive()
    }
}

impl<T: Unanswered> Completion<T> {
    pub(super) fn end(mut self, value: T) {
        if let Some(promise) = self.promise.take() {
            promise.end(value);
        }
    }
}

impl<T: Unanswered> Drop for Completion<T> {
    fn drop(&mut self) {
        if let Some(promise) = self.promise.take() {
            promise.end(T::unanswered());
        }
    }
}

impl<T: Unanswered> fmt::Debug for Completion<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Completion")
    }
}

impl<T> Promise<T> {
    fn end(&self, value: T) {
        let mut slot = lock(&self.slot);
        match std::mem::replace(&mut *slot, Slot::Abandoned) {
            Slot::Pending => {
                *slot = Slot::Done(value);
                drop(slot);
                self.done.notify_all();
            }
            Slot::Callback(callback) => {
                drop(slot);
                callback(value);
            }
            Slot::Abandoned => {}
            Slot::Done(_) => unreachable!("a completion ends once"),
        }
    }
}

impl<T> fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Promise")
    }
}

impl<T> Ticket<T> {
    /// Waits for the outcome. `None` after `timeout`: the request goes on, its outcome is lost with the ticket.
    ///
    /// Called on the thread that turns the node it waits for itself: use [`on_done`](Self::on_done) there.
    #[must_use]
    pub fn wait(self, timeout: Duration) -> Option<T> {
        let slot = lock(&self.promise.slot);
        let pending = |slot: &mut Slot<T>| matches!(slot, Slot::Pending);
        let (mut slot, _) = self
            .promise
            .done
            .wait_timeout_while(slot, timeout, pending)
            .unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *slot, Slot::Abandoned) {
            Slot::Done(value) => Some(value),
            _ => None,
        }
    }

    /// Calls `callback` with the outcome: at once if it is there, else on the node's thread, where it must not block.
    pub fn on_done(self, callback: impl FnOnce(T) + Send + 'static) {
        let mut slot = lock(&self.promise.slot);
        match std::mem::replace(&mut *slot, Slot::Abandoned) {
            Slot::Done(value) => {
                drop(slot);
                callback(value);
            }
            _ => *slot = Slot::Callback(Box::new(callback)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(calls_max: usize) -> (Handle, Arc<Queue>) {
        let queue = Queue::new(calls_max);
        (Handle::new(Arc::clone(&queue), Waker::new(|| {})), queue)
    }

    #[test]
    fn a_call_that_nobody_answers_is_unknown() {
        let (handle, queue) = handle(8);
        let before = handle.propose(Bytes::new());
        queue.close();
        let after = handle.propose(Bytes::new());
        assert_eq!(before.wait(Duration::ZERO), Some(Outcome::Unknown));
        assert_eq!(after.wait(Duration::ZERO), Some(Outcome::Unknown));
    }

    #[test]
    fn calls_past_the_bound_are_refused() {
        let (handle, _queue) = handle(1);
        let first = handle.propose(Bytes::new());
        let second = handle.propose(Bytes::new()).wait(Duration::ZERO);
        assert!(matches!(
            second,
            Some(Outcome::Refused {
                why: Refusal::Overloaded,
                ..
            })
        ));
        assert_eq!(first.wait(Duration::ZERO), None, "still under way");
    }

    #[test]
    fn a_callback_is_called_once_whenever_it_comes() {
        let (handle, queue) = handle(8);
        let (sender, receiver) = std::sync::mpsc::channel();
        let again = sender.clone();
        handle
            .propose(Bytes::new())
            .on_done(move |outcome| sender.send(outcome).expect("received below"));
        queue.close();
        handle
            .propose(Bytes::new())
            .on_done(move |outcome| again.send(outcome).expect("received below"));
        assert_eq!(
            receiver.iter().collect::<Vec<_>>(),
            [Outcome::Unknown, Outcome::Unknown]
        );
    }
}
