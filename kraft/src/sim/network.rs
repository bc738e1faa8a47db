//! The network between nodes and users, and what is wrong with it at the moment.

use std::collections::BTreeMap;

use fastrand::Rng;
use kraft_adapters::mock::{Conditions, HostId, Latency, Meddling, Network};
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
    meddling: Meddling,
}

impl Weather {
    /// `hosts` are those of the nodes, then those of the users.
    pub(super) fn new(network: Network, hosts: Vec<HostId>, calm: Conditions) -> Self {
        network.set_conditions(calm);
        Self {
            network,
            hosts,
            cuts: BTreeMap::new(),
            calm,
            meddling: Meddling::NONE,
        }
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

    pub(super) fn reset(&self, at: usize, other: usize) {
        self.network.reset(self.hosts[at], self.hosts[other]);
    }

    pub(super) fn tear(&self, at: usize, other: usize) {
        self.network.tear(self.hosts[at], self.hosts[other]);
    }

    pub(super) fn clog(&self, pair: Pair, span: std::time::Duration) {
        self.network.clog(self.hosts[pair.0], self.hosts[pair.1], span);
    }

    /// Lets directions be as a fault has them.
    pub(super) fn worsen(&self, pairs: &[Pair], kind: Kind, is_mild: bool, rng: &mut Rng) {
        use std::time::Duration;
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
        for &(from, to) in pairs {
            self.network
                .set_conditions_between(self.hosts[from], self.hosts[to], conditions);
        }
    }

    pub(super) fn calm(&self, pairs: &[Pair]) {
        for &(from, to) in pairs {
            self.network.unset_conditions_between(self.hosts[from], self.hosts[to]);
        }
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
