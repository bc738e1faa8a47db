//! Makes a failing run smaller, so that it can be read.

use std::time::Duration;

use kraft_core::time::Instant;

use super::{Faults, Options, Violation, run};

/// How many runs it may take.
const RUNS_MAX: usize = 64;

/// Runs a failing run again with kinds of faults left out one by one, and with less time, for as long as it still
/// fails by the same law. Returns the smallest failure. Asks `goes_on` before each attempt; where it says no it ends with what
/// it has.
pub fn shrink(violation: Box<Violation>, mut goes_on: impl FnMut(&Options) -> bool) -> Box<Violation> {
    let broken = law(&violation.what).to_owned();
    let mut smallest = violation;
    let mut runs = 0;
    let mut attempt = |options: &Options| {
        if runs == RUNS_MAX || !goes_on(options) {
            return None;
        }
        runs += 1;
        run(options).err().filter(|found| law(&found.what) == broken)
    };
    cut(&mut smallest, &mut attempt);
    // What is left out first may be needed only because of what is left out later: until nothing changes.
    loop {
        let before = smallest.options.kinds();
        for kind in before.iter() {
            let left = smallest.options.kinds();
            let fewer = Options {
                faults: Faults::These(left.without(kind)),
                ..smallest.options.clone()
            };
            if let Some(found) = attempt(&fewer) {
                smallest = found;
            }
        }
        cut(&mut smallest, &mut attempt);
        if smallest.options.kinds() == before {
            return smallest;
        }
    }
}

/// What a complaint begins with: the law, if it is of one.
fn law(what: &str) -> &str {
    what.split_once(':').map_or(what, |(law, _)| law)
}

/// Ends the faults earlier: at the violation, or at a part of the time before it.
fn cut(smallest: &mut Box<Violation>, attempt: &mut impl FnMut(&Options) -> Option<Box<Violation>>) {
    for _ in 0..4 {
        let at = smallest.at - Instant::ZERO;
        let span = smallest.options.span;
        // Whole milliseconds, as the command says them.
        let whole = |span: Duration| Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX) + 1);
        let shorter = if at < span { whole(at) } else { whole(span / 2) };
        if shorter >= span {
            return;
        }
        let less = Options {
            span: shorter,
            ..smallest.options.clone()
        };
        match attempt(&less) {
            Some(found) => *smallest = found,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Kind, Kinds, Mode};

    #[test]
    fn what_does_not_matter_is_left_out() {
        // A bound that no cluster can meet is broken whatever else happens.
        let options = Options {
            seed: 3,
            faults: Faults::These(Kinds::of(&[Kind::Reset, Kind::Pause])),
            span: Duration::from_secs(2),
            mode: Mode::Liveness,
            heal_max: Duration::ZERO,
            ..Options::default()
        };
        let violation = run(&options).expect_err("nobody commits in no time");
        let as_it_was = shrink(violation.clone(), |_| false);
        assert_eq!(as_it_was.options, violation.options, "nobody wants less");
        let shrunk = shrink(violation, |_| true);
        assert_eq!(shrunk.options.faults, Faults::NONE);
        assert!(shrunk.options.span <= options.span, "{:?}", shrunk.options);
        assert!(shrunk.what.starts_with("R9"), "{shrunk}");
        assert_eq!(run(&shrunk.options).expect_err("it is the same run").what, shrunk.what);
    }
}
