//! openraft, which is tasks and channels and needs a runtime: tokio's on one thread. What its runtime does for a command
//! is a part of what it costs. The log is a ring in memory, and a message to another node is a call of its handle.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::future::Future;
use std::io::{self, Cursor};
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use openraft::error::{InstallSnapshotError, RPCError, RaftError, RemoteError};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use openraft::storage::{LogFlushed, RaftLogStorage, RaftStateMachine};
use openraft::{
    Config, EmptyNode, Entry, EntryPayload, LogId, LogState, Raft, RaftLogReader, RaftSnapshotBuilder, Snapshot,
    SnapshotMeta, SnapshotPolicy, StorageError, StorageIOError, StoredMembership, Vote,
};
use tokio::runtime::Builder;

use super::{Begun, ELECTION, Found, HEARTBEAT, KEPT, LEADER, Ledger, Load, NODES, PATIENCE, stalled};
use crate::inside;
use crate::serve::Task;

openraft::declare_raft_types!(
    pub(super) Types:
        D = Bytes,
        R = (),
        NodeId = u64,
        Node = EmptyNode,
);

type Stored<T> = Result<T, StorageError<u64>>;
type Answer<T, E = RaftError<u64>> = Result<T, RPCError<u64, EmptyNode, E>>;

/// Measures it.
pub(crate) fn serve(task: &Task) -> io::Result<()> {
    let outcome = run(task).and_then(|found| inside::tell(found.count, found.elapsed, found.cpu, found.allocated));
    outcome.map_err(|error| inside::fail(&error))
}

/// Three nodes and their load, all in a runtime of their own.
pub(super) fn run(task: &Task) -> io::Result<Found> {
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let bound = task.warm_up + task.measured + PATIENCE;
    runtime.block_on(async {
        let bounded = tokio::time::timeout(bound, drive(task)).await;
        bounded.unwrap_or_else(|_| Err(stalled(PATIENCE)))
    })
}

/// A closed loop, as that of the other cores: commands are acknowledged in the order in which they were proposed, so one
/// task waits for the oldest and proposes for those that are answered.
async fn drive(task: &Task) -> io::Result<Found> {
    let nodes = Nodes::new().await?;
    let leader = &nodes.handles[LEADER];
    let mut load = Load::default();
    let mut waiting = VecDeque::with_capacity(task.connections);
    let (mut acknowledged, mut last, mut found) = (0, None, None);
    for span in [task.warm_up, task.measured] {
        let began = Begun::now(acknowledged);
        while began.at.elapsed() < span || acknowledged == began.count {
            while waiting.len() < task.connections {
                let reply = leader.client_write_ff(Bytes::from(load.draw())).await;
                waiting.push_back(reply.map_err(io::Error::other)?);
            }
            if let Some(oldest) = waiting.pop_front() {
                last = Some(committed(oldest).await?);
                acknowledged += 1;
            }
        }
        found = Some(began.found(acknowledged));
    }
    for reply in waiting {
        last = Some(committed(reply).await?);
    }
    for node in &nodes.handles {
        let wait = node.wait(Some(PATIENCE));
        // Who lacks what is said by who compares.
        let _ = wait.applied_index_at_least(last, "all is applied").await;
    }
    load.verify(nodes.applied.each_ref().map(|ledger| *lock(ledger)))?;
    Ok(found.expect("two spans have passed"))
}

/// Waits for the index of a command that was proposed.
async fn committed<E>(
    reply: impl Future<Output = Result<openraft::raft::ClientWriteResult<Types>, E>>,
) -> io::Result<u64> {
    let reply = reply.await.map_err(|_| io::Error::other("node 1 ended"))?;
    let response = reply.map_err(|error| io::Error::other(format!("node 1 refused a command: {error}")))?;
    Ok(response.log_id.index)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Three nodes, each a task that the runtime has.
struct Nodes {
    handles: Vec<Raft<Types>>,
    applied: [Arc<Mutex<Ledger>>; NODES],
}

impl Nodes {
    /// The first of them was elected.
    async fn new() -> io::Result<Self> {
        let config = Config {
            heartbeat_interval: HEARTBEAT.as_millis() as u64,
            election_timeout_min: ELECTION.as_millis() as u64,
            election_timeout_max: 2 * ELECTION.as_millis() as u64,
            // It cuts its log off behind a snapshot alone, which is a few bytes here.
            snapshot_policy: SnapshotPolicy::LogsSinceLast(KEPT as u64 / 2),
            max_in_snapshot_log_to_keep: KEPT as u64 / 2,
            ..Config::default()
        };
        let config = Arc::new(config.validate().map_err(io::Error::other)?);
        let wires = Wires::default();
        let applied: [Arc<Mutex<Ledger>>; NODES] = Default::default();
        let mut handles = Vec::with_capacity(NODES);
        for (id, ledger) in (1..).zip(&applied) {
            let machine = Machine {
                applied: Arc::clone(ledger),
                ..Machine::default()
            };
            let node = Raft::new(id, Arc::clone(&config), wires.clone(), Log::default(), machine).await;
            handles.push(node.map_err(io::Error::other)?);
        }
        wires.0.get_or_init(|| handles.clone());
        let members: BTreeMap<u64, EmptyNode> = (1..=NODES as u64).map(|id| (id, EmptyNode {})).collect();
        let leader = &handles[LEADER];
        leader.initialize(members).await.map_err(io::Error::other)?;
        let elected = leader.wait(Some(PATIENCE)).current_leader(1, "node 1 is elected").await;
        elected.map_err(io::Error::other)?;
        Ok(Self { handles, applied })
    }
}

/// All nodes, once they are there.
#[derive(Clone, Default)]
struct Wires(Arc<OnceLock<Vec<Raft<Types>>>>);

/// A wire to one of them.
struct Wire {
    wires: Wires,
    to: u64,
}

impl Wire {
    fn node(&self) -> &Raft<Types> {
        let nodes = self.wires.0.get().expect("nobody speaks before all are there");
        &nodes[self.to as usize - 1]
    }

    fn failed<E: std::error::Error>(&self, error: E) -> RPCError<u64, EmptyNode, E> {
        RPCError::RemoteError(RemoteError::new(self.to, error))
    }
}

impl RaftNetworkFactory<Types> for Wires {
    type Network = Wire;

    async fn new_client(&mut self, to: u64, _: &EmptyNode) -> Wire {
        let wires = self.clone();
        Wire { wires, to }
    }
}

impl RaftNetwork<Types> for Wire {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Answer<AppendEntriesResponse<u64>> {
        let answer = self.node().append_entries(request).await;
        answer.map_err(|error| self.failed(error))
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Types>,
        _: RPCOption,
    ) -> Answer<InstallSnapshotResponse<u64>, RaftError<u64, InstallSnapshotError>> {
        let answer = self.node().install_snapshot(request).await;
        answer.map_err(|error| self.failed(error))
    }

    async fn vote(&mut self, request: VoteRequest<u64>, _: RPCOption) -> Answer<VoteResponse<u64>> {
        let answer = self.node().vote(request).await;
        answer.map_err(|error| self.failed(error))
    }
}

/// A log in memory, and those who read it.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Entries>>);

/// The indices of `entries` follow one another, from behind `purged`.
#[derive(Debug, Default)]
struct Entries {
    entries: VecDeque<Entry<Types>>,
    purged: Option<LogId<u64>>,
    vote: Option<Vote<u64>>,
}

impl Entries {
    /// Where the entry with this index stands, or would.
    fn place(&self, index: u64) -> usize {
        let first = self.entries.front().map_or(index, |entry| entry.log_id.index);
        let at = usize::try_from(index.saturating_sub(first)).unwrap_or(usize::MAX);
        at.min(self.entries.len())
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: R,
    ) -> Stored<Vec<Entry<Types>>> {
        let log = lock(&self.0);
        let from = match range.start_bound() {
            Bound::Included(index) => log.place(*index),
            Bound::Excluded(index) => log.place(*index + 1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(index) => log.place(*index + 1),
            Bound::Excluded(index) => log.place(*index),
            Bound::Unbounded => log.entries.len(),
        };
        Ok(log.entries.range(from..to.max(from)).cloned().collect())
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Stored<LogState<Types>> {
        let log = lock(&self.0);
        Ok(LogState {
            last_purged_log_id: log.purged,
            last_log_id: log.entries.back().map(|entry| entry.log_id).or(log.purged),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Stored<()> {
        lock(&self.0).vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Stored<Option<Vote<u64>>> {
        Ok(lock(&self.0).vote)
    }

    async fn append<I>(&mut self, entries: I, flushed: LogFlushed<Types>) -> Stored<()>
    where
        I: IntoIterator<Item = Entry<Types>> + Send,
        I::IntoIter: Send,
    {
        lock(&self.0).entries.extend(entries);
        flushed.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId<u64>) -> Stored<()> {
        let mut log = lock(&self.0);
        let kept = log.place(from.index);
        log.entries.truncate(kept);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId<u64>) -> Stored<()> {
        let mut log = lock(&self.0);
        let gone = log.place(upto.index + 1);
        log.entries.drain(..gone);
        log.purged = Some(upto);
        Ok(())
    }
}

/// A state machine whose state is its ledger.
#[derive(Clone, Debug, Default)]
struct Machine {
    applied: Arc<Mutex<Ledger>>,
    last: Option<LogId<u64>>,
    members: StoredMembership<u64, EmptyNode>,
}

impl Machine {
    fn snapshot(&self) -> Snapshot<Types> {
        let Ledger { count, crc } = *lock(&self.applied);
        let bytes = [&count.to_le_bytes()[..], &crc.to_le_bytes()].concat();
        Snapshot {
            meta: SnapshotMeta {
                last_log_id: self.last,
                last_membership: self.members.clone(),
                snapshot_id: count.to_string(),
            },
            snapshot: Box::new(Cursor::new(bytes)),
        }
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Stored<(Option<LogId<u64>>, StoredMembership<u64, EmptyNode>)> {
        Ok((self.last, self.members.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Stored<Vec<()>>
    where
        I: IntoIterator<Item = Entry<Types>> + Send,
        I::IntoIter: Send,
    {
        let mut applied = lock(&self.applied);
        let apply = |entry: Entry<Types>| {
            self.last = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(command) => applied.apply(&command),
                EntryPayload::Membership(members) => {
                    self.members = StoredMembership::new(Some(entry.log_id), members);
                }
            }
        };
        Ok(entries.into_iter().map(apply).collect())
    }

    /// As it is when it is asked for one.
    async fn get_snapshot_builder(&mut self) -> Self {
        let applied = *lock(&self.applied);
        Self {
            applied: Arc::new(Mutex::new(applied)),
            ..self.clone()
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Stored<Box<Cursor<Vec<u8>>>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, EmptyNode>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Stored<()> {
        let bytes = snapshot.into_inner();
        let parts = bytes.split_first_chunk::<8>();
        let parts = parts.and_then(|(count, crc)| Some((*count, crc.try_into().ok()?)));
        let Some((count, crc)) = parts else {
            let error = io::Error::from(io::ErrorKind::InvalidData);
            return Err(StorageIOError::read_snapshot(Some(meta.signature()), &error).into());
        };
        *lock(&self.applied) = Ledger {
            count: u64::from_le_bytes(count),
            crc: u32::from_le_bytes(crc),
        };
        self.last = meta.last_log_id;
        self.members = meta.last_membership.clone();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Stored<Option<Snapshot<Types>>> {
        Ok(self.last.map(|_| self.snapshot()))
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Stored<Snapshot<Types>> {
        Ok(self.snapshot())
    }
}

/// openraft's own suite, over a log and a machine as nodes have them.
#[cfg(test)]
pub(super) fn judge() -> Result<(), String> {
    use openraft::testing::{StoreBuilder, Suite};

    struct Fresh;

    impl StoreBuilder<Types, Log, Machine> for Fresh {
        async fn build(&self) -> Stored<((), Log, Machine)> {
            Ok(((), Log::default(), Machine::default()))
        }
    }

    Suite::test_all(Fresh).map_err(|error| error.to_string())
}
