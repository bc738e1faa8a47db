//! A replicated state machine inside a program of one's own: `cargo run --example embed`.

use std::error::Error;
use std::path::Path;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kraft::adapters::Choice;
use kraft::id::{Index, NodeId};
use kraft::machine::{Refused, StateMachine};
use kraft::message::NodeState;
use kraft::node::{Failure, Handle, Notice, Outcome};
use kraft::protocols::Binary;
use kraft::server::Server;
use kraft::storage::{self, Expected, Folder, Identity};

type Running = (Handle, JoinHandle<Result<(), Failure>>);

/// Adds up the numbers that it is given.
struct Sum(i64);

impl StateMachine for Sum {
    type Image = [u8; 8];

    fn apply(&mut self, _index: Index, command: &[u8], reply: &mut BytesMut) {
        self.0 = self.0.wrapping_add(command.try_into().map_or(0, i64::from_le_bytes));
        reply.put_i64_le(self.0);
    }

    fn read(&self, _query: &[u8], reply: &mut BytesMut) -> Result<(), Refused> {
        reply.put_i64_le(self.0);
        Ok(())
    }

    fn image(&self) -> [u8; 8] {
        self.0.to_le_bytes()
    }

    fn restore(&mut self, image: [u8; 8]) -> [u8; 8] {
        std::mem::replace(&mut self.0, i64::from_le_bytes(image)).to_le_bytes()
    }

    fn digest(&self) -> u64 {
        self.0.cast_unsigned()
    }
}

/// Starts the node whose data folder this is, on the best event loop that works here.
fn start(folder: &Folder, watch: impl FnMut(Notice<'_>) + Send + 'static) -> Result<Running, Box<dyn Error>> {
    let adapter = Choice::default().open(&Default::default())?.adapter;
    let server = Server::open(folder, adapter, Binary, Sum(0), watch)?;
    let handle = server.handle();
    Ok((handle, thread::spawn(move || server.run())))
}

/// Starts the node, adds numbers, stops it. Returns the sum.
fn add(data: &Path, numbers: &[i64]) -> Result<i64, Box<dyn Error>> {
    let folder = Folder::open(data, Expected::default())?;
    let (elected, leads) = mpsc::channel();
    let (handle, running) = start(&folder, move |notice| {
        if let Notice::Role {
            state: NodeState::Leader,
            ..
        } = notice
        {
            let _ = elected.send(());
        }
    })?;
    leads.recv_timeout(Duration::from_secs(10))?;

    let mut sum = 0;
    for number in numbers {
        let command = Bytes::copy_from_slice(&number.to_le_bytes());
        sum = match handle.propose(command).wait(Duration::from_secs(10)) {
            Some(Outcome::Committed(reply)) => i64::from_le_bytes(reply[..].try_into()?),
            // It did not happen: somebody else leads, or too much waits. It can be proposed again, there or here.
            Some(Outcome::Refused { why, .. }) => return Err(format!("refused: {why:?}").into()),
            // It may have happened. A client with a session can ask again; this program cannot.
            // Nothing that may answer with less was asked for.
            Some(Outcome::Unknown | Outcome::Weaker { .. }) | None => return Err("unknown".into()),
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
