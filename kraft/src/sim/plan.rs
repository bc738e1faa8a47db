//! What a seed makes of a run before it begins: swarm testing.
//!
//! A run that uses every fault at once, all of them equally hard, comes to few states: crashes hide what partitions
//! would show. So each seed draws which kinds it uses, how often and how hard, and how the nodes are set up
//! (Groce et al., "Swarm Testing", ISSTA 2012). What is drawn for one kind does not depend on the others, so that a
//! run can be tried again with fewer of them.

use std::ops::Range;
use std::time::Duration;

use fastrand::Rng;
use kraft_adapters::mock::{Conditions, Latency};
use kraft_core::node;
use kraft_protocols::Format;

use super::faults::{Kind, Kinds};
use super::{Faults, Mode, Options};

/// The purpose of the generator that draws how snapshots are taken.
const SNAPSHOTS: u64 = 98;
/// The purpose of the one that draws whether there are leases.
const LEASES: u64 = 97;

/// What the seed drew.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The kinds of faults that happen.
    pub(super) kinds: Kinds,
    /// The mean time from one fault of a kind to the next, by kind.
    means: [Duration; Kind::ALL.len()],
    /// The network while nothing is wrong with it.
    pub(super) calm: Conditions,
    pub(super) setup: Setup,
}

/// How every node of a run is set up.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) pre_vote: bool,
    pub(super) check_quorum: bool,
    /// By how much two clocks may come apart within the least election timeout, where there are leases.
    pub(super) lease_drift_max: Option<Duration>,
    pub(super) election_timeout: Range<Duration>,
    pub(super) heartbeat_interval: Duration,
    pub(super) append_entries_max: usize,
    pub(super) inflight_messages_max: usize,
    pub(super) tail_bytes_max: u64,
    pub(super) applied_per_turn_max: u64,
    pub(super) frame_max: usize,
    pub(super) segment_bytes: u32,
    pub(super) first_segment_bytes: u32,
    pub(super) load_bytes_max: u32,
    /// How long a sync takes, at most.
    pub(super) sync_max: Duration,
    pub(super) snapshots: Snapshots,
    /// Which the nodes speak.
    pub(super) protocol: Format,
}

/// How every node of a run takes and sends snapshots.
#[derive(Clone, Debug)]
pub(super) struct Snapshots {
    pub(super) driver: node::Snapshots,
    pub(super) margin_entries: u64,
    pub(super) margin_bytes: u64,
    pub(super) hold_room_min: u64,
    pub(super) keep: u32,
    /// How long writing, checking or reading one takes, at most.
    pub(super) work_max: Duration,
}

impl Plan {
    pub(super) fn draw(options: &Options) -> Self {
        let mut means = [Duration::ZERO; Kind::ALL.len()];
        let mut kinds = Kinds::NONE;
        for kind in Kind::ALL {
            let mut rng = stream(options.seed, 1 + kind.index() as u64);
            let is_used = rng.u8(..5) < 2;
            // From one to 32 seconds, as many means below 5.6 as above it.
            means[kind.index()] = Duration::from_millis(1000 << rng.u32(..5)).mul_f64(1.0 + rng.f64());
            let is_used = match options.faults {
                Faults::Drawn => is_used,
                Faults::These(these) => these.has(kind),
            };
            if is_used {
                kinds = kinds.with(kind);
            }
        }
        let mut rng = stream(options.seed, 0);
        Self {
            kinds,
            means,
            calm: calm(&mut rng),
            setup: Setup::draw(&mut rng, options),
        }
    }

    /// How long until the next fault of a kind.
    pub(super) fn wait(&self, kind: Kind, rng: &mut Rng) -> Duration {
        self.means[kind.index()].mul_f64(2.0 * rng.f64())
    }
}

/// A generator of its own for each purpose, so that what one draws does not change what another does.
pub(super) fn stream(seed: u64, purpose: u64) -> Rng {
    // SplitMix64's steps apart, so that neighbouring seeds and purposes have nothing in common.
    let mut mixed = seed.wrapping_add(purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Rng::with_seed(mixed ^ (mixed >> 31))
}

fn calm(rng: &mut Rng) -> Conditions {
    let latency = match rng.u8(..4) {
        // Two places some hundred kilometres apart.
        0 => Latency {
            min: Duration::from_millis(2),
            mean: Duration::from_millis(3),
        },
        1 => Latency::fixed(Duration::from_micros(500)),
        _ => Conditions::LAN.latency,
    };
    Conditions {
        latency,
        split: rng.u8(..4) > 0,
        window: 64 << rng.u32(10..13),
        ..Conditions::LAN
    }
}

impl Setup {
    fn draw(rng: &mut Rng, options: &Options) -> Self {
        // Without either a node that is heard and does not hear disturbs the others for ever, as the thesis says
        // (§9.6, §6.2): safe, and not live.
        let is_live = options.mode == Mode::Liveness;
        let least = Duration::from_millis(rng.u64(120..400));
        let first_segment_bytes = 4 << rng.u32(10..15);
        let pre_vote = is_live || rng.u8(..6) > 0;
        let check_quorum = is_live || rng.u8(..6) > 0;
        let mut leases = stream(options.seed, LEASES);
        // Without check-quorum votes are given whoever leads. With the next heartbeat something must be left of a lease.
        let drift = least / [16, 8, 4, 3, 2][leases.usize(..5)];
        let has_leases = leases.u8(..5) < 2 && check_quorum;
        Self {
            pre_vote,
            check_quorum,
            lease_drift_max: has_leases.then_some(drift),
            election_timeout: least..least * 2,
            heartbeat_interval: least / rng.u32(3..7),
            // What one node alone wrote for users who wait for no majority has to reach one before R9 is broken.
            append_entries_max: (1 << rng.u32(..12)).max(if is_live { 16 } else { 1 }),
            inflight_messages_max: 1 << rng.u32(..7),
            // Small, so that entries leave memory and come back from the disk.
            tail_bytes_max: 64 << rng.u32(..14),
            applied_per_turn_max: 1 << rng.u32(..13),
            frame_max: (512 << 10) << rng.u32(..2),
            first_segment_bytes,
            segment_bytes: first_segment_bytes << rng.u32(..3),
            // Some entries at a time: who starts again reads all of them before it answers anybody.
            load_bytes_max: 1 << rng.u32(10..20),
            sync_max: Duration::from_micros(100 << rng.u32(..7)),
            snapshots: Snapshots::draw(&mut stream(options.seed, SNAPSHOTS), is_live),
            protocol: options.protocol,
        }
    }
}

impl Snapshots {
    fn draw(rng: &mut Rng, is_live: bool) -> Self {
        // Who lags is of no use to a majority before it has a snapshot: that must not take as long as the bound of R9.
        let haste = if is_live { 6 } else { 0 };
        // Of a state with some keys and sessions: from one piece to a hundred.
        let piece_bytes = 16 << rng.u32(..7);
        Self {
            driver: node::Snapshots {
                entries: match rng.u8(..8) {
                    0 => 1 << 30,
                    _ => 16 << rng.u32(..6),
                },
                bytes: 4096 << rng.u32(..10),
                piece_bytes,
                window_bytes: (piece_bytes as u64) << rng.u32(..6),
                bytes_per_second: match rng.bool() {
                    true => 4096 << (rng.u32(..6) + haste),
                    false => u64::MAX,
                },
                timeout: Duration::from_millis(500 << rng.u32(..5)),
            },
            // Mostly less than what a follower misses that is down for a while.
            margin_entries: [0, 0, 8, 64, 1024][rng.usize(..5)],
            margin_bytes: [0, 0, 4096, 64 << 10, 32 << 20][rng.usize(..5)],
            hold_room_min: [u64::MAX, u64::MAX, 0, 16 << 20][rng.usize(..4)],
            keep: rng.u32(1..4),
            work_max: Duration::from_micros(200 << rng.u32(..8 - haste.min(2))),
        }
    }
}

/// Nodes, users, keys and the pause between a user's operations that a seed draws.
pub(super) fn draw_shape(seed: u64) -> (usize, usize, usize, Duration) {
    let mut rng = stream(seed, 99);
    let nodes = match rng.u8(..20) {
        0 => 1,
        1..12 => 3,
        12..17 => 5,
        _ => 7,
    };
    let pace = Duration::from_millis(20 << rng.u32(..6));
    (nodes, rng.usize(1..7), rng.usize(1..9), pace)
}
