//! Helper threads for blocking work: one lane each for syncs, for other disk work, and for names.

use std::fmt;
use std::io;
use std::net::ToSocketAddrs;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use kraft_core::adapter::{Endpoint, Waker};
use kraft_core::id::{Incarnation, NodeId};
use kraft_core::node::{Done, Task};
use kraft_core::storage::{Fault, Work};

/// Records a peer's incarnation durably.
pub(super) type Remember = Box<dyn FnMut(NodeId, Incarnation) -> Result<(), Fault> + Send>;

/// The lanes of one node. A lane's thread starts with its first task and ends when the lanes are dropped, after what
/// it was given.
///
/// Bounded by the node: it hands out at most one sync, one load and one preparation at a time, and one dial and one
/// record a peer.
pub(super) struct Lanes<W: Work> {
    sync: Option<Lane<W>>,
    disk: Option<Lane<W>>,
    names: Option<Lane<W>>,
    finished: Arc<Finished<W::Done>>,
    remember: Arc<Mutex<Remember>>,
}

struct Lane<W> {
    tasks: Option<Sender<Task<W>>>,
    thread: Option<JoinHandle<()>>,
}

/// What is done and waits to be collected.
pub(super) struct Finished<D> {
    done: Mutex<Vec<Done<D>>>,
    waker: Waker,
}

impl<D> Finished<D> {
    pub(super) fn push(&self, done: Done<D>) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(done);
        self.waker.wake();
    }
}

impl<W: Work> Lanes<W> {
    pub(super) fn new(waker: Waker, remember: Remember) -> Self {
        Self {
            sync: None,
            disk: None,
            names: None,
            finished: Arc::new(Finished {
                done: Mutex::new(Vec::new()),
                waker,
            }),
            remember: Arc::new(Mutex::new(remember)),
        }
    }

    /// Where finished work goes that was not given to a lane.
    pub(super) fn finished(&self) -> Arc<Finished<W::Done>> {
        Arc::clone(&self.finished)
    }

    pub(super) fn send(&mut self, task: Task<W>) {
        let (lane, name) = match &task {
            Task::Resolve { .. } => (&mut self.names, "kraft-names"),
            task if task.is_urgent() => (&mut self.sync, "kraft-sync"),
            Task::Storage(_) | Task::Remember { .. } => (&mut self.disk, "kraft-disk"),
        };
        let lane = lane.get_or_insert_with(|| Lane::start(name, &self.finished, &self.remember));
        let tasks = lane.tasks.as_ref().expect("taken only when the lane is dropped");
        tasks
            .send(task)
            .expect("a lane's thread ends only when its sender is dropped, or by a panic of its own");
    }

    pub(super) fn completed(&mut self) -> Vec<Done<W::Done>> {
        let mut done = self.finished.done.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *done)
    }
}

impl<W: Work> Lane<W> {
    fn start(name: &str, finished: &Arc<Finished<W::Done>>, remember: &Arc<Mutex<Remember>>) -> Self {
        let (sender, tasks) = mpsc::channel();
        let (finished, remember) = (Arc::clone(finished), Arc::clone(remember));
        let body = move || {
            for task in tasks {
                finished.push(perform(task, &remember));
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(body);
        Self {
            tasks: Some(sender),
            thread: Some(thread.expect("a process that cannot start a thread cannot go on")),
        }
    }
}

fn perform<W: Work>(task: Task<W>, remember: &Mutex<Remember>) -> Done<W::Done> {
    match task {
        Task::Storage(work) => Done::Storage(work.run()),
        Task::Resolve { node, name } => Done::Resolved {
            node,
            addresses: resolve(&name).unwrap_or_default(),
        },
        Task::Remember { node, incarnation } => {
            let mut remember = remember.lock().unwrap_or_else(PoisonError::into_inner);
            Done::Remembered {
                node,
                incarnation,
                result: (*remember)(node, incarnation),
            }
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

impl<W: Work> fmt::Debug for Lanes<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lanes")
    }
}
