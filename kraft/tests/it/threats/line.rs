//! A connection to a node, whose other end is played by hand.

use std::io::{ErrorKind, Read, Write};

use kraft::adapters::mock::Remote;
use kraft::id::{ClusterId, GroupId, Incarnation, Index, NodeId, RequestId, Sequence, SessionId, Term};
use kraft::message::{self, Body, Command, Header, Hello, Message, Role, Versions, Welcome};
use kraft::protocol::{Decoded, Limits, Protocol};
use kraft::protocols::Binary;
use kraft_core::outbox::{Outbox, Segments};

/// The cluster of the lab and of the live nodes.
pub(super) const CLUSTER: &str = "threatened";

pub(super) const LIMITS: Limits = Limits {
    frame_max: 4 << 20,
    entries_max: 4096,
};

/// One end of a connection; `S` is its socket.
#[derive(Debug)]
pub(super) struct Line<S = Remote> {
    pub(super) socket: S,
    /// What came and was not taken.
    came: Vec<u8>,
}

/// The frame of a message.
pub(super) fn frame(message: &Message<'_>) -> Vec<u8> {
    let mut outbox = Outbox::new(2 * LIMITS.frame_max);
    Binary
        .encode(message, LIMITS.frame_max, &mut outbox)
        .expect("below every limit");
    let mut segments = Segments::new();
    outbox.take(&mut segments);
    segments.slices().collect::<Vec<_>>().concat()
}

/// The header of a message from `from`, [`NodeId::NONE`] for a client.
pub(super) fn header(from: NodeId, term: u64, request: u64) -> Header {
    Header {
        cluster: ClusterId::from_name(CLUSTER),
        group: GroupId(0),
        from,
        term: Term(term),
        request: RequestId(request),
    }
}

/// A message of a client.
pub(super) fn ask(request: u64, body: Body<'_>) -> Vec<u8> {
    frame(&Message {
        header: header(NodeId::NONE, 0, request),
        body,
    })
}

pub(super) fn command(text: &[u8]) -> Body<'_> {
    Body::Command(Command {
        session: SessionId(0),
        sequence: Sequence(0),
        first_unanswered: Sequence(0),
        command: text,
        commit: message::Commit::Strong,
    })
}

pub(super) fn read(query: &[u8]) -> Body<'_> {
    Body::Read(message::Read {
        query,
        consistency: message::Consistency::Linearizable,
    })
}

/// The hello of a client.
pub(super) fn client() -> Message<'static> {
    hello(Role::Client, NodeId::NONE, NodeId::NONE, Incarnation(0))
}

/// The hello of the node `from` to the node `to`.
pub(super) fn peer(from: u64, to: u64, incarnation: u64) -> Message<'static> {
    hello(Role::Peer, NodeId(from), NodeId(to), Incarnation(incarnation))
}

fn hello(role: Role, from: NodeId, to: NodeId, incarnation: Incarnation) -> Message<'static> {
    Message {
        header: header(from, 0, 0),
        body: Body::Hello(Hello {
            role,
            to,
            incarnation,
            nonce: 0xa11,
            versions: Versions::OURS,
            features: 0,
            frame_max: LIMITS.frame_max as u32,
            cluster_name: CLUSTER,
            membership: Index::ZERO,
        }),
    }
}

/// The answer of the node `from` to a hello with this nonce.
pub(super) fn welcome(from: u64, incarnation: u64, nonce: u64) -> Message<'static> {
    Message {
        header: header(NodeId(from), 0, 0),
        body: Body::Welcome(Welcome {
            incarnation: Incarnation(incarnation),
            nonce,
            version: Versions::OURS.max,
            features: 0,
            frame_max: LIMITS.frame_max as u32,
        }),
    }
}

impl<S: Read + Write> Line<S> {
    pub(super) fn new(socket: S) -> Self {
        Self {
            socket,
            came: Vec::new(),
        }
    }

    pub(super) fn say(&mut self, message: &Message<'_>) {
        self.send(&frame(message));
    }

    /// Sends all of it; the node must take it.
    #[track_caller]
    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("the node takes it");
    }

    /// Sends as much as the node takes; whether that was all.
    pub(super) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).is_ok()
    }

    /// Waits for the next message, as text; `None` at the connection's end. For sockets whose reads wait.
    #[track_caller]
    pub(super) fn next(&mut self) -> Option<String> {
        loop {
            if let Ok(Decoded::Message { message, consumed }) = Binary.decode(&self.came, &LIMITS) {
                let text = format!("{:?}", message.body);
                self.came.drain(..consumed);
                return Some(text);
            }
            let mut buffer = [0; 16 << 10];
            match self.socket.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.came.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("nothing came"),
                Err(_) => return None,
            }
        }
    }

    /// Reads what has come, without waiting; whether the connection is at its end.
    pub(super) fn take_in(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return true,
                Ok(count) => self.came.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => return true,
            }
        }
    }

    /// Every whole message that has come, judged one by one.
    pub(super) fn hear<T>(&mut self, mut judge: impl FnMut(&Message<'_>) -> T) -> Vec<T> {
        self.take_in();
        let (mut heard, mut at) = (Vec::new(), 0);
        while let Ok(Decoded::Message { message, consumed }) = Binary.decode(&self.came[at..], &LIMITS) {
            heard.push(judge(&message));
            at += consumed;
        }
        self.came.drain(..at);
        heard
    }

    /// Every whole message that has come, as text.
    pub(super) fn heard(&mut self) -> Vec<String> {
        self.hear(|message| format!("{:?}", message.body))
    }

    /// All that has come, as it came.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.take_in();
        std::mem::take(&mut self.came)
    }

    /// How many bytes came that were not taken as messages.
    pub(super) fn raw(&mut self) -> usize {
        self.take_in();
        self.came.len()
    }
}
