//! Too many who dial and say nothing, in virtual time.

use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use kraft_adapters::Config;
use kraft_adapters::mock::{Mock, Network, Remote};
use kraft_adapters::tls::{self, Failure, Tls, Why};
use kraft_core::adapter::{Adapter, Endpoint, ListenOptions};

use super::certificates::Authority;

const HANDSHAKE: Duration = Duration::from_secs(5);

/// Connections of the adapter. The listener would have many more.
const MAX: usize = 8;

/// An adapter that encrypts, and who dialled it.
struct Crowd {
    network: Network,
    tls: Tls<Mock>,
    at: Endpoint,
    failures: Receiver<Failure>,
    silent: Vec<Remote>,
}

impl Crowd {
    fn new() -> Self {
        let config = Config {
            max_connections: MAX,
            ..Config::default()
        };
        let own = Authority::new().node("kraft://test/node/1");
        let encrypts = tls::Config {
            others: Some(tls::acceptor(&own, None).expect("it can be used")),
            handshake_timeout: HANDSHAKE,
            ..tls::Config::default()
        };
        let network = Network::new(1);
        let host = network.add_host();
        let inner = network.open(host, &config).expect("the host is there");
        let (sender, failures) = mpsc::channel();
        let observer = move |failure: &Failure| sender.send(failure.clone()).expect("the test listens");
        let mut tls = Tls::new(inner, &config, encrypts, observer).expect("the configuration can be used");
        let at = Endpoint::Tcp(host.address(7000));
        tls.listen(&at, ListenOptions::default()).expect("nobody is there");
        Self {
            network,
            tls,
            at,
            failures,
            silent: Vec::new(),
        }
    }

    /// So many more dial, and say nothing.
    fn dial(&mut self, count: usize) {
        for _ in 0..count {
            self.silent.push(self.network.dial(&self.at).expect("it listens"));
        }
        self.pass(Duration::from_millis(10));
    }

    fn pass(&mut self, span: Duration) {
        let until = self.tls.now() + span;
        while self.tls.now() < until {
            self.tls
                .poll(Some(until), |_, event| panic!("{event:?}"))
                .expect("it runs");
        }
    }

    fn told(&self) -> Vec<Why> {
        self.failures.try_iter().map(|failure| failure.why).collect()
    }
}

#[test]
fn silent_ones_keep_half_of_the_places_for_a_fifth_of_the_time() {
    let mut crowd = Crowd::new();
    crowd.dial(MAX);
    assert_eq!(crowd.told(), []);
    crowd.pass(HANDSHAKE / 5);
    assert_eq!(crowd.told(), vec![Why::TooSlow; MAX / 2], "the later half");
    crowd.pass(HANDSHAKE);
    assert_eq!(crowd.told(), vec![Why::TooSlow; MAX / 2], "the earlier half");
    let stats = crowd.tls.stats();
    assert_eq!((stats.turned_away, stats.active, stats.timers), (MAX as u64, 0, 0));
}

#[test]
fn silent_ones_give_way_to_who_comes_when_it_is_crowded() {
    let mut crowd = Crowd::new();
    crowd.dial(MAX / 2);
    crowd.pass(HANDSHAKE / 5);
    assert_eq!(crowd.told(), [], "it is not crowded");
    crowd.dial(1);
    assert_eq!(crowd.told(), vec![Why::TooMany; MAX / 2]);
}
