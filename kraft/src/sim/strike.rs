//! How faults begin and how they end.

use std::io;
use std::time::Duration;

use fastrand::Rng;
use kraft_core::id::NodeId;
use kraft_core::message::NodeState;

use super::clock;
use super::cluster::Cluster;
use super::faults::Kind;
use super::host::{Host, Stall};
use super::network::Pair;
use super::plan::Setup;
use super::trace::Step;
use crate::storage::{Failure, Operation};

/// What rots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rotting {
    /// The log of a node that is down.
    Log,
    /// The newest snapshot of a node that is down.
    Snapshot,
    /// The newest snapshot of a node that may run.
    LivingSnapshot,
}

/// A fault that ends by itself, or when all is healed.
#[derive(Debug)]
pub(super) enum Ailment {
    /// A node is down, and starts again.
    Down(usize),
    Paused(usize),
    /// Paths are cut, or clogged, and with them these nodes from the others.
    Cut(Kind, Vec<Pair>, Vec<usize>),
    /// By the number of the fault.
    Weather(Kind, u64, Vec<Pair>),
    Meddled(Kind),
    Stalled(usize),
    Full(usize),
    /// A write, sync or read is about to fail.
    Failing(Kind, usize),
    Drifting(usize),
    Rotten(usize),
    /// The connections of a node are reset, once.
    Breaking(usize),
}

impl Ailment {
    /// Whom it hurts so that a majority must do without.
    pub(super) fn victims(&self) -> Vec<usize> {
        match self {
            Self::Down(at) | Self::Paused(at) | Self::Stalled(at) | Self::Full(at) | Self::Rotten(at) => vec![*at],
            Self::Failing(_, at) => vec![*at],
            Self::Cut(_, _, victims) => victims.clone(),
            Self::Weather(..) | Self::Meddled(_) | Self::Drifting(_) | Self::Breaking(_) => Vec::new(),
        }
    }

    /// Whether both befall the same thing, which only is well when both are over.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Meddled(kind), Self::Meddled(of)) => kind == of,
            (Self::Failing(_, at), Self::Failing(_, of))
            | (Self::Stalled(at), Self::Stalled(of))
            | (Self::Full(at), Self::Full(of))
            | (Self::Drifting(at), Self::Drifting(of)) => at == of,
            // Others do not overlap, or keep books of their own.
            _ => false,
        }
    }

    /// Whether it ends when the node of the host at `at` is ended and started by another fault.
    fn is_over_with(&self, at: usize) -> bool {
        matches!(self, Self::Down(of) | Self::Paused(of) if *of == at)
    }
}

impl Cluster {
    /// A fault of this kind begins, if there is somebody whom it may befall.
    pub(super) fn strike(&mut self, kind: Kind) -> Result<(), String> {
        let mut rng = self.rngs[kind.index()].fork();
        let mut at = self.draw_host(&mut rng);
        let now = self.network.now();
        let span = spell(&mut rng);
        let ailment = match kind {
            Kind::Loss | Kind::Delay | Kind::Bandwidth => {
                let pairs = self.some_pairs(&mut rng);
                self.note_chance(kind);
                let fault = self.weather.worsen(&pairs, kind, self.atlas.is_kept(), &mut rng);
                Some(Ailment::Weather(kind, fault, pairs))
            }
            Kind::Partition | Kind::OneWay | Kind::Clog => match self.hinder(kind, at, span, &mut rng) {
                None => return Ok(()),
                ailment => ailment,
            },
            Kind::Reset | Kind::Tear => match self.end_connections(kind, at, &mut rng) {
                0 => return Ok(()),
                _ => None,
            },
            Kind::Duplicate | Kind::Reorder | Kind::Replay => {
                self.note_chance(kind);
                self.weather.meddle(kind, 0.3 * rng.f64());
                Some(Ailment::Meddled(kind))
            }
            Kind::Transfer => match self.hand_over(at, &mut rng) {
                None => return Ok(()),
                Some(asked) => {
                    at = asked;
                    // Soon enough for that to be under way.
                    if self.plan.kinds.has(Kind::Reset) && rng.bool() {
                        let soon = now + Duration::from_micros(rng.u64(..4_000));
                        self.ailments.push((soon, Ailment::Breaking(at)));
                    }
                    None
                }
            },
            Kind::Jump | Kind::Drift => match self.upset_clock(kind, at, span, &mut rng) {
                false => return Ok(()),
                true => None,
            },
            Kind::Member => match self.change_in_vain_or_not(&mut rng)? {
                None => return Ok(()),
                Some(about) => {
                    at = about;
                    None
                }
            },
            _ if !self.may_hurt(at) => return Ok(()),
            Kind::Rot => {
                let what = [Rotting::Log, Rotting::Snapshot, Rotting::LivingSnapshot][rng.usize(..3)];
                return self.rot(at, what, span);
            }
            Kind::Wipe => return self.wipe(at, span),
            _ => match self.strike_node(kind, at, &mut rng) {
                None => return Ok(()),
                ailment => ailment,
            },
        };
        let is_of_all = matches!(
            ailment,
            Some(Ailment::Weather(..) | Ailment::Meddled(_) | Ailment::Cut(..))
        );
        let node = if is_of_all { NodeId::NONE } else { self.hosts[at].id };
        self.note_strike(kind, node);
        if !kind.waits() {
            self.report.fired.note(kind);
        }
        if let Some(Ailment::Cut(_, pairs, _)) = &ailment {
            self.note_cuts(pairs);
        }
        self.ailments.extend(ailment.map(|ailment| (now + span, ailment)));
        Ok(())
    }

    fn note_strike(&mut self, kind: Kind, node: NodeId) {
        let now = self.network.now();
        self.audit.books().trace.push(now, Step::Fault(kind, node));
    }

    /// If a fault that waits for its chance had it since this was called last, it happened.
    fn note_chance(&mut self, kind: Kind) {
        if self.weather.has_happened(kind) {
            self.report.fired.note(kind);
        }
    }

    fn note_cuts(&self, pairs: &[Pair]) {
        let now = self.network.now();
        let trace = &mut self.audit.books().trace;
        let nodes = self.hosts.len();
        for &(from, to) in pairs.iter().filter(|(from, to)| *from < nodes && *to < nodes) {
            trace.push(now, Step::Cut(self.hosts[from].id, self.hosts[to].id));
        }
    }

    /// All pairs, those of one host, or those from or to it.
    fn some_pairs(&self, rng: &mut Rng) -> Vec<Pair> {
        let count = self.weather.len();
        let (which, at) = (rng.u8(..4), rng.usize(..count));
        let all = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        let picked = all.filter(|(from, to)| match which {
            _ if from == to => false,
            0 => *from == at || *to == at,
            1 => *from == at,
            2 => *to == at,
            _ => true,
        });
        picked.collect()
    }

    /// Paths are cut or clogged. `None` if that would hurt too many, or nobody.
    fn hinder(&mut self, kind: Kind, at: usize, span: Duration, rng: &mut Rng) -> Option<Ailment> {
        let nodes = self.hosts.len();
        let mut victims = Vec::new();
        if self.atlas.is_kept() {
            let mut hurt = self.hurt_members();
            let wanted = if kind == Kind::Partition {
                rng.usize(1..=nodes)
            } else {
                1
            };
            let is_member = |at: &usize| self.is_member(*at);
            let all = (at..nodes).chain(0..at).filter(is_member);
            for at in all.take(wanted).filter(|_| !self.is_changing()) {
                if self.atlas.allows(&hurt, at) {
                    hurt.insert(at);
                    victims.push(at);
                }
            }
            if victims.is_empty() {
                return None;
            }
        }
        let count = self.weather.len();
        let all = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        let all = all.filter(|(from, to)| from < to);
        let mut pairs = Vec::new();
        // One bit a host: on which side it is. Users stay with the majority where there must be one that commits.
        let sides = match self.atlas.is_kept() {
            true => victims.iter().fold(0, |sides, at| sides | 1 << at),
            false => rng.u64(..),
        };
        let is_partial = kind != Kind::Partition || !self.atlas.is_kept() && rng.u8(..5) < 2;
        let often = rng.u8(20..200);
        for (one, other) in all {
            let is_picked = match (is_partial, self.atlas.is_kept()) {
                (false, _) => (sides >> one ^ sides >> other) & 1 == 1,
                (true, true) => victims.contains(&one) || victims.contains(&other),
                (true, false) => rng.u8(..) < often,
            };
            if !is_picked {
                continue;
            }
            match (kind, rng.bool()) {
                (Kind::Partition, _) => pairs.extend([(one, other), (other, one)]),
                (_, true) => pairs.push((one, other)),
                (_, false) => pairs.push((other, one)),
            }
        }
        if pairs.is_empty() {
            return None;
        }
        if kind == Kind::Clog {
            for pair in std::mem::take(&mut pairs) {
                self.weather.clog(pair, span);
            }
        }
        self.weather.cut(&pairs);
        Some(Ailment::Cut(kind, pairs, victims))
    }

    /// Returns how many there were.
    fn end_connections(&self, kind: Kind, at: usize, rng: &mut Rng) -> usize {
        let is_all = rng.bool();
        let mut count = 0;
        for other in (0..self.weather.len()).filter(|other| *other != at) {
            match kind {
                _ if !is_all && rng.bool() => {}
                Kind::Reset => count += self.weather.reset(at, other),
                _ => count += self.weather.tear(at, other),
            }
        }
        count
    }

    /// Leadership is to go to some node, or to any. Whom that was asked of, if it runs: mostly who leads, else the node
    /// at `at`.
    fn hand_over(&self, at: usize, rng: &mut Rng) -> Option<usize> {
        let leads = |host: &Host| host.node.is_some() && host.last_status().state == NodeState::Leader;
        let leader = self.hosts.iter().position(leads).filter(|_| rng.u8(..8) > 0);
        let at = leader.unwrap_or(at);
        let to = NodeId(rng.u64(..=self.hosts.len() as u64));
        let node = self.hosts[at].node.as_ref().filter(|_| !self.hosts[at].is_paused)?;
        // How it ends is the business of whoever would have asked.
        node.handle().transfer(to).on_done(drop);
        Some(at)
    }

    /// Whether that may be: where there are leases clocks keep their bound.
    fn upset_clock(&mut self, kind: Kind, at: usize, span: Duration, rng: &mut Rng) -> bool {
        let now = self.network.now();
        let host = &mut self.hosts[at];
        let Setup {
            lease_drift_max,
            election_timeout,
            ..
        } = &self.plan.setup;
        if kind == Kind::Jump {
            // From a millisecond to 35 minutes.
            let mut by = Duration::from_millis(1 << rng.u32(..22));
            if let Some(drift) = lease_drift_max {
                by = drift.mul_f64(rng.f64() / 4.0);
                if now < self.jumps_at {
                    return false;
                }
                self.jumps_at = now + election_timeout.end * 4;
            }
            host.clock.jump(now, by);
            host.refresh();
            return true;
        }
        // Five in a hundred, or a half and twice.
        let most = match (self.atlas.is_kept(), lease_drift_max) {
            // A jump of a quarter of the bound, and one that is fast beside one that is slow, keep it together.
            (_, Some(drift)) => drift.as_secs_f64() / election_timeout.start.as_secs_f64() / 3.0,
            (true, None) => 0.05,
            (false, None) => 1.0,
        };
        let part = match rng.u8(..4) {
            0 => 1.0,
            1 => -1.0,
            _ => 2.0 * rng.f64() - 1.0,
        };
        host.clock.drift(now, clock::rate(most * part));
        host.refresh();
        self.ailments.push((now + span, Ailment::Drifting(at)));
        true
    }

    /// A fault of one machine. `None` if it is in no state for that.
    fn strike_node(&mut self, kind: Kind, at: usize, rng: &mut Rng) -> Option<Ailment> {
        // Who is about to stop is down already, for all that it takes until then.
        let is_down = self.is_down(at);
        let host = &mut self.hosts[at];
        let runs = host.node.is_some() && !host.is_paused && !is_down;
        match kind {
            Kind::Crash | Kind::Power if runs => {
                host.crash(&self.network, kind == Kind::Power);
                Some(Ailment::Down(at))
            }
            Kind::Stop if runs => {
                let node = host.node.as_ref()?;
                node.handle().stop();
                Some(Ailment::Down(at))
            }
            Kind::Pause if runs => {
                host.is_paused = true;
                self.network.freeze(host.host);
                Some(Ailment::Paused(at))
            }
            Kind::Stall => {
                let stall = Stall {
                    span: Duration::from_millis(200 << rng.u32(..5)),
                    often: 1 << rng.u32(..8),
                };
                host.stall(stall, self.network.now());
                Some(Ailment::Stalled(at))
            }
            Kind::Full => {
                host.fill(rng.u64(..(256 << 10)));
                Some(Ailment::Full(at))
            }
            Kind::WriteError | Kind::SyncError | Kind::ReadError => {
                let operation = match kind {
                    Kind::WriteError => Operation::Write,
                    Kind::SyncError => Operation::Sync,
                    _ => Operation::Read,
                };
                let failure = match kind != Kind::SyncError && rng.u8(..3) == 0 {
                    true => Failure::Short,
                    // EIO has no kind of its own.
                    false => Failure::Error(io::ErrorKind::Other),
                };
                host.files.fail(operation, "", rng.u32(..8), failure);
                Some(Ailment::Failing(kind, at))
            }
            _ => None,
        }
    }

    /// A bit rots on the disk of a node. If it is one of the log, the node must not start until the bit is back or the log set
    /// aside; if it is
    /// one of the newest snapshot, it must do without that or not start.
    fn rot(&mut self, at: usize, what: Rotting, span: Duration) -> Result<(), String> {
        if !self.may_lose(at) || self.hosts[at].rot.is_some() {
            return Ok(());
        }
        let host = &mut self.hosts[at];
        let was_up = host.node.is_some();
        if was_up && what != Rotting::LivingSnapshot {
            host.crash(&self.network, false);
        }
        let rotten = match what {
            Rotting::Log => host.rot(),
            Rotting::Snapshot | Rotting::LivingSnapshot => Ok(host.rot_snapshot()),
        };
        match rotten {
            Ok(true) => {
                let id = host.id;
                self.note_strike(Kind::Rot, id);
                let rotten = self.hosts[at].rot.as_ref().map(|rot| rot.step(id));
                if let Some(rotten) = rotten {
                    self.audit.books().trace.push(self.network.now(), rotten);
                }
                self.report.fired.note(Kind::Rot);
                self.report.snapped.rotten += u64::from(what != Rotting::Log);
                // Somebody looks at the disk in the end.
                let until = self.network.now() + span * 4;
                self.ailments.push((until, Ailment::Rotten(at)));
            }
            Ok(false) => {}
            Err(fall) => return self.fell(at, fall),
        }
        if what == Rotting::LivingSnapshot {
            return Ok(());
        }
        self.ailments.retain(|(_, ailment)| !ailment.is_over_with(at));
        self.start(at)
    }

    /// The data folder of a node is gone, and somebody makes another one for the same id.
    fn wipe(&mut self, at: usize, span: Duration) -> Result<(), String> {
        let id = self.hosts[at].id;
        let others = || {
            self.hosts
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != at && self.is_member(*other))
        };
        // Who never met it would take it for a new one: it was not a member for anybody there.
        let is_known = others().all(|(_, host)| host.is_wiped() || host.knows(id));
        if !is_known || !self.may_lose(at) {
            return Ok(());
        }
        let host = &mut self.hosts[at];
        host.crash(&self.network, true);
        host.wipe();
        self.note_strike(Kind::Wipe, id);
        self.report.fired.note(Kind::Wipe);
        self.ailments.retain(|(_, ailment)| !ailment.is_over_with(at));
        self.ailments.push((self.network.now() + span, Ailment::Down(at)));
        Ok(())
    }

    /// It is over.
    pub(super) fn mend(&mut self, ailment: Ailment) -> Result<(), String> {
        let now = self.network.now();
        if self.ailments.iter().any(|(_, other)| other.is_like(&ailment)) {
            return Ok(());
        }
        let (kind, node) = match &ailment {
            Ailment::Down(at) => {
                // Who waits for its end for too long kills it.
                if self.hosts[*at].node.is_some() {
                    self.hosts[*at].crash(&self.network, false);
                }
                return self.start(*at);
            }
            Ailment::Paused(at) => {
                self.hosts[*at].is_paused = false;
                self.network.thaw(self.hosts[*at].host);
                (Kind::Pause, self.hosts[*at].id)
            }
            Ailment::Cut(kind, pairs, _) => {
                self.weather.mend(pairs);
                (*kind, NodeId::NONE)
            }
            Ailment::Weather(kind, fault, pairs) => {
                self.note_chance(*kind);
                self.weather.calm(*fault, pairs);
                (*kind, NodeId::NONE)
            }
            Ailment::Meddled(kind) => {
                self.note_chance(*kind);
                self.weather.meddle(*kind, 0.0);
                (*kind, NodeId::NONE)
            }
            Ailment::Stalled(at) => {
                self.hosts[*at].stall(Stall::default(), now);
                (Kind::Stall, self.hosts[*at].id)
            }
            Ailment::Full(at) => {
                self.hosts[*at].empty();
                (Kind::Full, self.hosts[*at].id)
            }
            Ailment::Failing(kind, at) => {
                self.hosts[*at].files.forgive();
                (*kind, self.hosts[*at].id)
            }
            Ailment::Drifting(at) => {
                self.hosts[*at].clock.steady(now);
                self.hosts[*at].refresh();
                (Kind::Drift, self.hosts[*at].id)
            }
            Ailment::Rotten(at) => {
                let host = &mut self.hosts[*at];
                // Somebody restores the disk, or lets the others send what was lost.
                let is_repaired =
                    self.rngs[Kind::Rot.index()].bool() && host.repair().map_err(|fall| format!("{fall:?}"))?;
                if !is_repaired {
                    host.restore();
                }
                (Kind::Rot, host.id)
            }
            Ailment::Breaking(at) => {
                let others = (0..self.weather.len()).filter(|other| other != at);
                if others.map(|other| self.weather.reset(*at, other)).sum::<usize>() > 0 {
                    self.note_strike(Kind::Reset, self.hosts[*at].id);
                    self.report.fired.note(Kind::Reset);
                }
                return Ok(());
            }
        };
        let mended = Step::Mended(kind, node);
        self.audit.books().trace.push(now, mended);
        Ok(())
    }

    /// Everything is mended, but for disks that were wiped.
    pub(super) fn heal(&mut self) -> Result<(), String> {
        let mut ailments = std::mem::take(&mut self.ailments);
        // A node starts on a disk that is mended already.
        ailments.sort_by_key(|(_, ailment)| matches!(ailment, Ailment::Down(_)));
        for (_, ailment) in ailments {
            self.mend(ailment)?;
        }
        self.weather.heal();
        Ok(())
    }

    /// Whether the node of the host at `at` may be hurt. Where a majority must stay whole it is of the voters as they are,
    /// so nobody else is hurt while they change.
    fn may_hurt(&self, at: usize) -> bool {
        let hurt = self.hurt_members();
        let may = !self.is_member(at) || self.atlas.allows(&hurt, at);
        may && (!self.atlas.is_kept() || hurt.contains(&at) || !self.is_changing())
    }

    /// Whether the disk of the host at `at` may be lost.
    fn may_lose(&self, at: usize) -> bool {
        self.is_member(at) && !self.is_changing() && self.atlas.allows_loss(&self.lost_members(), at)
    }
}

/// How long a fault lasts: mostly up to two seconds, at times up to fifteen.
fn spell(rng: &mut Rng) -> Duration {
    let most = if rng.u8(..8) == 0 { 15_000 } else { 2_000 };
    Duration::from_millis(rng.u64(10..most))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Options;

    #[test]
    fn a_fault_that_ends_leaves_a_later_one_of_its_kind() {
        let mut cluster = Cluster::new(&Options::default());
        let later = cluster.network.now() + Duration::from_secs(9);
        cluster.hosts[0].fill(100);
        cluster.ailments.push((later, Ailment::Full(0)));
        cluster.mend(Ailment::Full(0)).expect("nothing starts");
        assert!(cluster.hosts[0].is_full(), "for nine more seconds");
        cluster.mend(Ailment::Full(1)).expect("nothing starts");
        cluster.heal().expect("nothing starts");
        assert!(!cluster.hosts[0].is_full());
    }
}
