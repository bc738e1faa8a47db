//! io_uring by hand: single issuer with deferred task-run, multishot accept and receive, one ring of buffers, answers
//! sent from the buffer that they came in.

mod bufs;
mod conn;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use io_uring::types::Fd;
use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, opcode, squeue};
use rustix::net::{Shutdown, shutdown, sockopt};

use self::bufs::{Buffers, GROUP};
use self::conn::{Conn, Receives, Slice};
use crate::job::Job;
use crate::serve::{self, Task};

const SUBMISSIONS: u32 = 4096;

/// What a completion is for stands above the descriptor in its user data.
const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1 << 32;
const SEND: u64 = 2 << 32;
const CANCEL: u64 = 3 << 32;

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
        job: task.job,
    };
    server.run(completions)
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
    job: Job,
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
            SEND => self.sent(fd, result),
            _ => Ok(()),
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
        self.conns[at] = Some(Conn::new(socket));
        self.receive(result)
    }

    fn receive(&mut self, fd: i32) -> io::Result<()> {
        if let Some(conn) = self.conns[fd as usize].as_mut().filter(|conn| conn.may_receive()) {
            conn.receives = Receives::Yes;
            let receive = opcode::RecvMulti::new(Fd(fd), GROUP).build();
            self.push(receive.user_data(RECEIVE | fd as u64))?;
        }
        Ok(())
    }

    fn received(&mut self, fd: i32, result: i32, flags: u32) -> io::Result<()> {
        let buffer = cqueue::buffer_select(flags);
        let more = cqueue::more(flags);
        let conn = self.conns[fd as usize].as_mut();
        let is_live = conn.is_some_and(|conn| {
            if !more {
                conn.receives = Receives::No;
            }
            !conn.is_over
        });
        match (result, buffer) {
            (1.., Some(id)) if is_live => {
                self.answer(fd, id, result.unsigned_abs())?;
                // A fan-out's answers wait elsewhere.
                self.end_if_full(fd)?;
                self.receive(fd)?;
            }
            (error, _) if -error == libc::ENOBUFS && is_live => self.starve(fd),
            // It was asked to end, and goes on when something is sent, which may be so already.
            (error, None) if -error == libc::ECANCELED && is_live => self.receive(fd)?,
            (_, buffer) => {
                buffer.into_iter().for_each(|id| self.buffers.take(id, 0));
                if let Some(conn) = &mut self.conns[fd as usize] {
                    conn.is_over = true;
                }
                self.close_if_quiet(fd);
            }
        }
        Ok(())
    }

    /// Lets a connection wait for a buffer.
    fn starve(&mut self, fd: i32) {
        if let Some(conn) = &mut self.conns[fd as usize] {
            conn.receives = Receives::Starves;
            self.starved.push_back(fd);
        }
    }

    /// Ends the receive of a connection that has too much to send.
    fn end_if_full(&mut self, fd: i32) -> io::Result<()> {
        if let Some(conn) = &mut self.conns[fd as usize]
            && conn.is_full()
            && conn.receives == Receives::Yes
        {
            conn.receives = Receives::Ends;
            let cancel = opcode::AsyncCancel::new(RECEIVE | fd as u64).build();
            // That there was nothing to cancel any more is no news: the receive has a completion that says so.
            self.push(cancel.user_data(CANCEL))?;
        }
        Ok(())
    }

    /// Does with `bytes` of a buffer what is to be done.
    fn answer(&mut self, fd: i32, id: u16, bytes: u32) -> io::Result<()> {
        let from = self.buffers.at(id, 0).cast_const();
        let slice = Slice {
            buffer: Some(id),
            from,
            bytes,
        };
        match self.job {
            Job::Pump => {
                // SAFETY: the kernel wrote so many bytes to this buffer, which is ours until it is taken back below.
                let mut received = unsafe { std::slice::from_raw_parts(from, bytes as usize) };
                while let Some(conn) = &mut self.conns[fd as usize] {
                    let Some(reply) = conn.requests.next(&mut received) else {
                        break;
                    };
                    // The pattern is never freed, so its address outlives this handle to it.
                    let (buffer, from, bytes) = (None, reply.as_ptr(), reply.len() as u32);
                    self.put(fd, Slice { buffer, from, bytes })?;
                }
                self.buffers.take(id, 0);
            }
            Job::FanOut => {
                let is_open = |conn: &&Conn| !conn.is_over && conn.socket.as_raw_fd() != fd;
                let others: Vec<i32> = self
                    .conns
                    .iter()
                    .flatten()
                    .filter(is_open)
                    .map(|conn| conn.socket.as_raw_fd())
                    .collect();
                self.buffers.take(id, others.len() as u16);
                for fd in others {
                    self.put(fd, slice)?;
                }
            }
            _ => {
                self.buffers.take(id, 1);
                self.put(fd, slice)?;
            }
        }
        Ok(())
    }

    fn put(&mut self, fd: i32, slice: Slice) -> io::Result<()> {
        if let Some(conn) = &mut self.conns[fd as usize] {
            conn.unsent.push_back(slice);
            if conn.unsent.len() == 1 {
                return self.send(fd);
            }
        }
        Ok(())
    }

    /// Sends the first unsent slice.
    fn send(&mut self, fd: i32) -> io::Result<()> {
        let conn = self.conns[fd as usize].as_ref();
        if let Some(slice) = conn.and_then(|conn| conn.unsent.front()) {
            let send = opcode::Send::new(Fd(fd), slice.from, slice.bytes).flags(libc::MSG_NOSIGNAL);
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
            let buffers = conn.unsent.drain(..).filter_map(|slice| slice.buffer);
            buffers.for_each(|id| self.buffers.release(id));
            conn.is_over = true;
            // Ends the receive, if there is one, and with it the connection.
            let _ = shutdown(&conn.socket, Shutdown::Both);
            self.close_if_quiet(fd);
            return Ok(());
        }
        let count = result.unsigned_abs();
        slice.from = slice.from.wrapping_add(count as usize);
        slice.bytes -= count;
        if slice.bytes == 0 {
            let buffer = slice.buffer;
            conn.unsent.pop_front();
            buffer.into_iter().for_each(|id| self.buffers.release(id));
        }
        self.send(fd)?;
        self.receive(fd)?;
        self.close_if_quiet(fd);
        Ok(())
    }

    fn close_if_quiet(&mut self, fd: i32) {
        let place = &mut self.conns[fd as usize];
        if place.as_ref().is_some_and(Conn::is_quiet) {
            *place = None;
        }
    }

    /// Receives again for those that found no buffer, as many as there are buffers.
    fn feed_the_starved(&mut self) -> io::Result<()> {
        for _ in 0..self.buffers.free() {
            let Some(fd) = self.starved.pop_front() else {
                break;
            };
            if let Some(conn) = &mut self.conns[fd as usize] {
                conn.receives = Receives::No;
            }
            self.receive(fd)?;
            self.close_if_quiet(fd);
        }
        Ok(())
    }

    fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        // SAFETY: an entry points to a buffer of `Buffers`, to the pattern or to nothing, and those are never freed.
        while unsafe { self.submissions.push(&entry) }.is_err() {
            self.submissions.sync();
            self.submitter.submit()?;
            self.submissions.sync();
        }
        Ok(())
    }
}
