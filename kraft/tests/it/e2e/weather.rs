//! Misfortunes at random, one after the other, under load.
//!
//! `KRAFT_SEED=n` runs one order of them, `KRAFT_SEEDS=n` so many. When each strikes is the machine's choice.

use std::env;

use super::cluster::{Cluster, NODES, others};
use super::histories::Mixed;
use super::load::{Load, assert_kept};

/// Misfortunes of a run.
const ROUNDS: usize = 8;

/// What befalls nodes.
const MISFORTUNES: [fn(&mut Cluster, &Load, usize); 5] = [killed, terminated, stopped, majority_killed, flapping];

fn killed(cluster: &mut Cluster, load: &Load, node: usize) {
    cluster.kill(node);
    load.wait_for(20);
    cluster.spawn(node);
}

fn terminated(cluster: &mut Cluster, load: &Load, node: usize) {
    cluster.node(node).signal("TERM");
    let (status, said) = cluster.end(node);
    assert_eq!(status.code(), Some(0), "{said:#?}");
    load.wait_for(20);
    cluster.spawn(node);
}

fn stopped(cluster: &mut Cluster, load: &Load, node: usize) {
    cluster.node(node).signal("STOP");
    load.wait_for(20);
    cluster.node(node).signal("CONT");
}

/// Nothing is acknowledged until one of them is back.
fn majority_killed(cluster: &mut Cluster, load: &Load, node: usize) {
    for node in others(node) {
        cluster.kill(node);
    }
    let [first, second] = others(node);
    cluster.spawn(first);
    load.wait_for(20);
    cluster.spawn(second);
}

/// It dies again before it has caught up.
fn flapping(cluster: &mut Cluster, _: &Load, node: usize) {
    for _ in 0..3 {
        cluster.kill(node);
        cluster.spawn(node);
    }
}

fn run(seed: u64) {
    println!("KRAFT_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut cluster = Cluster::start("weather", &[]);
    let load = Load::start(&cluster, &NODES, 4, 100);
    let mixed = Mixed::start(&cluster, seed);
    for _ in 0..ROUNDS {
        // Half of the time it is the leader that suffers.
        let node = if rng.bool() {
            cluster.leader(&NODES)
        } else {
            rng.usize(1..=NODES.len())
        };
        let misfortune = rng.usize(..MISFORTUNES.len());
        println!("misfortune {misfortune} of node {node}");
        load.wait_for(20);
        MISFORTUNES[misfortune](&mut cluster, &load, node);
    }
    load.wait_for(20);
    let written = load.stop();
    mixed.check(&cluster, "weather");
    cluster.wait_until_equal(&NODES);
    assert_kept(&cluster, &NODES, &written);
}

#[test]
fn any_order_of_misfortunes_loses_nothing() {
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match number("KRAFT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("KRAFT_SEEDS").unwrap_or(1),
    };
    seeds.for_each(run);
}
