//! A blocking client for programs.
//!
//! ```no_run
//! use kraft::client::Client;
//!
//! let mut client = Client::connect("10.0.0.1:7101,10.0.0.2:7101,10.0.0.3:7101")?;
//! client.put(b"greeting", b"hello")?;
//! assert_eq!(client.get(b"greeting")?.as_deref(), Some(&b"hello"[..]));
//! # Ok::<_, kraft::client::Error>(())
//! ```
//!
//! Commands carry a session, so that a retry after a lost answer applies once. A program with a loop of its own runs
//! [`kraft_core::client::Runner`] in it.

#[cfg(test)]
pub(crate) mod fake;
mod members;
mod security;
mod snapshot;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::ToSocketAddrs;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kraft_adapters::{Backend, Choice, PassedOver};
use kraft_core::adapter::{Adapter, Endpoint};
use kraft_core::client::{CallId, Delivery, End, Outcome, Request, Runner};
use kraft_core::id::NodeId;
use kraft_core::message::Transfer;
use kraft_core::protocol::Protocol;
use kraft_protocols::{Any, Format};

pub use kraft_core::client::{Config, MemberReport, NodeReport, Refused};
pub use kraft_core::message::{Basis, Commit, Consistency};

pub use self::members::Members;
pub use self::security::Security;
pub(crate) use self::security::Trouble;
#[cfg(feature = "ctl")]
pub(crate) use self::security::is_kept_out;
pub use self::snapshot::{FetchError, SnapshotSource, Whom};
use crate::kv::{Command, DecodeError, Query, Reply};
use crate::transport::Transport;

/// Why a call has no answer that can be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// It did not and will not happen.
    Refused(Refused),
    /// A command may or may not have happened; a read got no answer in time.
    Unknown,
    /// The key's value is no number in decimal text. Nothing was changed.
    NotANumber,
    /// The sum is beyond 64 bits. Nothing was changed.
    Overflow,
    /// The cluster's answer is of another version or another state machine.
    BadReply(Option<DecodeError>),
    /// The list of nodes is empty, or one of its addresses is none.
    Address {
        /// The address as it was given.
        address: String,
        /// What the system said of it.
        error: io::Error,
    },
    /// The client's own event loop failed.
    Io(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => refused.fmt(f),
            Self::Unknown => f.write_str("no answer came in time; it may or may not have happened"),
            Self::NotANumber => f.write_str("the value is no number"),
            Self::Overflow => f.write_str("the sum is beyond 64 bits"),
            Self::BadReply(Some(error)) => write!(f, "the answer cannot be read: {error}"),
            Self::BadReply(None) => f.write_str("the answer is to another question"),
            Self::Address { address, error } => write!(f, "address {address:?}: {error}"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(error) => Some(error),
            Self::BadReply(Some(error)) => Some(error),
            Self::Address { error, .. } | Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What a call came to, and what that stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// What it came to.
    pub value: T,
    /// `None` if it is committed and applied, or read linearizably, whatever was asked for; else the less that it is.
    pub basis: Option<Basis>,
}

impl<T> Answer<T> {
    fn map<U>(self, change: impl FnOnce(T) -> Result<U, Error>) -> Result<Answer<U>, Error> {
        let Self { value, basis } = self;
        change(value).map(|value| Answer { value, basis })
    }
}

/// A node as it was named, and where that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `HOST:PORT` or `unix:PATH`, as given.
    pub name: String,
    /// All addresses of the name.
    pub addresses: Vec<Endpoint>,
}

impl Node {
    /// Resolves a comma-separated list of `HOST:PORT` and `unix:PATH`. Blocks while the system resolves names.
    ///
    /// # Errors
    ///
    /// [`Error::Address`].
    pub fn resolve_list(list: &str) -> Result<Vec<Self>, Error> {
        let nodes: Vec<_> = list
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(Self::resolve)
            .collect::<Result<_, _>>()?;
        if nodes.is_empty() {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "no node is named");
            return Err(Error::Address {
                address: list.to_owned(),
                error,
            });
        }
        Ok(nodes)
    }

    fn resolve(name: &str) -> Result<Self, Error> {
        let addresses = match name.strip_prefix("unix:") {
            Some(path) => Ok(vec![Endpoint::Unix(path.into())]),
            None => name.to_socket_addrs().map(|found| found.map(Endpoint::Tcp).collect()),
        };
        match addresses {
            Ok(addresses) => Ok(Self {
                name: name.to_owned(),
                addresses,
            }),
            Err(error) => Err(Error::Address {
                address: name.to_owned(),
                error,
            }),
        }
    }
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Which.
    pub node: Node,
    /// What it says, or why it says nothing.
    pub report: Result<NodeReport, String>,
}

/// What became of a compare-and-set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swap {
    /// The key had the expected value and has the new one.
    Set,
    /// The key has this value, or is absent; nothing was changed.
    Mismatch(Option<Bytes>),
}

/// A page of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Keys and values, keys ascending.
    pub entries: Vec<(Bytes, Bytes)>,
    /// Whether keys follow that did not fit: scan again after the last key.
    pub more: bool,
}

/// A blocking client: one call at a time, each ends within [`Config::request_timeout`].
///
/// It finds the leader among the nodes that it was given, and goes with it when it changes.
#[derive(Debug)]
pub struct Client<A = Transport, P = Any> {
    runner: Runner<A, P>,
    nodes: Vec<Node>,
    trouble: Trouble,
    buffer: BytesMut,
}

impl Client {
    /// A client of the nodes in a comma-separated list of `HOST:PORT` and `unix:PATH`. Resolves the names; connects
    /// with the first call.
    ///
    /// # Errors
    ///
    /// [`Error::Address`], [`Error::Io`] if the system has no event loop to give.
    pub fn connect(nodes: &str) -> Result<Self, Error> {
        let config = Config {
            seed: seed(),
            ..Config::default()
        };
        Self::with_config(config, Node::resolve_list(nodes)?)
    }

    /// As [`connect`](Self::connect), with a configuration of one's own.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the system has no event loop to give.
    pub fn with_config(config: Config, nodes: Vec<Node>) -> Result<Self, Error> {
        let (client, _) = Self::with_backend(config, nodes, &unasked())?;
        Ok(client)
    }

    /// As [`with_config`](Self::with_config), on an event loop of one's choice. Returns also what the choice passed
    /// over, to be told.
    ///
    /// A client on a backend that is bound to its thread, which io-uring is, stays on the thread of its first call.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if there is no such event loop.
    pub fn with_backend(config: Config, nodes: Vec<Node>, choice: &Choice) -> Result<(Self, Vec<PassedOver>), Error> {
        Self::with_security(config, nodes, choice, &Security::default())
    }

    /// As [`with_backend`](Self::with_backend), with connections protected as `security` says.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if there is no such event loop.
    pub fn with_security(
        config: Config,
        nodes: Vec<Node>,
        choice: &Choice,
        security: &Security,
    ) -> Result<(Self, Vec<PassedOver>), Error> {
        Self::with_format(config, nodes, choice, security, Format::Binary)
    }

    /// As [`with_security`](Self::with_security), in a wire format of one's choice. The nodes need not speak it among
    /// themselves; it must be compiled into them.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if there is no such event loop.
    pub fn with_format(
        config: Config,
        nodes: Vec<Node>,
        choice: &Choice,
        security: &Security,
        format: Format,
    ) -> Result<(Self, Vec<PassedOver>), Error> {
        let adapter = kraft_adapters::Config {
            max_connections: 64.max(2 * nodes.iter().map(|node| node.addresses.len()).sum::<usize>()),
            ..kraft_adapters::Config::default()
        };
        let trouble = Trouble::default();
        let (transport, passed_over) = security.open(choice, &adapter, &trouble)?;
        let mut client = Self::on(config, nodes, transport, Any::new(format));
        client.trouble = trouble;
        Ok((client, passed_over))
    }
}

/// The backends of a client whose user names none: all that this program has, those first that any thread may turn.
///
/// Programs hand a client from thread to thread, which io_uring does not allow; and who waits for each answer gains
/// nothing by it (measured: 1.01 at one connection).
pub(crate) fn unasked() -> Choice {
    let any_thread = Backend::candidates().filter(|backend| *backend != Backend::IoUring);
    let mut rest = Backend::compiled().iter().copied().peekable();
    if rest.peek().is_none() {
        return Choice::default();
    }
    Choice::list(any_thread.chain(rest))
}

impl<A: Adapter, P: Protocol> Client<A, P> {
    /// A client on an adapter and a protocol of one's choice; the adapter is the client's alone.
    ///
    /// # Panics
    ///
    /// If there is no address.
    pub fn on(config: Config, nodes: Vec<Node>, adapter: A, protocol: P) -> Self {
        let addresses: Vec<_> = nodes.iter().flat_map(|node| node.addresses.iter().cloned()).collect();
        let client = kraft_core::client::Client::new(config, addresses);
        Self {
            runner: Runner::new(client, adapter, protocol),
            nodes,
            trouble: Trouble::default(),
            buffer: BytesMut::new(),
        }
    }

    /// The value of a key, `None` if it is absent. Linearizable.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.get_by(key, Consistency::Linearizable)?.value)
    }

    /// The value of a key, `None` if it is absent, as what is asked for knows it.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn get_by(&mut self, key: &[u8], consistency: Consistency) -> Result<Answer<Option<Bytes>>, Error> {
        Query::Get { key }.encode(&mut self.buffer);
        let query = self.buffer.split().freeze();
        self.read_by(query, consistency)?.map(|reply| match decode(&reply)? {
            Reply::Value(value) => Ok(Some(reply.slice_ref(value))),
            Reply::NotFound => Ok(None),
            _ => Err(Error::BadReply(None)),
        })
    }

    /// Sets a key.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.put_by(key, value, Commit::Strong).map(|_| ())
    }

    /// Sets a key, answered as `commit` says; on what, if on less than a majority's disks.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn put_by(&mut self, key: &[u8], value: &[u8], commit: Commit) -> Result<Option<Basis>, Error> {
        Command::Put { key, value }.encode(&mut self.buffer);
        let command = self.buffer.split().freeze();
        let answer = self.command_by(command, commit)?;
        if answer.basis.is_some() {
            return Ok(answer.basis);
        }
        match decode(&answer.value)? {
            Reply::Done => Ok(None),
            other => Err(unchanged(other)),
        }
    }

    /// Removes a key; whether it was there.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn delete(&mut self, key: &[u8]) -> Result<bool, Error> {
        let reply = self.execute(&Command::Delete { key })?;
        match decode(&reply)? {
            Reply::Done => Ok(true),
            Reply::NotFound => Ok(false),
            other => Err(unchanged(other)),
        }
    }

    /// Sets a key if it has the expected value, or if that is `None`, if it is absent.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn compare_and_set(&mut self, key: &[u8], expected: Option<&[u8]>, value: &[u8]) -> Result<Swap, Error> {
        let reply = self.execute(&Command::CompareAndSet { key, expected, value })?;
        match decode(&reply)? {
            Reply::Done => Ok(Swap::Set),
            Reply::Mismatch(value) => Ok(Swap::Mismatch(value.map(|value| reply.slice_ref(value)))),
            other => Err(unchanged(other)),
        }
    }

    /// Adds to a key whose value is a number in decimal text; an absent key counts as 0. Returns the sum.
    ///
    /// # Errors
    ///
    /// [`Error`], among it [`Error::NotANumber`] and [`Error::Overflow`].
    pub fn increment(&mut self, key: &[u8], by: i64) -> Result<i64, Error> {
        let reply = self.execute(&Command::Increment { key, by })?;
        match decode(&reply)? {
            Reply::Number(sum) => Ok(sum),
            other => Err(unchanged(other)),
        }
    }

    /// Keys that begin with `prefix` and are above `after` (empty: from the first), at most `limit` (0: as many as fit
    /// into a reply). Linearizable page by page.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn scan(&mut self, prefix: &[u8], after: &[u8], limit: u32) -> Result<Page, Error> {
        let reply = self.query(&Query::Scan { prefix, after, limit })?;
        match decode(&reply)? {
            Reply::Entries(page) => Ok(Page {
                entries: page
                    .iter()
                    .map(|(key, value)| (reply.slice_ref(key), reply.slice_ref(value)))
                    .collect(),
                more: page.more,
            }),
            _ => Err(Error::BadReply(None)),
        }
    }

    /// What each node says of itself, in the order of the nodes given, or why it says nothing. Asks all at once, each
    /// at its addresses in turn.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn status(&mut self) -> Result<Vec<NodeStatus>, Error> {
        let unasked = |node: &Node| NodeStatus {
            node: node.clone(),
            report: Err("the name has no address".into()),
        };
        let mut results: Vec<_> = self.nodes.iter().map(unasked).collect();
        self.trouble.forget();
        let longest = self.nodes.iter().map(|node| node.addresses.len()).max().unwrap_or(0);
        for attempt in 0..longest {
            let mut asked: Vec<(CallId, usize)> = Vec::new();
            let mut first_site = 0;
            for (at, NodeStatus { node, report }) in results.iter().enumerate() {
                if report.is_err() && attempt < node.addresses.len() {
                    let site = first_site + attempt;
                    let call = self.start(Request::Status { site })?;
                    asked.push((call, at));
                }
                first_site += node.addresses.len();
            }
            while !asked.is_empty() {
                let (call, end) = self.next_end()?;
                if let Some(place) = asked.iter().position(|(id, _)| *id == call) {
                    let (_, at) = asked.swap_remove(place);
                    if let End::Report(report) = end {
                        let address = self.nodes[at].addresses[attempt].to_string();
                        let explain = |why| self.trouble.at(&address).unwrap_or(why);
                        results[at].report = report.map(|report| *report).map_err(explain);
                    }
                }
            }
        }
        Ok(results)
    }

    /// Lets time pass while the client's connections are served.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn wait(&mut self, span: Duration) -> Result<(), Error> {
        self.runner.turn(Some(self.runner.now()))?;
        let until = self.runner.now() + span;
        while self.runner.now() < until {
            self.runner.turn(Some(until))?;
        }
        Ok(())
    }

    /// Has the state machine apply a command, once, and returns its reply. For state machines of one's own.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], [`Error::Unknown`], [`Error::Io`].
    pub fn command(&mut self, command: Bytes) -> Result<Bytes, Error> {
        Ok(self.command_by(command, Commit::Strong)?.value)
    }

    /// Has the state machine apply a command, once, answered as `commit` says. Without a basis the value is its reply;
    /// with one it is empty: the command is not applied, and may be lost.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], [`Error::Unknown`], [`Error::Io`].
    pub fn command_by(&mut self, command: Bytes, commit: Commit) -> Result<Answer<Bytes>, Error> {
        self.finish(Request::Command {
            command,
            delivery: Delivery::ExactlyOnce,
            commit,
        })
    }

    /// Asks the state machine and returns its answer. Linearizable. For state machines of one's own.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], [`Error::Unknown`], [`Error::Io`].
    pub fn read(&mut self, query: Bytes) -> Result<Bytes, Error> {
        Ok(self.read_by(query, Consistency::Linearizable)?.value)
    }

    /// Asks the state machine what holds as much as `consistency` says, and returns its answer.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], [`Error::Unknown`], [`Error::Io`].
    pub fn read_by(&mut self, query: Bytes, consistency: Consistency) -> Result<Answer<Bytes>, Error> {
        self.finish(Request::Read { query, consistency })
    }

    /// Hands leadership over: to a voter, or to the one that has most of the log. Returns who leads then.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] says how it ended otherwise: with [`Refusal::TimedOut`](kraft_core::message::Refusal),
    /// `Unreachable`, `UnknownMember`, or `Transferring` if that is under way already. [`Error::Unknown`],
    /// [`Error::Io`].
    pub fn transfer(&mut self, to: Option<NodeId>) -> Result<NodeId, Error> {
        let to = to.unwrap_or(NodeId::NONE);
        let reply = self.finish(Request::Transfer { to })?;
        Transfer::leader(&reply.value).ok_or(Error::BadReply(None))
    }

    fn execute(&mut self, command: &Command<'_>) -> Result<Bytes, Error> {
        command.encode(&mut self.buffer);
        let command = self.buffer.split().freeze();
        self.command(command)
    }

    fn query(&mut self, query: &Query<'_>) -> Result<Bytes, Error> {
        query.encode(&mut self.buffer);
        let query = self.buffer.split().freeze();
        self.read(query)
    }

    fn finish(&mut self, request: Request) -> Result<Answer<Bytes>, Error> {
        self.trouble.forget();
        let call = self.start(request)?;
        loop {
            match self.next_end()? {
                (id, End::Outcome(outcome)) if id == call => {
                    return match outcome {
                        Outcome::Committed(value) => Ok(Answer { value, basis: None }),
                        Outcome::Weaker { basis, answer: value } => Ok(Answer {
                            value,
                            basis: Some(basis),
                        }),
                        Outcome::Refused(refused) => Err(Error::Refused(self.trouble.explain(refused))),
                        Outcome::Unknown => Err(Error::Unknown),
                    };
                }
                // The end of a call that an I/O error once cut off.
                _ => {}
            }
        }
    }

    /// The turn before the call reads the clock, and sees whether the connection died while nobody looked.
    fn start(&mut self, request: Request) -> Result<CallId, Error> {
        let now = self.runner.now();
        self.runner.turn(Some(now))?;
        self.runner
            .call(request)
            .map_err(|error| Error::Io(io::Error::new(io::ErrorKind::WouldBlock, error)))
    }

    fn next_end(&mut self) -> Result<(CallId, End), Error> {
        loop {
            if let Some(done) = self.runner.poll_done() {
                return Ok(done);
            }
            self.runner.turn(None)?;
        }
    }
}

fn decode(reply: &[u8]) -> Result<Reply<'_>, Error> {
    Reply::decode(reply).map_err(|error| Error::BadReply(Some(error)))
}

/// A reply to a command that says why nothing was changed.
fn unchanged(reply: Reply<'_>) -> Error {
    match reply {
        Reply::NotANumber => Error::NotANumber,
        Reply::Overflow => Error::Overflow,
        _ => Error::BadReply(None),
    }
}

/// Randomness for jitter and nonces: the standard library's, which the system seeds.
pub(crate) fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
