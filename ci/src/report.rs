//! The table that closes a run: every step, its minutes, how it ended.

use std::time::{Duration, Instant};

use crate::command::Failure;
use crate::steps::{Outcome, Step};

/// How the steps of a run ended, in their order.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: &'static str,
    took: Duration,
    ending: String,
}

impl Report {
    /// Runs a step and notes how long it took and how it ended.
    ///
    /// # Errors
    ///
    /// The step's.
    pub(crate) fn time(&mut self, step: &Step) -> Result<(), Failure> {
        let start = Instant::now();
        let outcome = (step.run)();
        let took = start.elapsed();
        let ending = match &outcome {
            Ok(Outcome::Passed) => "ok".to_owned(),
            Ok(Outcome::Skipped(what)) => format!("ok, but SKIPPED: {what}"),
            Err(failure) => format!("FAILED: {failure}"),
        };
        println!("ci: {} took {} minutes", step.name, minutes(took));
        self.rows.push(Row {
            name: step.name,
            took,
            ending,
        });
        outcome.map(|_| ())
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        println!();
        println!("{}", self.table());
    }

    fn table(&self) -> String {
        let mut table = format!("{:<11}{:>8}  outcome", "step", "minutes");
        for row in &self.rows {
            table.push_str(&format!("\n{:<11}{:>8}  {}", row.name, minutes(row.took), row.ending));
        }
        let total = self.rows.iter().map(|row| row.took).sum();
        table.push_str(&format!("\n{:<11}{:>8}", "total", minutes(total)));
        table
    }
}

fn minutes(took: Duration) -> String {
    format!("{:.2}", took.as_secs_f64() / 60.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_step_up_to_the_failure() {
        let steps = [
            step("fmt", || Ok(Outcome::Passed)),
            step("deps", || Ok(Outcome::Skipped("cargo-deny".to_owned()))),
            step("test", || Err(Failure::new("`cargo test`: exit status: 101"))),
        ];
        let mut report = Report::default();
        let failed: Vec<bool> = steps.iter().map(|step| report.time(step).is_err()).collect();
        assert_eq!(failed, [false, false, true]);
        let endings: Vec<&str> = report.rows.iter().map(|row| row.ending.as_str()).collect();
        assert_eq!(
            endings,
            [
                "ok",
                "ok, but SKIPPED: cargo-deny",
                "FAILED: `cargo test`: exit status: 101"
            ]
        );
        assert_eq!(report.table().lines().count(), 5);
    }

    fn step(name: &'static str, run: fn() -> Result<Outcome, Failure>) -> Step {
        Step { name, what: "", run }
    }
}
