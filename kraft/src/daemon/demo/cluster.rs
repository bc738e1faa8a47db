//! Three `serve` processes on loopback ports, with data in a temporary folder.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kraft_adapters::Choice;
use kraft_protocols::Format;
use tempfile::TempDir;

use crate::client::Security;
use crate::daemon::config::{Layers, load};
use crate::daemon::{Exit, Failure, certs, init};
#[cfg(feature = "tls")]
use crate::tls;

/// The nodes of the demonstration.
pub(super) const NODES: usize = 3;

/// How long a node has to stop in order before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Bytes of a node's log that are shown when it does not start.
const LOG_TAIL_BYTES: u64 = 600;

/// Three nodes. Dropped, it kills them and removes their data.
#[derive(Debug)]
pub(super) struct Cluster {
    folder: TempDir,
    clients: Vec<String>,
    peers: Vec<String>,
    /// Who belongs to the cluster, counted from 0.
    members: Vec<usize>,
    backend: Choice,
    manner: Manner,
    /// Where certificates are, if connections are encrypted.
    certificates: Option<PathBuf>,
    nodes: Vec<Option<Running>>,
}

/// How clients, those of the demonstration among them, talk to the nodes.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    pub(super) security: Security,
    /// The nodes speak it among themselves, too.
    pub(super) protocol: Format,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// The child reads it, and stops when this end goes away with the process, whatever ends that.
    stdin: Option<ChildStdin>,
}

/// Why the nodes do not run.
#[derive(Debug)]
pub(super) enum StartError {
    /// Another program took a port between its choice and its use: try again with others.
    PortTaken,
    /// Anything else.
    Failed(Failure),
}

impl StartError {
    /// The same, of nodes that ran before: their ports are theirs, and cannot be others.
    pub(super) fn later(self) -> Failure {
        match self {
            Self::Failed(failure) => failure,
            Self::PortTaken => Failure::new("another program took the port of a node that was down; try again"),
        }
    }
}

impl From<Failure> for StartError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Cluster {
    /// Writes three data folders and starts their nodes. There is room for `sites` in all.
    ///
    /// # Errors
    ///
    /// What the system refused.
    pub(super) fn start(backend: &Choice, protocol: Format, tls: bool, sites: usize) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new()
            .prefix("kraftd-demo-")
            .tempdir()
            .map_err(|error| {
                Failure::new(format!(
                    "{}: {error}; set TMPDIR to a folder with room",
                    env::temp_dir().display()
                ))
            })?;
        let certificates = tls.then(|| folder.path().join("certs"));
        let security = certificates
            .as_deref()
            .map(|at| protect(at, sites))
            .transpose()?
            .unwrap_or_default();
        let ports = free_ports(2 * sites)?;
        let (peers, clients) = ports.split_at(sites);
        let peers: Vec<_> = peers.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let mut cluster = Self {
            folder,
            clients: clients.iter().map(|port| format!("127.0.0.1:{port}")).collect(),
            peers,
            members: (0..NODES).collect(),
            backend: backend.clone(),
            manner: Manner { security, protocol },
            certificates,
            nodes: (0..sites).map(|_| None).collect(),
        };
        let members: Vec<_> = cluster.peers[..NODES]
            .iter()
            .zip(1..)
            .map(|(at, id)| format!("{id}={at}"))
            .collect();
        for node in 0..NODES {
            cluster.init(node, &members.join(","))?;
            cluster.spawn(node)?;
        }
        Ok(cluster)
    }

    fn init(&self, node: usize, members: &str) -> Result<(), Failure> {
        let loaded = load(&Layers {
            flags: vec![
                ("cluster", "demo".to_owned()),
                ("id", (node + 1).to_string()),
                ("peers", members.to_owned()),
                ("listen", self.peers[node].clone()),
                ("client", self.clients[node].clone()),
            ],
            ..Layers::default()
        })?;
        init::write(&self.data(node), &loaded)
    }

    /// Starts a node with an empty data folder, which waits to be added.
    ///
    /// # Errors
    ///
    /// What the system refused.
    pub(super) fn join(&mut self, node: usize) -> Result<(), Failure> {
        self.init(node, "join")?;
        self.spawn(node)?;
        self.members.push(node);
        Ok(())
    }

    /// Kills a node and removes its data.
    ///
    /// # Errors
    ///
    /// It was gone already, or what the system refused.
    pub(super) fn lose(&mut self, node: usize) -> Result<(), Failure> {
        self.kill(node)?;
        let data = self.data(node);
        fs::remove_dir_all(&data).map_err(|error| Failure::new(format!("{}: {error}", data.display())))
    }

    /// A node belongs to the cluster no more.
    pub(super) fn left(&mut self, node: usize) {
        self.members.retain(|member| *member != node);
    }

    /// Waits for the end of a node that was removed.
    ///
    /// # Errors
    ///
    /// It does not end, or not because of that.
    pub(super) fn end_removed(&mut self, node: usize) -> Result<(), Failure> {
        self.left(node);
        self.wait_for_end(node, Exit::Removed as i32)
    }

    /// Who belongs to the cluster, counted from 0.
    pub(super) fn members(&self) -> &[usize] {
        &self.members
    }

    /// Where peers reach a node.
    pub(super) fn peers(&self, node: usize) -> &str {
        &self.peers[node]
    }

    /// Where the data is.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Where clients reach a node, counted from 0.
    pub(super) fn client(&self, node: usize) -> &str {
        &self.clients[node]
    }

    /// Where clients reach the nodes.
    pub(super) fn clients(&self) -> String {
        self.clients.join(",")
    }

    /// How clients talk to the nodes.
    pub(super) fn manner(&self) -> &Manner {
        &self.manner
    }

    fn data(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("node-{}", node + 1))
    }

    fn log(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("node-{}.log", node + 1))
    }

    /// Starts a node that does not run.
    ///
    /// # Errors
    ///
    /// What the system refused.
    pub(super) fn spawn(&mut self, node: usize) -> Result<(), Failure> {
        assert!(self.nodes[node].is_none(), "node {} runs already", node + 1);
        let cannot = |error: io::Error| Failure::new(format!("node {} cannot be started: {error}", node + 1));
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log(node))
            .map_err(cannot)?;
        let mut command = Command::new(env::current_exe().map_err(cannot)?);
        command
            .arg("serve")
            .arg("--exit-with-parent")
            .arg("--data")
            .arg(self.data(node))
            .arg("--backend")
            .arg(self.backend.to_string())
            .arg("--protocol")
            .arg(self.manner.protocol.name());
        if let Some(certificates) = &self.certificates {
            let file = |name: &str| certificates.join(name);
            let own = format!("node-{}", node + 1);
            command.arg("--tls-ca").arg(file("ca.pem"));
            command.arg("--tls-cert").arg(file(&format!("{own}.pem")));
            command.arg("--tls-key").arg(file(&format!("{own}.key")));
        }
        // The demonstration shows the defaults but for the event loop and the wire format, whatever the environment is set up for.
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("KRAFT_") {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        // A terminal's ^C is for this process alone: it stops the nodes in its own order.
        command.process_group(0);
        let mut child = command.spawn().map_err(cannot)?;
        let stdin = child.stdin.take();
        self.nodes[node] = Some(Running { child, stdin });
        Ok(())
    }

    /// Whether all nodes that were started run still.
    ///
    /// # Errors
    ///
    /// One does not.
    pub(super) fn check(&mut self) -> Result<(), StartError> {
        for node in 0..self.nodes.len() {
            let Some(running) = &mut self.nodes[node] else { continue };
            let ended = running.child.try_wait();
            if let Ok(Some(status)) = ended {
                let tail = self.log_tail(node);
                if tail.contains("the port is in use") {
                    return Err(StartError::PortTaken);
                }
                let message = format!("node {} ended with {status}; the end of its log:\n{tail}", node + 1);
                return Err(Failure::new(message).into());
            }
        }
        Ok(())
    }

    fn log_tail(&self, node: usize) -> String {
        let mut tail = Vec::new();
        if let Ok(mut log) = File::open(self.log(node)) {
            let length = log.metadata().map_or(0, |metadata| metadata.len());
            let _ = log.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)));
            let _ = log.take(LOG_TAIL_BYTES).read_to_end(&mut tail);
        }
        String::from_utf8_lossy(&tail).into_owned()
    }

    /// Kills a node with SIGKILL, as a crash would.
    ///
    /// # Errors
    ///
    /// It was gone already.
    pub(super) fn kill(&mut self, node: usize) -> Result<(), Failure> {
        let mut running = self.nodes[node].take().expect("a node that runs is killed");
        let killed = running.child.kill().and_then(|()| running.child.wait());
        killed
            .map(drop)
            .map_err(|error| Failure::new(format!("node {} cannot be killed: {error}", node + 1)))
    }

    /// Stops a node in order and waits for its end.
    ///
    /// # Errors
    ///
    /// It does not end, or not well.
    pub(super) fn stop_one(&mut self, node: usize) -> Result<(), Failure> {
        let running = self.nodes[node].as_mut().expect("a node that runs is stopped");
        drop(running.stdin.take());
        self.wait_for_end(node, 0)
    }

    fn wait_for_end(&mut self, node: usize, code: i32) -> Result<(), Failure> {
        let Running { mut child, stdin } = self.nodes[node].take().expect("a node that runs is waited for");
        let until = Instant::now() + STOP_TIMEOUT;
        let why = loop {
            match child.try_wait() {
                Ok(Some(status)) if status.code() == Some(code) => return Ok(()),
                Ok(Some(status)) => break format!("it ended with {status}"),
                Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(1)),
                Ok(None) => break format!("it runs still after {} s", STOP_TIMEOUT.as_secs()),
                Err(error) => break error.to_string(),
            }
        };
        let _ = child.kill();
        let _ = child.wait();
        drop(stdin);
        let tail = self.log_tail(node);
        Err(Failure::new(format!(
            "node {} did not stop in order: {why}; the end of its log:\n{tail}",
            node + 1
        )))
    }

    /// Keeps the data, to be looked at; says where.
    pub(super) fn keep(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.path()
    }

    fn stop(&mut self) {
        let mut children: Vec<_> = self.nodes.drain(..).flatten().map(|running| running.child).collect();
        // Their stdin ended above, and with it they stop.
        let until = Instant::now() + STOP_TIMEOUT;
        while !children.is_empty() && Instant::now() < until {
            children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
            thread::sleep(Duration::from_millis(5));
        }
        for mut child in children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Makes certificates for the nodes. Their clients need none.
#[cfg(feature = "tls")]
fn protect(folder: &Path, sites: usize) -> Result<Security, Failure> {
    let ids = (1..).take(sites).collect();
    certs::make(folder, "demo", &ids, 1)?;
    let authorities = tls::read_authorities(&folder.join("ca.pem"));
    let authorities = authorities.map_err(|error| Failure::new(error.to_string()))?;
    Security::tls(&authorities, None).map_err(|error| Failure::new(error.to_string()))
}

#[cfg(not(feature = "tls"))]
fn protect(_: &Path, _: usize) -> Result<Security, Failure> {
    Err(Failure::config(certs::WITHOUT_TLS))
}

/// Ports that were free a moment ago. They are held together, so that they differ.
fn free_ports(count: usize) -> Result<Vec<u16>, Failure> {
    let cannot = |error: io::Error| Failure::new(format!("no free port on 127.0.0.1: {error}"));
    let held: Result<Vec<_>, _> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
    let held = held.map_err(cannot)?;
    held.iter()
        .map(|listener| Ok(listener.local_addr().map_err(cannot)?.port()))
        .collect()
}
