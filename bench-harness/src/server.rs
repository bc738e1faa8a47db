//! A server process under measurement.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::bare::clock;
// perf_event_open(2) is Linux's own.
#[cfg(target_os = "linux")]
use crate::bare::syscalls::{Events, Tracepoint};
use crate::fault::Fault;
use crate::generator::{Clocks, Figures, INTERRUPT_NAP, Span, Switches};
use crate::inside;
use crate::interrupt;
use crate::pin;
use crate::serve::{ALLOCATED, ANNOUNCEMENT};
use crate::stats::Random;
use crate::workload::{Contender, Work};

/// A process that serves one engine. Killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// What it says, line by line.
    lines: Receiver<String>,
}

/// What a server is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be timed.
    Times,
    /// To be counted, which takes time.
    Counts,
}

impl Server {
    /// Starts it, bound to `core`, and waits until it listens.
    pub(crate) fn start(
        contender: &Contender,
        work: Work,
        core: Option<usize>,
        purpose: Purpose,
    ) -> Result<Self, Fault> {
        let mut server = Self::spawn(contender, work, core, purpose, |_| {})?;
        server.address = server.announced()?;
        Ok(server)
    }

    fn spawn(
        contender: &Contender,
        work: Work,
        core: Option<usize>,
        purpose: Purpose,
        tell: impl FnOnce(&mut Command),
    ) -> Result<Self, Fault> {
        let own = std::env::current_exe().map_err(|error| Fault::own("this program's path", &error))?;
        let mut command = Command::new(own);
        command
            .args(["serve", "--engine", contender.engine.name])
            .args(["--job", work.job().name()])
            .args(["--connections", &work.conns().to_string()])
            .args(["--puts", &contender.puts.to_string()])
            .args(core.iter().map(|core| format!("--core={core}")))
            // Its own group: ^C is for us, who end it, and not for an engine that would seem to have died of itself.
            .process_group(0)
            // So no signal of the terminal's reaches it: it ends with the pipe where the system has nothing for that.
            .args(pin::IS_LEASHED.then_some("--leash"))
            .args((purpose == Purpose::Counts).then_some("--count"))
            .stdin(if pin::IS_LEASHED || purpose == Purpose::Counts {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        tell(&mut command);
        let mut child = command
            .spawn()
            .map_err(|error| Fault::own("start the server", &error))?;
        let stdout = child.stdout.take().map(BufReader::new);
        Ok(Self {
            child,
            address: SocketAddr::from(([0; 4], 0)),
            lines: lines(stdout),
        })
    }

    /// The address that it announces.
    fn announced(&mut self) -> Result<SocketAddr, Fault> {
        let Some(text) = self.line(START_MAX)? else {
            let patience = START_MAX.as_secs();
            return Err(Fault::Stalled(format!("does not listen after {patience} s")));
        };
        let address = text
            .strip_prefix(ANNOUNCEMENT)
            .and_then(|rest| rest.trim().parse().ok());
        address.ok_or_else(|| self.ended_early())
    }

    /// The next line that it says, empty if it ends; `None` if it says none within `patience`.
    fn line(&self, patience: Duration) -> Result<Option<String>, Fault> {
        let end = Instant::now() + patience;
        loop {
            if interrupt::is_asked() {
                return Err(Fault::Interrupted);
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left.min(INTERRUPT_NAP)) {
                Ok(line) => return Ok(Some(line)),
                Err(RecvTimeoutError::Disconnected) => return Ok(Some(String::new())),
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// What it and we used so far.
    pub(crate) fn clocks(&self) -> Clocks {
        clocks(&[self.child.id()])
    }

    /// The CPU time of both alone, which takes no time to read.
    pub(crate) fn cpu(&self) -> Clocks {
        Clocks {
            server: clock::cpu_time(self.child.id()),
            own: clock::cpu_time(std::process::id()),
            ..Clocks::default()
        }
    }

    /// Counts its system calls, or what its rings tell it, from here on; `None` where nobody counts, or with very many
    /// threads.
    #[cfg(target_os = "linux")]
    pub(crate) fn count(&self, what: Tracepoint) -> Option<Events> {
        Events::of(&numbers(self.child.id())?, what)
    }

    /// How often it has asked for memory so far, if it was started to be counted.
    pub(crate) fn allocations(&self) -> Option<u64> {
        let mut asks = self.child.stdin.as_ref()?;
        asks.write_all(b"\n").ok()?;
        self.line(START_MAX).ok()??.strip_prefix(ALLOCATED)?.trim().parse().ok()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> Option<u64> {
        resident(&[self.child.id()])
    }

    /// Whether one of its threads runs or waits for its core. Linux alone tells; elsewhere none does.
    pub(crate) fn is_runnable(&self) -> bool {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.child.id())) else {
            return false;
        };
        let stats = threads
            .flatten()
            .map(|thread| fs::read_to_string(thread.path().join("stat")));
        // A thread may end meanwhile.
        stats.flatten().any(|stat| is_running(&stat))
    }

    /// What its end says that came before it did what it is for: that it does not start here if it ended by itself and
    /// with a reason; otherwise it broke.
    fn ended_early(&mut self) -> Fault {
        match self.end() {
            Some((status, words)) if status.code() == Some(1) => Fault::Refused(words),
            Some((_, words)) => Fault::Closed(format!("the server ended: {words}")),
            None => Fault::closed("the server says nothing that it should"),
        }
    }

    /// What it said before it ended; `None` if it runs.
    pub(crate) fn last_words(&mut self) -> Option<String> {
        self.end().map(|(_, words)| words)
    }

    /// How it ended, and what it said before; `None` if it runs.
    fn end(&mut self) -> Option<(ExitStatus, String)> {
        // Its pipe breaks a moment before it can be waited for: give it that moment, not more.
        let guard = Instant::now();
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if guard.elapsed() < LAST_MOMENT => thread::yield_now(),
                _ => return None,
            }
        };
        let mut text = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            // What it wrote before its end is in the pipe; who else has it open must not hold us.
            let _ = stderr.take(LAST_WORDS_MAX).read_to_string(&mut text);
        }
        Some((status, last_lines(&text, status)))
    }
}

/// Lines of a process that wait to be read; it says no more than it is asked for.
const LINES_MAX: usize = 16;

/// What a process says, line by line.
fn lines(stdout: Option<impl BufRead + Send + 'static>) -> Receiver<String> {
    let (say, lines) = mpsc::sync_channel(LINES_MAX);
    // A read of a pipe has no time-out, a channel has. The thread ends with the process at the latest.
    thread::spawn(move || {
        let mut all = stdout.into_iter().flat_map(BufRead::lines).map_while(Result::ok);
        while all.next().is_some_and(|line| say.send(line).is_ok()) {}
    });
    lines
}

/// Of what a process wrote, the end, and how it ended.
pub(crate) fn last_lines(text: &str, status: ExitStatus) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
    let last = last.iter().map(|line| {
        let line = line.trim_start_matches("kraft-bench: ");
        line.chars().take(LINE_CHARS_MAX).collect::<String>()
    });
    match last.collect::<Vec<_>>().join(" / ") {
        words if words.is_empty() => status.to_string(),
        words => format!("{words} ({status})"),
    }
}

/// Runs a process that measures itself, its second thread on the core `beside`, and returns what it found.
pub(crate) fn alone(
    contender: &Contender,
    work: Work,
    core: Option<usize>,
    beside: Option<usize>,
    span: Span,
    purpose: Purpose,
) -> Result<Figures, Fault> {
    let mut process = Server::spawn(contender, work, core, purpose, |command| {
        command
            .args(["--seconds", &span.measured.as_secs_f64().to_string()])
            .args(beside.iter().map(|core| format!("--beside={core}")));
    })?;
    // Its spans, and what of a last turn is behind them.
    let patience = span.warm_up + span.measured + 2 * START_MAX;
    let Some(text) = process.line(patience)? else {
        return Err(Fault::Stalled(format!("found nothing in {} s", patience.as_secs())));
    };
    if let Some(why) = text.strip_prefix(inside::FAILED) {
        return Err(Fault::closed(why.trim()));
    }
    inside::parse(&text).ok_or_else(|| process.ended_early())
}

/// A server that does not listen by then is not going to.
const START_MAX: Duration = Duration::from_secs(10);

/// How long after its connections broke a process that ends can be waited for.
pub(crate) const LAST_MOMENT: Duration = Duration::from_millis(200);
const LAST_WORDS_MAX: u64 = 64 * 1024;

/// A panic says where, then what, then how to learn more.
const LAST_LINES: usize = 3;
const LINE_CHARS_MAX: usize = 400;

impl Drop for Server {
    fn drop(&mut self) {
        // If it is gone already there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// With more threads than this, reading what each of them has takes longer than a round may be disturbed for.
const THREADS_MAX: usize = 64;

/// A counter is a descriptor, there are two for a thread, and connections want theirs.
#[cfg(target_os = "linux")]
const COUNTED_MAX: usize = 128;

/// The folders of a process's threads. `None` where the system does not tell, or with more than `most`.
fn threads(pid: u32, most: usize) -> Option<Vec<PathBuf>> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let threads: Vec<PathBuf> = threads.take(most + 1).map(|thread| thread.path()).collect();
    (threads.len() <= most).then_some(threads)
}

/// The threads of a process, unless they are too many to be counted.
#[cfg(target_os = "linux")]
fn numbers(pid: u32) -> Option<Vec<u32>> {
    let threads = threads(pid, COUNTED_MAX)?.into_iter();
    let numbers = threads.filter_map(|thread| thread.file_name()?.to_str()?.parse().ok());
    Some(numbers.collect())
}

/// The threads of this process without the one that calls.
#[cfg(target_os = "linux")]
pub(crate) fn other_threads() -> Option<Vec<u32>> {
    let own = fs::read_link("/proc/thread-self").ok()?;
    let own: u32 = own.file_name()?.to_str()?.parse().ok()?;
    let mut numbers = numbers(std::process::id())?;
    numbers.retain(|number| *number != own);
    Some(numbers)
}

/// What these processes, together, and this one used so far.
pub(crate) fn clocks(pids: &[u32]) -> Clocks {
    Clocks {
        switches: switches(pids),
        server: pids.iter().map(|pid| clock::cpu_time(*pid)).sum(),
        own: clock::cpu_time(std::process::id()),
        ..Clocks::default()
    }
}

/// How often the threads of processes gave their core up or lost it: what getrusage(2) says to the process itself.
fn switches(pids: &[u32]) -> Option<Switches> {
    let of = |status: &str| -> u64 {
        let fields = status.lines().filter_map(|line| line.split_once(':'));
        let counts = fields.filter(|(name, _)| name.ends_with("ctxt_switches"));
        counts.filter_map(|(_, count)| count.trim().parse::<u64>().ok()).sum()
    };
    let mut all = Switches { count: 0, threads: 0 };
    let threads = pids.iter().map(|pid| threads(*pid, THREADS_MAX));
    for thread in threads.collect::<Option<Vec<_>>>()?.into_iter().flatten() {
        // One that ends meanwhile is none of them.
        if let Ok(status) = fs::read_to_string(thread.join("status")) {
            let number = thread.file_name()?.to_str()?.parse().ok()?;
            all.count += of(&status);
            all.threads = all.threads.wrapping_add(Random::new(number).draw());
        }
    }
    Some(all)
}

/// The state stands behind the name, which may hold anything, parentheses too.
fn is_running(stat: &str) -> bool {
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| rest.trim_start().starts_with('R'))
}

/// Resident memory of processes, together, in bytes: Linux's `VmRSS`.
pub(crate) fn resident(pids: &[u32]) -> Option<u64> {
    let status = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/status")).ok();
    pids.iter().map(|pid| status_resident(&status(pid)?)).sum()
}

fn status_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn giving_the_core_up_is_a_switch() {
        let own = std::process::id();
        let before = switches(&[own]).expect("Linux tells");
        let guard = Instant::now();
        while switches(&[own]).expect("Linux tells") == before {
            let (send, receive) = mpsc::channel();
            let waits = thread::spawn(move || receive.recv());
            thread::yield_now();
            send.send(()).expect("somebody waits");
            waits.join().expect("it does not panic").expect("it was sent");
            assert!(guard.elapsed() < Duration::from_secs(10), "no switch was counted");
        }
        assert_eq!(switches(&[1 << 23]), None);
        // Of processes of which one is gone nobody knows what they have together.
        assert_eq!(switches(&[own, 1 << 23]), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_processes_use_is_added_up() {
        let mut child = Command::new("/bin/cat")
            .stdin(Stdio::piped())
            .spawn()
            .expect("every system has it");
        let [own, other] = [std::process::id(), child.id()];
        let [both, first, second] =
            [&[own, other][..], &[own], &[other]].map(|pids| resident(pids).expect("Linux tells"));
        // Ours grows meanwhile, the other one's sleeps: it reads from us.
        assert!(second > 0 && both > first.min(second) && resident(&[own, 1 << 23]).is_none());
        let threads = |pids: &[u32]| switches(pids).expect("Linux tells").threads;
        assert_ne!(threads(&[other]), 0);
        let used = clocks(&[other, other]);
        assert_eq!(
            used.switches.map(|both| both.threads),
            Some(threads(&[other]).wrapping_mul(2))
        );
        drop(child.stdin.take());
        child.wait().expect("it ends with its input");
    }

    #[test]
    fn last_words_are_the_last_lines_each_cut() {
        let status = ExitStatus::default();
        assert_eq!(last_lines(" \n", status), status.to_string());
        let long = "x".repeat(500);
        let text = format!("one\n\n{long}\nkraft-bench: two\nthree\n");
        let cut = &long[..LINE_CHARS_MAX];
        assert_eq!(last_lines(&text, status), format!("{cut} / two / three ({status})"));
    }

    #[test]
    fn who_runs_is_told_from_who_sleeps() {
        assert!(is_running("12 (a) S) R 1 12 12"));
        assert!(!is_running("12 (kraft-bench) S 1 12 12"));
        assert!(!is_running(""));
    }

    #[test]
    fn resident_memory_is_in_kib() {
        assert_eq!(
            status_resident("VmPeak:\t  9 kB\nVmRSS:\t    1524 kB\nRssAnon: 1 kB"),
            Some(1524 * 1024)
        );
        assert_eq!(status_resident("Name: x"), None);
    }
}
