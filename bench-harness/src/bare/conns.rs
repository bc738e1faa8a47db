//! The connections of a loop that is told of readiness: reads, does its job, keeps what a socket did not take.
//!
//! What the loop itself is (how it waits, what it registers) stands in the file of each. There is no limit to what a
//! fan-out keeps for a connection; an echo and a pump read no more while they have something to send.

use std::collections::VecDeque;
use std::os::fd::AsFd;

use bytes::{Buf, Bytes};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::job::Job;
use crate::request::Requests;
use crate::serve::READ_BUFFER;

/// SIGPIPE is ignored in programs of Rust, and `MSG_NOSIGNAL` is not everywhere.
const PLAIN: SendFlags = SendFlags::empty();

/// Connections by a small number: their descriptor, or a place that the loop gave them.
#[derive(Debug)]
pub(crate) struct Conns<S> {
    table: Vec<Option<Conn<S>>>,
    buffer: Vec<u8>,
    job: Job,
    /// What a fan-out could not send at once, by number: a level-triggered loop has to ask for these sockets.
    newly_blocked: Vec<usize>,
}

#[derive(Debug)]
struct Conn<S> {
    socket: S,
    /// What the system did not take, in order.
    unsent: VecDeque<Bytes>,
    /// What was received of a request.
    requests: Requests,
}

/// How much is read at an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// Once; the loop is told again.
    Once,
    /// Until a read does not fill the buffer: there is no more.
    UntilShort,
    /// Until there is no more or the end, which a short read does not tell.
    ToTheEnd,
}

/// What an event left a connection as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is sent.
    Goes,
    /// Unsent bytes wait for the socket.
    Blocked,
    /// It is to be removed.
    Over,
}

impl<S: AsFd> Conns<S> {
    pub(crate) fn new(job: Job, count: usize) -> Self {
        Self {
            table: Vec::with_capacity(count),
            buffer: vec![0; READ_BUFFER],
            job,
            newly_blocked: Vec::new(),
        }
    }

    pub(crate) fn insert(&mut self, at: usize, socket: S) {
        if self.table.len() <= at {
            self.table.resize_with(at + 1, || None);
        }
        self.table[at] = Some(Conn {
            socket,
            unsent: VecDeque::new(),
            requests: Requests::default(),
        });
    }

    pub(crate) fn remove(&mut self, at: usize) -> Option<S> {
        self.table[at].take().map(|conn| conn.socket)
    }

    pub(crate) fn socket(&self, at: usize) -> Option<&S> {
        self.table.get(at)?.as_ref().map(|conn| &conn.socket)
    }

    /// Whether unsent bytes wait for its socket.
    pub(crate) fn is_blocked(&self, at: usize) -> bool {
        let conn = self.table.get(at).and_then(Option::as_ref);
        conn.is_some_and(|conn| !conn.unsent.is_empty())
    }

    /// Those that a fan-out has left with unsent bytes since the last call.
    pub(crate) fn newly_blocked(&mut self) -> Option<usize> {
        self.newly_blocked.pop()
    }

    /// Acts on an event. A connection that is not there is one that has gone since the wait.
    pub(crate) fn turn(&mut self, at: usize, is_readable: bool, reads: Reads) -> Outcome {
        let Some(conn) = self.table.get_mut(at).and_then(Option::as_mut) else {
            return Outcome::Goes;
        };
        let was_blocked = !conn.unsent.is_empty();
        if was_blocked {
            let outcome = conn.flush();
            if outcome != Outcome::Goes {
                return outcome;
            }
        }
        // What came while it was blocked had its edge already.
        if was_blocked || is_readable {
            return self.answer(at, reads);
        }
        Outcome::Goes
    }

    fn answer(&mut self, at: usize, reads: Reads) -> Outcome {
        let Self {
            table,
            buffer,
            job,
            newly_blocked,
        } = self;
        loop {
            let Some(conn) = &mut table[at] else {
                return Outcome::Goes;
            };
            let count = match recv(&conn.socket, &mut **buffer, RecvFlags::empty()) {
                Ok((_, 0)) => return Outcome::Over,
                Ok((_, count)) => count,
                Err(Errno::AGAIN) => return Outcome::Goes,
                Err(Errno::INTR) => continue,
                Err(_) => return Outcome::Over,
            };
            let bytes = &buffer[..count];
            let outcome = match job {
                Job::Pump => conn.reply(bytes),
                Job::FanOut => {
                    fan_out(table, at, bytes, newly_blocked);
                    Outcome::Goes
                }
                _ => conn.send(bytes),
            };
            let is_short = count < buffer.len();
            if outcome != Outcome::Goes || reads == Reads::Once || (is_short && reads == Reads::UntilShort) {
                return outcome;
            }
        }
    }
}

/// Sends to all but `from`. One that fails is left to its own event.
fn fan_out<S: AsFd>(table: &mut [Option<Conn<S>>], from: usize, bytes: &[u8], newly_blocked: &mut Vec<usize>) {
    for (at, conn) in table.iter_mut().enumerate() {
        let Some(conn) = conn.as_mut().filter(|_| at != from) else {
            continue;
        };
        let was_blocked = !conn.unsent.is_empty();
        if conn.send(bytes) == Outcome::Blocked && !was_blocked {
            newly_blocked.push(at);
        }
    }
}

impl<S: AsFd> Conn<S> {
    /// Sends, or copies what the system does not take.
    fn send(&mut self, bytes: &[u8]) -> Outcome {
        if !self.unsent.is_empty() {
            // The socket has said that it will tell.
            self.unsent.push_back(Bytes::copy_from_slice(bytes));
            return Outcome::Blocked;
        }
        match self.try_send(bytes) {
            Err(outcome) => outcome,
            Ok(sent) if sent == bytes.len() => Outcome::Goes,
            Ok(sent) => {
                self.unsent.push_back(Bytes::copy_from_slice(&bytes[sent..]));
                self.flush()
            }
        }
    }

    /// Replies to the requests in `bytes`.
    fn reply(&mut self, mut bytes: &[u8]) -> Outcome {
        let mut outcome = Outcome::Goes;
        while let Some(mut reply) = self.requests.next(&mut bytes) {
            if !self.unsent.is_empty() {
                self.unsent.push_back(reply);
                continue;
            }
            match self.try_send(&reply) {
                Err(outcome) => return outcome,
                Ok(sent) if sent == reply.len() => {}
                Ok(sent) => {
                    reply.advance(sent);
                    self.unsent.push_back(reply);
                    outcome = self.flush();
                }
            }
        }
        outcome
    }

    /// How much the system takes at once.
    fn try_send(&self, bytes: &[u8]) -> Result<usize, Outcome> {
        match send(&self.socket, bytes, PLAIN) {
            Ok(sent) => Ok(sent),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(_) => Err(Outcome::Over),
        }
    }

    /// Sends what is unsent, until it is or the socket takes no more.
    fn flush(&mut self) -> Outcome {
        while let Some(first) = self.unsent.front_mut() {
            match send(&self.socket, first, PLAIN) {
                Ok(sent) => first.advance(sent),
                Err(Errno::AGAIN) => return Outcome::Blocked,
                Err(Errno::INTR) => {}
                Err(_) => return Outcome::Over,
            }
            if first.is_empty() {
                self.unsent.pop_front();
            }
        }
        Outcome::Goes
    }
}
