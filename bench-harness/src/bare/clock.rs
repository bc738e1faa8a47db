//! CPU time of a process, to the nanosecond.

use std::time::Duration;

/// User and system time of a process and all its threads, ended ones too. `None` if it is gone, or where no process
/// can read another's clock.
///
/// The clock and not `/proc/PID/stat`, which counts in ticks of 10 ms: two per cent of a round in which a server is
/// busy for half a second. The kernel adds what a thread on another core is running at its next tick, so a figure can
/// be a tick short at both ends of a round, and the difference a tick off.
#[cfg(any(target_os = "android", target_os = "freebsd", target_os = "linux"))]
pub(crate) fn cpu_time(pid: u32) -> Option<Duration> {
    let mut clock = 0;
    // SAFETY: `clock` lives and is written by the call alone.
    let outcome = unsafe { libc::clock_getcpuclockid(libc::pid_t::try_from(pid).ok()?, &raw mut clock) };
    if outcome != 0 {
        return None;
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives and is written by the call alone; a clock that has gone away is an error.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return None;
    }
    let nanos = u32::try_from(time.tv_nsec).ok()?;
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, nanos))
}

/// `clock_getcpuclockid` is not everywhere.
#[cfg(not(any(target_os = "android", target_os = "freebsd", target_os = "linux")))]
pub(crate) fn cpu_time(_: u32) -> Option<Duration> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn time_passes_for_a_busy_process() {
        let own = std::process::id();
        let before = cpu_time(own).expect("it runs");
        let guard = Instant::now();
        while cpu_time(own).expect("it runs") < before + Duration::from_millis(1) {
            assert!(guard.elapsed() < Duration::from_secs(10), "the clock stands");
        }
    }

    #[test]
    fn nobody_s_time_is_none() {
        // Above `pid_max`, whose own upper limit is 2^22.
        assert_eq!(cpu_time(1 << 23), None);
        assert_eq!(cpu_time(u32::MAX), None);
    }
}
