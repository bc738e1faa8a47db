//! The ring: two queues shared with the kernel, and the one call that moves both.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::thread::{self, ThreadId};
use std::time::Duration;

use io_uring::squeue::Entry;
use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Submitter};

use super::ops::{Completion, Kind, Op};
use super::setup::{self, Setup};

/// Completions that fit into the queue. The kernel keeps those that do not fit, and a multishot operation that meets a
/// full queue ends; so it has room for a burst of many connections. 64 KiB.
pub(super) const COMPLETIONS: u32 = 4096;

/// The longest wait of one call; who waits longer calls again. Far from where the kernel's sums overflow.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// How long a wait rests if the system has no memory for what is to be submitted.
const REST: Duration = Duration::from_millis(10);

/// What a system call does besides submitting.
#[derive(Clone, Copy, Debug)]
enum Call {
    Submit,
    /// Has the kernel run what completes.
    Look,
    /// That, and waits for a completion.
    Wait(Option<Duration>),
}

/// The queues, and who may use them.
///
/// Whatever the set-up, the thread of the first turn keeps the ring: completions are worked off by the thread that
/// submitted, so that with another one in its place they would wait until the first happens to enter the kernel.
pub(super) struct Ring {
    /// Boxed, so that the backends are about as big as each other.
    io: Box<IoUring>,
    setup: Setup,
    /// Entries that found the submission queue full, in order: before the first turn nothing can be submitted.
    backlog: VecDeque<Entry>,
    /// The thread of the first turn.
    owner: Option<ThreadId>,
    /// Operations that have still to have their last completion.
    in_flight: usize,
    calls: u64,
}

impl Ring {
    pub(super) fn new(io: IoUring, setup: Setup) -> Self {
        Self {
            io: Box::new(io),
            setup,
            backlog: VecDeque::new(),
            owner: None,
            in_flight: 0,
            calls: 0,
        }
    }

    pub(super) fn setup(&self) -> Setup {
        self.setup
    }

    /// System calls so far.
    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    pub(super) fn submitter(&self) -> Submitter<'_> {
        self.io.submitter()
    }

    /// Whether there was a first turn, so that the kernel may have something to do.
    pub(super) fn is_started(&self) -> bool {
        self.owner.is_some()
    }

    /// Whether this thread may use the ring.
    pub(super) fn is_mine(&self) -> bool {
        self.owner.is_none_or(|owner| owner == thread::current().id())
    }

    /// Begins a turn: the first one binds the ring to its thread.
    pub(super) fn start(&mut self) -> io::Result<()> {
        if !self.is_mine() {
            return Err(another_thread());
        }
        if self.owner.is_none() {
            if self.setup == Setup::Deferred {
                let enabled = self.io.submitter().register_enable_rings();
                enabled.map_err(|error| setup::explain("io_uring_register", &error))?;
            }
            self.owner = Some(thread::current().id());
        }
        Ok(())
    }

    /// Queues an operation, to be submitted by the next call; at once if the queue is full.
    pub(super) fn push(&mut self, op: &Op) {
        self.in_flight += usize::from(op.is_counted());
        if self.backlog.is_empty() {
            if self.try_push(op.entry()) {
                return;
            }
            // If it fails the next call meets the same error and reports it.
            if self.owner.is_some() && self.submit().is_ok() && self.try_push(op.entry()) {
                return;
            }
        }
        self.backlog.push_back(op.entry().clone());
    }

    fn try_push(&mut self, entry: &Entry) -> bool {
        // SAFETY: it is that of an `Op`, whose maker promised that what it points to stays valid.
        unsafe { self.io.submission().push(entry) }.is_ok()
    }

    /// Whether something is queued that the kernel does not know of.
    pub(super) fn has_queued(&self) -> bool {
        // SAFETY: as for `has_arrivals`.
        !self.backlog.is_empty() || !unsafe { self.io.submission_shared() }.is_empty()
    }

    /// Whether a call would bring completions, as far as memory says.
    pub(super) fn has_arrivals(&self) -> bool {
        // SAFETY: the ring is used by one thread at a time (an adapter is not `Sync`), and every other function here
        // is done with its view of the queues when it returns.
        let (submission, completion) = unsafe { (self.io.submission_shared(), self.io.completion_shared()) };
        submission.taskrun() || submission.cq_overflow() || !completion.is_empty()
    }

    /// Submits what is queued, and leaves what completes for later.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        self.enter(Call::Submit)
    }

    /// Submits what is queued and waits for a completion, for so long at most, `None` for ever. In one call, unless
    /// there is a backlog.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.enter(match timeout {
            Some(Duration::ZERO) => Call::Look,
            timeout => Call::Wait(timeout),
        })
    }

    fn enter(&mut self, call: Call) -> io::Result<()> {
        while !self.refill() {
            self.call(Call::Submit)?;
            if self.io.submission().is_full() {
                // The kernel takes no more before its completions are reaped.
                return Ok(());
            }
        }
        self.call(call)
    }

    /// Moves the backlog into the queue. Whether all of it fits.
    fn refill(&mut self) -> bool {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.try_push(&entry) {
                self.backlog.push_front(entry);
                return false;
            }
        }
        true
    }

    fn call(&mut self, call: Call) -> io::Result<()> {
        self.calls += 1;
        let count = self.io.submission().len() as u32;
        let submitter = self.io.submitter();
        let outcome = match call {
            // SAFETY: the entries are those of `Op`s, see `try_push`; no argument is passed.
            Call::Submit => unsafe { submitter.enter::<()>(count, 0, 0, None) },
            // SAFETY: as above. The crate's own call would not run what completes in this very call.
            Call::Look => unsafe { submitter.enter::<()>(count, 0, EnterFlags::GETEVENTS.bits(), None) },
            // Nanoseconds, and never short.
            Call::Wait(Some(timeout)) => {
                let timespec = Timespec::from(timeout.min(WAIT_MAX));
                submitter.submit_with_args(1, &SubmitArgs::new().timespec(&timespec))
            }
            Call::Wait(None) => submitter.submit_and_wait(1),
        };
        let Err(error) = outcome else { return Ok(()) };
        match error.raw_os_error() {
            // A signal (law A16: the caller waits on), the time-out, completions that have to be reaped first.
            Some(libc::EINTR | libc::ETIME | libc::EBUSY) => Ok(()),
            // No memory for an operation: what is queued stays queued, and is submitted by a later call.
            Some(libc::EAGAIN | libc::ENOMEM) => self.do_without(call),
            Some(libc::EEXIST) => Err(another_thread()),
            _ => Err(io::Error::new(error.kind(), format!("io_uring_enter: {error}"))),
        }
    }

    /// A call without its submissions. One that would wait rests instead, since it is to try again soon.
    fn do_without(&mut self, call: Call) -> io::Result<()> {
        match call {
            Call::Submit => return Ok(()),
            Call::Look => {}
            Call::Wait(timeout) => thread::sleep(timeout.unwrap_or(REST).min(REST)),
        }
        self.calls += 1;
        // SAFETY: nothing is submitted, and no argument is passed.
        let outcome = unsafe {
            self.io
                .submitter()
                .enter::<()>(0, 0, EnterFlags::GETEVENTS.bits(), None)
        };
        match outcome {
            Err(error) if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)) => {
                Err(io::Error::new(error.kind(), format!("io_uring_enter: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// Takes all completions that have arrived, so that the queue has room while they are dealt with.
    pub(super) fn reap(&mut self, into: &mut VecDeque<Completion>) {
        for entry in self.io.completion() {
            let completion = Completion::new(&entry);
            if completion.token.kind() == Kind::Cancel {
                continue;
            }
            if !completion.has_more() {
                self.in_flight -= 1;
            }
            into.push_back(completion);
        }
    }

    /// Whether nothing is in flight: the kernel holds no memory, and will not write to any.
    pub(super) fn is_quiet(&self) -> bool {
        self.in_flight == 0
    }

    /// Has the kernel signal an eventfd whenever there are completions, or something to run for some.
    pub(super) fn announce_to(&self, eventfd: RawFd) -> io::Result<()> {
        self.io.submitter().register_eventfd(eventfd)
    }
}

fn another_thread() -> io::Error {
    io::Error::other(
        "this io_uring belongs to the thread of its first turn, and this is another one: keep the adapter on one thread, \
         or use another backend",
    )
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("setup", &self.setup)
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}
