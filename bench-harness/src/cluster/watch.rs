//! What survivors say while they have no leader: asked over and over, by a thread of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kraft_core::id::NodeId;
use kraft_core::message::NodeState;

use crate::fault::Fault;
use crate::record::Trial;

/// Between two questions: short beside an election timeout of 150 ms at least, and long beside what an answer costs
/// nodes that share a core.
const PAUSE: Duration = Duration::from_millis(2);

/// When survivors were first heard to know of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// That their leader does not lead any more.
    detected: Option<Duration>,
    /// That another one leads.
    elected: Option<Duration>,
}

impl Seen {
    /// A survivor of the leader `killed` says what it is and whom it follows, so long after.
    fn hear(&mut self, killed: NodeId, state: NodeState, leader: NodeId, after: Duration) {
        if state != NodeState::Follower || leader != killed {
            self.detected.get_or_insert(after);
        }
        if leader != killed && leader != NodeId::NONE {
            self.elected.get_or_insert(after);
        }
    }

    /// With a first write so long after, and no writes counted yet. Each is known by the next at the latest: what nobody was heard to say happened
    /// between two questions.
    pub(super) fn trial(self, first_write: Duration) -> Trial {
        let elected = self.elected.unwrap_or(first_write).min(first_write);
        let detected = self.detected.unwrap_or(elected).min(elected);
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        Trial {
            detected_ms: ms(detected),
            elected_ms: ms(elected),
            first_write_ms: ms(first_write),
            acknowledged: 0,
            lost: 0,
        }
    }
}

/// Asks until it `is_over`, or all is known: `ask` has one survivor after the other say what it is and whom it follows.
/// `began` is when the leader `killed` was killed.
///
/// # Errors
///
/// Those of `ask`.
pub(super) fn survivors(
    killed: NodeId,
    began: Instant,
    is_over: &AtomicBool,
    mut ask: impl FnMut(&mut dyn FnMut(NodeState, NodeId)) -> Result<(), Fault>,
) -> Result<Seen, Fault> {
    let mut seen = Seen::default();
    while seen.elected.is_none() && !is_over.load(Ordering::Relaxed) {
        ask(&mut |state, leader| seen.hear(killed, state, leader, began.elapsed()))?;
        thread::sleep(PAUSE);
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was seen of these reports, one a millisecond; node 1 was killed.
    fn seen(reports: &[(NodeState, u64)]) -> Seen {
        let mut seen = Seen::default();
        for (ms, (state, leader)) in (1..).zip(reports) {
            seen.hear(NodeId(1), *state, NodeId(*leader), Duration::from_millis(ms));
        }
        seen
    }

    fn ms(trial: &Trial) -> [f64; 3] {
        [trial.detected_ms, trial.elected_ms, trial.first_write_ms]
    }

    #[test]
    fn noticing_electing_and_writing_come_one_after_the_other() {
        use NodeState::{Candidate, Follower, Leader, PreCandidate};
        let write = Duration::from_millis(9);
        let one = seen(&[
            (Follower, 1),
            (PreCandidate, 1),
            (Follower, 1),
            (Candidate, 0),
            (Leader, 3),
            (Follower, 3),
        ]);
        assert_eq!(ms(&one.trial(write)), [2.0, 5.0, 9.0]);
        // One that follows nobody has noticed; one that follows another one knows that it was elected.
        let one = seen(&[(Follower, 0), (Follower, 2)]);
        assert_eq!(ms(&one.trial(write)), [1.0, 2.0, 9.0]);
        // What was not heard of in time had happened by the next.
        let one = seen(&[(Follower, 1), (PreCandidate, 0)]);
        assert_eq!(ms(&one.trial(write)), [2.0, 9.0, 9.0]);
        assert_eq!(ms(&Seen::default().trial(write)), [9.0, 9.0, 9.0]);
        let late = seen(&[(Follower, 1), (Follower, 1), (Leader, 2)]);
        assert_eq!(ms(&late.trial(Duration::from_millis(2))), [2.0, 2.0, 2.0]);
    }
}
