//! The words and numbers of a page.

use std::fmt::Write;

use super::place;
use super::svg::escaped;
use crate::figures::{self, Figure, Verdict};
use crate::record::{Cell, Comparison, Record, Row};
use crate::report::{self, asked, interval, plain};
use crate::targets::Judged;

/// What it is, how it was measured, and how to read it.
pub(super) fn head(record: &Record, left_out: &[&str]) -> String {
    let (method, machine) = (&record.method, &record.machine);
    let mut text = format!(
        "<header><h1>Event loops against each other</h1><p class=\"soft\">kraft-bench on {}<br>{} rounds of {:.2} s behind {:.2} s of warm-up, in the \
         order of seed {}; {} comparisons with {:.0} % confidence, all together</p>",
        escaped(&machine.line()),
        method.rounds,
        method.measured_seconds,
        method.warm_up_seconds,
        method.seed,
        method.comparisons,
        method.confidence * 100.0
    );
    if !left_out.is_empty() {
        let what = left_out.join(", ");
        let _ = write!(
            text,
            "<p class=\"soft\">To keep this page small it leaves out {what}. results.json has everything.</p>"
        );
    }
    if record.interrupted {
        text += "<p class=\"warn\">The run was interrupted: rounds are missing.</p>";
    }
    for warning in &machine.warnings {
        let _ = write!(text, "<p class=\"warn\">{}</p>", escaped(warning));
    }
    text + "<details><summary>How to read it</summary>\
            <p>Every contender of a cell runs once in each round, as a process of its own. Ratios are those of a round, \
            to the baseline's figure of the same round. Of the rounds' ratios the geometric mean without the least and \
            greatest tenth is the diamond. The thick line is its 99 % interval, the thin one the interval for which all \
            comparisons of the run hold together with 99 %. A verdict needs the thin line to leave out 1: then the \
            diamond is filled. Otherwise no difference is shown, which is not the same as that there is none.</p>\
            <p>Every dot is a round. Medians stand in the tables. Blue and other colours are Kraft's backends, grey is \
            what they are held against.</p></details></header>"
}

/// How often each contender was faster, slower, or neither.
pub(super) fn summary(record: &Record) -> String {
    let mut contenders: Vec<(&str, [usize; 3])> = Vec::new();
    for cell in &record.cells {
        for row in &cell.rows {
            let first = cell.work.compared().first();
            let Some(comparison) = first.and_then(|figure| row.comparison(*figure)) else {
                continue;
            };
            let at = match comparison.verdict {
                Verdict::Better => 0,
                Verdict::NotShown => 1,
                Verdict::Worse => 2,
            };
            let found = contenders.iter().position(|(name, _)| *name == row.contender);
            let found = found.unwrap_or_else(|| {
                contenders.push((&row.contender, [0; 3]));
                contenders.len() - 1
            });
            contenders[found].1[at] += 1;
        }
    }
    if contenders.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "<p class=\"soft\">Cells in which a contender was held against its baseline.</p><table class=\"narrow\"><thead>\
         <tr><th>engine</th><th>better</th><th>no difference shown</th><th>worse</th></tr></thead><tbody>",
    );
    for (name, counts) in contenders {
        let _ = write!(text, "<tr><td>{}</td>", escaped(name));
        for count in counts {
            let _ = write!(text, "<td>{count}</td>");
        }
        text += "</tr>";
    }
    text + "</tbody></table>"
}

/// The medians of a cell, of these figures, and its ratios. Who failed stays, with the reason.
pub(super) fn cell(number: usize, cell: &Cell, figures: &[Figure]) -> String {
    let is_compared = |figure: &&Figure| cell.rows.iter().any(|row| row.comparison(**figure).is_some());
    let compared: Vec<Figure> = cell.work.compared().iter().filter(is_compared).copied().collect();
    let mut text = String::from("<table class=\"figures\"><thead><tr><th>engine</th>");
    for figure in figures {
        let _ = write!(text, "<th>{}</th>", figure.heading());
    }
    for figure in &compared {
        let _ = write!(text, "<th>{}, ratio</th>", figure.noun());
    }
    text += "</tr></thead><tbody>";
    for (at, row) in cell.rows.iter().enumerate() {
        let _ = write!(text, "<tr {}>", row_key(number, at));
        text += &self::row(row, figures, &compared);
    }
    text + "</tbody></table>"
}

/// What a row is found by.
pub(super) fn row_key(cell: usize, row: usize) -> String {
    format!("data-row=\"{cell}.{row}\"")
}

fn row(row: &Row, figures: &[Figure], compared: &[Figure]) -> String {
    let mut text = format!("<td>{}</td>", escaped(&row.contender));
    if let Some(fault) = &row.fault {
        let columns = figures.len() + compared.len();
        let _ = write!(
            text,
            "<td class=\"why\" colspan=\"{}\"><span class=\"warn\">{}</span></td></tr>",
            columns.max(1),
            escaped(&fault.to_string())
        );
        return text;
    }
    for figure in figures {
        text += &match row.median.get(figure) {
            Some(median) => median_cell(*figure, *median),
            None => format!("<td class=\"f{}\">–</td>", place(*figure)),
        };
    }
    for figure in compared {
        text += &match row.comparison(*figure) {
            Some(comparison) => ratio_cell(comparison),
            None => format!("<td class=\"r{}\">–</td>", place(*figure)),
        };
    }
    text + "</tr>"
}

/// Rules of style that put a heading at each number where a table has no room for columns.
pub(super) fn headings() -> String {
    let rules = figures::ALL.iter().enumerate().map(|(at, figure)| {
        let (heading, noun) = (figure.heading(), figure.noun());
        format!(".f{at}::before{{content:\"{heading}\"}}.r{at}::before{{content:\"{noun}, ratio\"}}")
    });
    format!("@media (max-width:820px){{{}}}", rules.collect::<String>())
}

/// A median in its column.
pub(super) fn median_cell(figure: Figure, median: f64) -> String {
    let (place, shown) = (place(figure), escaped(&figure.show(median)));
    format!("<td class=\"f{place}\">{shown}</td>")
}

/// A ratio, its interval and its verdict in their column.
pub(super) fn ratio_cell(comparison: &Comparison) -> String {
    let (place, text) = (place(comparison.figure), ratio_text(comparison));
    format!("<td class=\"r{place}\">{text}</td>")
}

fn ratio_text(comparison: &Comparison) -> String {
    let Comparison { figure, ratio, verdict } = comparison;
    let words = figure.words(*verdict);
    let interval = interval(ratio.corrected);
    if *verdict == Verdict::NotShown {
        format!("{:.3} <small>{interval}</small><small>{words}</small>", ratio.ratio)
    } else {
        format!(
            "<b>{:.3}</b> <small>{interval}</small><small><b>{words}</b></small>",
            ratio.ratio
        )
    }
}

/// What a table cannot say in a column.
pub(super) fn notes(cell: &Cell) -> String {
    let mut text = String::new();
    if let Some(trend) = &cell.drift {
        let class = if trend.drift.is_shown() { "warn" } else { "soft" };
        let word = if trend.drift.is_shown() {
            "Drift"
        } else {
            "No drift shown"
        };
        let _ = write!(
            text,
            "<p class=\"{class}\"><small class=\"{class}\">{word}: {} of {} changes by {:+.2} % a round, p = {:.3}.</small></p>",
            trend.figure.noun(),
            escaped(&trend.contender),
            trend.drift.a_round * 100.0,
            trend.drift.p
        );
    }
    for row in cell.foreign() {
        let (contender, about) = (escaped(&row.contender), escaped(&row.about));
        let _ = write!(text, "<p><small>{contender}: {about}.</small></p>");
    }
    for (contender, baseline) in cell.without_baseline() {
        let (contender, baseline) = (escaped(contender), escaped(baseline));
        let _ = write!(
            text,
            "<p><small>{contender}: not compared, since {baseline} failed.</small></p>"
        );
    }
    let bound = cell.rows.iter().filter(|row| row.load_bound);
    let bound: Vec<String> = bound.map(|row| escaped(&row.contender)).collect();
    if !bound.is_empty() {
        let _ = write!(
            text,
            "<p><small>Client-bound: {}. The load was busy for more than 90 % of the time and may have been the limit: \
             ratios of throughput shrink towards 1, CPU time does not.</small></p>",
            bound.join(", ")
        );
    }
    text
}

pub(super) fn targets(record: &Record) -> String {
    if record.targets.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "<table class=\"text wide\"><thead><tr><th>what</th><th>where</th><th>figure</th><th>asked</th><th>found</th>\
         <th>verdict</th></tr></thead><tbody>",
    );
    for row in record.targets.iter().map(target_row) {
        text += &row;
    }
    text + "</tbody></table>"
}

/// What is said to a target.
pub(super) fn target_row(judged: &Judged) -> String {
    let found = judged.found.as_ref().map(|found| {
        let around = found.corrected.map(|known| format!(" {}", interval(Some(known))));
        plain(judged.figure, found.ratio) + &around.unwrap_or_default()
    });
    let cells = [
        judged.what.clone(),
        judged.work.to_string(),
        judged.figure.noun().into(),
        asked(judged.figure, judged.bound),
        found.unwrap_or_else(|| "–".into()),
        judged.outcome.to_string(),
    ];
    let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escaped(cell))).collect();
    format!("<tr>{cells}</tr>")
}

/// Cells without time or room, and engines that are not in this program.
pub(super) fn left_out(record: &Record) -> String {
    let cells = record.left_out.iter().map(|what| escaped(what));
    let engines = record.not_built.iter();
    let engines = engines.map(|one| format!("{}: {}", escaped(&one.engine), escaped(&one.why)));
    let all = cells.chain(engines).map(|what| format!("<p><small>{what}</small></p>"));
    all.collect()
}

pub(super) fn environment(record: &Record) -> String {
    let rows: String = environment_rows(record).collect();
    format!("<table class=\"text narrow\"><tbody>{rows}</tbody></table>")
}

/// A row for everything that is known of program and machine.
pub(super) fn environment_rows(record: &Record) -> impl Iterator<Item = String> {
    let lines = report::environment(record).into_iter();
    lines.map(|(name, value)| format!("<tr><td>{}</td><td>{}</td></tr>", escaped(&name), escaped(&value)))
}
