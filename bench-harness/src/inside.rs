//! What a process measures of itself: wakes by another thread, and timers. It says what it found in a line on standard
//! output and ends.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;

#[cfg(target_os = "linux")]
use crate::bare::syscalls::{Events, Tracepoint};
use crate::bare::{allocations, clock};
use crate::engines::SPIN;
use crate::generator::{Clocks, Figures};
use crate::job::Job;
use crate::pin;
use crate::serve::Task;
#[cfg(target_os = "linux")]
use crate::server;

/// A wake that is not heard by then is lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the line on standard output begins.
pub(crate) const FOUND: &str = "found ";

/// How it begins if the loop did wrong, which is no refusal to start.
pub(crate) const FAILED: &str = "failed ";

/// Between two lone wakes: long enough for a loop to fall asleep. At 20 µs the slowest have not, and would be the fastest
/// for it.
const PAUSE: Duration = Duration::from_micros(100);

/// The same for a loop that spins, which is asked what a wake costs that finds it looking.
const PAUSE_SPINNING: Duration = Duration::from_micros(20);

// Who spins is awake after the one and who does not is asleep after the other.
const _: () = assert!(2 * PAUSE_SPINNING.as_micros() < SPIN.as_micros() && SPIN.as_micros() < PAUSE.as_micros());

/// What lies between two lone wakes of a loop that looks for work for so long before it sleeps.
fn pause(spin: Duration) -> Duration {
    if spin.is_zero() { PAUSE } else { PAUSE_SPINNING }
}

/// Lone wakes of a process that counts, at least: the loop may be busy with one that is not counted when they begin, and
/// that shall not show.
const COUNTED_WAKES: u64 = 100;

/// Wakes of a flood between two looks at the clock.
const BURST: u64 = 1024;

/// Timers that run while others are started and stopped.
pub(crate) const RUNNING: usize = 100_000;

/// Timers of a turn of [`Job::Expire`]; of a build for tests, which says that it measures nothing, fewer.
pub(crate) const MILLION: usize = if cfg!(debug_assertions) { 10_000 } else { 1_000_000 };

/// Within so much the timers of [`Job::Expire`] are due; starting them takes longer, so the loop finds all of them due.
const DUE_WITHIN_MS: u64 = 10;

/// How often a loop was woken, and for how many of these wakes it has been up since.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Alone,
    heard: Alone,
}

/// Apart from its neighbours: one who writes it takes the memory of nothing else away from who reads that.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Alone(AtomicU64);

impl Bell {
    /// The loop was woken.
    pub(crate) fn hear(&self) {
        self.heard
            .0
            .store(self.rung.0.load(Ordering::Acquire), Ordering::Release);
    }
}

/// Starts the thread that calls `wake`, on the core beside the loop's. It ends the process with what it found, or
/// because a wake was lost.
///
/// # Errors
///
/// No thread can be started.
pub(crate) fn ring(task: &Task, wake: impl Fn() + Send + 'static) -> io::Result<Arc<Bell>> {
    let bell = Arc::new(Bell::default());
    let (task, shared) = (task.clone(), Arc::clone(&bell));
    thread::Builder::new().spawn(move || {
        let outcome = task.beside.map_or(Ok(()), pin::to_core);
        let outcome = outcome.and_then(|()| match task.job {
            Job::Flood => flood(&task, &shared, &wake),
            _ => round_trips(&task, &shared, &wake),
        });
        let code = i32::from(outcome.map_err(|error| fail(&error)).is_err());
        std::process::exit(code);
    })?;
    Ok(bell)
}

/// Says what the loop did wrong, and returns it.
pub(crate) fn fail(error: &io::Error) -> io::Error {
    let mut out = io::stdout().lock();
    // Who does not read it sees the end of this process.
    let _ = writeln!(out, "{FAILED}{error}").and_then(|()| out.flush());
    io::Error::new(error.kind(), error.to_string())
}

/// One wake at a time, the next when the loop has had time to fall asleep, unless it spins.
fn round_trips(task: &Task, bell: &Bell, wake: &impl Fn()) -> io::Result<()> {
    let pause = pause(task.spin);
    let mut latency = histogram();
    let (mut count, mut elapsed) = (0, Duration::ZERO);
    let mut counting = None;
    let least = if allocations::count().is_some() {
        COUNTED_WAKES
    } else {
        1
    };
    let origin = Instant::now();
    for number in 1.. {
        let began = Instant::now();
        if count >= least && began - origin >= task.warm_up + task.measured {
            break;
        }
        let is_measured = began - origin >= task.warm_up;
        if is_measured && count == 0 {
            counting = Some(Counting::begin());
        }
        bell.rung.0.store(number, Ordering::Release);
        wake();
        wait_until_heard(task, bell, number)?;
        let passed = began.elapsed();
        if is_measured {
            (count, elapsed) = (count + 1, elapsed + passed);
            latency.saturating_record(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX));
        }
        let rest = Instant::now();
        while rest.elapsed() < pause {
            idle(task);
        }
    }
    let counts = counting.map(Counting::end).unwrap_or_default();
    print(count, elapsed, None, counts, &latency)
}

/// Wakes without waiting; the time ends when the last one is heard.
fn flood(task: &Task, bell: &Bell, wake: &impl Fn()) -> io::Result<()> {
    let mut number = 0;
    for (span, is_measured) in [(task.warm_up, false), (task.measured, true)] {
        let counting = Counting::begin();
        let (began, first) = (Instant::now(), number);
        while number == first || began.elapsed() < span {
            for _ in 0..BURST {
                number += 1;
                bell.rung.0.store(number, Ordering::Release);
                wake();
            }
        }
        wait_until_heard(task, bell, number)?;
        if is_measured {
            let elapsed = began.elapsed();
            return print(number - first, elapsed, None, counting.end(), &histogram());
        }
    }
    unreachable!("the second span is measured")
}

fn wait_until_heard(task: &Task, bell: &Bell, number: u64) -> io::Result<()> {
    let mut looks = 0_u32;
    let began = Instant::now();
    while bell.heard.0.load(Ordering::Acquire) < number {
        looks += 1;
        // The clock costs more than a look.
        if looks.is_multiple_of(1024) && began.elapsed() > PATIENCE {
            return Err(io::Error::other("a wake was lost"));
        }
        idle(task);
    }
    Ok(())
}

fn idle(task: &Task) {
    if task.beside.is_some() {
        std::hint::spin_loop();
    } else {
        // The loop may be on this core.
        thread::yield_now();
    }
}

/// Timers of a loop.
pub(crate) trait Clockwork {
    /// By which one is stopped.
    type Timer;

    /// Starts one.
    fn start(&mut self, after: Duration) -> Self::Timer;

    /// Stops one that runs.
    fn stop(&mut self, timer: Self::Timer);

    /// Runs the loop until so many have expired, and returns how many did before it went to sleep or came to its end.
    ///
    /// # Errors
    ///
    /// The loop failed.
    fn expire(&mut self, count: usize) -> io::Result<usize>;
}

/// Measures the timers of a loop and says what it found.
///
/// # Errors
///
/// The loop failed, or not as many timers expired as there were.
pub(crate) fn timers(task: &Task, clockwork: &mut impl Clockwork) -> io::Result<()> {
    run_timers(task, clockwork).map_err(|error| fail(&error))
}

fn run_timers(task: &Task, clockwork: &mut impl Clockwork) -> io::Result<()> {
    let cpu = || clock::cpu_time(std::process::id());
    let mut turn: Box<dyn FnMut() -> io::Result<usize>> = match task.job {
        Job::Churn => {
            let mut running: Vec<_> = (0..RUNNING).map(|at| clockwork.start(far(at))).collect();
            let mut at = 0;
            Box::new(move || {
                // One after the other: each timer has lived as long as all others, as a request's time-out has.
                for _ in 0..BURST {
                    let timer = clockwork.start(far(at));
                    let place = at % running.len();
                    clockwork.stop(std::mem::replace(&mut running[place], timer));
                    at += 1;
                }
                Ok(BURST as usize)
            })
        }
        _ => Box::new(move || expire_half(clockwork)),
    };
    let warm = Instant::now();
    while warm.elapsed() < task.warm_up {
        turn()?;
    }
    let before = allocations::count();
    let (began, cpu_began, mut count) = (Instant::now(), cpu(), 0);
    while count == 0 || began.elapsed() < task.measured {
        count += turn()?;
    }
    let (elapsed, cpu_end) = (began.elapsed(), cpu());
    let used = cpu_began.zip(cpu_end).map(|(from, to)| to.saturating_sub(from));
    tell(count as u64, elapsed, used, allocated(before))
}

/// Within the hour behind the next one, in no order.
fn far(at: usize) -> Duration {
    const HOUR_MS: usize = 3_600_000;
    // A prime: deadlines neither grow nor repeat soon.
    Duration::from_millis((HOUR_MS + at.wrapping_mul(1_299_709) % HOUR_MS) as u64)
}

fn expire_half(clockwork: &mut impl Clockwork) -> io::Result<usize> {
    let mut stopped = Vec::with_capacity(MILLION / 2);
    let began = Instant::now();
    for at in 0..MILLION {
        let timer = clockwork.start(Duration::from_millis(1 + at as u64 % DUE_WITHIN_MS));
        if at.is_multiple_of(2) {
            stopped.push(timer);
        }
    }
    stopped.into_iter().for_each(|timer| clockwork.stop(timer));
    // On a machine that starts them faster than this they would be waited for, which is no work.
    while began.elapsed() < Duration::from_millis(DUE_WITHIN_MS) {
        std::hint::spin_loop();
    }
    let expired = clockwork.expire(MILLION / 2)?;
    if expired == MILLION / 2 {
        Ok(MILLION)
    } else {
        Err(io::Error::other(format!("{expired} of {} timers expired", MILLION / 2)))
    }
}

/// Says what a loop without waiting did: without times, which are but the inverse of its rate.
pub(crate) fn tell(count: u64, elapsed: Duration, cpu: Option<Duration>, allocated: Option<u64>) -> io::Result<()> {
    let counts = Counts {
        syscalls: None,
        allocations: allocated,
    };
    print(count, elapsed, cpu, counts, &histogram())
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are in order")
}

/// How often memory was allocated since, if that is counted.
fn allocated(before: Option<u64>) -> Option<u64> {
    Some(allocations::count()? - before?)
}

/// What wakes cost a process, if that is counted.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    syscalls: Option<u64>,
    allocations: Option<u64>,
}

/// Counters that run.
struct Counting {
    // perf_event_open(2) is Linux's own.
    #[cfg(target_os = "linux")]
    syscalls: Option<Events>,
    allocations: Option<u64>,
}

impl Counting {
    /// System calls are those of all threads but this one, which wakes the others, and gives up its core again and again
    /// where there is but one.
    fn begin() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            syscalls: allocations::count().and_then(|_| Events::of(&server::other_threads()?, Tracepoint::Syscall)),
            allocations: allocations::count(),
        }
    }

    fn end(self) -> Counts {
        Counts {
            #[cfg(target_os = "linux")]
            syscalls: self.syscalls.and_then(|syscalls| syscalls.read()),
            #[cfg(not(target_os = "linux"))]
            syscalls: None,
            allocations: allocated(self.allocations),
        }
    }
}

fn print(
    count: u64,
    elapsed: Duration,
    cpu: Option<Duration>,
    counts: Counts,
    latency: &Histogram<u64>,
) -> io::Result<()> {
    let known = |number: Option<u128>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let cpu = known(cpu.map(|cpu| cpu.as_nanos()));
    let [syscalls, allocated] = [counts.syscalls, counts.allocations].map(|count| known(count.map(u128::from)));
    let mut text = format!("{FOUND}{count} {} {cpu} {syscalls} {allocated}", elapsed.as_nanos());
    for step in latency.iter_recorded() {
        let (value, count) = (step.value_iterated_to(), step.count_since_last_iteration());
        // Memory takes it.
        let _ = write!(text, " {value}:{count}");
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// What a process said that it found; `None` if it is not that.
pub(crate) fn parse(line: &str) -> Option<Figures> {
    let mut words = line.strip_prefix(FOUND)?.split_whitespace();
    let messages = words.next()?.parse().ok()?;
    let elapsed = Duration::from_nanos(words.next()?.parse().ok()?);
    let mut known = || match words.next()? {
        "-" => Some(None),
        number => Some(Some(number.parse().ok()?)),
    };
    let (server, syscalls, allocations) = (known()?.map(Duration::from_nanos), known()?, known()?);
    let mut latency = histogram();
    for word in words {
        let (value, count) = word.split_once(':')?;
        latency.saturating_record_n(value.parse().ok()?, count.parse().ok()?);
    }
    Some(Figures {
        messages,
        elapsed,
        latency,
        service: None,
        since: SystemTime::now(),
        used: Clocks {
            server,
            syscalls,
            allocations,
            ..Clocks::default()
        },
        busy: 0.0,
        growth: None,
        trials: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list, from which nothing is ever lost but what a test takes out.
    #[derive(Default)]
    struct Timers {
        running: usize,
        lost: usize,
    }

    impl Clockwork for Timers {
        type Timer = ();

        fn start(&mut self, _: Duration) {
            self.running += 1;
        }

        fn stop(&mut self, (): ()) {
            self.running -= 1;
        }

        fn expire(&mut self, _: usize) -> io::Result<usize> {
            Ok(std::mem::take(&mut self.running) - self.lost)
        }
    }

    #[test]
    fn timers_that_do_not_expire_are_missed() {
        let mut timers = Timers::default();
        assert_eq!(expire_half(&mut timers).ok(), Some(MILLION));
        timers.lost = 1;
        let error = expire_half(&mut timers).expect_err("one is missing");
        let half = MILLION / 2;
        assert_eq!(error.to_string(), format!("{} of {half} timers expired", half - 1));
    }

    #[test]
    fn lone_wakes_find_a_loop_asleep_unless_it_spins() {
        for engine in crate::engines::all() {
            let finds_it_awake = pause(engine.spin) < engine.spin;
            assert_eq!(finds_it_awake, engine.is_spinning(), "{}", engine.name);
        }
    }

    #[test]
    fn what_is_said_is_understood() {
        let figures = parse("found 12 3000 - - - 5:2 900:10\n").expect("it is well-formed");
        assert_eq!((figures.messages, figures.elapsed), (12, Duration::from_nanos(3000)));
        let used = figures.used;
        assert_eq!((used.server, used.syscalls, used.allocations), (None, None, None));
        assert_eq!(figures.latency.len(), 12);
        assert_eq!(figures.latency.value_at_quantile(0.5), 900);
        let figures = parse("found 1 2 3 4 5").expect("no histogram is one");
        let used = figures.used;
        assert_eq!(
            (used.server, used.syscalls, used.allocations),
            (Some(Duration::from_nanos(3)), Some(4), Some(5))
        );
        for bad in [
            "",
            "listening 127.0.0.1:1",
            "found 1",
            "found 1 2",
            "found 1 2 3",
            "found 1 2 3 4",
            "found 1 2 3 4 5 6",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
