//! io_uring by hand: single issuer with deferred task-run, multishot accept and receive, one ring of buffers, answers
//! sent from the buffer that they came in.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd};
use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, opcode, squeue};
use rustix::net::{Shutdown, shutdown, sockopt};

use crate::serve::{self, Task};

/// 8 MiB: between 4 and 16 the third-level cache holds it, and 256 buffers keep 64 KiB messages moving.
const BUFFER_COUNT: u16 = 256;
const BUFFER_BYTES: u32 = 32 * 1024;
const GROUP: u16 = 0;

const SUBMISSIONS: u32 = 4096;

/// What a completion is for stands above the descriptor in its user data.
const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1 << 32;
const SEND: u64 = 2 << 32;

/// Serves on this thread.
pub(crate) fn serve(task: &Task) -> io::Result<()> {
    let listener = serve::listen()?;
    // Every connection can have a receive and a send complete in a turn; what overflows is slow, not lost.
    let completions = u32::try_from(task.connections * 2).unwrap_or(u32::MAX).max(SUBMISSIONS);
    let mut ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(completions)
        .setup_clamp()
        .build(SUBMISSIONS)
        .map_err(|error| io::Error::new(error.kind(), format!("io_uring_setup: {error}")))?;
    let buffers = Buffers::register(&ring.submitter())?;
    let (submitter, submissions, completions) = ring.split();
    let mut server = Server {
        submitter,
        submissions,
        listener: Fd(listener.as_raw_fd()),
        buffers,
        conns: Vec::with_capacity(task.connections),
        starved: VecDeque::new(),
    };
    server.run(completions)
}

/// A ring of buffers for receives. Its memory is never freed: the server ends by being killed.
struct Buffers {
    ring: *mut BufRingEntry,
    data: *mut u8,
    tail: u16,
    /// Buffers that the kernel has.
    free: u16,
}

impl Buffers {
    fn register(submitter: &Submitter<'_>) -> io::Result<Self> {
        const PAGE: usize = 4096;
        let ring = leak(usize::from(BUFFER_COUNT) * size_of::<BufRingEntry>(), PAGE).cast();
        let data = leak(usize::from(BUFFER_COUNT) * BUFFER_BYTES as usize, PAGE);
        // SAFETY: the memory is page-aligned, of the size for so many entries, zeroed, and never freed.
        unsafe { submitter.register_buf_ring_with_flags(ring as u64, BUFFER_COUNT, GROUP, 0) }
            .map_err(|error| io::Error::new(error.kind(), format!("io_uring_register(PBUF_RING): {error}")))?;
        let (tail, free) = (0, 0);
        let mut buffers = Self { ring, data, tail, free };
        for id in 0..BUFFER_COUNT {
            buffers.give(id);
        }
        Ok(buffers)
    }

    fn at(&self, id: u16, offset: u32) -> *mut u8 {
        assert!(id < BUFFER_COUNT && offset < BUFFER_BYTES);
        // SAFETY: by the assertion it lies within `data`.
        unsafe { self.data.add(usize::from(id) * BUFFER_BYTES as usize + offset as usize) }
    }

    /// Gives a buffer to the kernel.
    fn give(&mut self, id: u16) {
        let place = usize::from(self.tail % BUFFER_COUNT);
        let address = self.at(id, 0);
        // SAFETY: the place lies within the ring, and is ours until the tail passes it: there are as many places as
        // buffers, and this buffer was not the kernel's.
        let entry = unsafe { &mut *self.ring.add(place) };
        entry.set_addr(address as u64);
        entry.set_len(BUFFER_BYTES);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        self.free += 1;
        // SAFETY: the tail stands in the first entry of the ring, aligned as its type, and the kernel only reads it.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.ring).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

/// Zeroed memory for the life of the process.
fn leak(bytes: usize, align: usize) -> *mut u8 {
    let layout = Layout::from_size_align(bytes, align).expect("both are constants of this file");
    // SAFETY: the size is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        handle_alloc_error(layout);
    }
    memory
}

struct Server<'a> {
    submitter: Submitter<'a>,
    submissions: SubmissionQueue<'a>,
    listener: Fd,
    buffers: Buffers,
    /// By descriptor.
    conns: Vec<Option<Conn>>,
    /// Those whose receive found no buffer, in order.
    starved: VecDeque<i32>,
}

struct Conn {
    /// Closed only when neither a receive nor a send is under way, so that no completion meets another connection.
    socket: OwnedFd,
    /// Received and not sent, the first of them being sent.
    unsent: VecDeque<Slice>,
    is_receiving: bool,
    is_over: bool,
}

/// A part of a buffer.
#[derive(Clone, Copy)]
struct Slice {
    id: u16,
    from: u32,
    to: u32,
}

impl Server<'_> {
    fn run(&mut self, mut completions: CompletionQueue<'_>) -> io::Result<()> {
        self.accept()?;
        loop {
            self.submissions.sync();
            match self.submitter.submit_and_wait(1) {
                Ok(_) => {}
                // EBUSY: completions have overflowed, and reaping makes room.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY)) => {}
                Err(error) => return Err(error),
            }
            completions.sync();
            for completion in &mut completions {
                self.complete(&completion)?;
            }
            self.feed_the_starved()?;
        }
    }

    fn complete(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let (data, result, flags) = (completion.user_data(), completion.result(), completion.flags());
        let fd = (data & 0xffff_ffff) as i32;
        match data & !0xffff_ffff {
            ACCEPT => self.accepted(result, cqueue::more(flags)),
            RECEIVE => self.received(fd, result, flags),
            _ => self.sent(fd, result),
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let accept = opcode::AcceptMulti::new(self.listener).flags(libc::SOCK_CLOEXEC);
        self.push(accept.build().user_data(ACCEPT))
    }

    fn accepted(&mut self, result: i32, more: bool) -> io::Result<()> {
        if !more {
            self.accept()?;
        }
        if result < 0 {
            return match -result {
                libc::ECONNABORTED | libc::EINTR => Ok(()),
                error => Err(io::Error::from_raw_os_error(error)),
            };
        }
        // SAFETY: the completion gives us the new descriptor, and nobody else knows it.
        let socket = unsafe { OwnedFd::from_raw_fd(result) };
        sockopt::set_tcp_nodelay(&socket, true)?;
        let at = result as usize;
        if self.conns.len() <= at {
            self.conns.resize_with(at + 1, || None);
        }
        self.conns[at] = Some(Conn {
            socket,
            unsent: VecDeque::new(),
            is_receiving: false,
            is_over: false,
        });
        self.receive(result)
    }

    fn receive(&mut self, fd: i32) -> io::Result<()> {
        if let Some(conn) = &mut self.conns[fd as usize] {
            conn.is_receiving = true;
            let receive = opcode::RecvMulti::new(Fd(fd), GROUP).build();
            self.push(receive.user_data(RECEIVE | fd as u64))?;
        }
        Ok(())
    }

    fn received(&mut self, fd: i32, result: i32, flags: u32) -> io::Result<()> {
        let buffer = cqueue::buffer_select(flags);
        self.buffers.free -= u16::from(buffer.is_some());
        let Some(conn) = &mut self.conns[fd as usize] else {
            buffer.into_iter().for_each(|id| self.buffers.give(id));
            return Ok(());
        };
        let more = cqueue::more(flags);
        conn.is_receiving = more;
        match (result, buffer) {
            (1.., Some(id)) if !conn.is_over => {
                let (from, to) = (0, result.unsigned_abs());
                conn.unsent.push_back(Slice { id, from, to });
                if conn.unsent.len() == 1 {
                    self.send(fd)?;
                }
                if !more {
                    self.receive(fd)?;
                }
            }
            (error, _) if -error == libc::ENOBUFS => self.starved.push_back(fd),
            (_, buffer) => {
                conn.is_over = true;
                buffer.into_iter().for_each(|id| self.buffers.give(id));
                self.close_if_quiet(fd);
            }
        }
        Ok(())
    }

    /// Sends the first unsent slice.
    fn send(&mut self, fd: i32) -> io::Result<()> {
        let conn = self.conns[fd as usize].as_ref();
        if let Some(slice) = conn.and_then(|conn| conn.unsent.front().copied()) {
            let address = self.buffers.at(slice.id, slice.from);
            let send = opcode::Send::new(Fd(fd), address, slice.to - slice.from).flags(libc::MSG_NOSIGNAL);
            self.push(send.build().user_data(SEND | fd as u64))?;
        }
        Ok(())
    }

    fn sent(&mut self, fd: i32, result: i32) -> io::Result<()> {
        let Some(conn) = &mut self.conns[fd as usize] else {
            return Ok(());
        };
        let slice = conn.unsent.front_mut().expect("a send is of the first slice");
        if result < 0 {
            for slice in conn.unsent.drain(..) {
                self.buffers.give(slice.id);
            }
            conn.is_over = true;
            // Ends the receive, if there is one, and with it the connection.
            let _ = shutdown(&conn.socket, Shutdown::Both);
            self.close_if_quiet(fd);
            return Ok(());
        }
        slice.from += result.unsigned_abs();
        if slice.from == slice.to {
            let id = slice.id;
            conn.unsent.pop_front();
            self.buffers.give(id);
        }
        self.send(fd)?;
        self.close_if_quiet(fd);
        Ok(())
    }

    fn close_if_quiet(&mut self, fd: i32) {
        let place = &mut self.conns[fd as usize];
        let is_quiet = |conn: &Conn| conn.is_over && !conn.is_receiving && conn.unsent.is_empty();
        if place.as_ref().is_some_and(is_quiet) {
            *place = None;
        }
    }

    /// Receives again for those that found no buffer, as many as there are buffers.
    fn feed_the_starved(&mut self) -> io::Result<()> {
        for _ in 0..self.buffers.free {
            let Some(fd) = self.starved.pop_front() else {
                break;
            };
            let waits = |conn: &Conn| !conn.is_receiving && !conn.is_over;
            if self.conns[fd as usize].as_ref().is_some_and(waits) {
                self.receive(fd)?;
            } else {
                self.close_if_quiet(fd);
            }
        }
        Ok(())
    }

    fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        // SAFETY: an entry points to a buffer of `Buffers` or to nothing, and those are never freed.
        while unsafe { self.submissions.push(&entry) }.is_err() {
            self.submissions.sync();
            self.submitter.submit()?;
            self.submissions.sync();
        }
        Ok(())
    }
}
