//! How many system calls a process makes, and what its rings tell it, counted by the kernel.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};

/// What is counted: a place in the kernel, below the folder of its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tracepoint {
    /// A system call is entered.
    Syscall,
    /// A completion is put into a ring. The kernel does that in the threads whose ring it is, but for what its own
    /// threads did for them.
    Completion,
}

impl Tracepoint {
    fn path(self) -> &'static str {
        match self {
            Self::Syscall => "raw_syscalls/sys_enter",
            Self::Completion => "io_uring/io_uring_complete",
        }
    }
}

/// Counters of some threads and of those that they start.
///
/// While there is one of system calls, every system call of the machine takes some 50 ns more: nothing that is timed may
/// be counted.
#[derive(Debug)]
pub(crate) struct Events {
    counters: Vec<File>,
}

/// `struct perf_event_attr` as far as its first version goes (`PERF_ATTR_SIZE_VER0`); the kernel takes the rest for zero.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    config1: u64,
}

// The kernel refuses less than `PERF_ATTR_SIZE_VER0`, and would read behind us if we promised more than there is.
const _: () = assert!(size_of::<Attributes>() == 64);

/// `PERF_TYPE_TRACEPOINT`.
const TRACEPOINT: u32 = 2;

/// The second bit of the flags: threads that are started later are counted too.
const INHERIT: u64 = 1 << 1;

/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: libc::c_ulong = 1 << 3;

impl Events {
    /// Counts from here on. `None` where the kernel does not count, or not for us: it takes CAP_PERFMON and tracefs.
    pub(crate) fn of(threads: &[u32], what: Tracepoint) -> Option<Self> {
        let number = fs::read_to_string(format!("/sys/kernel/tracing/events/{}/id", what.path())).ok()?;
        let attributes = Attributes {
            kind: TRACEPOINT,
            size: u32::try_from(size_of::<Attributes>()).ok()?,
            config: number.trim().parse().ok()?,
            flags: INHERIT,
            ..Attributes::default()
        };
        let counters: Option<Vec<File>> = threads.iter().map(|thread| open(&attributes, *thread)).collect();
        Some(Self { counters: counters? })
    }

    /// How often it happened so far.
    pub(crate) fn read(&self) -> Option<u64> {
        let each = self.counters.iter().map(|mut counter| {
            let mut count = [0; 8];
            counter.read_exact(&mut count).ok()?;
            Some(u64::from_ne_bytes(count))
        });
        each.sum()
    }
}

fn open(attributes: &Attributes, thread: u32) -> Option<File> {
    let thread = libc::pid_t::try_from(thread).ok()?;
    let mut attributes = *attributes;
    // On every core, in no group.
    let (core, group): (libc::c_int, libc::c_int) = (-1, -1);
    // SAFETY: the call reads `size` bytes of `attributes`, which are all of it (`of` sets it, the assertion above says how
    // many), and where it takes that for a size of no version that it knows it writes its own into that field: we own
    // it, and lend it mutably. It keeps no pointer to it. A thread that is not there, or not ours, is refused.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw mut attributes,
            thread,
            core,
            group,
            CLOSE_ON_EXEC,
        )
    };
    let number = i32::try_from(outcome).ok().filter(|number| *number >= 0)?;
    // SAFETY: the call made this descriptor, and nobody else has it.
    Some(File::from(unsafe { OwnedFd::from_raw_fd(number) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted() {
        // A thread's number is its process's in the first one alone; a test is another one.
        let Ok(own) = fs::read_link("/proc/thread-self") else {
            println!("SKIPPED: no /proc");
            return;
        };
        let own = own.file_name().and_then(|name| name.to_str()?.parse().ok());
        let Some(counter) = own.and_then(|own: u32| Events::of(&[own], Tracepoint::Syscall)) else {
            println!("SKIPPED: this kernel does not count system calls for us");
            return;
        };
        let before = counter.read().expect("it counts");
        for _ in 0..100 {
            let _ = fs::metadata("/");
        }
        let count = counter.read().expect("it counts") - before;
        assert!((100..200).contains(&count), "{count}");
    }
}
