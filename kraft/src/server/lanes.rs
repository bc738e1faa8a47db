//! Helper threads for blocking work: one lane each for syncs, for other disk work, for snapshots that are received, for
//! pieces of those that are sent, for those that are taken, and for names.

use std::fmt;
use std::io;
use std::net::ToSocketAddrs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use kraft_core::adapter::{Endpoint, Waker};
use kraft_core::id::{Incarnation, NodeId};
use kraft_core::node::{Done, SnapshotLane, Task};
use kraft_core::storage::{Fault, Work};

const BACKGROUND: &str = "kraft-saves";

/// A tenth of what another thread gets that wants the same processor: enough to come to an end when all are busy.
#[cfg(target_os = "linux")]
const BACKGROUND_NICE: i32 = 10;

/// Records a peer's incarnation durably.
pub(super) type Remember = Box<dyn FnMut(NodeId, Incarnation) -> Result<(), Fault> + Send>;

/// Forgets durably that the log was damaged.
pub(super) type ForgetDamage = Box<dyn FnMut() -> Result<(), Fault> + Send>;

/// What the program does to its data folder.
pub(super) struct Folder {
    pub(super) remember: Remember,
    pub(super) forget_damage: ForgetDamage,
}

impl Folder {
    /// Of a node that has nothing to forget.
    pub(super) fn of(remember: impl FnMut(NodeId, Incarnation) -> Result<(), Fault> + Send + 'static) -> Self {
        Self {
            remember: Box::new(remember),
            forget_damage: Box::new(|| Ok(())),
        }
    }
}

/// The lanes of one node. A lane's thread starts with its first task and ends when the lanes are dropped, after what
/// it was given.
///
/// Bounded by the node: it hands out at most one sync, one load and one preparation at a time, one dial and one record a
/// peer, one state to write, one to read, and pieces within the windows of those who take part in a transfer.
pub(super) struct Lanes<W: Work> {
    sync: Option<Lane<W>>,
    disk: Option<Lane<W>>,
    pieces: Option<Lane<W>>,
    transfer: Option<Lane<W>>,
    background: Option<Lane<W>>,
    names: Option<Lane<W>>,
    finished: Arc<Finished<W::Done>>,
    folder: Arc<Mutex<Folder>>,
}

/// A thread and its queue. Dropped, it waits until the thread has done what it was given.
struct Lane<W> {
    tasks: Option<Sender<Task<W>>>,
    thread: Option<JoinHandle<()>>,
}

/// What is done and waits to be collected.
pub(super) struct Finished<D> {
    done: Mutex<Vec<Done<D>>>,
    /// A lane panicked: what it had to do will never be done.
    is_broken: AtomicBool,
    /// The node ends: work on snapshots that was not begun is of no use any more, and may take long.
    is_over: AtomicBool,
    waker: Waker,
}

impl<D> Finished<D> {
    pub(super) fn push(&self, done: Done<D>) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(done);
        self.waker.wake();
    }
}

/// Tells of a panic on a lane's thread.
struct BreakOnPanic<'a, D>(&'a Finished<D>);

impl<D> Drop for BreakOnPanic<'_, D> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.is_broken.store(true, Ordering::Release);
            self.0.waker.wake();
        }
    }
}

impl<W: Work> Lanes<W> {
    pub(super) fn new(waker: Waker, folder: Folder) -> Self {
        Self {
            sync: None,
            disk: None,
            pieces: None,
            transfer: None,
            background: None,
            names: None,
            finished: Arc::new(Finished {
                done: Mutex::new(Vec::new()),
                is_broken: AtomicBool::new(false),
                is_over: AtomicBool::new(false),
                waker,
            }),
            folder: Arc::new(Mutex::new(folder)),
        }
    }

    pub(super) fn forget_damage_by(&mut self, forget: ForgetDamage) {
        self.folder.lock().unwrap_or_else(PoisonError::into_inner).forget_damage = forget;
    }

    /// Where finished work goes that was not given to a lane.
    pub(super) fn finished(&self) -> Arc<Finished<W::Done>> {
        Arc::clone(&self.finished)
    }

    pub(super) fn send(&mut self, task: Task<W>) {
        let (lane, name) = match &task {
            Task::Resolve { .. } => (&mut self.names, "kraft-names"),
            task if task.is_urgent() => (&mut self.sync, "kraft-sync"),
            Task::Snapshot(work) => match work.lane() {
                SnapshotLane::Pieces => (&mut self.pieces, "kraft-pieces"),
                SnapshotLane::Transfer => (&mut self.transfer, "kraft-transfer"),
                SnapshotLane::Background => (&mut self.background, BACKGROUND),
            },
            Task::Storage(_) | Task::Remember { .. } | Task::ForgetDamage => (&mut self.disk, "kraft-disk"),
        };
        let lane = lane.get_or_insert_with(|| Lane::start(name, &self.finished, &self.folder));
        let tasks = lane.tasks.as_ref().expect("taken only when the lane is dropped");
        // A lane whose thread is gone panicked; `completed` tells.
        let _ = tasks.send(task);
    }

    /// What was done since the last call.
    ///
    /// # Errors
    ///
    /// A lane panicked: what it had to do will never be done.
    pub(super) fn completed(&mut self) -> io::Result<Vec<Done<W::Done>>> {
        if self.finished.is_broken.load(Ordering::Acquire) {
            return Err(io::Error::other(
                "a helper thread panicked; its message is in the log above",
            ));
        }
        let mut done = self.finished.done.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *done))
    }
}

impl<W: Work> Lane<W> {
    fn start(name: &'static str, finished: &Arc<Finished<W::Done>>, folder: &Arc<Mutex<Folder>>) -> Self {
        let (sender, tasks) = mpsc::channel();
        let (finished, folder) = (Arc::clone(finished), Arc::clone(folder));
        let body = move || {
            let _break = BreakOnPanic(&*finished);
            if name == BACKGROUND {
                step_back();
            }
            for task in tasks {
                if matches!(task, Task::Snapshot(_)) && finished.is_over.load(Ordering::Acquire) {
                    continue;
                }
                finished.push(perform(task, &folder));
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(body);
        Self {
            tasks: Some(sender),
            thread: Some(thread.expect("a process that cannot start a thread cannot go on")),
        }
    }
}

/// Gives this thread less of the processors than the others have.
fn step_back() {
    // Elsewhere it would be the whole process; Linux keeps the value for each thread (setpriority(2), "C library/kernel
    // differences"). Without it the work is done all the same.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, BACKGROUND_NICE);
}

fn perform<W: Work>(task: Task<W>, folder: &Mutex<Folder>) -> Done<W::Done> {
    match task {
        Task::Storage(work) => Done::Storage(work.run()),
        Task::Snapshot(work) => Done::Snapshot(work.run()),
        Task::Resolve { node, name } => Done::Resolved {
            node,
            addresses: resolve(&name),
        },
        Task::Remember { node, incarnation } => {
            let mut folder = folder.lock().unwrap_or_else(PoisonError::into_inner);
            Done::Remembered {
                node,
                incarnation,
                result: (folder.remember)(node, incarnation),
            }
        }
        Task::ForgetDamage => {
            let mut folder = folder.lock().unwrap_or_else(PoisonError::into_inner);
            Done::DamageForgotten((folder.forget_damage)())
        }
    }
}

fn resolve(name: &str) -> io::Result<Vec<Endpoint>> {
    Ok(name.to_socket_addrs()?.map(Endpoint::Tcp).collect())
}

impl<W> Drop for Lane<W> {
    fn drop(&mut self) {
        drop(self.tasks.take());
        if let Some(thread) = self.thread.take() {
            // A panic over there was printed there; here there is nothing left to save.
            let _ = thread.join();
        }
    }
}

impl<W: Work> Drop for Lanes<W> {
    fn drop(&mut self) {
        self.finished.is_over.store(true, Ordering::Release);
        // A name may take the system many seconds, and nobody waits for it any more.
        if let Some(names) = &mut self.names {
            names.thread = None;
        }
    }
}

impl<W: Work> fmt::Debug for Lanes<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lanes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Panics;

    impl Work for Panics {
        type Done = ();

        fn is_urgent(&self) -> bool {
            true
        }

        fn run(self) {
            panic!("on purpose");
        }
    }

    #[test]
    fn a_lane_that_panics_is_told() {
        let (sender, woken) = mpsc::channel();
        let waker = Waker::new(move || sender.send(()).expect("received below"));
        let mut lanes = Lanes::new(waker, Folder::of(|_, _| Ok(())));
        lanes.send(Task::Storage(Panics));
        woken.recv().expect("the lane's end wakes");
        assert!(lanes.completed().is_err());
        lanes.send(Task::Storage(Panics));
    }
}
