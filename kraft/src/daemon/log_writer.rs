//! Writes lines from a thread of its own, so that a log that nobody reads (a stopped terminal, a full pipe) never
//! stops the node's loop.

use std::fmt;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender, TrySendError};
use std::thread;
use std::time::Duration;

/// Lines that wait for their reader; more are lost, and counted.
const LINES_MAX: usize = 1024;

/// How long a flush waits for a reader.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// Hands each write, a whole line, to the thread.
pub(super) struct LogWriter {
    lines: SyncSender<Order>,
    lost: u64,
    tell_lost: fn(u64) -> String,
}

enum Order {
    Line(Vec<u8>),
    Flush(Sender<()>),
}

impl LogWriter {
    /// Writes to `out`. What was lost is told, once there is room again, by the line that `tell_lost` makes.
    pub(super) fn start(out: impl Write + Send + 'static, tell_lost: fn(u64) -> String) -> io::Result<Self> {
        let (lines, orders) = mpsc::sync_channel(LINES_MAX);
        thread::Builder::new()
            .name("kraft-log".to_owned())
            .spawn(move || perform(out, &orders))?;
        Ok(Self {
            lines,
            lost: 0,
            tell_lost,
        })
    }

    fn offer(&mut self, line: Vec<u8>) -> bool {
        // A thread that is gone panicked in `out`: its lines are lost like those of a reader that is gone.
        !matches!(
            self.lines.try_send(Order::Line(line)),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_))
        )
    }
}

fn perform(mut out: impl Write, orders: &Receiver<Order>) {
    for order in orders {
        match order {
            // When stderr is gone there is nobody to tell.
            Order::Line(line) => drop(out.write_all(&line)),
            Order::Flush(done) => {
                let _ = out.flush();
                let _ = done.send(());
            }
        }
    }
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lost > 0 {
            let told = (self.tell_lost)(self.lost).into_bytes();
            if self.offer(told) {
                self.lost = 0;
            }
        }
        if self.lost > 0 || !self.offer(line.to_vec()) {
            self.lost += 1;
        }
        Ok(line.len())
    }

    /// Waits until all lines are written, and no longer than their reader may be waited for.
    fn flush(&mut self) -> io::Result<()> {
        let (done, wait) = mpsc::channel();
        if self.lines.try_send(Order::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(FLUSH_MAX);
        }
        Ok(())
    }
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWriter")
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Takes nothing until the gate is opened, and tells when it stands before it.
    struct Gated {
        arrived: Sender<()>,
        gate: Receiver<()>,
        is_open: bool,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.is_open {
                let _ = self.arrived.send(());
                let _ = self.gate.recv();
                self.is_open = true;
            }
            self.taken.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_nobody_reads_stops_nobody_and_tells_what_was_lost() {
        let (open, gate) = mpsc::channel();
        let (arrived, has_arrived) = mpsc::channel();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let out = Gated {
            arrived,
            gate,
            is_open: false,
            taken: Arc::clone(&taken),
        };
        let mut writer = LogWriter::start(out, |lost| format!("{lost} lost\n")).expect("a thread");
        // One is with the thread, the queue takes its bound, the rest is lost.
        writer.write_all(b"line\n").expect("never fails");
        has_arrived.recv().expect("the thread has it");
        for _ in 0..LINES_MAX + 100 {
            writer.write_all(b"line\n").expect("never fails");
        }
        assert_eq!(writer.lost, 100);
        let lost = writer.lost;
        open.send(()).expect("the thread waits");
        while writer.lost > 0 {
            writer.write_all(b"after\n").expect("never fails");
            thread::yield_now();
        }
        writer.flush().expect("never fails");
        let text = String::from_utf8(taken.lock().expect("no panic").clone()).expect("lines");
        let told: u64 = text
            .lines()
            .filter_map(|line| line.strip_suffix(" lost")?.parse::<u64>().ok())
            .sum();
        assert!(told >= lost, "{told} of {lost}");
        assert!(text.ends_with("after\n"));
    }
}
