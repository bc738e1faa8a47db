//! A run as one page that needs nothing else: no script, no network.
//!
//! Drawings are SVG within it. They are as wide as a telephone and stand beside each other where there is room. What is
//! drawn stands as a number as well, in tables whose rows bear a key, by which [`missing`] finds what a browser has of
//! them.

mod check;
mod cost;
mod heat;
mod kill;
mod load;
mod palette;
mod spectrum;
mod svg;
mod tables;
mod whiskers;

pub(crate) use self::check::missing;

use self::palette::Palette;
use self::svg::{Svg, escaped};
use crate::figures::{self, Figure};
use crate::record::{Cell, Record};

/// What a page may weigh: it is to be passed on by mail.
const BYTES_MAX: usize = 395_000;

/// What of cells is left out where there are too many: first the drawings of what a table says nearly as well.
/// The tables' first columns, and why something is not there, always stay.
const LEVELS: [&[Part]; 8] = {
    use Part::{Columns, Cost, Grid, Load, Ratio, SecondRatio, Spectrum, Trials};
    [
        &[Grid, Load, Columns, Ratio, Trials, Spectrum, SecondRatio, Cost],
        &[Grid, Load, Columns, Ratio, Trials, Spectrum, SecondRatio],
        &[Grid, Load, Columns, Ratio, Trials, Spectrum],
        &[Grid, Load, Columns, Ratio, Trials],
        &[Grid, Load, Columns, Ratio],
        &[Grid, Load, Columns],
        &[Load],
        &[],
    ]
};

/// A part of the page, of all cells or of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Size by connections.
    Grid,
    /// Latency against load.
    Load,
    /// Each death of a leader.
    Trials,
    /// Those columns of its table that neither stand first nor are compared.
    Columns,
    /// Of the figure that the workload is about.
    Ratio,
    /// Of the other figures that are compared.
    SecondRatio,
    Spectrum,
    Cost,
}

impl Part {
    /// As the page names it where it is left out.
    fn name(self) -> &'static str {
        match self {
            Self::Grid => "the grid of sizes and connections",
            Self::Load => "latency against load",
            Self::Trials => "each death of a leader",
            Self::Columns => "columns that are not compared",
            Self::Ratio => "the rounds of the first ratio",
            Self::SecondRatio => "the rounds of other ratios",
            Self::Spectrum => "latency by percentile",
            Self::Cost => "CPU time in one drawing",
        }
    }
}

/// What a page of this level does without.
fn left_out(level: usize) -> Vec<&'static str> {
    let parts = LEVELS[0].iter().filter(|part| !LEVELS[level].contains(part));
    parts.map(|part| part.name()).collect()
}

/// The page of a run.
pub(crate) fn html(record: &Record) -> String {
    let mut page = String::new();
    for level in 0..LEVELS.len() {
        page = self::page(record, level);
        if page.len() <= BYTES_MAX {
            break;
        }
    }
    page
}

fn page(record: &Record, level: usize) -> String {
    let palette = Palette::of(record);
    let parts = LEVELS[level];
    let mut body = tables::head(record, &left_out(level));
    body += &section("Verdicts", &tables::summary(record));
    if parts.contains(&Part::Grid) {
        body += &section("By size and connections", &charts(&heat::draw(record)));
    }
    if parts.contains(&Part::Load) {
        body += &section("Latency against load", &charts(&load::draw(record, &palette)));
    }
    if parts.contains(&Part::Cost) {
        let drawn = charts(&cost::draw(record, &palette));
        body += &section("CPU time of the server for a message, µs", &drawn);
    }
    let cells = record.cells.iter().enumerate();
    let cells = cells.map(|(number, cell)| self::cell(number, cell, parts, &palette));
    body += &section("Cells", &cells.collect::<String>());
    body += &section("Targets", &tables::targets(record));
    body += &section("Not measured", &tables::left_out(record));
    body += &section("Environment", &tables::environment(record));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>kraft-bench</title><style>{}{}</style></head>\n<body data-level=\"{level}\">{body}</body></html>\n",
        include_str!("style.css"),
        tables::headings()
    )
}

fn cell(number: usize, cell: &Cell, parts: &[Part], palette: &Palette) -> String {
    let mut drawn = String::new();
    for figure in ratios_drawn(cell, parts) {
        drawn += &whiskers::draw(number, cell, figure, palette);
    }
    if parts.contains(&Part::Spectrum) {
        drawn += &spectrum::draw(number, cell, palette);
    }
    if parts.contains(&Part::Trials) {
        drawn += &kill::draw(number, cell);
    }
    format!(
        "<h3>{}</h3>{}{}{}\n",
        escaped(&cell.name),
        tables::cell(number, cell, &columns(cell, parts)),
        tables::notes(cell),
        charts(&drawn)
    )
}

/// Columns that every table has room for: the figure that it is about, and two that belong to it.
const COLUMNS_MIN: usize = 3;

/// The figures of a cell's table.
fn columns(cell: &Cell, parts: &[Part]) -> Vec<Figure> {
    let has = |figure: &Figure| cell.rows.iter().any(|row| row.shown(*figure).is_some());
    let known = cell.work.columns().iter().copied().filter(has).enumerate();
    let is_kept =
        |at, figure| parts.contains(&Part::Columns) || at < COLUMNS_MIN || cell.work.compared().contains(&figure);
    known
        .filter(|(at, figure)| is_kept(*at, *figure))
        .map(|(_, figure)| figure)
        .collect()
}

/// The figures whose ratios are drawn.
fn ratios_drawn(cell: &Cell, parts: &[Part]) -> Vec<Figure> {
    let figures = cell.work.compared().iter().enumerate();
    let is_drawn = |at: usize| parts.contains(if at == 0 { &Part::Ratio } else { &Part::SecondRatio });
    figures
        .filter(|(at, _)| is_drawn(*at))
        .map(|(_, figure)| *figure)
        .collect()
}

/// With a heading, if there is anything.
fn section(heading: &str, content: &str) -> String {
    if content.is_empty() {
        String::new()
    } else {
        format!("<h2>{heading}</h2>{content}\n")
    }
}

fn charts(figures: &str) -> String {
    if figures.is_empty() {
        String::new()
    } else {
        format!("<div class=\"charts\">{figures}</div>")
    }
}

fn figure(caption: &str, svg: Svg) -> String {
    format!(
        "<figure><figcaption>{}</figcaption>{}</figure>",
        escaped(caption),
        svg.finish()
    )
}

/// What a drawing of the page is found by: the places of cell, row and figure.
fn key(cell: usize, row: usize, figure: Figure) -> String {
    format!("{cell}.{row}.{}", place(figure))
}

/// What is drawn of a row in a drawing of this kind is found by this.
fn drawing(kind: &str, cell: usize, row: usize) -> String {
    format!("{kind} {cell}.{row}")
}

fn place(figure: Figure) -> usize {
    figures::ALL
        .iter()
        .position(|other| *other == figure)
        .unwrap_or(figures::ALL.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::Family;
    use crate::fault::Fault;
    use crate::record::Trial;
    use crate::record::tests::sample;
    use crate::workload::Work;

    /// A leader's death.
    const TRIAL: Trial = Trial {
        detected_ms: 150.0,
        elected_ms: 180.0,
        first_write_ms: 200.0,
        acknowledged: 40,
        lost: 0,
    };

    #[test]
    fn a_page_has_everything_and_needs_nothing() {
        let record = sample();
        let page = html(&record);
        assert_eq!(missing(&record, &page), Vec::<String>::new());
        for foreign in ["<script", "http", "url(", "@import", "src="] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.contains("prefers-color-scheme: dark"));
        // The reason of a refusal, as text.
        assert!(page.contains("refused: no &lt;ring&gt; &amp; no rest"), "{page}");
        assert!(
            page.contains("no difference shown") && page.contains("slower"),
            "{page}"
        );
    }

    #[test]
    fn nothing_is_drawn_without_data() {
        let page = html(&sample());
        for heading in ["Latency against load", "By size and connections", "leader"] {
            assert!(!page.contains(heading), "{heading}");
        }
    }

    #[test]
    fn what_there_is_data_for_is_drawn() {
        let mut record = sample();
        // The same cell in other shapes.
        for work in [
            Work::Echo {
                conns: 64,
                size: 1024,
                depth: 1,
            },
            Work::Open {
                conns: 64,
                size: 64,
                rate: 1000,
            },
            Work::Open {
                conns: 64,
                size: 64,
                rate: 2000,
            },
        ] {
            let mut cell = record.cells[0].clone();
            cell.work = work;
            cell.name = work.to_string();
            let rounds = cell.rows.iter_mut().flat_map(|row| row.rounds.iter_mut().flatten());
            rounds.for_each(|round| {
                round.insert(Figure::LatencyP99Us, 90.0);
                round.insert(Figure::ServiceP99Us, 60.0);
            });
            record.cells.push(cell);
        }
        record.cells[0].rows[0].trials = vec![TRIAL];
        record.conclude();
        let page = html(&record);
        for drawn in [
            "64B over 64 connections: p99 in µs from when each was due; faint: service time",
            "64B over 64 connections: p50 in µs",
            "slow, throughput to fast",
            "from a leader&#39;s death",
            "200 ms",
        ] {
            let drawn = drawn.replace("&#39;", "'");
            assert!(page.contains(&drawn), "{drawn}");
        }
        assert_eq!(missing(&record, &page), Vec::<String>::new());
    }

    /// Two rates of an open loop, with latencies and service times; `slow` waits for what is before it.
    fn at_two_rates() -> Record {
        let mut record = sample();
        record.cells = [1000, 2000].map(|rate| at_rate(&record.cells[0], rate)).to_vec();
        record.conclude();
        record
    }

    fn at_rate(cell: &Cell, rate: u64) -> Cell {
        let mut cell = cell.clone();
        let (conns, size) = (64, 64);
        cell.work = Work::Open { conns, size, rate };
        cell.name = cell.work.to_string();
        for round in cell.rows.iter_mut().flat_map(|row| row.rounds.iter_mut().flatten()) {
            round.insert(Figure::LatencyP99Us, 90.0 * rate as f64);
            round.insert(Figure::ServiceP99Us, 60.0);
        }
        cell
    }

    #[test]
    fn what_service_times_leave_out_is_drawn_beside_the_latency() {
        let record = at_two_rates();
        let page = html(&record);
        assert_eq!(missing(&record, &page), Vec::<String>::new());
        // Of two contenders the latency and the service time; nobody has a p50 of both.
        let keys = ["0.0", "0.1"].map(|row| [Figure::LatencyP99Us, Figure::ServiceP99Us].map(|of| (row, of)));
        for (row, figure) in keys.concat() {
            let attribute = format!("data-curve=\"{row}.{}\" d=\"M", place(figure));
            assert_eq!(page.matches(&attribute).count(), 1, "{attribute}");
            // Without it, or without one of its rates, a page is not whole.
            for broken in [
                page.replacen(&attribute, "d=\"M", 1),
                page.replacen(&attribute, &format!("{attribute}1 1L"), 1),
            ] {
                let missing = missing(&record, &broken);
                assert_eq!(missing.len(), 1, "{missing:?}");
                assert!(missing[0].contains(" against load: 2 rates of "), "{missing:?}");
            }
        }
        // Who failed at a rate is drawn at the others, and one alone makes no curve.
        let mut record = record;
        record.cells[1].rows[1].fault = Some(Fault::Stalled("too much".into()));
        record.conclude();
        let page = html(&record);
        assert!(page.contains("data-curve=\"0.0.") && !page.contains("data-curve=\"0.1."));
        assert_eq!(missing(&record, &page), Vec::<String>::new());
    }

    #[test]
    fn a_page_of_many_cells_stays_small_and_says_what_it_leaves_out() {
        let mut record = sample();
        let cell = record.cells[0].clone();
        record.cells = vec![cell; 150];
        let page = html(&record);
        assert!(page.len() < 400_000, "{}", page.len());
        let said = page.split_once("To keep this page small it leaves out ");
        let said = said.and_then(|(_, rest)| rest.split('.').next());
        assert!(
            said.is_some_and(|said| said.contains("CPU time in one drawing")),
            "{said:?}"
        );
        assert_eq!(missing(&record, &page), Vec::<String>::new());
        assert!(!html(&sample()).contains("To keep this page small"));
    }

    #[test]
    fn a_page_of_many_deaths_stays_small_and_says_that_it_does_not_draw_them() {
        let mut record = sample();
        record.cells[0].rows[0].trials = vec![TRIAL; 3];
        let page = html(&record);
        assert!(page.contains("from a leader's death") && !page.contains("To keep this page small"));
        record.cells[0].rows[0].trials = vec![TRIAL; 5_000];
        is_small_without(&record, "from a leader's death", "each death of a leader");
    }

    /// The page can be passed on, does not draw something, and says what that is.
    fn is_small_without(record: &Record, drawn: &str, what: &str) {
        let page = html(record);
        assert!(page.len() < 400_000, "{}", page.len());
        assert!(!page.contains(drawn));
        let (_, said) = page
            .split_once("To keep this page small it leaves out ")
            .expect("something is left out");
        let said = said.split('.').next().unwrap_or(said);
        assert!(said.contains(what), "{said}");
        assert_eq!(missing(record, &page), Vec::<String>::new());
    }

    #[test]
    fn a_page_of_very_many_rates_stays_small_and_says_that_it_does_not_draw_them() {
        let mut record = at_two_rates();
        // A contender for every curve, and a few rates.
        let (mut fast, mut slow) = (record.cells[0].clone(), record.cells[1].clone());
        for cell in [&mut fast, &mut slow] {
            let row = cell.rows[0].clone();
            cell.rows = (0..800)
                .map(|at| {
                    let mut row = row.clone();
                    row.contender = format!("an-engine-{at}");
                    row
                })
                .collect();
        }
        record.cells = vec![fast, slow];
        is_small_without(&record, "data-curve", "latency against load");
    }

    #[test]
    fn a_page_of_a_full_run_of_all_engines_can_be_passed_on() {
        let mut record = sample();
        // As many cells and engines as --full has with rivals, and every column.
        let mut cell = record.cells[0].clone();
        for round in cell.rows.iter_mut().flat_map(|row| row.rounds.iter_mut().flatten()) {
            for figure in cell.work.columns() {
                round.insert(*figure, 123_456.7);
            }
        }
        let (fast, slow) = (cell.rows[0].clone(), cell.rows[1].clone());
        let again = (0..17).map(|at| {
            let mut row = slow.clone();
            row.contender = format!("an-engine-with-a-name-{at}");
            row
        });
        cell.rows = [fast].into_iter().chain(again).collect();
        let grid = (0..45).map(|at| {
            let (conns, size, depth) = ([1, 64, 1000, 10_000][at % 4], 64 << (at / 4 % 4), 1 + at / 16);
            let work = Work::Echo { conns, size, depth };
            let name = work.to_string();
            Cell {
                work,
                name,
                ..cell.clone()
            }
        });
        record.cells = grid.collect();
        record.conclude();
        let page = html(&record);
        assert!(page.len() < 400_000, "{}", page.len());
        assert_eq!(missing(&record, &page), Vec::<String>::new());
    }

    #[test]
    fn a_number_that_is_not_there_is_missed() {
        let record = sample();
        let page = html(&record);
        let without = page.replacen(">90,000<", "><", 1);
        let missing = missing(&record, &without);
        assert_eq!(missing.len(), 1, "{missing:?}");
        assert!(missing[0].starts_with("echo 64Bx64, slow: "), "{missing:?}");
        let dots = page.replacen("h0", "", 1);
        assert_eq!(super::missing(&record, &dots).len(), 1);
    }

    #[test]
    fn a_drawing_or_a_row_that_is_not_there_is_missed() {
        let mut record = sample();
        let mut again = record.cells[0].clone();
        (again.work, again.name) = (
            Work::Echo {
                conns: 64,
                size: 1024,
                depth: 1,
            },
            "echo 1KiBx64".into(),
        );
        record.cells.push(again);
        record.cells[0].rows[0].trials = vec![TRIAL; 3];
        record.machine.governor = Some("a \"governor\"".into());
        record
            .cells
            .iter_mut()
            .for_each(|cell| cell.rows[0].family = Family::Rival);
        record.conclude();
        let page = html(&record);
        assert_eq!(missing(&record, &page), Vec::<String>::new());
        // As a browser writes it.
        let quoted = page.replace("a &quot;governor&quot;", "a \"governor\"");
        assert_eq!(missing(&record, &quoted), Vec::<String>::new());
        // The second row stands in both grids; the first has the trials.
        for (from, to, expected) in [
            (
                "data-drawn=\"spectrum 0.1\"",
                "",
                "echo 64Bx64, slow: 3 percentiles, 0 points",
            ),
            (
                "data-drawn=\"heat 1.1\"",
                "",
                "echo 1KiBx64, slow: the ratio 0.90 in the grid",
            ),
            ("data-drawn=\"cost 0.0\"", "", "echo 64Bx64, fast: the bar of 5.00 µs"),
            ("200 ms</text>", "</text>", "echo 64Bx64, fast: 3 deaths, 9 bars"),
            (
                "<rect class=\"bar k2\"",
                "<path class=\"bar k2\"",
                "echo 64Bx64, fast: 3 deaths, 8 bars",
            ),
            ("<td>governor</td>", "<td></td>", "the row <tr><td>governor</td>"),
            (
                "our best / fast</td>",
                "</td>",
                "the row <tr><td>slow, our best / fast</td>",
            ),
        ] {
            let broken = page.replacen(from, to, 1);
            assert_ne!(broken, page, "{from}");
            let missing = missing(&record, &broken);
            assert_eq!(missing.len(), 1, "{from}: {missing:?}");
            assert!(missing[0].starts_with(expected), "{from}: {missing:?}");
        }
    }
}
