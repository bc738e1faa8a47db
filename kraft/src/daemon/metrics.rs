//! A node's numbers in Prometheus' text format, version 0.0.4.
//!
//! Names end in their unit, counters in `_total`. No label has a value that a peer or client chose: each new value
//! would be a new series for the monitor to keep.

use std::fmt::Write as _;

use kraft_core::adapter::Stats;
use kraft_core::message::{NodeState, Standing, StatusReply};
use kraft_core::node::{Counters, View};

use super::http::{Content, Page};

/// Entries that a node may have to apply and still be ready: about a turn's worth under load.
const READY_LAG_MAX: u64 = 1024;

/// What a monitor is told, taken on the node's loop at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// What the node knows.
    pub view: &'a View<'a>,
    /// The wire format's name.
    pub protocol: &'a str,
    /// How often what the operator should hear of happened, by kind.
    pub notices: &'a [(&'static str, u64)],
    /// Lines that were kept out of the log.
    pub log_lines_suppressed: u64,
    /// Until when the node's certificate is believed, in seconds since 1970; `None` without TLS.
    pub certificate_expiry: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Counter,
    Gauge,
}

use Type::{Counter, Gauge};

/// Name, type, meaning, value.
type Row<T> = (&'static str, Type, &'static str, fn(&T) -> u64);

const STATS: &[Row<Stats>] = &[
    (
        "kraft_connections_accepted_total",
        Counter,
        "Connections accepted.",
        |stats| stats.accepted,
    ),
    (
        "kraft_connections_turned_away_total",
        Counter,
        "Connections turned away at a limit.",
        |stats| stats.turned_away,
    ),
    ("kraft_connects_total", Counter, "Connects begun.", |stats| {
        stats.initiated
    }),
    (
        "kraft_connects_failed_total",
        Counter,
        "Connects that failed.",
        |stats| stats.failed,
    ),
    (
        "kraft_connections_closed_total",
        Counter,
        "Connections closed, for whatever reason.",
        |stats| stats.closed,
    ),
    ("kraft_connections", Gauge, "Connections that live.", |stats| {
        stats.active
    }),
    ("kraft_received_bytes_total", Counter, "Bytes received.", |stats| {
        stats.bytes_in
    }),
    (
        "kraft_sent_bytes_total",
        Counter,
        "Bytes handed to the system for sending.",
        |stats| stats.bytes_out,
    ),
    ("kraft_timers", Gauge, "Timers that run.", |stats| stats.timers),
    (
        "kraft_syscalls_total",
        Counter,
        "System calls of the event loop, or completions.",
        |stats| stats.syscalls,
    ),
    (
        "kraft_buffer_shortages_total",
        Counter,
        "Times that a receive buffer was short.",
        |stats| stats.buffer_shortages,
    ),
];

const COUNTERS: &[Row<Counters>] = &[
    ("kraft_commands_total", Counter, "Commands taken.", |counters| {
        counters.commands
    }),
    ("kraft_reads_total", Counter, "Reads taken.", |counters| counters.reads),
    ("kraft_refused_total", Counter, "Requests refused.", |counters| {
        counters.refused
    }),
    (
        "kraft_unknown_total",
        Counter,
        "Requests whose outcome is unknown.",
        |counters| counters.unknown,
    ),
    ("kraft_applied_entries_total", Counter, "Entries applied.", |counters| {
        counters.applied
    }),
    (
        "kraft_snapshots_taken_total",
        Counter,
        "Snapshots taken of the own state.",
        |counters| counters.snapshots,
    ),
    (
        "kraft_snapshots_restored_total",
        Counter,
        "Snapshots of the leader's that took the place of the own state.",
        |counters| counters.restores,
    ),
    ("kraft_syncs_total", Counter, "Syncs to disk.", |counters| {
        counters.syncs
    }),
    (
        "kraft_garbage_total",
        Counter,
        "Connections closed for bytes that are no message.",
        |counters| counters.garbage,
    ),
    (
        "kraft_hellos_refused_total",
        Counter,
        "Connections turned away at hello.",
        |counters| counters.turned_away,
    ),
    (
        "kraft_violations_total",
        Counter,
        "Messages that contradicted what was agreed on.",
        |counters| counters.violations,
    ),
    (
        "kraft_slow_readers_total",
        Counter,
        "Clients dropped since they did not read.",
        |counters| counters.slow_readers,
    ),
    (
        "kraft_elections_won_total",
        Counter,
        "Times that this node became leader.",
        |counters| counters.elections_won,
    ),
];

/// As [`Row`]; a function over every lifetime of the reply.
type StatusRow = (&'static str, Type, &'static str, fn(&StatusReply<'_>) -> u64);

const STATUS: &[StatusRow] = &[
    (
        "kraft_raft_leader_id",
        Gauge,
        "The node that leads, 0 if unknown.",
        |status| status.leader.0,
    ),
    ("kraft_raft_commit_index", Gauge, "Committed up to here.", |status| {
        status.commit.0
    }),
    ("kraft_raft_applied_index", Gauge, "Applied up to here.", |status| {
        status.applied.0
    }),
    (
        "kraft_raft_first_index",
        Gauge,
        "The first index of the log.",
        |status| status.first.0,
    ),
    (
        "kraft_raft_snapshot_index",
        Gauge,
        "What the newest snapshot holds, 0 if there is none.",
        |status| status.snapshot.0,
    ),
    ("kraft_raft_last_index", Gauge, "The last index of the log.", |status| {
        status.last.0
    }),
    (
        "kraft_raft_durable_index",
        Gauge,
        "On this node's disk up to here.",
        |status| status.durable.0,
    ),
    (
        "kraft_raft_recovering",
        Gauge,
        "1 while this node does not vote, since its log was damaged and it has not made up for that.",
        |status| {
            let recovers = |standing| standing == Standing::Recovering;
            u64::from(status.members.iter().any(|member| recovers(member.standing)))
        },
    ),
];

const STATES: &[(&str, NodeState)] = &[
    ("follower", NodeState::Follower),
    ("pre_candidate", NodeState::PreCandidate),
    ("candidate", NodeState::Candidate),
    ("leader", NodeState::Leader),
];

impl Sample<'_> {
    /// What `page` says.
    #[must_use]
    pub fn page(&self, page: Page) -> Content {
        match page {
            Page::Metrics => Content {
                is_good: true,
                text: self.metrics(),
            },
            // That the loop came to this answer is the answer.
            Page::Live => Content {
                is_good: true,
                text: "live\n".to_owned(),
            },
            Page::Ready => self.ready(),
        }
    }

    fn ready(&self) -> Content {
        let status = self.view.status;
        let lag = status.commit.0.saturating_sub(status.applied.0);
        let why_not = if !status.leader.is_some() {
            Some("no leader is known".to_owned())
        } else if status.commit.0 == 0 {
            Some("it is not known what is committed".to_owned())
        } else if lag > READY_LAG_MAX {
            Some(format!("{lag} committed entries are not applied"))
        } else {
            None
        };
        Content {
            is_good: why_not.is_none(),
            text: why_not.map_or_else(|| "ready\n".to_owned(), |why| format!("not ready: {why}\n")),
        }
    }

    fn metrics(&self) -> String {
        let mut text = String::with_capacity(4096);
        head(
            &mut text,
            "kraft_build_info",
            Gauge,
            "Always 1; the labels say what runs.",
        );
        let status = self.view.status;
        let labels = [
            ("version", status.version),
            ("backend", status.backend),
            ("protocol", self.protocol),
        ];
        sample(&mut text, "kraft_build_info", &labels, 1);
        head(&mut text, "kraft_uptime_seconds", Gauge, "Time since the node started.");
        sample(&mut text, "kraft_uptime_seconds", &[], seconds(status.uptime_ms));

        let (stats, counters) = (self.view.stats, self.view.counters);
        rows(
            &mut text,
            STATS
                .iter()
                .map(|(name, kind, help, of)| (*name, *kind, *help, of(stats))),
        );
        rows(
            &mut text,
            COUNTERS
                .iter()
                .map(|(name, kind, help, of)| (*name, *kind, *help, of(counters))),
        );
        head(&mut text, "kraft_raft_term", Gauge, "The current term.");
        sample(&mut text, "kraft_raft_term", &[], self.view.term);
        rows(
            &mut text,
            STATUS
                .iter()
                .map(|(name, kind, help, of)| (*name, *kind, *help, of(status))),
        );
        head(
            &mut text,
            "kraft_raft_state",
            Gauge,
            "1 at what the node is in its term.",
        );
        for (name, state) in STATES {
            sample(
                &mut text,
                "kraft_raft_state",
                &[("state", name)],
                u8::from(*state == status.state),
            );
        }
        self.members(&mut text);

        head(
            &mut text,
            "kraft_notices_total",
            Counter,
            "Things that the log tells of, by kind, also those left out of it.",
        );
        for (kind, count) in self.notices {
            sample(&mut text, "kraft_notices_total", &[("kind", kind)], count);
        }
        head(
            &mut text,
            "kraft_log_lines_suppressed_total",
            Counter,
            "Lines left out of the log during floods.",
        );
        sample(
            &mut text,
            "kraft_log_lines_suppressed_total",
            &[],
            self.log_lines_suppressed,
        );
        if let Some(expiry) = self.certificate_expiry {
            let name = "kraft_tls_certificate_expiry_seconds";
            let meaning = "Until when the node's certificate is believed, since 1970; now or earlier if it is not.";
            head(&mut text, name, Gauge, meaning);
            sample(&mut text, name, &[], expiry);
        }
        text
    }

    /// Series for each member: there are as many as the operator configured.
    fn members(&self, text: &mut String) {
        let members = &self.view.status.members;
        let learns = |standing| standing == Standing::Learner;
        let learners = members.iter().filter(|member| learns(member.standing)).count();
        let counts = [
            ("kraft_members", "Members of the configuration in force.", members.len()),
            ("kraft_voters", "Those of them that vote.", members.len() - learners),
            (
                "kraft_learners",
                "Those of them that are sent the log, and do not vote.",
                learners,
            ),
        ];
        for (name, meaning, count) in counts {
            head(text, name, Gauge, meaning);
            sample(text, name, &[], count);
        }
        head(
            text,
            "kraft_member_matched_index",
            Gauge,
            "The member's log matches up to here, 0 unless this node leads.",
        );
        for member in members {
            let id = member.node.to_string();
            sample(text, "kraft_member_matched_index", &[("member", &id)], member.matched);
        }
        head(
            text,
            "kraft_member_silence_seconds",
            Gauge,
            "Time since the member was heard, +Inf if never.",
        );
        for member in members {
            let id = member.node.to_string();
            let silence = if member.heard_ms == u64::MAX {
                "+Inf".to_owned()
            } else {
                seconds(member.heard_ms)
            };
            sample(text, "kraft_member_silence_seconds", &[("member", &id)], silence);
        }
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

fn rows<'a>(text: &mut String, rows: impl Iterator<Item = (&'a str, Type, &'a str, u64)>) {
    for (name, kind, help, value) in rows {
        head(text, name, kind, help);
        sample(text, name, &[], value);
    }
}

// A `String` takes whatever is written to it, so the results below say nothing.

fn head(text: &mut String, name: &str, kind: Type, help: &str) {
    let kind = match kind {
        Counter => "counter",
        Gauge => "gauge",
    };
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn sample(text: &mut String, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
    text.push_str(name);
    for (at, (label, of)) in labels.iter().enumerate() {
        let open = if at == 0 { '{' } else { ',' };
        let of = of.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(text, "{open}{label}=\"{of}\"");
    }
    let close = if labels.is_empty() { "" } else { "}" };
    let _ = writeln!(text, "{close} {value}");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kraft_core::id::{Index, NodeId, Term};
    use kraft_core::message::MemberStatus;

    use super::*;

    fn status(leader: u64, commit: u64, applied: u64) -> StatusReply<'static> {
        let member = |node, heard_ms| MemberStatus {
            node: NodeId(node),
            address: "a:1",
            standing: Standing::Voter,
            matched: Index(8),
            heard_ms,
            snapshot_percent: 0,
        };
        StatusReply {
            state: NodeState::Leader,
            leader: NodeId(leader),
            commit: Index(commit),
            applied: Index(applied),
            first: Index(1),
            last: Index(commit),
            durable: Index(commit),
            snapshot: Index::ZERO,
            membership: Index::ZERO,
            uptime_ms: 1500,
            version: "0.1.0",
            backend: "ep\"oll\\",
            members: vec![member(1, 0), member(2, 12), member(3, u64::MAX)],
        }
    }

    fn page(status: &StatusReply<'_>, page: Page) -> Content {
        let stats = Stats {
            accepted: 3,
            ..Stats::default()
        };
        let view = View {
            status,
            term: Term(7),
            stats: &stats,
            counters: &Counters::default(),
        };
        let sample = Sample {
            view: &view,
            protocol: "binary",
            notices: &[("garbage", 12)],
            log_lines_suppressed: 2,
            certificate_expiry: Some(1_800_000_000),
        };
        sample.page(page)
    }

    /// The grammar of the text format: HELP, TYPE, then samples of that family, each family once.
    #[test]
    fn metrics_are_prometheus_text() {
        let text = page(&status(1, 9, 9), Page::Metrics).text;
        let mut families = BTreeSet::new();
        let mut family = String::new();
        let mut samples = 0;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a help");
                assert!(help.ends_with('.'), "{line}");
                assert!(families.insert(name.to_owned()), "{name} comes twice");
                family = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                assert_eq!(name, family);
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            } else {
                let (series, value) = line.rsplit_once(' ').expect("a value");
                assert_eq!(series.split('{').next(), Some(&*family), "{line}");
                value.parse::<f64>().expect("a number");
                samples += 1;
            }
        }
        assert!(text.ends_with('\n') && samples > families.len());
        for line in [
            "kraft_connections_accepted_total 3",
            "kraft_raft_term 7",
            "kraft_raft_state{state=\"leader\"} 1",
            "kraft_raft_state{state=\"follower\"} 0",
            "kraft_notices_total{kind=\"garbage\"} 12",
            "kraft_log_lines_suppressed_total 2",
            "kraft_tls_certificate_expiry_seconds 1800000000",
            "kraft_uptime_seconds 1.500",
            "kraft_member_matched_index{member=\"2\"} 8",
            "kraft_member_silence_seconds{member=\"2\"} 0.012",
            "kraft_member_silence_seconds{member=\"3\"} +Inf",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
        assert!(text.contains(r#"backend="ep\"oll\\""#), "{text}");
    }

    #[test]
    fn every_counter_is_told_once() {
        // Each row shows a field of its own.
        let stats = Stats {
            accepted: 1,
            turned_away: 2,
            initiated: 3,
            failed: 4,
            closed: 5,
            active: 6,
            bytes_in: 7,
            bytes_out: 8,
            timers: 9,
            syscalls: 10,
            buffer_shortages: 11,
        };
        let shown: BTreeSet<_> = STATS.iter().map(|row| (row.3)(&stats)).collect();
        assert_eq!(shown, (1..=11).collect());
        let counters = Counters {
            commands: 1,
            reads: 2,
            refused: 3,
            unknown: 4,
            applied: 5,
            syncs: 6,
            garbage: 7,
            turned_away: 8,
            violations: 9,
            slow_readers: 10,
            elections_won: 11,
            snapshots: 12,
            restores: 13,
        };
        let shown: BTreeSet<_> = COUNTERS.iter().map(|row| (row.3)(&counters)).collect();
        assert_eq!(shown, (1..=13).collect());
    }

    #[test]
    fn ready_is_a_node_that_knows_a_leader_and_has_applied() {
        assert!(page(&status(2, 9, 9), Page::Ready).is_good);
        assert!(page(&status(2, 9 + READY_LAG_MAX, 9), Page::Ready).is_good);
        let says = |status: &StatusReply<'_>| {
            let content = page(status, Page::Ready);
            assert!(!content.is_good);
            content.text
        };
        assert_eq!(says(&status(0, 9, 9)), "not ready: no leader is known\n");
        assert_eq!(says(&status(2, 0, 0)), "not ready: it is not known what is committed\n");
        assert_eq!(
            says(&status(2, 2000, 9)),
            "not ready: 1991 committed entries are not applied\n"
        );
        assert!(page(&status(0, 0, 0), Page::Live).is_good);
    }
}
