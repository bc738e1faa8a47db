//! The thread that waits for what the loop must not wait for itself: connections to accept, the outcome of a connect,
//! room to write.
//!
//! One thread and poll(2) for all of these, and not a thread an acceptor and a thread a writer: they are rare beside
//! reads, which have threads of their own; it hands nothing over but the news, so that the loop accepts and writes
//! itself, memory that is to be written stays with the connection, and the limits of connections are judged in one
//! place; and it can be ended on every system, where a thread that stands in accept(2) or connect(2) cannot (shutdown(2)
//! of a listening socket is ENOTCONN on BSD and wakes nobody).

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::mailbox::Mailbox;
use super::reader::Note;
use super::signal::{Raised, Raiser, signal};
use crate::sock::Stream;

/// How long it rests if the system has no memory for a poll(2), or allows none of so many descriptors.
const REST: Duration = Duration::from_millis(10);

/// What to watch for, once: who saw it come asks again.
#[derive(Debug)]
struct Watch {
    token: u64,
    events: libc::c_short,
    /// Open for as long as the watch lasts: for a connection because this holds it, for a listener because who closes it
    /// calls [`Watcher::forget_now`] first.
    fd: RawFd,
    _held: Option<Arc<Stream>>,
}

#[derive(Debug)]
enum Order {
    Watch(Watch),
    Forget(u64),
}

#[derive(Debug)]
struct Orders {
    state: Mutex<State>,
    bell: Condvar,
    raiser: Raiser,
}

#[derive(Debug, Default)]
struct State {
    new: Vec<Order>,
    is_raised: bool,
    is_over: bool,
    /// Orders given, and of those the ones that were carried out: `done <= given`.
    given: u64,
    done: u64,
}

/// The loop's side of it. Ends the thread when it is dropped.
#[derive(Debug)]
pub(super) struct Watcher {
    orders: Arc<Orders>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts the thread. What it sees goes to `mailbox`, as [`Note::Ready`].
    ///
    /// # Errors
    ///
    /// No descriptor or no thread is left.
    pub(super) fn start(mailbox: Arc<Mailbox<Note>>) -> io::Result<Self> {
        let (raiser, raised) = signal()?;
        let orders = Arc::new(Orders {
            state: Mutex::new(State::default()),
            bell: Condvar::new(),
            raiser,
        });
        let theirs = Arc::clone(&orders);
        let thread = thread::Builder::new()
            .name("kraft-watcher".to_owned())
            .spawn(move || watch(&theirs, &raised, &mailbox))?;
        Ok(Self {
            orders,
            thread: Some(thread),
        })
    }

    /// Watches until a connection has its outcome, or room for what is to be written.
    pub(super) fn watch_for_room(&self, token: u64, stream: &Arc<Stream>) {
        self.give(Order::Watch(Watch {
            token,
            events: libc::POLLOUT,
            fd: stream.as_raw_fd(),
            _held: Some(Arc::clone(stream)),
        }));
    }

    /// Watches until a listener has connections to accept. [`forget_now`](Self::forget_now) comes before its
    /// descriptor is closed.
    pub(super) fn watch_for_connections(&self, token: u64, listener: &impl AsRawFd) {
        self.give(Order::Watch(Watch {
            token,
            events: libc::POLLIN,
            fd: listener.as_raw_fd(),
            _held: None,
        }));
    }

    /// Watches a connection no longer, soon.
    pub(super) fn forget(&self, token: u64) {
        self.give(Order::Forget(token));
    }

    /// Watches no longer; waits until that is so.
    pub(super) fn forget_now(&self, token: u64) {
        let number = self.give(Order::Forget(token));
        let mut state = self.orders.lock();
        // A watcher that panicked carries out nothing, and watches nothing either.
        while state.done < number && !state.is_over {
            state = self.orders.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns the order's number.
    fn give(&self, order: Order) -> u64 {
        let mut state = self.orders.lock();
        state.new.push(order);
        state.given += 1;
        if !state.is_raised {
            state.is_raised = true;
            self.orders.raiser.raise();
        }
        state.given
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        {
            let mut state = self.orders.lock();
            state.is_over = true;
            if !state.is_raised {
                state.is_raised = true;
                self.orders.raiser.raise();
            }
        }
        if let Some(thread) = self.thread.take() {
            // A panic over there was printed there; here there is nothing left to save.
            let _ = thread.join();
        }
    }
}

impl Orders {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that nobody watches any more, also after a panic.
struct Over<'a>(&'a Orders);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.bell.notify_all();
    }
}

fn watch(orders: &Orders, raised: &Raised, mailbox: &Mailbox<Note>) {
    let _over = Over(orders);
    let mut new = Vec::new();
    // `entries[0]` is the signal, `entries[i + 1]` belongs to `watches[i]`.
    let mut watches: Vec<Watch> = Vec::new();
    let mut entries = vec![entry(raised.as_raw_fd(), libc::POLLIN)];
    loop {
        if !poll(&mut entries) {
            continue;
        }
        for nth in (0..watches.len()).rev() {
            if entries[nth + 1].revents != 0 {
                entries.swap_remove(nth + 1);
                mailbox.tell(Note::Ready(watches.swap_remove(nth).token));
            }
        }
        if entries[0].revents == 0 {
            continue;
        }
        {
            let mut state = orders.lock();
            if state.is_over {
                return;
            }
            state.is_raised = false;
            raised.lower();
            std::mem::swap(&mut state.new, &mut new);
        }
        let carried_out = new.len() as u64;
        for order in new.drain(..) {
            match order {
                Order::Watch(watch) => {
                    entries.push(entry(watch.fd, watch.events));
                    watches.push(watch);
                }
                Order::Forget(token) => {
                    if let Some(nth) = watches.iter().position(|watch| watch.token == token) {
                        entries.swap_remove(nth + 1);
                        watches.swap_remove(nth);
                    }
                }
            }
        }
        orders.lock().done += carried_out;
        orders.bell.notify_all();
    }
}

fn entry(fd: RawFd, events: libc::c_short) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

/// Waits until something is to be seen. Whether `entries` say what.
fn poll(entries: &mut [libc::pollfd]) -> bool {
    // SAFETY: the entries are valid for the call. Their descriptors are open: see `Watch::fd`; if one were not, its
    // entry would say so, and its owner find out.
    let count = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, -1) };
    if count < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
        thread::sleep(REST);
    }
    count > 0
}
