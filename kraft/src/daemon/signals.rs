//! What ends the process in order, and the thread that waits for it.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::low_level::{pipe, signal_name};

use super::{Exit, Failure, logging};

/// How long after a flood the log says what was left out.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// The pipe into which signals, the log and a parent's end write a byte each. One thread reads it, so that nothing is
/// done inside a signal handler and nothing wakes an idle process.
#[derive(Debug)]
pub(super) struct Signals {
    reader: UnixStream,
    writer: UnixStream,
    last: Arc<AtomicUsize>,
    /// A byte is under way that says that the log left out lines: a flood writes one, not one a line.
    telling: Arc<AtomicBool>,
}

/// What the pipe carries; signals write `X` (`signal_hook::low_level::pipe`).
const SUPPRESSED: u8 = b's';
const PARENT_GONE: u8 = b'p';

impl Signals {
    /// Begins to catch SIGINT and SIGTERM. SIGPIPE is ignored by Rust's start-up code already.
    pub(super) fn catch() -> Result<Self, Failure> {
        let cannot = |error: io::Error| {
            Failure::new(format!(
                "signals cannot be caught: {error}; raise the limit of open files"
            ))
        };
        let (reader, writer) = UnixStream::pair().map_err(cannot)?;
        let last = Arc::new(AtomicUsize::new(0));
        for signal in [SIGINT, SIGTERM] {
            // Actions run in the order in which they were registered: the number stands when the byte arrives.
            let number = usize::try_from(signal).expect("signals have small numbers");
            signal_hook::flag::register_usize(signal, Arc::clone(&last), number).map_err(cannot)?;
            pipe::register(signal, writer.try_clone().map_err(cannot)?).map_err(cannot)?;
        }
        // A write beyond the limit of file sizes is to fail with EFBIG, so that it ends the node as any failed write
        // does; by default the signal kills. A signal that is caught interrupts nothing here.
        signal_hook::flag::register(SIGXFSZ, Arc::default()).map_err(cannot)?;
        Ok(Self {
            reader,
            writer,
            last,
            telling: Arc::default(),
        })
    }

    /// What the log calls when it leaves out a line.
    pub(super) fn on_suppressed(&self) -> Result<impl Fn() + Send + Sync + 'static, Failure> {
        let writer = self.clone_writer()?;
        let telling = Arc::clone(&self.telling);
        Ok(move || {
            if !telling.swap(true, Ordering::AcqRel) {
                let _ = (&writer).write(&[SUPPRESSED]);
            }
        })
    }

    /// Whose end ends the process in order, too.
    pub(super) fn parent(&self) -> Result<Parent, Failure> {
        self.clone_writer().map(Parent)
    }

    /// Calls `reload` after each SIGHUP from here on, once for several that come together. Without this call the signal ends
    /// the process. On a pipe and a thread of its own: what is read again may take its time, and a stop does not wait for it.
    pub(super) fn on_hangup(mut reload: impl FnMut() + Send + 'static) -> Result<(), Failure> {
        let cannot = |error: io::Error| Failure::new(format!("SIGHUP cannot be caught: {error}"));
        let (mut reader, writer) = UnixStream::pair().map_err(cannot)?;
        pipe::register(SIGHUP, writer).map_err(cannot)?;
        spawn("hangup", move || {
            let mut bytes = [0; 64];
            loop {
                match reader.read(&mut bytes) {
                    Ok(1..) => reload(),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    // The handler has the other end as long as the process lives.
                    Ok(0) | Err(_) => return,
                }
            }
        })
    }

    /// Calls `stop` at the first reason to stop; at the second, or when the stop has not ended the process in `grace`,
    /// ends it. `None` of `stop`: nothing runs yet that could be told, and a log that is being opened may be left at any
    /// byte; the process ends in order there and then.
    pub(super) fn on_stop(
        self,
        grace: Duration,
        stop: impl Fn() -> Option<()> + Send + 'static,
    ) -> Result<(), Failure> {
        spawn("signals", move || self.run(grace, stop))
    }

    fn run(mut self, grace: Duration, stop: impl Fn() -> Option<()>) {
        let mut stopping = false;
        loop {
            let telling = self.telling.load(Ordering::Acquire);
            let timeout = if stopping {
                Some(grace)
            } else {
                telling.then_some(TELL_AFTER)
            };
            // Fails for a timeout of zero alone.
            let _ = self.reader.set_read_timeout(timeout);
            let mut byte = [0];
            let why = match self.reader.read(&mut byte) {
                Ok(1..) if byte[0] == SUPPRESSED => continue,
                Ok(1..) if byte[0] == PARENT_GONE => "the parent is gone",
                Ok(1..) => i32::try_from(self.last.load(Ordering::Relaxed))
                    .ok()
                    .and_then(signal_name)
                    .unwrap_or("a signal"),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) && !stopping => {
                    self.telling.store(false, Ordering::Release);
                    logging::tell_suppressed();
                    continue;
                }
                // The writer lives as long as this does, so that the pipe does not end; a read fails by time-out alone.
                Ok(0) | Err(_) => {
                    log::error!("the node has not stopped in {} s: ending the process", grace.as_secs());
                    process::exit(i32::from(Exit::Failed as u8));
                }
            };
            if stopping {
                log::warn!("{why} again: ending the process");
                process::exit(i32::from(Exit::Failed as u8));
            }
            log::info!("{why}: stopping");
            stopping = true;
            if stop().is_none() {
                log::info!("stopped before it served");
                log::logger().flush();
                process::exit(0);
            }
        }
    }

    fn clone_writer(&self) -> Result<UnixStream, Failure> {
        let writer = self.writer.try_clone();
        writer.map_err(|error| Failure::new(format!("signal pipe: {error}; raise the limit of open files")))
    }
}

/// The parent, which holds the other end of stdin.
#[derive(Debug)]
pub(super) struct Parent(UnixStream);

impl Parent {
    /// Ends the process in order when stdin ends: a parent that dies closes its end of the pipe, however it dies.
    pub(super) fn watch(self) -> Result<(), Failure> {
        spawn("parent", move || {
            let mut byte = [0];
            loop {
                match io::stdin().read(&mut byte) {
                    Ok(1..) => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Ok(0) | Err(_) => break,
                }
            }
            let _ = (&self.0).write(&[PARENT_GONE]);
        })
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(body);
    spawned
        .map(drop)
        .map_err(|error| Failure::new(format!("thread {name}: {error}; raise the limit of threads")))
}
