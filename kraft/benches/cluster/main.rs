//! Three `kraftd` under `kraftctl bench`: `cargo bench -p kraft-raft --bench cluster`.
//!
//! Rounds of all rows are interleaved, so that a slow moment of the machine falls on all of them; the median of a
//! row's rounds is its figure. Run it on an idle machine. `-- --rounds 3 --seconds 2 --kills 10` makes it shorter;
//! `--backends epoll,io-uring` has a cluster on each of these event loops, in the same rounds; `--state-mib 1024` measures
//! instead what a state of that size costs: puts while snapshots of it are taken, and a new node that is sent one;
//! `--soak-minutes 60` measures instead what a cluster keeps on its disks and in memory under steady writes.

mod nodes;
mod skeleton;
mod soak;
mod states;

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kraft::client::{Client, Error};

use self::nodes::Cluster;

/// The rows that `kraftctl bench` measures: name, arguments, which figures.
const ROWS: [(&str, &[&str], &[&str]); 5] = [
    (
        "put 256 B, 1 client",
        &["--clients", "1"],
        &["ops_per_second", "p50_us", "p99_us"],
    ),
    (
        "put 256 B, 64 clients",
        &["--clients", "64"],
        &["ops_per_second", "p50_us", "p99_us", "server_cpu_us_per_op"],
    ),
    (
        "put 256 B, 256 clients",
        &["--clients", "256"],
        &["ops_per_second", "p50_us", "p99_us", "server_cpu_us_per_op"],
    ),
    (
        "get 256 B, 64 clients",
        &["--clients", "64", "--op", "get"],
        &["ops_per_second", "p50_us", "p99_us", "server_cpu_us_per_op"],
    ),
    (
        "get 256 B, 1 client",
        &["--clients", "1", "--op", "get"],
        &["ops_per_second", "p50_us", "p99_us"],
    ),
];

struct Options {
    backends: Vec<String>,
    rounds: usize,
    span: Duration,
    kills: usize,
    state_mib: usize,
    soak: Duration,
}

impl Options {
    fn parse() -> Result<Self, String> {
        let mut options = Self {
            backends: vec!["auto".to_owned()],
            rounds: 5,
            span: Duration::from_secs(3),
            kills: 30,
            state_mib: 0,
            soak: Duration::ZERO,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            if name == "--bench" {
                continue;
            }
            let text = arguments.next();
            if name == "--backends" {
                let list = text.ok_or_else(|| format!("{name}: names of event loops must follow"))?;
                options.backends = list.split(',').map(str::to_owned).collect();
                continue;
            }
            let value = text.and_then(|value| value.parse::<u32>().ok());
            let value = value.ok_or_else(|| format!("{name}: a whole number must follow"))?;
            match name.as_str() {
                "--rounds" => options.rounds = value as usize,
                "--seconds" => options.span = Duration::from_secs(value.into()),
                "--kills" => options.kills = value as usize,
                "--state-mib" => options.state_mib = value as usize,
                "--soak-minutes" => options.soak = Duration::from_secs(60 * u64::from(value)),
                _ => {
                    return Err(format!(
                        "{name}: unknown; there are --backends, --rounds, --seconds, --kills, --state-mib and \
                         --soak-minutes"
                    ));
                }
            }
        }
        Ok(options)
    }

    /// The name of a row, with the event loop if there are several.
    fn row(&self, row: &str, backend: &str) -> String {
        match self.backends.len() {
            1 => row.to_owned(),
            _ => format!("{row}, {backend}"),
        }
    }
}

/// What every row of puts is held against.
const SKELETON: &str = "skeleton, synced, 1 client";

/// Figures of one row, a round each.
struct Samples {
    row: String,
    figure: &'static str,
    values: Vec<f64>,
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> io::Result<()> {
    let arguments: Vec<_> = std::env::args().collect();
    if let Some(role) = arguments.get(1).filter(|first| first.starts_with("skeleton-")) {
        let path = Path::new(&arguments[2]);
        let path = (path != Path::new("-")).then_some(path);
        let ports: Vec<u16> = arguments[3..].iter().filter_map(|port| port.parse().ok()).collect();
        return if role == "skeleton-leader" {
            skeleton::lead(path, &ports)
        } else {
            skeleton::follow(path)
        };
    }
    let options = Options::parse().map_err(io::Error::other)?;
    let mut all: Vec<Samples> = Vec::new();
    if options.state_mib > 0 {
        return large_states(&options);
    }
    if !options.soak.is_zero() {
        return soak(&options);
    }

    for _ in 0..options.rounds {
        for backend in &options.backends {
            let row = options.row("fresh cluster to first put", backend);
            put(&mut all, &row, "ms", first_put(backend)?.as_secs_f64() * 1e3);
        }
    }

    let mut clusters = Vec::new();
    for backend in &options.backends {
        let mut cluster = Cluster::init(backend)?;
        cluster.start_all()?;
        cluster.leader()?;
        let idle = cluster.memory_mib("VmRSS")?;
        put(&mut all, &options.row("memory a node, idle", backend), "MiB", idle);
        // The first puts of a cluster run on a log whose segments are still being prepared.
        cluster.bench(&["--clients", "64"], Duration::from_secs(1))?;
        clusters.push((backend, cluster));
    }
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        for (path, row) in [(true, SKELETON), (false, "skeleton, not synced, 1 client")] {
            let times = skeleton_round(path, options.span)?;
            put(&mut all, row, "p50_us", times);
        }
        for (row, arguments, figures) in ROWS {
            for (backend, cluster) in &clusters {
                let found = cluster.bench(arguments, options.span)?;
                for figure in figures {
                    if let Some((_, value)) = found.iter().find(|(name, _)| name == figure) {
                        put(&mut all, &options.row(row, backend), figure, *value);
                    }
                }
            }
        }
    }
    for (backend, cluster) in clusters {
        let row = options.row("memory a node, peak under load", backend);
        put(&mut all, &row, "MiB", cluster.memory_mib("VmHWM")?);
    }

    for backend in &options.backends {
        let row = options.row("leader killed to first new write", backend);
        for time in kill_leaders(backend, options.kills)? {
            put(&mut all, &row, "ms", time);
        }
    }
    print(&all);
    for backend in &options.backends {
        print_ratio(
            &all,
            &options.row(ROWS[0].0, backend),
            SKELETON,
            "p50_us",
            "p50 / skeleton's",
        );
    }
    Ok(())
}

/// What `--state-mib` asks for.
fn large_states(options: &Options) -> io::Result<()> {
    let mut all = Vec::new();
    for backend in &options.backends {
        let (mib, rounds) = (options.state_mib, options.rounds);
        states::measure(backend, mib, rounds, options.span, |row, figure, value| {
            put(&mut all, &options.row(row, backend), figure, value);
        })?;
    }
    print(&all);
    for backend in &options.backends {
        let alone = options.row(states::ALONE, backend);
        for with in [states::WITH_SNAPSHOTS, states::WITH_TRANSFERS] {
            print_ratio(&all, &options.row(with, backend), &alone, "p99_us", "p99 / without");
        }
    }
    Ok(())
}

/// What `--soak-minutes` asks for.
fn soak(options: &Options) -> io::Result<()> {
    for backend in &options.backends {
        let mut all = Vec::new();
        let end = soak::measure(backend, options.soak, |row, figure, value| {
            put(&mut all, &options.row(row, backend), figure, value);
        });
        print(&all);
        end?;
    }
    Ok(())
}

fn put(all: &mut Vec<Samples>, row: &str, figure: &'static str, value: f64) {
    match all
        .iter_mut()
        .find(|samples| samples.row == row && samples.figure == figure)
    {
        Some(samples) => samples.values.push(value),
        None => all.push(Samples {
            row: row.to_owned(),
            figure,
            values: vec![value],
        }),
    }
}

fn print(all: &[Samples]) {
    println!(
        "{:44} {:20} {:>10} {:>10} {:>10} {:>7}",
        "WHAT", "FIGURE", "MEDIAN", "LEAST", "MOST", "ROUNDS"
    );
    for Samples { row, figure, values } in all {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        println!(
            "{row:44} {figure:20} {:>10.1} {least:>10.1} {most:>10.1} {:>7}",
            median(values),
            values.len()
        );
    }
}

/// A figure of this row by that of another one, round by round.
fn print_ratio(all: &[Samples], row: &str, other: &str, figure: &str, name: &str) {
    let of = |row: &str| {
        all.iter()
            .find(|samples| samples.row == row && samples.figure == figure)
    };
    if let (Some(over), Some(under)) = (of(row), of(other)) {
        let rounds = over.values.iter().zip(&under.values);
        let ratios: Vec<_> = rounds.map(|(over, under)| over / under).collect();
        println!("{row:44} {name:20} {:>10.2}", median(&ratios));
    }
}

/// From the start of three processes on empty logs to the answer to the first put.
fn first_put(backend: &str) -> io::Result<Duration> {
    let mut cluster = Cluster::init(backend)?;
    let start = Instant::now();
    cluster.start_all()?;
    let mut client = Client::connect(&cluster.nodes()).map_err(io::Error::other)?;
    client.put(b"first", b"put").map_err(io::Error::other)?;
    Ok(start.elapsed())
}

/// The median of a put through the bare skeleton, in microseconds.
fn skeleton_round(synced: bool, span: Duration) -> io::Result<f64> {
    let folder = tempfile::Builder::new()
        .prefix("skeleton-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let path = |at: usize| match synced {
        true => folder.path().join(at.to_string()).into_os_string(),
        false => "-".into(),
    };
    let spawn = |role: &str, at: usize, ports: &[u16]| -> io::Result<(Child, u16)> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(role)
            .arg(path(at))
            .args(ports.iter().map(u16::to_string))
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("its output is piped"))?;
        BufReader::new(stdout).read_line(&mut line)?;
        let port = line
            .trim()
            .parse()
            .map_err(|_| io::Error::other("the skeleton names its port first"))?;
        Ok((child, port))
    };
    let followers = [spawn("skeleton-follower", 1, &[])?, spawn("skeleton-follower", 2, &[])?];
    let ports: Vec<_> = followers.iter().map(|(_, port)| *port).collect();
    let (leader, port) = spawn("skeleton-leader", 0, &ports)?;
    let times = skeleton::measure(port, span);
    for mut child in followers.into_iter().map(|(child, _)| child).chain([leader]) {
        child.kill()?;
        child.wait()?;
    }
    let micros: Vec<_> = times?.iter().map(|time| time.as_secs_f64() * 1e6).collect();
    Ok(median(&micros))
}

/// Kills the leader, again and again; each time until the first write that began afterwards is acknowledged, in ms.
fn kill_leaders(backend: &str, kills: usize) -> io::Result<Vec<f64>> {
    let mut cluster = Cluster::init(backend)?;
    cluster.start_all()?;
    let mut client = Client::connect(&cluster.nodes()).map_err(io::Error::other)?;
    let mut times = Vec::new();
    for kill in 0..kills {
        let leader = cluster.leader()?;
        client.put(b"before", &kill.to_le_bytes()).map_err(io::Error::other)?;
        cluster.kill(leader)?;
        let start = Instant::now();
        loop {
            match client.put(b"after", &kill.to_le_bytes()) {
                Ok(()) => break,
                Err(Error::Refused(_) | Error::Unknown) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        times.push(start.elapsed().as_secs_f64() * 1e3);
        cluster.start(leader)?;
    }
    Ok(times)
}
