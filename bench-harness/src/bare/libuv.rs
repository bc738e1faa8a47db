//! libuv as C programs use it: `echo_uv.c`.

use std::ffi::c_int;
use std::io;
use std::os::fd::IntoRawFd;

use crate::serve::{self, BACKLOG, Task};

unsafe extern "C" {
    fn kraft_bench_uv_echo(fd: c_int, backlog: c_int) -> c_int;
}

/// Serves on this thread.
pub(crate) fn serve(_: &Task) -> io::Result<()> {
    let listener = serve::listen()?;
    // SAFETY: the descriptor is handed over for good; the C code keeps everything else to itself.
    let outcome = unsafe { kraft_bench_uv_echo(listener.into_raw_fd(), BACKLOG) };
    // On Unix libuv's errors are the system's, negated.
    Err(io::Error::from_raw_os_error(-outcome))
}
