//! Peers that lie, stall, come back as somebody else, or do not come back.

use std::time::Duration;

use kraft::adapter::{Adapter, Endpoint};
use kraft::id::{Index, NodeId, RequestId, Round, Term};
use kraft::message::{
    Append, AppendReply, AppendResult, Body, Entries, EntryKind, EntryRef, Header, Heartbeat, HeartbeatReply, Message,
    NodeState, ReadIndexReply, Vote, VoteReply,
};
use kraft::node::Outcome;
use kraft::protocol::Decoded;
use kraft::protocols::Binary;

use super::lab::Lab;
use super::line::{self, LIMITS, Line};

/// A message of the node 3, at the end of all numbers.
fn at_the_end(body: Body<'_>) -> Message<'_> {
    Message {
        header: Header {
            request: RequestId(u64::MAX),
            ..line::header(NodeId(3), u64::MAX, 0)
        },
        body,
    }
}

fn entry(term: u64) -> EntryRef<'static> {
    EntryRef {
        term: Term(term),
        kind: EntryKind::Noop,
        crc: 0,
        payload: b"",
    }
}

fn append(prev: (u64, u64), commit: u64, terms: &[u64]) -> Body<'static> {
    Body::Append(Append {
        prev_index: Index(prev.0),
        prev_term: Term(prev.1),
        commit: Index(commit),
        round: Round(1),
        entries: Entries::Lent(terms.iter().map(|term| entry(*term)).collect()),
    })
}

/// What a peer may ask, with the worst numbers.
fn worst_requests() -> Vec<Body<'static>> {
    let max = u64::MAX;
    let vote = |pre| {
        Body::Vote(Vote {
            pre,
            by_transfer: true,
            term: Term(max),
            last_index: Index(max),
            last_term: Term(max),
        })
    };
    vec![
        vote(false),
        vote(true),
        Body::Heartbeat(Heartbeat {
            commit: Index(max),
            round: Round(max),
        }),
        append((max, max), max, &[]),
        append((max, max), max, &[max]),
        append((0, 0), max, &[max, max]),
        Body::ReadIndex,
    ]
}

#[test]
fn t24_a_term_at_the_end_of_numbers_wedges_nobody() {
    let mut lab = Lab::new(2, 3, |_| ());
    let leader = lab.elect();
    let term = lab.node(leader).status().hard.term;
    let mut attacks = 0;
    for body in worst_requests() {
        for id in [1, 2] {
            let mut liar = lab.peer(3, id);
            liar.say(&at_the_end(body.clone()));
            lab.settle();
            assert!(liar.heard().concat().contains("Goaway"), "{body:?}");
            assert!(liar.take_in());
        }
        attacks += 1;
    }
    for id in [1, 2] {
        assert_eq!(lab.node(id).status().hard.term, term);
        let counters = lab.node(id).counters();
        // Numbers that would overflow are no message at all.
        assert_eq!(counters.violations + counters.garbage, attacks);
        let told = [lab.told(id, "Violation {"), lab.told(id, "Garbage")].concat();
        assert_eq!(told.len() as u64, attacks);
    }
    assert_eq!(lab.state(leader), NodeState::Leader);
    let write = lab.handle(leader).propose(b"x"[..].into());
    lab.run_for(Duration::from_secs(1));
    assert!(matches!(write.wait(Duration::ZERO), Some(Outcome::Committed(_))));
    // And they can elect another one.
    lab.network.reset(lab.host(1), lab.host(2));
    lab.network.partition(&[lab.host(1)], &[lab.host(2)]);
    lab.run_for(Duration::from_secs(2));
    lab.network.heal();
    lab.elect();
}

#[test]
fn t25_an_append_that_contradicts_what_is_committed_ends_its_connection() {
    let contradictions = [
        ("another entry where one is committed", append((1, 5), 3, &[6])),
        ("another term before it", append((2, 4), 3, &[6])),
        ("terms that decrease", append((3, 5), 3, &[6, 5])),
        ("a term above the message's", append((3, 5), 3, &[7])),
        ("an index that overflows", append((u64::MAX, 5), 3, &[6])),
    ];
    for (what, body) in contradictions {
        let mut lab = Lab::new(1, 3, |_| ());
        let mut leader = lab.peer(3, 1);
        let header = line::header(NodeId(3), 6, 0);
        let body_of = |terms: &[u64], commit| append((0, 0), commit, terms);
        leader.say(&Message {
            header,
            body: body_of(&[5, 5, 5], 3),
        });
        lab.settle();
        assert!(leader.heard().concat().contains("Matched(Index(3))"));
        assert_eq!(lab.node(1).status().commit, Index(3));
        leader.say(&Message { header, body });
        lab.settle();
        let heard = leader.heard().concat();
        assert!(
            heard.contains("Violation") || heard.contains("Malformed"),
            "{what}: {heard}"
        );
        assert!(leader.take_in());
        assert_eq!(lab.node(1).status().last, Index(3), "{what}");
        assert_eq!(lab.node(1).status().hard.term, Term(6));
    }
}

#[test]
fn t25_a_commit_beyond_what_is_there_commits_nothing_that_is_not() {
    let mut lab = Lab::new(1, 3, |_| ());
    let mut leader = lab.peer(3, 1);
    let header = line::header(NodeId(3), 6, 0);
    let body = append((0, 0), 1 << 40, &[6, 6]);
    leader.say(&Message { header, body });
    lab.settle();
    assert_eq!(lab.node(1).status().commit, Index(2));
    assert_eq!(lab.node(1).status().applied, Index(2));
}

/// Takes the next connect of a node and welcomes it as whom it meant.
pub(super) fn welcomed(lab: &mut Lab) -> Option<(u64, Line)> {
    let remote = lab.network.dialled()?;
    let Endpoint::Tcp(at) = remote.endpoint().expect("it waits") else {
        panic!("by TCP")
    };
    let id = u64::from(match at.ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => panic!("version 4"),
    });
    remote.accept();
    lab.settle();
    let mut line = Line::new(remote);
    let nonces = line.hear(|message| match &message.body {
        Body::Hello(hello) => hello.nonce,
        other => panic!("{other:?}"),
    });
    line.say(&line::welcome(id, id, nonces[0]));
    lab.settle();
    Some((id, line))
}

#[test]
fn t26_replies_that_were_never_asked_for_change_nothing() {
    let replies = [
        Body::VoteReply(VoteReply {
            pre: false,
            granted: true,
            term: Term(1),
        }),
        Body::VoteReply(VoteReply {
            pre: true,
            granted: true,
            term: Term(u64::MAX),
        }),
        Body::AppendReply(AppendReply {
            round: Round(u64::MAX),
            result: AppendResult::Matched(Index(u64::MAX)),
        }),
        Body::AppendReply(AppendReply {
            round: Round(0),
            result: AppendResult::Rejected {
                prev_index: Index(u64::MAX),
                hint_index: Index(u64::MAX),
                hint_term: Term(u64::MAX),
            },
        }),
        Body::HeartbeatReply(HeartbeatReply {
            round: Round(u64::MAX),
            promise_us: 0,
        }),
        Body::ReadIndexReply(ReadIndexReply::At(Index(u64::MAX))),
    ];
    for body in replies {
        for term in [0, 1] {
            let mut lab = Lab::new(1, 3, |_| ());
            let (id, mut one) = welcomed(&mut lab).expect("the node dials");
            let _other = welcomed(&mut lab).expect("the node dials both");
            let header = line::header(NodeId(id), term, 1);
            one.say(&Message {
                header,
                body: body.clone(),
            });
            lab.settle();
            let status = lab.node(1).status();
            assert_eq!((status.commit, status.last), (Index(0), Index(0)), "{body:?}");
            assert_eq!(status.state, NodeState::Follower, "{body:?}");
        }
    }
}

#[test]
fn t47_dials_of_dead_nodes_back_off() {
    let mut lab = Lab::new(1, 3, |_| ());
    for id in [2, 3] {
        lab.network.refuse(super::lab::address(id));
    }
    while let Some(waiting) = lab.network.dialled() {
        waiting.refuse();
    }
    lab.run_for(Duration::from_secs(60));
    let dials = lab.node(1).adapter().stats().initiated;
    // Up to 2 s between them, half of that by chance.
    assert!((60..160).contains(&dials), "{dials}");
    assert_eq!(lab.told(1, "DialFailed").len(), 2, "dead peers are no news");
}

#[test]
fn t47_a_name_that_does_not_resolve_is_told_once_and_asked_for_ever_more_seldom() {
    let mut lab = Lab::new(1, 3, |config| {
        for member in config.members.iter_mut().filter(|member| member.node == NodeId(2)) {
            member.address = "nowhere.invalid:7101".to_owned();
        }
    });
    lab.network.refuse(super::lab::address(3));
    lab.run_for(Duration::from_secs(60));
    let told = lab.told(1, "NameUnresolved");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("NodeId(2)") && told[0].contains("nobody knows nowhere.invalid:7101"),
        "{told:?}"
    );
    let asked = lab.site(1).resolved;
    // Up to 2 s between them, half of that by chance.
    assert!((30..80).contains(&asked), "{asked}");
}

#[test]
fn t47_a_peer_that_welcomes_and_hangs_up_is_dialled_ever_more_seldom() {
    let mut lab = Lab::new(1, 2, |_| ());
    let mut welcomes = 0;
    let until = lab.network.now() + Duration::from_secs(60);
    while lab.network.now() < until {
        // The line is dropped at once.
        match welcomed(&mut lab) {
            Some(_) => welcomes += 1,
            None => lab.run_for(Duration::from_millis(5)),
        }
    }
    assert!((20..100).contains(&welcomes), "{welcomes} times in a minute");
}

#[test]
fn t49_a_peer_that_never_reads_delays_nobody_and_is_bounded() {
    let mut lab = Lab::new(2, 3, |_| ());
    // The third is there, and takes in nothing.
    let mut mute = Vec::new();
    while let Some((_, line)) = welcomed(&mut lab) {
        mute.push(line);
    }
    let leader = lab.elect();
    for _ in 0..200 {
        let write = lab.handle(leader).propose(vec![7; 100_000].into());
        lab.settle();
        assert!(matches!(write.wait(Duration::ZERO), Some(Outcome::Committed(_))));
        lab.run_for(Duration::from_millis(10));
    }
    assert_eq!(lab.state(leader), NodeState::Leader);
    // 20 MB were written; on their way to the third are the window of its line and what may be in flight.
    let sent = lab.node(leader).adapter().stats().bytes_out;
    assert!(sent < 22 << 20, "{sent}");
    for line in &mut mute {
        line.take_in();
        assert!(line.raw() <= 2 << 20);
    }
}

#[test]
fn double_vote_after_disk_wipe() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    let (wiped, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let write = lab.handle(leader).propose(b"kept"[..].into());
    lab.run_for(Duration::from_secs(1));
    assert!(matches!(write.wait(Duration::ZERO), Some(Outcome::Committed(_))));

    lab.kill(wiped);
    lab.wipe(wiped);
    lab.start(wiped, 3, Binary);
    lab.run_for(Duration::from_secs(3));
    // Each side says so, and each operator reads it.
    assert!(!lab.told(leader, "WrongIncarnation").is_empty());
    assert!(!lab.told(other, "WrongIncarnation").is_empty());
    let told = lab.told(wiped, "Goaway");
    assert!(told.iter().any(|line| line.contains("WrongIncarnation")), "{told:?}");
    assert_eq!(lab.node(wiped).status().last, Index(0), "it is told nothing");
    assert_eq!(lab.state(leader), NodeState::Leader, "and disturbs nobody");

    // With one of the others gone it is no majority, neither of votes nor of acknowledgements.
    lab.kill(leader);
    lab.run_for(Duration::from_secs(10));
    for id in [wiped, other] {
        assert_ne!(lab.state(id), NodeState::Leader);
        assert_eq!(lab.node(id).counters().elections_won, u64::from(id == leader));
    }
    lab.start(leader, 3, Binary);
    lab.run_until(|lab| [leader, other].iter().any(|id| lab.state(*id) == NodeState::Leader));
    lab.run_for(Duration::from_secs(1));
    for id in [leader, other] {
        assert_eq!(lab.node(id).machine().commands, [b"kept"]);
    }
}

#[test]
fn a_restarted_node_is_welcome_at_once() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    let restarted = leader % 3 + 1;
    for _ in 0..3 {
        lab.kill(restarted);
        lab.start(restarted, 3, Binary);
        lab.run_for(Duration::from_millis(100));
        assert_eq!(lab.node(restarted).status().leader, NodeId(leader), "within 100 ms");
    }
    assert_eq!(lab.state(leader), NodeState::Leader);
}

/// What a peer sends is bounded before it is welcomed, whatever it says.
#[test]
fn t06_a_hello_above_its_limit_is_refused_from_the_header_alone() {
    let mut lab = Lab::new(1, 3, |_| ());
    let mut loud = lab.dial_as_peer(1);
    let long = Message {
        header: line::header(NodeId(3), 0, 0),
        body: append((0, 0), 0, &[1; 1000]),
    };
    let bytes = line::frame(&long);
    assert!(matches!(Binary.decode(&bytes, &LIMITS), Ok(Decoded::Message { .. })));
    loud.send(&bytes[..64]);
    lab.settle();
    assert!(loud.heard().concat().contains("TooLarge"));
    assert!(loud.take_in());
}
