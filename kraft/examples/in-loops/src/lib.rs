//! A node and a client inside event loops that somebody else runs: tokio, mio, and epoll by hand.
//!
//! Each of the three modules is a whole program but for what all share, which is here: a node of a cluster of one, and a
//! client that has it add two numbers. `docs/embedding.md` shows them; `tests/loops.rs` runs each over every backend.

#![forbid(unsafe_code)]

// epoll is Linux's own.
#[cfg(target_os = "linux")]
pub mod bare_epoll;
pub mod in_mio;
pub mod in_tokio;

use std::error::Error;
use std::path::Path;

use bytes::{BufMut, Bytes, BytesMut};
use kraft::adapter::{Endpoint, ListenOptions};
use kraft::adapters::{Any, Backend};
use kraft::id::{Index, NodeId};
use kraft::machine::{Refused, StateMachine};
use kraft::message::Role;
use kraft::protocols::Binary;
use kraft::storage::{self, DiskLog, Expected, Folder, Identity, RealFiles};
use kraft_core::client::{Client, Config, Delivery, End, Outcome, Request, Runner};

/// A node of this example.
pub type Server = kraft::server::Server<Any, Binary, DiskLog<RealFiles>, Sum>;

/// A client of this example, and what it does.
#[derive(Debug)]
pub struct Adder {
    /// The client, on an event loop of its own, which is turned by the loop that it is in.
    pub runner: Runner<Any, Binary>,
    numbers: Vec<i64>,
    /// What all numbers add up to, once they are added.
    pub sum: Option<i64>,
}

/// Whatever may go wrong.
pub type Failure = Box<dyn Error>;

/// Adds up the numbers that it is given.
#[derive(Debug)]
pub struct Sum(i64);

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

/// A node of a cluster of one in a new data folder, and where its clients find it.
///
/// # Errors
///
/// The backend is not available, or the folder cannot be written.
pub fn node(data: &Path, backend: Backend) -> Result<(Server, Endpoint), Failure> {
    let any = "127.0.0.1:0".to_owned();
    let member = storage::Member {
        node: NodeId(1),
        address: any.clone(),
    };
    let identity = Identity {
        cluster: "sums".to_owned(),
        node: NodeId(1),
        members: vec![member],
        listen: any.clone(),
        client: any,
        incarnation: Identity::draw_incarnation()?,
        created: 0,
    };
    Folder::create(data, &identity)?;
    let folder = Folder::open(data, Expected::default())?;
    let adapter = Any::open(backend, &Default::default())?;
    let mut server = Server::open(&folder, adapter, Binary, Sum(0), |_| ())?;
    let any = Endpoint::Tcp(([127, 0, 0, 1], 0).into());
    let clients = server.listen(Role::Client, &any, ListenOptions::default())?;
    Ok((server, clients))
}

impl Adder {
    /// A client of the node at `at`, with numbers to add.
    ///
    /// # Errors
    ///
    /// The backend is not available.
    pub fn new(at: Endpoint, backend: Backend, numbers: &[i64]) -> Result<Self, Failure> {
        let client = Client::new(Config::default(), vec![at]);
        let mut adder = Self {
            runner: Runner::new(client, Any::open(backend, &Default::default())?, Binary),
            numbers: numbers.iter().rev().copied().collect(),
            sum: None,
        };
        adder.next()?;
        Ok(adder)
    }

    /// Has the next number added, if there is one.
    fn next(&mut self) -> Result<bool, Failure> {
        let Some(number) = self.numbers.pop() else {
            return Ok(false);
        };
        let command = Bytes::copy_from_slice(&number.to_le_bytes());
        let delivery = Delivery::ExactlyOnce;
        self.runner.call(Request::command(command, delivery))?;
        Ok(true)
    }

    /// Takes what has ended, and goes on. Called after each turn.
    ///
    /// # Errors
    ///
    /// The number was not added, or nobody knows.
    pub fn step(&mut self) -> Result<(), Failure> {
        while let Some((_, end)) = self.runner.poll_done() {
            let End::Outcome(Outcome::Committed(reply)) = end else {
                return Err(format!("{end:?}").into());
            };
            if !self.next()? {
                self.sum = Some(i64::from_le_bytes(reply[..].try_into()?));
            }
        }
        Ok(())
    }
}
