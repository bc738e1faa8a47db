//! What a leader knows of one follower, and what it may send it.

use std::collections::VecDeque;

use super::Config;
use super::catch_up::CatchUp;
use crate::id::{Index, NodeId, Round};
use crate::time::Instant;

/// How a leader sends entries to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// It does not know where the logs agree: one append at a time, then wait for its reply, or for a sign of life.
    Probe {
        /// One is out.
        paused: bool,
    },
    /// It does: `next` runs ahead, as far as the window allows.
    Replicate,
    /// Entries that it needs are gone: it is sent a snapshot, at `index` or behind it, and no entries.
    Snapshot {
        /// What it will have then.
        index: Index,
    },
}

/// A follower, as its leader sees it.
///
/// `matched < next`; in `Replicate` everything between is in flight, in `Snapshot` nothing is.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) id: NodeId,
    pub(super) mode: Mode,
    /// The follower has the log durably up to here. Goes back only if it says itself that it lost what it had.
    pub(super) matched: Index,
    /// The next entry to send.
    pub(super) next: Index,
    /// Appends that are under way: the last index and the payload bytes of each.
    inflight: VecDeque<(Index, u64)>,
    inflight_bytes: u64,
    /// When it last said anything.
    pub(super) heard: Option<Instant>,
    /// The newest round that it was sent.
    pub(super) round_sent: Round,
    /// The newest round that it confirmed.
    pub(super) round_seen: Round,
    /// When the newest round began by which it promised to vote for nobody for an election timeout.
    pub(super) promised_at: Option<Instant>,
    /// The highest commit index that was sent within its log.
    pub(super) commit_sent: Index,
    /// A heartbeat is due.
    pub(super) heartbeat_due: bool,
    /// The oldest append that was under way at the last sign of life ended here.
    overdue: Index,
    /// An append without entries is due, behind all that are under way: they may be lost.
    pub(super) probe_due: bool,
    /// Whether it keeps up.
    pub(super) catch_up: CatchUp,
    /// It is no member any more, and is told so until then.
    pub(super) parts_at: Option<Instant>,
}

impl Progress {
    pub(super) fn new(id: NodeId) -> Self {
        Self {
            id,
            mode: Mode::Probe { paused: false },
            matched: Index::ZERO,
            next: Index(1),
            inflight: VecDeque::new(),
            inflight_bytes: 0,
            heard: None,
            round_sent: Round(0),
            round_seen: Round(0),
            promised_at: None,
            commit_sent: Index::ZERO,
            heartbeat_due: false,
            overdue: Index::ZERO,
            probe_due: false,
            catch_up: CatchUp::new(Instant::ZERO, Index::ZERO),
            parts_at: None,
        }
    }

    /// At the begin of a term of office: nothing is known.
    pub(super) fn reset(&mut self, next: Index, round: Round) {
        self.become_probe(next);
        self.matched = Index::ZERO;
        self.mode = Mode::Probe { paused: false };
        self.heard = None;
        self.round_sent = round;
        self.round_seen = round;
        self.promised_at = None;
        self.commit_sent = Index::ZERO;
        self.heartbeat_due = false;
    }

    fn become_probe(&mut self, next: Index) {
        self.mode = Mode::Probe { paused: false };
        self.next = next;
        self.commit_sent = self.commit_sent.min(next.prev());
        self.overdue = Index::ZERO;
        self.probe_due = false;
        self.inflight.clear();
        self.inflight_bytes = 0;
    }

    /// Its log agrees up to `index`, which may be old news.
    pub(super) fn matched(&mut self, index: Index) {
        if index < self.matched {
            return;
        }
        self.matched = index;
        match self.mode {
            Mode::Probe { .. } => {
                self.become_probe(index.next());
                self.mode = Mode::Replicate;
            }
            Mode::Replicate => {
                self.next = self.next.max(index.next());
                while self.inflight.front().is_some_and(|sent| sent.0 <= index) {
                    let (_, bytes) = self.inflight.pop_front().expect("it was just looked at");
                    self.inflight_bytes -= bytes;
                }
                if self.matched == self.next.prev() {
                    self.probe_due = false;
                }
            }
            Mode::Snapshot { index: wanted } => {
                if index >= wanted {
                    self.become_probe(index.next());
                    self.mode = Mode::Replicate;
                }
            }
        }
    }

    /// The leader's log begins behind `base`. If that is enough for the follower, it needs no snapshot: it had more than
    /// was known.
    pub(super) fn served_by_log(&mut self, base: Index) {
        if matches!(self.mode, Mode::Snapshot { .. }) && self.matched >= base {
            self.become_probe(self.matched.next());
            self.mode = Mode::Replicate;
        }
    }

    /// It is sent a snapshot, which brings it to `index`.
    pub(super) fn become_snapshot(&mut self, index: Index) {
        self.become_probe(self.next);
        self.mode = Mode::Snapshot { index };
    }

    /// The snapshot did not arrive.
    pub(super) fn snapshot_ended(&mut self) {
        if matches!(self.mode, Mode::Snapshot { .. }) {
            self.lost();
        }
    }

    /// It refused an append behind `prev`; the logs agree at `agree` at the latest.
    pub(super) fn rejected(&mut self, prev: Index, agree: Index) {
        // Refusals come late and twice; a probe has one place.
        if self.mode != Mode::Replicate && prev != self.next.prev() || matches!(self.mode, Mode::Snapshot { .. }) {
            return;
        }
        // It refuses what it had acknowledged: its disk lost the end of its log. To believe a late refusal costs a
        // few entries sent twice; not to believe a true one would leave it behind for this whole term of office.
        let is_forgotten = self.mode != Mode::Replicate && prev == self.matched && agree < prev;
        if is_forgotten {
            self.matched = agree;
        }
        if prev > self.matched {
            self.become_probe(prev.min(agree.next()).max(self.matched.next()));
        }
    }

    /// What is in flight to it may be lost, and it may be gone: one append, when it gives a sign of life.
    pub(super) fn lost(&mut self) {
        // A probe stays where it is: who was down when this leader was elected has matched nothing so far, and would be
        // sent the whole log.
        let next = match self.mode {
            Mode::Probe { .. } | Mode::Snapshot { .. } => self.next,
            Mode::Replicate => self.matched.next(),
        };
        self.become_probe(next);
        self.mode = Mode::Probe { paused: true };
    }

    /// It lives. If an append was lost, this is how it comes out: something was under way at the last sign of life,
    /// and nothing of it has arrived.
    pub(super) fn alive(&mut self) {
        match &mut self.mode {
            Mode::Probe { paused } => *paused = false,
            Mode::Replicate => {
                self.probe_due = self.matched < self.overdue;
                self.overdue = self.inflight.front().map_or(Index::ZERO, |sent| sent.0);
            }
            Mode::Snapshot { .. } => {}
        }
    }

    /// Whether an append with entries may be sent, if there are entries.
    pub(super) fn has_window(&self, config: &Config) -> bool {
        match self.mode {
            Mode::Probe { paused } => !paused,
            Mode::Replicate => {
                self.inflight.len() < config.inflight_messages_max && self.inflight_bytes < config.inflight_bytes_max
            }
            Mode::Snapshot { .. } => false,
        }
    }

    /// An append up to `last`, with so many payload bytes, is sent.
    pub(super) fn sent(&mut self, last: Index, bytes: u64) {
        match &mut self.mode {
            Mode::Probe { paused } => *paused = true,
            Mode::Replicate if last >= self.next => {
                self.next = last.next();
                self.inflight.push_back((last, bytes));
                self.inflight_bytes += bytes;
            }
            Mode::Replicate | Mode::Snapshot { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicating(matched: u64, sent: &[u64]) -> Progress {
        let mut progress = Progress::new(NodeId(2));
        progress.reset(Index(matched + 1), Round(0));
        progress.matched(Index(matched));
        for last in sent {
            progress.sent(Index(*last), 10);
        }
        progress
    }

    #[track_caller]
    fn check(progress: &Progress, matched: u64, next: u64, inflight: usize) {
        assert_eq!((progress.matched, progress.next), (Index(matched), Index(next)));
        assert_eq!(progress.inflight.len(), inflight);
        assert_eq!(progress.inflight_bytes, 10 * inflight as u64);
    }

    #[test]
    fn match_never_regresses() {
        let mut progress = replicating(3, &[5, 7, 9]);
        progress.matched(Index(7));
        check(&progress, 7, 10, 1);
        progress.matched(Index(5));
        check(&progress, 7, 10, 1);
        progress.rejected(Index(6), Index(2));
        check(&progress, 7, 10, 1);
        progress.lost();
        progress.rejected(Index(5), Index(2));
        check(&progress, 7, 8, 0);
    }

    #[test]
    fn an_acknowledgement_that_brings_nothing_new_ends_a_probe() {
        let mut progress = replicating(3, &[5]);
        progress.lost();
        progress.matched(Index(3));
        assert_eq!(progress.mode, Mode::Replicate);
    }

    #[test]
    fn an_append_that_arrived_before_the_next_sign_of_life_was_not_lost() {
        let mut progress = replicating(3, &[5, 7]);
        progress.alive();
        progress.matched(Index(5));
        progress.alive();
        assert!(!progress.probe_due);
        progress.alive();
        assert!(progress.probe_due, "nothing of the second has come since the last one");
    }

    #[test]
    fn no_probe_is_due_once_all_that_was_sent_has_arrived() {
        let mut progress = replicating(3, &[5, 7]);
        progress.probe_due = true;
        progress.matched(Index(5));
        assert!(progress.probe_due, "the second may be lost");
        progress.matched(Index(7));
        assert!(!progress.probe_due);
    }

    #[test]
    fn an_append_without_entries_takes_no_place_in_the_window() {
        let mut progress = replicating(3, &[5, 7]);
        progress.sent(Index(7), 0);
        check(&progress, 3, 8, 2);
    }

    #[test]
    fn a_follower_that_was_down_at_the_election_is_not_sent_the_whole_log() {
        let mut progress = Progress::new(NodeId(2));
        progress.reset(Index(1000), Round(0));
        progress.lost();
        check(&progress, 0, 1000, 0);
        progress.alive();
        progress.rejected(Index(999), Index(990));
        check(&progress, 0, 991, 0);
        // A probe whose answer is lost asks at the same place.
        progress.lost();
        check(&progress, 0, 991, 0);
    }

    #[test]
    fn a_follower_that_lost_what_it_acknowledged_is_sent_it_again() {
        let mut progress = replicating(3, &[5, 7, 9]);
        progress.matched(Index(7));
        // While appends are under way a refusal of what matches is an old one.
        progress.rejected(Index(7), Index(5));
        check(&progress, 7, 10, 1);
        progress.lost();
        progress.rejected(Index(7), Index(5));
        check(&progress, 5, 6, 0);
        progress.sent(Index(9), 10);
        progress.matched(Index(9));
        check(&progress, 9, 10, 0);
    }

    #[test]
    fn a_refusal_goes_back_by_its_hint_and_at_least_by_one() {
        let mut progress = replicating(3, &[5, 7, 9]);
        progress.rejected(Index(7), Index(4));
        check(&progress, 3, 5, 0);
        progress.sent(Index(9), 0);
        progress.rejected(Index(4), Index(4));
        check(&progress, 3, 4, 0);
        assert_eq!(progress.mode, Mode::Probe { paused: false });
    }

    #[test]
    fn a_snapshot_ends_when_the_follower_has_it_or_needs_none() {
        let mut progress = replicating(3, &[5, 7]);
        progress.become_snapshot(Index(20));
        check(&progress, 3, 8, 0);
        progress.alive();
        progress.sent(Index(9), 10);
        progress.rejected(Index(7), Index(4));
        progress.matched(Index(5));
        progress.served_by_log(Index(10));
        assert_eq!(progress.mode, Mode::Snapshot { index: Index(20) });
        check(&progress, 5, 8, 0);
        let mut has_it = progress;
        has_it.matched(Index(20));
        check(&has_it, 20, 21, 0);
        assert_eq!(has_it.mode, Mode::Replicate);
        let mut had_more = replicating(3, &[]);
        had_more.become_snapshot(Index(20));
        had_more.matched(Index(12));
        had_more.served_by_log(Index(10));
        check(&had_more, 12, 13, 0);
        assert_eq!(had_more.mode, Mode::Replicate);
    }

    #[test]
    fn a_snapshot_that_did_not_arrive_waits_for_a_sign_of_life() {
        let mut progress = replicating(3, &[]);
        progress.snapshot_ended();
        assert_eq!(progress.mode, Mode::Replicate, "there was none");
        progress.become_snapshot(Index(20));
        progress.snapshot_ended();
        assert_eq!(progress.mode, Mode::Probe { paused: true });
        progress.alive();
        check(&progress, 3, 4, 0);
        assert_eq!(progress.mode, Mode::Probe { paused: false });
    }

    #[test]
    fn the_window_is_bounded_in_messages_and_bytes() {
        let mut config = Config::new(NodeId(1), vec![NodeId(1), NodeId(2)], 7);
        (config.inflight_messages_max, config.inflight_bytes_max) = (3, 25);
        let mut progress = replicating(3, &[5, 7]);
        assert!(progress.has_window(&config));
        progress.sent(Index(9), 10);
        assert!(!progress.has_window(&config));
        progress.matched(Index(5));
        assert!(progress.has_window(&config));
        config.inflight_bytes_max = 20;
        assert!(!progress.has_window(&config));
        config.inflight_bytes_max = 1000;
        config.inflight_messages_max = 2;
        assert!(!progress.has_window(&config));
    }
}
