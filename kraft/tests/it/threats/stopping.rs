//! How a node takes leave.

use std::time::Duration;

use kraft::adapter::{Endpoint, ListenOptions};
use kraft::id::ConnId;
use kraft::message::Body;
use kraft::node::{Outcome, Service, View};
use kraft_core::link::Link;

use super::lab::Lab;
use super::line::{self, Line};

/// `stop_timeout` of a node.
const BOUND: Duration = Duration::from_secs(1);

#[test]
fn t55_a_stopping_node_says_goodbye_and_ends() {
    let mut lab = Lab::cluster(1);
    lab.elect();
    let mut client = lab.client(1);
    let mut silent = lab.dial(1);
    lab.handle(1).stop();
    lab.settle();
    for line in [&mut client, &mut silent] {
        assert!(line.heard().concat().contains("Stopping"));
        assert!(line.take_in());
    }
    assert!(!lab.node(1).is_stopped(), "their ends are awaited");
    drop((client, silent));
    lab.settle();
    assert!(lab.node(1).is_stopped());
    assert!(lab.network.dial(&super::lab::address(1)).is_err(), "nobody listens");
}

#[test]
fn t55_a_client_that_never_closes_delays_a_stop_by_no_more_than_its_bound() {
    let mut lab = Lab::cluster(3);
    lab.elect();
    let _client = lab.client(1);
    // Its dials to the others are cut off, and due again and again meanwhile.
    for id in [2, 3] {
        lab.kill(id);
        lab.network.refuse(super::lab::address(id));
    }
    lab.run_for(Duration::from_secs(1));
    let began = lab.network.now();
    lab.handle(1).stop();
    lab.run_until(|lab| lab.node(1).is_stopped());
    assert_eq!(lab.network.now() - began, BOUND);
}

#[test]
fn t55_what_waits_when_a_node_stops_ends_as_unknown_and_what_comes_later_is_refused() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    let (one, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    lab.network
        .partition(&[lab.host(leader)], &[lab.host(one), lab.host(other)]);
    let mut client = lab.client(leader);
    client.send(&line::ask(1, line::command(b"of a client")));
    let handle = lab.handle(leader);
    let (write, read) = (handle.propose(b"mine"[..].into()), handle.read(b"?"[..].into()));
    lab.settle();
    handle.stop();
    let late = handle.propose(b"late"[..].into());
    // It leads, and tries to hand over for a while.
    lab.run_for(Duration::from_millis(300));
    assert!(client.heard().concat().contains("Unknown"));
    assert_eq!(write.wait(Duration::ZERO), Some(Outcome::Unknown));
    assert!(matches!(late.wait(Duration::ZERO), Some(Outcome::Refused { .. })));
    lab.run_until(|lab| lab.node(leader).is_stopped());
    lab.kill(leader);
    assert!(
        matches!(
            read.wait(Duration::ZERO),
            Some(Outcome::Unknown | Outcome::Refused { .. })
        ),
        "a read ends with its node at the latest"
    );
    assert_eq!(handle.status().wait(Duration::ZERO), Some(None));
}

#[test]
fn t55_a_leader_that_stops_is_succeeded_before_its_followers_time_out() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    lab.handle(leader).stop();
    let began = lab.network.now();
    lab.run_until(|lab| (1..=3).any(|id| id != leader && lab.node(id).status().leader.0 == id));
    assert!(
        lab.network.now() - began < Duration::from_millis(150),
        "no election timeout passed"
    );
}

#[test]
fn a_stop_between_the_end_of_a_connection_and_the_news_of_it_waits_for_nothing_else() {
    let mut lab = Lab::cluster(1);
    lab.elect();
    let mut greedy = lab.client(1);
    // Answered in one go, which is more than it may leave unread: it is cut off in the flush of that turn.
    let requests: Vec<_> = (0..1024)
        .map(|at| line::ask(at, line::read(&super::tape::long(64 << 10))))
        .collect();
    greedy.send(&requests.concat());
    let handle = lab.handle(1);
    let stops = handle.clone();
    // The stop is taken when the command's sync is done, before the loop polls again.
    handle.read(b"?"[..].into()).on_done(move |_| stops.stop());
    let _write = handle.propose(b"x"[..].into());
    lab.settle();
    assert_eq!(lab.node(1).counters().slow_readers, 1);
    assert!(lab.node(1).is_stopped(), "nobody is connected");
}

#[test]
fn a_client_that_half_closes_gets_its_answers() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    let mut client = lab.client(leader);
    for request in 0..10 {
        client.send(&line::ask(request, line::command(b"x")));
        client.send(&line::ask(100 + request, line::read(&super::tape::long(200_000))));
    }
    client.socket.end();
    let mut answers = 0;
    lab.run_until(|_| {
        let ended = client.take_in();
        answers += client
            .hear(|message| assert!(matches!(message.body, Body::Reply(_))))
            .len();
        ended
    });
    assert_eq!(answers, 20);
}

/// Answers everything with who leads, and leaves the end to the other side.
struct Page;

impl Service for Page {
    fn received(&mut self, _: ConnId, _: &[u8], link: &mut Link, view: &View<'_>) {
        let page = format!("leader {}", view.status.leader);
        link.outbox().put(page.as_bytes()).expect("a short page");
    }

    fn closed(&mut self, _: ConnId) {}
}

#[test]
fn a_service_shares_the_loop_and_hears_no_word_of_ours() {
    let mut lab = Lab::cluster(1);
    lab.elect();
    let at = Endpoint::Tcp(([10, 0, 0, 1], 9000).into());
    let served = lab.node_mut(1).serve(Box::new(Page), &at, ListenOptions::default());
    served.expect("a port");
    let mut browser = Line::new(lab.network.dial(&at).expect("it listens"));
    // It is under no deadline for a hello, and what it says is no garbage.
    lab.run_for(Duration::from_secs(20));
    browser.send(b"GET / HTTP/1.0\r\n\r\n");
    lab.settle();
    assert_eq!(browser.socket.received(), b"leader 1");
    lab.handle(1).stop();
    lab.settle();
    assert!(browser.take_in(), "it ends with the node");
    assert_eq!(browser.raw(), 0, "without a goodbye that it could not read");
    let counters = lab.node(1).counters();
    assert_eq!((counters.garbage, counters.turned_away), (0, 0));
}
