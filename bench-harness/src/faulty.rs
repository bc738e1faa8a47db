//! Engines that do wrong, to see that it is noticed, and two whose ratio is known.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::inside;
use crate::serve::{self, Task};

/// Which byte of a connection comes back with a bit bent. Behind what is exchanged before the load begins.
const BENT_AT: usize = 10_000;

/// Echoes, with one bit wrong.
pub(crate) fn bend(_: &Task) -> io::Result<()> {
    for stream in serve::listen()?.incoming() {
        let stream = stream?;
        thread::spawn(move || bend_one(stream));
    }
    Ok(())
}

fn bend_one(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    let mut seen = 0;
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if let Some(byte) = buffer[..count].get_mut(BENT_AT.wrapping_sub(seen)) {
            *byte ^= 1;
        }
        seen += count;
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// Ends as soon as somebody says something.
pub(crate) fn die(_: &Task) -> io::Result<()> {
    let (mut stream, _) = serve::listen()?.accept()?;
    // However the read ends.
    let _ = stream.read(&mut [0]);
    eprintln!("kraft-bench: this engine ends at the first bytes, as it should");
    process::exit(3)
}

/// Echoes, and reads on although nobody takes the answers.
pub(crate) fn hoard(_: &Task) -> io::Result<()> {
    for stream in serve::listen()?.incoming() {
        let mut reading = stream?;
        let mut writing = reading.try_clone()?;
        let (hoard, answers) = mpsc::channel::<Vec<u8>>();
        thread::spawn(move || answers.iter().all(|answer| writing.write_all(&answer).is_ok()));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reading.read(&mut buffer) {
                if hoard.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

/// Answers what a connection says first, and then nothing.
pub(crate) fn hang(_: &Task) -> io::Result<()> {
    let mut silent = Vec::new();
    for stream in serve::listen()?.incoming() {
        let mut stream = stream?;
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        stream.write_all(&byte)?;
        silent.push(stream);
    }
    Ok(())
}

/// Echoes as many bytes as 200 small messages have, all connections together, and then reads on and says nothing.
pub(crate) fn stop(_: &Task) -> io::Result<()> {
    static LEFT: AtomicUsize = AtomicUsize::new(200 * TIMED_BYTES);
    each(|mut stream| {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let take = |left: usize| Some(left.saturating_sub(count));
            let left = LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
            let left = left.unwrap_or_else(|left| left);
            if stream.write_all(&buffer[..count.min(left)]).is_err() {
                return;
            }
        }
    })
}

/// Echoes, but not to the first connection that says more than a byte: with one the load sees that all are accepted.
pub(crate) fn starve(_: &Task) -> io::Result<()> {
    static IS_CHOSEN: AtomicBool = AtomicBool::new(false);
    each(|mut stream| {
        let mut buffer = [0; 4096];
        let mut is_silent = false;
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            is_silent |= count > 1 && !IS_CHOSEN.swap(true, Ordering::Relaxed);
            if !is_silent && stream.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    })
}

/// Echoes, and one of its threads works all the while.
pub(crate) fn fidget(_: &Task) -> io::Result<()> {
    thread::spawn(|| {
        loop {
            std::hint::spin_loop();
        }
    });
    each(|mut stream| {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    })
}

/// Echoes a byte at a time, with rests between that no single one of would be called a silence.
pub(crate) fn trickle(_: &Task) -> io::Result<()> {
    each(|mut stream| {
        let mut byte = [0];
        while let Ok(1) = stream.read(&mut byte) {
            thread::sleep(Duration::from_millis(40));
            if stream.write_all(&byte).is_err() {
                return;
            }
        }
    })
}

/// Echoes what a connection says first, if that is longer than a byte; at anything else, and at once where there are no
/// connections, it does to its parent what ^C does, once, and says nothing.
pub(crate) fn interrupt(task: &Task) -> io::Result<()> {
    if !task.job.has_connections() {
        interrupt_parent();
    }
    each(|mut stream| {
        let mut buffer = [0; 4096];
        let first = stream.read(&mut buffer).unwrap_or(0);
        if first > 1 && (stream.write_all(&buffer[..first]).is_err() || !matches!(stream.read(&mut buffer), Ok(1..))) {
            return;
        }
        interrupt_parent()
    })
}

fn interrupt_parent() -> ! {
    static HAS_DONE_IT: AtomicBool = AtomicBool::new(false);
    if !HAS_DONE_IT.swap(true, Ordering::Relaxed)
        && let Some(parent) = rustix::process::getppid()
    {
        // If it is gone so are we.
        let _ = rustix::process::kill_process(parent, rustix::process::Signal::INT);
    }
    // Until the parent ends us.
    loop {
        thread::park();
    }
}

/// Echoes. As what measures itself it says that a wake was lost; of a node there is no such backend.
pub(crate) fn deaf(task: &Task) -> io::Result<()> {
    if !task.job.has_connections() {
        return Err(inside::fail(&io::Error::other("a wake was lost")));
    }
    each(|mut stream| {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    })
}

/// A thread a connection, in the order in which they come.
fn each(serve: fn(TcpStream)) -> io::Result<()> {
    for stream in serve::listen()?.incoming() {
        let stream = stream?;
        stream.set_nodelay(true)?;
        thread::spawn(move || serve(stream));
    }
    Ok(())
}

/// Bytes of the messages that [`steady`] and [`slow`] answer.
pub(crate) const TIMED_BYTES: usize = 64;

/// Answers a message in 20 µs, most of which it waits for them to be over.
pub(crate) fn steady(_: &Task) -> io::Result<()> {
    timed(Duration::from_micros(20))
}

/// A tenth slower: 22 µs.
pub(crate) fn slow(_: &Task) -> io::Result<()> {
    timed(Duration::from_micros(22))
}

/// One connection at a time. Each message takes as long as it should, counted from the one before it, so that nothing
/// else of what happens matters as long as the next one is there already: a load with some on their way sees to that.
fn timed(each: Duration) -> io::Result<()> {
    for stream in serve::listen()?.incoming() {
        let mut stream = stream?;
        stream.set_nodelay(true)?;
        let mut buffer = [0; 64 * TIMED_BYTES];
        let mut partial = 0;
        let mut due = Instant::now();
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let messages = (partial + count) / TIMED_BYTES;
            partial = (partial + count) % TIMED_BYTES;
            // What it had no work for does not count.
            due = due.max(Instant::now() - each) + each * u32::try_from(messages).unwrap_or(u32::MAX);
            while Instant::now() < due {
                std::hint::spin_loop();
            }
            if stream.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
    }
    Ok(())
}
