//! Chooses what is kept of the inputs that long runs collected in `target/fuzz/corpus`, after `cargo fuzz cmin` has made
//! them few: `cargo run -p kraft-fuzz-targets --example grown`.
//!
//! Of each size some are taken, up to [`KEPT`], and named `grown-*`; those that were kept before go.

use std::fs;
use std::path::{Path, PathBuf};

use kraft_fuzz_targets::TARGETS;

/// Inputs of a target.
const KEPT: usize = 30;

/// Longer ones say the same at length.
const BYTES_MAX: u64 = 1500;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (name, target) in TARGETS {
        let collected = root.join("target/fuzz/corpus").join(name);
        let kept = root.join("fuzz/corpus").join(name);
        for former in files(&kept) {
            let is_grown = former
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("grown-"));
            if is_grown {
                fs::remove_file(&former).unwrap_or_else(|error| panic!("{}: {error}", former.display()));
            }
        }
        let mut inputs: Vec<_> = files(&collected)
            .into_iter()
            .filter_map(|path| Some((fs::metadata(&path).ok()?.len(), path)))
            .filter(|(bytes, _)| *bytes <= BYTES_MAX)
            .collect();
        inputs.sort();
        let step = inputs.len().div_ceil(KEPT).max(1);
        for (at, (_, path)) in inputs.iter().rev().step_by(step).enumerate() {
            let input = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            target(&input);
            let to = kept.join(format!("grown-{at:02}"));
            fs::write(&to, input).unwrap_or_else(|error| panic!("{}: {error}", to.display()));
        }
        println!("{name}: {} of {}", inputs.len().div_ceil(step), inputs.len());
    }
}

/// The files of a folder; none if it is not there.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
