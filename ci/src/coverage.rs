//! Which lines of Raft the simulator reaches: by whole nodes, which is what counts, and with clusters of Raft alone beside.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::command::{Failure, cargo_output, output, run as run_program};
use crate::steps::Outcome;

/// Where everything of this step stands.
const FOLDER: &str = "target/coverage";

/// What is looked at.
const SOURCE: &str = "kraft-core/src/raft/";

/// Of a hundred lines, by whole nodes alone.
const LINES_MIN: f64 = 95.0;

/// Seeds of each of the simulator's tests.
const SEEDS: &str = "100";

/// What simulates: a name, the crate whose tests do it, and those tests.
type Simulator = (&'static str, &'static str, &'static [&'static str]);

const WHOLE_NODES: Simulator = ("nodes", "kraft-raft", &["sim::"]);

/// Clusters of Raft alone, in bad weather and while members change.
const RAFT_ALONE: Simulator = ("raft", "kraft-core", &["random::", "members_weather::"]);

/// How often each line of a file was reached.
type Lines = BTreeMap<u32, u64>;

/// Runs the simulator's tests in a build that counts, and prints what they do not reach.
///
/// # Errors
///
/// Less is reached than should be.
pub(crate) fn run() -> Result<Outcome, Failure> {
    if let Err(failure) = run_program("rustup", &[], &["component", "add", "llvm-tools"]) {
        println!("ci: ======== SKIPPED: NO line of Raft is counted: {failure}");
        return Ok(Outcome::Skipped(format!(
            "lines that the simulator reaches ({failure})"
        )));
    }
    let nodes = reached_by(WHOLE_NODES)?;
    let alone = reached_by(RAFT_ALONE)?;
    judge(&nodes, &alone)
}

/// Runs the tests of one of them.
fn reached_by((name, package, tests): Simulator) -> Result<BTreeMap<String, Lines>, Failure> {
    let profiles = format!("{FOLDER}/profiles/{name}");
    if Path::new(&profiles).exists() {
        fs::remove_dir_all(&profiles).map_err(|error| Failure::new(format!("{profiles}: {error}")))?;
    }
    let here = std::env::current_dir().map_err(|error| Failure::new(format!("the working folder: {error}")))?;
    let counts = format!("{}/{profiles}/%p-%m.profraw", here.display());
    // What the build itself counts is nothing to us.
    let built = format!("{}/{FOLDER}/profiles/build/%p-%m.profraw", here.display());
    let mut variables = [
        ("RUSTFLAGS", "-Cinstrument-coverage"),
        ("CARGO_TARGET_DIR", FOLDER),
        ("CARGO_PROFILE_RELEASE_LTO", "off"),
        ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
        ("KRAFT_SEEDS", SEEDS),
        ("LLVM_PROFILE_FILE", built.as_str()),
    ];
    let build = format!("test --locked --release -p {package} --test it --no-run --message-format=json");
    let messages = cargo_output(&variables, &words(&build))?;
    let program = executable(&messages).ok_or_else(|| Failure::new("cargo does not say which program it built"))?;
    variables[variables.len() - 1].1 = &counts;
    run_program(program, &variables, tests)?;
    let folder = tools()?;
    let merged = format!("{FOLDER}/{name}.profdata");
    let merge = ["merge", "--sparse", &profiles, "-o", &merged];
    run_program(&format!("{folder}/llvm-profdata"), &[], &merge)?;
    let profile = format!("--instr-profile={merged}");
    let export = ["export", "--format=lcov", &profile, "--object", program];
    let report = output(&format!("{folder}/llvm-cov"), &export)?;
    Ok(files(&report))
}

fn words(command: &str) -> Vec<&str> {
    command.split_whitespace().collect()
}

/// The test program, of what cargo says in JSON.
fn executable(messages: &str) -> Option<&str> {
    let mut lines = messages.lines().rev();
    let (_, rest) = lines.find_map(|line| line.split_once("\"executable\":\""))?;
    rest.split('"').next()
}

/// Where the toolchain keeps its llvm-tools.
fn tools() -> Result<String, Failure> {
    let place = output("rustc", &["--print", "target-libdir"])?;
    let folder = Path::new(place.trim()).parent().map(|parent| parent.join("bin"));
    let folder = folder.ok_or_else(|| Failure::new("rustc does not say where its libraries are"))?;
    Ok(folder.display().to_string())
}

/// The files that are looked at, of a report in the form of lcov.
fn files(report: &str) -> BTreeMap<String, Lines> {
    let mut files: BTreeMap<String, Lines> = BTreeMap::new();
    let mut file = None;
    for line in report.lines() {
        if let Some(path) = line.strip_prefix("SF:") {
            file = path.find(SOURCE).map(|at| path[at..].to_owned());
        } else if let (Some(count), Some(file)) = (line.strip_prefix("DA:"), &file)
            && let Some((line, count)) = count.split_once(',')
            && let (Ok(line), Ok(count)) = (line.parse(), count.parse())
        {
            let seen: &mut u64 = files.entry(file.clone()).or_default().entry(line).or_default();
            *seen = (*seen).max(count);
        }
    }
    files
}

/// Prints what whole nodes do not reach, with a mark where clusters of Raft alone do.
fn judge(nodes: &BTreeMap<String, Lines>, alone: &BTreeMap<String, Lines>) -> Result<Outcome, Failure> {
    let (mut all, mut reached, mut with_alone) = (0, 0, 0);
    for (file, lines) in nodes {
        let source = fs::read_to_string(file).map_err(|error| Failure::new(format!("{file}: {error}")))?;
        let planted = planted(&source);
        let mut lines = lines.clone();
        lines.retain(|line, _| !planted.contains(line));
        let missed: Vec<_> = lines
            .iter()
            .filter(|(_, count)| **count == 0)
            .map(|(line, _)| *line)
            .collect();
        let is_by_alone = |line: &u32| {
            alone
                .get(file)
                .and_then(|of| of.get(line))
                .is_some_and(|count| *count > 0)
        };
        println!("{file}: {} of {} lines", lines.len() - missed.len(), lines.len());
        for line in &missed {
            let text = source.lines().nth(*line as usize - 1).unwrap_or_default();
            let mark = if is_by_alone(line) { '+' } else { ' ' };
            println!("{mark} {line:>4} {text}");
        }
        all += lines.len();
        reached += lines.len() - missed.len();
        with_alone += missed.iter().filter(|line| is_by_alone(line)).count();
    }
    if all == 0 {
        return Err(Failure::new(format!("nothing of {SOURCE} was counted")));
    }
    let percent = |lines: usize| 100.0 * lines as f64 / all as f64;
    let by_nodes = percent(reached);
    println!("{SOURCE}: whole nodes reach {reached} of {all} lines, {by_nodes:.1} %");
    let both = reached + with_alone;
    println!(
        "{SOURCE}: with clusters of Raft alone, by which those marked + are reached: {both}, {:.1} %",
        percent(both)
    );
    match by_nodes >= LINES_MIN {
        true => Ok(Outcome::Passed),
        false => Err(Failure::new(format!(
            "whole nodes, simulated, reach {by_nodes:.1} % of the lines of {SOURCE}, at least {LINES_MIN} % they should"
        ))),
    }
}

/// The lines of deliberate bugs, which no normal build reaches: where one is asked for, and what it does.
fn planted(source: &str) -> BTreeSet<u32> {
    let mut planted = BTreeSet::new();
    let mut lines = (1..).zip(source.lines());
    while let Some((line, text)) = lines.next() {
        if !text.contains("canary::is(") {
            continue;
        }
        planted.insert(line);
        let code = text.trim_start();
        let indent = text.len() - code.len();
        if code.starts_with("if ") || text.contains("= if canary::is(") {
            let ends = |text: &str| text.get(indent..).is_some_and(|rest| rest.starts_with('}'));
            let block = lines.by_ref().take_while(|(_, text)| !ends(text));
            planted.extend(block.map(|(line, _)| line));
        } else if text.contains("match canary::is(") {
            // What it does is the first arm, which is an expression on one line.
            let arm = lines
                .next()
                .filter(|(_, text)| text.trim_start().starts_with("true => "));
            planted.extend(arm.map(|(line, _)| line));
        }
    }
    planted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_deliberate_bugs_do_not_count() {
        let source = "fn f() {\n    if canary::is(A) {\n        if x {\n            a();\n        }\n    }\n    b();\n    \
                      let x = if canary::is(B) {\n        c()\n    } else {\n        d()\n    };\n    e || canary::is(C)\n}\n    let y = match canary::is(D) {\n        true => f(),\n        false => \
                      g(),\n    };\n";
        assert_eq!(
            planted(source).into_iter().collect::<Vec<_>>(),
            [2, 3, 4, 5, 8, 9, 13, 15, 16]
        );
    }

    #[test]
    fn a_line_is_reached_if_any_copy_of_its_function_is() {
        let report = "SF:/x/kraft-core/src/raft/mod.rs\nDA:1,0\nDA:2,7\nend_of_record\n\
                      SF:/x/kraft-core/src/log.rs\nDA:1,0\nend_of_record\n\
                      SF:/x/kraft-core/src/raft/mod.rs\nDA:1,3\nDA:3,0\nend_of_record\n";
        let lines = Lines::from([(1, 3), (2, 7), (3, 0)]);
        let expected = BTreeMap::from([("kraft-core/src/raft/mod.rs".to_owned(), lines)]);
        assert_eq!(files(report), expected);
    }

    #[test]
    fn the_program_is_the_last_that_was_built() {
        let messages = "{\"executable\":null}\n{\"name\":\"it\",\"executable\":\"/t/it-1\",\"fresh\":true}\n{}\n";
        assert_eq!(executable(messages), Some("/t/it-1"));
    }
}
