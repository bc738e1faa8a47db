//! What can go wrong, by name.

use std::fmt;
use std::str::FromStr;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// What is sent is lost and sent again, until a connection times out.
    Loss,
    /// Everything takes long, and very differently so.
    Delay,
    /// Lines carry few bytes a second.
    Bandwidth,
    /// Nodes fall into two groups that hear nothing of each other, or some pairs of them do.
    Partition,
    /// A direction between two nodes is cut, the other is not.
    OneWay,
    /// A direction delivers nothing for a while, and then everything at once.
    Clog,
    /// All connections of a node are reset.
    Reset,
    /// Connections of a node end, perhaps in the middle of a frame.
    Tear,
    /// Frames between nodes arrive twice.
    Duplicate,
    /// Frames between nodes overtake each other.
    Reorder,
    /// Frames of an earlier connection arrive on a later one.
    Replay,
    /// Syncs take up to three seconds.
    Stall,
    /// A write fails, or writes a part.
    WriteError,
    /// A sync fails: what it should have written is lost.
    SyncError,
    /// A read fails, or reads a part.
    ReadError,
    /// The disk is full for a while.
    Full,
    /// A bit of what was synced is not what it was; it may be mended later.
    Rot,
    /// A process ends as by `kill -9`, and starts again.
    Crash,
    /// A machine loses power, and with it what was not synced, or a part of that.
    Power,
    /// A process does not get to run for a while.
    Pause,
    /// A clock jumps forward.
    Jump,
    /// A clock runs slow or fast.
    Drift,
    /// A data folder is wiped, and the id comes back with an empty one.
    Wipe,
    /// Leadership is to be handed over.
    Transfer,
    /// A process is stopped in order, and started again.
    Stop,
    /// Members are to be others: nodes are added, promoted, removed, replaced, moved.
    Member,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 26] = [
        Self::Loss,
        Self::Delay,
        Self::Bandwidth,
        Self::Partition,
        Self::OneWay,
        Self::Clog,
        Self::Reset,
        Self::Tear,
        Self::Duplicate,
        Self::Reorder,
        Self::Replay,
        Self::Stall,
        Self::WriteError,
        Self::SyncError,
        Self::ReadError,
        Self::Full,
        Self::Rot,
        Self::Crash,
        Self::Power,
        Self::Pause,
        Self::Jump,
        Self::Drift,
        Self::Wipe,
        Self::Transfer,
        Self::Stop,
        Self::Member,
    ];

    /// The name by which users choose it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Delay => "delay",
            Self::Bandwidth => "bandwidth",
            Self::Partition => "partition",
            Self::OneWay => "one-way",
            Self::Clog => "clog",
            Self::Reset => "reset",
            Self::Tear => "tear",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Replay => "replay",
            Self::Stall => "stall",
            Self::WriteError => "write-error",
            Self::SyncError => "sync-error",
            Self::ReadError => "read-error",
            Self::Full => "full",
            Self::Rot => "rot",
            Self::Crash => "crash",
            Self::Power => "power",
            Self::Pause => "pause",
            Self::Jump => "jump",
            Self::Drift => "drift",
            Self::Wipe => "wipe",
            Self::Transfer => "transfer",
            Self::Stop => "stop",
            Self::Member => "member",
        }
    }

    /// Whether it happens when it has a chance to, which may be never: what is sent must be lost, or the disk be used.
    #[must_use]
    pub(super) const fn waits(self) -> bool {
        matches!(
            self,
            Self::Loss
                | Self::Duplicate
                | Self::Reorder
                | Self::Replay
                | Self::Stall
                | Self::WriteError
                | Self::SyncError
                | Self::ReadError
                | Self::Full
        )
    }

    /// Where it stands in [`ALL`](Self::ALL).
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u32);

impl Kinds {
    /// None.
    pub const NONE: Self = Self(0);
    /// All.
    pub const ALL: Self = Self((1 << Kind::ALL.len()) - 1);

    /// These.
    #[must_use]
    pub const fn of(kinds: &[Kind]) -> Self {
        let mut set = Self::NONE;
        let mut at = 0;
        while at < kinds.len() {
            set = set.with(kinds[at]);
            at += 1;
        }
        set
    }

    /// This set and `kind`.
    #[must_use]
    pub const fn with(self, kind: Kind) -> Self {
        Self(self.0 | 1 << kind.index())
    }

    /// This set without `kind`.
    #[must_use]
    pub const fn without(self, kind: Kind) -> Self {
        Self(self.0 & !(1 << kind.index()))
    }

    /// Whether `kind` is in it.
    #[must_use]
    pub const fn has(self, kind: Kind) -> bool {
        self.0 & 1 << kind.index() != 0
    }

    /// The kinds in it.
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.has(*kind))
    }
}

impl fmt::Display for Kinds {
    /// As [`from_str`](Self::from_str) reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            return f.write_str("none");
        }
        for (at, kind) in self.iter().enumerate() {
            write!(f, "{}{kind}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for Kinds {
    type Err = String;

    /// Names with commas between them; `all`, `none`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(Self::ALL),
            "none" => return Ok(Self::NONE),
            _ => {}
        }
        text.split(',').try_fold(Self::NONE, |set, name| {
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name.trim());
            kind.map(|kind| set.with(kind))
                .ok_or_else(|| format!("no fault is called {name:?}; there are {}, or all, or none", Self::ALL))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_faults_are_read_back() {
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), at);
            assert_eq!(kind.name().parse(), Ok(Kinds::of(&[kind])));
        }
        assert_eq!(Kinds::ALL.to_string().parse(), Ok(Kinds::ALL));
        assert_eq!("none".parse(), Ok(Kinds::NONE));
        assert!("crash,fire".parse::<Kinds>().unwrap_err().contains("fire"));
    }
}
