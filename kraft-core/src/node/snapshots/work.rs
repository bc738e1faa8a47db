//! What a node does with its snapshots off the loop.

use std::any::Any;
use std::fmt;

use bytes::Bytes;

use crate::id::{ConnId, NodeId, RequestId};
use crate::message::SnapshotId;
use crate::session::{Limits, StateImage};
use crate::snapshot::{Head, Image, Snapshot, SnapshotStore, StoreError};

/// Blocking work on snapshots. Opaque: it is of the node that handed it out, and goes back there.
///
/// Reads of pieces to be sent are quick, and others wait for them; writing a whole state takes as long as it takes.
/// Where there are several threads, [`is_quick`](Self::is_quick) work should not queue behind the other.
pub struct SnapshotWork {
    is_quick: bool,
    run: Box<dyn FnOnce() -> SnapshotDone + Send>,
}

/// What came of [`SnapshotWork`].
pub struct SnapshotDone(pub(super) Box<dyn Any + Send>);

impl SnapshotWork {
    /// Whether it takes about as long as a piece takes.
    #[must_use]
    pub fn is_quick(&self) -> bool {
        self.is_quick
    }

    /// Does it.
    #[must_use]
    pub fn run(self) -> SnapshotDone {
        (self.run)()
    }
}

impl fmt::Debug for SnapshotWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnapshotWork")
    }
}

impl fmt::Debug for SnapshotDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnapshotDone")
    }
}

/// For whom a piece is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// A follower.
    Node(NodeId),
    /// A client.
    Client(ConnId, RequestId),
}

/// What came of it, as the node reads it.
#[derive(Debug)]
pub(super) enum Done<I> {
    Saved(Result<Snapshot, StoreError>),
    Read {
        reader: Reader,
        id: SnapshotId,
        offset: u64,
        piece: Result<Bytes, StoreError>,
    },
    Received {
        id: SnapshotId,
        /// Of the attempt to receive it.
        number: u64,
        /// Of the piece.
        bytes: u64,
        /// Everything before this is there.
        end: u64,
        result: Result<(), StoreError>,
    },
    Finished {
        id: SnapshotId,
        result: Result<Snapshot, StoreError>,
    },
    Loaded {
        id: SnapshotId,
        result: Result<StateImage<I>, StoreError>,
    },
    /// Nobody waits for it.
    Nothing,
}

impl<I: Image> Done<I> {
    fn wrap(self) -> SnapshotDone {
        SnapshotDone(Box::new(self))
    }

    pub(super) fn unwrap(done: SnapshotDone) -> Self {
        *done
            .0
            .downcast()
            .expect("work goes back to the node that handed it out")
    }
}

/// Makes work on one store.
#[derive(Clone, Debug)]
pub(super) struct Jobs<St>(pub(super) St);

impl<St: SnapshotStore> Jobs<St> {
    fn work<I: Image>(&self, is_quick: bool, job: impl FnOnce(&St) -> Done<I> + Send + 'static) -> SnapshotWork {
        let store = self.0.clone();
        SnapshotWork {
            is_quick,
            run: Box::new(move || job(&store).wrap()),
        }
    }

    pub(super) fn save<I: Image>(&self, head: Head, state: StateImage<I>) -> SnapshotWork {
        self.work(false, move |store| {
            Done::<I>::Saved(store.save(&head, &mut |out| state.write(out)))
        })
    }

    pub(super) fn read<I: Image>(&self, reader: Reader, id: SnapshotId, offset: u64, length: usize) -> SnapshotWork {
        self.work(true, move |store| Done::<I>::Read {
            reader,
            id,
            offset,
            piece: store.read(id, offset, length),
        })
    }

    pub(super) fn receive<I: Image>(&self, id: SnapshotId, number: u64, offset: u64, data: Bytes) -> SnapshotWork {
        self.work(false, move |store| Done::<I>::Received {
            id,
            number,
            bytes: data.len() as u64,
            end: offset + data.len() as u64,
            result: store.receive(id, offset, &data),
        })
    }

    pub(super) fn finish<I: Image>(&self, id: SnapshotId) -> SnapshotWork {
        self.work(false, move |store| Done::<I>::Finished {
            id,
            result: store.finish(id),
        })
    }

    pub(super) fn abandon<I: Image>(&self) -> SnapshotWork {
        self.work(false, |store| {
            // What is left of it is removed when the next one begins, or at the next start.
            let _ = store.abandon();
            Done::<I>::Nothing
        })
    }

    pub(super) fn load<I: Image>(&self, id: SnapshotId, limits: Limits) -> SnapshotWork {
        self.work(false, move |store| Done::<I>::Loaded {
            id,
            result: load(store, id, &limits),
        })
    }

    /// Drops a state that gave way to another. It may be large, and its memory is given back piece by piece.
    pub(super) fn drop_state<I: Image>(&self, state: StateImage<I>) -> SnapshotWork {
        self.work(false, move |_| {
            drop(state);
            Done::<I>::Nothing
        })
    }
}

/// Reads a snapshot's state.
pub(in super::super) fn load<St: SnapshotStore, I: Image>(
    store: &St,
    id: SnapshotId,
    limits: &Limits,
) -> Result<StateImage<I>, StoreError> {
    let mut state = None;
    store.load(id, &mut |input| {
        state = Some(StateImage::read(input, limits)?);
        Ok(())
    })?;
    Ok(state.expect("the store calls it once"))
}
