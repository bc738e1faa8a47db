//! The nodes as processes: started in their networks, ended in many ways, judged by how they end.

use std::env;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::command::Trouble;
use crate::disk::{Disk, Kind};
use crate::network::{self, NODES};

/// How long a node may take to stop in order: its `linger_ms`, its disk, and a machine that is busy.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// The ports of every node, each at its own address.
const PEER_PORT: u16 = 7000;
const CLIENT_PORT: u16 = 7100;

/// The event loops, one a node and again from the first.
const BACKENDS: &[&str] = &["io-uring", "epoll", "threads"];

/// The exit status of a node whose disk failed.
const DISK_FAILED: i32 = 75;

/// Five nodes. Those that run are killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    kraftd: PathBuf,
    folder: PathBuf,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    disk: Disk,
    backend: &'static str,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// The node stops when this end goes away with the process.
    _stdin: ChildStdin,
    fate: Fate,
}

/// How a process is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Not at all.
    Runs,
    /// With 0: it was asked to.
    Stops,
    /// With 75, or not before it is killed.
    LosesItsDisk,
    /// By SIGKILL, unless it lost its disk before.
    Dies,
}

/// How a process ended that was to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    InOrder,
    DiskFailed,
    Killed,
}

impl Cluster {
    /// Makes disks and writes data folders.
    ///
    /// # Errors
    ///
    /// A disk cannot be made, or `kraftd init` fails.
    pub(crate) fn make(kraftd: &Path, folder: &Path, kind: Kind, backends: &[String]) -> Result<Self, Trouble> {
        let mut cluster = Self {
            kraftd: kraftd.to_owned(),
            folder: folder.to_owned(),
            nodes: Vec::new(),
        };
        let usable: Vec<&str> = BACKENDS
            .iter()
            .copied()
            .filter(|name| backends.iter().any(|usable| usable == name))
            .collect();
        let members: Vec<String> = (1..=NODES).map(|node| format!("{node}={}", peer(node))).collect();
        for node in 1..=NODES {
            let disk = Disk::make(kind, folder, &format!("disk-{node}"))?;
            let mut command = cluster.kraftd();
            command.args(["init", "--cluster", "chaos", "--id", &node.to_string()]);
            command.args(["--peers", &members.join(","), "--listen", &peer(node)]);
            command.args(["--client", &client(node), "--data"]).arg(disk.data());
            finish(command)?;
            cluster.nodes.push(Node {
                disk,
                backend: usable.get((node - 1) % usable.len().max(1)).copied().unwrap_or("auto"),
                running: None,
            });
        }
        Ok(cluster)
    }

    fn kraftd(&self) -> Command {
        let mut command = Command::new(&self.kraftd);
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("KRAFT_") {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Starts a node that does not run.
    ///
    /// # Errors
    ///
    /// It cannot be started; that it ends at once is seen by [`watch`](Self::watch).
    ///
    /// # Panics
    ///
    /// If it runs.
    pub(crate) fn start(&mut self, node: usize) -> Result<(), Trouble> {
        assert!(self.node(node).running.is_none(), "node {node} runs");
        let path = self.log(node);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|error| Trouble::at(&path, &error))?;
        let mut command = self.kraftd();
        command.args(["serve", "--exit-with-parent", "--log-format", "json"]);
        command.args(["--backend", self.node(node).backend]);
        // Small segments: a full disk is felt when the next one is to be prepared.
        command.args(["--log-segment-bytes", "1048576", "--log-segments-recycled-max", "0"]);
        command.arg("--data").arg(self.node(node).disk.data());
        command.stdin(Stdio::piped()).stderr(log);
        let cannot = |error: io::Error| Trouble::new(format!("node {node} cannot be started: {error}"));
        // A child is in the network of the thread that starts it.
        let mut child = network::inside(node, || command.spawn())?.map_err(cannot)?;
        let stdin = child.stdin.take().ok_or_else(|| Trouble::new("stdin is piped"))?;
        self.node_mut(node).running = Some(Running {
            child,
            _stdin: stdin,
            fate: Fate::Runs,
        });
        Ok(())
    }

    /// Whether all that is to run does.
    ///
    /// # Errors
    ///
    /// A node ended that was not to, or in another way.
    pub(crate) fn watch(&mut self) -> Result<(), Trouble> {
        for node in 1..=NODES {
            self.ended(node)?;
        }
        Ok(())
    }

    /// How a node ended, or `None` while it runs; it is judged, and forgotten.
    ///
    /// # Errors
    ///
    /// It was not to end, or in another way.
    pub(crate) fn ended(&mut self, node: usize) -> Result<Option<End>, Trouble> {
        let Some(running) = &mut self.node_mut(node).running else {
            return Ok(None);
        };
        let status = running.child.try_wait();
        let Some(status) = status.map_err(|error| Trouble::new(format!("node {node}: {error}")))? else {
            return Ok(None);
        };
        let end = running.fate.judge(status);
        self.node_mut(node).running = None;
        let log = self.log(node);
        end.map(Some).map_err(|what| {
            Trouble::new(format!(
                "node {node} {what}; the end of {}: {}",
                log.display(),
                last_lines(&log)
            ))
        })
    }

    /// Whether it has a process.
    pub(crate) fn runs(&self, node: usize) -> bool {
        self.node(node).running.is_some()
    }

    /// SIGKILL; returns when it is gone.
    ///
    /// # Errors
    ///
    /// It ended before, in a way that it was not to.
    pub(crate) fn kill(&mut self, node: usize) -> Result<Option<End>, Trouble> {
        if let Some(end) = self.ended(node)? {
            return Ok(Some(end));
        }
        let Some(running) = &mut self.node_mut(node).running else {
            return Ok(None);
        };
        running.fate = match running.fate {
            Fate::LosesItsDisk => Fate::LosesItsDisk,
            _ => Fate::Dies,
        };
        let gone = running.child.kill().and_then(|()| running.child.wait());
        gone.map_err(|error| Trouble::new(format!("node {node} cannot be killed: {error}")))?;
        self.ended(node)
    }

    /// SIGTERM: from here on it has to end, with 0.
    ///
    /// # Errors
    ///
    /// It is gone.
    pub(crate) fn terminate(&mut self, node: usize) -> Result<(), Trouble> {
        self.fated(node, Fate::Stops);
        self.signal(node, Signal::TERM)
    }

    /// Sends a signal that ends nothing.
    ///
    /// # Errors
    ///
    /// It is gone.
    pub(crate) fn signal(&self, node: usize, signal: Signal) -> Result<(), Trouble> {
        let pid = self.node(node).running.as_ref().map(|running| running.child.id());
        let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let gone = || Trouble::new(format!("node {node} is gone"));
        kill_process(pid.ok_or_else(gone)?, signal)
            .map_err(|error| Trouble::new(format!("node {node}: {signal:?}: {error}")))
    }

    /// Cuts the power of its disk alone.
    ///
    /// # Errors
    ///
    /// The file system refuses.
    pub(crate) fn cut_power(&mut self, node: usize) -> Result<(), Trouble> {
        self.fated(node, Fate::LosesItsDisk);
        self.node(node).disk.cut_power()
    }

    /// Its disk.
    pub(crate) fn disk(&self, node: usize) -> &Disk {
        &self.node(node).disk
    }

    /// Its event loop.
    pub(crate) fn backend(&self, node: usize) -> &'static str {
        self.node(node).backend
    }

    /// Stops all nodes in order.
    ///
    /// # Errors
    ///
    /// One does not end, or not with 0.
    pub(crate) fn stop(&mut self) -> Result<(), Trouble> {
        for node in 1..=NODES {
            self.terminate(node)?;
        }
        let until = Instant::now() + STOP_TIMEOUT;
        for node in 1..=NODES {
            while self.ended(node)?.is_none() {
                if Instant::now() > until {
                    return Err(Trouble::new(format!("node {node} does not stop")));
                }
                thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    /// Whether the log of a node that is down is as it should be.
    ///
    /// # Errors
    ///
    /// It is damaged.
    pub(crate) fn verify(&self, node: usize) -> Result<(), Trouble> {
        let mut command = self.kraftd();
        command.args(["log", "verify"]).arg(self.node(node).disk.data());
        finish(command)
    }

    /// What a node said that no node may say.
    ///
    /// # Errors
    ///
    /// It panicked.
    pub(crate) fn read_logs(&self) -> Result<(), Trouble> {
        for node in 1..=NODES {
            let path = self.log(node);
            let log = fs::read(&path).map_err(|error| Trouble::at(&path, &error))?;
            let log = String::from_utf8_lossy(&log);
            if let Some(line) = log.lines().find(|line| line.contains("panicked at")) {
                return Err(Trouble::new(format!("node {node} panicked: {line}")));
            }
        }
        Ok(())
    }

    /// Copies the data of a node that is down.
    ///
    /// # Errors
    ///
    /// It cannot be copied.
    pub(crate) fn save(&self, node: usize) -> Result<(), Trouble> {
        copy(&self.node(node).disk.data(), &self.saved(node))
    }

    /// Puts back what [`save`](Self::save) copied.
    ///
    /// # Errors
    ///
    /// It cannot be copied.
    pub(crate) fn roll_back(&self, node: usize) -> Result<(), Trouble> {
        let data = self.node(node).disk.data();
        fs::remove_dir_all(&data).map_err(|error| Trouble::at(&data, &error))?;
        copy(&self.saved(node), &data)
    }

    fn saved(&self, node: usize) -> PathBuf {
        self.folder.join(format!("saved-{node}"))
    }

    fn log(&self, node: usize) -> PathBuf {
        self.folder.join(format!("node-{node}.log"))
    }

    fn fated(&mut self, node: usize, fate: Fate) {
        if let Some(running) = &mut self.node_mut(node).running {
            running.fate = fate;
        }
    }

    fn node(&self, node: usize) -> &Node {
        &self.nodes[node - 1]
    }

    fn node_mut(&mut self, node: usize) -> &mut Node {
        &mut self.nodes[node - 1]
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(running) = &mut node.running {
                // It may have ended.
                let _ = running.child.kill();
                let _ = running.child.wait();
            }
        }
    }
}

impl Fate {
    fn judge(self, status: ExitStatus) -> Result<End, String> {
        let is_killed = status.signal() == Some(Signal::KILL.as_raw());
        match (self, status.code()) {
            (Self::Stops, Some(0)) => Ok(End::InOrder),
            (Self::LosesItsDisk, Some(DISK_FAILED)) => Ok(End::DiskFailed),
            (Self::LosesItsDisk | Self::Dies, None) if is_killed => Ok(End::Killed),
            (Self::Runs, _) => Err(format!("ended by itself: {status}")),
            (Self::Stops, _) => Err(format!("was asked to stop and ended with {status}, not with 0")),
            (Self::LosesItsDisk, _) => Err(format!("lost its disk and ended with {status}, not with {DISK_FAILED}")),
            (Self::Dies, _) => Err(format!("was killed and ended with {status}")),
        }
    }
}

/// Where peers reach a node.
fn peer(node: usize) -> String {
    format!("{}:{PEER_PORT}", network::address(node))
}

/// Where clients reach a node.
pub(crate) fn client(node: usize) -> String {
    format!("{}:{CLIENT_PORT}", network::address(node))
}

/// Runs a kraftd that ends by itself.
fn finish(mut command: Command) -> Result<(), Trouble> {
    let output = command
        .output()
        .map_err(|error| Trouble::new(format!("{command:?}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Trouble::new(format!("{command:?}: {}: {}", output.status, said.trim())))
}

fn copy(from: &Path, to: &Path) -> Result<(), Trouble> {
    let mut command = Command::new("cp");
    command.arg("-a").arg(from).arg(to).stdin(Stdio::null());
    finish(command)
}

fn last_lines(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(3)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(fate: Fate, status: i32, expected: Option<End>) {
        assert_eq!(fate.judge(ExitStatus::from_raw(status)).ok(), expected);
    }

    #[test]
    fn each_end_of_a_process_is_judged_by_what_was_done_to_it() {
        let code = |code: i32| code << 8;
        check(Fate::Runs, code(0), None);
        check(Fate::Runs, 9, None);
        check(Fate::Stops, code(0), Some(End::InOrder));
        check(Fate::Stops, code(1), None);
        check(Fate::Stops, 15, None);
        check(Fate::LosesItsDisk, code(75), Some(End::DiskFailed));
        check(Fate::LosesItsDisk, 9, Some(End::Killed));
        check(Fate::LosesItsDisk, code(74), None);
        check(Fate::LosesItsDisk, code(101), None);
        check(Fate::Dies, 9, Some(End::Killed));
        check(Fate::Dies, code(101), None);
        check(Fate::Dies, 6, None);
    }
}
