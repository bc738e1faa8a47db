//! What happens when: drawn from a seed, before anything does.
//!
//! Faults of processes and disks, of lines, and of packets overlap freely. Safety must hold whatever they are, so no
//! fault is left out for fear that nobody can lead meanwhile; when the last one is over, the cluster must lead again.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;

use crate::network::NODES;
use crate::packets::Weather;

/// Whom a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Whoever leads when it begins.
    Leader,
    Node(usize),
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL; started again at the end.
    Kill(Target),
    /// SIGKILL for all at once.
    KillAll,
    /// SIGSTOP, and SIGCONT at the end.
    Stop(Target),
    /// SIGTERM; started again at the end.
    Terminate(Target),
    /// No byte is left on its disk.
    Fill(Target),
    /// Its disk loses power while the node goes on, and finds out.
    PowerOfDisk(Target),
    /// Disk and node lose power at once.
    Power(Target),
    /// All lose power at once.
    PowerOfAll,
    /// No packet goes to the others or comes from them; clients reach it.
    Isolate(Target),
    /// As that, and clients do not reach it either.
    CutOff(Target),
    /// It sends, and does not hear the others.
    Deaf(Target),
    /// It hears, and the others do not hear it.
    Mute(Target),
    /// Two nodes do not hear each other, and everybody else does.
    Pair(usize, usize),
    /// Two nodes on one side, three on the other.
    Halves(usize, usize),
    /// All TCP connections of a node break.
    Sever(Target),
    /// What comes in at a node is held back, lost, or overtaken.
    Weather(Target, Weather),
}

/// The kinds of faults, by which they are drawn, counted and left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sort {
    Kill,
    KillAll,
    Stop,
    Terminate,
    Fill,
    PowerOfDisk,
    Power,
    PowerOfAll,
    Isolate,
    CutOff,
    Deaf,
    Mute,
    Pair,
    Halves,
    Sever,
    Delay,
    Loss,
    Reorder,
}

/// A fault and its span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) begins: Duration,
    pub(crate) ends: Duration,
    pub(crate) fault: Fault,
}

/// Kinds that take turns: two of one track never overlap.
#[derive(Clone, Copy, Debug)]
struct Track {
    sorts: &'static [Sort],
    /// Milliseconds between the end of one and the beginning of the next.
    pause_ms: (u64, u64),
    /// Milliseconds that one lasts.
    lasts_ms: (u64, u64),
}

/// Two nodes may be down in this way, which a cluster of five bears.
const MACHINE: Track = Track {
    sorts: &[
        Sort::Kill,
        Sort::Stop,
        Sort::Terminate,
        Sort::Fill,
        Sort::PowerOfDisk,
        Sort::Power,
        Sort::Kill,
        Sort::Power,
        Sort::KillAll,
        Sort::PowerOfAll,
    ],
    pause_ms: (300, 3000),
    lasts_ms: (500, 5000),
};

const NETWORK: Track = Track {
    sorts: &[
        Sort::Isolate,
        Sort::CutOff,
        Sort::Deaf,
        Sort::Mute,
        Sort::Pair,
        Sort::Halves,
        Sort::Sever,
    ],
    pause_ms: (500, 4000),
    lasts_ms: (300, 4000),
};

const PACKETS: Track = Track {
    sorts: &[Sort::Delay, Sort::Loss, Sort::Reorder],
    pause_ms: (500, 5000),
    lasts_ms: (1000, 5000),
};

/// All faults of a run, in the order in which they begin; each ends before the run does.
pub(crate) fn draw(seed: u64, span: Duration, can: impl Fn(Sort) -> bool) -> Vec<Event> {
    let mut rng = Rng::with_seed(seed);
    let mut events = Vec::new();
    // Nodes are two at a time, the rest one.
    for track in [MACHINE, MACHINE, NETWORK, PACKETS] {
        events.extend(track.draw(rng.fork(), span, &can));
    }
    events.sort_by_key(|event| event.begins);
    events
}

impl Track {
    fn draw(&self, mut rng: Rng, span: Duration, can: &impl Fn(Sort) -> bool) -> Vec<Event> {
        let sorts: Vec<Sort> = self.sorts.iter().copied().filter(|sort| can(*sort)).collect();
        let mut events = Vec::new();
        if sorts.is_empty() {
            return events;
        }
        let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let mut at = 0;
        let mut deck = Vec::new();
        loop {
            if deck.is_empty() {
                // Each comes before any comes again, so that a short run has them all.
                deck.clone_from(&sorts);
                rng.shuffle(&mut deck);
            }
            let Some(sort) = deck.pop() else { return events };
            let begins = at + rng.u64(self.pause_ms.0..=self.pause_ms.1);
            let mut lasts = rng.u64(self.lasts_ms.0..=self.lasts_ms.1);
            match sort {
                // What is prepared ahead has to be used up before a full disk is felt.
                Sort::Fill => lasts += 3000,
                // Nothing is learned while nobody runs.
                Sort::KillAll | Sort::PowerOfAll => lasts = lasts.min(1000),
                _ => {}
            }
            at = begins + lasts;
            if at >= span {
                return events;
            }
            events.push(Event {
                begins: Duration::from_millis(begins),
                ends: Duration::from_millis(at),
                fault: fault(sort, &mut rng),
            });
        }
    }
}

fn fault(sort: Sort, rng: &mut Rng) -> Fault {
    let target = if rng.u8(0..10) < 4 {
        Target::Leader
    } else {
        Target::Node(rng.usize(1..=NODES))
    };
    let mut nodes: Vec<usize> = (1..=NODES).collect();
    rng.shuffle(&mut nodes);
    match sort {
        Sort::Kill => Fault::Kill(target),
        Sort::KillAll => Fault::KillAll,
        Sort::Stop => Fault::Stop(target),
        Sort::Terminate => Fault::Terminate(target),
        Sort::Fill => Fault::Fill(target),
        Sort::PowerOfDisk => Fault::PowerOfDisk(target),
        Sort::Power => Fault::Power(target),
        Sort::PowerOfAll => Fault::PowerOfAll,
        Sort::Isolate => Fault::Isolate(target),
        Sort::CutOff => Fault::CutOff(target),
        Sort::Deaf => Fault::Deaf(target),
        Sort::Mute => Fault::Mute(target),
        Sort::Pair => Fault::Pair(nodes[0], nodes[1]),
        Sort::Halves => Fault::Halves(nodes[0], nodes[1]),
        Sort::Sever => Fault::Sever(target),
        Sort::Delay => {
            let least = rng.u64(0..60_000);
            weather(target, least, least + rng.u64(0..60_000), 0, false)
        }
        Sort::Loss => weather(target, 0, 0, rng.u8(5..50), false),
        Sort::Reorder => weather(target, 0, rng.u64(2_000..40_000), rng.u8(0..5), true),
    }
}

fn weather(target: Target, least: u64, most: u64, loss_percent: u8, overtakes: bool) -> Fault {
    let weather = Weather {
        delay_us: least..=most,
        loss_percent,
        overtakes,
    };
    Fault::Weather(target, weather)
}

impl Fault {
    /// Its kind.
    pub(crate) fn sort(&self) -> Sort {
        match self {
            Self::Kill(_) => Sort::Kill,
            Self::KillAll => Sort::KillAll,
            Self::Stop(_) => Sort::Stop,
            Self::Terminate(_) => Sort::Terminate,
            Self::Fill(_) => Sort::Fill,
            Self::PowerOfDisk(_) => Sort::PowerOfDisk,
            Self::Power(_) => Sort::Power,
            Self::PowerOfAll => Sort::PowerOfAll,
            Self::Isolate(_) => Sort::Isolate,
            Self::CutOff(_) => Sort::CutOff,
            Self::Deaf(_) => Sort::Deaf,
            Self::Mute(_) => Sort::Mute,
            Self::Pair(..) => Sort::Pair,
            Self::Halves(..) => Sort::Halves,
            Self::Sever(_) => Sort::Sever,
            Self::Weather(_, weather) if weather.overtakes => Sort::Reorder,
            Self::Weather(_, weather) if *weather.delay_us.end() > 0 => Sort::Delay,
            Self::Weather(..) => Sort::Loss,
        }
    }

    /// The one node that it is for, unless it is for several.
    pub(crate) fn target(&self) -> Option<Target> {
        match self {
            Self::Kill(target)
            | Self::Stop(target)
            | Self::Terminate(target)
            | Self::Fill(target)
            | Self::PowerOfDisk(target)
            | Self::Power(target)
            | Self::Isolate(target)
            | Self::CutOff(target)
            | Self::Deaf(target)
            | Self::Mute(target)
            | Self::Sever(target)
            | Self::Weather(target, _) => Some(*target),
            Self::KillAll | Self::PowerOfAll | Self::Pair(..) | Self::Halves(..) => None,
        }
    }
}

impl Sort {
    /// Whether it is done to processes or their disks: a node bears one of these at a time.
    pub(crate) fn is_of_machines(self) -> bool {
        MACHINE.sorts.contains(&self)
    }
}

impl fmt::Display for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::KillAll => "kill-all",
            Self::Stop => "stop",
            Self::Terminate => "terminate",
            Self::Fill => "fill",
            Self::PowerOfDisk => "power-of-disk",
            Self::Power => "power",
            Self::PowerOfAll => "power-of-all",
            Self::Isolate => "isolate",
            Self::CutOff => "cut-off",
            Self::Deaf => "deaf",
            Self::Mute => "mute",
            Self::Pair => "pair",
            Self::Halves => "halves",
            Self::Sever => "sever",
            Self::Delay => "delay",
            Self::Loss => "loss",
            Self::Reorder => "reorder",
        })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (begins, ends) = (self.begins.as_secs_f64(), self.ends.as_secs_f64());
        write!(f, "{begins:8.3} {ends:8.3} {} {:?}", self.fault.sort(), self.fault)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SHORT: Duration = Duration::from_secs(95);

    #[test]
    fn a_seed_draws_the_same_schedule_again_and_another_seed_another() {
        assert_eq!(draw(7, SHORT, |_| true), draw(7, SHORT, |_| true));
        assert_ne!(draw(7, SHORT, |_| true), draw(8, SHORT, |_| true));
    }

    #[test]
    fn a_short_run_has_every_kind_of_fault_and_ends_without_any() {
        let all = [MACHINE, NETWORK, PACKETS].map(|track| track.sorts).concat();
        for seed in 0..200 {
            let events = draw(seed, SHORT, |_| true);
            let drawn: BTreeSet<Sort> = events.iter().map(|event| event.fault.sort()).collect();
            assert!(
                all.iter().all(|sort| drawn.contains(sort)),
                "KRAFT_SEED={seed}: {drawn:?}"
            );
            assert!(
                events
                    .iter()
                    .all(|event| event.begins < event.ends && event.ends < SHORT)
            );
            assert!(events.is_sorted_by_key(|event| event.begins));
        }
    }

    #[test]
    fn what_cannot_be_had_is_not_drawn() {
        let events = draw(1, SHORT, |sort| sort == Sort::Stop || sort == Sort::Deaf);
        assert!(!events.is_empty());
        assert!(
            events
                .iter()
                .all(|event| matches!(event.fault.sort(), Sort::Stop | Sort::Deaf))
        );
    }
}
