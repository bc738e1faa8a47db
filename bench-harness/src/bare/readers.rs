//! A blocking reader thread a connection, and one loop that gets what they read and writes the answers: the shape of an
//! adapter of threads, whose users live on one thread, without the adapter.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::wakes;
use crate::job::Job;
use crate::request::Requests;
use crate::serve::{self, READ_BUFFER, Task};

/// Enough for the few calls of a thread; ten thousand threads have ten thousand stacks.
const STACK: usize = 64 * 1024;

/// Buffers of a connection: one with the loop while the next is read into.
const BUFFERS: usize = 2;

/// What the loop has of a connection.
struct Conn {
    stream: TcpStream,
    /// Gives buffers back to the reader.
    spare: SyncSender<Vec<u8>>,
    /// Pieces that the writer thread has still to write. The loop writes only at zero, so that order is kept.
    behind: AtomicUsize,
    /// Of the loop alone: what was received of a request.
    requests: Mutex<Requests>,
}

/// What the loop gets.
enum Note {
    /// There is a connection. Told for a fan-out alone: else a connection is nothing until it speaks.
    Joined(Arc<Conn>),
    /// A reader read so many bytes.
    Read(Arc<Conn>, Vec<u8>, usize),
    /// Its reader has seen its end.
    Left(Arc<Conn>),
}

/// What is to be written.
enum Piece {
    /// So many bytes of a buffer that goes back to its reader.
    Lent(Vec<u8>, usize),
    Shared(Bytes),
}

/// A piece of which so many bytes are sent.
type Rest = (Arc<Conn>, Piece, usize);

/// Serves: a thread accepts, one reads for each connection, this one answers, and one writes what a socket did not take
/// at once.
pub(crate) fn serve(task: &Task) -> io::Result<()> {
    if !task.job.has_connections() {
        return wake(task);
    }
    let listener = serve::listen()?;
    let (notes, inbox) = mpsc::channel();
    let job = task.job;
    thread::spawn(move || {
        for stream in listener.incoming() {
            if let Err(error) = stream.and_then(|stream| start(stream, job, &notes)) {
                eprintln!("kraft-bench: a connection could not be served: {error}");
            }
        }
    });
    answer(job, &inbox)
}

/// The channel alone: of what it carries a wake is the least.
fn wake(task: &Task) -> io::Result<()> {
    let (notes, inbox) = mpsc::channel();
    let wakes = wakes::start(task, move || {
        // The loop outlives who wakes it.
        let _ = notes.send(());
    })?;
    inbox.iter().for_each(|()| wakes.hear());
    Err(io::Error::other("the waking thread is gone"))
}

/// Starts the reader of a connection.
fn start(stream: TcpStream, job: Job, notes: &Sender<Note>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (spare, spares) = mpsc::sync_channel(BUFFERS);
    for _ in 0..BUFFERS {
        // The room is there and the receiver on this stack.
        let _ = spare.send(vec![0; READ_BUFFER]);
    }
    let conn = Arc::new(Conn {
        stream,
        spare,
        behind: AtomicUsize::new(0),
        requests: Mutex::default(),
    });
    let notes = notes.clone();
    let tells = job == Job::FanOut;
    if tells {
        // The loop outlives the accepting thread.
        let _ = notes.send(Note::Joined(Arc::clone(&conn)));
    }
    thread::Builder::new().stack_size(STACK).spawn(move || {
        read(&conn, &spares, &notes);
        if tells {
            let _ = notes.send(Note::Left(conn));
        }
    })?;
    Ok(())
}

/// Reads while there are buffers; that there are two bounds what waits for the loop.
fn read(conn: &Arc<Conn>, spares: &Receiver<Vec<u8>>, notes: &Sender<Note>) {
    while let Ok(mut buffer) = spares.recv() {
        let count = loop {
            match recv(&conn.stream, &mut *buffer, RecvFlags::empty()) {
                Ok((_, 0)) => return,
                Ok((_, count)) => break count,
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        };
        if notes.send(Note::Read(Arc::clone(conn), buffer, count)).is_err() {
            return;
        }
    }
}

/// The loop.
fn answer(job: Job, inbox: &Receiver<Note>) -> io::Result<()> {
    let (slow, rest) = mpsc::channel();
    thread::spawn(move || write_the_rest(&rest));
    let mut everybody: Vec<Arc<Conn>> = Vec::new();
    for note in inbox {
        let (conn, buffer, count) = match note {
            Note::Joined(conn) => {
                everybody.push(conn);
                continue;
            }
            Note::Left(conn) => {
                everybody.retain(|other| !Arc::ptr_eq(other, &conn));
                continue;
            }
            Note::Read(conn, buffer, count) => (conn, buffer, count),
        };
        match job {
            Job::Pump => {
                let mut bytes = &buffer[..count];
                while let Some(reply) = conn.request(&mut bytes) {
                    put(&slow, &conn, Piece::Shared(reply));
                }
                conn.give_back(buffer);
            }
            Job::FanOut => {
                let bytes = Bytes::copy_from_slice(&buffer[..count]);
                conn.give_back(buffer);
                for other in everybody.iter().filter(|other| !Arc::ptr_eq(other, &conn)) {
                    put(&slow, other, Piece::Shared(bytes.clone()));
                }
            }
            _ => put(&slow, &conn, Piece::Lent(buffer, count)),
        }
    }
    Err(io::Error::other("the accepting thread is gone"))
}

/// Writes, or hands over what the socket does not take.
fn put(slow: &Sender<Rest>, conn: &Arc<Conn>, piece: Piece) {
    let mut sent = 0;
    if conn.behind.load(Ordering::Acquire) == 0 {
        // The reader wants the socket blocking, so the call says that it does not. (SIGPIPE is ignored in programs of
        // Rust, and MSG_NOSIGNAL is not everywhere.)
        match send(&conn.stream, piece.bytes(), SendFlags::DONTWAIT) {
            Ok(count) if count == piece.bytes().len() => return conn.written(piece),
            Ok(count) => sent = count,
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The reader sees it too, and the connection ends with it.
            Err(_) => return,
        }
    }
    conn.behind.fetch_add(1, Ordering::Relaxed);
    // The writer ends after the loop does.
    let _ = slow.send((Arc::clone(conn), piece, sent));
}

/// Writes, blocking, what the loop could not. One thread for all: a load that reads its answers blocks it for moments.
fn write_the_rest(rest: &Receiver<Rest>) {
    for (conn, piece, mut sent) in rest {
        while let unsent @ [_, ..] = &piece.bytes()[sent..] {
            // std ignores SIGPIPE, and macOS has no flag against it.
            match send(&conn.stream, unsent, SendFlags::empty()) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        conn.behind.fetch_sub(1, Ordering::Release);
        conn.written(piece);
    }
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Lent(buffer, count) => &buffer[..*count],
            Self::Shared(bytes) => bytes,
        }
    }
}

impl Conn {
    fn written(&self, piece: Piece) {
        if let Piece::Lent(buffer, _) = piece {
            self.give_back(buffer);
        }
    }

    fn give_back(&self, buffer: Vec<u8>) {
        // There is room for all buffers of the connection. If its reader is gone they go too.
        let _ = self.spare.try_send(buffer);
    }

    fn request(&self, bytes: &mut &[u8]) -> Option<Bytes> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.next(bytes)
    }
}
