//! One of the addresses that the client was given.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use fastrand::Rng;

use super::call::CallId;
use crate::adapter::Endpoint;
use crate::handshake::{FRAME_MAX_LEAST, Handshake};
use crate::id::{NodeId, RequestId};
use crate::time::Instant;

/// An address, its connection, and what was learned of the node behind it.
///
/// Invariant: `in_flight` is empty unless the state is `Ready`.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) address: Endpoint,
    pub(super) state: State,
    /// Learned by hello, kept when the connection is gone.
    pub(super) node: NodeId,
    pub(super) in_flight: BTreeMap<RequestId, CallId>,
    /// Status calls that wait for the connection.
    pub(super) asked: VecDeque<CallId>,
    /// The outbox refused; wait for it to drain.
    pub(super) is_full: bool,
    /// When something last came.
    pub(super) heard: Instant,
    /// Not dialled before, unless somebody asks for its status.
    pub(super) dial_at: Instant,
    pub(super) failures: u32,
    /// Why it is of no use, for a person; empty if nothing is known against it.
    pub(super) trouble: String,
}

/// A site's connection.
#[derive(Debug)]
pub(super) enum State {
    Idle,
    /// Until `give_up_at`, as the next one.
    Connecting {
        give_up_at: Instant,
    },
    Greeting {
        handshake: Handshake,
        give_up_at: Instant,
    },
    Ready {
        handshake: Handshake,
    },
}

impl State {
    fn frame_max(&self) -> Option<u32> {
        match self {
            Self::Ready { handshake } => Some(handshake.established()?.frame_max),
            _ => None,
        }
    }
}

impl Site {
    pub(super) fn new(address: Endpoint) -> Self {
        Self {
            address,
            state: State::Idle,
            node: NodeId::NONE,
            in_flight: BTreeMap::new(),
            asked: VecDeque::new(),
            is_full: false,
            heard: Instant::ZERO,
            dial_at: Instant::ZERO,
            failures: 0,
            trouble: String::new(),
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// The largest frame that the node takes.
    pub(super) fn frame_max(&self) -> usize {
        self.state.frame_max().unwrap_or(FRAME_MAX_LEAST) as usize
    }

    /// When a connection that is not yet welcomed is given up.
    pub(super) fn give_up_at(&self) -> Option<Instant> {
        match self.state {
            State::Connecting { give_up_at } | State::Greeting { give_up_at, .. } => Some(give_up_at),
            State::Idle | State::Ready { .. } => None,
        }
    }
}

/// Between half of and all of the start doubled `failures - 1` times, and of the end at most (AWS's "equal jitter":
/// clients that lost the same leader do not come back as one).
pub(super) fn backoff(range: &Range<Duration>, failures: u32, rng: &mut Rng) -> Duration {
    let doubled = range.start.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let whole = doubled.min(range.end);
    let half = whole / 2;
    let jitter = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
    half + Duration::from_nanos(rng.u64(0..=jitter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_is_capped_and_has_jitter() {
        let range = Duration::from_millis(10)..Duration::from_millis(50);
        let mut rng = Rng::with_seed(1);
        for (failures, whole) in [(1, 10), (2, 20), (3, 40), (4, 50), (u32::MAX, 50)] {
            let draws: Vec<_> = (0..32).map(|_| backoff(&range, failures, &mut rng)).collect();
            let whole = Duration::from_millis(whole);
            assert!(
                draws.iter().all(|draw| *draw >= whole / 2 && *draw <= whole),
                "{failures}"
            );
            assert!(draws.iter().any(|draw| *draw != draws[0]));
        }
    }
}
