//! A connection and what it has to send.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use crate::request::Requests;

/// Slices that wait in a connection before it receives no more: an eighth of the buffers, so that a few clients that
/// do not read cannot hold them all.
const UNSENT_MAX: usize = 32;

pub(super) struct Conn {
    /// Closed only when neither a receive nor a send is under way, so that no completion meets another connection.
    pub(super) socket: OwnedFd,
    /// What is to be sent, the first of them being sent.
    pub(super) unsent: VecDeque<Slice>,
    pub(super) requests: Requests,
    pub(super) receives: Receives,
    pub(super) is_over: bool,
}

/// What its receive does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receives {
    /// Nothing: it has ended.
    No,
    Yes,
    /// It found no buffer, and waits in the server's queue.
    Starves,
    /// It was asked to end; more may come before it does.
    Ends,
}

/// Memory that stays until it is sent.
#[derive(Clone, Copy)]
pub(super) struct Slice {
    /// The buffer that it is part of; a part of the pattern without one.
    pub(super) buffer: Option<u16>,
    pub(super) from: *const u8,
    pub(super) bytes: u32,
}

impl Conn {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            unsent: VecDeque::new(),
            requests: Requests::default(),
            receives: Receives::No,
            is_over: false,
        }
    }

    /// Whether it is to receive no more until something is sent.
    pub(super) fn is_full(&self) -> bool {
        self.unsent.len() >= UNSENT_MAX
    }

    /// Whether it is to receive again.
    pub(super) fn may_receive(&self) -> bool {
        self.receives == Receives::No && !self.is_over && self.unsent.len() <= UNSENT_MAX / 2
    }

    /// Whether no completion can come for it any more.
    pub(super) fn is_quiet(&self) -> bool {
        self.is_over && self.receives == Receives::No && self.unsent.is_empty()
    }
}
