//! Three `kraftd` processes on loopback, with data on the disk that the build is on.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The number of nodes.
pub(crate) const COUNT: usize = 3;

/// A cluster of its own. Dropped, it kills its processes and removes their data.
pub(crate) struct Cluster {
    backend: String,
    /// What else `kraftd serve` is told.
    flags: Vec<String>,
    folder: tempfile::TempDir,
    clients: Vec<u16>,
    running: Vec<Option<Child>>,
}

/// Ports that were free a moment ago. All are held until all are drawn, so that none comes twice.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let held: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<io::Result<_>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// Whether somebody listens there. Who dials a port that nobody has bound may be given it himself, and meets himself.
fn is_heard(address: &str) -> bool {
    let ends = std::net::TcpStream::connect(address).and_then(|stream| Ok((stream.local_addr()?, stream.peer_addr()?)));
    ends.is_ok_and(|(ours, theirs)| ours != theirs)
}

fn check(status: std::process::ExitStatus, what: &str) -> io::Result<()> {
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{what}: {status}")))
    }
}

impl Cluster {
    /// How many nodes there have been.
    pub(crate) fn count(&self) -> usize {
        self.running.len()
    }

    /// Writes the data folders of nodes that will run on this event loop, as `kraftd --backend` has it; nothing runs yet.
    pub(crate) fn init(backend: &str) -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("kraft-bench-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let ports = free_ports(2 * COUNT)?;
        let (peers, clients) = ports.split_at(COUNT);
        let list: Vec<_> = peers
            .iter()
            .enumerate()
            .map(|(at, port)| format!("{}=127.0.0.1:{port}", at + 1))
            .collect();
        let cluster = Self {
            backend: backend.to_owned(),
            flags: Vec::new(),
            folder,
            clients: clients.to_vec(),
            running: (0..COUNT).map(|_| None).collect(),
        };
        for at in 0..COUNT {
            let status = Command::new(env!("CARGO_BIN_EXE_kraftd"))
                .args(["init", "--cluster", "bench", "--peers", &list.join(",")])
                .args(["--id", &(at + 1).to_string()])
                .args(["--listen", &format!("127.0.0.1:{}", peers[at])])
                .args(["--client", &format!("127.0.0.1:{}", clients[at])])
                .arg("--data")
                .arg(cluster.data(at))
                .stdout(Stdio::null())
                .status()?;
            check(status, "kraftd init")?;
        }
        Ok(cluster)
    }

    /// What `kraftd serve` is told besides, from the next start on.
    pub(crate) fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    }

    /// Makes and starts one more node, which nobody knows yet, and says where its peers reach it.
    pub(crate) fn start_stranger(&mut self) -> io::Result<String> {
        let ports = free_ports(2)?;
        let at = self.running.len();
        let peers = format!("127.0.0.1:{}", ports[0]);
        let status = Command::new(env!("CARGO_BIN_EXE_kraftd"))
            .args(["init", "--cluster", "bench", "--join", "--listen", &peers])
            .args(["--id", &(at + 1).to_string()])
            .args(["--client", &format!("127.0.0.1:{}", ports[1])])
            .arg("--data")
            .arg(self.data(at))
            .stdout(Stdio::null())
            .status()?;
        check(status, "kraftd init")?;
        self.running.push(None);
        self.start(at)?;
        let mut client = kraft::client::Client::connect(&self.nodes()).map_err(io::Error::other)?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_heard(&peers) {
            if Instant::now() > deadline {
                return Err(io::Error::other("a node did not listen in 30 s"));
            }
            client.wait(Duration::from_millis(5)).map_err(io::Error::other)?;
        }
        Ok(peers)
    }

    /// Kills all nodes and starts them again; returns when all have applied the same.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        for at in 0..COUNT {
            self.kill(at)?;
        }
        self.start_all()?;
        self.leader()?;
        let mut client = kraft::client::Client::connect(&self.nodes()).map_err(io::Error::other)?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            let statuses = client.status().map_err(io::Error::other)?;
            let mut applied = statuses.iter().flat_map(|status| &status.report);
            let first = applied.next().map(|report| report.applied);
            if applied.all(|report| Some(report.applied) == first) {
                return Ok(());
            }
            client.wait(Duration::from_millis(50)).map_err(io::Error::other)?;
        }
        Err(io::Error::other("the nodes had not applied the same in 60 s"))
    }

    /// Starts all nodes.
    pub(crate) fn start_all(&mut self) -> io::Result<()> {
        (0..COUNT).try_for_each(|at| self.start(at))
    }

    /// Starts one node; its log goes to a file beside its data.
    pub(crate) fn start(&mut self, at: usize) -> io::Result<()> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join(format!("log{at}")))?;
        let child = Command::new(env!("CARGO_BIN_EXE_kraftd"))
            .args(["serve", "--backend", &self.backend])
            .args(&self.flags)
            .arg("--data")
            .arg(self.data(at))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        self.running[at] = Some(child);
        Ok(())
    }

    /// Ends a node by SIGKILL.
    pub(crate) fn kill(&mut self, at: usize) -> io::Result<()> {
        if let Some(mut child) = self.running[at].take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Runs `kraftctl`, and throws away what it prints.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> io::Result<()> {
        let status = Command::new(env!("CARGO_BIN_EXE_kraftctl"))
            .args(["--nodes", &self.nodes()])
            .args(arguments)
            .stdout(Stdio::null())
            .status()?;
        check(status, &format!("kraftctl {}", arguments.join(" ")))
    }

    pub(crate) fn data(&self, at: usize) -> PathBuf {
        self.folder.path().join(format!("node{at}"))
    }

    /// What clients are told.
    pub(crate) fn nodes(&self) -> String {
        let all: Vec<_> = self.clients.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        all.join(",")
    }

    /// A line of `/proc/PID/status`, such as `VmRSS`, in MiB, of the node that has most of it.
    pub(crate) fn memory_mib(&self, line: &str) -> io::Result<f64> {
        let mut most = 0.0_f64;
        for child in self.running.iter().flatten() {
            let status = fs::read_to_string(Path::new("/proc").join(child.id().to_string()).join("status"))?;
            let found = status.lines().find_map(|row| row.strip_prefix(line)?.strip_prefix(':'));
            let kib: f64 = found
                .and_then(|value| value.split_whitespace().next()?.parse().ok())
                .unwrap_or(0.0);
            most = most.max(kib / 1024.0);
        }
        Ok(most)
    }

    /// Runs `kraftctl bench`; its figures by name.
    pub(crate) fn bench(&self, arguments: &[&str], span: Duration) -> io::Result<Vec<(String, f64)>> {
        self.start_bench(arguments, span)?.finish()
    }

    /// Starts `kraftctl bench`.
    pub(crate) fn start_bench(&self, arguments: &[&str], span: Duration) -> io::Result<Bench> {
        let child = Command::new(env!("CARGO_BIN_EXE_kraftctl"))
            .args(["--nodes", &self.nodes(), "--output", "plain", "bench"])
            .args(["--seconds", &span.as_secs_f64().to_string()])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        Ok(Bench(child))
    }

    /// Where the leader's client address stands in the list, asked until there is one that all nodes follow.
    pub(crate) fn leader(&self) -> io::Result<usize> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut client = kraft::client::Client::connect(&self.nodes()).map_err(io::Error::other)?;
        while Instant::now() < deadline {
            let statuses = client.status().map_err(io::Error::other)?;
            let leaders: Vec<_> = statuses
                .iter()
                .flat_map(|status| &status.report)
                .map(|report| report.leader)
                .collect();
            if let Some(leader) = leaders.first().filter(|leader| leader.is_some())
                && leaders.len() == COUNT
                && leaders.iter().all(|other| other == leader)
            {
                return Ok(leader.0 as usize - 1);
            }
            client.wait(Duration::from_millis(5)).map_err(io::Error::other)?;
        }
        Err(io::Error::other("the nodes agreed on no leader in 30 s"))
    }
}

/// A load that runs.
pub(crate) struct Bench(Child);

impl Bench {
    pub(crate) fn is_running(&mut self) -> io::Result<bool> {
        Ok(self.0.try_wait()?.is_none())
    }

    /// Waits for its end; its figures by name.
    pub(crate) fn finish(self) -> io::Result<Vec<(String, f64)>> {
        let output = self.0.wait_with_output()?;
        check(output.status, "kraftctl bench")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let figure = |line: &str| {
            let (name, value) = line.split_once('\t')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Ok(text.lines().filter_map(figure).collect())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for at in 0..self.running.len() {
            // What is left is told by the system; there is nobody to tell here.
            let _ = self.kill(at);
        }
    }
}
