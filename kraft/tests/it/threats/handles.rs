//! Proposals and reads of the own process, each of which ends exactly once.

use std::time::Duration;

use kraft::id::NodeId;
use kraft::message::{NodeState, Refusal};
use kraft::node::{Outcome, Ticket};

use super::lab::Lab;

/// How a request ended; it must have.
#[track_caller]
fn ended(ticket: Ticket<Outcome>) -> Outcome {
    ticket.wait(Duration::ZERO).expect("it ended")
}

#[test]
fn a_proposal_of_a_handle_is_committed_and_answered() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    let tickets: Vec<_> = (0..10).map(|at| lab.handle(leader).propose(vec![at].into())).collect();
    lab.settle();
    for (at, ticket) in (1_u64..).zip(tickets) {
        assert_eq!(ended(ticket), Outcome::Committed(at.to_le_bytes().to_vec().into()));
    }
    lab.run_for(Duration::from_secs(1));
    for id in 1..=3 {
        assert_eq!(lab.node(id).machine().commands.len(), 10);
    }
}

#[test]
fn a_proposal_at_a_follower_is_refused_and_names_the_leader() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    let ticket = lab.handle(leader % 3 + 1).propose(b"x"[..].into());
    lab.settle();
    let Outcome::Refused { why, leader: hint, .. } = ended(ticket) else {
        panic!("refused")
    };
    assert_eq!((why, hint), (Refusal::NotLeader, NodeId(leader)));
}

#[test]
fn reads_at_every_node_see_what_was_written_before() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    for count in 1..=5_u64 {
        let write = lab.handle(leader).propose(b"x"[..].into());
        lab.settle();
        assert!(matches!(ended(write), Outcome::Committed(_)));
        let reads: Vec<_> = (1..=3).map(|id| lab.handle(id).read(b"?"[..].into())).collect();
        // A follower applies what was committed when it hears of it, by a heartbeat at the latest.
        lab.run_for(Duration::from_millis(100));
        for read in reads {
            assert_eq!(ended(read), Outcome::Committed(count.to_le_bytes().to_vec().into()));
        }
    }
}

#[test]
fn proposal_dropped_on_stepdown() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    let others: Vec<_> = (1..=3).filter(|id| *id != leader).collect();
    lab.network
        .partition(&[lab.host(leader)], &[lab.host(others[0]), lab.host(others[1])]);
    let before: Vec<_> = (0..100)
        .map(|_| lab.handle(leader).propose(b"lost"[..].into()))
        .collect();
    let reads: Vec<_> = (0..100).map(|_| lab.handle(leader).read(b"?"[..].into())).collect();
    lab.run_until(|lab| lab.state(leader) != NodeState::Leader);
    lab.settle();
    for ticket in before {
        assert_eq!(ended(ticket), Outcome::Unknown);
    }
    let after = lab.handle(leader).propose(b"late"[..].into());
    lab.settle();
    lab.run_until(|lab| others.iter().any(|id| lab.state(*id) == NodeState::Leader));
    assert!(matches!(ended(after), Outcome::Refused { .. }));

    lab.network.heal();
    let leader = lab.elect();
    let kept = lab.handle(leader).propose(b"kept"[..].into());
    lab.run_for(Duration::from_secs(1));
    assert!(matches!(ended(kept), Outcome::Committed(_)));
    for id in 1..=3 {
        assert_eq!(lab.node(id).machine().commands, [b"kept"]);
    }
    for read in reads {
        let outcome = ended(read);
        assert!(
            matches!(outcome, Outcome::Refused { .. } | Outcome::Unknown),
            "{outcome:?}"
        );
    }
}

#[test]
fn no_request_hangs_where_nobody_leads() {
    let mut lab = Lab::new(1, 3, |_| ());
    let (write, read) = (
        lab.handle(1).propose(b"x"[..].into()),
        lab.handle(1).read(b"?"[..].into()),
    );
    lab.run_for(Duration::from_secs(5));
    assert!(matches!(
        ended(write),
        Outcome::Refused {
            why: Refusal::NotLeader,
            ..
        }
    ));
    assert!(matches!(
        ended(read),
        Outcome::Refused {
            why: Refusal::NotLeader,
            ..
        }
    ));
}

#[test]
fn a_read_at_a_follower_ends_when_its_leader_dies() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    let follower = leader % 3 + 1;
    let other = follower % 3 + 1;
    // Its question is lost.
    lab.network
        .partition(&[lab.host(follower)], &[lab.host(leader), lab.host(other)]);
    let read = lab.handle(follower).read(b"?"[..].into());
    lab.run_for(Duration::from_millis(100));
    lab.kill(leader);
    lab.network.heal();
    lab.run_for(Duration::from_secs(10));
    let outcome = ended(read);
    assert!(
        matches!(outcome, Outcome::Refused { .. } | Outcome::Committed(_)),
        "{outcome:?}"
    );
}

#[test]
fn a_read_whose_leader_died_once_it_had_told_from_which_index_is_answered() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    let (follower, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    // It acknowledges nothing, and still hears in the read's round how much is committed.
    lab.site(follower).is_stalled = true;
    let write = lab.handle(leader).propose(b"x"[..].into());
    lab.settle();
    assert!(matches!(ended(write), Outcome::Committed(_)));
    let read = lab.handle(follower).read(b"?"[..].into());
    lab.settle();
    lab.kill(leader);
    lab.kill(other);
    lab.run_for(Duration::from_secs(1));
    assert_eq!(ended(read), Outcome::Committed(1_u64.to_le_bytes().to_vec().into()));
}

#[test]
fn a_disk_that_stalls_costs_the_leader_its_leadership_and_not_its_loop() {
    let mut lab = Lab::cluster(3);
    let leader = lab.elect();
    lab.site(leader).is_stalled = true;
    let write = lab.handle(leader).propose(b"x"[..].into());
    lab.settle();
    assert!(
        matches!(ended(write), Outcome::Committed(_)),
        "the followers' disks are a majority"
    );
    let read = lab.handle(leader).read(b"?"[..].into());
    lab.settle();
    assert!(matches!(ended(read), Outcome::Committed(_)), "reads need no disk");
    lab.run_until(|lab| lab.state(leader) != NodeState::Leader);
    lab.run_until(|lab| (1..=3).any(|id| id != leader && lab.state(id) == NodeState::Leader));
    lab.run_for(Duration::from_secs(5));
    assert_ne!(lab.state(leader), NodeState::Leader);
    lab.site(leader).unstall();
    let next = lab.elect();
    let write = lab.handle(next).propose(b"y"[..].into());
    lab.run_for(Duration::from_secs(1));
    assert!(matches!(ended(write), Outcome::Committed(_)));
    assert_eq!(lab.node(leader).machine().commands, [b"x", b"y"]);
}
