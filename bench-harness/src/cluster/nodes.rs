//! Three nodes of Kraft.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use kraft::client::Client;
use kraft_core::id::NodeId;

use super::Ground;
use super::processes::{COUNT, LEASH, PATIENCE, Processes, own};
use crate::fault::Fault;
use crate::interrupt;
use crate::pin;

/// Three nodes. Dropped, it kills them and removes their data.
#[derive(Debug)]
pub(super) struct Cluster {
    backend: &'static str,
    format: &'static str,
    processes: Processes,
    clients: Vec<SocketAddr>,
}

impl Cluster {
    /// Makes the nodes' folders and starts them.
    pub(super) fn start(backend: &'static str, format: &'static str, ground: &Ground) -> Result<Self, Fault> {
        let (processes, peers, clients) = Processes::new(ground)?;
        let mut cluster = Self {
            backend,
            format,
            processes,
            clients,
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
            .processes
            .command()?
            .args(["init", "--cluster", "bench", "--peers", list])
            .args(["--id", &Self::id(at).0.to_string()])
            .args(["--listen", &peer.to_string()])
            .args(["--client", &self.clients[at].to_string()])
            .arg("--data")
            .arg(self.processes.data(at))
            .stdout(Stdio::null())
            .status()
            .map_err(own("start kraftd init"))?;
        if status.success() {
            Ok(())
        } else {
            Err(Fault::Own(format!("kraftd init: {status}")))
        }
    }

    /// Starts a node.
    pub(super) fn start_node(&mut self, at: usize) -> Result<(), Fault> {
        let mut command = self.processes.command()?;
        if pin::IS_LEASHED {
            command.env(LEASH, "").stdin(Stdio::piped());
        }
        command
            .args(["serve", "--backend", self.backend, "--protocol", self.format])
            .arg("--data")
            .arg(self.processes.data(at));
        self.processes.start(at, command)
    }

    /// Ends a node by SIGKILL.
    pub(super) fn kill(&mut self, at: usize) -> Result<(), Fault> {
        self.processes.kill(at)
    }

    pub(super) fn client_address(&self, at: usize) -> SocketAddr {
        self.clients[at]
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.processes.pids()
    }

    /// A client of all nodes.
    pub(super) fn client(&self) -> Result<Client, Fault> {
        let all: Vec<String> = self.clients.iter().map(ToString::to_string).collect();
        Client::connect(&all.join(",")).map_err(|error| Fault::Own(format!("a client of the cluster: {error}")))
    }

    /// A client of all nodes but one.
    pub(super) fn client_of_others(&self, at: usize) -> Result<Client, Fault> {
        let others = self.clients.iter().enumerate().filter(|(other, _)| *other != at);
        let others: Vec<String> = others.map(|(_, address)| address.to_string()).collect();
        Client::connect(&others.join(",")).map_err(|error| Fault::Own(format!("a client of the cluster: {error}")))
    }

    /// The id of the node at a place.
    pub(super) fn id(at: usize) -> NodeId {
        NodeId(at as u64 + 1)
    }

    /// The place of the leader that all nodes follow, as soon as there is one.
    pub(super) fn leader(&mut self) -> Result<usize, Fault> {
        let failed = |error: kraft::client::Error| Fault::closed(format!("ask the nodes how they are: {error}"));
        let mut client = self.client()?;
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if interrupt::is_asked() {
                return Err(Fault::Interrupted);
            }
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
            if let Some(words) = self.processes.last_words() {
                return Err(Fault::Closed(words));
            }
            client.wait(Duration::from_millis(5)).map_err(failed)?;
        }
        Err(Fault::Stalled(format!(
            "three nodes agreed on no leader in {} s",
            PATIENCE.as_secs()
        )))
    }

    /// Whose fault it was.
    pub(super) fn blame(&mut self, fault: Fault) -> Fault {
        self.processes.blame(fault)
    }
}
