//! io_uring by hand: single issuer with deferred task-run, multishot accept and receive, one ring of buffers, answers
//! sent from the buffer that they came in. A multishot poll of an eventfd wakes it.

mod bufs;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use io_uring::types::Fd;
use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, opcode, squeue};
use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{Shutdown, shutdown, sockopt};

use self::bufs::{BUFFER_COUNT, Buffers, GROUP};
use super::wakes;
use crate::job::Job;
use crate::request::Requests;
use crate::serve::{self, Task};

const SUBMISSIONS: u32 = 4096;

/// Slices that wait in a connection before it receives no more: an eighth of the buffers, so that a few clients that
/// do not read cannot hold them all.
const UNSENT_MAX: usize = BUFFER_COUNT as usize / 8;

/// What a completion is for stands above the descriptor in its user data.
const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1 << 32;
const SEND: u64 = 2 << 32;
const CANCEL: u64 = 3 << 32;

/// Serves on this thread.
pub(crate) fn serve(task: &Task) -> io::Result<()> {
    if !task.job.has_connections() {
        return wake(task);
    }
    let listener = serve::listen()?;
    // Every connection can have a receive and a send complete in a turn; what overflows is slow, not lost.
    let mut ring = open(SUBMISSIONS.max(task.connections as u32 * 2))?;
    let buffers = Buffers::register(&ring.submitter())?;
    let (submitter, submissions, completions) = ring.split();
    let mut server = Server {
        submitter,
        submissions,
        buffers,
        conns: Vec::with_capacity(task.connections),
        resting: VecDeque::new(),
        job: task.job,
    };
    server.run(Fd(listener.as_raw_fd()), completions)
}

fn open(completions: u32) -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(completions)
        .setup_clamp()
        .build(SUBMISSIONS)
        .map_err(|error| io::Error::new(error.kind(), format!("io_uring_setup: {error}")))
}

fn submit_and_wait(submitter: &Submitter<'_>) -> io::Result<()> {
    match submitter.submit_and_wait(1) {
        // EBUSY: completions have overflowed, and reaping makes room.
        Err(error) if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY)) => Err(error),
        _ => Ok(()),
    }
}

struct Server<'a> {
    submitter: Submitter<'a>,
    submissions: SubmissionQueue<'a>,
    buffers: Buffers,
    /// By descriptor.
    conns: Vec<Option<Conn>>,
    /// Exactly those that no receive is under way for, in order.
    resting: VecDeque<i32>,
    job: Job,
}

/// A connection and what it has to send.
struct Conn {
    /// Closed only when neither a receive nor a send is under way, so that no completion meets another connection.
    socket: OwnedFd,
    /// What is to be sent, the first of them being sent.
    unsent: VecDeque<Slice>,
    requests: Requests,
    /// Nothing more is to be heard of it.
    is_over: bool,
}

/// Memory that stays until it is sent.
#[derive(Clone, Copy)]
struct Slice {
    /// The buffer that it is part of; a part of the pattern without one.
    buffer: Option<u16>,
    from: *const u8,
    bytes: u32,
}

impl Server<'_> {
    fn run(&mut self, listener: Fd, mut completions: CompletionQueue<'_>) -> io::Result<()> {
        let accept = opcode::AcceptMulti::new(listener).flags(libc::SOCK_CLOEXEC);
        let accept = accept.build().user_data(ACCEPT);
        self.push(&accept)?;
        loop {
            self.submissions.sync();
            submit_and_wait(&self.submitter)?;
            completions.sync();
            for completion in &mut completions {
                let (data, result, flags) = (completion.user_data(), completion.result(), completion.flags());
                let fd = (data & 0xffff_ffff) as i32;
                match data & !0xffff_ffff {
                    ACCEPT if cqueue::more(flags) => self.accepted(result)?,
                    ACCEPT => self.accepted(result).and_then(|()| self.push(&accept))?,
                    RECEIVE => self.received(fd, result, flags)?,
                    SEND => self.sent(fd, result)?,
                    _ => {}
                }
            }
            self.end_rests()?;
        }
    }

    fn accepted(&mut self, result: i32) -> io::Result<()> {
        let at = match result {
            0.. => result as usize,
            _ if matches!(-result, libc::ECONNABORTED | libc::EINTR) => return Ok(()),
            _ => return Err(io::Error::from_raw_os_error(-result)),
        };
        // SAFETY: the completion gives us the new descriptor, and nobody else knows it.
        let socket = unsafe { OwnedFd::from_raw_fd(result) };
        sockopt::set_tcp_nodelay(&socket, true)?;
        let places = self.conns.len().max(at + 1);
        self.conns.resize_with(places, || None);
        self.conns[at] = Some(Conn {
            socket,
            unsent: VecDeque::new(),
            requests: Requests::default(),
            is_over: false,
        });
        self.resting.push_back(result);
        Ok(())
    }

    /// Receives for those that can again, as many as there are buffers, and closes those that are through.
    fn end_rests(&mut self) -> io::Result<()> {
        let (mut free, mut left) = (self.buffers.free, self.resting.len());
        while free > 0 && left > 0 {
            left -= 1;
            let fd = self.resting.pop_front().expect("there are so many");
            let conn = self.conns[fd as usize].as_ref().expect("it is open");
            match (conn.is_over, conn.unsent.len()) {
                (true, 0) => self.conns[fd as usize] = None,
                (false, unsent) if unsent <= UNSENT_MAX / 2 => {
                    free -= 1;
                    let receive = opcode::RecvMulti::new(Fd(fd), GROUP).build();
                    self.push(&receive.user_data(RECEIVE | fd as u64))?;
                }
                _ => self.resting.push_back(fd),
            }
        }
        Ok(())
    }

    fn received(&mut self, fd: i32, result: i32, flags: u32) -> io::Result<()> {
        // It is open while a receive is under way.
        let conn = self.conns[fd as usize].as_mut().expect("it is open");
        match (result, cqueue::buffer_select(flags)) {
            (1.., Some(id)) if !conn.is_over => self.answer(fd, id, result.unsigned_abs())?,
            // It found no buffer, or was asked to end since it has too much to send.
            (_, None) if matches!(-result, libc::ENOBUFS | libc::ECANCELED) => {}
            (_, buffer) => {
                conn.is_over = true;
                buffer.into_iter().for_each(|id| self.buffers.take(id, 0));
            }
        }
        if !cqueue::more(flags) {
            self.resting.push_back(fd);
        }
        Ok(())
    }

    /// Does with `bytes` of a buffer what is to be done.
    fn answer(&mut self, fd: i32, id: u16, bytes: u32) -> io::Result<()> {
        let (buffer, from) = (Some(id), self.buffers.at(id));
        let slice = Slice { buffer, from, bytes };
        let mut needed = 0;
        match self.job {
            Job::Pump => {
                // SAFETY: the kernel wrote so many bytes to this buffer, which is ours until it is taken back below.
                let mut received = unsafe { std::slice::from_raw_parts(from, bytes as usize) };
                while let Some(conn) = &mut self.conns[fd as usize]
                    && let Some(reply) = conn.requests.next(&mut received)
                {
                    // The pattern is never freed, so its address outlives this handle to it.
                    let (buffer, from, bytes) = (None, reply.as_ptr(), reply.len() as u32);
                    self.put(fd, Slice { buffer, from, bytes })?;
                }
            }
            Job::FanOut => {
                for other in (0..self.conns.len() as i32).filter(|other| *other != fd) {
                    needed += self.put(other, slice)?;
                }
            }
            _ => needed = self.put(fd, slice)?,
        }
        self.buffers.take(id, needed);
        Ok(())
    }

    /// Has a connection send this too, if it is there. How many sends that makes.
    fn put(&mut self, fd: i32, slice: Slice) -> io::Result<u16> {
        let Some(conn) = self.conns[fd as usize].as_mut().filter(|conn| !conn.is_over) else {
            return Ok(0);
        };
        conn.unsent.push_back(slice);
        match conn.unsent.len() {
            1 => self.send(fd, slice)?,
            // Of a receive that has ended meanwhile there is nothing to cancel, which is no news.
            UNSENT_MAX => self.push(&opcode::AsyncCancel::new(RECEIVE | fd as u64).build().user_data(CANCEL))?,
            _ => {}
        }
        Ok(1)
    }

    fn send(&mut self, fd: i32, slice: Slice) -> io::Result<()> {
        let send = opcode::Send::new(Fd(fd), slice.from, slice.bytes).flags(libc::MSG_NOSIGNAL);
        self.push(&send.build().user_data(SEND | fd as u64))
    }

    fn sent(&mut self, fd: i32, result: i32) -> io::Result<()> {
        // It is open while a send is under way.
        let conn = self.conns[fd as usize].as_mut().expect("it is open");
        if result < 0 {
            let buffers = conn.unsent.drain(..).filter_map(|slice| slice.buffer);
            buffers.for_each(|id| self.buffers.release(id));
            conn.is_over = true;
            // Ends the receive, if there is one, and with it the connection.
            let _ = shutdown(&conn.socket, Shutdown::Both);
            return Ok(());
        }
        let first = conn.unsent.front_mut().expect("a send is of the first slice");
        first.from = first.from.wrapping_add(result as usize);
        first.bytes -= result.unsigned_abs();
        if first.bytes == 0 {
            let buffer = first.buffer;
            conn.unsent.pop_front();
            buffer.into_iter().for_each(|id| self.buffers.release(id));
        }
        let next = conn.unsent.front().copied();
        // Who has room again goes first, while its buffers are in the cache.
        if conn.unsent.len() == UNSENT_MAX / 2
            && let Some(at) = self.resting.iter().position(|other| *other == fd)
        {
            self.resting.swap(0, at);
        }
        next.map_or(Ok(()), |slice| self.send(fd, slice))
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: an entry points to a buffer of `Buffers`, to the pattern or to nothing, and those are never freed.
        while unsafe { self.submissions.push(entry) }.is_err() {
            self.submissions.sync();
            self.submitter.submit()?;
            self.submissions.sync();
        }
        Ok(())
    }
}

/// A bare eventfd: each write completes the poll once more, so nothing has to be read.
fn wake(task: &Task) -> io::Result<()> {
    let mut ring = open(SUBMISSIONS)?;
    let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let poll = opcode::PollAdd::new(Fd(bell.as_raw_fd()), libc::POLLIN as u32);
    let poll = poll.multi(true).build();
    let wakes = wakes::by_eventfd(task, bell)?;
    let mut is_polled = false;
    loop {
        if !is_polled {
            // SAFETY: the entry points to no memory.
            unsafe { ring.submission().push(&poll) }.map_err(io::Error::other)?;
        }
        submit_and_wait(&ring.submitter())?;
        let last = ring.completion().last();
        is_polled = last.is_none_or(|completion| cqueue::more(completion.flags()));
        wakes.hear();
    }
}
