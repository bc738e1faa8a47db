//! A run: what can be had here, the cluster, its clients, the faults in their time, and the verdict.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kraft::Client;
use kraft::adapters::Backend;
use kraft::history::History;
use kraft::message::NodeState;
use rustix::process::Signal;

use crate::cluster::{Cluster, End, STOP_TIMEOUT};
use crate::command::Trouble;
use crate::disk::{self, Kind};
use crate::load::{self, Load};
use crate::network::{self, Lines, NODES};
use crate::options::Options;
use crate::packets::Packets;
use crate::schedule::{self, Event, Fault, Sort, Target};
use crate::verdict;

/// How a run ended that could be judged.
#[derive(Debug)]
pub(crate) enum Ending {
    Good,
    /// Nothing can be run here, for this reason.
    Impossible(String),
    /// No machine could have answered so.
    Violated(String),
}

/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_millis(5);

/// How long a node may take to say whether it leads.
const ASK_TIMEOUT: Duration = Duration::from_millis(400);

/// Runs it.
///
/// # Errors
///
/// The machine refuses something that it allowed before, or a node ends, hangs or recovers as none may.
pub(crate) fn run(options: &Options, folder: &Path, stop: &AtomicBool) -> Result<Ending, Trouble> {
    let (disks, refused) = disk::probe(folder, options.seconds);
    let possible = disk::check_room(disks, folder, options.seconds).and_then(|()| network::make());
    if let Err(trouble) = possible {
        return Ok(Ending::Impossible(trouble.to_string()));
    }
    let seed = options.seed.unwrap_or_default();
    let kraftd = kraftd(options)?;
    let mut run = Run::prepare(kraftd, folder, seed, disks, &refused)?;
    run.tell_left_out(options.left_out.as_deref())?;
    let span = Duration::from_secs(options.seconds);
    let can_cut = run.can_cut;
    let can_hold = !run.packets.is_empty();
    let planted = options.plant.is_some();
    let can = |sort| match sort {
        Sort::Fill => disks != Kind::Folder,
        Sort::PowerOfDisk | Sort::Power | Sort::PowerOfAll => disks == Kind::Ext4,
        Sort::Isolate | Sort::CutOff | Sort::Deaf | Sort::Mute | Sort::Pair | Sort::Halves => can_cut,
        Sort::Delay | Sort::Loss | Sort::Reorder => can_hold,
        Sort::Kill | Sort::KillAll | Sort::Stop | Sort::Terminate | Sort::Sever => true,
    };
    // A planted defect is to be found by itself.
    let events = schedule::draw(seed, span, |sort| !planted && can(sort));
    let text: String = events.iter().map(|event| format!("{event}\n")).collect();
    write(&folder.join("schedule.txt"), &text)?;
    run.start_all()?;
    let load = Load::start(seed, run.start, disks.ballast_bytes_max());
    let passed = if planted {
        run.roll_back(span, stop)
    } else {
        run.pass(&events, span, stop, &load)
    };
    // Their history is of use whatever happened.
    let history = load.stop();
    if let Ok(history) = &history {
        write_history(folder, history)?;
    }
    passed?;
    run.conclude(options, folder, history?)
}

/// The program that runs as a node.
fn kraftd(options: &Options) -> Result<PathBuf, Trouble> {
    let named = options
        .kraftd
        .clone()
        .map_or_else(|| env::current_exe().map(|own| own.with_file_name("kraftd")), Ok);
    let named = named.map_err(|error| Trouble::new(format!("this program: {error}")))?;
    fs::canonicalize(&named).map_err(|error| {
        Trouble::new(format!(
            "{}: {error}; build it with `cargo build --release --bin kraftd`, or name another with --kraftd",
            named.display()
        ))
    })
}

/// A cluster under faults.
#[derive(Debug)]
struct Run {
    start: Instant,
    cluster: Cluster,
    lines: Lines,
    packets: Vec<Packets>,
    can_cut: bool,
    left_out: Vec<String>,
    /// A fault of its process or disk is under way, by node.
    is_busy: [bool; NODES + 1],
    asker: Client,
    journal: File,
    fired: BTreeMap<Sort, u32>,
    severed: usize,
    /// Nodes that noticed by themselves that their disk was gone.
    disks_noticed: u32,
}

/// A fault under way.
#[derive(Debug)]
struct Active {
    ends: Duration,
    fault: Fault,
    /// Whom it struck.
    nodes: Vec<usize>,
}

impl Run {
    fn prepare(kraftd: PathBuf, folder: &Path, seed: u64, disks: Kind, refused: &[Trouble]) -> Result<Self, Trouble> {
        let mut left_out = Vec::new();
        match (disks, refused) {
            (Kind::Ext4, _) => {}
            (Kind::Memory, [why, ..]) => left_out.push(format!("power cuts ({why})")),
            (_, why) => {
                let why: Vec<String> = why.iter().map(ToString::to_string).collect();
                left_out.push(format!("power cuts and full disks ({})", why.join(", ")));
            }
        }
        let (cut, queue) = network::probe();
        if let Err(why) = &cut {
            left_out.push(format!("partitions ({why})"));
        }
        let mut packets = Vec::new();
        let held = queue.and_then(|()| {
            for node in 1..=NODES {
                packets.push(Packets::start(node, seed ^ (node as u64))?);
            }
            Ok(())
        });
        if let Err(why) = held {
            packets.clear();
            left_out.push(format!("delay, loss and reordering of packets ({why})"));
        }
        let mut backends = Vec::new();
        for (backend, availability) in Backend::detect() {
            let is_ours = Backend::candidates().any(|candidate| candidate == backend);
            if availability.is_usable() {
                backends.push(backend.to_string());
            } else if is_ours {
                left_out.push(format!("nodes on {backend} ({availability})"));
            }
        }
        let path = folder.join("journal.txt");
        Ok(Self {
            cluster: Cluster::make(&kraftd, folder, disks, &backends)?,
            lines: Lines::default(),
            packets,
            can_cut: cut.is_ok(),
            left_out,
            is_busy: [false; NODES + 1],
            asker: load::connect(1..=NODES, ASK_TIMEOUT, seed)?,
            journal: File::create(&path).map_err(|error| Trouble::at(&path, &error))?,
            fired: BTreeMap::new(),
            severed: 0,
            disks_noticed: 0,
            start: Instant::now(),
        })
    }

    fn tell_left_out(&self, file: Option<&Path>) -> Result<(), Trouble> {
        for what in &self.left_out {
            println!("kraft-chaos: ======== LEFT OUT: {what}");
        }
        let Some(file) = file else { return Ok(()) };
        let text: String = self.left_out.iter().map(|what| format!("{what}\n")).collect();
        write(file, &text)
    }

    fn start_all(&mut self) -> Result<(), Trouble> {
        for node in 1..=NODES {
            self.cluster.start(node)?;
            self.note(&format!("node {node} on {}", self.cluster.backend(node)));
        }
        Ok(())
    }

    /// Lets the faults happen in their time.
    fn pass(&mut self, events: &[Event], span: Duration, stop: &AtomicBool, load: &Load) -> Result<(), Trouble> {
        let mut coming = events.iter().peekable();
        let mut active: Vec<Active> = Vec::new();
        let mut told = Duration::ZERO;
        while self.start.elapsed() < span || !active.is_empty() {
            if stop.load(Ordering::Relaxed) {
                return Err(Trouble::new("it was told to stop"));
            }
            let now = self.start.elapsed();
            let mut going = Vec::new();
            for fault in active {
                if now < fault.ends || !self.end(&fault)? {
                    going.push(fault);
                }
            }
            active = going;
            while let Some(event) = coming.next_if(|event| event.begins <= now) {
                active.extend(self.begin(event)?);
            }
            self.cluster.watch()?;
            if now >= told + Duration::from_secs(10) {
                told = now;
                let tally = load.tally();
                println!(
                    "kraft-chaos: {:>4} s: {} operations committed, {} refused, {} unknown; {} faults",
                    now.as_secs(),
                    tally.committed.load(Ordering::Relaxed),
                    tally.refused.load(Ordering::Relaxed),
                    tally.unknown.load(Ordering::Relaxed),
                    self.fired.values().sum::<u32>(),
                );
            }
            thread::sleep(TICK);
        }
        Ok(())
    }

    /// Begins a fault, unless every node that it could strike bears another.
    fn begin(&mut self, event: &Event) -> Result<Option<Active>, Trouble> {
        let sort = event.fault.sort();
        let nodes = self.choose(&event.fault);
        if nodes.is_empty() {
            self.note(&format!("{sort} finds nobody"));
            return Ok(None);
        }
        self.note(&format!("{sort} begins at {nodes:?}: {:?}", event.fault));
        *self.fired.entry(sort).or_default() += 1;
        if sort.is_of_machines() {
            for node in &nodes {
                self.is_busy[*node] = true;
            }
        }
        self.strike(&event.fault, &nodes)?;
        Ok(Some(Active {
            ends: event.ends,
            fault: event.fault.clone(),
            nodes,
        }))
    }

    /// Whom a fault strikes.
    fn choose(&mut self, fault: &Fault) -> Vec<usize> {
        let is_free = |run: &Self, node: usize| !fault.sort().is_of_machines() || !run.is_busy[node];
        match fault {
            Fault::KillAll | Fault::PowerOfAll => (1..=NODES).filter(|node| is_free(self, *node)).collect(),
            Fault::Pair(one, other) | Fault::Halves(one, other) => vec![*one, *other],
            _ => {
                let first = match fault.target() {
                    Some(Target::Node(node)) => node,
                    _ => self.leader().unwrap_or(1),
                };
                let mut around = (0..NODES).map(|step| (first - 1 + step) % NODES + 1);
                around.find(|node| is_free(self, *node)).into_iter().collect()
            }
        }
    }

    fn strike(&mut self, fault: &Fault, nodes: &[usize]) -> Result<(), Trouble> {
        for node in nodes.iter().copied() {
            match fault {
                Fault::Kill(_) | Fault::KillAll => drop(self.cluster.kill(node)?),
                Fault::Stop(_) => self.cluster.signal(node, Signal::STOP)?,
                Fault::Terminate(_) => self.cluster.terminate(node)?,
                Fault::Fill(_) => self.cluster.disk(node).fill()?,
                Fault::PowerOfDisk(_) => self.cluster.cut_power(node)?,
                Fault::Power(_) | Fault::PowerOfAll => {
                    self.cluster.cut_power(node)?;
                    self.cluster.kill(node)?;
                }
                Fault::Sever(_) => self.severed += network::sever(node)?,
                Fault::Weather(_, weather) => {
                    self.packets[node - 1].set(Some(weather.clone()));
                    self.lines.queue(node);
                }
                _ => {}
            }
        }
        for (from, to) in cuts(fault, nodes) {
            self.lines.cut(from, to);
        }
        self.apply(fault)
    }

    /// Ends a fault; `false` if something has to happen first.
    fn end(&mut self, fault: &Active) -> Result<bool, Trouble> {
        let is_late = self.start.elapsed() > fault.ends + STOP_TIMEOUT;
        for node in fault.nodes.iter().copied() {
            match fault.fault {
                // What is asked to stop may take its time, and no more.
                Fault::Terminate(_) if self.cluster.runs(node) => {
                    if is_late {
                        return Err(Trouble::new(format!("node {node} was asked to stop and does not")));
                    }
                    return Ok(false);
                }
                Fault::Kill(_) | Fault::KillAll | Fault::Terminate(_) => self.cluster.start(node)?,
                Fault::Stop(_) => self.cluster.signal(node, Signal::CONT)?,
                Fault::Fill(_) => self.cluster.disk(node).free()?,
                Fault::PowerOfDisk(_) => {
                    let noticed = !self.cluster.runs(node) || self.cluster.kill(node)? == Some(End::DiskFailed);
                    self.disks_noticed += u32::from(noticed);
                    self.cluster.disk(node).restore_power()?;
                    self.cluster.start(node)?;
                }
                Fault::Power(_) | Fault::PowerOfAll => {
                    self.cluster.disk(node).restore_power()?;
                    self.cluster.start(node)?;
                }
                Fault::Weather(..) => {
                    self.lines.unqueue(node);
                    self.packets[node - 1].set(None);
                }
                _ => {}
            }
        }
        for (from, to) in cuts(&fault.fault, &fault.nodes) {
            self.lines.join(from, to);
        }
        self.apply(&fault.fault)?;
        if fault.fault.sort().is_of_machines() {
            for node in &fault.nodes {
                self.is_busy[*node] = false;
            }
        }
        self.note(&format!("{} ends at {:?}", fault.fault.sort(), fault.nodes));
        Ok(true)
    }

    /// Tells the kernel which packets pass, where a fault is about packets.
    fn apply(&self, fault: &Fault) -> Result<(), Trouble> {
        let changes = !fault.sort().is_of_machines() && !matches!(fault, Fault::Sever(_));
        if changes { self.lines.apply() } else { Ok(()) }
    }

    /// Who leads, as far as anybody says so in time.
    fn leader(&mut self) -> Option<usize> {
        let reports = self.asker.status().ok()?;
        let leaders = reports.iter().filter_map(|status| status.report.as_ref().ok());
        let leaders = leaders.filter(|report| report.state == NodeState::Leader);
        let leader = leaders.max_by_key(|report| report.term)?;
        usize::try_from(leader.node.0).ok()
    }

    /// A planted defect: five disks that forget what was on them a third of the run ago.
    fn roll_back(&mut self, span: Duration, stop: &AtomicBool) -> Result<(), Trouble> {
        for (part, forgets) in [(1, false), (2, true)] {
            while self.start.elapsed() < span * part / 3 {
                if stop.load(Ordering::Relaxed) {
                    return Err(Trouble::new("it was told to stop"));
                }
                self.cluster.watch()?;
                thread::sleep(TICK);
            }
            for node in 1..=NODES {
                self.cluster.kill(node)?;
            }
            for node in 1..=NODES {
                if forgets {
                    self.cluster.roll_back(node)?;
                } else {
                    self.cluster.save(node)?;
                }
                self.cluster.start(node)?;
            }
            self.note(if forgets {
                "all disks forget"
            } else {
                "all disks are saved"
            });
        }
        while self.start.elapsed() < span {
            self.cluster.watch()?;
            thread::sleep(TICK);
        }
        Ok(())
    }

    /// All is whole again: the cluster has to commit, all nodes to agree, and the history to be possible.
    fn conclude(mut self, options: &Options, folder: &Path, mut history: History) -> Result<Ending, Trouble> {
        self.note("all faults are over");
        let healed = Instant::now();
        let commits = verdict::wait_for_commit(&mut self.cluster)?;
        let agrees = verdict::wait_for_agreement(&mut self.cluster)?;
        let state = verdict::read_all(self.start)?;
        self.note(&format!(
            "commits after {commits:?}, agrees after {agrees:?}, {:?} in all",
            healed.elapsed()
        ));
        history.merge(state);
        write_history(folder, &history)?;
        self.cluster.stop()?;
        for node in 1..=NODES {
            self.cluster.verify(node)?;
        }
        self.cluster.read_logs()?;
        self.tell_faults(options)?;
        println!(
            "kraft-chaos: when all was whole again the cluster committed within {} ms, and all nodes agreed within {} ms",
            commits.as_millis(),
            agrees.as_millis()
        );
        Ok(match verdict::judge(&history)? {
            Ok(what) => {
                println!("kraft-chaos: {what}");
                Ending::Good
            }
            Err(why) => Ending::Violated(why),
        })
    }

    /// Ends what holds packets, and tells which faults there were.
    fn tell_faults(&mut self, options: &Options) -> Result<(), Trouble> {
        let (mut seen, mut dropped) = (0, 0);
        for packets in self.packets.drain(..) {
            let counts = packets.counts();
            seen += counts.0;
            dropped += counts.1;
            packets.stop()?;
        }
        let count = |sort: Sort| self.fired.get(&sort).copied().unwrap_or(0);
        let held = count(Sort::Delay) + count(Sort::Loss) + count(Sort::Reorder);
        let severs = count(Sort::Sever);
        let disks = count(Sort::PowerOfDisk);
        let fired = self.fired.iter().map(|(sort, count)| format!("{sort} {count}"));
        println!("kraft-chaos: faults: {}", fired.collect::<Vec<_>>().join(", "));
        println!(
            "kraft-chaos: {} connections severed, {seen} packets held and {dropped} of them lost, {} of {disks} nodes \
             noticed that their disk was gone",
            self.severed, self.disks_noticed,
        );
        // A kernel that does not know how takes both without a word.
        if severs > 0 && self.severed == 0 {
            self.left_out.push("severed connections (ss -K breaks none)".to_owned());
        }
        if held > 0 && seen == 0 {
            let why = "delay, loss and reordering of packets (none came to user space)";
            self.left_out.push(why.to_owned());
        }
        self.tell_left_out(options.left_out.as_deref())
    }

    /// A line of the journal, which is read when a run failed.
    fn note(&mut self, what: &str) {
        // The run is not about its journal.
        let _ = writeln!(self.journal, "{:9.3} {what}", self.start.elapsed().as_secs_f64());
    }
}

/// Which directions a fault cuts, as sender and receiver.
fn cuts(fault: &Fault, nodes: &[usize]) -> Vec<(usize, usize)> {
    let Some(node) = nodes.first().copied() else {
        return Vec::new();
    };
    let others = (1..=NODES).filter(|other| *other != node);
    let both = |one: usize, other: usize| [(one, other), (other, one)];
    match fault {
        Fault::Isolate(_) => others.flat_map(|other| both(node, other)).collect(),
        Fault::CutOff(_) => others.chain([0]).flat_map(|other| both(node, other)).collect(),
        Fault::Deaf(_) => others.map(|other| (other, node)).collect(),
        Fault::Mute(_) => others.map(|other| (node, other)).collect(),
        Fault::Pair(one, other) => both(*one, *other).to_vec(),
        Fault::Halves(one, two) => {
            let few = [*one, *two];
            let many = (1..=NODES).filter(|node| !few.contains(node));
            many.flat_map(|far| few.map(|near| both(near, far)).concat()).collect()
        }
        _ => Vec::new(),
    }
}

/// Writes it as [`History::read`] takes it.
fn write_history(folder: &Path, history: &History) -> Result<(), Trouble> {
    let path = folder.join("history.txt");
    File::create(&path)
        .and_then(|file| {
            let mut file = BufWriter::new(file);
            history.write(&mut file)?;
            file.flush()
        })
        .map_err(|error| Trouble::at(&path, &error))
}

fn write(path: &Path, text: &str) -> Result<(), Trouble> {
    fs::write(path, text).map_err(|error| Trouble::at(path, &error))
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;
    use std::process;

    use kraft::history::{Action, Fate, Operation};

    use super::*;

    #[test]
    fn the_history_of_a_run_can_be_read_back() {
        let folder = env::temp_dir().join(format!("kraft-chaos-{}-history", process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let mut history = History::new();
        history.push(Operation {
            client: 1,
            key: load::key_name(0),
            action: Action::Delete,
            begin: 1,
            fate: Fate::Unknown,
        });
        write_history(&folder, &history).expect("written");
        let file = File::open(folder.join("history.txt")).expect("there");
        let read = History::read(BufReader::new(file));
        fs::remove_dir_all(&folder).expect("removed");
        assert_eq!(read.expect("a history"), history);
    }

    #[track_caller]
    fn check(fault: &Fault, nodes: &[usize], expected: &[(usize, usize)]) {
        let mut cut = cuts(fault, nodes);
        cut.sort_unstable();
        assert_eq!(cut, expected);
    }

    #[test]
    fn each_fault_of_lines_cuts_the_directions_of_its_name() {
        let target = Target::Node(3);
        check(&Fault::Deaf(target), &[3], &[(1, 3), (2, 3), (4, 3), (5, 3)]);
        check(&Fault::Mute(target), &[3], &[(3, 1), (3, 2), (3, 4), (3, 5)]);
        check(&Fault::Pair(2, 5), &[2, 5], &[(2, 5), (5, 2)]);
        let both: &[_] = &[(1, 3), (2, 3), (3, 1), (3, 2), (3, 4), (3, 5), (4, 3), (5, 3)];
        check(&Fault::Isolate(target), &[3], both);
        let clients_too = [&[(0, 3)], &both[..2], &[(3, 0)], &both[2..]].concat();
        check(&Fault::CutOff(target), &[3], &clients_too);
        check(
            &Fault::Halves(1, 2),
            &[1, 2],
            &[
                (1, 3),
                (1, 4),
                (1, 5),
                (2, 3),
                (2, 4),
                (2, 5),
                (3, 1),
                (3, 2),
                (4, 1),
                (4, 2),
                (5, 1),
                (5, 2),
            ],
        );
        check(&Fault::Kill(target), &[3], &[]);
    }
}
