//! Three nodes of Kraft.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kraft::client::{Client, Error};
use kraft_core::id::NodeId;

use super::Ground;
use super::kills::{Mortal, Watch, Writer};
use super::processes::{COUNT, LEASH, PATIENCE, Processes, own};
use super::watch;
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
    fn start_node(&mut self, at: usize) -> Result<(), Fault> {
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

    pub(super) fn client_address(&self, at: usize) -> SocketAddr {
        self.clients[at]
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.processes.pids()
    }

    /// To be killed.
    pub(super) fn mortal(&mut self) -> Result<Victims<'_>, Fault> {
        let client = self.client()?;
        Ok(Victims { cluster: self, client })
    }

    /// A client of all nodes.
    fn client(&self) -> Result<Client, Fault> {
        let all: Vec<String> = self.clients.iter().map(ToString::to_string).collect();
        Client::connect(&all.join(",")).map_err(|error| Fault::Own(format!("a client of the cluster: {error}")))
    }

    /// A client of all nodes but one.
    fn client_of_others(&self, at: usize) -> Result<Client, Fault> {
        let others = self.clients.iter().enumerate().filter(|(other, _)| *other != at);
        let others: Vec<String> = others.map(|(_, address)| address.to_string()).collect();
        Client::connect(&others.join(",")).map_err(|error| Fault::Own(format!("a client of the cluster: {error}")))
    }

    /// The id of the node at a place.
    fn id(at: usize) -> NodeId {
        NodeId(at as u64 + 1)
    }

    /// The place of the leader that all nodes follow, as soon as there is one.
    pub(super) fn leader(&mut self) -> Result<usize, Fault> {
        let failed = |error: Error| Fault::closed(format!("ask the nodes how they are: {error}"));
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

/// Three nodes, and who writes to them.
pub(super) struct Victims<'a> {
    cluster: &'a mut Cluster,
    client: Client,
}

impl Mortal for Victims<'_> {
    fn leader(&mut self) -> Result<usize, Fault> {
        self.cluster.leader()
    }

    fn watch(&mut self, leader: usize) -> Result<Watch, Fault> {
        let failed = |error: Error| Fault::closed(format!("ask the nodes how they are: {error}"));
        let mut client = self.cluster.client_of_others(leader)?;
        // It is connected with them before there is anything to see.
        client.status().map_err(failed)?;
        Ok(Box::new(move |began, is_over| {
            watch::survivors(Cluster::id(leader), began, is_over, |hear| {
                let statuses = client.status().map_err(failed)?;
                let reports = statuses.iter().flat_map(|status| &status.report);
                reports.for_each(|report| hear(report.state, report.leader));
                Ok(())
            })
        }))
    }

    fn kill(&mut self, at: usize) -> Result<(), Fault> {
        self.cluster.processes.kill(at)
    }

    fn start(&mut self, at: usize) -> Result<(), Fault> {
        self.cluster.start_node(at)
    }

    fn writer(&mut self) -> Result<Writer, Fault> {
        let mut client = self.cluster.client()?;
        Ok(Box::new(move |key, value| put(&mut client, key, value)))
    }

    fn write(&mut self, key: u64, value: &[u8]) -> Result<bool, Fault> {
        put(&mut self.client, key, value)
    }

    fn read(&mut self, key: u64) -> Result<Option<Bytes>, Fault> {
        let found = self.client.get(&key.to_be_bytes());
        found.map_err(|error| Fault::closed(format!("get: {error}")))
    }
}

fn put(client: &mut Client, key: u64, value: &[u8]) -> Result<bool, Fault> {
    match client.put(&key.to_be_bytes(), value) {
        Ok(()) => Ok(true),
        Err(Error::Refused(_) | Error::Unknown) => Ok(false),
        Err(error) => Err(Fault::closed(format!("put: {error}"))),
    }
}
