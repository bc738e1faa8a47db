//! A client of the cluster: as a pure state machine, and on any adapter.
//!
//! [`Client`] finds the leader among the addresses that it was given, sends requests there, follows redirects, retries
//! what may be retried and ends every call in exactly one [`Outcome`]. It opens no socket and reads no clock:
//! connections, messages and time go in by methods, and [`Client::poll_output`] hands out what to do. [`Runner`]
//! performs that on an [`Adapter`](crate::adapter::Adapter) and a [`Protocol`](crate::protocol::Protocol), turn by
//! turn, alone or inside a loop of the user's.
//!
//! # What a call ends in
//!
//! An outcome is the worst over all attempts. [`Outcome::Refused`] promises that *no* attempt happened or will happen:
//! a refusal that follows an attempt without an answer ends as [`Outcome::Unknown`]. What is uncertain is tried again
//! only where that cannot apply it twice: reads, and commands with [`Delivery::ExactlyOnce`], which carry the session
//! that the client opens when it first needs one.
//!
//! # Whom it believes
//!
//! A leader hint is a node's id. The client learns ids from hellos of the addresses that it was given and dials nothing
//! else, so that no reply can send it to an address of somebody's choice.
//!
//! Calls that are in flight together are not ordered: wait for one before the next if the order matters.

mod answer;
mod call;
mod download;
mod engine;
mod fetch;
mod output;
mod route;
mod run;
mod send;
mod session;
mod site;
mod status;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::time::Duration;

pub use call::{CallId, Delivery, Outcome, Refused, Request, TooMany};
pub use download::{Download, Wrong};
pub use engine::Client;
pub use fetch::{NoPiece, Piece};
pub use output::{End, Output, Sending};
pub use run::{Runner, SPEAKS_TLS};
pub use status::{MemberReport, NodeReport};

/// How a client behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The cluster's name; without it the client takes the cluster that answers first, and no other.
    pub cluster: Option<String>,
    /// The largest frame that the client takes, in bytes, header included.
    pub frame_max: u32,
    /// How long a call may take, all attempts together.
    pub request_timeout: Duration,
    /// How long an attempt may go without an answer before it is repeated, where it may be.
    pub attempt_timeout: Duration,
    /// How long a connection may take until the node has welcomed it.
    pub connect_timeout: Duration,
    /// The wait after all sites refused, or one is overloaded: doubled from the start up to the end, with jitter. Its
    /// end is what an election may cost a call on top.
    pub backoff: Range<Duration>,
    /// The wait before a site is dialled again, in the same way.
    pub redial: Range<Duration>,
    /// Requests in flight; also how far a session's sequences reach ahead of the first unanswered one. Below
    /// `replies_max` of [`session::Limits`](crate::session::Limits).
    pub in_flight_max: usize,
    /// Payload bytes in flight; a single request may be larger. Below the adapter's `write_queue_max`.
    pub in_flight_bytes_max: usize,
    /// Calls that are not answered, in flight or waiting.
    pub calls_max: usize,
    /// Seeds jitter and nonces.
    pub seed: u64,
}

impl Default for Config {
    /// Any cluster; 5 s a call, 1 s an attempt and a connection; waits of 5 to 100 ms, 5 to 500 ms before
    /// a dial; 128 requests and 512 KiB in flight of 4,096 calls.
    fn default() -> Self {
        Self {
            cluster: None,
            frame_max: 1 << 20,
            request_timeout: Duration::from_secs(5),
            attempt_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
            backoff: Duration::from_millis(5)..Duration::from_millis(100),
            redial: Duration::from_millis(5)..Duration::from_millis(500),
            in_flight_max: 128,
            in_flight_bytes_max: 512 << 10,
            calls_max: 4096,
            seed: 0,
        }
    }
}
