//! The thread that reads a connection.

use std::fmt;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::slice;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use kraft_core::adapter::CloseReason;
use kraft_core::id::ConnId;
use socket2::SockRef;

use super::mailbox::Mailbox;
use crate::sock::{self, Stream};

/// Buffers of one connection, and so how far its reader may be ahead of the loop. With two a reader stands in `read`
/// while the loop has the other, so that neither wakes the other needlessly. The second one comes with the first bytes:
/// a steady connection allocates nothing (law A22), and an idle one has little.
const BUFFERS_MAX: usize = 2;

/// Stack of a reader. The thread uses a few KiB; the rest is address space that is never touched, and room for a
/// panic's message.
const STACK_BYTES: usize = 128 * 1024;

/// What bytes are received into. Not cleared first, so that of an idle connection's buffers no page is ever touched.
pub(super) type Buffer = Box<[MaybeUninit<u8>]>;

/// Received bytes, in the buffer that they were received into.
pub(super) struct Filled {
    buffer: Buffer,
    /// The first bytes of the buffer that are initialised: `count <= buffer.len()`.
    count: usize,
}

impl Filled {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the system wrote them; `read`, below, makes a `Filled` of what it received and nothing else.
        unsafe { slice::from_raw_parts(self.buffer.as_ptr().cast(), self.count) }
    }

    pub(super) fn into_buffer(self) -> Buffer {
        self.buffer
    }
}

/// Without the bytes, which have no place in a log.
impl fmt::Debug for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.count, self.buffer.len())
    }
}

/// What the other threads tell the loop.
#[derive(Debug)]
pub(super) enum Note {
    /// Bytes arrived.
    Received(ConnId, Filled),
    /// The peer's FIN was read. Nothing but `Failed` follows, and `Gone`.
    Ended(ConnId),
    /// The connection broke.
    Failed(ConnId, CloseReason),
    /// The reader's last word. It has let go of the socket.
    Gone(ConnId),
    /// The watcher has seen what it was to watch for, by the token that it was given, and watches it no longer.
    Ready(u64),
}

/// The loop's side of a reader.
///
/// It reads as long as it has buffers: whom the user does not take bytes from fills them and waits. It ends when this
/// is dropped and the socket is shut down, or at a failure.
#[derive(Debug)]
pub(super) struct Reader {
    thread: JoinHandle<()>,
    tray: SyncSender<Buffer>,
    /// `made <= BUFFERS_MAX`.
    made: usize,
}

impl Reader {
    /// Starts a thread that waits for its first buffer.
    ///
    /// # Errors
    ///
    /// The system has no thread for it; the text says what to do.
    pub(super) fn start(stream: &Arc<Stream>, conn: ConnId, mailbox: &Arc<Mailbox<Note>>) -> io::Result<Self> {
        let (tray, buffers) = sync_channel(BUFFERS_MAX);
        let (stream, mailbox) = (Arc::clone(stream), Arc::clone(mailbox));
        let body = move || {
            // Dropped last, so after the socket.
            let farewell = Farewell { mailbox, conn };
            let stream = stream;
            read(&stream, conn, &buffers, &farewell.mailbox);
        };
        let thread = thread::Builder::new()
            .name("kraft-reader".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(body)
            .map_err(|error| no_thread(&error))?;
        Ok(Self { thread, tray, made: 0 })
    }

    /// Gives it another buffer, if it has not all that it may have.
    pub(super) fn extend(&mut self, bytes: usize) {
        if self.made < BUFFERS_MAX {
            self.made += 1;
            self.give(Box::new_uninit_slice(bytes));
        }
    }

    /// Buffers that it was given so far.
    pub(super) fn made(&self) -> usize {
        self.made
    }

    /// Gives a buffer back.
    pub(super) fn give(&self, buffer: Buffer) {
        // There is room for all that were made. A reader that is gone needs none.
        let _ = self.tray.try_send(buffer);
    }

    /// Lets it end; the socket is to be shut down, or it may still read.
    pub(super) fn dismiss(self) -> JoinHandle<()> {
        self.thread
    }
}

/// Says that the reader is gone, also if it panicked.
struct Farewell {
    mailbox: Arc<Mailbox<Note>>,
    conn: ConnId,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.mailbox.tell(Note::Gone(self.conn));
    }
}

fn read(stream: &Stream, conn: ConnId, buffers: &Receiver<Buffer>, mailbox: &Mailbox<Note>) {
    while let Ok(mut buffer) = buffers.recv() {
        let outcome = loop {
            match SockRef::from(stream).recv(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        match outcome {
            Ok(0) => {
                mailbox.tell(Note::Ended(conn));
                if let Some(error) = error_after_end(stream) {
                    mailbox.tell(Note::Failed(conn, sock::close_reason(&error)));
                }
                return;
            }
            Ok(count) => mailbox.tell(Note::Received(conn, Filled { buffer, count })),
            Err(error) => return mailbox.tell(Note::Failed(conn, sock::close_reason(&error))),
        }
    }
}

/// Waits until a connection whose peer has ended is over: by the peer's reset, which is an error, or by our own close.
///
/// A backend that is told about sockets hears of such a reset by itself; whoever has nothing more to write to that
/// peer would else never learn that it is gone.
fn error_after_end(stream: &Stream) -> Option<io::Error> {
    let mut entry = libc::pollfd {
        fd: stream.as_raw_fd(),
        // POLLERR and POLLHUP are reported unasked.
        events: 0,
        revents: 0,
    };
    loop {
        // SAFETY: one entry, valid for the call; the descriptor is open as long as `stream` lives.
        let count = unsafe { libc::poll(&raw mut entry, 1, -1) };
        let is_interrupted = count < 0 && io::Error::last_os_error().kind() == ErrorKind::Interrupted;
        if !is_interrupted {
            return stream.take_error();
        }
    }
}

/// What the system says if it has no thread is "operation would block", which helps nobody.
fn no_thread(error: &io::Error) -> io::Error {
    let kind = match error.kind() {
        ErrorKind::WouldBlock => ErrorKind::QuotaExceeded,
        kind => kind,
    };
    let text = format!(
        "no thread to read it ({error}): raise the limit of threads (ulimit -u, pids.max of the cgroup, \
         kernel.threads-max) or lower max_connections"
    );
    io::Error::new(kind, text)
}
