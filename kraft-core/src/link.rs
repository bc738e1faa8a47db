//! A connection as its user holds it.

use crate::adapter::Event;
use crate::id::ConnId;
use crate::outbox::Outbox;

/// How to close a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseMode {
    /// Send what was put, shut down writing, discard input until the peer's FIN, then close; bounded by
    /// `Config::linger` (law A9).
    Flush,
    /// Drop what was put and close. No `Received` follows (law A4).
    Now,
}

/// A connection as its user holds it: an [`Outbox`] and intents, acted on by the next flush or poll.
///
/// Lent by events and by [`Adapter::link`](crate::adapter::Adapter::link). What the kernel holds is never reachable
/// through it: a backend moves segments out of the outbox before it hands them over, so that even a `mem::swap` of
/// two links only misroutes bytes that are still to be sent.
///
/// # For backends and wrappers
///
/// Whenever a link was in the user's hands, compare [`intents`](Self::intents) with what was done about them so far,
/// and ask the outbox for [`waiting`](Outbox::waiting) bytes and [news](Outbox::has_news), which [`tell`](Self::tell)
/// delivers. The outbox's side is described at [`Outbox`]. A wrapper gives its users links of its own and moves bytes between those and the inner
/// ones.
#[derive(Debug)]
pub struct Link {
    outbox: Outbox,
    intents: Intents,
    /// What the other end proved.
    proof: Option<Box<[String]>>,
}

/// What the user wants of a connection, as it stands. Read by backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Intents {
    /// To close it, and how. A later `Now` overrides a `Flush`, never the other way round.
    pub close: Option<CloseMode>,
    /// To get no more bytes for a while (law A10).
    pub paused: bool,
}

impl Link {
    /// A link whose outbox holds at most `write_queue_max` bytes. Called by backends.
    #[must_use]
    pub fn new(write_queue_max: usize) -> Self {
        Self {
            outbox: Outbox::new(write_queue_max),
            intents: Intents::default(),
            proof: None,
        }
    }

    /// Where to put what is to be sent.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Closes the connection. `Closed` follows. From here on the outbox refuses what is put.
    pub fn close(&mut self, mode: CloseMode) {
        self.outbox.close();
        if self.intents.close != Some(CloseMode::Now) {
            self.intents.close = Some(mode);
        }
    }

    /// Whether a close was asked for.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.intents.close.is_some()
    }

    /// Stops delivery of received bytes within one turn.
    pub fn pause(&mut self) {
        self.intents.paused = true;
    }

    /// Takes delivery up again; nothing was lost.
    pub fn resume(&mut self) {
        self.intents.paused = false;
    }

    /// The names that the other end has proved to bear, by a certificate for one: there from `Accepted` or `Connected`
    /// on. `None` where the way to it proves nothing, as over plain TCP.
    ///
    /// It stands here and not in an event, because who needs it (the judge of a hello) needs it when bytes arrive, and
    /// because backends that prove nothing then need not know of it.
    #[must_use]
    pub fn proof(&self) -> Option<&[String]> {
        self.proof.as_deref()
    }

    /// Says what the other end has proved. For wrappers, before the link is lent for the first time.
    pub fn prove(&mut self, names: Vec<String>) {
        self.proof = Some(names.into_boxed_slice());
    }

    /// What the user wants. For backends.
    #[must_use]
    pub fn intents(&self) -> Intents {
        self.intents
    }

    /// Lends what is due of `Written` and `Drained` to `emit`, to nobody who cut the connection meanwhile. For backends,
    /// in a turn of a connection that has [begun](crate::adapter::Adapter#laws) (law A1).
    pub fn tell(&mut self, conn: ConnId, mut emit: impl FnMut(Event<'_>)) {
        let mut last = None;
        while self.intents.close != Some(CloseMode::Now)
            && let Some(mark) = self.outbox.pop_written()
        {
            emit(Event::Written { conn, mark, link: self });
            // Who marks the same place in answer has his next `Written` in the next turn, or this one had no end.
            if last.replace(mark) == Some(mark) {
                return;
            }
        }
        if self.intents.close != Some(CloseMode::Now) && self.outbox.pop_drained() {
            emit(Event::Drained { conn, link: self });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::Full;

    #[test]
    fn now_overrides_flush_and_never_the_other_way_round() {
        let mut link = Link::new(100);
        assert!(!link.is_closing());
        link.close(CloseMode::Flush);
        assert_eq!(link.intents().close, Some(CloseMode::Flush));
        link.close(CloseMode::Now);
        link.close(CloseMode::Flush);
        assert_eq!(link.intents().close, Some(CloseMode::Now));
    }

    /// What `tell` lends to somebody who does `answer` each time.
    fn told(link: &mut Link, answer: fn(&mut Link)) -> Vec<Option<u64>> {
        let mut told = Vec::new();
        link.tell(ConnId::new(1, 2), |event| {
            let (mark, link) = match event {
                Event::Written { mark, link, .. } => (Some(mark), link),
                Event::Drained { link, .. } => (None, link),
                other => panic!("{other:?}"),
            };
            told.push(mark);
            answer(link);
        });
        told
    }

    #[test]
    fn marks_are_told_in_order_and_room_behind_them() {
        let mut link = Link::new(4);
        for _ in 0..2 {
            link.outbox().put(b"ab").expect("it fits");
            link.outbox().mark();
        }
        assert_eq!(link.outbox().put(b"!"), Err(Full));
        assert_eq!(told(&mut link, |_| ()), []);
        let mut taken = crate::outbox::Segments::new();
        link.outbox().take(&mut taken);
        link.outbox().settle(0);
        assert_eq!(told(&mut link, |_| ()), [Some(2), Some(4), None]);
        assert_eq!(told(&mut link, |_| ()), []);
    }

    #[test]
    fn who_marks_in_answer_is_told_in_the_next_turn_and_who_cuts_never() {
        let mut link = Link::new(4);
        link.outbox().mark();
        let again = |link: &mut Link| {
            link.outbox().mark();
        };
        assert_eq!(told(&mut link, again), [Some(0), Some(0)]);
        assert_eq!(told(&mut link, |link| link.close(CloseMode::Now)), [Some(0)]);
        link.outbox().mark();
        assert_eq!(told(&mut link, |_| ()), []);
    }

    #[test]
    fn a_closing_link_takes_nothing_more() {
        let mut link = Link::new(100);
        link.outbox().put(b"accepted").expect("it fits");
        link.close(CloseMode::Flush);
        assert_eq!(link.outbox().put(b"refused"), Err(Full));
        assert_eq!(link.outbox().waiting(), 8);
    }

    #[test]
    fn pause_and_resume_are_a_state() {
        let mut link = Link::new(100);
        link.pause();
        link.pause();
        assert!(link.intents().paused);
        link.resume();
        assert!(!link.intents().paused);
    }
}
