//! Every order in which a handle's calls, its stop and the node can meet, by loom. A ticket that nobody ends, or a stop
//! that is not heard, leaves a thread waiting for ever, which loom finds.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use loom::sync::{Condvar, Mutex};
use loom::{model, thread};

use super::{Call, Handle, Outcome, Queue};
use crate::adapter::Waker;

/// loom knows no time: this is as long as it takes.
const FOREVER: Duration = Duration::MAX;

/// A node that answers calls until it is told to stop, as `Node` does: it waits, looks, and goes.
struct Model {
    queue: Arc<Queue>,
    woken: Arc<(Mutex<bool>, Condvar)>,
}

impl Model {
    fn new() -> (Self, Handle) {
        let queue = Queue::new(8);
        let woken = Arc::new((Mutex::new(false), Condvar::new()));
        let ours = Arc::clone(&woken);
        let waker = Waker::new(move || {
            *woken.0.lock().expect("nobody panics") = true;
            woken.1.notify_one();
        });
        let handle = Handle::new(Arc::clone(&queue), waker);
        (Self { queue, woken: ours }, handle)
    }

    fn wait(&self) {
        let mut woken = self.woken.0.lock().expect("nobody panics");
        while !mem::take(&mut *woken) {
            woken = self.woken.1.wait(woken).expect("nobody panics");
        }
    }

    fn run(&self) {
        let mut calls = VecDeque::new();
        loop {
            self.wait();
            let stop = self.queue.take(&mut calls);
            for call in calls.drain(..) {
                match call {
                    Call::Propose(command, _, completion) | Call::Read(command, _, completion) => {
                        completion.end(Outcome::Committed(command));
                    }
                    Call::Transfer(_, completion) | Call::Change(_, completion) => completion.end(Outcome::Unknown),
                    Call::Status(completion) => completion.end(None),
                }
            }
            if stop {
                return self.queue.close();
            }
        }
    }
}

fn answered(outcome: Option<Outcome>) {
    let outcome = outcome.expect("it waits for ever");
    assert!(
        matches!(outcome, Outcome::Committed(_) | Outcome::Unknown),
        "{outcome:?}"
    );
}

#[test]
fn a_stop_is_heard_and_every_call_ends() {
    model(|| {
        let (node, handle) = Model::new();
        let stopper = handle.clone();
        let node = thread::spawn(move || node.run());
        let stop = thread::spawn(move || stopper.stop());
        answered(handle.propose(Bytes::new()).wait(FOREVER));
        stop.join().expect("it only asks");
        node.join().expect("it stops");
        let late = handle.propose(Bytes::new()).wait(FOREVER);
        assert_eq!(late, Some(Outcome::Unknown), "the node is gone");
    });
}

#[test]
fn calls_of_two_threads_are_found_by_the_wakes_of_the_first() {
    model(|| {
        let (node, handle) = Model::new();
        let other = handle.clone();
        let caller = thread::spawn(move || answered(other.read(Bytes::new()).wait(FOREVER)));
        let node = thread::spawn(move || node.run());
        answered(handle.propose(Bytes::new()).wait(FOREVER));
        caller.join().expect("it is answered");
        handle.stop();
        node.join().expect("it stops");
    });
}

#[test]
fn a_callback_is_called_once_whoever_comes_first() {
    model(|| {
        let (node, handle) = Model::new();
        let node = thread::spawn(move || node.run());
        let called = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&called);
        handle.propose(Bytes::new()).on_done(move |outcome| {
            answered(Some(outcome));
            *counted.lock().expect("nobody panics") += 1;
        });
        handle.stop();
        node.join().expect("it stops");
        assert_eq!(*called.lock().expect("nobody panics"), 1);
    });
}
