//! The network between nodes and users, and what is wrong with it at the moment.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use kraft_adapters::mock::{Conditions, Happened, HostId, Latency, Meddling, Network};
use kraft_protocols::frame;

use super::faults::Kind;
use super::host::PEER_PORT;

/// Where the length of a body stands in the header of a frame.
const LENGTH_AT: usize = 8;

/// A pair of hosts, by their places: from the first to the second.
pub(super) type Pair = (usize, usize);

/// The network as its faults see it.
///
/// A direction is cut as long as one fault cuts it, and has the conditions of the fault that began last.
#[derive(Debug)]
pub(super) struct Weather {
    network: Network,
    hosts: Vec<HostId>,
    cuts: BTreeMap<Pair, u32>,
    calm: Conditions,
    /// What faults make of a direction, the latest last, each under its number.
    worse: BTreeMap<Pair, Vec<(u64, Conditions)>>,
    /// Faults of conditions so far.
    worsened: u64,
    meddling: Meddling,
    /// What had happened when somebody asked last.
    seen: Happened,
}

impl Weather {
    /// `hosts` are those of the nodes.
    pub(super) fn new(network: Network, hosts: Vec<HostId>, calm: Conditions) -> Self {
        network.set_conditions(calm);
        Self {
            network,
            hosts,
            cuts: BTreeMap::new(),
            calm,
            worse: BTreeMap::new(),
            worsened: 0,
            meddling: Meddling::NONE,
            seen: Happened::default(),
        }
    }

    /// It befalls a user, too.
    pub(super) fn join(&mut self, user: HostId) {
        self.hosts.push(user);
    }

    /// How many hosts there are.
    pub(super) fn len(&self) -> usize {
        self.hosts.len()
    }

    pub(super) fn cut(&mut self, pairs: &[Pair]) {
        for &(from, to) in pairs {
            *self.cuts.entry((from, to)).or_default() += 1;
            self.network.cut(self.hosts[from], self.hosts[to]);
        }
    }

    pub(super) fn mend(&mut self, pairs: &[Pair]) {
        for &(from, to) in pairs {
            let count = self.cuts.get_mut(&(from, to)).expect("what is mended was cut");
            *count -= 1;
            if *count == 0 {
                self.cuts.remove(&(from, to));
                self.network.mend(self.hosts[from], self.hosts[to]);
            }
        }
    }

    /// Returns how many connections there were to reset.
    pub(super) fn reset(&self, at: usize, other: usize) -> usize {
        self.network.reset(self.hosts[at], self.hosts[other])
    }

    /// Returns how many connections there were to tear.
    pub(super) fn tear(&self, at: usize, other: usize) -> usize {
        self.network.tear(self.hosts[at], self.hosts[other])
    }

    pub(super) fn clog(&self, pair: Pair, span: Duration) {
        self.network.clog(self.hosts[pair.0], self.hosts[pair.1], span);
    }

    /// Lets directions be as a fault has them. Returns the number under which it ends.
    pub(super) fn worsen(&mut self, pairs: &[Pair], kind: Kind, is_mild: bool, rng: &mut Rng) -> u64 {
        let calm = self.calm;
        let conditions = match kind {
            Kind::Loss => Conditions {
                loss: if is_mild { 0.02 } else { 0.02 + 0.4 * rng.f64() },
                give_up: Duration::from_secs(rng.u64(2..15)),
                ..calm
            },
            Kind::Delay => {
                let ms = if is_mild { rng.u64(1..12) } else { rng.u64(1..400) };
                Conditions {
                    latency: Latency {
                        min: Duration::from_micros(100),
                        mean: Duration::from_millis(ms),
                    },
                    ..calm
                }
            }
            _ => Conditions {
                bandwidth: Some(if is_mild { 4 << 20 } else { 4 << rng.u32(10..20) }),
                ..calm
            },
        };
        self.worsened += 1;
        for pair in pairs {
            self.worse.entry(*pair).or_default().push((self.worsened, conditions));
            self.set(*pair);
        }
        self.worsened
    }

    /// A fault of these directions is over.
    pub(super) fn calm(&mut self, fault: u64, pairs: &[Pair]) {
        for pair in pairs {
            let worse = self.worse.get_mut(pair).expect("what is calmed was worsened");
            worse.retain(|(number, _)| *number != fault);
            self.set(*pair);
        }
    }

    fn set(&self, pair: Pair) {
        let (from, to) = (self.hosts[pair.0], self.hosts[pair.1]);
        match self.worst(pair) {
            Some(conditions) => self.network.set_conditions_between(from, to, conditions),
            None => self.network.unset_conditions_between(from, to),
        }
    }

    /// What the latest fault that lasts makes of a direction.
    fn worst(&self, pair: Pair) -> Option<Conditions> {
        let (_, conditions) = self.worse.get(&pair)?.last()?;
        Some(*conditions)
    }

    /// Whether a fault that waits for its chance had it, since this was asked last.
    pub(super) fn has_happened(&mut self, kind: Kind) -> bool {
        let now = self.network.happened();
        let (now, seen) = match kind {
            Kind::Loss => (now.lost, &mut self.seen.lost),
            Kind::Duplicate => (now.duplicated, &mut self.seen.duplicated),
            Kind::Reorder => (now.reordered, &mut self.seen.reordered),
            Kind::Replay => (now.replayed, &mut self.seen.replayed),
            _ => return false,
        };
        std::mem::replace(seen, now) != now
    }

    /// Lets the relay between nodes meddle with a part of the frames; zero ends it.
    pub(super) fn meddle(&mut self, kind: Kind, chance: f64) {
        match kind {
            Kind::Duplicate => self.meddling.duplicate = chance,
            Kind::Reorder => self.meddling.reorder = chance,
            _ => self.meddling.replay = chance,
        }
        self.network.meddle(self.meddling);
    }

    /// Takes everything back.
    pub(super) fn heal(&mut self) {
        self.cuts.clear();
        self.network.heal();
        self.meddling = Meddling::NONE;
        self.network.meddle(self.meddling);
    }
}

/// Puts the relay in the way that takes connections between nodes apart.
pub(super) fn relay(network: &Network) {
    network.relay(PEER_PORT, |bytes| {
        let length = bytes.get(..frame::HEADER)?[LENGTH_AT..].first_chunk::<4>()?;
        usize::try_from(u32::from_le_bytes(*length))
            .ok()?
            .checked_add(frame::HEADER)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weather_that_ends_leaves_what_began_later() {
        let network = Network::new(1);
        let hosts = (0..2).map(|_| network.add_host()).collect();
        let mut weather = Weather::new(network, hosts, Conditions::LAN);
        let mut rng = Rng::with_seed(1);
        let there = (0, 1);
        let loss = weather.worsen(&[there], Kind::Loss, false, &mut rng);
        let delay = weather.worsen(&[there, (1, 0)], Kind::Delay, false, &mut rng);
        let latest = weather.worst(there);
        weather.calm(loss, &[there]);
        assert!(latest.is_some() && weather.worst(there) == latest);
        let bandwidth = weather.worsen(&[there], Kind::Bandwidth, false, &mut rng);
        weather.calm(bandwidth, &[there]);
        assert_eq!(weather.worst(there), latest);
        weather.calm(delay, &[there, (1, 0)]);
        assert_eq!((weather.worst(there), weather.worst((1, 0))), (None, None));
    }
}
