//! Fuzzers, for half a minute each: whether anything turns up that the kept inputs do not show.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use crate::command::{Failure, output, run as run_program};
use crate::steps::Outcome;
use crate::tools;

/// The crate, a workspace of its own.
const FOLDER: &str = "fuzz";

/// Where it is built, and where what is found by the way is collected from run to run.
const BUILT: &str = "target/fuzz";

/// Seconds for each target.
const SECONDS: &str = "30";

/// An input that takes longer, also on a busy machine, hangs; memory beyond this is none that a short input may cost.
const BOUNDS: &str = "-timeout=30 -rss_limit_mb=2048 -max_len=4096 -print_final_stats=1 -verbosity=0";

/// Runs every program of `fuzz/fuzz_targets`, from the inputs in `fuzz/corpus` and those of earlier runs. `fuzz/README.md`
/// says how to go on with a find, and how to run for longer.
///
/// # Errors
///
/// A target found something, or could not be built.
pub(crate) fn run() -> Result<Outcome, Failure> {
    let path = match prepare() {
        Ok(path) => path,
        Err(failure) => {
            println!("ci: ======== SKIPPED: NOTHING is fuzzed: {failure}");
            return Ok(Outcome::Skipped(format!("fuzzing ({failure})")));
        }
    };
    let variables = [("PATH", path.as_str())];
    let cargo_fuzz = |what: &str| format!("run nightly cargo fuzz {what} --fuzz-dir {FOLDER} --target-dir {BUILT}");
    run_program("rustup", &variables, &words(&cargo_fuzz("build")))?;
    let mut found = Vec::new();
    for name in targets()? {
        let collected = format!("{BUILT}/corpus/{name}");
        fs::create_dir_all(&collected).map_err(|error| Failure::new(format!("{collected}: {error}")))?;
        let artifacts = format!("{FOLDER}/artifacts/{name}");
        let before = written(&artifacts);
        let command = format!(
            "{} {name} {collected} {FOLDER}/corpus/{name} -- -max_total_time={SECONDS} {BOUNDS}",
            cargo_fuzz("run")
        );
        if let Err(failure) = run_program("rustup", &variables, &words(&command)) {
            let new = found_since(&before, &written(&artifacts));
            for input in &new {
                println!("ci: found by {name}: {input}; cargo +nightly fuzz run {name} {input} replays it");
            }
            match new.is_empty() {
                true => return Err(failure),
                false => found.extend(new),
            }
        }
    }
    match found.is_empty() {
        true => Ok(Outcome::Passed),
        false => Err(Failure::new(format!(
            "found: {}; {FOLDER}/README.md says how to go on",
            found.join(", ")
        ))),
    }
}

/// The tools. The search path on which cargo finds them.
fn prepare() -> Result<String, Failure> {
    // libFuzzer is C++.
    output("c++", &["--version"]).map_err(|failure| Failure::new(format!("no C++ compiler: {failure}")))?;
    if output("rustup", &words("run nightly rustc --version")).is_err() {
        println!("ci: rustup's nightly is missing; installing it");
        run_program("rustup", &[], &words("toolchain install nightly --profile minimal"))?;
    }
    tools::ensure("cargo-fuzz")
}

/// The names of all targets.
fn targets() -> Result<BTreeSet<String>, Failure> {
    let folder = format!("{FOLDER}/fuzz_targets");
    let names = names(Path::new(&folder)).map_err(|error| Failure::new(format!("{folder}: {error}")))?;
    Ok(names
        .iter()
        .filter_map(|name| name.strip_suffix(".rs"))
        .map(str::to_owned)
        .collect())
}

/// What a target has found so far, by path, and when that was.
fn written(folder: &str) -> BTreeMap<String, Option<SystemTime>> {
    // Without a find there is no folder.
    let names = names(Path::new(folder)).unwrap_or_default();
    let paths = names.iter().map(|name| format!("{folder}/{name}"));
    paths
        .map(|path| {
            let at = fs::metadata(&path).and_then(|file| file.modified()).ok();
            (path, at)
        })
        .collect()
}

/// What was found between the two. An input that was found before has the same name, its checksum, and is written again.
fn found_since(
    before: &BTreeMap<String, Option<SystemTime>>,
    after: &BTreeMap<String, Option<SystemTime>>,
) -> Vec<String> {
    let new = after.iter().filter(|(path, at)| before.get(*path) != Some(at));
    new.map(|(path, _)| path.clone()).collect()
}

fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

fn words(command: &str) -> Vec<&str> {
    command.split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_found_before_is_found_again() {
        let folder = std::env::temp_dir().join(format!("kraft-ci-fuzz-{}", std::process::id()));
        let shown = folder.to_str().expect("it is a text").to_owned();
        assert!(written(&shown).is_empty(), "there is no folder yet");
        fs::create_dir_all(&folder).expect("there is room");
        for name in ["crash-1", "crash-2"] {
            let file = fs::File::create(folder.join(name)).expect("there is room");
            let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
            file.set_modified(long_ago).expect("it is ours");
        }
        let before = written(&shown);
        assert!(found_since(&before, &written(&shown)).is_empty());
        for name in ["crash-2", "crash-3"] {
            fs::write(folder.join(name), b"input").expect("there is room");
        }
        let found = found_since(&before, &written(&shown));
        fs::remove_dir_all(&folder).expect("it is ours");
        assert_eq!(found, ["crash-2", "crash-3"].map(|name| format!("{shown}/{name}")));
    }
}
