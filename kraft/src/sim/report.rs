//! What runs came to.

use std::fmt;
use std::time::Duration;

use kraft_core::handshake::Kind as Message;
use kraft_core::id::{Index, Term};
use kraft_core::message::{NodeState, Refusal};
use kraft_core::node::Notice;
use kraft_core::time::Instant;

use super::Options;
use super::faults::Kind;

/// What a run came to, or several together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Runs.
    pub runs: u64,
    /// Virtual time that passed.
    pub simulated: Duration,
    /// Operations that users know to have happened.
    pub committed: usize,
    /// Operations that may have happened.
    pub unknown: u64,
    /// Operations that did not happen.
    pub refused: u64,
    /// The highest committed index.
    pub commit: Index,
    /// The highest term.
    pub term: Term,
    /// Faults that happened, by kind.
    pub fired: Fired,
    /// Answers that stand for less than the default.
    pub weaker: Weaker,
    /// What became of changes of the members.
    pub changed: Changed,
    /// What became of snapshots.
    pub snapped: Snapped,
    /// What nodes were given to handle.
    pub handled: Handled,
    /// Nodes that lost their logs and made up for that.
    pub recoveries: u64,
    /// Steps of the simulation.
    pub steps: u64,
    /// A hash of every frame and of every node's states: equal for equal runs.
    pub trace: u64,
}

impl Report {
    /// Takes another run in.
    pub fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.simulated += other.simulated;
        self.committed += other.committed;
        self.unknown += other.unknown;
        self.refused += other.refused;
        self.commit = self.commit.max(other.commit);
        self.term = self.term.max(other.term);
        self.recoveries += other.recoveries;
        self.steps += other.steps;
        // Runs end in any order.
        self.trace = self.trace.wrapping_add(other.trace);
        self.fired.add(&other.fired);
        self.snapped.add(&other.snapped);
        self.weaker.add(&other.weaker);
        self.changed.add(&other.changed);
        for (mine, others) in self
            .handled
            .0
            .iter_mut()
            .flatten()
            .zip(other.handled.0.iter().flatten())
        {
            *mine += others;
        }
    }
}

/// How many faults happened, by kind. One that waits for its chance, an error of a disk for a write or a lossy path for
/// something to lose, counts when it had that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fired([u64; Kind::ALL.len()]);

impl Fired {
    /// Of one kind.
    #[must_use]
    pub fn count(&self, kind: Kind) -> u64 {
        self.0[kind.index()]
    }

    /// Of all kinds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(super) fn note(&mut self, kind: Kind) {
        self.note_many(kind, 1);
    }

    pub(super) fn note_many(&mut self, kind: Kind, count: u64) {
        self.0[kind.index()] += count;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (mine, others) in self.0.iter_mut().zip(other.0) {
            *mine += others;
        }
    }
}

impl fmt::Display for Fired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for kind in Kind::ALL {
            if self.count(kind) > 0 {
                write!(f, "{separator}{kind} {}", self.count(kind))?;
                separator = ", ";
            }
        }
        if separator.is_empty() {
            f.write_str("none")
        } else {
            Ok(())
        }
    }
}

/// What became of changes of the members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Asked for.
    pub asked: u64,
    /// Answered as done.
    pub done: u64,
    /// Refused.
    pub refused: u64,
    /// Of unknown outcome.
    pub unknown: u64,
    /// Such as cannot be, refused for that reason.
    pub barred: Barred,
    /// Nodes that became voters.
    pub came: u64,
    /// Voters that became none.
    pub went: u64,
    /// Nodes that ended because they were removed.
    pub gone: u64,
}

impl Changed {
    /// What never happened, of all that can become of one.
    #[must_use]
    pub fn missing(&self) -> Option<&'static str> {
        let counts = [
            ("a change that is done", self.done),
            ("a change that is refused", self.refused),
            ("a change of unknown outcome", self.unknown),
            ("a change of a member that nobody knows", self.barred.unknown),
            ("a change that is at odds with a member", self.barred.conflict),
            ("a change to no address", self.barred.invalid),
            ("a node that becomes a voter", self.came),
            ("a voter that becomes none", self.went),
            ("a node that ends because it was removed", self.gone),
        ];
        let missing = counts.into_iter().find(|(_, count)| *count == 0)?;
        Some(missing.0)
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.asked += other.asked;
        self.done += other.done;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.barred.add(other.barred);
        self.came += other.came;
        self.went += other.went;
        self.gone += other.gone;
    }
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            asked,
            done,
            refused,
            unknown,
            barred,
            came,
            went,
            gone,
        } = self;
        write!(
            f,
            "{asked} changes asked for, {done} done, {refused} refused, {unknown} unknown; that cannot be, refused as \
             such: {barred}; {came} voters came, {went} went; {gone} nodes ended as removed"
        )
    }
}

/// Changes that cannot be, by the reason for which they were refused. That another one is under way anybody may hear: it
/// is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Barred {
    /// About nobody that is a member.
    pub unknown: u64,
    /// At odds with who is a member, or was removed.
    pub conflict: u64,
    /// To no address.
    pub invalid: u64,
    /// The only voter was to go.
    pub voters: u64,
}

impl Barred {
    pub(super) fn note(&mut self, why: Refusal) {
        match why {
            Refusal::UnknownMember => self.unknown += 1,
            Refusal::MemberConflict => self.conflict += 1,
            Refusal::Invalid => self.invalid += 1,
            Refusal::Voters => self.voters += 1,
            _ => {}
        }
    }

    /// What both came to.
    pub fn add(&mut self, other: Self) {
        self.unknown += other.unknown;
        self.conflict += other.conflict;
        self.invalid += other.invalid;
        self.voters += other.voters;
    }
}

impl fmt::Display for Barred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            unknown,
            conflict,
            invalid,
            voters,
        } = self;
        write!(
            f,
            "{unknown} of nobody, {conflict} at odds with members, {invalid} to no address, {voters} of the only voter"
        )
    }
}

/// How many answers stand for less than the default, as was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weaker {
    /// Reads by lease.
    pub leased: u64,
    /// Stale reads.
    pub stale: u64,
    /// Commands that were on the leader's disk.
    pub by_leader: u64,
    /// Commands that the leader had received.
    pub received: u64,
}

impl Weaker {
    /// What was never answered, of all that users ask for.
    #[must_use]
    pub fn missing(&self) -> Option<&'static str> {
        let counts = [
            ("a read by lease", self.leased),
            ("a stale read", self.stale),
            ("a command answered from the leader's disk", self.by_leader),
            ("a command answered on receipt", self.received),
        ];
        let missing = counts.into_iter().find(|(_, count)| *count == 0)?;
        Some(missing.0)
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.leased += other.leased;
        self.stale += other.stale;
        self.by_leader += other.by_leader;
        self.received += other.received;
    }
}

impl fmt::Display for Weaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            leased,
            stale,
            by_leader,
            received,
        } = self;
        write!(
            f,
            "{leased} reads by lease, {stale} stale ones, {by_leader} commands on the leader's disk, {received} on receipt"
        )
    }
}

/// What became of snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapped {
    /// Taken of a state, and durable.
    pub taken: u64,
    /// Transfers that began.
    pub sent: u64,
    /// Transfers after which a follower had a whole one.
    pub received: u64,
    /// Of these, how many took the place of a log.
    pub installed: u64,
    /// Refusals that came to a leader: damaged, or no space.
    pub refused: u64,
    /// Ones that could not be taken, read or received.
    pub failed: u64,
    /// Bits of them that rotted.
    pub rotten: u64,
}

impl Snapped {
    pub(super) fn note(&mut self, notice: &Notice<'_>) {
        match notice {
            Notice::SnapshotTaken { .. } => self.taken += 1,
            Notice::SnapshotSending { .. } => self.sent += 1,
            Notice::SnapshotReceived { .. } => self.received += 1,
            Notice::SnapshotRefused { .. } => self.refused += 1,
            Notice::SnapshotFailed { .. } => self.failed += 1,
            _ => {}
        }
    }

    /// What never happened, of all that can become of one.
    #[must_use]
    pub fn missing(&self) -> Option<&'static str> {
        let counts = [
            ("taken", self.taken),
            ("sent", self.sent),
            ("received", self.received),
            ("installed", self.installed),
            ("refused", self.refused),
            ("failed", self.failed),
            ("rotten", self.rotten),
        ];
        let missing = counts.into_iter().find(|(_, count)| *count == 0)?;
        Some(missing.0)
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.taken += other.taken;
        self.sent += other.sent;
        self.received += other.received;
        self.installed += other.installed;
        self.refused += other.refused;
        self.failed += other.failed;
        self.rotten += other.rotten;
    }
}

impl fmt::Display for Snapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            taken,
            sent,
            received,
            installed,
            refused,
            failed,
            rotten,
        } = self;
        write!(
            f,
            "{taken} taken, {sent} sent, {received} received, {installed} installed, {refused} refused, {failed} failed, \
             {rotten} rotten"
        )
    }
}

/// The states of a node, in the order of the counters.
pub const STATES: [NodeState; 4] = [
    NodeState::Follower,
    NodeState::PreCandidate,
    NodeState::Candidate,
    NodeState::Leader,
];

/// How many messages of each kind nodes handled, by the state that they were in when the turn began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handled([[u64; STATES.len()]; Message::ALL.len()]);

impl Handled {
    /// Of one kind, in one state.
    #[must_use]
    pub fn count(&self, kind: Message, state: NodeState) -> u64 {
        self.0[kind as usize][state_index(state)]
    }

    pub(super) fn note(&mut self, kind: Message, state: NodeState) {
        self.0[kind as usize][state_index(state)] += 1;
    }
}

fn state_index(state: NodeState) -> usize {
    match state {
        NodeState::Follower => 0,
        NodeState::PreCandidate => 1,
        NodeState::Candidate => 2,
        NodeState::Leader => 3,
    }
}

impl fmt::Display for Handled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<16}{:>12}{:>14}{:>12}{:>12}",
            "", "follower", "pre-candidate", "candidate", "leader"
        )?;
        for kind in Message::ALL {
            let counts = STATES.map(|state| self.count(kind, state));
            if counts.iter().any(|count| *count > 0) {
                let [follower, pre_candidate, candidate, leader] = counts;
                let name = format!("{kind:?}");
                write!(
                    f,
                    "\n{name:<16}{follower:>12}{pre_candidate:>14}{candidate:>12}{leader:>12}"
                )?;
            }
        }
        Ok(())
    }
}

/// A law that did not hold, or a node that died of something that it should bear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The run that showed it.
    pub options: Options,
    /// When, in virtual time.
    pub at: Instant,
    /// What.
    pub what: String,
    /// The last steps before it.
    pub steps: Vec<String>,
}

impl Violation {
    /// The command that shows it again.
    #[must_use]
    pub fn command(&self) -> String {
        self.options.command()
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {} at {:?}: {}", self.options.seed, self.at, self.what)
    }
}

impl std::error::Error for Violation {}
