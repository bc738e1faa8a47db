//! Nodes on sockets and threads, on ports that the kernel chose.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kraft::adapter::{Endpoint, ListenOptions};
use kraft::adapters::{self, Backend, Choice};
use kraft::id::{ClusterId, GroupId, Incarnation, NodeId};
use kraft::message::{NodeState, Role};
use kraft::node::{Config, Failure, Handle, Member, Node, Notice, Outcome, Parts};
use kraft::protocols::Binary;
use kraft::server::Server;
use kraft::storage::{self, DiskLog, Files, LogIdentity};

use super::line::{self, CLUSTER, Line};
use super::tape::Tape;

/// A guard against hangs, far above what anything here takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What operators of a cluster were told, by node, as it comes.
#[derive(Clone, Debug, Default)]
pub(super) struct Told(Arc<Board>);

#[derive(Debug, Default)]
struct Board {
    lines: Mutex<Vec<(u64, String)>>,
    news: Condvar,
}

impl Told {
    fn tell(&self, id: u64, notice: &Notice<'_>) {
        let line = (id, format!("{notice:?}"));
        self.0.lines.lock().expect("no panic").push(line);
        self.0.news.notify_all();
    }

    /// Everything so far.
    pub(super) fn all(&self) -> Vec<(u64, String)> {
        self.0.lines.lock().expect("no panic").clone()
    }

    /// Waits until they were told something that holds, from the `from`-th on; returns whose it was, and its place.
    #[track_caller]
    pub(super) fn wait(&self, from: usize, holds: impl Fn(u64, &str) -> bool) -> (u64, usize) {
        let Board { lines, news } = &*self.0;
        let find = |told: &Vec<(u64, String)>| (from..told.len()).find(|at| holds(told[*at].0, &told[*at].1));
        let told = lines.lock().expect("no panic");
        let (told, _) = news
            .wait_timeout_while(told, PATIENCE, |told| find(told).is_none())
            .expect("no panic");
        let at = find(&told).unwrap_or_else(|| panic!("nobody was told so: {:#?}", &told[from..]));
        (told[at].0, at)
    }

    /// Waits until somebody leads; returns who.
    #[track_caller]
    pub(super) fn leader(&self, from: usize) -> (u64, usize) {
        self.wait(from, |_, notice| notice.starts_with("Role { state: Leader"))
    }
}

/// Whether a notice says that its node leads no more.
pub(super) fn steps_down(notice: &str) -> bool {
    notice.starts_with("Role") && !notice.contains("state: Leader")
}

/// A node that runs on a thread of its own.
pub(super) struct Live {
    pub(super) handle: Handle,
    pub(super) peers: SocketAddr,
    pub(super) clients: SocketAddr,
    thread: Option<JoinHandle<Result<(), Failure>>>,
}

/// Nodes that are each other's peers.
pub(super) struct Cluster {
    pub(super) nodes: Vec<Live>,
    pub(super) told: Told,
}

impl Cluster {
    /// A node for each disk.
    pub(super) fn new<F: Files>(disks: &[F], tune: impl Fn(&mut Config), clients: ListenOptions) -> Self {
        // Whom a node dials is fixed before it listens, so the ports are looked for first; somebody may take one
        // before the node does.
        loop {
            let held: Vec<_> = (disks.iter())
                .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"))
                .collect();
            let ports: Vec<_> = held.iter().map(|held| held.local_addr().expect("bound")).collect();
            drop(held);
            let told = Told::default();
            let nodes: Result<Vec<_>, _> = (1..)
                .zip(disks)
                .map(|(id, disk)| start(id, &ports, disk.clone(), &tune, clients, told.clone()))
                .collect();
            if let Ok(nodes) = nodes {
                return Self { nodes, told };
            }
        }
    }

    pub(super) fn node(&self, id: u64) -> &Live {
        &self.nodes[id as usize - 1]
    }
}

fn start<F: Files>(
    id: u64,
    ports: &[SocketAddr],
    files: F,
    tune: &impl Fn(&mut Config),
    clients: ListenOptions,
    told: Told,
) -> std::io::Result<Live> {
    let member = |(id, port): (u64, &SocketAddr)| Member {
        node: NodeId(id),
        address: port.to_string(),
        incarnation: None,
    };
    let members = (1..).zip(ports).map(member).collect();
    let mut config = Config::new(CLUSTER, NodeId(id), Incarnation(id), members, id);
    // The machine may be busy with other tests; nothing here is about how soon.
    config.raft.election_timeout = Duration::from_secs(1)..Duration::from_secs(2);
    tune(&mut config);
    let log = LogIdentity {
        cluster: ClusterId::from_name(CLUSTER),
        node: NodeId(id),
        incarnation: Incarnation(id),
        group: GroupId(0),
    };
    let (storage, recovered) = DiskLog::open(files, log, storage::Config::default()).expect("a log");
    // What each system has, on a thread of the test's choice.
    let loops = Choice::list([Backend::Epoll, Backend::Kqueue, Backend::Threads]);
    let parts = Parts {
        adapter: loops.open(&adapters::Config::default())?.adapter,
        protocol: Binary,
        storage,
        recovered,
        machine: Tape::default(),
    };
    let node = Node::open(config, parts, move |notice| told.tell(id, &notice)).expect("a node");
    let mut server = Server::new(node, |_, _| Ok(()));
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let peers = server.listen(
        Role::Peer,
        &ports[id as usize - 1].into(),
        ListenOptions {
            max_connections: 16,
            ..ListenOptions::default()
        },
    )?;
    let clients = server.listen(Role::Client, &any.into(), clients)?;
    let tcp = |endpoint| match endpoint {
        Endpoint::Tcp(address) => address,
        Endpoint::Unix(_) => unreachable!("listened at TCP"),
    };
    Ok(Live {
        handle: server.handle(),
        peers: tcp(peers),
        clients: tcp(clients),
        thread: Some(std::thread::spawn(move || server.run())),
    })
}

impl Live {
    /// Proposes, and waits for the outcome.
    #[track_caller]
    pub(super) fn propose(&self, command: &'static [u8]) -> Outcome {
        self.handle.propose(command.into()).wait(PATIENCE).expect("it ends")
    }

    #[track_caller]
    pub(super) fn state(&self) -> NodeState {
        let status = self.handle.status().wait(PATIENCE).expect("it answers");
        status.expect("it runs").state
    }

    /// Stops the node, and waits for its end.
    #[track_caller]
    pub(super) fn stop(&mut self) {
        self.handle.stop();
        let thread = self.thread.take().expect("it is stopped once");
        thread.join().expect("no panic").expect("no failure");
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.handle.stop();
            // What it panicked of was printed there.
            let _ = thread.join();
        }
    }
}

/// Tries until there is something.
#[track_caller]
pub(super) fn eventually<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < until, "nothing in {PATIENCE:?}");
        std::thread::yield_now();
    }
}

/// A connection on which nothing was said so far; its reads wait, with a guard.
pub(super) fn dial(at: SocketAddr) -> Line<TcpStream> {
    let stream = TcpStream::connect(at).expect("a listener");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
    Line::new(stream)
}

/// A client that said hello; `None` if it was not welcomed.
pub(super) fn client(at: SocketAddr) -> Option<Line<TcpStream>> {
    let mut line = dial(at);
    let _ = line.try_send(&line::frame(&line::client()));
    line.next()?.starts_with("Welcome").then_some(line)
}
