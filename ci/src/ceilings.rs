//! Counts that are held against ceilings which are kept in the tree.

use std::collections::BTreeMap;
use std::{env, fs};

use crate::command::Failure;
use crate::steps::Outcome;

/// Counts, by name.
pub(crate) type Counts = BTreeMap<String, f64>;

/// A count that is held against the ceiling of another one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bound {
    pub(crate) name: String,
    pub(crate) count: f64,
    pub(crate) ceiling: String,
}

/// A file of what was counted when it was last found to be right: a line a count, behind a head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ceilings {
    pub(crate) path: &'static str,
    /// What it says of itself.
    pub(crate) head: &'static str,
    /// How many decimals counts have.
    pub(crate) decimals: usize,
    /// A count may be so many hundredths above its ceiling.
    pub(crate) slack: u32,
    /// What is written is the next whole number, unless a count is above one by no more than this.
    pub(crate) above: f64,
    /// Names that begin so are of counts that depend on time: what is written of them is no less than what was there.
    pub(crate) rising: Option<&'static str>,
}

impl Ceilings {
    /// Holds `counts` against the file, and what is `bound` by one of its ceilings; with `KRAFT_REWRITE=1` the counts are
    /// written there, and what could not be counted here stays as it is.
    ///
    /// # Errors
    ///
    /// A count is above its ceiling, has none, is zero, or is gone and `is_missing` does not know it.
    pub(crate) fn hold(
        &self,
        counts: &Counts,
        bound: &[Bound],
        is_missing: &dyn Fn(&str) -> bool,
    ) -> Result<Outcome, Failure> {
        let Self { path, .. } = self;
        let failed = |error| Failure::new(format!("{path}: {error}"));
        let text = fs::read_to_string(path).map_err(failed)?;
        let (missing, ceilings): (Counts, Counts) =
            self.parse(&text)?.into_iter().partition(|(name, _)| is_missing(name));
        if env::var_os("KRAFT_REWRITE").is_some_and(|value| value == "1") {
            let counts = counts.clone().into_iter().chain(missing).collect();
            fs::write(path, self.text(&self.risen(counts, &ceilings))).map_err(failed)?;
            return Ok(Outcome::Passed);
        }
        let problems = self.problems(counts, bound, &ceilings);
        for problem in &problems {
            println!("ci: {problem}");
        }
        if problems.is_empty() {
            return Ok(Outcome::Passed);
        }
        Err(Failure::new(format!(
            "{} counts are not what {path} has; where they are right, `KRAFT_REWRITE=1` records them",
            problems.len()
        )))
    }

    /// What depends on time is at least what it was.
    fn risen(&self, mut counts: Counts, before: &Counts) -> Counts {
        let is_rising = |name: &str| self.rising.is_some_and(|rising| name.starts_with(rising));
        for (name, count) in counts.iter_mut().filter(|(name, _)| is_rising(name)) {
            *count = before.get(name).map_or(*count, |before| before.max(*count));
        }
        counts
    }

    /// The file of these counts.
    fn text(&self, counts: &Counts) -> String {
        let head = self.head.lines().map(|line| format!("# {line}\n"));
        let lines = counts
            .iter()
            .map(|(name, count)| format!("{name} {}\n", (count - self.above).ceil()));
        head.chain(lines).collect()
    }

    fn parse(&self, text: &str) -> Result<Counts, Failure> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
        let counts = lines.map(|(at, line)| {
            let count = line
                .rsplit_once(' ')
                .and_then(|(name, count)| Some((name.to_owned(), count.parse().ok()?)));
            count.ok_or_else(|| Failure::new(format!("{}:{}: no name and count", self.path, at + 1)))
        });
        counts.collect()
    }

    /// Counts that are not what they were, or not what they are bound by.
    fn problems(&self, counts: &Counts, bound: &[Bound], ceilings: &Counts) -> Vec<String> {
        let own = counts.iter().map(|(name, count)| (name, *count, name));
        let others = bound.iter().map(|bound| (&bound.name, bound.count, &bound.ceiling));
        let judged = own.chain(others).filter_map(|(name, count, of)| {
            let shown = self.shown(count);
            // What counts nothing was not counted, or not run.
            if count <= 0.0 {
                return Some(format!("{name}: {shown}, which cannot be"));
            }
            let Some(&ceiling) = ceilings.get(of) else {
                return Some(format!("{name}: {shown}, and no ceiling"));
            };
            let slack = ceiling * f64::from(self.slack) / 100.0;
            let at = self.shown(ceiling);
            if count < ceiling - slack && of == name {
                println!("ci: {name}: {shown}, below {at}: the ceiling can be lowered");
            }
            let whose = if of == name { String::new() } else { format!(" ({of})") };
            (count > ceiling + slack)
                .then(|| format!("{name}: {shown}, above {at}{whose} by more than {} %", self.slack))
        });
        let gone = ceilings.keys().filter(|name| !counts.contains_key(*name));
        let gone = gone.map(|name| format!("{name}: has a ceiling, and was not counted"));
        judged.chain(gone).collect()
    }

    fn shown(&self, count: f64) -> String {
        format!("{count:.*}", self.decimals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Ceilings = Ceilings {
        path: "counts/whole.txt",
        head: "Whole.\nOf a test.",
        decimals: 0,
        slack: 5,
        above: 0.0,
        rising: None,
    };

    const PARTS: Ceilings = Ceilings {
        path: "counts/parts.txt",
        decimals: 2,
        slack: 10,
        above: 0.1,
        rising: Some("busy"),
        ..WHOLE
    };

    fn counts(all: &[(&str, f64)]) -> Counts {
        all.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
    }

    #[test]
    fn a_count_above_its_ceiling_is_a_problem() {
        let ceilings = counts(&[("a", 1000.0), ("b", 10.0)]);
        let check = |all: &[(&str, f64)], expected: &[&str]| {
            assert_eq!(WHOLE.problems(&counts(all), &[], &ceilings), expected);
        };
        check(&[("a", 1050.0), ("b", 10.0)], &[]);
        check(&[("a", 1.0), ("b", 10.0)], &[]);
        check(&[("a", 1051.0), ("b", 10.0)], &["a: 1051, above 1000 by more than 5 %"]);
        check(
            &[("a", 1000.0), ("c", 10.0)],
            &["c: 10, and no ceiling", "b: has a ceiling, and was not counted"],
        );
        check(&[("a", 1000.0), ("b", 0.0)], &["b: 0, which cannot be"]);
    }

    #[test]
    fn a_count_may_be_bound_by_another_s_ceiling() {
        let lone = counts(&[("lone", 3.0)]);
        let check = |count, expected: &[&str]| {
            let (name, ceiling) = ("among others".to_owned(), "lone".to_owned());
            let bound = [Bound { name, count, ceiling }];
            assert_eq!(PARTS.problems(&lone, &bound, &lone), expected);
        };
        check(0.25, &[]);
        check(3.3, &[]);
        check(3.4, &["among others: 3.40, above 3.00 (lone) by more than 10 %"]);
        check(0.0, &["among others: 0.00, which cannot be"]);
    }

    #[test]
    fn what_depends_on_time_does_not_fall() {
        let before = counts(&[("busy, a", 11.0), ("busy, b", 7.0), ("lone", 3.0)]);
        let counted = counts(&[("busy, a", 8.4), ("busy, b", 7.4), ("busy, c", 2.0), ("lone", 2.0)]);
        let expected = counts(&[("busy, a", 11.0), ("busy, b", 7.4), ("busy, c", 2.0), ("lone", 2.0)]);
        assert_eq!(PARTS.risen(counted.clone(), &before), expected);
        assert_eq!(WHOLE.risen(counted.clone(), &before), counted);
    }

    #[test]
    fn what_is_written_is_read() {
        let whole = counts(&[("formats/binary_encode/batch", 9_900.0), ("timers/start", 40.0)]);
        let text = WHOLE.text(&whole);
        assert!(
            text.starts_with("# Whole.\n# Of a test.\nformats/binary_encode/batch 9900\n"),
            "{text}"
        );
        assert_eq!(WHOLE.parse(&text), Ok(whole));
        let parts = [("a, b", 4.25), ("c", 3.01), ("d", 2.98), ("e", 3.2)];
        let whole = [("a, b", 5.0), ("c", 3.0), ("d", 3.0), ("e", 4.0)];
        assert_eq!(PARTS.parse(&PARTS.text(&counts(&parts))), Ok(counts(&whole)));
        let failure = PARTS.parse("# head\nnonsense\n").expect_err("there is no count");
        assert_eq!(failure.to_string(), "counts/parts.txt:2: no name and count");
    }
}
