//! The side that dialled judges whoever answers.

use super::*;

/// What node 1, which dialled node 2, says to a welcome with one thing changed.
#[track_caller]
fn check_welcome(change: impl FnOnce(&mut Header, &mut Welcome), reason: GoawayReason, names: &[&str]) {
    let mut header = node(2).header();
    let Body::Welcome(mut welcome) = body(Kind::Welcome) else {
        unreachable!()
    };
    change(&mut header, &mut welcome);
    let answer = Message {
        header,
        body: Body::Welcome(welcome),
    };
    let mut handshake = Handshake::dial(NodeId(2), NONCE, START);
    let step = receive(&mut handshake, &answer, &node(1));
    let Step::Reject(rejection) = step else {
        panic!("expected {reason:?}, got {step:?}");
    };
    assert_eq!(rejection.reason, reason, "{rejection}");
    for name in names {
        assert!(rejection.detail.contains(name), "{rejection} names {name}");
    }
    assert_eq!(handshake.established(), None);
}

#[test]
fn the_dialler_judges_the_answer_too() {
    let green = ClusterId::from_name("green");
    check_welcome(
        |header, _| header.cluster = green,
        GoawayReason::WrongCluster,
        &["\"blue\""],
    );
    check_welcome(
        |header, _| header.from = NodeId(3),
        GoawayReason::WrongNode,
        &["node 2", "node 3"],
    );
    check_welcome(
        |header, _| header.from = NodeId::NONE,
        GoawayReason::WrongNode,
        &["node 2", "node 0"],
    );
    check_welcome(
        |_, welcome| welcome.nonce = 1,
        GoawayReason::Violation,
        &["0x1", "0xabcd"],
    );
    check_welcome(
        |_, welcome| welcome.version = 2,
        GoawayReason::NoCommonVersion,
        &["version 2", "1-1"],
    );
    check_welcome(
        |_, welcome| welcome.frame_max = 0,
        GoawayReason::Violation,
        &["frame_max of 0"],
    );
    check_welcome(
        |_, welcome| welcome.incarnation = Incarnation(0x99),
        GoawayReason::WrongIncarnation,
        &["node 2", "0x99", "0x22"],
    );
}

#[test]
fn a_client_may_know_neither_cluster_nor_node() {
    let stranger = Identity::client(None, 1 << 16);
    let mut dialled = Handshake::dial(NodeId::NONE, NONCE, START);
    let mut accepted = Handshake::accept(Some(Role::Client), START);
    let step = receive(&mut accepted, &dialled.hello(&stranger), &node(1));
    let Step::Established {
        send: Some(welcome), ..
    } = step
    else {
        panic!("{step:?}");
    };
    let step = dialled.receive(&welcome, &stranger, &NoPeers, START);
    assert!(matches!(step, Step::Established { .. }), "{step:?}");
    let agreed = dialled.established().unwrap();
    assert_eq!((agreed.node, agreed.cluster), (NodeId(1), ClusterId::from_name("blue")));

    // From then on it may name the cluster that answered, or none; and takes no other's answers.
    for (cluster, passes) in [(ClusterId(0), true), (agreed.cluster, true), (ClusterId(7), false)] {
        let mut status = message(&stranger, Body::Status);
        status.header.cluster = cluster;
        assert_eq!(
            receive(&mut accepted, &status, &node(1)) == Step::Pass,
            passes,
            "{cluster:?}"
        );
        let mut reply = message(&node(1), body(Kind::Reply));
        reply.header.cluster = cluster;
        let is_theirs = cluster == ClusterId::from_name("blue");
        assert_eq!(
            receive(&mut dialled, &reply, &stranger) == Step::Pass,
            is_theirs,
            "{cluster:?}"
        );
    }
}

#[test]
fn a_client_that_knows_its_cluster_or_node_insists() {
    let mut dialled = Handshake::dial(NodeId(3), NONCE, START);
    let step = receive(&mut Handshake::accept(None, START), &dialled.hello(&client()), &node(1));
    let Step::Reject(rejection) = step else {
        panic!("{step:?}");
    };
    assert_eq!(rejection.reason, GoawayReason::WrongNode);
    let mut welcome = message(&node(3), body(Kind::Welcome));
    welcome.header.cluster = ClusterId(7);
    let step = receive(&mut dialled, &welcome, &client());
    assert!(
        matches!(
            step,
            Step::Reject(Rejection {
                reason: GoawayReason::WrongCluster,
                ..
            })
        ),
        "{step:?}"
    );
}

#[test]
fn nobody_cannot_answer() {
    let stranger = Identity::client(None, 1 << 16);
    let mut welcome = message(&node(1), body(Kind::Welcome));
    welcome.header.from = NodeId::NONE;
    let step = Handshake::dial(NodeId::NONE, NONCE, START).receive(&welcome, &stranger, &NoPeers, START);
    assert!(
        matches!(
            step,
            Step::Reject(Rejection {
                reason: GoawayReason::WrongNode,
                ..
            })
        ),
        "{step:?}"
    );
}
