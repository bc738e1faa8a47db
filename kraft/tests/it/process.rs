//! kraftd as a process whose lines are waited for.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// A guard against hangs, far above what anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The program, its environment free of settings.
pub(crate) fn kraftd(args: &[&str]) -> Command {
    without_settings(env!("CARGO_BIN_EXE_kraftd"), args)
}

/// A program, its environment free of settings.
pub(crate) fn without_settings(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KRAFT_") {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// What a run that ended by itself said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// kraftctl, run to its end.
#[cfg(feature = "ctl")]
pub(crate) fn kraftctl(args: &[&str]) -> Ran {
    run_command(&mut without_settings(env!("CARGO_BIN_EXE_kraftctl"), args))
}

/// Runs it to its end.
pub(crate) fn run(args: &[&str]) -> Ran {
    run_command(&mut kraftd(args))
}

/// One that does not end is killed, which is seen in its code: some of these are to be refused, and would serve for ever.
pub(crate) fn run_command(command: &mut Command) -> Ran {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = child.spawn().expect("it runs");
    let pid = child.id().to_string();
    let (ended, end) = mpsc::channel::<()>();
    thread::spawn(move || {
        if end.recv_timeout(4 * PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").args(["-KILL", &pid]).status();
        }
    });
    let output = child.wait_with_output().expect("it runs");
    drop(ended);
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("UTF-8"),
        err: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// A run is refused with this code and one line that has these parts.
#[track_caller]
pub(crate) fn refused(ran: &Ran, code: i32, parts: &[&str]) {
    assert_eq!(ran.code, Some(code), "{ran:?}");
    assert_eq!(ran.err.lines().count(), 1, "{ran:?}");
    for part in parts {
        assert!(ran.err.contains(part), "{part:?} is not in {ran:?}");
    }
}

/// A data folder of the only node of a cluster, on ports that the system chooses.
pub(crate) fn init_alone(data: &Path) {
    let ran = run(&[
        "init",
        "--id",
        "1",
        "--cluster",
        "alone",
        "--peers",
        "1=127.0.0.1:0",
        "--listen",
        "127.0.0.1:0",
        "--client",
        "127.0.0.1:0",
        "--data",
        path(data),
    ]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Every file below a folder and what is in it.
pub(crate) fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("a folder") {
            let at = entry.expect("an entry").path();
            if at.is_dir() {
                found.insert(format!("{}/", at.display()), Vec::new());
                folders.push(at);
            } else {
                found.insert(at.display().to_string(), fs::read(&at).expect("a file"));
            }
        }
    }
    found
}

/// A kraftd that runs. Killed when it is dropped.
pub(crate) struct Daemon {
    child: Child,
    lines: Receiver<String>,
    /// What it said so far.
    pub(crate) said: Vec<String>,
}

impl Daemon {
    /// Starts it with JSON lines; they are read from stderr.
    pub(crate) fn serve(data: &Path, more: &[&str]) -> Self {
        let mut args = vec!["serve", "--data", path(data), "--log-format", "json"];
        args.extend(more);
        Self::spawn(kraftd(&args).stdin(Stdio::piped()).stderr(Stdio::piped()))
    }

    /// Starts a command and reads what of its output is piped.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("kraftd starts");
        let (sender, lines) = mpsc::channel();
        let err = child.stderr.take().map(|err| Box::new(err) as Box<dyn Read + Send>);
        let out = child.stdout.take().map(|out| Box::new(out) as Box<dyn Read + Send>);
        for stream in [err, out].into_iter().flatten() {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    // The test may have seen enough.
                    let _ = sender.send(line);
                }
            });
        }
        Self {
            child,
            lines,
            said: Vec::new(),
        }
    }

    /// The next line that has `part`.
    #[track_caller]
    pub(crate) fn line(&mut self, part: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(error) => panic!("no line with {part:?} ({error}) in {:#?}", self.said),
            }
        }
    }

    /// Where the line of the start says that it listens for `name`.
    pub(crate) fn address(start: &str, name: &str) -> String {
        let (_, rest) = start.split_once(&format!("\"{name}\":\"")).expect("an address");
        rest.split('"').next().expect("its end").to_owned()
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, by name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status()
            .expect("kill runs");
        assert!(sent.success());
    }

    /// Closes its stdin.
    pub(crate) fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits for its end, and takes all lines that are left.
    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        // The lines end with the process.
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => return self.child.wait().expect("it was started"),
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it does not end: {:#?}", self.said),
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The answer to a request over HTTP.
pub(crate) fn http(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a listener");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream.write_all(request.as_bytes()).expect("it is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer and its end");
    answer
}
