//! Two threads and one loop: whoever holds the baton turns the node, and syncs run on the holder's own thread.
//!
//! Before a sync the holder parks the node where the other thread can see it. If the sync returns soon, the holder
//! takes the node back and goes on: two uncontended locks, no wake, no switch. If the disk stalls, the other thread
//! takes the node and turns it meanwhile, so that heartbeats, votes and reads go on; the sync's completion then
//! comes to it like that of any helper thread, and the roles are exchanged.
//!
//! ```text
//! holder   turn … settle | park | write, fdatasync | take back | settle | turn …
//! other    asleep, or looks every TICK ------------^ takes over if parked for TAKE_OVER_AFTER
//! ```
//!
//! The stand-in sleeps without a timeout while nothing syncs; the first sync after a quiet time wakes it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use kraft_core::adapter::Adapter;
use kraft_core::machine::StateMachine;
use kraft_core::node::{Done, Failure, Task};
use kraft_core::protocol::Protocol;
use kraft_core::storage::{Storage, Work};
use kraft_core::time::Instant as Time;

use super::Server;

/// A sync that takes longer is a stall, and the loop goes on without it. Well above what a sync takes on a busy
/// machine (a scheduler's tick is 4 ms), well below a heartbeat.
const TAKE_OVER_AFTER: Duration = Duration::from_millis(10);

/// How often the stand-in looks while there are syncs.
const TICK: Duration = TAKE_OVER_AFTER;

/// Where a node is parked. `T` is the server.
#[derive(Debug)]
struct Baton<T> {
    state: Mutex<State<T>>,
    bell: Condvar,
}

#[derive(Debug)]
struct State<T> {
    parked: Option<(T, Instant)>,
    /// How often something was parked, so that the stand-in sees whether there are syncs at all.
    count: u64,
    asleep: bool,
    ended: bool,
}

impl<T> Baton<T> {
    fn new() -> Self {
        let state = State {
            parked: None,
            count: 0,
            asleep: false,
            ended: false,
        };
        Self {
            state: Mutex::new(state),
            bell: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn park(&self, held: T) {
        let mut state = self.lock();
        state.parked = Some((held, Instant::now()));
        state.count += 1;
        if std::mem::take(&mut state.asleep) {
            drop(state);
            self.bell.notify_one();
        }
    }

    /// `None` if the other thread took over.
    fn take_back(&self) -> Option<T> {
        self.lock().parked.take().map(|(held, _)| held)
    }

    fn is_ended(&self) -> bool {
        self.lock().ended
    }

    fn end(&self) {
        self.lock().ended = true;
        self.bell.notify_all();
    }

    /// Waits until something was parked for too long and takes it; `None` if all is over.
    fn stand_by(&self) -> Option<T> {
        let mut state = self.lock();
        let mut seen = state.count;
        loop {
            if state.ended {
                return None;
            }
            match &state.parked {
                Some((_, since)) if since.elapsed() >= TAKE_OVER_AFTER => {
                    return state.parked.take().map(|(held, _)| held);
                }
                None if state.count == seen => {
                    state.asleep = true;
                    state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.asleep = false;
                }
                _ => {
                    seen = state.count;
                    state = self
                        .bell
                        .wait_timeout(state, TICK)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
                }
            }
        }
    }
}

/// What became of a turn at the baton.
enum Held {
    /// The node is at its end.
    Ended(Result<(), Failure>),
    /// A sync stalled and the other thread has the node.
    Lost,
}

/// Turns the server until it is stopped or fails.
pub(super) fn run<A, P, S, M>(server: Box<Server<A, P, S, M>>) -> Result<(), Failure>
where
    A: Adapter + Send,
    P: Protocol + Send,
    S: Storage + Send,
    M: StateMachine + Send,
{
    let baton = Baton::new();
    thread::scope(|scope| {
        let other = thread::Builder::new()
            .name("kraft-standby".to_owned())
            .spawn_scoped(scope, || alternate(&baton, None))
            .map_err(Failure::Loop)?;
        let mine = alternate(&baton, Some(server));
        let theirs = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        mine.or(theirs).expect("one of the two threads saw the end")
    })
}

fn alternate<A, P, S, M>(
    baton: &Baton<Box<Server<A, P, S, M>>>,
    mut held: Option<Box<Server<A, P, S, M>>>,
) -> Option<Result<(), Failure>>
where
    A: Adapter,
    P: Protocol,
    S: Storage,
    M: StateMachine,
{
    // Whatever happens here, a panic among it, the other thread must not wait for ever.
    let _end = EndOnPanic(baton);
    loop {
        let server = match held.take() {
            Some(server) => server,
            None => baton.stand_by()?,
        };
        match hold(baton, server) {
            Held::Lost => {}
            Held::Ended(result) => {
                baton.end();
                return Some(result);
            }
        }
    }
}

struct EndOnPanic<'a, T>(&'a Baton<T>);

impl<T> Drop for EndOnPanic<'_, T> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.end();
        }
    }
}

fn hold<A, P, S, M>(baton: &Baton<Box<Server<A, P, S, M>>>, mut server: Box<Server<A, P, S, M>>) -> Held
where
    A: Adapter,
    P: Protocol,
    S: Storage,
    M: StateMachine,
{
    let mut next = None;
    loop {
        // The other thread panicked in its sync, which will never come back; the panic goes on in `run`.
        if baton.is_ended() {
            return Held::Lost;
        }
        // With a sync at hand the loop does not wait, but it looks: calls of this process that come one behind the
        // other, each with a sync of its own, would else keep it from its sockets and its clock.
        let deadline = next.as_ref().map(|_| Time::ZERO);
        if let Err(failure) = server.node.poll(deadline).and_then(|()| server.settle()) {
            return Held::Ended(Err(failure));
        }
        if let Some(work) = next.take().or_else(|| next_sync(&mut server)) {
            let finished = server.lanes.finished();
            baton.park(server);
            let done = Done::Storage(work.run());
            let Some(own) = baton.take_back() else {
                finished.push(done);
                return Held::Lost;
            };
            server = own;
            if let Err(failure) = server.node.complete(done).and_then(|()| server.settle()) {
                return Held::Ended(Err(failure));
            }
            next = next_sync(&mut server);
        }
        if next.is_none() && server.is_stopped() {
            return Held::Ended(Ok(()));
        }
    }
}

/// Gives tasks to the lanes until one is a sync.
fn next_sync<A, P, S, M>(server: &mut Server<A, P, S, M>) -> Option<S::Work>
where
    A: Adapter,
    P: Protocol,
    S: Storage,
    M: StateMachine,
{
    while let Some(task) = server.node.next_task() {
        match task {
            Task::Storage(work) if work.is_urgent() => return Some(work),
            task => server.lanes.send(task),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_park_is_taken_back_by_its_owner() {
        let baton = Baton::new();
        baton.park(7);
        assert_eq!(baton.take_back(), Some(7));
    }

    #[test]
    fn a_long_park_is_taken_over_and_the_owner_is_told() {
        let baton = Baton::new();
        thread::scope(|scope| {
            let other = scope.spawn(|| baton.stand_by());
            baton.park(7);
            // The stall itself: nobody takes it back.
            assert_eq!(other.join().expect("no panic"), Some(7));
            assert_eq!(baton.take_back(), None);
        });
    }

    #[test]
    fn the_end_is_heard_by_a_stand_in_that_sleeps() {
        let baton: Baton<u8> = Baton::new();
        thread::scope(|scope| {
            let other = scope.spawn(|| baton.stand_by());
            baton.end();
            assert_eq!(other.join().expect("no panic"), None);
        });
    }
}
