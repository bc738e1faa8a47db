//! Deliberate bugs, to see that the checks find bugs.
//!
//! A build with `--cfg kraft_canary` can plant one at a time; `cargo ci canaries` makes that build, plants each, and
//! fails unless some law finds it within the seeds that it runs. In any other build [`is`] is `false` at compile time,
//! and nothing of a canary is left.

/// One bug. What it says is what the code then does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// A vote is told before term and vote are on disk.
    VoteBeforeSync,
    /// A voter gives its vote to whoever asks, also a second one in a term.
    SecondVote,
    /// A voter does not compare the candidate's log with its own.
    VoteForShorterLog,
    /// A candidate counts votes that it was given in an earlier term.
    StaleVoteCounted,
    /// To ask for a pre-vote is to enter the next term.
    PreVoteBumpsTerm,
    /// A restart takes the term of the log's last entry for the term.
    TermBackOnRestart,
    /// A fresh leader drops what it does not know to be committed.
    LeaderTruncates,
    /// A leader counts who has entries of earlier terms, too (the paper's figure 8).
    OldTermCommitted,
    /// A leader counts its own log before that is on disk.
    LeaderCountsUnsynced,
    /// A refused append counts as one that arrived.
    RejectionMatches,
    /// A leader's append is made when it is proposed, and sent later whatever became of its entries.
    WithdrawnSent,
    /// An append is taken behind an entry of another term, or behind a gap.
    MismatchAccepted,
    /// An append that the log goes beyond cuts what is behind it.
    StaleAppendTruncates,
    /// A follower believes a commit index for all of its log, also where nobody compared that with the leader's.
    CommitBeyondVerified,
    /// A follower acknowledges what it has in memory.
    AckBeforeSync,
    /// A sync of entries that were overwritten counts for those that stand there instead.
    AckByIndex,
    /// The log's front is released up to what is applied, whatever the newest snapshot holds.
    ReleasedBeyondSnapshot,
    /// A snapshot is installed though more than it holds is committed.
    OlderSnapshotInstalled,
    /// What stands behind a snapshot's place stays, also where the log contradicts the snapshot.
    ConflictKeptBehindSnapshot,
    /// A snapshot is acknowledged when its first piece comes.
    SnapshotAckOnSight,
    /// A snapshot is acknowledged before the term of its sender is on disk.
    SnapshotAckBeforeTerm,
    /// The log begins behind a snapshot, and the state machine is as it was.
    ResetWithoutRestore,
    /// A node that lost its log votes at once.
    RecoveringVotes,
    /// A node that lost its log begins in the term that it was in.
    DamagedTermKept,
    /// A leader answers reads without asking whether it still leads.
    ReadWithoutRound,
    /// A leader answers reads before it has committed an entry of its term.
    ReadBeforeNoop,
    /// A leader counts its lease from the answer to a heartbeat.
    LeaseFromReply,
    /// A leader that gave its leadership up answers reads to the end of its lease.
    LeaseKept,
    /// A node forgets with its process that it promised its vote to nobody.
    LeaseForgotten,
    /// A command of a session is applied as often as it comes.
    RetryAppliedTwice,
    /// A snapshot that is restored brings the state, and no sessions.
    SessionsNotRestored,
    /// A snapshot counts as durable when it is written.
    SnapshotNotSynced,
    /// What comes of one snapshot goes on where another one broke off, and nobody looks at the sums of what comes.
    SnapshotsMixed,
    /// Nobody looks at the sums of a snapshot.
    SnapshotUnchecked,
    /// The log begins anew behind a snapshot whose last piece was written, and which is not durable.
    ResetBeforeDurable,
    /// The log's front is released when a snapshot is begun.
    ReleasedBeforeSaved,
    /// A snapshot holds one entry more than it says.
    SnapshotIndexBehind,
    /// A snapshot is written before the log is durable up to it.
    SnapshotBeforeDurable,
    /// A client reports a command whose answer was lost as refused.
    UnknownRefused,
    /// A node whose disk was wiped is taken for the one that it was.
    WipedNodeAccepted,
    /// A leader hands over before its successor has all that there is.
    TransferToLagging,
    /// A transfer that comes to nothing is never given up.
    TransferNeverEnds,
    /// A node campaigns for a leader whose term has ended.
    StaleTimeoutNow,
    /// A batch in the log says that it is synced itself.
    MarkAheadOfSync,
    /// Damage below the mark is cut off as if it were a torn tail.
    DamageCut,
    /// In a joint configuration the new majority is enough.
    JointNeedsOne,
    /// A learner that has the log counts as if it voted.
    LearnerCounts,
    /// A configuration is in force when it is committed.
    ConfigurationAtCommit,
    /// A leader that is no voter any more counts itself.
    RemovedLeaderCounts,
    /// A leader changes the members before it has committed an entry of its term (Ongaro's bug of 2015).
    ChangeBeforeNoop,
    /// A second change is begun while one is under way.
    ChangesOverlap,
    /// A configuration that was cut off the log stays in force.
    ConfigurationStays,
    /// No configuration says of which life a founder is.
    LivesUnsaid,
    /// A lease is as long as a promise, however far clocks may come apart.
    LeaseUnshortened,
    /// A heartbeat says that so much is committed as the follower has.
    BehindUnaware,
    /// A node is up to date when it was told what is committed, applied or not.
    AgeOfUnapplied,
    /// A command that is to be on the leader's disk is answered before it is.
    LeaderAnswersUnsynced,
    /// A leader whose removal is committed leads on.
    RemovedLeads,
    /// A node goes when its removal is in its log, which may be taken back.
    GoesUncommitted,
    /// A change of the members is answered before it is committed.
    ChangeAnsweredEarly,
}

impl Canary {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::VoteBeforeSync,
        Self::SecondVote,
        Self::VoteForShorterLog,
        Self::StaleVoteCounted,
        Self::PreVoteBumpsTerm,
        Self::TermBackOnRestart,
        Self::LeaderTruncates,
        Self::OldTermCommitted,
        Self::LeaderCountsUnsynced,
        Self::RejectionMatches,
        Self::WithdrawnSent,
        Self::MismatchAccepted,
        Self::StaleAppendTruncates,
        Self::CommitBeyondVerified,
        Self::AckBeforeSync,
        Self::AckByIndex,
        Self::ReleasedBeyondSnapshot,
        Self::OlderSnapshotInstalled,
        Self::ConflictKeptBehindSnapshot,
        Self::SnapshotAckOnSight,
        Self::SnapshotAckBeforeTerm,
        Self::ResetWithoutRestore,
        Self::RecoveringVotes,
        Self::DamagedTermKept,
        Self::ReadWithoutRound,
        Self::ReadBeforeNoop,
        Self::LeaseFromReply,
        Self::LeaseKept,
        Self::LeaseForgotten,
        Self::RetryAppliedTwice,
        Self::SessionsNotRestored,
        Self::SnapshotNotSynced,
        Self::SnapshotsMixed,
        Self::SnapshotUnchecked,
        Self::ResetBeforeDurable,
        Self::ReleasedBeforeSaved,
        Self::SnapshotIndexBehind,
        Self::SnapshotBeforeDurable,
        Self::UnknownRefused,
        Self::WipedNodeAccepted,
        Self::TransferToLagging,
        Self::TransferNeverEnds,
        Self::StaleTimeoutNow,
        Self::MarkAheadOfSync,
        Self::DamageCut,
        Self::JointNeedsOne,
        Self::LearnerCounts,
        Self::ConfigurationAtCommit,
        Self::RemovedLeaderCounts,
        Self::ChangeBeforeNoop,
        Self::ChangesOverlap,
        Self::ConfigurationStays,
        Self::LivesUnsaid,
        Self::LeaseUnshortened,
        Self::BehindUnaware,
        Self::AgeOfUnapplied,
        Self::LeaderAnswersUnsynced,
        Self::RemovedLeads,
        Self::GoesUncommitted,
        Self::ChangeAnsweredEarly,
    ];
}

/// What shows a canary.
#[cfg(kraft_canary)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Whole nodes in virtual time.
    Nodes,
    /// Raft alone in bad weather: in whole nodes something else hides it.
    Raft,
    /// The log alone, on a disk that rots.
    Log,
    /// Raft alone, while members change.
    Members,
    /// The state alone, by its images.
    State,
}

#[cfg(kraft_canary)]
impl Canary {
    /// Where it must be found.
    #[must_use]
    pub fn reach(self) -> Reach {
        match self {
            Self::PreVoteBumpsTerm | Self::OldTermCommitted | Self::WithdrawnSent => Reach::Raft,
            Self::ReleasedBeyondSnapshot
            | Self::OlderSnapshotInstalled
            | Self::ConflictKeptBehindSnapshot
            | Self::SnapshotAckOnSight
            | Self::SnapshotAckBeforeTerm
            | Self::ResetWithoutRestore
            | Self::RecoveringVotes
            | Self::DamagedTermKept => Reach::Raft,
            Self::LeaseFromReply | Self::LeaseForgotten | Self::LeaseUnshortened => Reach::Raft,
            Self::TransferToLagging | Self::TransferNeverEnds | Self::StaleTimeoutNow => Reach::Raft,
            Self::MarkAheadOfSync | Self::DamageCut => Reach::Log,
            Self::JointNeedsOne
            | Self::LearnerCounts
            | Self::ConfigurationAtCommit
            | Self::RemovedLeaderCounts
            | Self::ChangeBeforeNoop
            | Self::ChangesOverlap
            | Self::ConfigurationStays => Reach::Members,
            _ => Reach::Nodes,
        }
    }
}

/// Whether this bug is planted.
#[cfg(not(kraft_canary))]
#[must_use]
#[inline]
pub const fn is(_: Canary) -> bool {
    false
}

/// Whether this bug is planted, on this thread.
#[cfg(kraft_canary)]
#[must_use]
pub fn is(canary: Canary) -> bool {
    PLANTED.get() == Some(canary)
}

/// Plants a bug on this thread, or none.
#[cfg(kraft_canary)]
pub fn plant(canary: Option<Canary>) {
    PLANTED.set(canary);
}

#[cfg(kraft_canary)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Canary>> = const { std::cell::Cell::new(None) };
}
