//! The processes of a cluster.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use kraft::client::Client;

use super::Ground;
use crate::fault::Fault;
use crate::pin;

/// Nodes of a cluster.
const COUNT: usize = 3;

/// How long a cluster may take until it has a leader that all follow.
const PATIENCE: Duration = Duration::from_secs(20);

/// A variable that says that this process is a node, and its core if that is chosen.
const ROLE: &str = "BENCH_NODE";

/// A variable that says that this node ends with its standard input.
const LEASH: &str = "BENCH_NODE_LEASH";

/// Whether this process was started as a node.
pub(crate) fn is_node() -> bool {
    std::env::var_os(ROLE).is_some()
}

/// Runs this process as `kraftd`, with its command line.
pub(crate) fn run_node() -> ExitCode {
    pin::die_with_parent();
    if std::env::var_os(LEASH).is_some() {
        pin::end_with_input();
    }
    let core = std::env::var(ROLE).ok().and_then(|core| core.parse().ok());
    if let Some(Err(error)) = core.map(pin::to_core) {
        eprintln!("kraft-bench: {error}");
        return ExitCode::FAILURE;
    }
    kraft::daemon::main()
}

/// Three nodes. Dropped, it kills them and removes their data.
#[derive(Debug)]
pub(super) struct Cluster {
    backend: &'static str,
    format: &'static str,
    core: Option<usize>,
    folder: tempfile::TempDir,
    clients: Vec<SocketAddr>,
    running: Vec<Option<Child>>,
}

fn own(what: &str) -> impl Fn(io::Error) -> Fault + '_ {
    move |error| Fault::own(what, &error)
}

impl Cluster {
    /// Makes the nodes' folders and starts them.
    pub(super) fn start(backend: &'static str, format: &'static str, ground: &Ground) -> Result<Self, Fault> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("kraft-bench-");
        let folder = match &ground.data {
            Some(data) => builder.tempdir_in(data),
            None => builder.tempdir(),
        };
        let addresses = free_addresses(2 * COUNT).map_err(own("free ports"))?;
        let (peers, clients) = addresses.split_at(COUNT);
        let mut cluster = Self {
            backend,
            format,
            core: ground.core,
            folder: folder.map_err(own("a folder for the nodes' data"))?,
            clients: clients.to_vec(),
            running: (0..COUNT).map(|_| None).collect(),
        };
        let list: Vec<String> = peers.iter().zip(1..).map(|(at, id)| format!("{id}={at}")).collect();
        for (at, peer) in peers.iter().enumerate() {
            cluster.init(at, &list.join(","), *peer)?;
        }
        (0..COUNT).try_for_each(|at| cluster.start_node(at))?;
        Ok(cluster)
    }

    fn init(&self, at: usize, list: &str, peer: SocketAddr) -> Result<(), Fault> {
        let status = self
            .command()?
            .args(["init", "--cluster", "bench", "--peers", list])
            .args(["--id", &(at + 1).to_string()])
            .args(["--listen", &peer.to_string()])
            .args(["--client", &self.clients[at].to_string()])
            .arg("--data")
            .arg(self.data(at))
            .stdout(Stdio::null())
            .status()
            .map_err(own("start kraftd init"))?;
        if status.success() {
            Ok(())
        } else {
            Err(Fault::Own(format!("kraftd init: {status}")))
        }
    }

    /// Starts a node. What it logs goes to a file beside its data.
    pub(super) fn start_node(&mut self, at: usize) -> Result<(), Fault> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log(at))
            .map_err(own("a file for a node's log"))?;
        let mut command = self.command()?;
        if pin::IS_LEASHED {
            command.env(LEASH, "").stdin(Stdio::piped());
        }
        let child = command
            .args(["serve", "--backend", self.backend, "--protocol", self.format])
            .arg("--data")
            .arg(self.data(at))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(own("start kraftd serve"))?;
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

    fn command(&self) -> Result<Command, Fault> {
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

    fn data(&self, at: usize) -> PathBuf {
        self.folder.path().join(format!("node{at}"))
    }

    fn log(&self, at: usize) -> PathBuf {
        self.folder.path().join(format!("log{at}"))
    }

    pub(super) fn client_address(&self, at: usize) -> SocketAddr {
        self.clients[at]
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.running.iter().flatten().map(Child::id).collect()
    }

    /// A client of all nodes.
    pub(super) fn client(&self) -> Result<Client, Fault> {
        let all: Vec<String> = self.clients.iter().map(ToString::to_string).collect();
        Client::connect(&all.join(",")).map_err(|error| Fault::Own(format!("a client of the cluster: {error}")))
    }

    /// The place of the leader that all nodes follow, as soon as there is one.
    pub(super) fn leader(&mut self) -> Result<usize, Fault> {
        let failed = |error: kraft::client::Error| Fault::closed(format!("ask the nodes how they are: {error}"));
        let mut client = self.client()?;
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let statuses = client.status().map_err(failed)?;
            let reports = statuses.iter().flat_map(|status| &status.report);
            let leaders: Vec<u64> = reports.map(|report| report.leader.0).collect();
            if let [first, rest @ ..] = &leaders[..]
                && *first != 0
                && leaders.len() == COUNT
                && rest.iter().all(|other| other == first)
            {
                return Ok(*first as usize - 1);
            }
            if let Some(words) = self.last_words() {
                return Err(Fault::Refused(words));
            }
            client.wait(Duration::from_millis(5)).map_err(failed)?;
        }
        Err(Fault::Stalled(format!(
            "three nodes agreed on no leader in {} s",
            PATIENCE.as_secs()
        )))
    }

    /// What a node said before it ended by itself; `None` if none did.
    fn last_words(&mut self) -> Option<String> {
        let ended = |child: &mut Option<Child>| child.as_mut()?.try_wait().ok()?;
        let all: Vec<Option<ExitStatus>> = self.running.iter_mut().map(ended).collect();
        let (at, status) = all.iter().enumerate().find_map(|(at, status)| Some((at, (*status)?)))?;
        let log = fs::read_to_string(self.log(at)).unwrap_or_default();
        let line = log.lines().last().unwrap_or("says nothing");
        Some(format!("node {}: {line} ({status})", at + 1))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for at in 0..self.running.len() {
            // What is left ends with this process.
            let _ = self.kill(at);
        }
    }
}

/// Addresses of loopback that were free a moment ago. All are held until all are drawn, so that none comes twice.
fn free_addresses(count: usize) -> io::Result<Vec<SocketAddr>> {
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<io::Result<_>>()?;
    held.iter().map(TcpListener::local_addr).collect()
}
