//! Clients with mixed operations on the same few keys, and one order for all that they saw.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use kraft::adapters::Choice;
use kraft::client::{Client, Config, Node, Security};
use kraft::history::{Action, Answer, Budget, Fate, History, Operation};

use super::cluster::{Cluster, NODES, others};
use super::load::{Load, Shared};

const CLIENTS: usize = 6;

/// Shorter than it takes to elect a leader now and then, so that some outcomes are unknown.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(400);

/// Registers take values that nobody else writes.
const KEYS: [&str; 4] = [
    "mixed/counter/0",
    "mixed/register/0",
    "mixed/counter/1",
    "mixed/register/1",
];

/// Clients that do everything that there is to do with a key.
pub(super) struct Mixed {
    load: Load<History>,
    clock: Clock,
}

/// One for all clients.
#[derive(Clone)]
struct Clock(Arc<Instant>);

impl Clock {
    fn nanos(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).expect("a test is short")
    }
}

impl Mixed {
    pub(super) fn start(cluster: &Cluster, seed: u64) -> Self {
        let clock = Clock(Arc::new(Instant::now()));
        let (nodes, of_clients) = (cluster.clients(&NODES), clock.clone());
        let load = Load::of(CLIENTS, move |shared, number| {
            play(shared, connect(&nodes), number, seed, &of_clients)
        });
        Self { load, clock }
    }

    /// Waits until so many operations are answered that were begun after this call.
    #[track_caller]
    pub(super) fn wait_for(&self, count: u64) {
        self.load.wait_for(count);
    }

    /// Ends the clients, reads each key through each node, and looks for an order of all of it.
    #[track_caller]
    pub(super) fn check(self, cluster: &Cluster, name: &str) {
        let mut history = History::new();
        for part in self.load.stop() {
            history.merge(part);
        }
        for node in NODES {
            let mut client = cluster.connect(&[node]);
            for key in KEYS {
                let number = 100 + u32::try_from(node).expect("small");
                let clock = || self.clock.nanos();
                let read = history.perform(&mut client, number, key.as_bytes(), Action::Get, clock);
                assert!(matches!(read, Ok(Fate::Answered { .. })), "{read:?}");
            }
        }
        let verdict = history.check(Budget::default());
        if !verdict.is_linearizable() {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.history"));
            let mut text = Vec::new();
            history.write(&mut text).expect("memory takes it");
            std::fs::write(&kept, text).expect("a folder for what tests leave");
            panic!("{verdict}\nthe whole history is in {}", kept.display());
        }
        let ended = |is: fn(&Fate) -> bool| history.operations().iter().filter(|one| is(&one.fate)).count();
        println!(
            "{name}: {} operations answered, {} refused, {} unknown",
            ended(|fate| matches!(fate, Fate::Answered { .. })),
            ended(|fate| *fate == Fate::Refused),
            ended(|fate| *fate == Fate::Unknown)
        );
    }
}

/// A client that soon gives up.
fn connect(nodes: &str) -> Client {
    let config = Config {
        request_timeout: REQUEST_TIMEOUT,
        ..Config::default()
    };
    let nodes = Node::resolve_list(nodes).expect("addresses");
    let (client, _) = Client::with_security(config, nodes, &Choice::default(), &Security::default()).expect("a client");
    client
}

fn play(shared: &Shared, mut client: Client, number: usize, seed: u64, clock: &Clock) -> History {
    let mut rng = Rng::with_seed(seed << 8 | number as u64);
    let mut history = History::new();
    let mut seen: [Option<Vec<u8>>; KEYS.len()] = Default::default();
    let mut writes = 0;
    while let Some(epoch) = shared.epoch() {
        let key = rng.usize(..KEYS.len());
        let mut value = || {
            writes += 1;
            format!("{number}.{writes}").into_bytes()
        };
        let action = match (KEYS[key].contains("counter"), rng.u8(..10)) {
            (_, 0..3) => Action::Get,
            (true, _) => Action::Increment(1),
            (false, 3) => Action::Delete,
            (false, 4..7) => Action::CompareAndSet {
                expected: seen[key].clone(),
                value: value(),
            },
            (false, _) => Action::Put(value()),
        };
        let name = KEYS[key].as_bytes();
        let fate = history.perform(&mut client, number as u32, name, action, || clock.nanos());
        let fate = fate.expect("a loop");
        if let Fate::Answered {
            answer: Answer::Value(value) | Answer::Mismatch(Some(value)),
            ..
        } = fate
        {
            seen[key] = Some(value.clone());
        }
        let failed = (!matches!(fate, Fate::Answered { .. })).then(|| format!("{fate:?}"));
        shared.ended(epoch, failed);
    }
    history
}

#[test]
fn mixed_operations_have_one_order_whoever_is_killed() {
    let mut cluster = Cluster::start("mixed", &[]);
    let mixed = Mixed::start(&cluster, 1);
    for choose in [|leader| leader, |leader| others(leader)[0], |leader| leader] {
        let victim = choose(cluster.leader(&NODES));
        mixed.wait_for(200);
        cluster.kill(victim);
        mixed.wait_for(200);
        cluster.spawn(victim);
    }
    mixed.wait_for(200);
    // All at once: nobody is left who could have it in memory alone.
    for node in NODES {
        cluster.node(node).signal("KILL");
    }
    for node in NODES {
        cluster.end(node);
        cluster.spawn(node);
    }
    mixed.wait_for(200);
    mixed.check(&cluster, "mixed");
}

#[test]
fn a_cluster_that_forgets_is_seen_in_what_its_clients_saw() {
    let mut cluster = Cluster::start("forgets", &[]);
    let mixed = Mixed::start(&cluster, 2);
    mixed.wait_for(200);
    let mut history = History::new();
    for part in mixed.load.stop() {
        history.merge(part);
    }
    assert!(history.check(Budget::default()).is_linearizable());
    // A cluster of the same addresses that starts anew: what clients saw of the old one does not fit.
    for node in NODES {
        cluster.kill(node);
        std::fs::remove_dir_all(cluster.data(node)).expect("it is there");
        cluster.init(node);
    }
    for node in NODES {
        cluster.spawn(node);
    }
    let mut client = cluster.connect(&NODES);
    let begin = mixed.clock.nanos();
    let value = client.get(KEYS[0].as_bytes()).expect("it is read");
    assert_eq!(value, None);
    history.push(Operation {
        client: 100,
        key: KEYS[0].into(),
        action: Action::Get,
        begin,
        fate: Fate::Answered {
            end: mixed.clock.nanos(),
            answer: Answer::NotFound,
        },
    });
    assert!(!history.check(Budget::default()).is_linearizable());
}
