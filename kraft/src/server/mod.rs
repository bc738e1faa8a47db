//! A node with its blocking work done: helper threads for the disk and for names, and a loop of its own.
//!
//! [`Server::run`] owns the loop. Inside another loop, wait on [`Server::poll_fd`] until [`Server::next_wait`]
//! and call [`Server::turn`].

mod baton;
mod lanes;
mod open;

use std::os::fd::BorrowedFd;
use std::time::Duration;

use kraft_core::adapter::{Adapter, Endpoint, ListenOptions};
use kraft_core::id::{Incarnation, NodeId};
use kraft_core::machine::StateMachine;
use kraft_core::message::Role;
use kraft_core::node::{Failure, Handle, Node, Service};
use kraft_core::protocol::Protocol;
use kraft_core::storage::{Fault, Storage};
use kraft_core::time::Instant;

use self::lanes::{Folder, Lanes};
pub use self::open::OpenError;

/// A [`Node`] whose [`Task`](kraft_core::node::Task)s are done for it.
#[derive(Debug)]
pub struct Server<A, P, S: Storage, M> {
    node: Node<A, P, S, M>,
    lanes: Lanes<S::Work>,
}

impl<A, P, S, M> Server<A, P, S, M>
where
    A: Adapter,
    P: Protocol,
    S: Storage,
    M: StateMachine,
{
    /// Takes a node over. `remember` records a peer's incarnation durably; it runs on a helper thread.
    pub fn new(
        node: Node<A, P, S, M>,
        remember: impl FnMut(NodeId, Incarnation) -> Result<(), Fault> + Send + 'static,
    ) -> Self {
        let lanes = Lanes::new(node.waker(), Folder::of(remember));
        Self { node, lanes }
    }

    /// `forget` records durably that the damage to the node's log is made up for: needed if the node is
    /// [recovering](kraft_core::raft::Config::recovering). It runs on a helper thread, once.
    #[must_use]
    pub fn forgetting_damage(mut self, forget: impl FnMut() -> Result<(), Fault> + Send + 'static) -> Self {
        self.lanes.forget_damage_by(Box::new(forget));
        self
    }

    /// See [`Node::listen`].
    ///
    /// # Errors
    ///
    /// The adapter's; the text names the endpoint.
    pub fn listen(&mut self, role: Role, at: &Endpoint, options: ListenOptions) -> std::io::Result<Endpoint> {
        self.node.listen(role, at, options)
    }

    /// See [`Node::serve`].
    ///
    /// # Errors
    ///
    /// The adapter's; the text names the endpoint.
    pub fn serve(
        &mut self,
        service: Box<dyn Service>,
        at: &Endpoint,
        options: ListenOptions,
    ) -> std::io::Result<Endpoint> {
        self.node.serve(service, at, options)
    }

    /// The node, from any thread.
    pub fn handle(&self) -> Handle {
        self.node.handle()
    }

    /// The node.
    pub fn node(&self) -> &Node<A, P, S, M> {
        &self.node
    }

    /// Readable whenever a turn would find work. `None` if the backend has no such descriptor.
    pub fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.node.poll_fd()
    }

    /// How long to wait for [`poll_fd`](Self::poll_fd) at the most.
    pub fn next_wait(&mut self) -> Duration {
        self.node.next_deadline() - self.node.now()
    }

    /// One turn, all blocking work on helper threads. Waits until `deadline` at the most; one in the past, such as
    /// [`Instant::ZERO`], does not wait.
    ///
    /// # Errors
    ///
    /// [`Failure`] ends the node: drop it.
    pub fn turn(&mut self, deadline: Option<Instant>) -> Result<(), Failure> {
        self.node.poll(deadline)?;
        self.settle()?;
        while let Some(task) = self.node.next_task() {
            self.lanes.send(task);
        }
        Ok(())
    }

    /// Whether a stop was asked for, by [`Handle::stop`], and everything has taken leave.
    pub fn is_stopped(&self) -> bool {
        self.node.is_stopped()
    }

    fn settle(&mut self) -> Result<(), Failure> {
        for done in self.lanes.completed().map_err(Failure::Loop)? {
            self.node.complete(done)?;
        }
        self.node.settle()
    }
}

impl<A, P, S, M> Server<A, P, S, M>
where
    A: Adapter + Send,
    P: Protocol + Send,
    S: Storage + Send,
    M: StateMachine + Send,
{
    /// Turns the node until [`Handle::stop`], or until it was removed from its cluster, which
    /// [`Notice::Removed`](kraft_core::node::Notice::Removed) tells: it is of no more use then.
    ///
    /// Write and sync run on the loop's own thread while a second thread stands ready to take the loop over: a hand-off
    /// to a helper thread and back costs two wakes across cores, a good part of a sync, and is paid only if the disk
    /// stalls. See `baton.rs`. A loop that is bound to its thread stays there, and its syncs go to a helper thread.
    ///
    /// # Errors
    ///
    /// [`Failure`] ended the node.
    pub fn run(mut self) -> Result<(), Failure> {
        if !self.node.capabilities().thread_bound {
            return baton::run(Box::new(self));
        }
        while !self.is_stopped() {
            self.turn(None)?;
        }
        Ok(())
    }
}
