//! A snapshot on its way to a follower: which piece goes when. No I/O.
//!
//! The leader first asks how much of it is there, so that what broke off goes on, also behind another leader that has
//! the same one. Pieces then leave as long as less than a window is unanswered. The window follows the line: it grows
//! while answers are quick, and shrinks when a piece takes longer than a heartbeat may be late.

use std::time::Duration;

use bytes::Bytes;

use super::Config;
use super::receiving::QUEUED_MAX;
use crate::id::NodeId;
use crate::message::SnapshotId;
use crate::time::Instant;

/// What bounds a transfer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Bytes of a piece.
    pub(super) piece: u64,
    /// Bytes that may be unanswered at the most.
    pub(super) window_max: u64,
    /// An answer that takes longer makes the window smaller: the heartbeat interval.
    pub(super) slow: Duration,
    /// Without an answer for so long it is asked again how much is there.
    pub(super) ask_again: Duration,
    /// Without an answer for so long the transfer ends.
    pub(super) give_up: Duration,
}

/// What may wait in an outbox, pieces and all else together: heartbeats wait behind it.
pub(super) const OUTBOX_BYTES_MAX: u64 = 256 << 10;

impl Pace {
    pub(super) fn new(config: &Config, heartbeat_interval: Duration, frame_max: usize) -> Self {
        Self {
            // A larger one would wait for room that an outbox never has.
            piece: (config.piece_bytes.min(frame_max / 2) as u64).min(OUTBOX_BYTES_MAX),
            // A follower takes no more before it is written, and what follows from a question is on its way beside it.
            window_max: config.window_bytes.min(QUEUED_MAX / 2),
            slow: heartbeat_interval,
            ask_again: (config.timeout / 10).max(heartbeat_interval),
            give_up: config.timeout,
        }
    }
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask how much is there.
    Ask,
    /// Read a piece from the store.
    Read { offset: u64, length: usize },
    /// Send this piece.
    Put { offset: u64, piece: Bytes },
    /// Nothing until something comes.
    Wait,
}

/// One transfer.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) to: NodeId,
    pub(super) id: SnapshotId,
    /// The follower has everything before this; `None` until it said so.
    there: Option<u64>,
    /// What it had of this one when it last said so: what people are shown.
    told: u64,
    /// Everything before this was sent.
    sent: u64,
    /// A piece is being read.
    is_reading: bool,
    /// A piece that was read and not sent.
    ready: Option<Bytes>,
    window: u64,
    /// The end of a piece whose way is timed, and when it left.
    timed: Option<(u64, Instant)>,
    /// When it was asked last how much is there.
    asked: Option<Instant>,
    /// When the follower last answered, or the transfer began.
    heard: Instant,
    /// Nothing is done before this.
    rests_until: Instant,
    rest: Duration,
    /// The follower, or the disk here, says that it is damaged: the next one is to be sent.
    pub(super) is_distrusted: bool,
}

const REST_MIN: Duration = Duration::from_millis(500);
const REST_MAX: Duration = Duration::from_secs(30);

impl Sending {
    pub(super) fn new(to: NodeId, id: SnapshotId, pace: &Pace, now: Instant) -> Self {
        Self {
            to,
            id,
            there: None,
            told: 0,
            sent: 0,
            is_reading: false,
            ready: None,
            window: pace.piece,
            timed: None,
            asked: None,
            heard: now,
            rests_until: now,
            rest: REST_MIN,
            is_distrusted: false,
        }
    }

    /// Begins again, with another snapshot or with the same.
    pub(super) fn begin(&mut self, id: SnapshotId, now: Instant) {
        if id != self.id {
            self.told = 0;
        }
        self.id = id;
        self.there = None;
        self.sent = 0;
        self.ready = None;
        self.timed = None;
        self.asked = None;
        self.heard = now.max(self.rests_until);
        self.is_distrusted = false;
    }

    /// The follower cannot take it now, or it cannot be read.
    pub(super) fn refused(&mut self, is_distrusted: bool, now: Instant) {
        self.rests_until = now + self.rest;
        self.begin(self.id, now);
        self.rest = (self.rest * 2).min(REST_MAX);
        self.is_distrusted = is_distrusted;
    }

    /// What to do, if `room` bytes may leave now.
    pub(super) fn next(&mut self, room: u64, pace: &Pace, now: Instant) -> Next {
        if now < self.rests_until {
            return Next::Wait;
        }
        let is_silent = self
            .asked
            .is_none_or(|asked| now >= asked.max(self.heard) + pace.ask_again);
        let (Some(there), false) = (self.there, is_silent) else {
            if !is_silent {
                return Next::Wait;
            }
            self.asked = Some(now);
            self.there = None;
            self.ready = None;
            return Next::Ask;
        };
        if let Some(piece) = self.ready.take_if(|piece| piece.len() as u64 <= room) {
            let offset = self.sent;
            self.sent += piece.len() as u64;
            self.timed.get_or_insert((self.sent, now));
            return Next::Put { offset, piece };
        }
        let length = pace.piece.min(self.id.bytes - self.sent);
        let is_full = self.sent - there + length > self.window.max(pace.piece);
        if self.is_reading || self.ready.is_some() || length == 0 || is_full {
            return Next::Wait;
        }
        self.is_reading = true;
        Next::Read {
            offset: self.sent,
            length: usize::try_from(length).unwrap_or(usize::MAX),
        }
    }

    /// Whether the follower has not answered for too long.
    pub(super) fn is_given_up(&self, pace: &Pace, now: Instant) -> bool {
        now >= self.heard + pace.give_up
    }

    /// When [`next`](Self::next) has something without anything coming.
    pub(super) fn deadline(&self, pace: &Pace) -> Instant {
        let ask = self
            .asked
            .map_or(self.heard, |asked| asked.max(self.heard) + pace.ask_again);
        ask.min(self.heard + pace.give_up).max(self.rests_until)
    }

    /// A piece that was asked for was read.
    pub(super) fn read(&mut self, id: SnapshotId, offset: u64, piece: Bytes) {
        self.is_reading = false;
        // It was begun anew, or has gone back, since it was asked for.
        if id == self.id && offset == self.sent && self.there.is_some() {
            self.ready = Some(piece);
        }
    }

    /// How much of it the follower has, in hundredths.
    pub(super) fn percent(&self) -> u8 {
        u8::try_from(u128::from(self.told) * 100 / u128::from(self.id.bytes.max(1))).unwrap_or(100)
    }

    /// It could not be read.
    pub(super) fn not_read(&mut self) {
        self.is_reading = false;
    }

    /// The follower has everything before `there`. Whether that can be.
    pub(super) fn answered(&mut self, id: SnapshotId, there: u64, pace: &Pace, now: Instant) -> bool {
        if id != self.id {
            // Of a transfer before this one.
            return true;
        }
        if there > self.id.bytes {
            return false;
        }
        if now < self.rests_until {
            // Of pieces that were under way when it refused.
            return true;
        }
        self.heard = now;
        self.told = there;
        let Some(before) = self.there else {
            // The answer to a question, or a late one to a piece: where it goes on either way.
            self.there = Some(there);
            self.sent = there;
            self.ready = None;
            self.timed = None;
            return true;
        };
        if there > self.sent {
            // Of pieces that were under way before it was asked anew.
            self.sent = there;
            self.ready = None;
        }
        if there > before {
            self.there = Some(there);
            self.rest = REST_MIN;
        }
        if let Some((end, since)) = self.timed
            && there >= end
        {
            self.timed = None;
            self.window = if now >= since + pace.slow {
                (self.window / 2).max(pace.piece)
            } else {
                (self.window + pace.piece).min(pace.window_max)
            };
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        piece: 10,
        window_max: 40,
        slow: Duration::from_millis(50),
        ask_again: Duration::from_secs(1),
        give_up: Duration::from_secs(10),
    };

    fn id(bytes: u64) -> SnapshotId {
        SnapshotId {
            bytes,
            ..SnapshotId::default()
        }
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    /// Reads and puts pieces until it waits; what left.
    fn pump(sending: &mut Sending, now: Instant) -> Vec<u64> {
        let mut left = Vec::new();
        loop {
            match sending.next(u64::MAX, &PACE, now) {
                Next::Read { offset, length } => sending.read(sending.id, offset, Bytes::from(vec![0; length])),
                Next::Put { offset, .. } => left.push(offset),
                Next::Wait => return left,
                other => panic!("{other:?}"),
            }
        }
    }

    fn begun(bytes: u64, there: u64) -> Sending {
        let mut sending = Sending::new(NodeId(2), id(bytes), &PACE, at(0));
        assert_eq!(sending.next(u64::MAX, &PACE, at(0)), Next::Ask);
        assert_eq!(sending.next(u64::MAX, &PACE, at(0)), Next::Wait, "it is asked once");
        assert!(sending.answered(id(bytes), there, &PACE, at(1)));
        sending
    }

    #[test]
    fn what_broke_off_goes_on_where_it_was() {
        let mut sending = begun(35, 20);
        assert_eq!(pump(&mut sending, at(1)), [20]);
        assert!(sending.answered(id(35), 30, &PACE, at(2)));
        assert_eq!(pump(&mut sending, at(2)), [30]);
        assert!(sending.answered(id(35), 35, &PACE, at(3)));
        assert_eq!(pump(&mut sending, at(3)), [0_u64; 0]);
    }

    #[test]
    fn the_window_grows_while_answers_are_quick_and_shrinks_on_a_slow_line() {
        let mut sending = begun(1000, 0);
        let mut now = 1;
        let mut there = 0;
        for _ in 0..5 {
            let left = pump(&mut sending, at(now));
            there += 10 * left.len() as u64;
            now += 1;
            assert!(sending.answered(id(1000), there, &PACE, at(now)));
        }
        let left = pump(&mut sending, at(now));
        assert_eq!(left.len(), 4, "as wide as it may be");
        there += 40;
        now += 60;
        assert!(sending.answered(id(1000), there, &PACE, at(now)));
        assert_eq!(pump(&mut sending, at(now)).len(), 2);
    }

    #[test]
    fn silence_is_asked_about_and_then_given_up() {
        let mut sending = begun(100, 0);
        assert_eq!(pump(&mut sending, at(1)), [0]);
        assert_eq!(sending.deadline(&PACE), at(1001));
        assert_eq!(sending.next(u64::MAX, &PACE, at(1001)), Next::Ask);
        assert_eq!(sending.next(u64::MAX, &PACE, at(1500)), Next::Wait);
        // It says that the first piece never came.
        assert!(sending.answered(id(100), 0, &PACE, at(1600)));
        assert_eq!(pump(&mut sending, at(1600)), [0]);
        assert!(!sending.is_given_up(&PACE, at(11_599)));
        assert!(sending.is_given_up(&PACE, at(11_600)));
    }

    #[test]
    fn pieces_and_windows_are_no_larger_than_what_outboxes_and_followers_take() {
        let config = Config {
            piece_bytes: 16 << 20,
            window_bytes: 1 << 30,
            ..Config::default()
        };
        let pace = Pace::new(&config, Duration::from_millis(50), 64 << 20);
        assert_eq!(pace.piece, OUTBOX_BYTES_MAX);
        assert!(pace.window_max + pace.piece < QUEUED_MAX);
        assert_eq!(Pace::new(&config, Duration::from_millis(50), 1000).piece, 500);
    }

    #[test]
    fn who_says_that_it_came_damaged_is_sent_the_next_one_and_not_at_once() {
        let mut sending = begun(100, 0);
        sending.refused(true, at(10));
        assert!(sending.is_distrusted);
        sending.begin(id(70), at(20));
        assert!(!sending.is_distrusted);
        assert_eq!(sending.next(u64::MAX, &PACE, at(509)), Next::Wait);
        assert_eq!(sending.next(u64::MAX, &PACE, at(510)), Next::Ask);
        assert!(!sending.is_given_up(&PACE, at(10_509)));
        assert!(sending.answered(id(70), 0, &PACE, at(520)));
        assert_eq!(pump(&mut sending, at(520)), [0]);
    }

    #[test]
    fn a_follower_without_room_is_left_alone_for_a_while() {
        let mut sending = begun(100, 0);
        sending.refused(false, at(10));
        assert_eq!(sending.next(u64::MAX, &PACE, at(500)), Next::Wait);
        assert_eq!(sending.deadline(&PACE), at(510));
        assert_eq!(sending.next(u64::MAX, &PACE, at(510)), Next::Ask);
        sending.refused(false, at(520));
        assert_eq!(sending.next(u64::MAX, &PACE, at(1500)), Next::Wait);
    }

    #[test]
    fn answers_that_were_under_way_at_a_refusal_end_no_rest() {
        let mut sending = begun(100, 0);
        assert_eq!(pump(&mut sending, at(1)), [0]);
        sending.refused(false, at(10));
        assert!(sending.answered(id(100), 10, &PACE, at(11)));
        assert_eq!(sending.next(u64::MAX, &PACE, at(509)), Next::Wait);
        assert_eq!(sending.next(u64::MAX, &PACE, at(510)), Next::Ask);
    }

    #[test]
    fn progress_is_what_the_follower_has() {
        let mut sending = Sending::new(NodeId(2), id(300), &PACE, at(0));
        assert_eq!(sending.percent(), 0);
        assert!(sending.answered(id(300), 100, &PACE, at(1)));
        assert_eq!(sending.percent(), 33);
        assert!(sending.answered(id(300), 300, &PACE, at(2)));
        assert_eq!(sending.percent(), 100);
        sending.begin(id(300), at(3));
        assert_eq!(sending.percent(), 100, "until it says otherwise");
        sending.begin(id(7), at(3));
        assert_eq!(sending.percent(), 0);
    }

    #[test]
    fn a_follower_cannot_have_more_than_there_is() {
        let mut sending = begun(100, 0);
        assert!(!sending.answered(id(100), 101, &PACE, at(2)));
        assert!(sending.answered(id(7), 101, &PACE, at(2)), "that is another one");
    }

    #[test]
    fn a_piece_that_finds_no_room_waits() {
        let mut sending = begun(100, 0);
        let Next::Read { offset, length } = sending.next(5, &PACE, at(1)) else {
            panic!("a piece is read");
        };
        sending.read(id(100), offset, Bytes::from(vec![0; length]));
        assert_eq!(sending.next(5, &PACE, at(1)), Next::Wait);
        assert!(matches!(sending.next(10, &PACE, at(1)), Next::Put { offset: 0, .. }));
    }
}
