//! A server as a process of its own: `kraft-bench serve`, which `run` starts once a round and engine.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::bare::allocations;
use crate::engines::{Engine, Nature};
use crate::job::Job;
use crate::pin;

/// What an engine does.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// Connections that will come, at most.
    pub(crate) connections: usize,
    /// In how many pieces an answer is put. More than one is a question about outboxes: Kraft's engines alone.
    pub(crate) puts: usize,
    /// How long to look for work before sleeping.
    pub(crate) spin: Duration,
    pub(crate) job: Job,
    /// How long a process that measures itself does so, and how long before that counts.
    pub(crate) measured: Duration,
    pub(crate) warm_up: Duration,
    /// The core of its second thread, which wakes the loop; `None` if there is no other.
    pub(crate) beside: Option<usize>,
}

/// The queue of connections not yet accepted, for every engine alike. The system caps it (`net.core.somaxconn`).
pub(crate) const BACKLOG: i32 = 4096;

/// What every readiness engine reads at a time, ours (`Config::read_buffer`) and the hand-written ones.
pub(crate) const READ_BUFFER: usize = 64 * 1024;

/// Serves until the process is killed.
///
/// # Errors
///
/// The engine is not built, could not start, or its loop failed.
pub(crate) fn serve(engine: &Engine, core: Option<usize>, task: &Task) -> io::Result<()> {
    pin::die_with_parent();
    pin::raise_open_files(task.connections)?;
    if let Some(core) = core {
        pin::to_core(core)?;
    }
    if (engine.nature == Nature::Core) != (task.job == Job::Replicate) {
        let text = format!("{} is not asked for {}", engine.name, task.job.name());
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    match engine.serve {
        Ok(serve) => serve(task),
        Err(why) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("{}: {why}", engine.name),
        )),
    }
}

/// A socket that listens on loopback at a port that the system chose, told to the parent.
pub(crate) fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(OwnedFd::from(socket));
    announce(listener.local_addr()?)?;
    Ok(listener)
}

/// Tells the parent where to connect.
pub(crate) fn announce(address: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{ANNOUNCEMENT}{address}")?;
    out.flush()
}

/// Counts allocations, before anything is set up. A process that the load connects to says how many there were whenever it
/// is asked, and ends when nobody can ask any more; others say it with what they found.
pub(crate) fn count(job: Job) {
    allocations::begin();
    #[cfg(have_libuv)]
    crate::bare::libuv::count_allocations();
    if !job.has_connections() {
        return;
    }
    thread::spawn(|| {
        for _asked in io::stdin().lock().bytes().map_while(Result::ok) {
            let count = allocations::count().unwrap_or_default();
            let mut out = io::stdout().lock();
            if writeln!(out, "{ALLOCATED}{count}").and_then(|()| out.flush()).is_err() {
                break;
            }
        }
        std::process::exit(pin::ORPHANED);
    });
}

/// How an answer to who asks for allocations begins.
pub(crate) const ALLOCATED: &str = "allocated ";

/// How the line on standard output begins.
pub(crate) const ANNOUNCEMENT: &str = "listening ";
