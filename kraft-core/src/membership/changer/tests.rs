//! Scripts of changes and what comes of them, in the notation of etcd's `confchange/testdata`: `v1` makes a voter, `l1`
//! a learner, `r1` removes; `voters=(new)&&(old)`; each call offers new members one index more.

use super::*;

struct Script {
    configuration: Configuration,
    progress: BTreeMap<NodeId, Tracked>,
    last: Index,
}

fn steps(text: &str) -> Vec<Step> {
    let step = |word: &str| {
        let node = NodeId(word[1..].parse().expect("a number"));
        match &word[..1] {
            "v" => Step::Voter(node),
            "l" => Step::Learner(node, Plan::Stay),
            "r" => Step::Remove(node),
            other => panic!("{other}"),
        }
    };
    text.split_whitespace().map(step).collect()
}

fn list<'a>(name: &str, nodes: impl Iterator<Item = &'a Member>) -> String {
    let nodes: Vec<_> = nodes.map(|member| member.node.to_string()).collect();
    match nodes.is_empty() {
        true => String::new(),
        false => format!("{name}({})", nodes.join(" ")),
    }
}

fn told(configuration: &Configuration, progress: &BTreeMap<NodeId, Tracked>) -> String {
    let with = |is_so: fn(&Seat) -> bool| configuration.members().iter().filter(move |member| is_so(&member.seat));
    let mut text = list("voters=", with(|seat| seat.votes()));
    if configuration.is_joint() {
        text += &list("&&", with(|seat| seat.voted()));
    }
    text += &list(" learners=", with(|seat| matches!(seat, Seat::Learner(_))));
    text += &list(" learners_next=", with(|seat| *seat == Seat::Demoted));
    for (node, tracked) in progress {
        let learner = if tracked.is_learner { "l" } else { "" };
        text += &format!(" {node}:{}{learner}", tracked.next);
    }
    text
}

impl Script {
    fn new() -> Self {
        Self {
            configuration: Configuration::default(),
            progress: BTreeMap::new(),
            last: Index(0),
        }
    }

    #[track_caller]
    fn check(&mut self, call: &str, expected: &str) -> &mut Self {
        let (verb, rest) = call.split_once(' ').unwrap_or((call, ""));
        let changer = Changer {
            configuration: &self.configuration,
            progress: &self.progress,
            last: self.last,
        };
        let result = match verb {
            "simple" => changer.simple(&steps(rest)),
            "enter" => changer.enter_joint(&steps(rest)),
            "leave" => changer.leave_joint(),
            other => panic!("{other}"),
        };
        self.last = self.last.next();
        let text = match &result {
            Ok((configuration, progress)) => told(configuration, progress),
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(text, expected, "{call}");
        if let Ok((configuration, progress)) = result {
            let ids: Vec<_> = progress.keys().copied().collect();
            let members: Vec<_> = configuration.members().iter().map(|member| member.node).collect();
            assert_eq!(ids, members, "who is a member is tracked, and nobody else");
            assert_eq!(
                Configuration::decode(&configuration.encode()),
                Ok(configuration.clone())
            );
            (self.configuration, self.progress) = (configuration, progress);
        }
        self
    }
}

#[test]
fn one_voter_at_a_time_is_simple() {
    Script::new()
        .check("simple l1", "NoVoter")
        .check("simple v1", "voters=(1) 1:1")
        .check("simple v2 l3", "voters=(1 2) learners=(3) 1:1 2:2 3:2l")
        .check("simple r1 v5", "ManyVoters")
        .check("simple r1 r2", "NoVoter")
        .check("simple v3 v4", "ManyVoters")
        .check("simple l1 v5", "ManyVoters")
        .check("simple l1 l2", "NoVoter")
        .check(
            "simple l2 l3 l4 l5",
            "voters=(1) learners=(2 3 4 5) 1:1 2:2l 3:2l 4:8l 5:8l",
        )
        .check("simple r1", "NoVoter")
        .check("simple r2 r3 r4 r5", "voters=(1) 1:1");
}

#[test]
fn voters_are_demoted_and_promoted() {
    Script::new()
        .check("simple v1", "voters=(1) 1:1")
        .check("simple v2", "voters=(1 2) 1:1 2:1")
        .check("simple v3", "voters=(1 2 3) 1:1 2:1 3:2")
        .check("simple l1 v1", "voters=(1 2 3) 1:1 2:1 3:2")
        .check("simple l2", "voters=(1 3) learners=(2) 1:1 2:1l 3:2")
        .check("simple v2 l2", "voters=(1 3) learners=(2) 1:1 2:1l 3:2")
        .check("simple v2", "voters=(1 2 3) 1:1 2:1 3:2");
}

#[test]
fn what_is_so_already_stays_so() {
    Script::new()
        .check("simple v1 r0 v0 l0", "voters=(1) 1:1")
        .check("simple v1", "voters=(1) 1:1")
        .check("simple v2", "voters=(1 2) 1:1 2:2")
        .check("simple l1", "voters=(2) learners=(1) 1:1l 2:2")
        .check("simple l1", "voters=(2) learners=(1) 1:1l 2:2")
        .check("simple r1", "voters=(2) 2:2")
        .check("simple r1", "voters=(2) 2:2")
        .check("simple v3", "voters=(2 3) 2:2 3:7")
        .check("simple r3", "voters=(2) 2:2")
        .check("simple r3 r4", "voters=(2) 2:2")
        .check("simple", "voters=(2) 2:2");
}

#[test]
fn a_joint_configuration_is_entered_and_left_once() {
    Script::new()
        .check("leave", "NotJoint")
        .check("enter", "NoVoter")
        .check("enter v1", "NoVoter")
        .check("simple v1", "voters=(1) 1:3")
        .check("leave", "NotJoint")
        .check("enter", "voters=(1)&&(1) 1:3")
        .check("enter", "Joint")
        .check("leave", "voters=(1) 1:3")
        .check("leave", "NotJoint")
        .check("enter r1 v2 v3 l4", "voters=(2 3)&&(1) learners=(4) 1:3 2:9 3:9 4:9l")
        .check("enter", "Joint")
        .check("enter v12", "Joint")
        .check("simple l15", "Joint")
        .check("leave", "voters=(2 3) learners=(4) 2:9 3:9 4:9l")
        .check("simple l9", "voters=(2 3) learners=(4 9) 2:9 3:9 4:9l 9:14l")
        .check("enter r2 r3", "NoVoter")
        .check("enter l2 l3", "NoVoter");
}

#[test]
fn joint_steps_are_idempotent_and_the_last_one_counts() {
    Script::new()
        .check("simple v1", "voters=(1) 1:1")
        .check(
            "enter r1 r2 r9 v2 v3 v4 v2 v3 v4 l2 l2 r4 r4 l1 l1",
            "voters=(3)&&(1) learners=(2) learners_next=(1) 1:1 2:1l 3:1",
        )
        .check("leave", "voters=(3) learners=(1 2) 1:1l 2:1l 3:1");
}

#[test]
fn a_voter_that_is_demoted_votes_until_the_joint_configuration_is_left() {
    Script::new()
        .check("simple v1", "voters=(1) 1:1")
        .check("enter v2 l1", "voters=(2)&&(1) learners_next=(1) 1:1 2:1")
        .check("leave", "voters=(2) learners=(1) 1:1l 2:1")
        // Changed its mind within the steps, both ways.
        .check("enter v1 l2 v2 r1 l1", "voters=(2)&&(2) learners=(1) 1:1l 2:1")
        .check("leave", "voters=(2) learners=(1) 1:1l 2:1")
        .check("enter l2 r2 v1", "voters=(1)&&(2) 1:1 2:1")
        .check("leave", "voters=(1) 1:1")
        .check("enter v2 v3 v4 v5", "voters=(1 2 3 4 5)&&(1) 1:1 2:7 3:7 4:7 5:7")
        .check("leave", "voters=(1 2 3 4 5) 1:1 2:7 3:7 4:7 5:7")
        .check(
            "enter r1 r2 l3",
            "voters=(4 5)&&(1 2 3 4 5) learners_next=(3) 1:1 2:7 3:7 4:7 5:7",
        )
        .check("leave", "voters=(4 5) learners=(3) 3:7l 4:7 5:7");
}

#[test]
fn former_members_are_remembered_up_to_a_bound() {
    let mut script = Script::new();
    script.check("simple v1", "voters=(1) 1:1");
    script.check("simple l2 l3", "voters=(1) learners=(2 3) 1:1 2:1l 3:1l");
    script.check("simple r2 r3", "voters=(1) 1:1");
    assert_eq!(script.configuration.removed(), [NodeId(2), NodeId(3)]);
    script.check("enter v3 r1", "voters=(3)&&(1) 1:1 3:3");
    assert_eq!(script.configuration.removed(), [NodeId(2)], "1 still votes, 3 is back");
    script.check("leave", "voters=(3) 3:3");
    assert_eq!(script.configuration.removed(), [NodeId(2), NodeId(1)]);
    for node in 10..10 + 2 * REMOVED_MAX as u64 {
        for step in [Step::Learner(NodeId(node), Plan::Stay), Step::Remove(NodeId(node))] {
            let changer = Changer {
                configuration: &script.configuration,
                progress: &script.progress,
                last: Index(1),
            };
            (script.configuration, script.progress) = changer.simple(&[step]).expect("it can be");
        }
    }
    assert_eq!(script.configuration.removed().len(), REMOVED_MAX);
    assert!(!script.configuration.is_removed(NodeId(2)));
    assert!(script.configuration.is_removed(NodeId(9 + 2 * REMOVED_MAX as u64)));
}

#[test]
fn there_are_no_more_than_there_may_be() {
    let voters: Vec<_> = (1..=15).map(NodeId).collect();
    let mut script = Script::new();
    script.configuration = Configuration::founding(&voters);
    let fails = |call: &str| {
        let changer = Changer {
            configuration: &script.configuration,
            progress: &script.progress,
            last: Index(1),
        };
        let (verb, rest) = call.split_once(' ').expect("a verb");
        match verb {
            "simple" => changer.simple(&steps(rest)),
            _ => changer.enter_joint(&steps(rest)),
        }
        .err()
    };
    let learners = |last: u64| (16..=last).map(|node| format!(" l{node}")).collect::<String>();
    assert_eq!(fails("simple v16"), Some(ChangeError::TooMany));
    assert_eq!(fails("enter v16 r1"), None);
    assert_eq!(fails("enter v16 v17 r1"), Some(ChangeError::TooMany));
    assert_eq!(fails(&format!("simple{}", learners(31))), None);
    assert_eq!(fails(&format!("simple{}", learners(32))), Some(ChangeError::TooMany));
}

/// Thesis §4.1: what makes a simple change safe.
#[test]
fn any_majority_before_a_change_meets_any_after_it() {
    let mut rng = fastrand::Rng::with_seed(11);
    let progress = BTreeMap::new();
    for _ in 0..3_000 {
        let voters: Vec<_> = (1..=6).filter(|_| rng.bool()).map(NodeId).collect();
        if voters.is_empty() {
            continue;
        }
        let before = Configuration::founding(&voters);
        let steps: Vec<_> = (0..rng.usize(1..5))
            .map(|_| {
                let node = NodeId(rng.u64(1..8));
                [Step::Voter(node), Step::Learner(node, Plan::Stay), Step::Remove(node)][rng.usize(..3)]
            })
            .collect();
        let changer = |configuration| Changer {
            configuration,
            progress: &progress,
            last: Index(1),
        };
        let mut path = vec![before.clone()];
        if let Ok((after, _)) = changer(&before).simple(&steps) {
            path.push(after);
        } else if let Ok((joint, _)) = changer(&before).enter_joint(&steps) {
            let (after, _) = changer(&joint).leave_joint().expect("it is joint");
            path.extend([joint, after]);
        }
        for pair in path.windows(2) {
            assert!(!are_apart(&pair[0], &pair[1]), "{pair:?}");
        }
    }
}

/// Whether two disjoint sets of nodes can decide, each in one of these configurations.
fn are_apart(before: &Configuration, after: &Configuration) -> bool {
    let wins = |configuration: &Configuration, set: u32| {
        let vote = |node: NodeId| (set >> node.0 & 1 == 1).then_some(true);
        configuration.quorum().vote_result(vote) == crate::raft::quorum::VoteResult::Won
    };
    // What the others can do is most if they are all the others.
    (0..1u32 << 8).any(|set| wins(before, set) && wins(after, !set))
}
