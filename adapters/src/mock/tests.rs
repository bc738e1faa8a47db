use std::net::SocketAddr;
use std::time::Duration;

use kraft_core::adapter::{Adapter, CloseReason, Endpoint, Event, ListenOptions};
use kraft_core::id::ConnId;
use kraft_core::link::CloseMode;
use kraft_core::time::Instant;

use super::{Conditions, HostId, Latency, Mock, Network};
use crate::Config;

const SECOND: Duration = Duration::from_secs(1);

fn elsewhere() -> Endpoint {
    Endpoint::Tcp("192.0.2.1:7000".parse::<SocketAddr>().expect("it is an address"))
}

/// One turn without waiting: what happened, in short words.
fn turn(mock: &mut Mock) -> Vec<String> {
    let mut events = Vec::new();
    let now = mock.now();
    let turned = mock.poll(Some(now), |_, event| {
        events.push(match event {
            Event::Accepted { conn, .. } => format!("accepted {conn}"),
            Event::Connected { conn, .. } => format!("connected {conn}"),
            Event::Received { conn, bytes, .. } => format!("received {conn} {}", String::from_utf8_lossy(bytes)),
            Event::Ended { conn, .. } => format!("ended {conn}"),
            Event::Closed { conn, reason } => format!("closed {conn} {reason:?}"),
            other => format!("{other:?}"),
        });
    });
    turned.expect("the mock runs");
    events
}

#[track_caller]
fn put(mock: &mut Mock, conn: ConnId, bytes: &[u8]) {
    let link = mock.link(conn).expect("the connection lives");
    link.outbox().put(bytes).expect("it fits");
    mock.flush().expect("the mock runs");
}

/// A cluster in small: node 0 dials node 1.
struct Pair {
    network: Network,
    hosts: [HostId; 2],
    mocks: [Mock; 2],
    /// Node 0's end.
    conn: ConnId,
    log: Vec<(Instant, usize, String)>,
}

impl Pair {
    fn new(seed: u64, conditions: Conditions) -> Self {
        let network = Network::new(seed);
        network.set_conditions(conditions);
        let hosts = [network.add_host(), network.add_host()];
        let mut mocks = hosts.map(|host| network.open(host, &Config::default()).expect("it opens"));
        let at = Endpoint::Tcp(hosts[1].address(7000));
        mocks[1].listen(&at, ListenOptions::default()).expect("it listens");
        let conn = mocks[0].connect(&at).expect("there is a slot");
        let mut pair = Self {
            network,
            hosts,
            mocks,
            conn,
            log: Vec::new(),
        };
        pair.run(SECOND);
        pair
    }

    fn run(&mut self, span: Duration) {
        let until = self.network.now() + span;
        while let Some(host) = self.network.advance(until) {
            let mock = &mut self.mocks[host.index()];
            let events = turn(mock);
            mock.flush().expect("the mock runs");
            let now = self.network.now();
            self.log
                .extend(events.into_iter().map(|event| (now, host.index(), event)));
        }
        assert_eq!(self.network.now(), until);
    }

    /// What a node saw since the last look.
    fn seen(&mut self, node: usize) -> Vec<String> {
        let (own, rest) = self.log.drain(..).partition(|(_, of, _)| *of == node);
        self.log = rest;
        let own: Vec<_> = own;
        own.into_iter().map(|(_, _, event)| event).collect()
    }
}

#[test]
fn a_hand_accepts_receives_sends_and_ends() {
    let mut mock = Mock::new(&Config::default()).expect("it opens");
    let conn = mock.connect(&elsewhere()).expect("there is a slot");
    assert_eq!(turn(&mut mock), [""; 0]);
    mock.accept(conn);
    mock.receive(conn, b"hello");
    mock.end(conn);
    assert_eq!(turn(&mut mock), ["connected 0.1", "received 0.1 hello", "ended 0.1"]);
    put(&mut mock, conn, b"reply");
    assert_eq!(mock.sent(conn), b"reply");
    mock.link(conn).expect("it lives").close(CloseMode::Flush);
    assert_eq!(turn(&mut mock), ["closed 0.1 Requested"]);
}

#[test]
fn a_hand_refuses_and_fails() {
    let mut mock = Mock::new(&Config::default()).expect("it opens");
    let refused = mock.connect(&elsewhere()).expect("there is a slot");
    mock.refuse(refused);
    assert_eq!(turn(&mut mock), ["closed 0.1 Refused"]);
    let failed = mock.connect(&elsewhere()).expect("there is a slot");
    mock.accept(failed);
    assert_eq!(turn(&mut mock), ["connected 0.2"]);
    mock.fail(failed, CloseReason::Reset);
    assert_eq!(turn(&mut mock), ["closed 0.2 Reset"]);
    assert_eq!(mock.stats().failed, 1);
}

#[test]
fn a_hand_advances_the_clock_and_dials() {
    let mut mock = Mock::new(&Config::default()).expect("it opens");
    let at = Endpoint::Tcp("127.0.0.1:0".parse::<SocketAddr>().expect("it is an address"));
    let listener = mock.listen(&at, ListenOptions::default()).expect("it listens");
    let at = mock.local_endpoint(listener).expect("it listens");
    let timer = mock.now() + SECOND;
    let timer = mock.timers().start(timer);
    mock.advance(SECOND / 2);
    assert_eq!(turn(&mut mock), [""; 0]);
    let remote = mock.network().dial(&at).expect("somebody listens");
    assert_eq!(remote.send(b"hi"), 2);
    mock.advance(SECOND / 2);
    assert_eq!(
        turn(&mut mock),
        [
            format!("Expired {{ timer: {timer:?} }}"),
            "accepted 0.1".into(),
            "received 0.1 hi".into()
        ]
    );
    drop(remote);
    assert_eq!(turn(&mut mock), ["ended 0.1"]);
}

#[test]
fn what_was_dialled_is_played_by_hand_from_outside() {
    let network = Network::by_hand();
    let mut mock = network.open(network.add_host(), &Config::default()).expect("it opens");
    let conn = mock.connect(&elsewhere()).expect("there is a slot");
    put(&mut mock, conn, b"first");
    let remote = network.dialled().expect("it dialled");
    assert_eq!(remote.endpoint(), Some(elsewhere()));
    assert!(network.dialled().is_none());
    remote.accept();
    assert_eq!(turn(&mut mock), ["connected 0.1"]);
    assert_eq!(remote.received(), b"first");
    remote.reset();
    assert_eq!(turn(&mut mock), ["closed 0.1 Reset"]);
}

#[test]
#[should_panic(expected = "would wait for ever")]
fn a_wait_that_nothing_can_end_panics() {
    let mut mock = Mock::new(&Config::default()).expect("it opens");
    let _ = mock.poll(None, |_, _| ());
}

#[test]
fn the_same_seed_is_the_same_run() {
    let run = |seed| {
        let mut pair = Pair::new(
            seed,
            Conditions {
                loss: 0.1,
                ..Conditions::LAN
            },
        );
        for round in 0..50_u32 {
            put(&mut pair.mocks[0], pair.conn, format!("round {round};").as_bytes());
            pair.run(SECOND / 100);
        }
        pair.run(SECOND * 5);
        pair.log
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn loss_stalls_and_keeps_the_order() {
    let mut pair = Pair::new(
        3,
        Conditions {
            loss: 0.5,
            ..Conditions::LAN
        },
    );
    pair.run(SECOND * 60);
    pair.log.clear();
    let mut sent = String::new();
    for round in 0..100 {
        let text = format!("{round},");
        put(&mut pair.mocks[0], pair.conn, text.as_bytes());
        sent.push_str(&text);
        pair.run(SECOND / 100);
    }
    pair.run(SECOND * 60);
    let received: String = pair
        .seen(1)
        .iter()
        .map(|event| &event["received 0.1 ".len()..])
        .collect();
    assert_eq!(received, sent);
}

#[test]
fn bandwidth_and_latency_add_up() {
    let mut pair = Pair::new(
        1,
        Conditions {
            latency: Latency::fixed(Duration::from_millis(10)),
            bandwidth: Some(1000),
            split: false,
            ..Conditions::LAN
        },
    );
    let start = pair.network.now();
    pair.log.clear();
    put(&mut pair.mocks[0], pair.conn, &[b'x'; 500]);
    put(&mut pair.mocks[0], pair.conn, &[b'y'; 500]);
    pair.run(SECOND * 2);
    let arrivals: Vec<_> = pair.log.iter().map(|(at, _, _)| *at - start).collect();
    assert_eq!(arrivals, [Duration::from_millis(510), Duration::from_millis(1010)]);
}

#[test]
fn a_partition_that_heals_delivers_and_one_that_lasts_closes() {
    let mut pair = Pair::new(1, Conditions::LAN);
    pair.log.clear();
    let [a, b] = pair.hosts;
    pair.network.partition(&[a], &[b]);
    put(&mut pair.mocks[0], pair.conn, b"late");
    pair.run(SECOND * 5);
    assert!(pair.log.is_empty(), "{:?}", pair.log);
    pair.network.heal();
    pair.run(SECOND * 10);
    assert_eq!(
        pair.seen(1).join(" ").replace(" received 0.1 ", ""),
        "received 0.1 late"
    );
    pair.network.partition(&[a], &[b]);
    put(&mut pair.mocks[0], pair.conn, b"lost");
    pair.run(SECOND * 60);
    assert_eq!(pair.seen(0), [format!("closed {} TimedOut", pair.conn)]);
    assert_eq!(pair.seen(1), [""; 0]);
}

#[test]
fn a_one_way_cut_delivers_the_other_way_until_the_sender_gives_up() {
    let mut pair = Pair::new(1, Conditions::LAN);
    pair.log.clear();
    let [a, b] = pair.hosts;
    pair.network.cut(b, a);
    put(&mut pair.mocks[0], pair.conn, b"x");
    pair.run(SECOND);
    assert_eq!(pair.seen(1), ["received 0.1 x"]);
    pair.run(SECOND * 60);
    assert_eq!(pair.seen(0), [format!("closed {} TimedOut", pair.conn)]);
}

#[test]
fn a_clog_holds_back_and_loses_nothing() {
    let mut pair = Pair::new(1, Conditions::LAN);
    pair.log.clear();
    let [a, b] = pair.hosts;
    pair.network.clog(a, b, SECOND);
    put(&mut pair.mocks[0], pair.conn, b"x");
    pair.run(SECOND - Duration::from_millis(1));
    assert!(pair.log.is_empty());
    pair.run(Duration::from_millis(1));
    assert_eq!(pair.seen(1), ["received 0.1 x"]);
}

#[test]
fn a_crash_resets_and_the_restarted_host_listens_anew() {
    let mut pair = Pair::new(1, Conditions::LAN);
    pair.log.clear();
    let [_, b] = pair.hosts;
    pair.network.crash(b);
    assert!(!pair.network.is_running(b));
    pair.mocks[1].flush().expect_err("it crashed");
    pair.run(SECOND);
    assert_eq!(pair.seen(0), [format!("closed {} Reset", pair.conn)]);
    let at = Endpoint::Tcp(b.address(7000));
    pair.conn = pair.mocks[0].connect(&at).expect("there is a slot");
    pair.run(SECOND);
    assert_eq!(pair.seen(0), [format!("closed {} Refused", pair.conn)]);
    // The old mock may be dropped only now: it must not disturb the new one.
    let again = pair.network.open(b, &Config::default()).expect("it opens");
    drop(std::mem::replace(&mut pair.mocks[1], again));
    pair.mocks[1].listen(&at, ListenOptions::default()).expect("it listens");
    pair.conn = pair.mocks[0].connect(&at).expect("there is a slot");
    pair.run(SECOND);
    assert_eq!(pair.seen(0), [format!("connected {}", pair.conn)]);
}

#[test]
fn a_host_without_power_is_silent_and_resets_when_it_is_back() {
    let mut pair = Pair::new(1, Conditions::LAN);
    pair.log.clear();
    let [_, b] = pair.hosts;
    pair.network.power_off(b);
    put(&mut pair.mocks[0], pair.conn, b"anybody?");
    let dialled = pair.mocks[0].connect(&b.address(7000).into()).expect("there is a slot");
    pair.run(SECOND * 6);
    assert_eq!(pair.seen(0), [format!("closed {dialled} TimedOut")]);
    pair.mocks[1] = pair.network.open(b, &Config::default()).expect("it opens");
    pair.run(SECOND * 10);
    assert_eq!(pair.seen(0), [format!("closed {} Reset", pair.conn)]);
}

#[test]
fn a_frozen_process_has_no_turn_and_loses_nothing() {
    let mut pair = Pair::new(1, Conditions::LAN);
    pair.log.clear();
    let [_, b] = pair.hosts;
    pair.network.freeze(b);
    put(&mut pair.mocks[0], pair.conn, b"x");
    pair.run(SECOND * 30);
    assert!(pair.log.is_empty());
    pair.network.thaw(b);
    pair.run(SECOND);
    assert_eq!(pair.seen(1), ["received 0.1 x"]);
}

#[test]
fn refused_and_unroutable_endpoints_close_the_connect() {
    let mut pair = Pair::new(1, Conditions::LAN);
    pair.log.clear();
    let at = Endpoint::Tcp(pair.hosts[1].address(7000));
    pair.network.refuse(at.clone());
    let conn = pair.mocks[0].connect(&at).expect("there is a slot");
    pair.run(SECOND);
    assert_eq!(pair.seen(0), [format!("closed {conn} Refused")]);
    pair.network.admit(&at);
    pair.network.make_unroutable(pair.hosts[1].address(0).ip());
    let conn = pair.mocks[0].connect(&at).expect("there is a slot");
    pair.run(SECOND);
    assert_eq!(pair.seen(0), [format!("closed {conn} Unreachable")]);
}

#[test]
fn advance_stops_at_timers_and_names_their_host() {
    let network = Network::new(1);
    let hosts = [network.add_host(), network.add_host()];
    let mut mocks = hosts.map(|host| network.open(host, &Config::default()).expect("it opens"));
    mocks[1].timers().start(Instant::from_nanos(1000));
    mocks[1].flush().expect("the mock runs");
    assert_eq!(network.next_event(), Some(Instant::from_nanos(1000)));
    assert_eq!(network.advance(Instant::from_nanos(5000)), Some(hosts[1]));
    assert_eq!(network.now(), Instant::from_nanos(1000));
    assert_eq!(turn(&mut mocks[1]).len(), 1);
    mocks[0].waker().wake();
    assert_eq!(network.advance(Instant::from_nanos(5000)), Some(hosts[0]));
    assert_eq!(turn(&mut mocks[0]), ["Woken"]);
    assert_eq!(network.advance(Instant::from_nanos(5000)), None);
    assert_eq!(network.now(), Instant::from_nanos(5000));
}

#[test]
fn a_reset_between_two_hosts_reaches_both_ends() {
    let mut pair = Pair::new(1, Conditions::LAN);
    pair.log.clear();
    pair.network.reset(pair.hosts[0], pair.hosts[1]);
    pair.run(SECOND);
    assert_eq!(pair.seen(0), [format!("closed {} Reset", pair.conn)]);
    assert_eq!(pair.seen(1), ["closed 0.1 Reset"]);
}

#[test]
fn a_run_that_is_over_leaves_no_event_behind() {
    let mut pair = Pair::new(1, Conditions::LAN);
    for _ in 0..1000 {
        put(&mut pair.mocks[0], pair.conn, &[0; 1000]);
        pair.run(Duration::from_millis(2));
    }
    pair.run(SECOND * 10);
    let state = pair.network.state();
    assert_eq!(state.next_event(), None);
}

/// Node 0 closes, but cannot send what it still has: node 1 has ended its side and reads no more.
#[test]
fn a_connection_that_closes_towards_one_that_ended_is_not_served_for_ever() {
    let mut pair = Pair::new(1, Conditions::LAN);
    pair.mocks[1].link(ConnId::new(0, 1)).expect("it was accepted").pause();
    pair.mocks[1].flush().expect("the mock runs");
    let much = vec![0; 512 << 10];
    put(&mut pair.mocks[0], pair.conn, &much);
    pair.run(SECOND);
    pair.mocks[0].link(pair.conn).expect("it lives").close(CloseMode::Flush);
    pair.mocks[0].flush().expect("the mock runs");
    pair.mocks[1]
        .link(ConnId::new(0, 1))
        .expect("it lives")
        .close(CloseMode::Flush);
    pair.mocks[1].flush().expect("the mock runs");
    let now = pair.network.now();
    let is_moved = (0..1000).any(|_| match pair.network.advance(now + SECOND) {
        Some(host) => {
            let index = pair.hosts.iter().position(|&at| at == host).expect("one of the two");
            let _ = turn(&mut pair.mocks[index]);
            false
        }
        None => true,
    });
    assert!(is_moved, "a thousand turns, and it is still {now:?}");
}

#[test]
fn a_mock_can_move_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Mock>();
    is_send::<Network>();
    is_send::<super::Remote>();
}

#[test]
fn a_torn_connection_ends_within_what_was_sent() {
    println!("KRAFT_SEED=0..20");
    let mut cut_short = 0;
    for seed in 0..20 {
        let network = Network::new(seed);
        let (one, two) = (network.add_host(), network.add_host());
        let config = Config::default();
        let mut mocks = [network.open(one, &config).unwrap(), network.open(two, &config).unwrap()];
        mocks[1]
            .listen(&two.address(1).into(), ListenOptions::default())
            .unwrap();
        let conn = mocks[0].connect(&two.address(1).into()).unwrap();
        let sent: Vec<u8> = (0..=255).collect();
        mocks[0].link(conn).unwrap().outbox().put(&sent).unwrap();
        mocks[0].flush().unwrap();
        let (mut heard, mut closed) = (Vec::new(), 0);
        let mut is_torn = false;
        let until = network.now() + Duration::from_secs(5);
        while let Some(host) = network.advance(until) {
            let mut connected = false;
            let polled = mocks[host.index()].poll(Some(network.now()), |_, event| match event {
                Event::Received { bytes, .. } => heard.extend_from_slice(bytes),
                Event::Connected { .. } => connected = true,
                Event::Closed { reason, .. } => {
                    assert_eq!(reason, CloseReason::Reset);
                    closed += 1;
                }
                _ => {}
            });
            polled.unwrap();
            mocks[host.index()].flush().unwrap();
            if connected && !is_torn {
                // The bytes are on their way.
                is_torn = true;
                network.tear(one, two);
            }
        }
        assert!(is_torn && closed == 2, "seed {seed}: closed {closed} times");
        assert!(sent.starts_with(&heard), "seed {seed}");
        cut_short += u32::from(!heard.is_empty() && heard.len() < sent.len());
    }
    assert!(cut_short > 5, "{cut_short} were cut within");
}
