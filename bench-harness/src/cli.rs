//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::job::Job;

/// Measures event loops against each other.
#[derive(Debug, Parser)]
#[command(name = "kraft-bench", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) what: What,
}

#[derive(Debug, Subcommand)]
pub(crate) enum What {
    /// Measure, on a machine that is otherwise idle
    Run(Box<Run>),
    /// Say what changed between two runs; the exit code is 1 if something became worse
    Compare(Compare),
    /// Make a page of a run, DIR/report.html, or print it
    Report(Report),
    /// See whether the method finds what is there and nothing else, on this machine
    Honesty(Honesty),
    /// Print engines and workloads
    List,
    /// Serve one engine; what `run` starts
    #[command(hide = true)]
    Serve(Serve),
}

/// A workload, by the name that the field has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// One connection, one message on its way
    PingPong,
    /// Closed loop: a message for each that comes back
    Echo,
    /// Open loop: messages at a fixed rate, latency from when each was due
    Open,
    /// Answers of sixteen frames, put one by one or as one
    Frames,
    /// Small requests, large replies of memory that all share
    Pump,
    /// What one connection says goes to all others, as to replicas
    FanOut,
    /// Connect, one message there and back, close
    MultiAccept,
    /// Connections that do nothing: their memory, their CPU time, and what they cost the few that do something
    Idle,
    /// Clients that send and do not read, beside others: memory stays bounded, others go on
    SlowReader,
    /// Another thread wakes the loop: one wake at a time, and as many as it can
    Wake,
    /// Three nodes of a Raft core in one process, without network and disk: commands one by one, and 64 on their way
    Replicate,
    /// Three nodes: puts by one client, by 64, and by 64 at a fixed rate
    Put,
    /// Three nodes: linearizable gets, likewise
    Get,
    /// Three nodes: puts and gets in turn, likewise
    Mixed,
    /// Three nodes: the leader is killed; until the first write, and nothing acknowledged is lost
    KillLeader,
    /// Timers by the hundred thousand: started and stopped, and a million of which half expire
    MillionTimers,
}

/// What is measured, and how.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Run {
    /// What one wants to know first, in less than a minute
    #[arg(long, conflicts_with = "full")]
    pub(crate) quick: bool,
    /// Every workload but those of three nodes, in less than twenty minutes; ping-pong as echo over one connection
    #[arg(long)]
    pub(crate) full: bool,
    /// Workloads, separated by commas; without it echo, and what --full has
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST")]
    pub(crate) workloads: Option<Vec<Kind>>,
    /// Engines, separated by commas; all that are built without it. NAME#LABEL enters an engine a second time
    #[arg(long, value_delimiter = ',', value_name = "LIST", value_parser = engine)]
    pub(crate) engines: Vec<String>,
    /// Bytes of a message [default: 64,1024,16384,65536]
    #[arg(long, value_delimiter = ',', value_name = "LIST", value_parser = count::<1, 1_048_576>)]
    pub(crate) sizes: Option<Vec<usize>>,
    /// Connections [default: 1,64,1000,10000]
    #[arg(long, value_delimiter = ',', value_name = "LIST", value_parser = count::<1, 25_000>)]
    pub(crate) conns: Option<Vec<usize>>,
    /// Messages on their way on each connection of the closed loop [default: 1,16; with --full some; of fan-out 16]
    #[arg(long, value_delimiter = ',', value_name = "LIST", value_parser = count::<1, 1_024>)]
    pub(crate) depth: Option<Vec<usize>>,
    /// Messages a second of the open loop [default: 100000]
    #[arg(long, value_delimiter = ',', value_name = "LIST", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) rate: Option<Vec<u64>>,
    /// Connections of the idle workload [default: 10000]
    #[arg(long, value_name = "COUNT", value_parser = count::<1, 25_000>)]
    pub(crate) idle_conns: Option<usize>,
    /// Operations a second of the open loops over a cluster [default: 5000]
    #[arg(long, value_delimiter = ',', value_name = "LIST", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) cluster_rate: Option<Vec<u64>>,
    /// Where nodes of a cluster keep their data: a disk, or memory; the system's folder for temporary files without it
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Rounds; below ten there are no intervals and no verdicts [default: 12; 14 with --quick]
    #[arg(long, value_name = "COUNT", value_parser = count::<1, 1_000>)]
    pub(crate) rounds: Option<usize>,
    /// Seconds that a round measures, behind a quarter as much of warm-up [default: 1; with --quick and --full as many as there is time for]
    #[arg(long, value_parser = seconds)]
    pub(crate) seconds: Option<Duration>,
    /// Only cells whose name contains this: `echo 64Bx1000`
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// The number that the order of contenders follows from; drawn and printed without it
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Seconds without an answer after which an engine is given up [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) patience: Option<Duration>,
    /// How the load waits for answers; spinning unless both share a core
    #[arg(long, value_enum)]
    pub(crate) generator: Option<Waiting>,
    /// How results are printed
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// As `--output json`
    #[arg(long, conflicts_with = "output")]
    pub(crate) json: bool,
    /// Make the run's page, too, and show it
    #[arg(long, requires = "out")]
    pub(crate) open: bool,
    /// Also keep every round and every latency in this folder, for `compare` and `report`
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Whether it says nothing while it runs: one of many
    #[arg(skip)]
    pub(crate) is_silent: bool,
}

/// How the load waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Waiting {
    /// Looks again at once: the server never pays for waking it
    Spin,
    /// Sleeps until there is something
    Block,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// One JSON document, with every round
    Json,
    /// A line for each round
    Csv,
    /// Tables for a document
    Markdown,
}

/// Two runs.
#[derive(Clone, Debug, Args)]
pub(crate) struct Compare {
    /// The folder of the earlier run, or its results.json
    pub(crate) old: PathBuf,
    /// Of the later one
    pub(crate) new: PathBuf,
    /// Per cent that a figure has to change by: less is what two runs of one program differ by
    #[arg(long, value_name = "PER_CENT", default_value = "3", value_parser = percent)]
    pub(crate) margin: f64,
}

/// A run to be shown.
#[derive(Clone, Debug, Args)]
pub(crate) struct Report {
    /// The folder that `run --out` left
    pub(crate) dir: PathBuf,
    /// Instead: print it, as `run` would have
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
    /// Instead: say what of the run is missing in this page, as a browser has it
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) check: Option<PathBuf>,
}

/// How often, and with whom.
#[derive(Clone, Debug, Args)]
pub(crate) struct Honesty {
    /// How often both questions are asked
    #[arg(long, default_value = "20", value_parser = count::<1, 1_000>)]
    pub(crate) repeats: usize,
    /// The engine that is entered twice; the first that is built without it
    #[arg(long, value_parser = engine)]
    pub(crate) engine: Option<String>,
    /// Rounds of a run
    #[arg(long, default_value = "12", value_parser = count::<10, 1_000>)]
    pub(crate) rounds: usize,
    /// Seconds that a round measures
    #[arg(long, default_value = "0.2", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// The seed of the first run; each further one has the next
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

/// What a server process is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct Serve {
    #[arg(long, value_parser = engine)]
    pub(crate) engine: String,
    /// Where it runs; anywhere without it
    #[arg(long)]
    pub(crate) core: Option<usize>,
    #[arg(long)]
    pub(crate) connections: usize,
    #[arg(long, default_value_t = 1)]
    pub(crate) puts: usize,
    #[arg(long, value_enum, default_value_t = Job::Echo)]
    pub(crate) job: Job,
    /// End when standard input does: it is a pipe, and our parent has the other end
    #[arg(long)]
    pub(crate) leash: bool,
    /// Count allocations: a job with connections says at each byte of standard input how many there were, and ends with it
    #[arg(long)]
    pub(crate) count: bool,
    /// The core of a second thread, if the job has one
    #[arg(long)]
    pub(crate) beside: Option<usize>,
    /// How long a job without connections measures itself
    #[arg(long, value_parser = seconds, default_value = "1")]
    pub(crate) seconds: Duration,
}

/// The name of an engine, or what comes nearest.
fn engine(text: &str) -> Result<String, String> {
    if crate::engines::find(text).is_some() {
        return Ok(text.to_owned());
    }
    let names = crate::engines::all().filter(|engine| engine.family != crate::engines::Family::Faulty);
    let near = names.map(|engine| engine.name).filter(|name| is_near(text, name));
    let near: Vec<_> = near.collect();
    Err(if near.is_empty() {
        "there is no such engine; `kraft-bench list` has them all".into()
    } else {
        format!("there is no such engine; did you mean {}?", near.join(" or "))
    })
}

/// One is part of the other, or they differ in two letters at most; in one, if there are but three.
fn is_near(text: &str, name: &str) -> bool {
    let differences = {
        let mut row: Vec<usize> = (0..=name.len()).collect();
        for (i, a) in text.bytes().enumerate() {
            let mut diagonal = row[0];
            row[0] = i + 1;
            for (j, b) in name.bytes().enumerate() {
                let replaced = diagonal + usize::from(a != b);
                diagonal = row[j + 1];
                row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
            }
        }
        row[name.len()]
    };
    (text.len() >= 3 && name.contains(text)) || differences <= 2.min(name.len() / 2)
}

fn count<const LOW: usize, const HIGH: usize>(text: &str) -> Result<usize, String> {
    let number = text.parse().map_err(|error| format!("{error}"))?;
    if (LOW..=HIGH).contains(&number) {
        Ok(number)
    } else {
        Err(format!("must be {LOW} to {HIGH}"))
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.0..=100.0).contains(&number) {
        Ok(number)
    } else {
        Err("must be 0 to 100".into())
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.01..=3600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("must be 0.01 to 3600".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_engine_is_told_its_neighbours() {
        assert_eq!(engine("epoll#again").as_deref(), Ok("epoll#again"));
        assert!(engine("epol").is_err_and(|error| error.contains("epoll")));
        assert!(engine("raw-iouring").is_err_and(|error| error.contains("raw-io-uring")));
        assert!(engine("asio").is_err_and(|error| error.contains("kraft-bench list")));
    }

    #[test]
    fn an_unknown_workload_is_told_its_neighbours() {
        let error = Cli::try_parse_from(["kraft-bench", "run", "--workloads", "ehco"]).expect_err("there is none");
        assert!(error.to_string().contains("'echo'"), "{error}");
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let parse = |list: &str| Cli::try_parse_from(["kraft-bench", "run", "--rounds", list]);
        assert!(parse("11").is_ok());
        assert!(parse("0").is_err_and(|error| error.to_string().contains("must be 1 to 1000")));
        assert!(seconds("0").is_err() && seconds("NaN").is_err());
    }

    #[test]
    fn quick_and_full_are_one_or_the_other() {
        let error = Cli::try_parse_from(["kraft-bench", "run", "--quick", "--full"]).expect_err("both make no sense");
        assert!(error.to_string().contains("cannot be used with"), "{error}");
    }
}
