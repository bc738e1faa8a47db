//! Clusters in bad weather, drawn from seeds. `KRAFT_SEED=n` runs one seed alone, `KRAFT_SEEDS=n` so many.

use std::time::Duration;

use fastrand::Rng;
use kraft_core::laws::View;
use kraft_core::message::NodeState;
use kraft_core::raft::Config;

use crate::cluster::{Cluster, FAIR, Weather};

/// Seeds of a run in which nothing else is said.
const SEEDS: u64 = 400;

pub(crate) fn draw_config(rng: &mut Rng, config: &mut Config) {
    config.append_entries_max = rng.usize(1..20);
    config.append_bytes_max = rng.usize(1..400);
    config.inflight_messages_max = rng.usize(1..8);
    config.inflight_bytes_max = rng.u64(1..2000);
    config.uncommitted_bytes_max = rng.u64(100..4000);
    config.reads_max = rng.usize(1..20);
    config.sync_stall_max = Duration::from_millis(rng.u64(20..400));
    config.pre_vote = rng.u32(0..4) > 0;
    config.check_quorum = rng.u32(0..8) > 0;
    draw_margin(rng, config);
}

/// Leases, in clocks that keep their bound: of two that come apart as far as they may, the one counts 130 ms while the
/// other counts less than 150.
fn draw_leases(config: &mut Config) {
    config.lease_drift_max = Some(Duration::from_millis(20));
}

fn draw_rate(seed: u64, config: &Config) -> u64 {
    match config.lease_drift_max {
        Some(_) => Rng::with_seed(seed ^ 0x1ea5 ^ (config.id.0 << 32)).u64(940..=1_060),
        None => 1_000,
    }
}

/// Mostly logs are shorter than how far some nodes lag.
fn draw_margin(rng: &mut Rng, config: &mut Config) {
    config.snapshot_margin_entries = [0, 0, 3, 50][rng.usize(0..4)];
    config.snapshot_margin_bytes = [0, 200, 1 << 20][rng.usize(0..3)];
    config.snapshot_hold_room_min = [0, u64::MAX, u64::MAX][rng.usize(0..3)];
}

pub(crate) fn draw_weather(rng: &mut Rng) -> Weather {
    // The last one is longer than an election timeout: what was said in one term comes in another.
    let delay_max = [300, 3_000, 30_000, 200_000][rng.usize(0..4)];
    Weather {
        delay: 50..delay_max,
        lost: [0, 20, 200][rng.usize(0..3)],
        doubled: [0, 50, 300][rng.usize(0..3)],
        answers: 0..1,
        sync: 100..[300, 2_000, 20_000][rng.usize(0..3)],
        lazy_apply: rng.bool(),
        turn: [0, 100, 2_000, 20_000][rng.usize(0..4)],
    }
}

pub(crate) fn disturb(cluster: &mut Cluster, rng: &mut Rng) {
    // Leaders are hit more often than others: what a fresh one leaves undone is where logs part.
    let id = match cluster.leader() {
        Some(leader) if rng.bool() => leader,
        _ => rng.u64(cluster.ids()),
    };
    let other = rng.u64(cluster.ids());
    let is_up = cluster.node(id).is_up();
    match rng.u32(0..27) {
        0 if is_up => cluster.crash(id),
        1..=3 if !is_up => cluster.restart(id),
        4 => drop(cluster.cut.insert((id, other))),
        5 => cluster.cut_both(id, other),
        6 => cluster.isolate(id),
        7..=8 => cluster.heal(),
        9 if is_up => cluster.stall(id),
        10..=11 => cluster.unstall(id),
        12 => {
            let node = kraft_core::id::NodeId(other);
            cluster.with_raft(id, |raft, _, now| raft.unreachable(node, now));
        }
        13 => cluster.weather = draw_weather(rng),
        14 => {
            let room = [u64::MAX, 2_000, 100][rng.usize(0..3)];
            cluster.with_raft(id, |raft, _, now| raft.room(room, now));
        }
        15..=17 => drop(cluster.read(id)),
        18 => {
            let node = kraft_core::id::NodeId(other);
            cluster.with_raft(id, |raft, _, now| raft.snapshot_ended(node, now));
        }
        19 => drop(cluster.transfer(id, 0)),
        20 => drop(cluster.transfer(id, other)),
        _ => {
            // Also where somebody believes to lead still.
            let at = cluster.leader().filter(|_| rng.bool()).unwrap_or(id);
            let _ = cluster.propose(at, rng.u64(1..10));
        }
    }
}

/// A storm: nothing but terms that end before their entries are everywhere, for that is where Raft is hard (the
/// paper's figure 8). Small appends, slow links, elections without asking first.
pub(crate) fn draw_storm(rng: &mut Rng, config: &mut Config) {
    config.append_entries_max = [1, 1, 3][rng.usize(0..3)];
    config.inflight_messages_max = rng.usize(1..3);
    config.pre_vote = rng.u32(0..4) == 0;
    config.check_quorum = rng.u32(0..4) == 0;
    draw_margin(rng, config);
}

pub(crate) fn storm_weather(rng: &mut Rng) -> Weather {
    Weather {
        delay: 50..[3_000, 20_000, 200_000][rng.usize(0..3)],
        lost: 0,
        doubled: 0,
        answers: 0..1,
        sync: 100..[300, 20_000][rng.usize(0..2)],
        lazy_apply: false,
        turn: [0, 20_000][rng.usize(0..2)],
    }
}

/// Nodes that are away for long, and come back when the log of the others begins behind what they have.
fn draw_lag(rng: &mut Rng, config: &mut Config) {
    draw_config(rng, config);
    config.inflight_messages_max = rng.usize(2..8);
    config.uncommitted_bytes_max = 4000;
    config.check_quorum = rng.bool();
    config.snapshot_margin_entries = [0, 3][rng.usize(0..2)];
    config.snapshot_margin_bytes = 0;
}

fn disturb_laggards(cluster: &mut Cluster, rng: &mut Rng) {
    let id = rng.u64(cluster.ids());
    let is_up = cluster.node(id).is_up();
    match rng.u32(0..24) {
        0 => {
            cluster.cut.clear();
            cluster.isolate(id);
        }
        1 if is_up => cluster.crash(id),
        2..=3 if !is_up => cluster.restart(id),
        4 => cluster.heal(),
        5 => {
            let node = kraft_core::id::NodeId(rng.u64(cluster.ids()));
            cluster.with_raft(id, |raft, _, now| raft.snapshot_ended(node, now));
        }
        6 => cluster.stall(id),
        7..=8 => (1..=cluster.nodes.len() as u64).for_each(|id| cluster.unstall(id)),
        _ => {
            // Whoever believes to lead.
            for id in cluster.ids() {
                let _ = cluster.propose(id, rng.u64(1..10));
            }
        }
    }
}

pub(crate) fn disturb_leaders(cluster: &mut Cluster, rng: &mut Rng) {
    let leads = |cluster: &Cluster, id: u64| {
        let node = cluster.node(id);
        node.is_up() && node.status().state == NodeState::Leader
    };
    match rng.u32(0..9) {
        0 => {
            cluster.cut.clear();
            for from in cluster.ids() {
                for to in cluster.ids().filter(|to| *to != from) {
                    if rng.u32(0..10) < 3 {
                        cluster.cut.insert((from, to));
                    }
                }
            }
        }
        1..=3 => {
            let id = rng.u64(cluster.ids());
            match rng.bool() {
                true if leads(cluster, id) => cluster.crash(id),
                false if leads(cluster, id) => cluster.isolate(id),
                _ => {}
            }
        }
        4 => cluster.heal(),
        8 => {
            let (id, to) = (rng.u64(cluster.ids()), rng.u64(0..=cluster.nodes.len() as u64));
            let _ = cluster.transfer(id, to);
        }
        5 => {
            let id = rng.u64(cluster.ids());
            if !cluster.node(id).is_up() {
                cluster.restart(id);
            }
        }
        _ => {
            for id in cluster.ids() {
                if leads(cluster, id) {
                    let _ = cluster.propose(id, rng.u64(1..3));
                }
            }
        }
    }
}

/// Leaders that have leases and cannot know that they were succeeded: cut off from one node or from all, their followers
/// restarted within the time that they promised, answers late.
fn disturb_leases(cluster: &mut Cluster, rng: &mut Rng) {
    let Some(leader) = cluster.leader() else { return };
    let other = rng.u64(cluster.ids());
    match rng.u32(0..10) {
        0 => cluster.isolate(leader),
        1..=2 if other != leader => cluster.cut_both(leader, other),
        3..=5 if other != leader && cluster.node(other).is_up() => {
            cluster.crash(other);
            cluster.restart(other);
        }
        6 => cluster.heal(),
        7 => cluster.weather.answers = 0..[1, 120_000][rng.usize(0..2)],
        8 => {
            let room = [0, u64::MAX][rng.usize(0..2)];
            cluster.with_raft(leader, |raft, _, now| raft.room(room, now));
        }
        // Seldom: who was cut off before it leads no more.
        _ => drop(cluster.propose(leader, 1)),
    }
}

/// Without pre-votes and stickiness whoever believes to be a voter, and is none, may depose leaders for ever: it is not
/// sent what would teach it better.
fn switch_off_disturbers(cluster: &mut Cluster) {
    let leader = cluster.leader().expect("changes are through");
    let members = cluster.configuration(leader).clone();
    for id in cluster.ids() {
        let config = &cluster.node(id).config;
        let is_member = members.member(config.id).is_some();
        if !is_member && !config.pre_vote && !config.check_quorum {
            cluster.crash(id);
        }
    }
}

/// Logs rot, and leaders change meanwhile: what a lost log had promised is called in by those that it was given to.
fn disturb_disks(cluster: &mut Cluster, rng: &mut Rng) {
    let id = match cluster.leader() {
        Some(leader) if rng.u32(0..3) == 0 => leader,
        _ => rng.u64(cluster.ids()),
    };
    match rng.u32(0..16) {
        0..=1 => {
            if cluster.rot(id) && rng.bool() {
                cluster.restart(id);
            }
        }
        2 if cluster.node(id).is_up() => cluster.crash(id),
        3..=5 if !cluster.node(id).is_up() => cluster.restart(id),
        6 => cluster.isolate(id),
        7 => drop(cluster.cut.insert((id, rng.u64(cluster.ids())))),
        8 => cluster.heal(),
        _ => {
            for id in cluster.ids() {
                let _ = cluster.propose(id, rng.u64(1..3));
            }
        }
    }
}

/// Everything works again, and so does the cluster (R9).
pub(crate) fn recover(cluster: &mut Cluster) {
    cluster.heal();
    cluster.weather = FAIR;
    for id in cluster.ids() {
        cluster.unstall(id);
        if !cluster.node(id).is_up() {
            cluster.restart(id);
        }
        cluster.with_raft(id, |raft, _, now| raft.room(u64::MAX, now));
        // The turn that it is in ends.
        cluster.drain(id);
    }
    cluster.laws.healed(cluster.now, Duration::from_secs(3));
    // What bad weather held up arrives: a late request to campaign ends its term still.
    cluster.run_for(650);
    cluster.run_until("the backlog is committed", |cluster| {
        let leader = cluster.leader().map(|id| cluster.status(id));
        leader.is_some_and(|status| status.commit == status.last)
    });
    // A change that is under way may end with another leader.
    cluster.run_until("changes are through", |cluster| cluster.changes_are_through());
    switch_off_disturbers(cluster);
    cluster.commit(3);
    let leader = cluster.elect();
    // Reads that were under way end within an election timeout.
    cluster.run_for(301);
    let read = cluster.read(leader).expect("it leads");
    cluster.run_until("the read is answered", |cluster| cluster.answers.contains_key(&read));
    cluster.answers[&read].expect("it led all the time");
    cluster
        .laws
        .check_all(&cluster.nodes)
        .unwrap_or_else(|broken| panic!("{broken}"));
    let up: Vec<_> = cluster.ids().filter(|id| cluster.node(*id).is_up()).collect();
    for id in up {
        let status = cluster.status(id);
        cluster
            .laws
            .check_state(status.id, status.applied, &cluster.node(id).applied)
            .unwrap_or_else(|broken| panic!("{broken}"));
    }
}

/// What kind of weather a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Climate {
    Any,
    Storm,
    Lag,
    /// Leaders with leases that were succeeded and do not know it.
    Leases,
    /// Logs that rot.
    Rot,
}

/// What came about in a run, or in several.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ran {
    committed: u64,
    /// Entries that are no longer in the log of one node.
    released: u64,
    snapshots_sent: u64,
    snapshots_installed: u64,
    snapshots_restored: u64,
    /// Logs that were damaged, and nodes that made up for it.
    rotted: u64,
    made_good: u64,
}

impl Ran {
    fn of(cluster: &Cluster) -> Self {
        let mut ran = Self {
            committed: cluster.laws.committed().0,
            rotted: cluster.rotted,
            made_good: cluster.made_good,
            ..Self::default()
        };
        for node in &cluster.nodes {
            ran.released += node.base().0.0;
            ran.snapshots_sent += node.snapshots.sent;
            ran.snapshots_installed += node.snapshots.installed;
            ran.snapshots_restored += node.snapshots.restored.len() as u64;
        }
        ran
    }

    fn and(self, other: Self) -> Self {
        Self {
            committed: self.committed + other.committed,
            released: self.released + other.released,
            snapshots_sent: self.snapshots_sent + other.snapshots_sent,
            snapshots_installed: self.snapshots_installed + other.snapshots_installed,
            snapshots_restored: self.snapshots_restored + other.snapshots_restored,
            rotted: self.rotted + other.rotted,
            made_good: self.made_good + other.made_good,
        }
    }
}

/// A cluster in the weather of this seed; what came about.
///
/// # Panics
///
/// If a law does not hold.
pub(crate) fn run(seed: u64) -> Ran {
    let mut rng = Rng::with_seed(seed);
    let climate = match seed % 4 {
        _ if seed % 16 == 7 => Climate::Leases,
        _ if seed % 16 == 15 => Climate::Rot,
        1 => Climate::Lag,
        2 => Climate::Storm,
        _ => Climate::Any,
    };
    let voters = match climate {
        Climate::Any => [1, 2, 3, 3, 3, 4, 5][rng.usize(0..7)],
        Climate::Storm | Climate::Lag | Climate::Leases | Climate::Rot => [3, 5][rng.usize(0..2)],
    };
    let drawn = rng.clone();
    let mut cluster = Cluster::with(voters, seed, |config| match climate {
        Climate::Any => draw_config(&mut drawn.clone(), config),
        Climate::Storm | Climate::Rot => draw_storm(&mut drawn.clone(), config),
        Climate::Leases => draw_leases(config),
        Climate::Lag => draw_lag(&mut drawn.clone(), config),
    });
    for node in &mut cluster.nodes {
        node.pace(cluster.now, draw_rate(seed, &node.config));
    }
    cluster.memory = rng.u64(0..1000);
    let pause = match climate {
        Climate::Leases => [2, 10][rng.usize(0..2)],
        Climate::Any | Climate::Storm | Climate::Lag | Climate::Rot => [8, 40][rng.usize(0..2)],
    };
    let snapshot_pause = match climate {
        Climate::Lag => 20,
        Climate::Any | Climate::Storm | Climate::Leases | Climate::Rot => [10, 100, 1000][rng.usize(0..3)],
    };
    for _ in 0..2 {
        cluster.weather = match climate {
            Climate::Storm | Climate::Rot => storm_weather(&mut rng),
            Climate::Leases if rng.u32(0..4) > 0 => FAIR,
            Climate::Any | Climate::Lag | Climate::Leases => draw_weather(&mut rng),
        };
        if climate == Climate::Lag {
            cluster.weather.delay.end = cluster.weather.delay.end.min(3_000);
        }
        let end = cluster.now + Duration::from_millis(rng.u64(200..2_000));
        while cluster.now < end {
            cluster.step();
            if rng.u32(0..snapshot_pause) == 0 {
                cluster.take_snapshot(rng.u64(cluster.ids()));
            }
            if rng.u32(0..pause) == 0 {
                match climate {
                    Climate::Any => disturb(&mut cluster, &mut rng),
                    Climate::Storm => disturb_leaders(&mut cluster, &mut rng),
                    Climate::Lag => disturb_laggards(&mut cluster, &mut rng),
                    Climate::Leases => disturb_leases(&mut cluster, &mut rng),
                    Climate::Rot => disturb_disks(&mut cluster, &mut rng),
                }
            }
        }
        recover(&mut cluster);
        cluster.laws.hurt();
    }
    Ran::of(&cluster)
}

#[test]
fn the_laws_hold_in_any_weather() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    if let Some(seed) = number("KRAFT_SEED") {
        println!("KRAFT_SEED={seed}");
        run(seed);
        return;
    }
    let seeds = number("KRAFT_SEEDS").unwrap_or(SEEDS);
    let ran = (0..seeds).fold(Ran::default(), |ran, seed| {
        println!("KRAFT_SEED={seed}");
        ran.and(run(seed))
    });
    println!("{ran:?}");
    assert!(
        ran.committed > 10 * seeds,
        "the weather leaves something to check: {ran:?}"
    );
    let often = [
        ran.released,
        ran.snapshots_sent,
        ran.snapshots_installed,
        ran.snapshots_restored,
    ];
    assert!(
        often.iter().all(|count| *count > seeds / 4),
        "snapshots are needed: {ran:?}"
    );
    assert!(
        ran.rotted > seeds / 32 && ran.made_good > seeds / 32,
        "logs rot, and nodes make up for it: {ran:?}"
    );
}

#[test]
fn a_seed_is_replayed_byte_for_byte() {
    let trace = |seed| {
        let mut cluster = Cluster::new(3, seed);
        cluster.weather = draw_weather(&mut Rng::with_seed(seed));
        let mut rng = Rng::with_seed(seed);
        for _ in 0..2_000 {
            cluster.step();
            if rng.u32(0..40) == 0 {
                disturb(&mut cluster, &mut rng);
            }
        }
        format!("{:?}", cluster.nodes)
    };
    assert_eq!(trace(5), trace(5));
    assert_ne!(trace(5), trace(6));
}
