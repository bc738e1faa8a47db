//! The blocking client over real sockets.

mod snapshot;

use std::time::Duration;

use kraft_core::message::{NodeState, Refusal};
use kraft_protocols::Binary;

use super::fake::Cluster;
use super::*;

#[test]
fn every_operation_over_real_sockets() {
    let cluster = Cluster::start(3);
    let mut client = Client::connect(&cluster.list()).expect("addresses");
    assert_eq!(client.get(b"k").unwrap(), None);
    client.put(b"k", b"v").unwrap();
    assert_eq!(client.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
    let swap = client.compare_and_set(b"k", Some(b"x"), b"w").unwrap();
    assert_eq!(swap, Swap::Mismatch(Some(Bytes::from_static(b"v"))));
    assert_eq!(client.compare_and_set(b"k", Some(b"v"), b"w").unwrap(), Swap::Set);
    assert!(client.delete(b"k").unwrap());
    assert!(!client.delete(b"k").unwrap());
    assert_eq!(client.increment(b"n", 5).unwrap(), 5);
    assert_eq!(client.increment(b"n", -7).unwrap(), -2);
    client.put(b"n", b"text").unwrap();
    assert!(matches!(client.increment(b"n", 1), Err(Error::NotANumber)));
    for key in [b"p1", b"p2", b"p3"] {
        client.put(key, b"").unwrap();
    }
    let page = client.scan(b"p", b"p1", 1).unwrap();
    assert_eq!((page.entries[0].0.as_ref(), page.more), (&b"p2"[..], true));
}

#[test]
fn s40_client_dup_on_retry_over_real_sockets() {
    let cluster = Cluster::start(3);
    let mut client = Client::connect(&cluster.list()).expect("addresses");
    assert_eq!(client.increment(b"n", 1).unwrap(), 1);
    cluster.world().replies_lost = 2;
    assert_eq!(client.increment(b"n", 1).unwrap(), 2, "applied once, whatever was lost");
    // And on the next leader.
    let mut world = cluster.world();
    (world.leader, world.replies_lost) = (2, 1);
    drop(world);
    assert_eq!(client.increment(b"n", 1).unwrap(), 3);
}

#[test]
fn a_connection_that_died_unused_costs_no_call() {
    let cluster = Cluster::start(1);
    let mut client = Client::connect(&cluster.list()).expect("addresses");
    client.put(b"k", b"v").unwrap();
    cluster.hang_up();
    // Until the end of the connection is seen, as in a program that does something else for a while.
    client.wait(Duration::from_millis(20)).unwrap();
    client.put(b"k", b"w").unwrap();
}

#[test]
fn a_runner_lives_inside_another_loop() {
    let cluster = Cluster::start(3);
    cluster.world().leader = 2;
    let addresses = cluster.addresses.iter().copied().map(Endpoint::Tcp);
    let client = kraft_core::client::Client::new(Config::default(), addresses);
    let adapter = unasked()
        .open(&kraft_adapters::Config::default())
        .expect("an event loop")
        .adapter;
    let mut runner = Runner::new(client, adapter, Binary);
    let mut command = BytesMut::new();
    Command::Increment { key: b"n", by: 1 }.encode(&mut command);
    for _ in 0..20 {
        let command = Bytes::copy_from_slice(&command);
        let delivery = Delivery::ExactlyOnce;
        runner.call(Request::command(command, delivery)).expect("room");
    }
    let mut sums = vec![];
    loop {
        runner.turn(Some(runner.now())).expect("a turn");
        while let Some((_, end)) = runner.poll_done() {
            let End::Outcome(Outcome::Committed(reply)) = end else {
                panic!("{end:?}");
            };
            match Reply::decode(&reply) {
                Ok(Reply::Number(sum)) => sums.push(sum),
                other => panic!("{other:?}"),
            }
        }
        // The other loop: it waits on the descriptor, never in the turn.
        let Some(deadline) = runner.next_deadline() else {
            break;
        };
        let wait = deadline - runner.now();
        let wait = rustix::event::Timespec::try_from(wait).expect("a few seconds");
        let fd = runner.poll_fd().expect("epoll has a descriptor");
        let mut fds = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&wait)).expect("poll");
    }
    sums.sort_unstable();
    assert_eq!(sums, (1..=20).collect::<Vec<_>>());
}

#[test]
fn limits_are_refused_by_name() {
    let cluster = Cluster::start(1);
    let mut client = Client::connect(&cluster.list()).expect("addresses");
    let Err(Error::Refused(refused)) = client.put(b"k", &vec![0; 200_000]) else {
        panic!("above value_bytes_max");
    };
    assert_eq!(refused.why, Refusal::TooLarge);
    assert!(refused.detail.contains("value_bytes_max"), "{}", refused.detail);
    let Err(Error::Refused(refused)) = client.put(b"k", &vec![0; 2 << 20]) else {
        panic!("above frame_max");
    };
    assert!(refused.detail.contains("frame_max"), "{}", refused.detail);
}

#[test]
fn a_frame_above_the_write_queue_is_refused_at_once() {
    let cluster = Cluster::start(1);
    let small = kraft_adapters::Config {
        write_queue_max: 64 << 10,
        ..kraft_adapters::Config::default()
    };
    let adapter = unasked().open(&small).expect("an event loop").adapter;
    let nodes = Node::resolve_list(&cluster.list()).expect("addresses");
    let mut client = Client::on(Config::default(), nodes, adapter, Binary);
    let Err(Error::Refused(refused)) = client.put(b"k", &[0; 100_000]) else {
        panic!("above write_queue_max");
    };
    assert_eq!(refused.why, Refusal::TooLarge, "{refused}");
    assert!(refused.detail.contains("write_queue_max"), "{}", refused.detail);
    client.put(b"k", b"small").expect("the connection serves on");
}

#[test]
fn without_a_node_the_refusal_names_every_address() {
    let cluster = Cluster::start(1);
    let list = cluster.list();
    drop(cluster);
    let config = Config {
        request_timeout: Duration::from_millis(50),
        ..Config::default()
    };
    let mut client = Client::with_config(config, Node::resolve_list(&list).unwrap()).unwrap();
    let Err(Error::Refused(refused)) = client.put(b"k", b"v") else {
        panic!("nobody listens");
    };
    assert!(refused.detail.contains(&list), "{}", refused.detail);
}

#[test]
fn the_status_of_all_nodes_dead_ones_among_them() {
    let cluster = Cluster::start(2);
    let gone = Cluster::start(1);
    let list = format!("{},{}", cluster.list(), gone.list());
    drop(gone);
    let mut client = Client::connect(&list).expect("addresses");
    let status = client.status().unwrap();
    let reports: Vec<_> = status.iter().map(|status| status.report.as_ref()).collect();
    assert_eq!(reports[0].unwrap().state, NodeState::Leader);
    assert_eq!(reports[1].unwrap().leader.0, 1);
    assert!(reports[2].is_err());
}

#[test]
fn names_are_resolved_and_nonsense_is_named() {
    let nodes = Node::resolve_list(" 127.0.0.1:7001, unix:/run/kraft.sock ,").unwrap();
    assert_eq!(nodes.len(), 2);
    assert_eq!(nodes[1].addresses, [Endpoint::Unix("/run/kraft.sock".into())]);
    let error = Node::resolve_list("127.0.0.1").expect_err("without a port").to_string();
    assert!(error.starts_with("address \"127.0.0.1\""), "{error}");
    assert!(Node::resolve_list(" ,").is_err());
}
