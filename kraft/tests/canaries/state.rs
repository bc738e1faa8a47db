//! The state alone: sessions and the key-value machine behind them, taken over by an image.

use bytes::BytesMut;
use fastrand::Rng;
use kraft::kv::{Command, Kv, KvImage, Limits};
use kraft_core::canary::Reach;
use kraft_core::id::{Index, Sequence, SessionId};
use kraft_core::machine::StateMachine;
use kraft_core::message::{self, EntryKind};
use kraft_core::session::{self, Applied, Sessions, StateImage};

use crate::Trial;

pub(crate) const TRIAL: Trial = Trial {
    name: "the state alone",
    reach: Reach::State,
    seeds: 50,
    run,
};

struct Entry {
    kind: EntryKind,
    payload: BytesMut,
}

/// What a node has applied.
struct State {
    sessions: Sessions,
    kv: Kv,
    index: u64,
}

impl State {
    fn new() -> Self {
        Self {
            sessions: Sessions::default(),
            kv: Kv::new(Limits::default()),
            index: 0,
        }
    }

    fn apply(&mut self, entry: &Entry) -> (Applied, BytesMut) {
        self.index += 1;
        let mut reply = BytesMut::new();
        let Entry { kind, payload } = entry;
        let applied = self
            .sessions
            .apply(Index(self.index), *kind, payload, &mut self.kv, &mut reply);
        (applied, reply)
    }

    fn digests(&self) -> [u64; 2] {
        [self.sessions.digest(), self.kv.digest()]
    }
}

/// One node applies all entries, another is given an image of it on the way and applies the others. They answer alike,
/// and end alike.
fn run(seed: u64) -> Result<(), String> {
    let mut rng = Rng::with_seed(seed);
    let (mut whole, mut restored) = (State::new(), State::new());
    let before = rng.usize(20..200);
    for entry in entries(before, 1, &mut rng) {
        whole.apply(&entry);
    }
    let image = StateImage {
        sessions: whole.sessions.image(),
        machine: whole.kv.image(),
    };
    let (digests, ahead) = (whole.digests(), entries(100, whole.index + 1, &mut rng));
    let replies: Vec<_> = ahead.iter().map(|entry| whole.apply(entry)).collect();

    let mut bytes = vec![];
    image.write(&mut bytes).map_err(|error| error.to_string())?;
    let image = StateImage::<KvImage>::read(&mut &bytes[..], &session::Limits::default());
    let image = image.map_err(|error| error.to_string())?;
    restored.index = before as u64;
    restored.sessions.restore(image.sessions);
    restored.kv.restore(image.machine);
    if restored.digests() != digests {
        return Err("a restored state is not the one that it was taken of (R5)".into());
    }
    for (entry, expected) in ahead.iter().zip(&replies) {
        if restored.apply(entry) != *expected {
            return Err(format!(
                "entry {} is answered otherwise behind a snapshot (R8)",
                restored.index
            ));
        }
    }
    if restored.digests() != whole.digests() {
        return Err("states behind a snapshot drift apart (R5)".into());
    }
    Ok(())
}

/// Increments of four sessions, which the first entries open, each command up to three times.
fn entries(count: usize, first: u64, rng: &mut Rng) -> Vec<Entry> {
    (first..first + count as u64)
        .map(|index| {
            if index <= 4 {
                return Entry {
                    kind: EntryKind::OpenSession,
                    payload: BytesMut::new(),
                };
            }
            let (mut command, mut payload) = (BytesMut::new(), BytesMut::new());
            let key = [rng.u8(b'a'..=b'e')];
            Command::Increment { key: &key, by: 1 }.encode(&mut command);
            let sequence = index / 12 + rng.u64(1..3);
            session::encode(
                &message::Command {
                    session: SessionId(rng.u64(1..=4)),
                    sequence: Sequence(sequence),
                    first_unanswered: Sequence(sequence.saturating_sub(2).max(1)),
                    command: &command,
                    commit: message::Commit::Strong,
                },
                &mut payload,
            );
            Entry {
                kind: EntryKind::Command,
                payload,
            }
        })
        .collect()
}
