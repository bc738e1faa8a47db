//! Who may connect, and for how long without a word.

use std::time::Duration;

use kraft::adapter::{Endpoint, ListenOptions};
use kraft::id::{ClusterId, GroupId, Index, NodeId, Round, Term};
use kraft::message::{Body, Goaway, GoawayReason, Heartbeat, Message, NodeState, ReadIndexReply, Role, Vote};
use kraft::node::Config;
use kraft_core::handshake::{HELLO_TIMEOUT, SILENT_AFTER};

use super::lab::Lab;
use super::line::{self, Line};

/// How long after a deadline the node may notice: connections are looked over once a second.
const SWEEP: Duration = Duration::from_secs(1);

#[test]
fn t01_a_slow_hello_is_closed_at_its_deadline() {
    let mut lab = Lab::cluster(1);
    let mut slow = lab.dial(1);
    let hello = line::frame(&line::client());
    for byte in &hello[..4] {
        slow.send(&[*byte]);
        lab.run_for(Duration::from_secs(1));
    }
    assert!(!slow.take_in(), "it still has time");
    lab.run_for(HELLO_TIMEOUT - Duration::from_secs(4) + SWEEP);
    assert!(slow.heard().concat().contains("TooSlow"));
    assert!(slow.take_in());
    assert_eq!(lab.told(1, "TooSlow").len(), 1);
    assert_eq!(lab.node(1).counters().turned_away, 1);
    lab.client(1);
}

#[test]
fn t01_a_slow_frame_is_closed_at_its_deadline() {
    let mut lab = Lab::cluster(1);
    lab.elect();
    let mut slow = lab.client(1);
    let mut other = lab.client(1);
    slow.send(&line::ask(1, line::command(b"slow"))[..20]);
    lab.run_for(Duration::from_secs(9));
    slow.send(&[0]);
    lab.run_for(Duration::from_millis(500));
    assert!(!slow.take_in(), "it still has time");
    lab.run_for(Duration::from_millis(500) + SWEEP);
    assert!(slow.heard().concat().contains("TooSlow"));
    other.send(&line::ask(2, line::command(b"quick")));
    lab.settle();
    assert!(other.heard().concat().contains("Committed"));
}

#[test]
fn t01_a_stream_of_frames_cut_anywhere_is_not_slow() {
    let mut lab = Lab::cluster(1);
    lab.elect();
    let mut busy = lab.client(1);
    let frames = line::ask(7, line::command(b"busy")).repeat(2);
    let (first, second) = frames.split_at(frames.len() / 4);
    busy.send(first);
    // Each read ends within a frame, and each frame is there in time.
    for _ in 0..30 {
        lab.run_for(Duration::from_secs(1));
        busy.send(second);
        busy.send(first);
    }
    lab.settle();
    assert!(!busy.take_in());
    assert_eq!(busy.heard().len(), 60);
}

#[test]
fn t02_a_half_open_flood_evicts_the_oldest() {
    let handshakes_max = |config: &mut Config| config.handshakes_max = 8;
    let mut lab = Lab::new(1, 1, handshakes_max);
    let mut oldest: Vec<_> = (0..8).map(|_| lab.dial(1)).collect();
    lab.run_for(Duration::from_millis(1));
    // Sixteen in one turn.
    let network = lab.network.clone();
    let at = ([10, 0, 0, 1], 8000);
    let flood = (0..16).map(|_| {
        Line::new(
            network
                .dial(&std::net::SocketAddr::from(at).into())
                .expect("it listens"),
        )
    });
    let mut flood: Vec<_> = flood.collect();
    lab.run_for(Duration::from_millis(1));
    assert!(oldest.iter_mut().all(Line::take_in), "all that were older are gone");
    let left = flood
        .iter_mut()
        .filter_map(|line| (!line.take_in()).then_some(()))
        .count();
    assert_eq!(left, 8);
    assert_eq!(lab.node(1).counters().turned_away, 16, "each of them counts once");
    // Nobody is kept out.
    lab.client(1);
}

#[test]
fn t02_the_evicted_hold_no_place() {
    let handshakes_max = |config: &mut Config| config.handshakes_max = 8;
    let mut lab = Lab::new(1, 1, handshakes_max);
    // They do not close their ends, so a goodbye would wait for them.
    let mut dial = || {
        lab.run_for(Duration::from_micros(1));
        lab.dial(1)
    };
    let _flood: Vec<_> = (0..2000).map(|_| dial()).collect();
    lab.run_for(Duration::from_micros(1));
    let mut client = lab.client(1);
    client.send(&line::ask(1, Body::Status));
    lab.settle();
    assert!(client.heard().concat().contains("StatusReply"));
}

#[test]
fn t02_strangers_leave_room_for_peers_at_a_small_port() {
    let mut lab = Lab::new(1, 3, |_| ());
    let at = Endpoint::Tcp(([10, 0, 0, 1], 7001).into());
    let small = ListenOptions {
        max_connections: 8,
        ..ListenOptions::default()
    };
    lab.node_mut(1).listen(Role::Peer, &at, small).expect("a port");
    let flood = |lab: &mut Lab, bytes: &[u8]| {
        let mut dial = || {
            let mut line = Line::new(lab.network.dial(&at).expect("it listens"));
            // It may be gone already.
            let _ = line.try_send(bytes);
            lab.run_for(Duration::from_micros(1));
            line
        };
        (0..20).map(|_| dial()).collect::<Vec<_>>()
    };
    // Some say nothing, some are turned away; none of them closes.
    let _silent = flood(&mut lab, b"");
    let _rude = flood(&mut lab, &line::ask(1, line::command(b"x")));
    let mut peer = Line::new(lab.network.dial(&at).expect("it listens"));
    peer.say(&line::peer(2, 1, 2));
    lab.settle();
    assert!(peer.heard().concat().starts_with("Welcome"));
    let _more = flood(&mut lab, b"GET / HTTP/1.0\r\n\r\n");
    assert!(!peer.take_in(), "who was welcomed stays");
}

#[test]
fn t19_an_id_that_is_no_member_s_and_a_node_that_was_removed_are_turned_away() {
    let mut lab = Lab::cluster(1);
    let mut removed = lab.dial_as_peer(1);
    removed.say(&line::peer(9, 1, 9));
    lab.settle();
    assert!(removed.heard().concat().contains("UnknownNode"));
    assert!(removed.take_in());
    assert_eq!(lab.told(1, "UnknownNode").len(), 1);
}

#[test]
fn t20_one_id_has_one_live_connection_and_a_silent_one_gives_way() {
    let mut lab = Lab::new(1, 3, |_| ());
    let mut first = lab.peer(2, 1);
    let mut second = lab.dial_as_peer(1);
    second.say(&line::peer(2, 1, 2));
    lab.settle();
    assert!(second.heard().concat().contains("DuplicateNode"));
    assert!(second.take_in());
    assert!(!first.take_in());

    lab.run_for(SILENT_AFTER);
    let mut third = lab.dial_as_peer(1);
    third.say(&line::peer(2, 1, 2));
    lab.settle();
    assert!(third.heard().concat().starts_with("Welcome"));
    assert!(first.heard().concat().contains("DuplicateNode"));
    assert!(first.take_in());
    // Replies go to the newer one, also once the older one is gone.
    drop(first);
    lab.settle();
    third.say(&pre_vote(2, 50));
    lab.settle();
    assert!(third.heard().concat().contains("VoteReply"));
}

#[test]
fn t20_a_peer_that_said_goodbye_is_welcome_back_at_once() {
    let mut lab = Lab::new(1, 3, |_| ());
    for goodbye in 0..3 {
        let mut peer = lab.peer(2, 1);
        let goodbye = match goodbye {
            0 => Body::Goaway(Goaway {
                reason: GoawayReason::Stopping,
                detail: "",
            }),
            // What a peer may not send.
            1 => Body::OpenSession,
            _ => pre_vote(2, u64::MAX).body,
        };
        let header = line::header(NodeId(2), u64::MAX, 0);
        peer.say(&Message { header, body: goodbye });
        lab.settle();
        drop(peer);
        lab.settle();
    }
    lab.peer(2, 1);
}

#[test]
fn t21_a_node_whose_id_is_this_node_s_is_told() {
    let mut lab = Lab::cluster(1);
    let mut same = lab.dial_as_peer(1);
    same.say(&line::peer(1, 1, 1));
    lab.settle();
    assert!(same.heard().concat().contains("OwnId"));
    assert!(same.take_in());
}

#[test]
fn t22_another_cluster_is_turned_away_and_the_operator_reads_both_names() {
    let mut lab = Lab::new(1, 3, |_| ());
    let mut foreign = lab.dial_as_peer(1);
    let mut hello = line::peer(2, 1, 2);
    hello.header.cluster = ClusterId::from_name("elsewhere");
    hello.header.term.0 = 1000;
    if let Body::Hello(hello) = &mut hello.body {
        hello.cluster_name = "elsewhere";
    }
    foreign.say(&hello);
    let mut vote = pre_vote(2, 1000);
    vote.header.cluster = hello.header.cluster;
    foreign.say(&vote);
    lab.settle();
    let heard = foreign.heard().concat();
    assert!(
        heard.contains("WrongCluster") && !heard.contains("VoteReply"),
        "{heard}"
    );
    let told = lab.told(1, "WrongCluster");
    assert!(
        told[0].contains("elsewhere") && told[0].contains(line::CLUSTER),
        "{told:?}"
    );
    assert_eq!(lab.node(1).status().hard.term.0, 0, "no term was adopted");
}

#[test]
fn t22_a_message_of_another_cluster_ends_a_connection_of_this_one() {
    let mut lab = Lab::new(1, 3, |_| ());
    let mut peer = lab.peer(2, 1);
    let mut vote = pre_vote(2, 7);
    vote.header.cluster = ClusterId::from_name("elsewhere");
    peer.say(&vote);
    lab.settle();
    assert!(peer.heard().concat().contains("WrongCluster"));

    let mut peer = lab.peer(2, 1);
    let mut vote = pre_vote(2, 7);
    vote.header.group = GroupId(1);
    peer.say(&vote);
    lab.settle();
    assert!(peer.heard().concat().contains("Violation"));
    assert_eq!(lab.node(1).status().hard.term.0, 0);
}

#[test]
fn t32_a_client_that_speaks_as_a_peer_is_turned_away() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    let term = lab.node(leader).status().hard.term;
    let follower = leader % 3 + 1;

    let mut client = lab.client(follower);
    client.say(&pre_vote(0, term.0 + 7));
    lab.settle();
    assert!(client.heard().concat().contains("NotAllowed"));
    assert!(client.take_in());

    // A peer's hello at the clients' port, and the other way round.
    let mut spoof = lab.dial(follower);
    spoof.say(&line::peer(leader, follower, leader));
    let mut lost = lab.dial_as_peer(follower);
    lost.say(&line::client());
    // And requests before any hello.
    let mut rude = lab.dial(follower);
    rude.send(&line::ask(1, line::command(b"x")));
    lab.settle();
    for line in [&mut spoof, &mut lost, &mut rude] {
        assert!(line.heard().concat().contains("NotAllowed"));
        assert!(line.take_in());
    }
    lab.run_for(Duration::from_secs(2));
    assert_eq!(lab.state(leader), NodeState::Leader);
    assert_eq!(lab.node(leader).status().hard.term, term);
}

#[test]
fn a_first_contact_is_held_until_the_incarnation_is_on_disk() {
    let mut lab = Lab::new(1, 3, |_| ());
    lab.site(1).is_stalled = true;
    let mut peer = lab.dial_as_peer(1);
    peer.say(&line::peer(2, 1, 2));
    lab.settle();
    assert_eq!(peer.heard(), [""; 0], "no welcome so far");
    lab.site(1).unstall();
    lab.settle();
    assert!(peer.heard().concat().starts_with("Welcome"));
    assert_eq!(lab.told(1, "PeerKnown").len(), 1);
}

#[test]
fn nothing_passes_while_a_first_contact_is_held() {
    let mut lab = Lab::new(1, 3, |_| ());
    lab.site(1).is_stalled = true;
    let mut peer = lab.dial_as_peer(1);
    // In one go, so that they arrive together.
    let mut vote = pre_vote(2, 5);
    vote.header.term.0 = 5;
    vote.body = Body::Vote(Vote {
        pre: false,
        by_transfer: false,
        term: vote.header.term,
        last_index: Index(9),
        last_term: vote.header.term,
    });
    peer.send(&[line::frame(&line::peer(2, 1, 2)), line::frame(&vote)].concat());
    lab.settle();
    assert_eq!(lab.node(1).status().hard.term.0, 0, "the vote waits or is refused");
    lab.site(1).unstall();
    lab.settle();
    assert_eq!(lab.node(1).status().hard.term.0, 0);
    assert!(peer.heard().concat().contains("NotAllowed"));
}

#[test]
fn a_small_frame_in_pieces_is_no_sign_of_life_of_a_leader() {
    // A leader that gave up goes on to answer reads and to ask for votes. If what came of such a frame counted as its
    // sign of life, who believed in it would refuse its pre-votes, and all others, for as long as it speaks.
    let mut lab = Lab::new(1, 3, |_| ());
    let mut peer = lab.peer(2, 1);
    let message = |body| Message {
        header: line::header(NodeId(2), 5, 0),
        body,
    };
    let round = Round(1);
    let commit = Index(0);
    peer.say(&message(Body::Heartbeat(Heartbeat { commit, round })));
    lab.settle();
    assert_eq!(lab.node(1).status().leader, NodeId(2));
    let frame = line::frame(&message(Body::ReadIndexReply(ReadIndexReply::Refused)));
    let (front, back) = frame.split_at(10);
    peer.send(front);
    let mut asked = false;
    for _ in 0..40 {
        lab.run_for(Duration::from_millis(50));
        asked |= lab.state(1) == NodeState::PreCandidate;
        peer.send(&[back, front].concat());
    }
    assert!(asked, "it still believes in node 2");
}

#[test]
fn two_lives_at_once_of_a_node_that_was_never_seen_are_one_welcome_and_one_refusal() {
    let mut lab = Lab::new(1, 3, |_| ());
    lab.site(1).is_stalled = true;
    let mut first = lab.dial_as_peer(1);
    first.say(&line::peer(2, 1, 2));
    lab.settle();
    let mut second = lab.dial_as_peer(1);
    second.say(&line::peer(2, 1, 77));
    lab.settle();
    lab.site(1).unstall();
    lab.settle();
    assert!(first.heard().concat().starts_with("Welcome"));
    assert!(second.heard().concat().contains("WrongIncarnation"));
}

/// A pre-vote request of a node.
fn pre_vote(from: u64, term: u64) -> Message<'static> {
    let mut header = line::header(NodeId(from), term, 0);
    header.term.0 = term.saturating_sub(1);
    let body = Body::Vote(Vote {
        pre: true,
        by_transfer: false,
        term: Term(term),
        last_index: Index(9),
        last_term: header.term,
    });
    Message { header, body }
}
