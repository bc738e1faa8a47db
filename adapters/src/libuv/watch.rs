//! A libuv handle of ours: memory that libuv may write to until it has closed it.

use std::alloc::{self, Layout};
use std::cell::Cell;
use std::ffi::c_int;
use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;

use super::ffi::{self, Kind};
use super::hub::Hub;

/// A handle and what its callbacks need.
///
/// libuv holds a reference of its own, in the handle's data, from the start until the close callback: so the memory
/// outlives every callback, whoever lets go of it first. All of them are on the loop's thread.
pub(super) struct Watch {
    /// Valid until `is_closed`, and after that until libuv's close callback; never touched in between.
    handle: NonNull<ffi::Handle>,
    layout: Layout,
    is_closed: Cell<bool>,
    hub: Rc<Hub>,
    /// What the adapter knows it by.
    token: u64,
    /// The `uv_poll_event`s that it was started with.
    interest: Cell<c_int>,
    /// What callbacks said and nobody took yet. In the hub's queue if it is not zero.
    said: Cell<c_int>,
}

/// Said beside `uv_poll_event`s: the system reports an error on the socket.
pub(super) const ERROR: c_int = 1 << 8;

impl Watch {
    /// A handle of this kind, made by `init`.
    pub(super) fn new(
        hub: &Rc<Hub>,
        kind: Kind,
        token: u64,
        init: impl FnOnce(*mut ffi::Handle) -> c_int,
    ) -> io::Result<Rc<Self>> {
        let size = ffi::uv_handle_size(kind as c_int);
        let layout = memory_of(size)?;
        // SAFETY: the layout's size is not zero, `memory_of` has seen to it.
        let memory = unsafe { alloc::alloc_zeroed(layout) };
        let Some(handle) = NonNull::new(memory.cast::<ffi::Handle>()) else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        if let Err(error) = ffi::check(init(handle.as_ptr())) {
            // SAFETY: allocated above with this layout; libuv keeps no handle whose init failed.
            unsafe { alloc::dealloc(memory, layout) };
            return Err(error);
        }
        hub.expect_one_more();
        let watch = Rc::new(Self {
            handle,
            layout,
            is_closed: Cell::new(false),
            hub: Rc::clone(hub),
            token,
            interest: Cell::new(0),
            said: Cell::new(0),
        });
        let data = Rc::into_raw(Rc::clone(&watch)).cast_mut();
        // SAFETY: `init` has made the handle. The reference is libuv's until `on_closed` takes it back.
        unsafe { ffi::uv_handle_set_data(handle.as_ptr(), data.cast()) };
        Ok(watch)
    }

    /// The watch of a handle, in one of its callbacks.
    ///
    /// # Safety
    ///
    /// The handle was made by [`new`](Self::new), and libuv calls back for it: its reference is not taken back before
    /// the callback returns, unless the callback lets the loop run, which libuv forbids.
    pub(super) unsafe fn of<'a>(handle: *mut ffi::Handle) -> &'a Self {
        // SAFETY: `new` put it there, and the caller says that it is there yet.
        unsafe { &*ffi::uv_handle_get_data(handle).cast::<Self>() }
    }

    /// The handle, to be started, stopped or sent to; none once it is being closed.
    pub(super) fn handle(&self) -> Option<*mut ffi::Handle> {
        (!self.is_closed.get()).then_some(self.handle.as_ptr())
    }

    pub(super) fn hub(&self) -> &Hub {
        &self.hub
    }

    pub(super) fn token(&self) -> u64 {
        self.token
    }

    /// Sets what a poll handle waits for. `uv_poll_start` takes a descriptor out of the system's set and puts it back
    /// by the next run, two calls, so it is spared if nothing changes.
    pub(super) fn want(&self, events: c_int) -> io::Result<()> {
        let Some(handle) = self.handle() else { return Ok(()) };
        if self.interest.replace(events) == events {
            return Ok(());
        }
        self.hub.changed();
        self.start(handle, events)
    }

    fn start(&self, handle: *mut ffi::Handle, events: c_int) -> io::Result<()> {
        // SAFETY: `handle` says that it is not closed, and only poll handles are asked to want something.
        ffi::check(unsafe {
            match events {
                0 => ffi::uv_poll_stop(handle),
                _ => ffi::uv_poll_start(handle, events, on_poll),
            }
        })
    }

    /// Notes something for the adapter.
    pub(super) fn say(&self, what: c_int) {
        let before = self.said.replace(self.said.get() | what);
        if before == 0 {
            // SAFETY: every watch lives in an `Rc`, `new` makes no other; this is a reference more for the queue.
            let this = unsafe {
                Rc::increment_strong_count(self);
                Rc::from_raw(self)
            };
            self.hub.enqueue(this);
        }
    }

    /// Takes what was said; nothing if it was closed meanwhile.
    pub(super) fn take_said(&self) -> c_int {
        let said = self.said.replace(0);
        if self.is_closed.get() { 0 } else { said }
    }

    /// Closes the handle, once. A poll handle's descriptor may be closed from here on, its memory goes when the loop
    /// has run.
    pub(super) fn close(&self) {
        if self.is_closed.replace(true) {
            return;
        }
        // SAFETY: the handle is open, or somebody else closes it: an application that walks its loop and closes all it
        // finds. Then it does not come back to us, and is left alone, memory and all.
        unsafe {
            if ffi::uv_is_closing(self.handle.as_ptr()) == 0 {
                ffi::uv_close(self.handle.as_ptr(), Some(on_closed));
            }
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("token", &self.token)
            .field("is_closed", &self.is_closed.get())
            .field("interest", &self.interest.get())
            .finish_non_exhaustive()
    }
}

/// The layout of memory for a type of libuv's, of which only the size is known.
pub(super) fn memory_of(size: usize) -> io::Result<Layout> {
    // Of the alignment that malloc gives, which is what C programs allocate them with.
    const ALIGN: usize = 16;
    let layout = Layout::from_size_align(size, ALIGN)
        .ok()
        .filter(|layout| layout.size() > 0);
    layout.ok_or_else(|| {
        let version = ffi::uv_version();
        let [_, major, minor, _] = version.to_be_bytes();
        let text = format!("libuv {major}.{minor} does not know the size of a loop or handle that is asked for");
        io::Error::new(io::ErrorKind::Unsupported, text)
    })
}

/// A socket is ready, or broken. It is noted, no more: whoever runs the loop is in the middle of it.
unsafe extern "C" fn on_poll(handle: *mut ffi::Handle, status: c_int, events: c_int) {
    // SAFETY: libuv calls back for a handle that `new` made.
    let watch = unsafe { Watch::of(handle) };
    if status < 0 {
        // POLLERR. libuv has stopped the handle. Reading and writing tell what is wrong; but if they should find
        // nothing, the socket must not be forgotten.
        watch.say(ERROR | ffi::READABLE | ffi::WRITABLE | ffi::DISCONNECT);
        if let Some(handle) = watch.handle() {
            // It cannot fail for a descriptor that was watched a moment ago.
            let _ = watch.start(handle, watch.interest.get());
            watch.hub.changed();
        }
    } else {
        watch.say(events);
    }
}

/// libuv is done with a handle.
unsafe extern "C" fn on_closed(handle: *mut ffi::Handle) {
    // SAFETY: `new` gave libuv this reference, and this is the last callback. The memory was allocated there with this
    // layout, and nobody touches it after a close.
    unsafe {
        let watch = Rc::from_raw(ffi::uv_handle_get_data(handle).cast::<Watch>().cast_const());
        alloc::dealloc(handle.cast(), watch.layout);
        watch.hub.expect_one_less();
    }
}
