//! Three etcd, found on the path, under the same load by their own protocol.

use std::env;
use std::ffi::OsString;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kraft_core::id::NodeId;
use kraft_core::message::NodeState;

use super::kills::{self, Mortal, Watch, Writer};
use super::processes::{COUNT, PATIENCE, PROGRAM, Processes};
use super::{Ground, clocks, watch};
use crate::cli::Waiting;
use crate::fault::Fault;
use crate::generator::{Callers, Figures, Span, Standing, get_once, put_once, standing};
use crate::interrupt;
use crate::workload::{Pace, Work};

/// For how long an answer is waited for while the leader is killed. A member that does not know of that yet passes on what it is asked to
/// the dead one, and answers after seven seconds that it timed out: whoever asks another one meanwhile has his answer
/// when there is one to be had.
const ANOTHER_AFTER: Duration = Duration::from_millis(100);

/// The program.
const NAME: &str = "etcd";

/// A member that knows that it has no leader says so at once: asked again and again without a pause, each time on another
/// connection, it would have no processor for its election. Short beside an election timeout of a second for the client
/// whose write is timed; the others have longer ones.
const REFUSED_PAUSE: Duration = Duration::from_millis(2);

/// Between two questions to members that have no leader yet, and between two looks at a program that is to end.
const PAUSE: Duration = Duration::from_millis(20);

/// How variables begin that are settings of it.
const SETTING: &str = "ETCD_";

/// A program that has not said by then which one it is, or says more, is not asked any further.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Of what it says so many characters are kept.
const VERSION_CHARS_MAX: usize = 100;

/// A round against a cluster of its own.
pub(super) fn measure(work: Work, ground: &Ground, span: Span, waiting: Waiting) -> Result<Figures, Fault> {
    let program = installed(folders())?;
    let mut members = Members::start(program, ground, span.patience)?;
    let outcome = match work {
        Work::KillLeader => kills::kill_leaders(&mut members, span),
        _ => members.ask(work, span, waiting),
    };
    outcome.map_err(|fault| members.processes.blame(fault))
}

/// Which one it is, in its own words: `etcd Version: 3.4.23`. It is asked once.
pub(crate) fn version() -> Option<&'static str> {
    static VERSION: OnceLock<Option<String>> = OnceLock::new();
    let ask = || {
        let mut command = Command::new(installed(folders()).ok()?);
        without_settings(command.arg("--version"));
        first_line(&mut command, ANSWER_MAX)
    };
    VERSION.get_or_init(ask).as_deref()
}

/// What a program says first, if it ends well in time and says no more than one wants to hear.
fn first_line(command: &mut Command, patience: Duration) -> Option<String> {
    let end = Instant::now() + patience;
    // ^C is for us, who end it.
    command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let stdout = child.stdout.take();
    let (say, said) = mpsc::sync_channel(1);
    // A read of a pipe has no time-out, a channel has. The thread ends when nobody has the pipe any more.
    thread::spawn(move || {
        let mut text = String::new();
        let outcome = stdout.map(|stdout| stdout.take(ANSWER_BYTES_MAX).read_to_string(&mut text));
        let is_whole = matches!(outcome, Some(Ok(count)) if (count as u64) < ANSWER_BYTES_MAX);
        // Who has given up does not listen.
        let _ = say.send(is_whole.then_some(text));
    });
    let text = said.recv_timeout(patience).ok().flatten();
    let has_ended_well = ends_well(&mut child, end);
    let text = text.filter(|_| has_ended_well)?;
    Some(text.lines().next()?.chars().take(VERSION_CHARS_MAX).collect())
}

/// Whether a program ends by then, and well. One that does not is killed.
fn ends_well(child: &mut Child, end: Instant) -> bool {
    while Instant::now() < end && !interrupt::is_asked() {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => thread::sleep(PAUSE),
            Err(_) => break,
        }
    }
    // If it has ended meanwhile there is nothing to kill.
    let _ = child.kill();
    let _ = child.wait();
    false
}

/// Starts it as it comes: settings of somebody else's are not for these members.
fn without_settings(command: &mut Command) {
    let names = env::vars_os().map(|(name, _)| name);
    settings(names).for_each(|name| {
        command.env_remove(name);
    });
}

/// Which of these variables are settings of it.
fn settings(names: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    names.filter(|name| name.as_encoded_bytes().starts_with(SETTING.as_bytes()))
}

/// Where programs are.
fn folders() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).collect::<Vec<_>>().into_iter()
}

/// Where it is: as a shell finds it, which passes over what cannot be executed.
fn installed(mut folders: impl Iterator<Item = PathBuf>) -> Result<PathBuf, Fault> {
    let found = folders.find_map(|folder| Some(folder.join(NAME)).filter(|path| is_program(path)));
    found.ok_or_else(|| {
        Fault::Lacks("etcd is not installed, or not on the path: `apt-get install etcd-server` on Debian".into())
    })
}

/// Whether it is a file that somebody may execute.
fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

/// Three members. Dropped, it kills them and removes their data.
#[derive(Debug)]
struct Members {
    program: PathBuf,
    processes: Processes,
    peers: Vec<SocketAddr>,
    clients: Vec<SocketAddr>,
    /// How long an answer may take.
    patience: Duration,
    /// The client whose write is timed.
    asker: Asker,
}

/// Asks the members, another one each time.
#[derive(Debug)]
struct Asker {
    clients: Vec<SocketAddr>,
    /// Who does not run, as far as that is known.
    killed: Option<usize>,
    asked: usize,
    /// How long one that was refused waits.
    pause: Duration,
}

impl Asker {
    fn new(clients: &[SocketAddr], pause: Duration) -> Self {
        Self {
            clients: clients.to_vec(),
            killed: None,
            asked: 0,
            pause,
        }
    }

    /// Asks one that runs; `None` if it cannot be done now, or nobody can say.
    fn ask<T>(&mut self, ask: impl FnOnce(SocketAddr) -> Result<T, Fault>) -> Result<Option<T>, Fault> {
        let running = (0..COUNT).filter(|at| Some(*at) != self.killed);
        let running: Vec<usize> = running.collect();
        self.asked += 1;
        match ask(self.clients[running[self.asked % running.len()]]) {
            Ok(answer) => Ok(Some(answer)),
            Err(Fault::Closed(_)) => {
                thread::sleep(self.pause);
                Ok(None)
            }
            Err(Fault::Stalled(_)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    fn put(&mut self, key: u64, value: &[u8]) -> Result<bool, Fault> {
        let put = self.ask(|at| put_once(at, key as usize, value, ANOTHER_AFTER));
        Ok(put?.is_some())
    }
}

impl Members {
    fn start(program: PathBuf, ground: &Ground, patience: Duration) -> Result<Self, Fault> {
        let (processes, peers, clients) = Processes::new(ground)?;
        let mut members = Self {
            program,
            asker: Asker::new(&clients, REFUSED_PAUSE),
            processes,
            peers,
            clients,
            patience,
        };
        (0..COUNT).try_for_each(|at| members.start_member(at))?;
        Ok(members)
    }

    /// With the settings that it comes with.
    fn start_member(&mut self, at: usize) -> Result<(), Fault> {
        let name = |at: usize| format!("node{}", at + 1);
        let all = self.peers.iter().enumerate();
        let list = all.map(|(at, peer)| format!("{}=http://{peer}", name(at)));
        let list = list.collect::<Vec<_>>().join(",");
        let (peer, client) = (
            format!("http://{}", self.peers[at]),
            format!("http://{}", self.clients[at]),
        );
        let mut command = self.processes.command()?;
        without_settings(&mut command);
        command
            .env(PROGRAM, &self.program)
            .args(["--name", &name(at)])
            .arg("--data-dir")
            .arg(self.processes.data(at))
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--initial-cluster", &list, "--initial-cluster-state", "new"])
            // What is said of every slow write would be another load.
            .args(["--logger", "zap", "--log-level", "error"]);
        self.processes.start(at, command)
    }

    fn ask(&mut self, work: Work, span: Span, waiting: Waiting) -> Result<Figures, Fault> {
        let Work::Cluster { ask, pace } = work else {
            unreachable!("nothing else is asked of it");
        };
        let (leader, term) = self.leader(span.patience)?;
        let (Pace::Closed { clients } | Pace::Open { clients, .. }) = pace;
        let mut callers = Callers::connect(self.clients[leader], clients, waiting, span)?;
        // Every key is there, so that each get has a value to be checked.
        callers.fill(span)?;
        let pids = self.processes.pids();
        let clocks = &|| clocks(&pids);
        let figures = match pace {
            Pace::Closed { .. } => callers.closed(ask, span, clocks),
            Pace::Open { rate, .. } => callers.open(ask, rate, span, clocks),
        }?;
        // A member that is deposed passes on what it is asked, and answers all the same.
        if self.leader(span.patience)? == (leader, term) {
            Ok(figures)
        } else {
            Err(Fault::Deposed("another member leads, or led".into()))
        }
    }

    /// The place of the leader that all members follow, and its term, as soon as there is one.
    fn leader(&mut self, patience: Duration) -> Result<(usize, u64), Fault> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if interrupt::is_asked() {
                return Err(Fault::Interrupted);
            }
            // One that does not listen yet is asked again.
            let all = self.clients.iter().map(|at| standing(*at, patience));
            if let Some(led) = all.collect::<Result<Vec<_>, _>>().ok().and_then(|all| agreed(&all)) {
                return Ok(led);
            }
            if let Some(words) = self.processes.last_words() {
                return Err(Fault::Closed(words));
            }
            thread::sleep(PAUSE);
        }
        Err(Fault::Stalled(format!(
            "three members agreed on no leader in {} s",
            PATIENCE.as_secs()
        )))
    }
}

impl Mortal for Members {
    fn leader(&mut self) -> Result<usize, Fault> {
        Self::leader(self, self.patience).map(|(leader, _)| leader)
    }

    fn watch(&mut self, leader: usize) -> Result<Watch, Fault> {
        let patience = self.patience;
        let killed = NodeId(standing(self.clients[leader], patience)?.member);
        let others = self.clients.iter().enumerate().filter(|(at, _)| *at != leader);
        let others: Vec<SocketAddr> = others.map(|(_, client)| *client).collect();
        Ok(Box::new(move |began, is_over| {
            // A client is for one thread.
            let clients = others.iter().map(|at| Callers::alone(*at, patience));
            let mut clients = clients.collect::<Result<Vec<_>, _>>()?;
            watch::survivors(killed, began, is_over, |hear| {
                clients.iter_mut().try_for_each(|client| {
                    // It does not say whether it is a candidate; one that is follows nobody.
                    let standing = client.standing(patience)?;
                    hear(NodeState::Follower, NodeId(standing.leader));
                    Ok(())
                })
            })
        }))
    }

    fn kill(&mut self, at: usize) -> Result<(), Fault> {
        self.asker.killed = Some(at);
        self.processes.kill(at)
    }

    fn start(&mut self, at: usize) -> Result<(), Fault> {
        self.asker.killed = None;
        self.start_member(at)
    }

    /// It does not know who is killed: who is dead refuses it.
    fn writer(&mut self) -> Result<Writer, Fault> {
        let mut asker = Asker::new(&self.clients, PAUSE);
        Ok(Box::new(move |key, value| asker.put(key, value)))
    }

    fn write(&mut self, key: u64, value: &[u8]) -> Result<bool, Fault> {
        self.asker.put(key, value)
    }

    fn read(&mut self, key: u64) -> Result<Option<Bytes>, Fault> {
        let began = Instant::now();
        loop {
            if let Some(found) = self.asker.ask(|at| get_once(at, key as usize, ANOTHER_AFTER))? {
                return Ok(found);
            }
            if began.elapsed() > PATIENCE {
                return Err(Fault::Stalled(format!("no member answers a get of key {key}")));
            }
        }
    }
}

/// Whom all of them follow, by place, and in which term.
fn agreed(all: &[Standing]) -> Option<(usize, u64)> {
    let first = all.first()?;
    let is_agreed = |other: &Standing| (other.leader, other.term) == (first.leader, first.term);
    let leader = all.iter().position(|one| one.member == first.leader)?;
    all.iter().all(is_agreed).then_some((leader, first.term))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn who_does_not_find_it_says_how_to_install_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = || [folder.path().to_owned()].into_iter();
        let fault = installed(path()).expect_err("the folder is empty");
        assert!(!fault.is_failure());
        assert!(fault.to_string().contains("apt-get install etcd-server"), "{fault}");
        // A folder of that name is no program.
        std::fs::create_dir(folder.path().join(NAME)).expect("a folder");
        assert!(installed(path()).is_err());
        std::fs::remove_dir(folder.path().join(NAME)).expect("it is empty");
        // Nor is a file that cannot be executed; behind it there may be one.
        let behind = tempfile::tempdir().expect("a folder");
        let both = || [folder.path().to_owned(), behind.path().to_owned()].into_iter();
        for place in [&folder, &behind] {
            std::fs::write(place.path().join(NAME), b"").expect("a file");
        }
        let executable = |place: &tempfile::TempDir| {
            let mode = Permissions::from_mode(0o755);
            std::fs::set_permissions(place.path().join(NAME), mode).expect("it is ours");
        };
        assert!(installed(both()).is_err());
        executable(&behind);
        assert_eq!(installed(both()), Ok(behind.path().join(NAME)));
        executable(&folder);
        assert_eq!(installed(both()), Ok(folder.path().join(NAME)));
    }

    #[test]
    fn a_version_is_what_is_said_in_time_by_who_ends_well() {
        let said = |script: &str, patience| {
            let mut shell = Command::new("/bin/sh");
            first_line(shell.args(["-c", script]), patience)
        };
        let long = Duration::from_secs(60);
        let version = "echo etcd Version: 9.9.9; echo Git SHA: none";
        assert_eq!(said(version, long).as_deref(), Some("etcd Version: 9.9.9"));
        assert_eq!(said(&format!("{version}; exit 3"), long), None);
        assert_eq!(said("exit 0", long), None);
        // More than anybody wants to read, without an end.
        assert_eq!(said("exec yes", long), None);
        let line = said("printf %0500d 7", long).expect("it is one line");
        assert_eq!(line.len(), VERSION_CHARS_MAX);
        // One that hangs is not waited for, whether it said something, or shut its mouth: `wait` says that it was killed.
        let short = Duration::from_millis(100);
        assert_eq!(said(&format!("{version}; exec sleep 3600"), short), None);
        assert_eq!(said(&format!("{version}; exec sleep 3600 >&-"), short), None);
    }

    #[test]
    fn settings_of_another_etcd_are_none_of_ours() {
        let names = [
            "ETCD_NAME",
            "ETCDCTL_API",
            "PATH",
            "ETCD_INITIAL_CLUSTER",
            "MY_ETCD_NAME",
        ];
        let found: Vec<OsString> = settings(names.map(OsString::from).into_iter()).collect();
        assert_eq!(found, ["ETCD_NAME", "ETCD_INITIAL_CLUSTER"]);
    }

    #[test]
    fn a_leader_is_whom_all_follow_in_one_term() {
        let one = |member, leader, term| Standing { member, leader, term };
        assert_eq!(agreed(&[one(5, 7, 2), one(6, 7, 2), one(7, 7, 2)]), Some((2, 2)));
        for apart in [
            [one(5, 7, 2), one(6, 7, 3), one(7, 7, 3)],
            [one(5, 0, 2), one(6, 0, 2), one(7, 0, 2)],
            [one(5, 7, 2), one(6, 6, 2), one(7, 7, 2)],
            [one(5, 9, 2), one(6, 9, 2), one(7, 9, 2)],
        ] {
            assert_eq!(agreed(&apart), None, "{apart:?}");
        }
        assert_eq!(agreed(&[]), None);
    }
}
