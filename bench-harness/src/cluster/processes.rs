//! Processes of a cluster, and where they are.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::Ground;
use crate::fault::Fault;
use crate::pin;
use crate::server::{LAST_MOMENT, last_lines};

/// Nodes of a cluster.
pub(super) const COUNT: usize = 3;

/// How long a cluster may take until it has a leader that all follow.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A variable that says that this process is a node, and its core if that is chosen.
const ROLE: &str = "BENCH_NODE";

/// A variable that says that this node ends with its standard input.
pub(super) const LEASH: &str = "BENCH_NODE_LEASH";

/// A variable that names the program that this node becomes, if it is not `kraftd`.
pub(super) const PROGRAM: &str = "BENCH_NODE_PROGRAM";

/// Whether this process was started as a node.
pub(crate) fn is_node() -> bool {
    std::env::var_os(ROLE).is_some()
}

/// Runs this process as `kraftd`, or as another program, with its command line.
pub(crate) fn run_node() -> ExitCode {
    // Core and parent are what they are for the program that this process becomes, too.
    pin::die_with_parent();
    let core = std::env::var(ROLE).ok().and_then(|core| core.parse().ok());
    if let Some(Err(error)) = core.map(pin::to_core) {
        eprintln!("kraft-bench: {error}");
        return ExitCode::FAILURE;
    }
    if let Some(program) = std::env::var_os(PROGRAM) {
        let error = Command::new(&program).args(std::env::args_os().skip(1)).exec();
        eprintln!("kraft-bench: {}: {error}", program.display());
        return ExitCode::FAILURE;
    }
    if std::env::var_os(LEASH).is_some() {
        pin::end_with_input();
    }
    kraft::daemon::main()
}

pub(super) fn own(what: &str) -> impl Fn(io::Error) -> Fault + '_ {
    move |error| Fault::own(what, &error)
}

/// A process for each node, and a folder. Dropped, it kills them and removes their data.
#[derive(Debug)]
pub(super) struct Processes {
    core: Option<usize>,
    folder: tempfile::TempDir,
    /// The ports of all nodes.
    _held: Vec<Socket>,
    running: Vec<Option<Child>>,
}

impl Processes {
    /// A folder and ports, first those for peers, then those for clients; no process.
    pub(super) fn new(ground: &Ground) -> Result<(Self, Vec<SocketAddr>, Vec<SocketAddr>), Fault> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("kraft-bench-");
        let folder = match &ground.data {
            Some(data) => builder.tempdir_in(data),
            None => builder.tempdir(),
        };
        let (mut peers, held): (Vec<_>, Vec<_>) = reserve(2 * COUNT).map_err(own("free ports"))?.into_iter().unzip();
        // Elsewhere a held port is nobody's: there they are let go, and may be gone.
        let held = if cfg!(target_os = "linux") { held } else { Vec::new() };
        let clients = peers.split_off(COUNT);
        let processes = Self {
            core: ground.core,
            folder: folder.map_err(own("a folder for the nodes' data"))?,
            _held: held,
            running: (0..COUNT).map(|_| None).collect(),
        };
        Ok((processes, peers, clients))
    }

    /// This program, as a node on its core.
    pub(super) fn command(&self) -> Result<Command, Fault> {
        let own = std::env::current_exe().map_err(own("this program's path"))?;
        let mut command = Command::new(own);
        let core = self.core.map(|core| core.to_string());
        // A group of its own, as servers have: ^C is for us.
        command
            .env(ROLE, core.unwrap_or_default())
            .process_group(0)
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Starts a node. What it logs goes to a file beside its data.
    pub(super) fn start(&mut self, at: usize, mut command: Command) -> Result<(), Fault> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log(at))
            .map_err(own("a file for a node's log"))?;
        let child = command
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(own("start a node"))?;
        self.running[at] = Some(child);
        Ok(())
    }

    /// Ends a node by SIGKILL.
    pub(super) fn kill(&mut self, at: usize) -> Result<(), Fault> {
        if let Some(mut child) = self.running[at].take() {
            child.kill().and_then(|()| child.wait()).map_err(own("kill a node"))?;
        }
        Ok(())
    }

    pub(super) fn data(&self, at: usize) -> PathBuf {
        self.folder.path().join(format!("node{at}"))
    }

    fn log(&self, at: usize) -> PathBuf {
        self.folder.path().join(format!("log{at}"))
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.running.iter().flatten().map(Child::id).collect()
    }

    /// What a node said before it ended by itself; `None` if none did.
    pub(super) fn last_words(&mut self) -> Option<String> {
        let ended = |child: &mut Option<Child>| child.as_mut()?.try_wait().ok()?;
        let all: Vec<Option<ExitStatus>> = self.running.iter_mut().map(ended).collect();
        let (at, status) = all.iter().enumerate().find_map(|(at, status)| Some((at, (*status)?)))?;
        let log = fs::read_to_string(self.log(at)).unwrap_or_default();
        Some(format!("node {} ended: {}", at + 1, last_lines(&log, status)))
    }

    /// Whose fault it was: what a node that ended by itself leaves undone is no news.
    pub(super) fn blame(&mut self, fault: Fault) -> Fault {
        if let Fault::Interrupted | Fault::Corrupt(_) = fault {
            return fault;
        }
        // Its connections break a moment before it can be waited for.
        let began = Instant::now();
        loop {
            if let Some(words) = self.last_words() {
                return Fault::Closed(words);
            }
            if began.elapsed() > LAST_MOMENT {
                return fault;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for at in 0..self.running.len() {
            // What is left ends with this process.
            let _ = self.kill(at);
        }
    }
}

/// Addresses of loopback that are ours as long as they are held.
///
/// A port that is drawn, let go and handed to a node may be gone by then: who dials has a port of the same range, and
/// a node that dials another one that does not listen yet, or was killed, even gets that one's own now and then and is
/// connected with itself. On Linux a socket that is bound, does not listen and has SO_REUSEADDR keeps the port from all
/// who ask for any, and lets those listen there that ask for it by its number with SO_REUSEADDR, as Kraft does.
fn reserve(count: usize) -> io::Result<Vec<(SocketAddr, Socket)>> {
    let held = (0..count).map(|_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let address = socket.local_addr()?.as_socket();
        Ok((address.ok_or_else(|| io::Error::other("no address of IPv4"))?, socket))
    });
    held.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // What a bound socket keeps from others is a matter of the system; elsewhere ports are let go.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_port_that_is_held_is_for_who_listens_there_alone() {
        let held = reserve(6).expect("loopback has ports");
        let bind = |at: SocketAddr| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            socket.bind(&at.into())?;
            socket.listen(1)?;
            Ok::<_, io::Error>(socket)
        };
        for (at, _) in &held {
            // Whoever dials it before somebody listens is turned away, and not connected with himself.
            assert!(std::net::TcpStream::connect(at).is_err(), "{at}");
            // One after the other, as a node that is started again.
            for _ in 0..2 {
                let listens = bind(*at).unwrap_or_else(|error| panic!("{at}: {error}"));
                let dials = std::net::TcpStream::connect(at).unwrap_or_else(|error| panic!("{at}: {error}"));
                let port = dials.local_addr().expect("it is connected").port();
                assert!(held.iter().all(|(other, _)| other.port() != port), "{port}");
                drop(listens);
            }
        }
        let mut ports: Vec<u16> = held.iter().map(|(at, _)| at.port()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 6);
    }
}
