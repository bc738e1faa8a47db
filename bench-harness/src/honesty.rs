//! Whether the method is honest on this machine: it must find nothing between an engine and itself, and must find a
//! tenth where there is one.

use std::io::{self, Write};

use crate::cli::{Honesty, Run};
use crate::engines::{self, SLOW, STEADY};
use crate::faulty::TIMED_BYTES;
use crate::figures::{Figure, Verdict};
use crate::interrupt;
use crate::record::Record;
use crate::run;

/// In so many of twenty runs at least both answers must be right.
const RIGHT_OF_TWENTY: usize = 19;

/// What a run said of one contender.
struct Answer {
    is_right: bool,
    said: String,
}

/// Asks both questions again and again. Whether the answers were right often enough.
///
/// # Errors
///
/// Nothing can be measured.
pub(crate) fn ask(options: &Honesty, out: &mut impl Write) -> io::Result<bool> {
    let first = engines::all().find(|engine| engine.is_default());
    let named = options.engine.clone().or_else(|| Some(first?.name.to_owned()));
    let engine = named.ok_or_else(|| io::Error::other("no engine is built"))?;
    let twice = vec![engine.clone(), format!("{engine}#again")];
    let known = vec![STEADY.to_owned(), SLOW.to_owned()];
    let (mut alike, mut slower, mut asked) = (0, 0, 0);
    for repeat in 0..options.repeats {
        let seed = options.seed.map(|seed| seed.wrapping_add(repeat as u64));
        let measure = |engines: &[String], conns, depth| {
            let (record, _) = run::run(&Run {
                engines: engines.to_vec(),
                sizes: Some(vec![TIMED_BYTES]),
                conns: Some(vec![conns]),
                depth: Some(vec![depth]),
                rounds: Some(options.rounds),
                seconds: Some(options.seconds),
                seed,
                is_silent: true,
                ..Run::default()
            })?;
            Ok::<_, io::Error>(record)
        };
        let (same, tenth) = (measure(&twice, 64, 1)?, measure(&known, 1, 16)?);
        if interrupt::is_asked() {
            break;
        }
        let (same, tenth) = (judge(&same, Verdict::NotShown), judge(&tenth, Verdict::Worse));
        asked += 1;
        alike += usize::from(same.is_right);
        slower += usize::from(tenth.is_right);
        writeln!(out, "{asked:3}  {} | {}", same.said, tenth.said)?;
    }
    let needed = (asked * RIGHT_OF_TWENTY).div_ceil(20);
    writeln!(
        out,
        "no difference between {engine} and itself in {alike} of {asked}; a tenth found in {slower} of {asked}; asked: {needed}"
    )?;
    Ok(asked > 0 && alike >= needed && slower >= needed)
}

/// Whether a run of two says of the second what it should: nothing of any figure, or that it is slower.
fn judge(record: &Record, expected: Verdict) -> Answer {
    let row = record.cells.first().and_then(|cell| cell.rows.last());
    let comparisons = row.map_or(&[][..], |row| &row.comparisons);
    let of = |figure: Figure| comparisons.iter().find(|comparison| comparison.figure == figure);
    let rate = of(Figure::MessagesPerSecond);
    let is_right = match expected {
        Verdict::NotShown => rate.is_some() && comparisons.iter().all(|one| one.verdict == Verdict::NotShown),
        _ => rate.is_some_and(|rate| rate.verdict == expected),
    };
    let said = comparisons.iter().map(|one| {
        let interval = crate::report::interval(one.ratio.corrected);
        let words = one.figure.words(one.verdict);
        format!("{} {:.3} {interval} {words}", one.figure.noun(), one.ratio.ratio)
    });
    let fault = row.and_then(|row| row.fault.as_ref()).map(ToString::to_string);
    Answer {
        is_right,
        said: said.chain(fault).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;

    #[test]
    fn only_the_expected_answer_is_right() {
        let mut record = sample();
        record.cells[0].rows.truncate(2);
        let slower = judge(&record, Verdict::Worse);
        assert!(slower.is_right, "{}", slower.said);
        assert!(slower.said.contains("throughput 0.900"), "{}", slower.said);
        assert!(!judge(&record, Verdict::NotShown).is_right);
        // Who failed said nothing.
        record.cells[0].rows[1].comparisons.clear();
        assert!(!judge(&record, Verdict::NotShown).is_right && !judge(&record, Verdict::Worse).is_right);
    }
}
