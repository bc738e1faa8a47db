//! What a server process does.

use clap::ValueEnum;

/// What a server does with what it receives, or with itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Job {
    /// What comes goes back.
    Echo,
    /// Each request names a piece of the pattern, which is the reply: shared memory, never copied by a loop that can
    /// do without.
    Pump,
    /// What one connection says goes to all others.
    FanOut,
    /// No connections: another thread wakes the loop and waits until it is heard.
    Wake,
    /// No connections: another thread wakes the loop as fast as it can.
    Flood,
    /// No connections: timers are started and stopped.
    Churn,
    /// No connections: timers are started, half of them stopped, and the rest expires.
    Expire,
    /// No connections: three nodes of a Raft core get commands and hand each other messages.
    Replicate,
}

/// Why engines that have sockets alone do not answer the rest.
pub(crate) type Lacks = &'static [(Job, &'static str)];

/// For engines that answer everything.
pub(crate) const NOTHING: Lacks = &[];

/// For servers without a loop: they have connections and nothing else.
pub(crate) const ALL_BUT_CONNECTIONS: Lacks = &[
    (Job::Wake, NOBODY),
    (Job::Flood, NOBODY),
    (Job::Churn, "it has no timers"),
    (Job::Expire, "it has no timers"),
];

/// Who blocks in a read is woken by bytes alone.
const NOBODY: &str = "it has no loop that could be woken";

/// For kqueue by hand where the crates that speak to it show no event that a program triggers.
pub(crate) const KQUEUE: Lacks = &[
    (Job::Wake, UNTRIGGERED),
    (Job::Flood, UNTRIGGERED),
    (Job::Churn, "it has no timers"),
    (Job::Expire, "it has no timers"),
];

const UNTRIGGERED: &str = "it is woken by an EVFILT_USER, which the crates for kqueue do not show here";

/// For loops that can be woken and have no timers.
pub(crate) const TIMERS: Lacks = &[(Job::Churn, "it has no timers"), (Job::Expire, "it has no timers")];

/// For monoio.
pub(crate) const MONOIO: Lacks = &[
    (
        Job::Wake,
        "wakes by other threads are its feature `sync`, which is another loop",
    ),
    (
        Job::Flood,
        "wakes by other threads are its feature `sync`, which is another loop",
    ),
    (Job::Churn, INSIDE),
    (Job::Expire, INSIDE),
];

/// For compio.
pub(crate) const COMPIO: Lacks = &[(Job::Churn, INSIDE), (Job::Expire, INSIDE)];

const INSIDE: &str = "its timers are started by what runs in it, and here they are started from outside";

impl Job {
    /// Whether the load connects. Otherwise the process measures itself and says what it found.
    pub(crate) fn has_connections(self) -> bool {
        matches!(self, Self::Echo | Self::Pump | Self::FanOut)
    }

    /// As `--job` has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Pump => "pump",
            Self::FanOut => "fan-out",
            Self::Wake => "wake",
            Self::Flood => "flood",
            Self::Churn => "churn",
            Self::Expire => "expire",
            Self::Replicate => "replicate",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        for &job in Job::value_variants() {
            assert_eq!(Job::from_str(job.name(), false), Ok(job));
        }
    }
}
