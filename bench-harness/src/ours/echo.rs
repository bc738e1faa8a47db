//! What was received goes back.

use std::collections::HashMap;

use kraft_core::adapter::Event;
use kraft_core::id::ConnId;
use kraft_core::link::{CloseMode, Link};
use kraft_core::outbox::Full;

/// What it keeps.
pub(super) struct Echo {
    /// Into how many puts it is cut.
    pieces: usize,
    /// What an outbox had no room for, by connection; its connection is paused until then.
    held: HashMap<ConnId, Vec<u8>>,
}

impl Echo {
    pub(super) fn new(pieces: usize) -> Self {
        let pieces = pieces.max(1);
        let held = HashMap::new();
        Self { pieces, held }
    }

    #[inline]
    pub(super) fn answer(&mut self, event: Event<'_>) {
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

    #[inline]
    fn put(&mut self, conn: ConnId, bytes: &[u8], link: &mut Link) {
        if let Some(held) = self.held.get_mut(&conn) {
            // What a pause came too late for.
            held.extend_from_slice(bytes);
            return;
        }
        let mut rest = bytes;
        for put in 0..self.pieces {
            let (piece, behind) = rest.split_at(rest.len().div_ceil(self.pieces - put));
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
    use crate::ours::taken;

    #[test]
    fn pieces_make_the_whole() {
        let bytes: Vec<u8> = (0..=250).collect();
        for pieces in [1, 16, 251, 300] {
            let mut echo = Echo::new(pieces);
            let mut link = Link::new(1000);
            echo.put(ConnId::new(0, 0), &bytes, &mut link);
            assert_eq!(taken(&mut link), bytes, "{pieces}");
        }
    }

    #[test]
    fn what_does_not_fit_is_held_and_sent_in_order() {
        let conn = ConnId::new(0, 0);
        let mut echo = Echo::new(2);
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
