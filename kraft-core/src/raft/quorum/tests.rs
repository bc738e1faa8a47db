//! Tables in the manner of etcd's `quorum/testdata`, and a comparison with counting by hand.

use super::*;

/// `committed` of voters 1, 2, .. that have their logs up to these; a `0` is one that was not heard.
#[track_caller]
fn check(matched: &[u64], expected: u64) {
    let voters: Vec<_> = (1..=matched.len() as u64).map(NodeId).collect();
    let of = |id: NodeId| Index(matched[id.0 as usize - 1]);
    assert_eq!(majority(&voters).committed_index(of), Index(expected), "{matched:?}");
    // No difference to one that is joint with nobody, or with itself.
    assert_eq!(joint(&voters, &[]).committed_index(of), Index(expected), "{matched:?}");
    assert_eq!(
        joint(&voters, &voters).committed_index(of),
        Index(expected),
        "{matched:?}"
    );
}

#[test]
fn an_index_is_committed_when_a_majority_has_it() {
    check(&[], u64::MAX);
    check(&[5], 5);
    check(&[0], 0);
    check(&[5, 3], 3);
    check(&[5, 0], 0);
    check(&[5, 3, 4], 4);
    check(&[9, 0, 0], 0);
    check(&[12, 5, 0], 5);
    check(&[12, 5, 6], 6);
    check(&[9, 1, 7, 3], 3);
    check(&[101, 104, 103, 0], 101);
    check(&[101, 104, 103, 103], 103);
    check(&[1, 2, 3, 4, 5], 3);
    check(&[101, 104, 103, 103, 0], 103);
    // More than the room on the stack.
    let many: Vec<_> = (1..=21).collect();
    check(&many, 11);
}

fn nodes(ids: &[u64]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

/// The same of two sets; `matched` is by the order in which the ids of both ascend.
#[track_caller]
fn check_joint(new: &[u64], old: &[u64], matched: &[u64], expected: u64) {
    let mut ids: Vec<_> = new.iter().chain(old).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), matched.len(), "one each");
    let of = |id: NodeId| Index(matched[ids.iter().position(|known| *known == id.0).expect("a voter")]);
    let (new, old) = (nodes(new), nodes(old));
    for (new, old) in [(&new, &old), (&old, &new)] {
        let committed = joint(new, old).committed_index(of);
        assert_eq!(committed, Index(expected), "{new:?} {old:?} {matched:?}");
    }
}

#[test]
fn joint_needs_both_majorities() {
    check_joint(&[1, 2, 3], &[], &[100, 101, 99], 100);
    check_joint(&[1], &[2], &[100, 0], 0);
    check_joint(&[1], &[2], &[13, 100], 13);
    check_joint(&[1], &[1], &[100], 100);
    check_joint(&[1, 3], &[2], &[100, 0, 50], 0);
    check_joint(&[1, 3], &[2], &[100, 45, 50], 45);
    check_joint(&[1, 2], &[2], &[100, 0], 0);
    check_joint(&[1, 2], &[2], &[0, 100], 0);
    check_joint(&[1, 2], &[2], &[50, 100], 50);
    check_joint(&[1, 2], &[3, 4], &[50, 48, 49, 0], 0);
    check_joint(&[1, 2], &[3, 4], &[50, 48, 49, 47], 47);
    check_joint(&[1, 2], &[2, 3], &[0, 100, 99], 0);
    check_joint(&[1, 2], &[2, 3], &[101, 100, 99], 99);
    check_joint(&[1, 2, 3], &[4, 5, 6], &[100, 99, 0, 0, 0, 0], 0);
    check_joint(&[1, 2, 3], &[4, 5, 6], &[0, 99, 90, 97, 95, 0], 90);
    check_joint(&[1, 2, 3], &[4, 5, 6], &[92, 99, 90, 97, 95, 77], 92);
    check_joint(&[1, 2, 3], &[1, 4, 5], &[100, 101, 100, 0, 0], 0);
    check_joint(&[1, 2, 3], &[1, 4, 5], &[0, 100, 99, 99, 98], 98);
    check_joint(&[1, 2, 3], &[1, 4, 5], &[100, 100, 99, 99, 98], 99);
    check_joint(&[1, 2, 3], &[2, 3, 4], &[0, 100, 99, 0], 99);
    check_joint(&[1, 2, 3], &[2, 3, 4], &[100, 0, 0, 101], 0);
    check_joint(&[1, 2, 3], &[2, 3, 4], &[100, 99, 0, 101], 99);
}

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);

#[track_caller]
fn check_votes(votes: &[Option<bool>], expected: VoteResult) {
    let voters: Vec<_> = (1..=votes.len() as u64).map(NodeId).collect();
    let of = |id: NodeId| votes[id.0 as usize - 1];
    assert_eq!(majority(&voters).vote_result(of), expected, "{votes:?}");
    assert_eq!(joint(&voters, &[]).vote_result(of), expected, "{votes:?}");
    assert_eq!(joint(&voters, &voters).vote_result(of), expected, "{votes:?}");
}

#[test]
fn an_election_is_won_by_a_majority_and_lost_when_none_is_left() {
    check_votes(&[], VoteResult::Won);
    check_votes(&[YES], VoteResult::Won);
    check_votes(&[NO], VoteResult::Lost);
    check_votes(&[None], VoteResult::Pending);
    check_votes(&[YES, None], VoteResult::Pending);
    check_votes(&[YES, NO], VoteResult::Lost);
    check_votes(&[NO, None], VoteResult::Lost);
    check_votes(&[YES, None, None], VoteResult::Pending);
    check_votes(&[YES, NO, None], VoteResult::Pending);
    check_votes(&[YES, NO, YES], VoteResult::Won);
    check_votes(&[YES, NO, NO], VoteResult::Lost);
    check_votes(&[YES, NO, None, None], VoteResult::Pending);
    check_votes(&[YES, NO, NO, None], VoteResult::Lost);
    check_votes(&[YES, YES, NO, NO, None, None, None], VoteResult::Pending);
    check_votes(&[YES, YES, NO, YES, NO, None, None], VoteResult::Pending);
    check_votes(&[NO, NO, YES, NO, NO, None, None], VoteResult::Lost);
    check_votes(&[YES, YES, YES, YES, None, None, None], VoteResult::Won);
}

#[track_caller]
fn check_joint_votes(new: &[u64], old: &[u64], votes: &[Option<bool>], expected: VoteResult) {
    let (new, old) = (nodes(new), nodes(old));
    let of = |id: NodeId| votes[id.0 as usize - 1];
    for (new, old) in [(&new, &old), (&old, &new)] {
        let result = joint(new, old).vote_result(of);
        assert_eq!(result, expected, "{new:?} {old:?} {votes:?}");
    }
}

#[test]
fn a_joint_election_is_won_in_both_majorities_and_lost_in_one() {
    check_joint_votes(&[1], &[], &[YES], VoteResult::Won);
    check_joint_votes(&[], &[], &[], VoteResult::Won);
    check_joint_votes(&[1], &[1], &[None], VoteResult::Pending);
    check_joint_votes(&[1], &[2], &[YES, None], VoteResult::Pending);
    check_joint_votes(&[1], &[2], &[YES, NO], VoteResult::Lost);
    check_joint_votes(&[1], &[2], &[None, NO], VoteResult::Lost);
    check_joint_votes(&[1, 2], &[3, 4], &[YES, None, None, None], VoteResult::Pending);
    check_joint_votes(&[1, 2], &[3, 4], &[YES, YES, NO, NO], VoteResult::Lost);
    check_joint_votes(&[1, 2], &[3, 4], &[YES, YES, YES, NO], VoteResult::Lost);
    check_joint_votes(&[1, 2], &[2, 3], &[None, None, NO], VoteResult::Lost);
    check_joint_votes(&[1, 2], &[2, 3], &[YES, YES, None], VoteResult::Pending);
    check_joint_votes(
        &[1, 2, 3],
        &[4, 5, 6],
        &[YES, YES, None, None, None, None],
        VoteResult::Pending,
    );
    check_joint_votes(
        &[1, 2, 3],
        &[4, 5, 6],
        &[YES, YES, None, YES, YES, None],
        VoteResult::Won,
    );
    check_joint_votes(
        &[1, 2, 3],
        &[4, 5, 6],
        &[YES, NO, None, YES, YES, None],
        VoteResult::Pending,
    );
    check_joint_votes(&[1, 2, 3], &[1, 4, 5], &[YES, YES, NO, NO, YES], VoteResult::Won);
    check_joint_votes(&[1, 2, 3], &[1, 4, 5], &[NO, YES, YES, NO, YES], VoteResult::Lost);
}

#[test]
fn who_decides_alone_is_the_only_voter_of_either_majority() {
    let is_sole = |new: &[u64], old: &[u64]| joint(&nodes(new), &nodes(old)).is_sole(NodeId(1));
    assert!(is_sole(&[1], &[]));
    assert!(is_sole(&[1], &[1]));
    assert!(!is_sole(&[], &[]), "nobody votes");
    assert!(!is_sole(&[2], &[]));
    assert!(!is_sole(&[1, 2], &[]));
    assert!(!is_sole(&[1], &[2]));
    assert!(!is_sole(&[1], &[1, 2]));
    assert!(!is_sole(&[2], &[1]));
    assert!(!is_sole(&[1, 2], &[1]));
}

/// By the definition: the greatest index that more than half of the voters have.
fn counted(voters: &[NodeId], matched: &[u64]) -> u64 {
    let has = |index: u64| {
        let holders = voters.iter().filter(|voter| matched[voter.0 as usize] >= index);
        2 * holders.count() > voters.len() || voters.is_empty()
    };
    // Nobody has more than the greatest, but nobody's majority has it all.
    let indexes = matched.iter().copied().chain([0, u64::MAX]);
    indexes.filter(|index| has(*index)).max().expect("everybody has zero")
}

/// By the definition: won with what is there, lost with all that may come.
fn elected(voters: &[NodeId], votes: &[Option<bool>]) -> VoteResult {
    let wins = |missing: bool| {
        let granted = voters.iter().filter(|voter| votes[voter.0 as usize].unwrap_or(missing));
        2 * granted.count() > voters.len() || voters.is_empty()
    };
    match (wins(false), wins(true)) {
        (true, _) => VoteResult::Won,
        (_, true) => VoteResult::Pending,
        _ => VoteResult::Lost,
    }
}

#[test]
fn counting_by_hand_comes_to_the_same() {
    let mut rng = fastrand::Rng::with_seed(3);
    for _ in 0..20_000 {
        let mut draw = || (0..10).filter(|_| rng.u8(..3) == 0).map(NodeId).collect::<Vec<_>>();
        let (new, old) = (draw(), draw());
        let matched: Vec<_> = (0..10).map(|_| rng.u64(0..6)).collect();
        let votes: Vec<_> = (0..10).map(|_| [None, YES, NO][rng.usize(..3)]).collect();
        let committed = joint(&new, &old).committed_index(|id| Index(matched[id.0 as usize]));
        assert_eq!(committed.0, counted(&new, &matched).min(counted(&old, &matched)));
        let result = joint(&new, &old).vote_result(|id| votes[id.0 as usize]);
        let expected = match (elected(&new, &votes), elected(&old, &votes)) {
            (VoteResult::Won, VoteResult::Won) => VoteResult::Won,
            (VoteResult::Lost, _) | (_, VoteResult::Lost) => VoteResult::Lost,
            _ => VoteResult::Pending,
        };
        assert_eq!(result, expected, "{new:?} {old:?} {votes:?}");
    }
}
