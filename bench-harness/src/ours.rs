//! Echo over an adapter of Kraft, as a user of the trait would write it.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;

use kraft_adapters::Config;
use kraft_core::adapter::{Adapter, Endpoint, Event, ListenOptions};
use kraft_core::id::ConnId;
use kraft_core::link::{CloseMode, Link};
use kraft_core::outbox::Full;

use crate::serve::{self, BACKLOG, READ_BUFFER, Task};

/// Room beside the connections of the load.
const SPARE_CONNECTIONS: usize = 16;

/// Serves echo over the adapter that `open` opens.
pub(crate) fn serve<A: Adapter>(open: fn(&Config) -> io::Result<A>, task: &Task) -> io::Result<()> {
    let max_connections = task.connections + SPARE_CONNECTIONS;
    let config = Config {
        max_connections,
        read_buffer: READ_BUFFER,
        spin: task.spin,
        ..Config::default()
    };
    let mut adapter = open(&config)?;
    let at = Endpoint::Tcp((Ipv4Addr::LOCALHOST, 0).into());
    let options = ListenOptions {
        max_connections,
        backlog: BACKLOG.unsigned_abs(),
        ..ListenOptions::default()
    };
    let listener = adapter.listen(&at, options)?;
    match adapter.local_endpoint(listener)? {
        Endpoint::Tcp(address) => serve::announce(address)?,
        at @ Endpoint::Unix(_) => return Err(io::Error::other(format!("asked for TCP, got {at}"))),
    }
    let mut echo = Echo {
        pieces: task.puts.max(1),
        held: HashMap::new(),
    };
    loop {
        adapter.poll(None, |_, event| echo.answer(event))?;
    }
}

/// What was received goes back.
struct Echo {
    /// Into how many puts it is cut.
    pieces: usize,
    /// What an outbox had no room for, by connection; its connection is paused until then.
    held: HashMap<ConnId, Vec<u8>>,
}

impl Echo {
    fn answer(&mut self, event: Event<'_>) {
        match event {
            Event::Received { conn, bytes, link } => self.put(conn, bytes, link),
            Event::Drained { conn, link } => {
                if let Some(bytes) = self.held.remove(&conn) {
                    link.resume();
                    self.put(conn, &bytes, link);
                }
            }
            Event::Ended { link, .. } => link.close(CloseMode::Flush),
            Event::Closed { conn, .. } => {
                self.held.remove(&conn);
            }
            _ => {}
        }
    }

    fn put(&mut self, conn: ConnId, bytes: &[u8], link: &mut Link) {
        if let Some(held) = self.held.get_mut(&conn) {
            // What a pause came too late for.
            held.extend_from_slice(bytes);
            return;
        }
        let mut rest = bytes;
        for left in (1..=self.pieces).rev() {
            let (piece, behind) = rest.split_at(rest.len().div_ceil(left));
            if let Err(Full) = link.outbox().put(piece) {
                link.pause();
                self.held.insert(conn, rest.to_vec());
                return;
            }
            rest = behind;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an outbox holds, as it would be sent.
    fn taken(link: &mut Link) -> Vec<u8> {
        let mut segments = kraft_core::outbox::Segments::new();
        link.outbox().take(&mut segments);
        let bytes = segments.slices().flat_map(|slice| slice.to_vec()).collect();
        let count = segments.len();
        segments.advance(count);
        link.outbox().settle(0);
        bytes
    }

    #[test]
    fn pieces_make_the_whole() {
        let bytes: Vec<u8> = (0..=250).collect();
        for pieces in [1, 16, 251, 300] {
            let mut echo = Echo {
                pieces,
                held: HashMap::new(),
            };
            let mut link = Link::new(1000);
            echo.put(ConnId::new(0, 0), &bytes, &mut link);
            assert_eq!(taken(&mut link), bytes, "{pieces}");
        }
    }

    #[test]
    fn what_does_not_fit_is_held_and_sent_in_order() {
        let conn = ConnId::new(0, 0);
        let mut echo = Echo {
            pieces: 2,
            held: HashMap::new(),
        };
        let mut link = Link::new(6);
        echo.put(conn, b"abcd", &mut link);
        echo.put(conn, b"efgh", &mut link);
        assert!(link.intents().paused);
        echo.put(conn, b"i", &mut link);
        assert_eq!(taken(&mut link), b"abcdef");
        assert!(link.outbox().pop_drained());
        echo.answer(Event::Drained { conn, link: &mut link });
        assert!(!link.intents().paused);
        assert_eq!(taken(&mut link), b"ghi");
    }
}
