//! Three nodes as processes, with data in a temporary folder.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use kraft::adapters::Choice;
use kraft::client::{Client, Config, Node, NodeReport, Security};
use kraft::message::NodeState;
use tempfile::TempDir;

use crate::process::{Daemon, PATIENCE, kraftd, path, run};

/// Ids of the nodes.
pub(super) const NODES: [usize; 3] = [1, 2, 3];

/// Nodes that there may be: the three, and those that are added.
const SITES: usize = 6;

/// Three nodes, by their ids. What runs is killed when this is dropped.
pub(super) struct Cluster {
    folder: TempDir,
    name: String,
    places: Vec<Place>,
    running: [Option<Daemon>; SITES],
    flags: Vec<String>,
    /// Flags of one node alone, made of the folder of all and its id.
    own_flags: fn(&Path, usize) -> Vec<String>,
    /// How clients talk to the nodes.
    security: Security,
}

/// Where a node is reached.
struct Place {
    peers: String,
    clients: String,
    monitors: String,
}

impl Cluster {
    /// Initialises three nodes and starts them with these flags.
    pub(super) fn start(name: &str, flags: &[&str]) -> Self {
        let mut cluster = Self::prepare(name, flags);
        for node in NODES {
            cluster.init(node);
            cluster.spawn(node);
        }
        cluster
    }

    /// Chooses addresses. No folder is made and nothing runs.
    pub(super) fn prepare(name: &str, flags: &[&str]) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            name: name.to_owned(),
            places: places(),
            running: [const { None }; SITES],
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            own_flags: |_, _| Vec::new(),
            security: Security::default(),
        }
    }

    /// From the next start on nodes have these flags of their own, and clients talk to them like this.
    #[cfg(feature = "tls")]
    pub(super) fn protect(&mut self, own_flags: fn(&Path, usize) -> Vec<String>, security: Security) {
        (self.own_flags, self.security) = (own_flags, security);
    }

    /// The folder of all that there is.
    #[cfg(feature = "tls")]
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where a node's data is.
    pub(super) fn data(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("node-{node}"))
    }

    /// Writes a node's data folder.
    pub(super) fn init(&self, node: usize) {
        let data = self.data(node);
        let ran = run(&self
            .init_args(node, &data)
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>());
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }

    /// Writes the data folder of a node of the cluster `name` that waits to be added.
    pub(super) fn init_joining(&self, node: usize, name: &str) {
        let data = self.data(node);
        let args = self.init_args_of(name, node, &data, &["--join".to_owned()]);
        let ran = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }

    /// How a node's data folder is written at `data`.
    pub(super) fn init_args(&self, node: usize, data: &Path) -> Vec<String> {
        let member = |node: usize| format!("{node}={}", self.place(node).peers);
        let members = NODES.map(member).join(",");
        self.init_args_of(&self.name, node, data, &["--peers".to_owned(), members])
    }

    fn init_args_of(&self, name: &str, node: usize, data: &Path, members: &[String]) -> Vec<String> {
        let id = node.to_string();
        let place = self.place(node);
        [
            "init",
            "--id",
            &id,
            "--cluster",
            name,
            "--listen",
            &place.peers,
            "--client",
            &place.clients,
            "--data",
            path(data),
        ]
        .map(str::to_owned)
        .into_iter()
        .chain(members.iter().cloned())
        .collect()
    }

    /// How a node is started that has its data at `data`. It ends with this process, whatever ends that.
    pub(super) fn serve_args(&self, node: usize, data: &Path) -> Vec<String> {
        let fixed = [
            "serve",
            "--exit-with-parent",
            "--log-format",
            "json",
            "--metrics",
            &self.place(node).monitors,
            "--data",
            path(data),
        ];
        let own = (self.own_flags)(self.folder.path(), node);
        let fixed = fixed.map(str::to_owned).into_iter();
        fixed.chain(self.flags.clone()).chain(own).collect()
    }

    /// From the next start on nodes have these flags.
    pub(super) fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    }

    /// Starts a node that does not run; what it says of its start.
    pub(super) fn spawn(&mut self, node: usize) -> String {
        let args = self.serve_args(node, &self.data(node));
        self.spawn_as(node, &mut kraftd(&args.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    /// Starts a node by a command.
    pub(super) fn spawn_as(&mut self, node: usize, command: &mut Command) -> String {
        assert!(self.running[node - 1].is_none(), "node {node} runs already");
        let mut daemon = Daemon::spawn(command.stdin(Stdio::piped()).stderr(Stdio::piped()));
        let start = daemon.line("\"serving\"");
        self.running[node - 1] = Some(daemon);
        start
    }

    /// A node that runs.
    pub(super) fn node(&mut self, node: usize) -> &mut Daemon {
        self.running[node - 1].as_mut().expect("it runs")
    }

    /// Kills a node and waits for its end.
    pub(super) fn kill(&mut self, node: usize) {
        self.node(node).signal("KILL");
        self.end(node);
    }

    /// Waits for the end of a node; how it ended and what it said.
    #[track_caller]
    pub(super) fn end(&mut self, node: usize) -> (ExitStatus, Vec<String>) {
        let mut daemon = self.running[node - 1].take().expect("it runs");
        let status = daemon.end();
        (status, std::mem::take(&mut daemon.said))
    }

    /// Where clients reach these nodes.
    pub(super) fn clients(&self, nodes: &[usize]) -> String {
        let addresses: Vec<_> = nodes.iter().map(|node| &*self.place(*node).clients).collect();
        addresses.join(",")
    }

    /// Where peers reach a node.
    pub(super) fn peers(&self, node: usize) -> &str {
        &self.place(node).peers
    }

    /// Where monitors reach a node.
    pub(super) fn monitors(&self, node: usize) -> &str {
        &self.place(node).monitors
    }

    /// A client of these nodes alone, as patient as the tests are.
    pub(super) fn connect(&self, nodes: &[usize]) -> Client {
        connect_by(&self.clients(nodes), &self.security)
    }

    /// Waits until one of these nodes leads and has committed an entry of its term; which.
    #[track_caller]
    pub(super) fn leader(&self, among: &[usize]) -> usize {
        let mut client = self.connect(among);
        let until = Instant::now() + PATIENCE;
        loop {
            let put = client.put(b"leader", b"?");
            let reports = reports(&mut client);
            // Of two that say so the one of the later term is right.
            let leaders = reports
                .iter()
                .flatten()
                .filter(|report| report.state == NodeState::Leader);
            if let (Ok(()), Some(leader)) = (&put, leaders.max_by_key(|report| report.term)) {
                return usize::try_from(leader.node.0).expect("ids are small");
            }
            assert!(Instant::now() < until, "none of {among:?} leads: {put:?}, {reports:#?}");
        }
    }

    /// Waits until these nodes have the same log, all of it durable and applied.
    #[track_caller]
    pub(super) fn wait_until_equal(&self, nodes: &[usize]) {
        let mut client = self.connect(nodes);
        let until = Instant::now() + PATIENCE;
        loop {
            let put = client.put(b"equal", b"?");
            let reports = reports(&mut client);
            let ends = reports.iter().map(|report| {
                let report = report.as_ref()?;
                (report.applied == report.durable).then_some((report.applied, report.term, report.leader))
            });
            let ends: Vec<_> = ends.collect();
            if ends[0].is_some() && ends.iter().all(|end| *end == ends[0]) {
                return;
            }
            assert!(
                Instant::now() < until,
                "{nodes:?} have different logs: {put:?}, {reports:#?}"
            );
        }
    }

    fn place(&self, node: usize) -> &Place {
        &self.places[node - 1]
    }
}

/// The other two.
pub(super) fn others(node: usize) -> [usize; 2] {
    match node {
        1 => [2, 3],
        2 => [1, 3],
        _ => [1, 2],
    }
}

/// A client that gives up when the tests do.
pub(super) fn connect(nodes: &str) -> Client {
    connect_by(nodes, &Security::default())
}

fn connect_by(nodes: &str, security: &Security) -> Client {
    let config = Config {
        request_timeout: PATIENCE,
        ..Config::default()
    };
    let nodes = Node::resolve_list(nodes).expect("addresses");
    let (client, _) = Client::with_security(config, nodes, &Choice::default(), security).expect("a client");
    client
}

/// What the nodes of a client say of themselves, those that do.
pub(super) fn reports(client: &mut Client) -> Vec<Option<NodeReport>> {
    let statuses = client.status().expect("a loop");
    statuses.into_iter().map(|status| status.report.ok()).collect()
}

/// Ports that the kernel chose, on an address that no other cluster has: so a node that is down keeps its ports, which
/// could otherwise be taken by another test, or by any connection that is dialled meanwhile.
fn places() -> Vec<Place> {
    static CLUSTERS: AtomicU32 = AtomicU32::new(0);
    let own = (process::id() << 6 | CLUSTERS.fetch_add(1, Ordering::Relaxed) & 0x3f) & 0xff_ffff;
    // 127.0.0.0/24 is everybody's.
    let [_, a, b, c] = own.max(1 << 8).to_be_bytes();
    let address = Ipv4Addr::new(127, a, b, c);
    // Held together, so that they differ.
    let held: Vec<_> = (0..3 * SITES)
        .map(|_| TcpListener::bind((address, 0)).expect("a port of the loopback"))
        .collect();
    let at = |place: usize| held[place].local_addr().expect("its address").to_string();
    (0..SITES)
        .map(|node| Place {
            peers: at(3 * node),
            clients: at(3 * node + 1),
            monitors: at(3 * node + 2),
        })
        .collect()
}
