//! ReadIndex.

use std::collections::BTreeSet;

use kraft_core::id::{Index, NodeId, RequestId, Round, Term};
use kraft_core::membership::Step;
use kraft_core::message::{Body, Header, HeartbeatReply, Message, NodeState, ReadIndexReply, Refusal};
use kraft_core::raft::Output;

use crate::cluster::Cluster;
use crate::lone::{Lone, append, heartbeat, matched};

fn answers(node: &mut Lone) -> Vec<(u64, Result<u64, Refusal>)> {
    let outputs: Vec<_> = node.outputs.drain(..).collect();
    let answer = |output| match output {
        Output::ReadAt { request, result } => Some((request.0, result.map(|index: Index| index.0))),
        _ => None,
    };
    outputs.into_iter().filter_map(answer).collect()
}

fn ask(node: &mut Lone, request: u64) {
    node.raft.read(RequestId(request), node.now).expect("it is taken");
}

/// The round of each heartbeat that was sent.
fn rounds(node: &mut Lone) -> Vec<Round> {
    let rounds = node.look().into_iter().filter_map(|(_, body)| match body {
        Body::Heartbeat(heartbeat) => Some(heartbeat.round),
        _ => None,
    });
    rounds.collect()
}

fn confirm(round: Round) -> Body<'static> {
    Body::HeartbeatReply(HeartbeatReply { round, promise_us: 0 })
}

/// Node `from` answers a question that was forwarded to it.
fn reply(node: &mut Lone, from: u64, term: u64, request: RequestId, index: u64) {
    let header = Header {
        from: NodeId(from),
        term: Term(term),
        request,
        ..Header::default()
    };
    let body = Body::ReadIndexReply(ReadIndexReply::At(Index(index)));
    let message = Message { header, body };
    node.raft.step(&message, node.now, &mut node.log).expect("no violation");
    node.drain();
}

#[test]
fn read_index_fresh_leader() {
    let mut node = Lone::recovered(1, &[1, 1]);
    let term = node.lead();
    ask(&mut node, 7);
    node.drain();
    assert_eq!(rounds(&mut node), [], "it does not know what is committed");
    node.step(2, term, matched(3));
    let round = rounds(&mut node)[0];
    node.step(2, term, confirm(round));
    assert_eq!(answers(&mut node), [(7, Ok(3))]);
}

#[test]
fn reads_of_a_turn_share_a_round_and_earlier_rounds_do_not_count() {
    let mut node = Lone::new();
    let term = node.lead();
    node.step(2, term, matched(1));
    node.look();
    for request in 1..=5 {
        ask(&mut node, request);
    }
    node.drain();
    let first = rounds(&mut node);
    assert_eq!(first.len(), 2, "one heartbeat to each follower");
    ask(&mut node, 6);
    node.drain();
    let second = rounds(&mut node)[0];
    node.step(2, term, confirm(first[0]));
    assert_eq!(answers(&mut node).len(), 5);
    node.step(3, term, confirm(first[0]));
    assert_eq!(answers(&mut node), [], "the first round was before the sixth read");
    node.step(3, term, confirm(second));
    assert_eq!(answers(&mut node), [(6, Ok(1))]);
}

#[test]
fn read_index_partitioned_leader() {
    let mut cluster = Cluster::new(3, 1);
    cluster.commit(1);
    let old = cluster.elect();
    cluster.isolate(old);
    cluster.run_until("another leads", |cluster| {
        cluster.leader().is_some_and(|leader| leader != old)
    });
    cluster.commit_at_leader(3);
    if let Ok(read) = cluster.read(old) {
        cluster.run_until("an answer", |cluster| cluster.answers.contains_key(&read));
        assert_eq!(cluster.answers[&read], Err(Refusal::NotLeader));
    }
    cluster.heal();
    cluster.commit(1);
}

#[test]
fn a_deposed_leader_that_does_not_know_it_answers_no_read() {
    let mut cluster = Cluster::with(3, 2, |config| config.check_quorum = false);
    cluster.commit(1);
    let old = cluster.elect();
    cluster.isolate(old);
    cluster.run_until("another leads", |cluster| {
        cluster.leader().is_some_and(|leader| leader != old)
    });
    cluster.commit_at_leader(3);
    let read = cluster.read(old).expect("it believes to lead");
    cluster.run_until("an answer", |cluster| cluster.answers.contains_key(&read));
    assert_eq!(cluster.answers[&read], Err(Refusal::NotLeader));
}

#[test]
fn followers_forward() {
    let mut cluster = Cluster::new(3, 3);
    cluster.commit(4);
    let follower = cluster.elect() % 3 + 1;
    let before = cluster.sent;
    let reads: Vec<_> = (0..10)
        .map(|_| cluster.read(follower).expect("it knows who leads"))
        .collect();
    let asked = cluster.sent - before;
    cluster.run_until("answers", |cluster| {
        reads.iter().all(|read| cluster.answers.contains_key(read))
    });
    let indexes: BTreeSet<_> = reads.iter().map(|read| cluster.answers[read]).collect();
    assert_eq!(indexes.len(), 1);
    assert!(indexes.iter().all(|index| index.is_ok_and(|index| index >= Index(5))));
    assert!(asked <= 10);
}

#[test]
fn follower_read_forward_lost() {
    let mut cluster = Cluster::new(3, 4);
    cluster.commit(1);
    let leader = cluster.elect();
    let follower = leader % 3 + 1;
    cluster.filter = Some(Box::new(|wire| !matches!(wire.body, Body::ReadIndexReply(_))));
    let read = cluster.read(follower).expect("it knows who leads");
    cluster.run_for(301);
    assert_eq!(
        cluster.answers[&read],
        Err(Refusal::NotLeader),
        "an error, never a guess"
    );
}

#[test]
fn an_answer_to_a_former_process_is_not_taken() {
    let mut node = Lone::new();
    node.step(2, 1, append((0, 0), &[1], 0));
    node.look();
    ask(&mut node, 1);
    node.drain();
    let asked = node.sent.pop().expect("the question").header.request;
    assert!(asked.0 > 1 << 32, "ids begin at random");
    reply(&mut node, 2, 1, RequestId(0), 9);
    assert_eq!(answers(&mut node), []);
    reply(&mut node, 2, 1, asked, 9);
    assert_eq!(answers(&mut node), [(1, Ok(9))]);
    reply(&mut node, 2, 1, asked, 9);
    assert_eq!(answers(&mut node), [], "twice is once");
}

#[test]
fn an_answer_of_another_node_or_of_an_earlier_term_is_none() {
    let mut node = Lone::new();
    node.step(2, 1, heartbeat(0));
    node.look();
    ask(&mut node, 1);
    node.drain();
    let asked = node.sent.pop().expect("the question").header.request;
    reply(&mut node, 3, 1, asked, 9);
    reply(&mut node, 2, 0, asked, 9);
    assert_eq!(answers(&mut node), []);
    reply(&mut node, 2, 1, asked, 9);
    assert_eq!(answers(&mut node), [(1, Ok(9))]);
}

#[test]
fn each_question_to_the_leader_has_its_own_answer() {
    let mut node = Lone::new();
    node.step(2, 1, heartbeat(0));
    node.look();
    let question = |node: &mut Lone, request| {
        ask(node, request);
        node.drain();
        node.sent.pop().expect("the question").header.request
    };
    let (first, second) = (question(&mut node, 1), question(&mut node, 2));
    reply(&mut node, 2, 1, second, 8);
    assert_eq!(answers(&mut node), [(2, Ok(8))]);
    reply(&mut node, 2, 1, first, 7);
    assert_eq!(answers(&mut node), [(1, Ok(7))]);
}

#[test]
fn questions_and_answers_of_a_later_term_bring_it_and_those_of_an_earlier_one_change_nothing() {
    let refused = Body::ReadIndexReply(ReadIndexReply::Refused);
    for body in [Body::ReadIndex, refused.clone()] {
        let mut node = Lone::recovered(4, &[]);
        let term = node.lead();
        let answer = match body {
            Body::ReadIndex => vec![(2, refused.clone())],
            _ => vec![],
        };
        node.step(2, term - 1, body.clone());
        assert_eq!((node.state(), node.term()), (NodeState::Leader, term));
        assert_eq!(node.look(), answer);
        node.step(2, term + 1, body);
        assert_eq!((node.state(), node.term()), (NodeState::Follower, term + 1));
        assert_eq!(node.look(), answer);
    }
}

#[test]
fn who_does_not_lead_refuses_to_answer_for_the_leader() {
    let mut node = Lone::new();
    node.step(2, 1, heartbeat(0));
    node.look();
    node.step(3, 1, Body::ReadIndex);
    assert_eq!(node.look(), [(3, Body::ReadIndexReply(ReadIndexReply::Refused))]);
}

#[test]
fn reads_that_a_fresh_leader_cannot_answer_end_at_their_deadline_and_not_before() {
    let mut node = Lone::new();
    node.lead();
    ask(&mut node, 1);
    node.drain();
    let refused = [(1, Err(Refusal::NotLeader))];
    let mut all = Vec::new();
    for (millis, expected) in [(299, &[][..]), (1, &refused[..])] {
        // Somebody is heard, so that it leads all the time, but commits nothing.
        node.step(
            3,
            1,
            Body::HeartbeatReply(HeartbeatReply {
                round: Round(0),
                promise_us: 0,
            }),
        );
        node.pass(millis);
        all.extend(answers(&mut node));
        assert_eq!(all, expected, "after {millis} ms more");
    }
}

#[test]
fn lease_read_clock_skew() {
    // There are no leases: that all were heard a moment ago, by a clock that stands still, answers no read.
    let mut node = Lone::new();
    let term = node.lead();
    node.step(2, term, matched(1));
    node.step(3, term, matched(1));
    ask(&mut node, 1);
    node.drain();
    let asked = node.look();
    let Some((_, Body::Heartbeat(heartbeat))) = asked.last() else {
        panic!("a round: {asked:?}")
    };
    let alive = |round| Body::HeartbeatReply(HeartbeatReply { round, promise_us: 0 });
    node.step(2, term, alive(Round(heartbeat.round.0 - 1)));
    node.step(3, term, alive(Round(heartbeat.round.0 - 1)));
    assert_eq!(answers(&mut node), []);
    node.step(3, term, alive(heartbeat.round));
    assert_eq!(answers(&mut node), [(1, Ok(1))]);
}

#[test]
fn loss_of_leadership_fails_reads() {
    let mut node = Lone::new();
    let term = node.lead();
    node.step(2, term, matched(1));
    ask(&mut node, 1);
    node.drain();
    ask(&mut node, 2);
    node.step(3, term + 1, heartbeat(0));
    assert_eq!(
        answers(&mut node),
        [(1, Err(Refusal::NotLeader)), (2, Err(Refusal::NotLeader))]
    );
}

#[test]
fn a_leader_that_gives_up_fails_its_reads_at_once() {
    let mut node = Lone::new();
    let term = node.lead();
    node.step(2, term, matched(1));
    ask(&mut node, 1);
    node.drain();
    node.raft.room(0, node.now);
    node.drain();
    assert_eq!(answers(&mut node), [(1, Err(Refusal::NotLeader))]);
    assert_eq!(node.term(), term);
}

#[test]
fn reads_are_bounded() {
    let mut node = Lone::with(0, &[], |config| config.reads_max = 2);
    assert_eq!(node.raft.read(RequestId(1), node.now), Err(Refusal::NotLeader));
    let term = node.lead();
    ask(&mut node, 1);
    node.step(2, term, Body::ReadIndex);
    assert_eq!(node.raft.read(RequestId(2), node.now), Err(Refusal::Overloaded));
    node.look();
    node.step(3, term, Body::ReadIndex);
    assert_eq!(node.look(), [(3, Body::ReadIndexReply(ReadIndexReply::Refused))]);
}

#[test]
fn a_single_voter_answers_at_once() {
    let mut node = Lone::with(0, &[], |config| config.voters = vec![NodeId(1)]);
    node.pass(0);
    node.sync();
    node.sync();
    ask(&mut node, 1);
    node.drain();
    assert_eq!(answers(&mut node), [(1, Ok(1))]);
}

/// It was counted as one that had confirmed the round that was under way.
#[test]
fn a_voter_that_was_never_asked_confirms_no_read() {
    let mut node = Lone::with(0, &[], |config| config.voters = vec![NodeId(1), NodeId(2)]);
    let term = node.lead();
    node.step(2, term, matched(1));
    ask(&mut node, 7);
    node.drain();
    node.raft
        .reconfigure(&[Step::Voter(NodeId(3))], node.now, &mut node.log)
        .expect("it leads");
    node.drain();
    assert_eq!(answers(&mut node), []);
    // Two of three are the leader and one that says so.
    let round = *rounds(&mut node).last().expect("both are asked");
    let reply = HeartbeatReply { round, promise_us: 0 };
    node.step(3, term, Body::HeartbeatReply(reply));
    assert_eq!(answers(&mut node), [(7, Ok(1))]);
}
