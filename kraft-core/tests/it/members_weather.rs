//! Clusters whose members change in bad weather, drawn from seeds. `KRAFT_SEED=n` runs one seed alone,
//! `KRAFT_SEEDS=n` so many.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;
use kraft_core::id::{NodeId, Term};
use kraft_core::laws::View;
use kraft_core::membership::{Plan, Step};
use kraft_core::message::{Body, Change, NodeState};

use crate::cluster::Cluster;
use crate::random;

/// Seeds of a run in which nothing else is said.
const SEEDS: u64 = 400;

/// Nodes of a cluster, founded and joined, members and former ones.
const NODES_MAX: u64 = 9;

fn leads(cluster: &Cluster, id: u64) -> bool {
    let node = cluster.node(id);
    node.is_up() && node.status().state == NodeState::Leader
}

fn draw_steps(cluster: &Cluster, rng: &mut Rng) -> Vec<Step> {
    let count = [1, 1, 2, 3][rng.usize(0..4)];
    let step = |rng: &mut Rng| {
        let node = NodeId(rng.u64(cluster.ids()));
        match rng.u32(0..5) {
            0..=1 => Step::Voter(node),
            2 => Step::Learner(node, Plan::Stay),
            _ => Step::Remove(node),
        }
    };
    (0..count).map(|_| step(rng)).collect()
}

/// A change, at whoever believes to lead.
fn change(cluster: &mut Cluster, rng: &mut Rng) {
    if cluster.ids().end <= NODES_MAX && rng.u32(0..3) == 0 {
        cluster.join();
    }
    let leaders: Vec<_> = cluster.ids().filter(|id| leads(cluster, *id)).collect();
    for leader in leaders {
        if rng.bool() {
            let steps = draw_steps(cluster, rng);
            let _ = cluster.reconfigure(leader, &steps);
            continue;
        }
        let node = NodeId(rng.u64(cluster.ids()));
        let by = NodeId(rng.u64(cluster.ids()));
        let address = format!("h{by}:{}", rng.u32(0..2));
        let address = address.as_str();
        let change = match rng.u32(0..6) {
            0..=1 => Change::Add {
                node: by,
                address,
                promote: rng.bool(),
            },
            2 => Change::Promote { node },
            3 => Change::Remove { node },
            4 => Change::Replace { node, by, address },
            _ => Change::Move { node: by, address },
        };
        let last = cluster.status(leader).last;
        let before = cluster.configuration(leader).clone();
        if cluster.change(leader, &change).is_err() {
            let is_same = cluster.configuration(leader) == &before && cluster.status(leader).last == last;
            assert!(is_same || !leads(cluster, leader), "refused, and yet done: {change:?}");
        }
    }
}

/// Fresh leaders change one voter at once, and are cut off from some of the others: where terms meet before anything
/// of theirs is committed, two changes can be under way that do not know of each other (Ongaro's bug of 2015).
#[derive(Default)]
struct Coups {
    /// The terms in which somebody was seen to lead.
    terms: BTreeSet<Term>,
}

impl Coups {
    fn disturb(&mut self, cluster: &mut Cluster, rng: &mut Rng) {
        for id in cluster.ids() {
            if !leads(cluster, id) || !self.terms.insert(cluster.status(id).hard.term) {
                continue;
            }
            let node = NodeId(rng.u64(cluster.ids()));
            let step = match cluster.configuration(id).votes(node) {
                true => Step::Remove(node),
                false => Step::Voter(node),
            };
            let _ = cluster.reconfigure(id, &[step]);
            cluster.cut.clear();
            let side: Vec<_> = cluster.ids().filter(|_| rng.bool()).collect();
            for from in cluster.ids() {
                for to in cluster.ids().filter(|to| side.contains(&from) != side.contains(to)) {
                    cluster.cut.insert((from, to));
                }
            }
        }
    }
}

/// Ongaro's bug of 2015, step by step: a leader adds a node, which nobody else hears of; the next one removes the former
/// before anything of its own is committed, if it can; then the former one comes back, with the node that it added.
fn contest(seed: u64) {
    let mut cluster = Cluster::with(4, seed, |config| {
        (config.pre_vote, config.check_quorum) = (false, false)
    });
    cluster.commit(1);
    let former = cluster.elect();
    let added = cluster.join();
    let others: Vec<_> = (1..=4).filter(|id| *id != former).collect();
    for id in &others {
        cluster.cut_both(*id, former);
        cluster.cut_both(*id, added);
    }
    let index = cluster
        .reconfigure(former, &[Step::Voter(NodeId(added))])
        .expect("it leads");
    cluster.run_until("the added one has it", |cluster| cluster.status(added).durable >= index);
    cluster.filter = Some(Box::new(|wire| !matches!(wire.body, Body::Append(_))));
    let next = |cluster: &Cluster| others.iter().copied().find(|id| leads(cluster, *id));
    cluster.run_until("the next leader", |cluster| next(cluster).is_some());
    let leader = next(&cluster).expect("it was just seen");
    let _ = cluster.reconfigure(leader, &[Step::Remove(NodeId(former))]);
    let voter = *others.iter().rfind(|id| **id != leader).expect("three");
    for id in others.iter().filter(|id| **id != voter) {
        cluster.cut_both(*id, voter);
    }
    cluster.filter = None;
    cluster.run_for(100);
    for id in [former, added] {
        cluster.cut.remove(&(id, voter));
        cluster.cut.remove(&(voter, id));
    }
    cluster.run_for(1_000);
    cluster.heal();
    cluster.commit(1);
}

/// A cluster in the weather of this seed; how much it committed, and how many configurations.
///
/// # Panics
///
/// If a law does not hold.
pub(crate) fn run(seed: u64) -> (u64, u64) {
    if seed % 64 == 63 {
        contest(seed);
    }
    let mut rng = Rng::with_seed(seed ^ 0x6d65_6d62);
    let storms = rng.bool();
    let drawn = rng.clone();
    let mut cluster = Cluster::with([1, 2, 3, 3, 4][rng.usize(0..5)], seed, |config| match storms {
        true => random::draw_storm(&mut drawn.clone(), config),
        false => random::draw_config(&mut drawn.clone(), config),
    });
    cluster.memory = rng.u64(0..1000);
    let mut coups = (seed % 3 == 1).then(Coups::default);
    if coups.is_some() {
        cluster.join();
    }
    let pause = [8, 40][rng.usize(0..2)];
    for _ in 0..2 {
        cluster.weather = match storms {
            true => random::storm_weather(&mut rng),
            false => random::draw_weather(&mut rng),
        };
        let end = cluster.now + Duration::from_millis(rng.u64(200..2_000));
        while cluster.now < end {
            cluster.step();
            if let Some(coups) = &mut coups {
                coups.disturb(&mut cluster, &mut rng);
            }
            if rng.u32(0..pause) > 0 {
                continue;
            }
            match (rng.u32(0..3), storms) {
                (0, _) => change(&mut cluster, &mut rng),
                (_, true) => random::disturb_leaders(&mut cluster, &mut rng),
                (_, false) => random::disturb(&mut cluster, &mut rng),
            }
        }
        random::recover(&mut cluster);
        cluster.laws.hurt();
    }
    let configurations = cluster.nodes.iter().map(|node| node.members.len() as u64).sum();
    (cluster.laws.committed().0, configurations)
}

#[test]
fn the_laws_hold_while_members_change() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    if let Some(seed) = number("KRAFT_SEED") {
        println!("KRAFT_SEED={seed}");
        run(seed);
        return;
    }
    let seeds = number("KRAFT_SEEDS").unwrap_or(SEEDS);
    let (mut committed, mut configurations) = (0, 0);
    for seed in 0..seeds {
        println!("KRAFT_SEED={seed}");
        let (more, changed) = run(seed);
        committed += more;
        configurations += changed;
    }
    assert!(
        committed > 10 * seeds && configurations > 5 * seeds,
        "the weather leaves something to check: {committed} {configurations}"
    );
}
