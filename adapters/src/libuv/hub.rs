//! What callbacks leave for the adapter.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::rc::Rc;

use super::on_ready::OnReady;
use super::watch::Watch;

/// Handles that have something to say before the adapter has its turn in the middle of a lap.
///
/// libuv asks epoll again, up to 48 times, while it gets 1,024 descriptors at once, and counts on callbacks that read:
/// sockets that are only noted are told again each time. So the adapter reads before the queue can get there.
const QUEUE_MAX: usize = 768;

/// Shared by the adapter and all of its handles, on the loop's thread. The adapter is not reachable from here: what
/// callbacks know they leave in the queue.
#[derive(Default)]
pub(super) struct Hub {
    /// Each once, in the order in which they spoke.
    queue: RefCell<Vec<Rc<Watch>>>,
    /// Handles made so far and not closed by libuv, for which the queue has room, so that callbacks do not allocate.
    handles: Cell<usize>,
    /// The system's set differs from what handles want, until the loop runs: libuv applies changes when it waits.
    is_changed: Cell<bool>,
    /// The async handle was sent to.
    is_signalled: Cell<bool>,
    /// In a loop of the application's.
    on_ready: Option<OnReady>,
    /// In a loop of the adapter's own: what empties a queue that is full, while the loop runs.
    drain: Cell<Option<NonNull<dyn FnMut()>>>,
    /// What that panicked with.
    panic: RefCell<Option<Box<dyn Any + Send>>>,
}

impl Hub {
    /// A hub that calls `on_ready`.
    pub(super) fn calling(on_ready: OnReady) -> Self {
        Self {
            on_ready: Some(on_ready),
            ..Self::default()
        }
    }

    pub(super) fn on_ready(&self) -> Option<&OnReady> {
        self.on_ready.as_ref()
    }

    pub(super) fn enqueue(&self, watch: Rc<Watch>) {
        let count = {
            let mut queue = self.queue.borrow_mut();
            queue.push(watch);
            queue.len()
        };
        if count >= QUEUE_MAX {
            match &self.on_ready {
                Some(on_ready) => on_ready.call(),
                None => self.drain(),
            }
        }
    }

    /// Runs the loop by `run`, with `drain` to be called by callbacks that find the queue full. Goes on with what it
    /// panicked with.
    pub(super) fn lend<R>(&self, drain: &mut dyn FnMut(), run: impl FnOnce() -> R) -> R {
        let drain = NonNull::from(drain);
        // SAFETY: only the lifetime is another. It is taken back below, before the reference ends, also if `run` unwinds.
        let drain = unsafe { std::mem::transmute::<NonNull<dyn FnMut() + '_>, NonNull<dyn FnMut()>>(drain) };
        self.drain.set(Some(drain));
        let taking_back = TakingBack(self);
        let outcome = run();
        drop(taking_back);
        if let Some(panic) = self.panic.borrow_mut().take() {
            resume_unwind(panic);
        }
        outcome
    }

    fn drain(&self) {
        // Not there while it runs, and after a panic: the queue grows, and is met when the lap is over.
        let Some(mut drain) = self.drain.take() else { return };
        // SAFETY: `lend` has it, and nobody else uses it while its loop runs.
        match catch_unwind(AssertUnwindSafe(|| unsafe { drain.as_mut()() })) {
            Ok(()) => self.drain.set(Some(drain)),
            Err(panic) => *self.panic.borrow_mut() = Some(panic),
        }
    }

    /// A handle is made: the queue has room for it.
    pub(super) fn expect_one_more(&self) {
        let handles = self.handles.get() + 1;
        self.handles.set(handles);
        let mut queue = self.queue.borrow_mut();
        let missing = handles.saturating_sub(queue.len());
        queue.reserve(missing);
    }

    /// A handle is closed.
    pub(super) fn expect_one_less(&self) {
        self.handles.set(self.handles.get() - 1);
    }

    /// What a handle waits for has changed.
    pub(super) fn changed(&self) {
        self.is_changed.set(true);
    }

    /// Whether something has changed since the loop ran; the loop is to run now.
    pub(super) fn take_changed(&self) -> bool {
        self.is_changed.replace(false)
    }

    pub(super) fn signalled(&self) {
        self.is_signalled.set(true);
    }

    pub(super) fn is_signalled(&self) -> bool {
        self.is_signalled.get()
    }

    /// Whether the async handle was sent to since the last question.
    pub(super) fn take_signal(&self) -> bool {
        self.is_signalled.replace(false)
    }

    /// Moves all that was said into `into`, which is empty, and keeps its memory for what comes next.
    pub(super) fn take(&self, into: &mut Vec<Rc<Watch>>) {
        debug_assert!(into.is_empty());
        std::mem::swap(&mut *self.queue.borrow_mut(), into);
    }

    /// Whether callbacks left nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty() && !self.is_signalled.get()
    }
}

/// Takes back what was lent to a hub.
struct TakingBack<'a>(&'a Hub);

impl Drop for TakingBack<'_> {
    fn drop(&mut self) {
        self.0.drain.set(None);
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("queue", &self.queue.borrow().len())
            .field("handles", &self.handles.get())
            .field("on_ready", &self.on_ready)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::libuv::event_loop::UvLoop;
    use crate::libuv::ffi::{self, Kind};

    /// More sockets with a byte to read than a queue holds, watched in one lap.
    struct Crowd {
        watches: Vec<Rc<Watch>>,
        _sockets: Vec<OwnedFd>,
    }

    impl Crowd {
        const COUNT: usize = QUEUE_MAX + 100;

        fn gather(uv: &UvLoop, hub: &Rc<Hub>) -> Self {
            let (here, mut there) = UnixStream::pair().expect("a descriptor is free");
            std::io::Write::write_all(&mut there, b"x").expect("it has room");
            let here = OwnedFd::from(here);
            // Many descriptors of one socket, so that a usual limit of them is enough.
            let sockets: Vec<OwnedFd> = (0..Self::COUNT)
                .map(|_| here.try_clone().expect("a descriptor is free"))
                .collect();
            let watches = sockets.iter().map(|socket| {
                let watch = Watch::new(hub, Kind::Poll, 0, |handle| {
                    // SAFETY: the loop is open; the memory is of a poll handle's size.
                    unsafe { ffi::uv_poll_init(uv.raw(), handle, socket.as_raw_fd()) }
                });
                let watch = watch.expect("it is a socket");
                watch.want(ffi::READABLE).expect("it is a socket");
                watch
            });
            Self {
                watches: watches.collect(),
                _sockets: sockets,
            }
        }
    }

    impl Drop for Crowd {
        fn drop(&mut self) {
            self.watches.iter().for_each(|watch| watch.close());
        }
    }

    /// Takes all that was said; how many spoke.
    fn take(hub: &Hub) -> usize {
        let mut batch = Vec::new();
        hub.take(&mut batch);
        batch.iter().filter(|watch| watch.take_said() != 0).count()
    }

    #[test]
    fn a_full_queue_is_emptied_in_the_midst_of_a_lap() {
        let uv = UvLoop::open().expect("a descriptor is free");
        let hub = Rc::new(Hub::default());
        let crowd = Crowd::gather(&uv, &hub);
        let mut drained = Vec::new();
        hub.lend(&mut || drained.push(take(&hub)), || uv.run_nowait());
        assert_eq!(drained, [QUEUE_MAX]);
        assert_eq!(take(&hub), Crowd::COUNT - QUEUE_MAX);
        // Nobody lends: it grows.
        uv.run_nowait();
        assert_eq!(take(&hub), Crowd::COUNT);
        drop(crowd);
    }

    #[test]
    fn a_panic_in_the_midst_of_a_lap_goes_on_behind_it() {
        let uv = UvLoop::open().expect("a descriptor is free");
        let hub = Rc::new(Hub::default());
        let crowd = Crowd::gather(&uv, &hub);
        let mut count = 0;
        let lap = AssertUnwindSafe(|| {
            let mut drain = || {
                count += 1;
                panic!("on purpose");
            };
            hub.lend(&mut drain, || uv.run_nowait());
        });
        let panic = catch_unwind(lap).expect_err("it goes on");
        assert_eq!(panic.downcast_ref(), Some(&"on purpose"));
        assert_eq!((count, take(&hub)), (1, Crowd::COUNT), "the lap went on to its end");
        drop(crowd);
    }

    #[test]
    fn a_run_that_unwinds_leaves_nothing_to_be_called() {
        let uv = UvLoop::open().expect("a descriptor is free");
        let hub = Rc::new(Hub::default());
        let crowd = Crowd::gather(&uv, &hub);
        let mut drained = 0;
        let lent = AssertUnwindSafe(|| hub.lend(&mut || drained += 1, || panic!("on purpose")));
        catch_unwind(lent).expect_err("it goes on");
        uv.run_nowait();
        assert_eq!((drained, take(&hub)), (0, Crowd::COUNT));
        drop(crowd);
    }

    #[test]
    fn an_application_is_called_in_the_midst_of_a_lap() {
        let uv = UvLoop::open().expect("a descriptor is free");
        let taken = Rc::new(RefCell::new(Vec::new()));
        let (seen, kept) = (Rc::new(RefCell::new(None::<Rc<Hub>>)), Rc::clone(&taken));
        let hub_of = Rc::clone(&seen);
        let on_ready = OnReady::new(
            uv.raw(),
            Box::new(move || {
                kept.borrow_mut().push(take(hub_of.borrow().as_ref()?));
                None
            }),
        );
        let hub = Rc::new(Hub::calling(on_ready));
        *seen.borrow_mut() = Some(Rc::clone(&hub));
        hub.on_ready().expect("it calls").begin(&hub).expect("memory is free");
        let crowd = Crowd::gather(&uv, &hub);
        uv.run_nowait();
        assert_eq!(*taken.borrow(), [QUEUE_MAX, Crowd::COUNT - QUEUE_MAX]);
        drop(crowd);
        hub.on_ready().expect("it called").end();
        *seen.borrow_mut() = None;
    }
}
