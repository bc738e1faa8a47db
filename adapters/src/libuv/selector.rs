//! Sockets as poll handles of a libuv loop.

use std::cell::Cell;
use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use kraft_core::adapter::Waker;
use kraft_core::id::{ConnId, ListenerId};

use super::event_loop::UvLoop;
use super::ffi::{self, Kind};
use super::hub::Hub;
use super::on_ready::millis;
use super::watch::{ERROR, Watch};
use crate::ready::{Interest, LISTENER, Readiness, Ready, Selector};
use crate::wake::Bell;
use crate::wake::sleeper::Sleeper;

/// The handles of an adapter, in a loop of its own or in the application's.
#[derive(Debug)]
pub(super) struct Handles {
    at: *mut ffi::Loop,
    hub: Rc<Hub>,
    sleeper: Sleeper<AsyncHandle>,
    /// What a wake sends to.
    wakes: Rc<Watch>,
    /// By slot.
    conns: Vec<Option<Rc<Watch>>>,
    listeners: Vec<Option<Rc<Watch>>>,
    /// The other half of the hub's queue.
    batch: Vec<Rc<Watch>>,
    own: Option<Own>,
    /// Kept from closing, if it is of Rust.
    _uv: Option<UvLoop>,
}

/// What a wake rings. The wake drops it before it is closed.
#[derive(Debug)]
pub(super) struct AsyncHandle(NonNull<ffi::Handle>);

// SAFETY: the one call made with it, `uv_async_send`, is libuv's one call for all threads.
unsafe impl Send for AsyncHandle {}

impl Bell for AsyncHandle {
    fn ring(&self) {
        // libuv looks by a relaxed load whether it was rung already: not before the wake is there for a loop to see.
        fence(Ordering::SeqCst);
        // SAFETY: the handle is open: `Handles::close` closes the wake, which has this behind a lock, first. It fails for
        // what is no async handle alone.
        unsafe { ffi::uv_async_send(self.0.as_ptr()) };
    }
}

/// A loop that the adapter runs itself.
#[derive(Clone, Debug)]
struct Own {
    uv: UvLoop,
    /// Ends a wait at its deadline.
    timer: Rc<Watch>,
}

impl Handles {
    /// Handles in a loop that is the adapter's own.
    pub(super) fn in_own(uv: UvLoop) -> io::Result<Self> {
        let hub = Rc::new(Hub::default());
        let mut handles = Self::new(uv.raw(), hub)?;
        let at = uv.raw();
        let timer = Watch::new(&handles.hub, Kind::Timer, 0, |handle| {
            // SAFETY: the loop is initialised, and nobody else has it; the memory is of a timer's size.
            unsafe { ffi::uv_timer_init(at, handle) }
        });
        handles.own = Some(Own { uv, timer: timer? });
        Ok(handles)
    }

    /// Handles in a loop that somebody else runs, and which calls by way of the hub.
    ///
    /// # Safety
    ///
    /// `at` is initialised, and this is its thread.
    pub(super) unsafe fn in_loop(at: *mut ffi::Loop, hub: Rc<Hub>, uv: Option<UvLoop>) -> io::Result<Self> {
        let mut handles = Self::new(at, hub)?;
        handles.sleeper.embed();
        handles._uv = uv;
        Ok(handles)
    }

    fn new(at: *mut ffi::Loop, hub: Rc<Hub>) -> io::Result<Self> {
        let wakes = Watch::new(&hub, Kind::Async, 0, |handle| {
            // SAFETY: the loop is initialised, and this is its thread; the memory is of an async handle's size.
            unsafe { ffi::uv_async_init(at, handle, Some(on_async)) }
        })?;
        let handle = wakes.handle().and_then(NonNull::new).expect("it was just made");
        Ok(Self {
            at,
            hub,
            sleeper: Sleeper::new(AsyncHandle(handle)),
            wakes,
            conns: Vec::new(),
            listeners: Vec::new(),
            batch: Vec::new(),
            own: None,
            _uv: None,
        })
    }

    pub(super) fn hub(&self) -> &Hub {
        &self.hub
    }

    pub(super) fn waker(&self) -> Waker {
        self.sleeper.waker()
    }

    /// The descriptor of a loop of one's own, to be waited on elsewhere from here on.
    pub(super) fn embed(&self) -> Option<BorrowedFd<'_>> {
        self.sleeper.embed();
        self.own.as_ref().map(|own| own.uv.backend_fd())
    }

    /// Closes all handles. They are freed when the loop has run.
    fn close(&mut self) {
        self.sleeper.close();
        self.wakes.close();
        for watch in self.conns.iter().chain(&self.listeners).flatten() {
            watch.close();
        }
        self.conns.clear();
        self.listeners.clear();
        if let Some(own) = &self.own {
            own.timer.close();
        }
        if let Some(on_ready) = self.hub.on_ready() {
            on_ready.end();
        }
        self.batch.clear();
        // What lies in the queue refers to the hub that has it.
        self.hub.take(&mut self.batch);
        self.batch.clear();
    }

    /// Puts down what callbacks left since the last time.
    fn tell(&mut self, told: &mut Vec<Readiness>) {
        told.clear();
        self.hub.take_signal();
        self.hub.take(&mut self.batch);
        for watch in self.batch.drain(..) {
            let said = watch.take_said();
            if said != 0 {
                told.push(Readiness {
                    token: watch.token(),
                    readable: said & ffi::READABLE != 0,
                    writable: said & ffi::WRITABLE != 0,
                    read_closed: said & ffi::DISCONNECT != 0,
                    error: said & ERROR != 0,
                });
            }
        }
    }

    fn watch(&self, token: u64) -> Option<&Rc<Watch>> {
        let (list, slot) = match token & LISTENER {
            0 => (&self.conns, ConnId::from_u64(token).slot()),
            _ => (&self.listeners, ListenerId::from_u64(token & !LISTENER).slot()),
        };
        list.get(slot)?.as_ref().filter(|watch| watch.token() == token)
    }

    fn entry(&mut self, token: u64) -> &mut Option<Rc<Watch>> {
        let (list, slot) = match token & LISTENER {
            0 => (&mut self.conns, ConnId::from_u64(token).slot()),
            _ => (&mut self.listeners, ListenerId::from_u64(token & !LISTENER).slot()),
        };
        if list.len() <= slot {
            list.resize(slot + 1, None);
        }
        &mut list[slot]
    }
}

impl Selector for Handles {
    const TELLS_STATE: bool = true;

    type Told = Vec<Readiness>;

    type Bell = AsyncHandle;

    fn register(&mut self, socket: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        let at = self.at;
        let watch = Watch::new(&self.hub, Kind::Poll, token, |handle| {
            // SAFETY: the loop is initialised, and this is its thread; the memory is of a poll handle's size.
            unsafe { ffi::uv_poll_init(at, handle, socket.as_raw_fd()) }
        })?;
        watch.want(events(interest)).inspect_err(|_| watch.close())?;
        *self.entry(token) = Some(watch);
        Ok(())
    }

    fn change(&mut self, _: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        self.watch(token).map_or(Ok(()), |watch| watch.want(events(interest)))
    }

    fn deregister(&mut self, _: BorrowedFd<'_>, token: u64) {
        if self.watch(token).is_some()
            && let Some(watch) = self.entry(token).take()
        {
            watch.close();
        }
    }

    fn wait(
        ready: &mut Ready<Self>,
        timeout: Option<Duration>,
        full: &mut dyn FnMut(&mut Ready<Self>),
    ) -> io::Result<()> {
        let (handles, _) = ready.parts();
        if let Some(own) = handles.own.clone() {
            let hub = Rc::clone(&handles.hub);
            // What was heard while changes were applied is not waited past.
            let timeout = if hub.is_empty() { timeout } else { Some(Duration::ZERO) };
            hub.take_changed();
            let mut drain = || {
                let (handles, told) = ready.parts();
                handles.tell(told);
                full(ready);
            };
            hub.lend(&mut drain, || own.wait(timeout))?;
        }
        let (handles, told) = ready.parts();
        handles.tell(told);
        Ok(())
    }

    fn told(told: &Vec<Readiness>) -> impl Iterator<Item = Readiness> {
        told.iter().copied()
    }

    fn sleeper(&self) -> &Sleeper<AsyncHandle> {
        &self.sleeper
    }

    fn tell_work(&self, has_work: bool, signalled: &Cell<bool>) {
        let Some(own) = &self.own else { return };
        if !self.sleeper.is_embedded() {
            return;
        }
        // libuv applies changes when it waits. Callbacks that run in this note, no more.
        if self.hub.take_changed() {
            own.uv.run_nowait();
        }
        if self.hub.is_signalled() {
            // It has taken back what was said.
            signalled.set(false);
        }
        if (has_work || !self.hub.is_empty()) && !signalled.replace(true) {
            self.sleeper.signal();
        }
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        self.close();
    }
}

impl Own {
    fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        let Some(timeout) = timeout else {
            self.uv.run_once();
            return Ok(());
        };
        if timeout.is_zero() {
            self.uv.run_nowait();
            return Ok(());
        }
        let timer = self.timer.handle().expect("it is closed with the adapter");
        // SAFETY: the timer is open, and the loop is ours. The timer counts from when the loop read the time last.
        ffi::check(unsafe {
            ffi::uv_update_time(self.uv.raw());
            ffi::uv_timer_start(timer, on_timer, millis(timeout), 0)
        })?;
        self.uv.run_once();
        // SAFETY: as above.
        ffi::check(unsafe { ffi::uv_timer_stop(timer) })
    }
}

/// What a socket is watched for. FIN is told with the bytes before it, which spares a lap.
fn events(interest: Interest) -> c_int {
    let read = if interest.read {
        ffi::READABLE | ffi::DISCONNECT
    } else {
        0
    };
    let write = if interest.write { ffi::WRITABLE } else { 0 };
    read | write
}

/// Somebody woke the loop.
unsafe extern "C" fn on_async(handle: *mut ffi::Handle) {
    // SAFETY: libuv calls back for a handle that `Watch::new` made.
    unsafe { Watch::of(handle) }.hub().signalled();
}

/// The deadline of a wait. It may be there before the wait began, if the thread had to stand back: libuv looks at timers
/// first, and would wait for ever then, having none left.
unsafe extern "C" fn on_timer(handle: *mut ffi::Handle) {
    // SAFETY: libuv calls back for a handle that `Watch::new` made, and its loop runs: the run that this is in ends.
    unsafe { ffi::uv_stop(ffi::uv_handle_get_loop(handle)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_is_there_before_the_wait_ends_it() {
        let handles = Handles::in_own(UvLoop::open().expect("a descriptor is free")).expect("memory is free");
        let own = handles.own.as_ref().expect("it was just made");
        let timer = own.timer.handle().expect("it is open");
        // SAFETY: the timer is open, and the loop is ours.
        ffi::check(unsafe { ffi::uv_timer_start(timer, on_timer, 0, 0) }).expect("it has a callback");
        // Else it waits for ever: nothing else is due.
        own.uv.run_once();
    }
}
