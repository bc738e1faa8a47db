//! What answers stand for: reads by lease and of old state, commands that are answered before they are committed.

use std::time::Duration;

use kraft::adapters::mock::Remote;
use kraft::id::{Sequence, SessionId};
use kraft::message::{Basis, Body, Command, Commit, Consistency, NodeState, Outcome as Told, Refusal};
use kraft::node::{Config, Outcome, Ticket};

use super::lab::Lab;
use super::line::{self, Line};

const DRIFT: Duration = Duration::from_millis(20);

fn with_leases(config: &mut Config) {
    config.raft.lease_drift_max = Some(DRIFT);
}

/// How a request ended; it must have.
#[track_caller]
fn ended(ticket: Ticket<Outcome>) -> Outcome {
    ticket.wait(Duration::ZERO).expect("it ended")
}

fn weaker(basis: Basis, answer: &[u8]) -> Outcome {
    Outcome::Weaker {
        basis,
        answer: answer.to_vec().into(),
    }
}

/// What the machine answers when it has applied so many commands.
fn count(count: u64) -> [u8; 8] {
    count.to_le_bytes()
}

fn stale(age_max_ms: u64) -> Consistency {
    Consistency::Stale { age_max_ms }
}

impl Lab {
    #[track_caller]
    fn commit(&mut self, leader: u64) {
        let ticket = self.handle(leader).propose(b"x"[..].into());
        self.run_for(Duration::from_millis(100));
        assert!(matches!(ended(ticket), Outcome::Committed(_)));
    }

    fn ask(&mut self, id: u64, consistency: Consistency) -> Ticket<Outcome> {
        let ticket = self.handle(id).read_by(b"?"[..].into(), consistency);
        self.settle();
        ticket
    }

    /// Cuts a node off from the others.
    fn cut_off(&mut self, id: u64) {
        let others: Vec<_> = (1..=3)
            .filter(|other| *other != id)
            .map(|other| self.host(other))
            .collect();
        self.network.partition(&[self.host(id)], &others);
    }
}

#[test]
fn a_read_by_lease_is_answered_without_the_others_and_says_so() {
    let mut lab = Lab::new(3, 3, with_leases);
    let leader = lab.elect();
    lab.commit(leader);
    lab.cut_off(leader);
    let read = lab.ask(leader, Consistency::Lease);
    assert_eq!(ended(read), weaker(Basis::Lease, &count(1)));
    let asked = lab.ask(leader, Consistency::Linearizable);
    assert_eq!(asked.wait(Duration::ZERO), None, "it waits for a majority");
}

#[test]
fn a_leader_that_was_succeeded_answers_nothing_by_lease() {
    let mut lab = Lab::new(3, 3, with_leases);
    let old = lab.elect();
    lab.commit(old);
    lab.cut_off(old);
    let leads = |lab: &mut Lab| (1..=3).find(|id| *id != old && lab.state(*id) == NodeState::Leader);
    let mut leased = 0;
    while leads(&mut lab).is_none() {
        let read = lab.ask(old, Consistency::Lease);
        lab.run_for(Duration::from_millis(5));
        match read.wait(Duration::ZERO) {
            Some(Outcome::Weaker { basis, answer }) => {
                assert_eq!((basis, &answer[..]), (Basis::Lease, &count(1)[..]));
                leased += 1;
            }
            Some(Outcome::Refused { .. }) | None => {}
            Some(other) => panic!("{other:?}"),
        }
    }
    assert!(leased > 0, "its lease did not end at once");
    let new = leads(&mut lab).expect("it was just seen");
    let write = lab.handle(new).propose(b"y"[..].into());
    lab.settle();
    assert!(matches!(ended(write), Outcome::Committed(_)));
    let read = lab.ask(old, Consistency::Lease);
    lab.run_for(Duration::from_secs(1));
    assert!(matches!(ended(read), Outcome::Refused { .. }), "never the old state");
}

#[test]
fn a_lease_that_ended_while_the_process_was_stopped_answers_nothing() {
    let mut lab = Lab::new(3, 3, with_leases);
    let leader = lab.elect();
    lab.commit(leader);
    // Longer than a lease, between the turn's look at the clock and the answer.
    lab.node_mut(leader).adapter_mut().hold_up(Duration::from_millis(140));
    let read = lab.ask(leader, Consistency::Lease);
    assert_eq!(
        ended(read),
        Outcome::Committed(count(1).to_vec().into()),
        "it was asked for instead"
    );
    lab.node_mut(leader).adapter_mut().hold_up(Duration::ZERO);
    lab.run_for(Duration::from_millis(200));
    let read = lab.ask(leader, Consistency::Lease);
    assert_eq!(ended(read), weaker(Basis::Lease, &count(1)));
}

#[test]
fn where_there_is_no_lease_a_read_by_lease_is_linearizable() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    lab.commit(leader);
    let read = lab.ask(leader, Consistency::Lease);
    assert_eq!(ended(read), Outcome::Committed(count(1).to_vec().into()));
    // A follower asks its leader, as for any read that is not said to be stale.
    for consistency in [Consistency::Lease, Consistency::Linearizable] {
        let read = lab.ask(leader % 3 + 1, consistency);
        lab.run_for(Duration::from_millis(100));
        assert_eq!(ended(read), Outcome::Committed(count(1).to_vec().into()));
    }
}

#[test]
fn a_stale_read_is_answered_at_once_by_any_node_and_says_how_old() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    lab.commit(leader);
    let follower = leader % 3 + 1;
    lab.cut_off(follower);
    lab.commit(leader);
    lab.run_for(Duration::from_millis(900));
    let read = lab.ask(follower, stale(u64::MAX));
    let Outcome::Weaker {
        basis: Basis::Stale { age_ms },
        answer,
    } = ended(read)
    else {
        panic!("a stale answer")
    };
    assert_eq!(&answer[..], &count(1));
    assert!(
        (1_000..1_100).contains(&age_ms),
        "{age_ms} ms since the last heartbeat before the cut"
    );
    let read = lab.ask(follower, stale(age_ms));
    let Outcome::Refused { why, detail, .. } = ended(read) else {
        panic!("refused")
    };
    assert_eq!(why, Refusal::TooStale);
    assert_eq!(
        detail,
        format!("this node last knew itself up to date {age_ms} ms ago, {age_ms} ms are allowed")
    );
    let read = lab.ask(follower, stale(age_ms + 1));
    assert!(matches!(ended(read), Outcome::Weaker { .. }));
    let read = lab.ask(leader, stale(100));
    assert!(matches!(ended(read), Outcome::Weaker { answer, .. } if answer[..] == count(2)));
}

#[test]
fn a_node_that_never_heard_a_leader_is_of_no_age() {
    let mut lab = Lab::new(1, 3, |_| ());
    let read = lab.ask(1, stale(u64::MAX));
    assert_eq!(ended(read), weaker(Basis::Stale { age_ms: u64::MAX }, &count(0)));
    let read = lab.ask(1, stale(u64::MAX - 1));
    assert!(
        matches!(ended(read), Outcome::Refused { why: Refusal::TooStale, detail, .. }
        if detail.contains("since it started"))
    );
}

#[test]
fn each_commit_mode_waits_for_what_it_says() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    (1..=3).for_each(|id| lab.site(id).is_stalled = true);
    let handle = lab.handle(leader);
    let [strong, durable, received] =
        [Commit::Strong, Commit::Leader, Commit::Async].map(|commit| handle.propose_by(b"x"[..].into(), commit));
    lab.settle();
    assert_eq!(ended(received), weaker(Basis::Received, b""), "no disk has it");
    lab.site(leader).unstall();
    lab.settle();
    assert_eq!(ended(durable), weaker(Basis::Leader, b""), "one disk has it");
    assert!(lab.node(leader).machine().commands.is_empty());
    lab.site(leader % 3 + 1).unstall();
    lab.settle();
    assert_eq!(ended(strong), Outcome::Committed(count(1).to_vec().into()));
    assert_eq!(lab.node(leader).machine().commands.len(), 3);
}

#[test]
fn a_majority_that_is_faster_than_the_leader_s_disk_answers_more_than_was_asked() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    lab.site(leader).is_stalled = true;
    let ticket = lab.handle(leader).propose_by(b"x"[..].into(), Commit::Leader);
    lab.settle();
    assert_eq!(ended(ticket), Outcome::Committed(count(1).to_vec().into()));
}

#[test]
fn what_is_answered_early_may_be_lost_and_what_was_not_answered_is_unknown() {
    let mut lab = Lab::cluster(3);
    let old = lab.elect();
    lab.cut_off(old);
    let handle = lab.handle(old);
    let durable = handle.propose_by(b"lost"[..].into(), Commit::Leader);
    let received = handle.propose_by(b"lost"[..].into(), Commit::Async);
    lab.settle();
    assert_eq!(ended(durable), weaker(Basis::Leader, b""));
    assert_eq!(ended(received), weaker(Basis::Received, b""));
    lab.site(old).is_stalled = true;
    let unanswered = handle.propose_by(b"lost"[..].into(), Commit::Leader);
    lab.run_until(|lab| lab.state(old) != NodeState::Leader);
    lab.settle();
    assert_eq!(ended(unanswered), Outcome::Unknown);
    lab.site(old).unstall();
    lab.run_until(|lab| (1..=3).any(|id| id != old && lab.state(id) == NodeState::Leader));
    lab.network.heal();
    let leader = lab.elect();
    lab.commit(leader);
    lab.run_for(Duration::from_secs(1));
    for id in 1..=3 {
        assert_eq!(lab.node(id).machine().commands, [b"x"], "node {id}");
    }
}

/// The answers that came.
fn answers(line: &mut Line<Remote>) -> Vec<(u64, Outcome)> {
    let answer = |message: &kraft::message::Message<'_>| match &message.body {
        Body::Reply(outcome) => Some((message.header.request.0, Outcome::from(*outcome))),
        _ => None,
    };
    line.hear(answer).into_iter().flatten().collect()
}

#[test]
fn a_command_that_was_answered_on_receipt_and_is_sent_again_applies_once() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    let mut client = lab.client(leader);
    client.send(&line::ask(1, Body::OpenSession));
    lab.settle();
    let (_, opened) = answers(&mut client).pop().expect("a session");
    let Told::Committed(session) = opened.lend() else {
        panic!("{opened:?}")
    };
    let session = SessionId(u64::from_le_bytes(session.try_into().expect("an id")));
    let command = |commit| {
        Body::Command(Command {
            session,
            sequence: Sequence(1),
            first_unanswered: Sequence(1),
            command: b"x",
            commit,
        })
    };
    let said = [
        (2, Commit::Async),
        (3, Commit::Async),
        (4, Commit::Leader),
        (5, Commit::Strong),
    ];
    for (request, commit) in said {
        client.send(&line::ask(request, command(commit)));
        lab.run_for(Duration::from_millis(100));
    }
    assert_eq!(
        answers(&mut client),
        [
            (2, weaker(Basis::Received, b"")),
            (3, weaker(Basis::Received, b"")),
            (4, weaker(Basis::Leader, b"")),
            (5, Outcome::Committed(count(1).to_vec().into())),
        ]
    );
    for id in 1..=3 {
        assert_eq!(lab.node(id).machine().commands, [b"x"], "node {id}");
    }
}
