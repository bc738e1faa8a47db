//! How a ring is set up: the best way that the kernel takes, or why it takes none.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

use io_uring::types::Fd;
use io_uring::{IoUring, Probe, opcode};

use super::ops::BUFFERS;
use super::wake::EventFd;

/// How the kernel runs what is to be done when an operation completes, best first.
///
/// Measured on Linux 6.18, 64 connections over loopback with 64-byte messages, against a loop over epoll: deferred 1.10
/// of its throughput, cooperative 0.80 at 1,000 connections, plain 0.84, and 0.75 at 1,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setup {
    /// In the system call that waits (`DEFER_TASKRUN`, `SINGLE_ISSUER`; Linux 6.1). The ring begins disabled, so that
    /// its thread is the one of the first turn.
    Deferred,
    /// At any system call of the thread (`COOP_TASKRUN`; Linux 5.19).
    Cooperative,
    /// At once, which interrupts the thread wherever it is.
    Plain,
}

impl Setup {
    /// All, best first.
    pub const LADDER: [Self; 3] = [Self::Deferred, Self::Cooperative, Self::Plain];
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deferred => "deferred task-run",
            Self::Cooperative => "cooperative task-run",
            Self::Plain => "plain",
        })
    }
}

/// Entries of a ring of its smallest size, which is for looking only.
const LOOKING: u32 = 8;

/// The best set-up that the kernel takes, with all operations that the backend needs.
pub(super) fn detect() -> io::Result<Setup> {
    let (_, setup) = climb(LOOKING)?;
    check_operations()?;
    Ok(setup)
}

/// A ring of `completions`, by the best set-up that the kernel takes.
pub(super) fn open(completions: u32) -> io::Result<(IoUring, Setup)> {
    let opened = climb(completions)?;
    check_operations()?;
    Ok(opened)
}

/// Whether the kernel of this ring sends without a copy: Linux 6.1. One that does not is asked to copy.
pub(super) fn knows_zero_copy(ring: &IoUring) -> io::Result<bool> {
    let mut probe = Probe::new();
    let registered = ring.submitter().register_probe(&mut probe);
    registered.map_err(|error| explain("io_uring_register", &error))?;
    Ok(probe.is_supported(opcode::SendMsgZc::CODE))
}

/// A ring of `completions` by one set-up alone.
pub(super) fn open_by(setup: Setup, completions: u32) -> io::Result<IoUring> {
    let ring = build(setup, completions).map_err(|error| explain("io_uring_setup", &error))?;
    check_operations()?;
    Ok(ring)
}

fn climb(completions: u32) -> io::Result<(IoUring, Setup)> {
    let mut refusal = None;
    for setup in Setup::LADDER {
        match build(setup, completions) {
            Ok(ring) => return Ok((ring, setup)),
            // An older kernel does not know the flags; the next set-up has fewer.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refusal = Some(error),
            Err(error) => return Err(explain("io_uring_setup", &error)),
        }
    }
    let refusal = refusal.unwrap_or_else(|| ErrorKind::Unsupported.into());
    Err(explain("io_uring_setup", &refusal))
}

fn build(setup: Setup, completions: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    // A child has no use for the queues, and must not share them.
    builder.dontfork().setup_cqsize(completions).setup_clamp();
    match setup {
        // `SUBMIT_ALL`: one entry that fails does not keep back those behind it. The task-run flag says in memory that
        // there is something to run, so that looking for work costs no system call.
        Setup::Deferred => builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_r_disabled()
            .setup_taskrun_flag()
            .setup_submit_all(),
        Setup::Cooperative => builder.setup_coop_taskrun().setup_taskrun_flag().setup_submit_all(),
        Setup::Plain => &mut builder,
    };
    // Eight completions an entry: most operations complete again and again.
    builder.build((completions / 8).max(2))
}

/// Whether the kernel knows every operation that the backend uses: asked of the operations, since distributions port
/// them back, and once, since a kernel does not unlearn.
fn check_operations() -> io::Result<()> {
    static KNOWN: OnceLock<()> = OnceLock::new();
    if KNOWN.get().is_some() {
        return Ok(());
    }
    let mut ring = build(Setup::Plain, LOOKING).map_err(|error| explain("io_uring_setup", &error))?;
    let features = ring.params();
    let (never_drops, waits) = (features.is_feature_nodrop(), features.is_feature_ext_arg());
    let (stable, skips) = (
        features.is_feature_submit_stable(),
        features.is_feature_skip_cqe_on_success(),
    );
    let mut probe = Probe::new();
    let registered = ring.submitter().register_probe(&mut probe);
    registered.map_err(|error| explain("io_uring_register", &error))?;
    let multishot = answers_multishot(&mut ring)?;
    let needed = [
        (never_drops, "completions that are never dropped (Linux 5.5)"),
        (stable, "stable submissions (Linux 5.5)"),
        (waits, "waits with a time-out (Linux 5.11)"),
        (skips, "completions that are skipped (Linux 5.17)"),
        (probe.is_supported(opcode::PollAdd::CODE), "IORING_OP_POLL_ADD"),
        (probe.is_supported(opcode::Send::CODE), "IORING_OP_SEND"),
        (probe.is_supported(opcode::SendMsg::CODE), "IORING_OP_SENDMSG"),
        (probe.is_supported(opcode::AsyncCancel::CODE), "IORING_OP_ASYNC_CANCEL"),
        (multishot, "multishot accept and receive (Linux 6.0)"),
    ];
    if let Some((_, missing)) = needed.iter().find(|(is_there, _)| !is_there) {
        let text = format!("io_uring: this kernel has no {missing}: use a newer kernel, or another backend");
        return Err(io::Error::new(ErrorKind::Unsupported, text));
    }
    // Another thread may have been first.
    let _ = KNOWN.set(());
    Ok(())
}

/// Whether multishot accept and receive are known. No probe tells; but of something that is no socket they answer that,
/// where an older kernel finds their flags invalid before it looks.
fn answers_multishot(ring: &mut IoUring) -> io::Result<bool> {
    let eventfd = EventFd::new()?;
    let fd = Fd(eventfd.as_raw_fd());
    for entry in [
        opcode::AcceptMulti::new(fd).build(),
        opcode::RecvMulti::new(fd, BUFFERS).build(),
    ] {
        // SAFETY: neither points to memory.
        unsafe { ring.submission().push(&entry) }.expect("the ring is empty");
        // One by one: a plain ring stops submitting at one that fails.
        ring.submit_and_wait(1)
            .map_err(|error| explain("io_uring_enter", &error))?;
        let answer = ring.completion().next().map(|answer| answer.result());
        match answer.map(|answer| -answer) {
            Some(libc::ENOTSOCK) => {}
            // It takes a descriptor before it looks, and there may be none.
            Some(error @ (libc::EMFILE | libc::ENFILE | libc::ENOMEM)) => {
                return Err(explain("accept", &io::Error::from_raw_os_error(error)));
            }
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// An error of io_uring with its cause and what to do about it. `Unsupported` if it is not to be had here, so that
/// another backend may be tried; a lack of resources is itself.
pub(super) fn explain(call: &str, error: &io::Error) -> io::Error {
    let cure = match error.raw_os_error() {
        Some(libc::ENOSYS) => {
            "the kernel has no io_uring, or a seccomp filter (of a container, say) hides it: allow the system calls \
             io_uring_setup, io_uring_enter and io_uring_register, or use another backend"
                .to_owned()
        }
        Some(libc::EPERM | libc::EACCES) => not_permitted(),
        Some(libc::EINVAL) => "the kernel is too old (Linux 6.0 is needed): use another backend".to_owned(),
        Some(libc::ENOMEM) => {
            return io::Error::new(
                error.kind(),
                format!("{call}: {error}; free memory, or raise the limit of locked memory (ulimit -l)"),
            );
        }
        _ => return io::Error::new(error.kind(), format!("{call}: {error}")),
    };
    io::Error::new(ErrorKind::Unsupported, format!("{call}: {error}; {cure}"))
}

fn not_permitted() -> String {
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    match disabled.trim() {
        "2" => "kernel.io_uring_disabled is 2: set it to 0, or use another backend".to_owned(),
        "1" => "kernel.io_uring_disabled is 1: set it to 0, or add the process to the group kernel.io_uring_group, or \
                use another backend"
            .to_owned(),
        _ => "a seccomp filter or a security module forbids it: allow the system calls io_uring_setup, io_uring_enter \
              and io_uring_register, or use another backend"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: i32, kind: ErrorKind, says: &str) {
        let error = explain("io_uring_setup", &io::Error::from_raw_os_error(code));
        assert_eq!(error.kind(), kind);
        let text = error.to_string();
        assert!(text.starts_with("io_uring_setup: ") && text.contains(says), "{text}");
    }

    #[test]
    fn what_is_not_available_is_told_from_what_is_used_up() {
        check(libc::ENOSYS, ErrorKind::Unsupported, "seccomp");
        check(libc::EPERM, ErrorKind::Unsupported, "seccomp");
        check(libc::EINVAL, ErrorKind::Unsupported, "too old");
        check(libc::ENOMEM, ErrorKind::OutOfMemory, "ulimit -l");
        let files = io::Error::from_raw_os_error(libc::EMFILE);
        check(libc::EMFILE, files.kind(), "Too many open files");
    }
}
