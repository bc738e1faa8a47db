//! What stands on the way between hosts: who only looks, and a relay that does to whole frames what a datagram network
//! does, though every wire keeps its bytes in order (law A2).

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use kraft_core::time::Instant;

use super::HostId;

/// Frames that a relay remembers of a direction between two hosts.
const REMEMBERED: usize = 16;

/// A frame above this is not remembered.
const REMEMBERED_BYTES_MAX: usize = 16 << 10;

/// Bytes that leave a host.
#[derive(Clone, Copy, Debug)]
pub struct Leaving<'a> {
    /// When.
    pub at: Instant,
    /// The host that sends.
    pub from: HostId,
    /// The host that is to receive.
    pub to: HostId,
    /// The port that was dialled for this connection, by whichever of the two; zero if it has none.
    pub port: u16,
    /// The same for all bytes of one direction of one connection, and for no others. Both directions differ in the lowest
    /// bit alone.
    pub stream: u64,
    /// What leaves, behind what left before.
    pub bytes: &'a [u8],
}

/// Called with all that leaves.
type Listener = Box<dyn FnMut(&Leaving<'_>) + Send>;

/// Sees all that leaves.
#[derive(Default)]
pub(super) struct Tap(pub(super) Option<Listener>);

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tap").field(&self.0.is_some()).finish()
    }
}

/// What a relay does to frames, each with a probability from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Meddling {
    /// A frame arrives twice.
    pub duplicate: f64,
    /// A frame arrives behind the one that left after it.
    pub reorder: f64,
    /// Behind a frame arrives one that an earlier connection of the same two hosts carried.
    pub replay: f64,
}

impl Meddling {
    /// Nothing.
    pub const NONE: Self = Self {
        duplicate: 0.0,
        reorder: 0.0,
        replay: 0.0,
    };
}

/// How often chance did what [`Conditions`](super::Conditions) and [`Meddling`] let it do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Happened {
    /// What was sent was lost, to be sent again.
    pub lost: u64,
    /// A frame arrived twice.
    pub duplicated: u64,
    /// A frame arrived behind a later one.
    pub reordered: u64,
    /// A frame of an earlier connection arrived.
    pub replayed: u64,
}

/// Who takes whole frames apart and passes them on, for all connections to one port.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) port: u16,
    /// How long the frame is that some bytes begin with, or `None` if they do not say so far.
    pub(super) frame_bytes: fn(&[u8]) -> Option<usize>,
    pub(super) meddling: Meddling,
    pub(super) happened: Happened,
    /// What earlier connections carried, by sender, receiver and whether the sender had dialled.
    remembered: BTreeMap<(HostId, HostId, bool), VecDeque<Vec<u8>>>,
}

/// What a relay holds of one direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// The beginning of a frame.
    partial: Vec<u8>,
    /// A frame that waits for the next one to overtake it.
    late: Option<Vec<u8>>,
    /// Whether the first frame has passed. The first one introduces the sender: nothing comes before it.
    is_begun: bool,
    /// What was passed, to be remembered when the connection ends.
    passed: VecDeque<Vec<u8>>,
}

/// Where a direction leads: sender, receiver, and whether the sender had dialled.
pub(super) type Course = (HostId, HostId, bool);

impl Relay {
    pub(super) fn new(port: u16, frame_bytes: fn(&[u8]) -> Option<usize>) -> Self {
        Self {
            port,
            frame_bytes,
            meddling: Meddling::NONE,
            happened: Happened::default(),
            remembered: BTreeMap::new(),
        }
    }

    /// Takes what a sender gave, and returns what goes on.
    pub(super) fn pass(&mut self, held: &mut Held, course: Course, bytes: &[u8], rng: &mut fastrand::Rng) -> Vec<u8> {
        held.partial.extend_from_slice(bytes);
        let mut out = Vec::new();
        let mut at = 0;
        while let Some(count) = (self.frame_bytes)(&held.partial[at..]) {
            let Some(frame) = held.partial.get(at..at + count) else {
                break;
            };
            let frame = frame.to_vec();
            at += count;
            self.pass_frame(held, course, frame, &mut out, rng);
        }
        held.partial.drain(..at);
        out
    }

    fn pass_frame(
        &mut self,
        held: &mut Held,
        course: Course,
        frame: Vec<u8>,
        out: &mut Vec<u8>,
        rng: &mut fastrand::Rng,
    ) {
        if !std::mem::replace(&mut held.is_begun, true) {
            out.extend_from_slice(&frame);
            return;
        }
        let Meddling {
            duplicate,
            reorder,
            replay,
        } = self.meddling;
        let mut happens = |chance: f64| chance > 0.0 && rng.f64() < chance;
        if held.passed.len() == REMEMBERED {
            held.passed.pop_front();
        }
        if frame.len() <= REMEMBERED_BYTES_MAX {
            held.passed.push_back(frame.clone());
        }
        if held.late.is_none() && happens(reorder) {
            held.late = Some(frame);
            return;
        }
        out.extend_from_slice(&frame);
        if happens(duplicate) {
            out.extend_from_slice(&frame);
            self.happened.duplicated += 1;
        }
        if let Some(late) = held.late.take() {
            out.extend_from_slice(&late);
            self.happened.reordered += 1;
        }
        if happens(replay)
            && let Some(earlier) = self.remembered.get(&course)
            && let Some(frame) = earlier.get(rng.usize(..earlier.len().max(1)))
        {
            out.extend_from_slice(frame);
            self.happened.replayed += 1;
        }
    }

    /// A connection is over: what it carried, and what was on its way, may arrive on a later one.
    pub(super) fn remember(&mut self, course: Course, held: &mut Held) {
        let remembered = self.remembered.entry(course).or_default();
        remembered.extend(held.passed.drain(..).chain(held.late.take()));
        while remembered.len() > REMEMBERED {
            remembered.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames are a byte that says how long they are, and the rest.
    fn frame_bytes(bytes: &[u8]) -> Option<usize> {
        bytes.first().map(|count| usize::from(*count))
    }

    #[track_caller]
    fn check(meddling: Meddling, expected: &[u8]) -> [u64; 3] {
        let mut relay = Relay::new(1, frame_bytes);
        relay.meddling = meddling;
        let mut rng = fastrand::Rng::with_seed(7);
        let course = (HostId(0), HostId(1), true);
        let mut held = Held::default();
        let mut out = Vec::new();
        let earlier = relay.pass(&mut held, course, &[2, 9, 2, 8], &mut rng);
        assert_eq!(earlier.len() % 2, 0);
        relay.remember(course, &mut held);
        let mut held = Held::default();
        for byte in [2, 1, 3, 2, 2, 2, 3, 2, 4] {
            out.extend(relay.pass(&mut held, course, &[byte], &mut rng));
        }
        assert_eq!(out, expected);
        let Happened {
            duplicated,
            reordered,
            replayed,
            ..
        } = relay.happened;
        [duplicated, reordered, replayed]
    }

    #[test]
    fn a_relay_passes_on_whole_frames() {
        let passed = check(Meddling::NONE, &[2, 1, 3, 2, 2, 2, 3, 2, 4]);
        assert_eq!(passed, [0, 0, 0]);
        let certain = |duplicate, reorder, replay| Meddling {
            duplicate,
            reorder,
            replay,
        };
        let twice = [2, 1, 3, 2, 2, 3, 2, 2, 2, 3, 2, 3, 2, 4, 2, 4];
        // A frame of the earlier connection, too.
        assert_eq!(check(certain(1.0, 0.0, 0.0), &twice), [4, 0, 0]);
        // Every second frame waits for the next, and the last one for a frame that does not come.
        assert_eq!(check(certain(0.0, 1.0, 0.0), &[2, 1, 2, 3, 3, 2, 2]), [0, 1, 0]);
        let replayed = [2, 1, 3, 2, 2, 2, 8, 2, 3, 2, 8, 2, 4, 2, 8];
        assert_eq!(check(certain(0.0, 0.0, 1.0), &replayed), [0, 0, 3]);
    }
}
