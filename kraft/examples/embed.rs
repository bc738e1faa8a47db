//! A replicated state machine inside a program of one's own: `cargo run --example embed`.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kraft::adapter::ListenOptions;
use kraft::adapters::{Any, Choice};
use kraft::id::{GroupId, Index, NodeId};
use kraft::machine::{Refused, StateMachine};
use kraft::message::{NodeState, Role};
use kraft::node::{Config, Member, Node, Notice, Outcome, Parts};
use kraft::protocols::Binary;
use kraft::server::Server;
use kraft::storage::{self, DiskLog, Expected, Folder, Identity, RealFiles};

type Sums = Server<Any, Binary, DiskLog<RealFiles>, Sum>;

/// Adds up the numbers that it is given.
struct Sum(i64);

impl StateMachine for Sum {
    fn apply(&mut self, _index: Index, command: &[u8], reply: &mut BytesMut) {
        self.0 = self.0.wrapping_add(command.try_into().map_or(0, i64::from_le_bytes));
        reply.put_i64_le(self.0);
    }

    fn read(&self, _query: &[u8], reply: &mut BytesMut) -> Result<(), Refused> {
        reply.put_i64_le(self.0);
        Ok(())
    }

    fn digest(&self) -> u64 {
        self.0.cast_unsigned()
    }
}

/// Opens the node whose data folder this is: its log on disk, its event loop, its wire format, its machine.
fn open(folder: &Folder, watch: impl FnMut(Notice<'_>) + Send + 'static) -> Result<Sums, Box<dyn Error>> {
    let (identity, book) = (folder.identity(), folder.peers()?);
    let members = identity.members.iter().map(|member| Member {
        node: member.node,
        address: member.address.clone(),
        incarnation: book.get(member.node),
    });
    let (cluster, seed) = (&identity.cluster, Identity::draw_incarnation()?.0);
    let config = Config::new(cluster, identity.node, identity.incarnation, members.collect(), seed);
    let log = identity.log(GroupId(0));
    let (storage, recovered) = DiskLog::open(folder.log()?, log, Default::default(), Index::ZERO)?;
    let parts = Parts {
        adapter: Choice::default().open(&Default::default())?.adapter,
        protocol: Binary,
        storage,
        recovered,
        machine: Sum(0),
    };
    let node = Node::open(config, parts, watch)?;
    let mut server = Server::new(node, move |peer, life| book.remember(peer, life).map(drop));
    let peers: SocketAddr = identity.listen.parse()?;
    server.listen(Role::Peer, &peers.into(), ListenOptions::default())?;
    Ok(server)
}

/// Starts the node, adds numbers, stops it. Returns the sum.
fn add(data: &Path, numbers: &[i64]) -> Result<i64, Box<dyn Error>> {
    let folder = Folder::open(data, Expected::default())?;
    let (elected, leads) = mpsc::channel();
    let server = open(&folder, move |notice| {
        if let Notice::Role {
            state: NodeState::Leader,
            ..
        } = notice
        {
            let _ = elected.send(());
        }
    })?;
    let handle = server.handle();
    let running = thread::spawn(move || server.run());
    leads.recv_timeout(Duration::from_secs(10))?;

    let mut sum = 0;
    for number in numbers {
        let command = Bytes::copy_from_slice(&number.to_le_bytes());
        sum = match handle.propose(command).wait(Duration::from_secs(10)) {
            Some(Outcome::Committed(reply)) => i64::from_le_bytes(reply[..].try_into()?),
            // It did not happen: somebody else leads, or too much waits. It can be proposed again, there or here.
            Some(Outcome::Refused { why, .. }) => return Err(format!("refused: {why:?}").into()),
            // It may have happened. A client with a session can ask again; this program cannot.
            Some(Outcome::Unknown) | None => return Err("unknown".into()),
        };
    }
    handle.stop();
    running.join().map_err(|_| "the node's thread panicked")??;
    Ok(sum)
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("node-1");
    // Written once, as by `kraftd init`. In a cluster of three each node has a data folder of its own, which names all
    // three members; here it is a cluster of one, on whatever port is free.
    let identity = Identity {
        cluster: "sums".to_owned(),
        node: NodeId(1),
        members: vec![storage::Member {
            node: NodeId(1),
            address: "localhost:0".to_owned(),
        }],
        listen: "127.0.0.1:0".to_owned(),
        client: "127.0.0.1:0".to_owned(),
        incarnation: Identity::draw_incarnation()?,
        created: 0,
    };
    Folder::create(&data, &identity)?;
    assert_eq!(add(&data, &[1, 2, 3])?, 6);
    // The log is on disk: another start finds what the first one left.
    assert_eq!(add(&data, &[4])?, 10);
    println!("1 + 2 + 3, a restart, + 4 = 10");
    Ok(())
}

#[test]
fn a_sum_is_kept_across_a_restart() {
    main().expect("every assertion is in there");
}
