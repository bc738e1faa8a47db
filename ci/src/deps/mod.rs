//! What depends on what, and the rules of the source that no tool checks.

mod deny;
mod documents;
mod rules;
mod tree;

use crate::command::Failure;
use crate::source;
use crate::steps::Outcome;

/// The step `deps`. Finds all that is wrong before it fails, but for cargo-deny, which is last.
pub(crate) fn run() -> Result<Outcome, Failure> {
    tree::fetch()?;
    let mut problems = tree::problems()?;
    let sources = source::all()?;
    problems.extend(rules::problems(&sources));
    problems.extend(documents::problems(&sources)?);
    for problem in &problems {
        println!("ci: {problem}");
    }
    if !problems.is_empty() {
        return Err(Failure::new(format!("{} problems, listed above", problems.len())));
    }
    println!("ci: {} Rust files keep the rules", sources.len());
    deny::run()
}
