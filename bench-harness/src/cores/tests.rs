use super::*;
use crate::job::Job;

/// As short as it gets: each span ends with its first commit.
fn task(clients: usize) -> Task {
    Task {
        connections: clients,
        puts: 1,
        spin: Duration::ZERO,
        job: Job::Replicate,
        measured: Duration::ZERO,
        warm_up: Duration::ZERO,
        beside: None,
    }
}

/// Commands until logs are cut off, and some behind them.
#[track_caller]
fn check(trio: &mut impl Trio) {
    let mut load = Load::default();
    let mut now = Duration::ZERO;
    for batch in [1, 64].into_iter().cycle().take(3 * KEPT / 64) {
        for _ in 0..batch {
            trio.propose(load.draw()).expect("node 1 leads");
        }
        now += Duration::from_millis(7);
        trio.turn(now).expect("messages are taken");
        assert_eq!(trio.applied(LEADER), load.drawn, "a turn commits what was proposed");
    }
    assert!(load.drawn.count > KEPT as u64);
    settle(&load, now, trio).expect("messages are taken");
    load.verify([0, 1, 2].map(|node| trio.applied(node)))
        .expect("all applied the same");
}

/// Turned by hand, and driven for one client and for many.
fn check_driven<T: Trio>(nodes: impl Fn() -> io::Result<T>) {
    check(&mut nodes().expect("they elect"));
    for clients in [1, 64] {
        let found = drive(&task(clients), &mut nodes().expect("they elect")).expect("they commit");
        assert_eq!(found.count, clients as u64);
    }
}

#[test]
fn krafts_nodes_apply_what_was_proposed() {
    check_driven(kraft::Nodes::new);
}

#[cfg(feature = "rivals")]
#[test]
fn raft_rs_nodes_apply_what_was_proposed() {
    check_driven(raft_rs::Nodes::new);
}

#[cfg(feature = "rivals")]
#[test]
fn openrafts_nodes_apply_what_was_proposed() {
    for clients in [1, 64] {
        // One is enough for a span to end.
        let found = openraft::run(&task(clients)).expect("they commit");
        assert!(found.count >= 1, "{found:?}");
    }
}

/// Judges log and state machine of openraft's nodes by its own suite.
#[cfg(feature = "rivals")]
#[test]
fn what_openraft_is_given_passes_its_suite() {
    openraft::judge().expect("it passes");
}

/// Nodes that lose, double or bend what they are given.
#[derive(Debug, Default)]
struct Liars {
    proposed: Vec<Vec<u8>>,
    applied: [Ledger; NODES],
    /// Whether the third node swaps a command with the one before it, and which command it does not get.
    swaps: bool,
    loses: Option<usize>,
    /// How many commands they commit before they commit none.
    most: Option<usize>,
}

impl Trio for Liars {
    fn propose(&mut self, command: Vec<u8>) -> io::Result<()> {
        self.proposed.push(command);
        Ok(())
    }

    fn turn(&mut self, _: Duration) -> io::Result<()> {
        let first = self.applied[LEADER].count as usize;
        let end = self
            .most
            .map_or(self.proposed.len(), |most| most.min(self.proposed.len()));
        for (at, command) in (first..end).zip(&self.proposed[first..end]) {
            self.applied[0].apply(command);
            self.applied[1].apply(command);
            let other = match at % 2 {
                0 if self.swaps => self.proposed.get(at + 1).unwrap_or(command),
                1 if self.swaps => &self.proposed[at - 1],
                _ => command,
            };
            if self.loses != Some(at) {
                self.applied[2].apply(other);
            }
        }
        Ok(())
    }

    fn applied(&self, node: usize) -> Ledger {
        self.applied[node]
    }
}

#[test]
fn what_a_node_applied_otherwise_is_noticed() {
    let said = |mut liars: Liars| {
        let outcome = drive(&task(4), &mut liars);
        outcome.map(|found| found.count).map_err(|error| error.to_string())
    };
    assert_eq!(said(Liars::default()), Ok(4));
    let swaps = Liars {
        swaps: true,
        ..Liars::default()
    };
    assert_eq!(
        said(swaps),
        Err("node 3 applied 8 commands, not as they were proposed".into())
    );
    let loses = Liars {
        loses: Some(2),
        ..Liars::default()
    };
    assert_eq!(said(loses), Err("node 3 applied 7 commands of 8".into()));
}

#[test]
fn who_commits_nothing_any_more_has_stalled() {
    for most in [0, 3, 4] {
        let mut liars = Liars {
            most: Some(most),
            ..Liars::default()
        };
        let error = drive_within(STEP_MAX, &task(4), &mut liars).expect_err("it commits no more");
        assert_eq!(error.to_string(), "nothing was committed for 0.01 s", "{most}");
    }
}

#[test]
fn a_pause_of_the_process_is_no_time_for_cores() {
    let mut clock = Clock::start();
    clock.read = Instant::now()
        .checked_sub(Duration::from_secs(60))
        .expect("a minute ago");
    assert_eq!(clock.read(), STEP_MAX);
}

#[test]
fn commands_differ_and_are_as_long_as_said() {
    let mut load = Load::default();
    let all: Vec<Vec<u8>> = (0..100).map(|_| load.draw()).collect();
    for (at, command) in all.iter().enumerate() {
        assert_eq!(command.len(), COMMAND_BYTES);
        assert!(!all[..at].contains(command), "{at}");
    }
    assert_eq!(load.drawn.count, 100);
}
