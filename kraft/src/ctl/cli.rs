//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use kraft_adapters::Choice;

use crate::client::{Commit, Consistency};
use kraft_core::host_port::HostPort;

/// Reads and writes a Kraft cluster.
#[derive(Debug, Parser)]
#[command(name = "kraftctl", version, after_help = AFTER_HELP)]
pub(super) struct Cli {
    /// Client addresses of the nodes, any of them: HOST:PORT,HOST:PORT,… [env: KRAFT_NODES]
    #[arg(long, global = true, help_heading = COMMON, value_name = "LIST")]
    pub(super) nodes: Option<String>,
    /// How results are printed
    #[arg(short, long, global = true, help_heading = COMMON, value_enum, default_value_t = Format::Table)]
    pub(super) output: Format,
    /// The event loop: auto, or a name, or names in the order in which they are tried; one name is strict. Without it the
    /// first that any thread may turn: a call at a time gains nothing by io_uring. [env: KRAFT_BACKEND]
    #[arg(long, global = true, help_heading = COMMON, value_name = "LIST")]
    pub(super) backend: Option<Choice>,
    /// The wire format: binary, protobuf, msgpack or json; the nodes take each that they are built with, whatever they
    /// speak among themselves [env: KRAFT_PROTOCOL]
    #[arg(long, global = true, help_heading = COMMON, value_name = "NAME")]
    pub(super) protocol: Option<kraft_protocols::Format>,
    /// The authorities of the nodes, PEM: connections are encrypted, and nodes that no authority among them vouches for are
    /// not talked to [env: KRAFT_TLS_CA]
    #[arg(long, global = true, help_heading = COMMON, value_name = "FILE")]
    pub(super) tls_ca: Option<PathBuf>,
    /// The certificate to show to nodes that ask for one, PEM [env: KRAFT_TLS_CERT]
    #[arg(long, global = true, help_heading = COMMON, value_name = "FILE")]
    pub(super) tls_cert: Option<PathBuf>,
    /// Its key, PEM, readable by its owner alone [env: KRAFT_TLS_KEY]
    #[arg(long, global = true, help_heading = COMMON, value_name = "FILE")]
    pub(super) tls_key: Option<PathBuf>,
    /// How long a command may take, retries included
    #[arg(long, global = true, help_heading = COMMON, value_name = "SPAN", default_value = "5s", value_parser = span)]
    pub(super) timeout: Duration,
    #[command(subcommand)]
    pub(super) what: What,
}

/// What each command takes stands apart from what it takes alone.
const COMMON: &str = "Options of every command";

const AFTER_HELP: &str = "\
Exit status: 0 done, 1 failed, 2 usage, 3 not found or compare failed, 4 refused (nothing was changed), 5 unknown (it \
may or may not have happened), 74 a snapshot is damaged, 130 a benchmark was interrupted.";

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people: aligned columns, control characters escaped
    Table,
    /// For programs: one JSON document
    Json,
    /// For shells: tab-separated lines without a heading; get prints the bytes of the value as they are
    Plain,
}

#[derive(Debug, Subcommand)]
pub(super) enum What {
    /// Print the value of a key
    Get {
        /// The key
        key: String,
        /// What the answer must hold: linearizable; lease, the same as long as clocks keep their bound, without a round
        /// of questions where the leader has a lease; stale, what any node has applied; stale=AGE, unless it is older
        #[arg(long, value_name = "WHAT", value_parser = consistency)]
        consistency: Option<Consistency>,
    },
    /// Set a key
    Put {
        /// The key
        key: String,
        /// Its new value; - reads standard input
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// When it is answered: strong, when it is on a majority's disks and applied; leader, when it is on the leader's
        /// disk; async, when the leader has it. What is answered earlier may be lost after that
        #[arg(long, value_name = "WHEN", value_parser = commit)]
        commit: Option<Commit>,
    },
    /// Remove a key
    Del {
        /// The key
        key: String,
    },
    /// Set a key if it has the expected value
    #[command(group = ArgGroup::new("old").args(["expect", "absent"]).required(true))]
    Cas {
        /// The key
        key: String,
        /// The value that it must have
        #[arg(long, value_name = "OLD", allow_hyphen_values = true)]
        expect: Option<String>,
        /// The key must not exist
        #[arg(long)]
        absent: bool,
        /// Its new value; - reads standard input
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Add to a key whose value is a number, and print the sum; an absent key counts as 0
    Incr {
        /// The key
        key: String,
        /// How much; may be negative
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        by: i64,
    },
    /// Print keys and values, keys ascending
    Scan {
        /// How the keys begin; all without it
        #[arg(default_value = "")]
        prefix: String,
        /// At most so many
        #[arg(long, value_name = "COUNT")]
        limit: Option<u32>,
        /// Only keys above this one
        #[arg(long, value_name = "KEY", default_value = "")]
        after: String,
    },
    /// Print what every node says of itself; fails if one says nothing
    Status,
    /// See and change who the members are
    Member {
        /// How
        #[command(subcommand)]
        what: Member,
    },
    /// Decide who leads
    Leader {
        /// How
        #[command(subcommand)]
        what: Leader,
    },
    /// Keep the state of the cluster in a file, and look at such files
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Measure the cluster with one thread of load
    Bench(Bench),
}

/// What is done about members.
#[derive(Debug, Subcommand)]
pub(super) enum Member {
    /// Print who they are, where their peers reach them and how far they have caught up
    List,
    /// Add a node that kraftd init --join made and that runs. It learns first, and votes when it has caught up
    Add {
        /// Its id, never used before in this cluster
        #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
        node: u64,
        /// Where its peers reach it, as its --listen says: HOST:PORT
        #[arg(value_name = "ADDRESS", value_parser = address)]
        address: String,
        /// Leave it a learner, which neither votes nor counts
        #[arg(long)]
        learner: bool,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Make a voter of a learner that has caught up
    Promote {
        /// The node's id
        #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
        node: u64,
    },
    /// Remove a node; it stops. Its id is not used again
    Remove {
        /// The node's id
        #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
        node: u64,
    },
    /// Add a node in the place of another, which goes when the new one has caught up
    Replace {
        /// Who goes, up or down
        #[arg(value_name = "OLD", value_parser = clap::value_parser!(u64).range(1..))]
        node: u64,
        /// Who comes: an id never used before in this cluster
        #[arg(value_name = "NEW", value_parser = clap::value_parser!(u64).range(1..))]
        by: u64,
        /// Where its peers reach it, as its --listen says: HOST:PORT
        #[arg(value_name = "ADDRESS", value_parser = address)]
        address: String,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Tell where a member is reached from now on
    Move {
        /// The node's id
        #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
        node: u64,
        /// Where its peers reach it from now on: HOST:PORT
        #[arg(value_name = "ADDRESS", value_parser = address)]
        address: String,
    },
}

/// Whether the command waits until a new node has caught up.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Waiting {
    /// Wait until it has caught up, so long at the most, and show how far it is; on a terminal that is the default
    #[arg(long, value_name = "SPAN", num_args = 0..=1, default_missing_value = "1h", value_parser = span)]
    pub(super) wait: Option<Duration>,
    /// Do not wait on a terminal either
    #[arg(long, conflicts_with = "wait")]
    pub(super) no_wait: bool,
}

/// What is done about leadership.
#[derive(Debug, Subcommand)]
pub(super) enum Leader {
    /// Hand it over, and print who leads then. Writes that come meanwhile wait, for an election timeout at most
    Transfer {
        /// To which node; without it to the voter that has most of the log
        #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
        to: Option<u64>,
    },
}

/// What is done about snapshots.
#[derive(Clone, Debug, Subcommand)]
#[command(after_help = RESTORE_HELP)]
pub(super) enum Snapshot {
    /// Have a node take one, and fetch it into a file; --timeout is how long a piece of it may take
    Save {
        /// Where to; written as FILE.partial, and renamed when it is whole and on the disk
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Replace FILE if it is there
        #[arg(long)]
        force: bool,
        /// Whom to fetch it from
        #[arg(long, value_enum, default_value_t = Source::Leader)]
        from: Source,
    },
    /// Check all of a file, and print what is in it; talks to no node
    Inspect {
        /// A snapshot, also one in a node's data folder
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

const RESTORE_HELP: &str = "\
Restore: a new cluster begins with FILE if each of its nodes is made with kraftd init --from-snapshot FILE.";

/// Whom to fetch a snapshot from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Source {
    /// The leader: all that it answered before is in it
    Leader,
    /// A follower if one answers, to spare the leader the work: what it has not applied yet is missing
    Follower,
}

/// What the benchmark does.
#[derive(Clone, Debug, Args)]
pub(super) struct Bench {
    /// Connections, all to the leader
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) clients: u32,
    /// Requests outstanding on each connection
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(super) pipeline: u32,
    /// Bytes of a value
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    pub(super) value_size: u32,
    /// Different keys, drawn at random
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(super) keys: u32,
    /// How long to measure
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub(super) seconds: f64,
    /// Share of linearizable gets among the operations, 0 to 1
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub(super) read_share: f64,
    /// The operation
    #[arg(long, value_enum, default_value_t = Op::Put)]
    pub(super) op: Op,
    /// Open a session on each connection, and number its commands
    #[arg(long)]
    pub(super) sessions: bool,
    /// Processes whose CPU time is counted as the servers'; found by their ports if they run on this host
    #[arg(long, value_name = "PID,…", value_delimiter = ',')]
    pub(super) server_pids: Vec<u32>,
    /// Seeds keys and values, so that a run can be repeated
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
}

/// An operation of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Op {
    /// Set a key
    Put,
    /// Read a key
    Get,
    /// Remove a key
    Del,
    /// Add 1 to a key
    Incr,
    /// Set a key if it is absent: mostly a comparison that fails
    Cas,
}

fn consistency(text: &str) -> Result<Consistency, String> {
    match text.split_once('=') {
        None if text == "linearizable" => Ok(Consistency::Linearizable),
        None if text == "lease" => Ok(Consistency::Lease),
        None if text == "stale" => Ok(Consistency::Stale { age_max_ms: u64::MAX }),
        Some(("stale", age)) => {
            let millis = u64::try_from(span(age)?.as_millis()).map_err(|error| error.to_string())?;
            Ok(Consistency::Stale { age_max_ms: millis })
        }
        _ => Err("it is linearizable, lease, stale or stale=AGE, such as stale=500ms".to_owned()),
    }
}

fn commit(text: &str) -> Result<Commit, String> {
    match text {
        "strong" => Ok(Commit::Strong),
        "leader" => Ok(Commit::Leader),
        "async" => Ok(Commit::Async),
        _ => Err("it is strong, leader or async".to_owned()),
    }
}

/// Where a node is reached. The nodes take it as it is, and dial it for as long as the node is a member.
fn address(text: &str) -> Result<String, String> {
    let at = HostPort::parse(text).and_then(|at| HostPort::parse_dialled(&at.to_string()));
    Ok(at.map_err(|why| format!("it is {why}"))?.to_string())
}

fn span(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if span.is_zero() {
        return Err("it must be more than zero".into());
    }
    Ok(span)
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("not a number of seconds from 0.1 to 86400".into()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("not a number from 0 to 1".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn values_may_begin_with_a_hyphen() {
        let cli = Cli::try_parse_from(["kraftctl", "incr", "n", "-3"]).expect("a negative number");
        assert!(matches!(cli.what, What::Incr { by: -3, .. }));
        let cli = Cli::try_parse_from(["kraftctl", "put", "k", "-v"]).expect("a value");
        assert!(matches!(cli.what, What::Put { value, .. } if value == "-v"));
    }

    #[test]
    fn wrong_usage_is_refused() {
        for line in [
            "kraftctl",
            "kraftctl get",
            "kraftctl get k --consistency old",
            "kraftctl get k --consistency stale=0s",
            "kraftctl put k v --commit maybe",
            "kraftctl cas k v",
            "kraftctl cas k --absent --expect x v",
            "kraftctl bench --read-share 2",
            "kraftctl bench --clients 0",
            "kraftctl leader",
            "kraftctl leader transfer --to 0",
            "kraftctl member",
            "kraftctl member add 4",
            "kraftctl member add 0 h:1",
            "kraftctl member add 4 h:1 --wait 1s --no-wait",
            "kraftctl member replace 3 h:1",
            "kraftctl member add 4 h",
            "kraftctl member move 1 h:0",
            "kraftctl member move 1 h:99999",
            "kraftctl member move 1 http://h:1",
            "kraftctl member move 1 ::1:1",
            "kraftctl member replace 3 4 :1",
            "kraftctl --timeout 0s status",
            "kraftctl -o xml status",
            "kraftctl --backend epol status",
            "kraftctl snapshot",
            "kraftctl snapshot save",
            "kraftctl snapshot inspect a b",
            "kraftctl snapshot save f --from nobody",
            "kraftctl snapshot inspect f --force",
            "kraftctl snapshot restore f",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn addresses_are_names_and_numbers() {
        for address in ["h:1", "10.0.0.4:4001", "node4.example:65535", "[::1]:4001"] {
            let cli = Cli::try_parse_from(["kraftctl", "member", "move", "1", address]);
            assert!(cli.is_ok(), "{address}");
        }
        let long = format!("{}:1", "a".repeat(255));
        for (address, why) in [
            (&long[..], "it is not of the form HOST:PORT, as"),
            ("a/b:1", "it is not of the form HOST:PORT, as"),
            ("h:0", "it is at port 0, where nobody is reached"),
        ] {
            let error = Cli::try_parse_from(["kraftctl", "member", "add", "4", address]).expect_err(address);
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn a_command_shows_what_it_alone_takes_first() {
        let mut command = Cli::command();
        command.build();
        let cas = command.find_subcommand_mut("cas").expect("it is there");
        let help = cas.render_help().to_string();
        let (own, common) = help.split_once(COMMON).expect("two parts");
        for flag in ["--expect", "--absent", "--help"] {
            assert!(own.contains(flag) && !common.contains(&format!("  {flag} ")), "{help}");
        }
        for flag in ["--nodes", "--output", "--timeout", "--tls-key"] {
            assert!(!own.contains(flag) && common.contains(flag), "{help}");
        }
    }

    #[test]
    fn cas_names_both_ways_to_say_what_is_expected() {
        let error = Cli::try_parse_from(["kraftctl", "cas", "k", "v"]).expect_err("neither is given");
        let text = error.to_string();
        assert!(text.contains("--expect <OLD>|--absent"), "{text}");
    }
}
