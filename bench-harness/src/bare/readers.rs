//! A blocking reader thread a connection, and one loop that gets what they read and writes the answers: the shape of an
//! adapter of threads, whose users live on one thread, without the adapter.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

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
    /// Chunks that the writer thread has still to write. The loop writes only at zero, so that order is kept.
    behind: AtomicUsize,
}

/// What a reader read, and how much of the buffer it is.
struct Chunk {
    conn: Arc<Conn>,
    buffer: Vec<u8>,
    count: usize,
}

/// Serves: a thread accepts, one reads for each connection, this one answers, and one writes what a socket did not take
/// at once.
pub(crate) fn serve(_: &Task) -> io::Result<()> {
    let listener = serve::listen()?;
    let (chunks, inbox) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            if let Err(error) = stream.and_then(|stream| start(stream, &chunks)) {
                eprintln!("kraft-bench: a connection could not be served: {error}");
            }
        }
    });
    answer(&inbox)
}

/// Starts the reader of a connection.
fn start(stream: TcpStream, chunks: &Sender<Chunk>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (spare, spares) = mpsc::sync_channel(BUFFERS);
    for _ in 0..BUFFERS {
        // The room is there and the receiver on this stack.
        let _ = spare.send(vec![0; READ_BUFFER]);
    }
    let behind = AtomicUsize::new(0);
    let conn = Arc::new(Conn { stream, spare, behind });
    let chunks = chunks.clone();
    thread::Builder::new()
        .stack_size(STACK)
        .spawn(move || read(&conn, &spares, &chunks))?;
    Ok(())
}

/// Reads while there are buffers; that there are two bounds what waits for the loop.
fn read(conn: &Arc<Conn>, spares: &Receiver<Vec<u8>>, chunks: &Sender<Chunk>) {
    while let Ok(mut buffer) = spares.recv() {
        let count = loop {
            match recv(&conn.stream, &mut *buffer, RecvFlags::empty()) {
                Ok((_, 0)) => return,
                Ok((_, count)) => break count,
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        };
        let conn = Arc::clone(conn);
        if chunks.send(Chunk { conn, buffer, count }).is_err() {
            return;
        }
    }
}

/// The loop.
fn answer(inbox: &Receiver<Chunk>) -> io::Result<()> {
    let (slow, rest) = mpsc::channel();
    thread::spawn(move || write_the_rest(&rest));
    for chunk in inbox {
        if chunk.conn.behind.load(Ordering::Acquire) > 0 {
            hand_over(&slow, chunk, 0);
            continue;
        }
        // The reader wants the socket blocking, so the call says that it does not. (SIGPIPE is ignored in programs of
        // Rust, and MSG_NOSIGNAL is not everywhere.)
        match send(&chunk.conn.stream, &chunk.buffer[..chunk.count], SendFlags::DONTWAIT) {
            Ok(sent) if sent == chunk.count => give_back(chunk),
            Ok(sent) => hand_over(&slow, chunk, sent),
            Err(Errno::AGAIN | Errno::INTR) => hand_over(&slow, chunk, 0),
            // The reader sees it too, and the connection ends with it.
            Err(_) => {}
        }
    }
    Err(io::Error::other("the accepting thread is gone"))
}

fn give_back(chunk: Chunk) {
    // There is room for all buffers of the connection. If its reader is gone they go too.
    let _ = chunk.conn.spare.try_send(chunk.buffer);
}

fn hand_over(slow: &Sender<(Chunk, usize)>, chunk: Chunk, sent: usize) {
    chunk.conn.behind.fetch_add(1, Ordering::Relaxed);
    // The writer ends after the loop does.
    let _ = slow.send((chunk, sent));
}

/// Writes, blocking, what the loop could not. One thread for all: a load that reads its answers blocks it for moments.
fn write_the_rest(rest: &Receiver<(Chunk, usize)>) {
    for (chunk, mut sent) in rest {
        while sent < chunk.count {
            // std ignores SIGPIPE, and macOS has no flag against it.
            let unsent = &chunk.buffer[sent..chunk.count];
            match send(&chunk.conn.stream, unsent, SendFlags::empty()) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        chunk.conn.behind.fetch_sub(1, Ordering::Release);
        give_back(chunk);
    }
}
