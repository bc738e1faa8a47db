//! Leadership handed over by whole nodes: what their clients see of it.

use std::time::Duration;

use kraft::message::{Body, NodeState, Outcome, Refusal, Transfer};
use kraft::node;
use kraft_core::id::NodeId;

use super::lab::Lab;
use super::line::{self, Line};

/// The longest election timeout of the lab's nodes.
const BOUND: Duration = Duration::from_millis(300);

fn transfer(to: u64) -> Body<'static> {
    Body::Transfer(Transfer { to: NodeId(to) })
}

/// The answers that came: a request, and why it was refused, by whom that leads; `None` if it was not.
fn answers(line: &mut Line) -> Vec<(u64, Option<(Refusal, u64)>)> {
    line.hear(|message| {
        let refused = match &message.body {
            Body::Reply(Outcome::Committed(_)) => None,
            Body::Reply(Outcome::Refused(refused)) => Some((refused.why, refused.leader.0)),
            other => panic!("{other:?}"),
        };
        (message.header.request.0, refused)
    })
}

/// Three nodes; the one that leads, and the next.
fn three(tune: impl Fn(&mut node::Config)) -> (Lab, u64, u64) {
    let mut lab = Lab::new(3, 3, tune);
    let leader = lab.elect();
    (lab, leader, leader % 3 + 1)
}

#[test]
fn a_client_hears_who_leads_when_somebody_does() {
    let (mut lab, leader, to) = three(|_| ());
    let mut client = lab.client(leader);
    let began = lab.network.now();
    client.send(&line::ask(1, transfer(to)));
    lab.settle();
    let heard = client.hear(|message| match &message.body {
        Body::Reply(Outcome::Committed(reply)) => Transfer::leader(reply),
        other => panic!("{other:?}"),
    });
    assert_eq!(heard, [Some(NodeId(to))]);
    assert_eq!(
        (lab.network.now(), lab.elect()),
        (began, to),
        "on a network without delays"
    );
    assert_eq!(lab.told(leader, "Transferred").len(), 1);
    // Whoever leads may be asked again: it is so already.
    let mut client = lab.client(to);
    client.send(&line::ask(2, transfer(to)));
    lab.settle();
    assert_eq!(answers(&mut client), [(2, None)]);
    assert!(lab.told(to, "Transferred").is_empty(), "nothing was handed over");
}

#[test]
fn what_cannot_be_is_refused_by_its_name() {
    let (mut lab, leader, to) = three(|_| ());
    let mut client = lab.client(leader);
    client.send(&line::ask(1, transfer(9)));
    lab.settle();
    assert_eq!(answers(&mut client), [(1, Some((Refusal::UnknownMember, leader)))]);
    let mut other = lab.client(to);
    other.send(&line::ask(2, transfer(to)));
    lab.settle();
    assert_eq!(answers(&mut other), [(2, Some((Refusal::NotLeader, leader)))]);
    lab.kill(to);
    lab.run_for(Duration::from_millis(200));
    client.send(&line::ask(3, transfer(to)));
    lab.settle();
    assert_eq!(answers(&mut client), [(3, Some((Refusal::Unreachable, leader)))]);
    let handle = lab.handle(leader);
    let asked = handle.transfer(NodeId(to));
    lab.settle();
    match asked.wait(Duration::ZERO) {
        Some(node::Outcome::Refused { why, detail, .. }) => {
            assert_eq!((why, detail), (Refusal::Unreachable, format!("node {to} is not heard")));
        }
        other => panic!("{other:?}"),
    }
}

/// A leader whose successor's disk does not answer, asked to hand over to it.
fn stuck(tune: impl Fn(&mut node::Config)) -> (Lab, u64, u64, Line) {
    let (mut lab, leader, to) = three(tune);
    let mut client = lab.client(leader);
    lab.site(to).is_stalled = true;
    client.send(&line::ask(1, line::command(b"before")));
    lab.settle();
    assert_eq!(answers(&mut client), [(1, None)]);
    client.send(&line::ask(2, transfer(to)));
    lab.settle();
    (lab, leader, to, client)
}

#[test]
fn commands_wait_for_a_transfer_and_are_proposed_if_it_comes_to_nothing() {
    let (mut lab, leader, _, mut client) = stuck(|_| ());
    client.send(&[line::ask(3, line::command(b"a")), line::ask(4, line::command(b"b"))].concat());
    let own = lab.handle(leader).propose(b"c"[..].into());
    client.send(&line::ask(5, line::read(b"?")));
    lab.settle();
    assert_eq!(answers(&mut client), [(5, None)], "reads go on");
    client.send(&line::ask(6, transfer(0)));
    lab.settle();
    assert_eq!(answers(&mut client), [(6, Some((Refusal::Transferring, leader)))]);
    lab.run_for(BOUND);
    let ended = answers(&mut client);
    assert!(ended.contains(&(2, Some((Refusal::TimedOut, leader)))), "{ended:?}");
    assert!(ended.contains(&(3, None)) && ended.contains(&(4, None)), "{ended:?}");
    assert!(matches!(own.wait(Duration::ZERO), Some(node::Outcome::Committed(_))));
    assert_eq!(lab.node(leader).machine().commands.len(), 4);
    assert_eq!(lab.state(leader), NodeState::Leader);
}

#[test]
fn commands_are_refused_meanwhile_if_that_is_chosen() {
    let (mut lab, leader, _, mut client) = stuck(|config| config.transfer_waits = false);
    client.send(&line::ask(3, line::command(b"a")));
    lab.settle();
    assert_eq!(answers(&mut client), [(3, Some((Refusal::Transferring, leader)))]);
    lab.run_for(BOUND);
    assert_eq!(answers(&mut client), [(2, Some((Refusal::TimedOut, leader)))]);
    client.send(&line::ask(4, line::command(b"b")));
    lab.settle();
    assert_eq!(answers(&mut client), [(4, None)], "they are taken again");
}

#[test]
fn what_waits_for_a_transfer_is_bounded() {
    let (mut lab, leader, _, mut client) = stuck(|config| config.raft.uncommitted_bytes_max = 1000);
    let requests: Vec<_> = (10..20).map(|at| line::ask(at, line::command(&[7; 200]))).collect();
    client.send(&requests.concat());
    lab.settle();
    let refused = answers(&mut client);
    assert!(!refused.is_empty() && refused.len() < 7, "{refused:?}");
    assert!(
        refused
            .iter()
            .all(|(_, why)| *why == Some((Refusal::Transferring, leader)))
    );
    lab.run_for(BOUND);
    let ended = answers(&mut client);
    let done = ended.iter().filter(|(_, why)| why.is_none()).count();
    assert_eq!(done + refused.len(), 10, "{ended:?}");
}

#[test]
fn commands_that_waited_are_sent_to_the_successor() {
    let (mut lab, _, to, mut client) = stuck(|_| ());
    client.send(&line::ask(3, line::command(b"a")));
    lab.settle();
    lab.site(to).unstall();
    lab.run_until(|lab| lab.state(to) == NodeState::Leader);
    lab.settle();
    let mut ended = answers(&mut client);
    ended.sort_unstable_by_key(|answer| answer.0);
    assert_eq!(ended, [(2, None), (3, Some((Refusal::NotLeader, to)))]);
    let mut there = lab.client(to);
    there.send(&line::ask(4, line::command(b"a")));
    lab.settle();
    assert_eq!(answers(&mut there), [(4, None)]);
    lab.run_for(Duration::from_millis(100));
    for id in 1..=3 {
        assert_eq!(
            lab.node(id).machine().commands,
            [b"before".to_vec(), b"a".to_vec()],
            "once, at node {id}"
        );
    }
}

#[test]
fn a_leader_that_stops_answers_all_and_names_its_successor() {
    let (mut lab, leader, to) = three(|_| ());
    let mut client = lab.client(leader);
    let other = 6 - leader - to;
    lab.site(other).is_stalled = true;
    // Both followers are behind: it waits for the one that gets up.
    lab.site(to).is_stalled = true;
    client.send(&line::ask(1, line::command(b"under way")));
    lab.settle();
    lab.handle(leader).stop();
    lab.settle();
    client.send(&line::ask(2, line::command(b"meanwhile")));
    let own = lab.handle(leader).propose(b"mine"[..].into());
    lab.settle();
    assert_eq!(answers(&mut client), []);
    lab.site(to).unstall();
    lab.site(other).unstall();
    lab.run_until(|lab| (1..=3).any(|id| id != leader && lab.state(id) == NodeState::Leader));
    let next = lab.elect();
    let (mut heard, mut goodbye) = (Vec::new(), false);
    client.hear(|message| match &message.body {
        Body::Reply(Outcome::Committed(_)) => heard.push((message.header.request.0, None)),
        Body::Reply(Outcome::Refused(refused)) => {
            heard.push((message.header.request.0, Some((refused.why, refused.leader.0))));
        }
        Body::Goaway(_) => goodbye = true,
        other => panic!("{other:?}"),
    });
    assert_eq!(heard, [(1, None), (2, Some((Refusal::NotLeader, next)))]);
    assert!(goodbye);
    match own.wait(Duration::ZERO) {
        Some(node::Outcome::Refused { why, leader, .. }) => assert_eq!((why, leader.0), (Refusal::NotLeader, next)),
        other => panic!("{other:?}"),
    }
    drop(client);
    lab.run_until(|lab| lab.node(leader).is_stopped());
}

#[test]
fn a_leader_that_nobody_can_succeed_stops_within_its_bound() {
    let (mut lab, leader, to) = three(|_| ());
    let other = 6 - leader - to;
    let mut client = lab.client(leader);
    for id in [to, other] {
        lab.site(id).is_stalled = true;
    }
    client.send(&line::ask(1, line::command(b"under way")));
    lab.settle();
    let began = lab.network.now();
    lab.handle(leader).stop();
    lab.settle();
    client.send(&line::ask(2, line::command(b"meanwhile")));
    lab.run_for(BOUND);
    let heard = client.heard().concat();
    assert!(heard.contains("Unknown") && heard.contains("Stopping"), "{heard}");
    drop(client);
    lab.run_until(|lab| lab.node(leader).is_stopped());
    assert!(lab.network.now() - began <= BOUND + Duration::from_secs(1));
}
