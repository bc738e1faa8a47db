//! What a node does with its snapshots off the loop.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::id::{ConnId, NodeId, RequestId};
use crate::message::SnapshotId;
use crate::session::{Limits, StateImage};
use crate::snapshot::{Head, Image, Snapshot, SnapshotStore, StoreError};

/// Blocking work on snapshots. Opaque: it is of the node that handed it out, and goes back there.
///
/// Work of one [lane](Self::lane) is done one by one, in order; lanes may go on side by side.
pub struct SnapshotWork {
    lane: SnapshotLane,
    run: Box<dyn FnOnce() -> SnapshotDone + Send>,
}

/// What should not queue behind each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SnapshotLane {
    /// Reads of pieces to be sent: quick, and others wait for them.
    Pieces,
    /// What a leader sent is written and read, and the state that it replaces is freed: the node is behind until that is
    /// done.
    Transfer,
    /// The own state is written. It takes as long as it takes, and should leave the machine to what clients wait for.
    Background,
}

/// What came of [`SnapshotWork`].
pub struct SnapshotDone(pub(super) Box<dyn Any + Send>);

impl SnapshotWork {
    /// Where it belongs.
    #[must_use]
    pub fn lane(&self) -> SnapshotLane {
        self.lane
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
    Kept {
        snapshot: Snapshot,
        result: Result<(), StoreError>,
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

/// Makes work on one store. When it is dropped, so is the node: a state that is being written or read then is of no use to
/// anybody, may take minutes, and is given up at its next byte.
#[derive(Debug)]
pub(super) struct Jobs<St> {
    store: St,
    is_over: Arc<AtomicBool>,
}

impl<St> Drop for Jobs<St> {
    fn drop(&mut self) {
        // Nothing hangs on when it is seen.
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Bytes of a state, on their way as long as the node is there.
struct Way<T> {
    end: T,
    is_over: Arc<AtomicBool>,
}

impl<T> Way<T> {
    fn check(&self) -> io::Result<()> {
        match self.is_over.load(Ordering::Relaxed) {
            true => Err(io::Error::other("the node ends")),
            false => Ok(()),
        }
    }
}

impl io::Write for Way<&mut dyn io::Write> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        self.end.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.end.flush()
    }
}

impl io::Read for Way<&mut dyn io::Read> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        self.end.read(bytes)
    }
}

impl<St: SnapshotStore> Jobs<St> {
    pub(super) fn new(store: St) -> Self {
        Self {
            store,
            is_over: Arc::default(),
        }
    }

    fn work<I: Image>(&self, lane: SnapshotLane, job: impl FnOnce(&St) -> Done<I> + Send + 'static) -> SnapshotWork {
        let store = self.store.clone();
        SnapshotWork {
            lane,
            run: Box::new(move || job(&store).wrap()),
        }
    }

    pub(super) fn save<I: Image>(&self, head: Head, state: StateImage<I>) -> SnapshotWork {
        let is_over = Arc::clone(&self.is_over);
        self.work(SnapshotLane::Background, move |store| {
            let saved = store.save(&head, &mut |end| {
                let is_over = Arc::clone(&is_over);
                state.write(&mut Way { end, is_over })
            });
            Done::<I>::Saved(saved)
        })
    }

    pub(super) fn read<I: Image>(&self, reader: Reader, id: SnapshotId, offset: u64, length: usize) -> SnapshotWork {
        self.work(SnapshotLane::Pieces, move |store| Done::<I>::Read {
            reader,
            id,
            offset,
            piece: store.read(id, offset, length),
        })
    }

    pub(super) fn receive<I: Image>(&self, id: SnapshotId, number: u64, offset: u64, data: Bytes) -> SnapshotWork {
        self.work(SnapshotLane::Transfer, move |store| Done::<I>::Received {
            id,
            number,
            bytes: data.len() as u64,
            end: offset + data.len() as u64,
            result: store.receive(id, offset, &data),
        })
    }

    pub(super) fn finish<I: Image>(&self, id: SnapshotId) -> SnapshotWork {
        self.work(SnapshotLane::Transfer, move |store| Done::<I>::Finished {
            id,
            result: store.finish(id),
        })
    }

    pub(super) fn keep<I: Image>(&self, snapshot: Snapshot) -> SnapshotWork {
        self.work(SnapshotLane::Transfer, move |store| Done::<I>::Kept {
            result: store.keep(&snapshot),
            snapshot,
        })
    }

    pub(super) fn abandon<I: Image>(&self) -> SnapshotWork {
        self.work(SnapshotLane::Transfer, |store| {
            // What is left of it is removed when the next one begins, or at the next start.
            let _ = store.abandon();
            Done::<I>::Nothing
        })
    }

    pub(super) fn load<I: Image>(&self, id: SnapshotId, limits: Limits) -> SnapshotWork {
        let is_over = Arc::clone(&self.is_over);
        self.work(SnapshotLane::Transfer, move |store| Done::<I>::Loaded {
            id,
            result: load_while(store, id, &limits, is_over),
        })
    }

    /// Drops a state that gave way to another. It may be large, and its memory is given back piece by piece.
    pub(super) fn drop_state<I: Image>(&self, state: StateImage<I>) -> SnapshotWork {
        // Behind the next one that is received: no more than two are there at a time.
        self.work(SnapshotLane::Transfer, move |_| {
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
    load_while(store, id, limits, Arc::default())
}

fn load_while<St: SnapshotStore, I: Image>(
    store: &St,
    id: SnapshotId,
    limits: &Limits,
    is_over: Arc<AtomicBool>,
) -> Result<StateImage<I>, StoreError> {
    let mut state = None;
    store.load(id, &mut |end| {
        let is_over = Arc::clone(&is_over);
        state = Some(StateImage::read(&mut Way { end, is_over }, limits)?);
        Ok(())
    })?;
    Ok(state.expect("the store calls it once"))
}
