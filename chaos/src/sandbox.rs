//! Namespaces for everything that a run makes, and the process outside of them that waits for the run.
//!
//! The run is process 1 of its own namespace: when it ends, the kernel kills whatever it started. Its mounts and
//! networks end with their namespaces, its loop devices with their mounts. So nothing is left on the machine but the
//! folder of the run, whatever ends it.

use std::env;
use std::fs;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::command::Trouble;
use crate::network::NAMES;
use crate::options::Options;
use crate::run::{self, Ending};

/// The exit status where the run cannot be made at all.
const SKIPPED: u8 = 77;

/// The exit status of a run whose history is impossible.
const VIOLATED: u8 = 3;

/// Makes the namespaces, and kills process 1 in them if `unshare` itself is killed.
const NAMESPACES: &[&str] = &[
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--propagation",
    "private",
];

/// How long an interrupted run has to stop its nodes.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// The whole program.
pub(crate) fn main() -> ExitCode {
    let options = Options::parse();
    let ended = match &options.inside {
        Some(folder) => inside(&options, folder),
        None => outside(options),
    };
    ended.unwrap_or_else(|trouble| {
        eprintln!("kraft-chaos: {trouble}");
        ExitCode::FAILURE
    })
}

/// Waits for a run in namespaces, and keeps its folder if it failed.
fn outside(mut options: Options) -> Result<ExitCode, Trouble> {
    let seed = seed(options.seed)?;
    options.seed = Some(seed);
    println!("KRAFT_SEED={seed}");
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .map_err(|error| Trouble::new(format!("signals cannot be caught: {error}")))?;
    }
    let user = match namespaces() {
        Ok(user) => user,
        Err(why) => return skipped(&options, &why),
    };
    let folder = make_folder(&options.folder)?;
    let status = wait(start(&options, user, &folder)?, &interrupted)?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    let verdict = match (options.plant, code) {
        (None, 0) => Ok("all is as it should be"),
        (Some(_), VIOLATED) => Ok("the planted defect was found, as it has to be"),
        (_, SKIPPED) => {
            remove(&folder)?;
            return Ok(ExitCode::from(SKIPPED));
        }
        (Some(_), 0) => Err("a planted defect was NOT found"),
        _ => Err("this run is not good"),
    };
    match verdict {
        Ok(what) => {
            println!("kraft-chaos: {what}");
            if options.keep {
                println!("kraft-chaos: kept: {}", folder.display());
                return Ok(ExitCode::SUCCESS);
            }
            remove(&folder)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(_) if interrupted.load(Ordering::Relaxed) => {
            remove(&folder)?;
            Ok(ExitCode::FAILURE)
        }
        Err(what) => {
            eprintln!("kraft-chaos: {what}");
            eprintln!("kraft-chaos: kept: {}", folder.display());
            eprintln!("kraft-chaos: again: {}", command(&options, seed));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// A new folder of this process's, beside what earlier runs kept.
fn make_folder(within: &Path) -> Result<PathBuf, Trouble> {
    fs::create_dir_all(within).map_err(|error| Trouble::at(within, &error))?;
    let within = fs::canonicalize(within).map_err(|error| Trouble::at(within, &error))?;
    check_folder(&within)?;
    let mut count = 1;
    loop {
        let folder = within.join(format!("run-{}-{count}", process::id()));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            // Of a process that had this number before.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && count < 1000 => count += 1,
            Err(error) => return Err(Trouble::at(&folder, &error)),
        }
    }
}

/// Whether all parts of a run find this folder.
///
/// # Errors
///
/// They do not, for this reason.
fn check_folder(folder: &Path) -> Result<(), Trouble> {
    let why = if folder.to_str().is_none() {
        "its name is not in UTF-8, and has to be handed to other programs"
    } else if folder.starts_with(NAMES) {
        "a run covers what is there with a file system of its own"
    } else {
        return Ok(());
    };
    Err(Trouble::new(format!(
        "{}: {why}: name another with --folder",
        folder.display()
    )))
}

fn remove(folder: &Path) -> Result<(), Trouble> {
    fs::remove_dir_all(folder).map_err(|error| Trouble::at(folder, &error))
}

/// The run itself, as process 1 of its namespace.
///
/// # Errors
///
/// This is another process: the mounts and the rules for packets would be the machine's own.
fn inside(options: &Options, folder: &Path) -> Result<ExitCode, Trouble> {
    if process::id() != 1 {
        return Err(Trouble::new(
            "--inside is for the process that this program starts in namespaces of its own: leave it away",
        ));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    // The process outside holds the other end and never writes: its end is the order to stop.
    thread::spawn(move || {
        let _ = io::stdin().read(&mut [0]);
        seen.store(true, Ordering::Relaxed);
    });
    Ok(match run::run(options, folder, &stop) {
        Ok(Ending::Good) => ExitCode::SUCCESS,
        Ok(Ending::Impossible(why)) => {
            let _ = skipped(options, &why);
            ExitCode::from(SKIPPED)
        }
        Ok(Ending::Violated(why)) => {
            eprintln!("kraft-chaos: VIOLATED: {why}");
            ExitCode::from(VIOLATED)
        }
        Err(trouble) => {
            eprintln!("kraft-chaos: FAILED: {trouble}");
            ExitCode::FAILURE
        }
    })
}

fn seed(given: Option<u64>) -> Result<u64, Trouble> {
    if let Some(seed) = given {
        return Ok(seed);
    }
    match env::var("KRAFT_SEED") {
        Ok(text) => text
            .parse()
            .map_err(|error| Trouble::new(format!("KRAFT_SEED is {text:?}: {error}"))),
        Err(_) => Ok(fastrand::u64(..)),
    }
}

/// How namespaces are made here: as who we are, or as root of a user namespace, which has fewer rights.
fn namespaces() -> Result<&'static [&'static str], String> {
    let mut said = String::new();
    for user in [&[][..], &["--user", "--map-root-user"]] {
        let tried = Command::new("unshare")
            .args(user)
            .args(NAMESPACES)
            .arg("true")
            .stdin(Stdio::null())
            .output();
        match tried {
            Ok(output) if output.status.success() => return Ok(user),
            Ok(output) => said = String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => said = format!("unshare: {error}"),
        }
    }
    Err(said)
}

fn start(options: &Options, user: &[&str], folder: &Path) -> Result<Child, Trouble> {
    let own = env::current_exe().map_err(|error| Trouble::new(format!("this program: {error}")))?;
    let mut command = Command::new("unshare");
    command.args(user).args(NAMESPACES).arg(own);
    if let Some(kraftd) = &options.kraftd {
        command.arg("--kraftd").arg(kraftd);
    }
    command.arg("--seconds").arg(options.seconds.to_string());
    command.arg("--seed").arg(options.seed.unwrap_or_default().to_string());
    command.arg("--inside").arg(folder);
    if let Some(file) = &options.left_out {
        command.arg("--left-out").arg(file);
    }
    if options.plant.is_some() {
        command.arg("--plant").arg("rollback");
    }
    // A terminal's ^C is for this process alone: the run stops in its own order.
    command.stdin(Stdio::piped()).process_group(0);
    command
        .spawn()
        .map_err(|error| Trouble::new(format!("unshare: {error}")))
}

/// Waits for its end; interrupted, it tells the run to stop, and kills it if it does not.
fn wait(mut child: Child, interrupted: &AtomicBool) -> Result<ExitStatus, Trouble> {
    let cannot = |error: io::Error| Trouble::new(format!("waiting for the run: {error}"));
    let mut stdin = child.stdin.take();
    let mut patience = None;
    loop {
        if let Some(status) = child.try_wait().map_err(cannot)? {
            return Ok(status);
        }
        if interrupted.load(Ordering::Relaxed) && stdin.take().is_some() {
            eprintln!("kraft-chaos: interrupted; stopping the nodes");
            patience = Some(Instant::now() + STOP_TIMEOUT);
        }
        if patience.is_some_and(|until| Instant::now() > until) {
            child.kill().map_err(cannot)?;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn skipped(options: &Options, why: &str) -> Result<ExitCode, Trouble> {
    println!("kraft-chaos: SKIPPED: {why}");
    if let Some(file) = &options.left_out {
        fs::write(file, format!("all of it ({why})\n")).map_err(|error| Trouble::at(file, &error))?;
    }
    Ok(ExitCode::from(SKIPPED))
}

fn command(options: &Options, seed: u64) -> String {
    let mut shown = format!(
        "KRAFT_SEED={seed} cargo run --release -p kraft-chaos -- --seconds {}",
        options.seconds
    );
    if let Some(kraftd) = &options.kraftd {
        shown.push_str(&format!(" --kraftd {}", kraftd.display()));
    }
    if options.plant.is_some() {
        shown.push_str(" --plant rollback");
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_folder_that_a_run_would_not_find_is_refused() {
        let is_good = |folder: &[u8]| check_folder(Path::new(OsStr::from_bytes(folder))).is_ok();
        assert!(is_good(b"/home/me/runs") && is_good(b"/running"));
        assert!(!is_good(b"/run") && !is_good(b"/run/me") && !is_good(b"/home/\xff"));
    }

    #[test]
    fn nothing_is_done_to_the_machine_itself() {
        // No run comes far with it, whoever begins one.
        let folder = Path::new("/nonexistent/run");
        let options = Options::parse_from(["kraft-chaos", "--inside", "/nonexistent/run"]);
        let refused = inside(&options, folder).expect_err("a test is not process 1");
        assert!(refused.to_string().starts_with("--inside"), "{refused}");
    }
}
