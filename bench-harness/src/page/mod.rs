//! A run as one page that needs nothing else: no script, no network.
//!
//! Drawings are SVG within it. They are as wide as a telephone and stand beside each other where there is room. What is
//! drawn stands as a number as well, in tables whose cells bear a key, by which [`missing`] finds what a browser has of
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
use crate::figures::Figure;
use crate::record::{Cell, Record, Row};

/// The page of a run.
pub(crate) fn html(record: &Record) -> String {
    let palette = Palette::of(record);
    let mut body = tables::head(record);
    body += &section("Verdicts", &tables::summary(record));
    body += &section("By size and connections", &charts(&heat::draw(record)));
    body += &section("Latency against load", &charts(&load::draw(record, &palette)));
    let cells = record.cells.iter().map(|cell| self::cell(cell, &palette));
    body += &section("Cells", &cells.collect::<String>());
    body += &section("Targets", &tables::targets(record));
    body += &section("Not measured", &tables::left_out(record));
    body += &section("Environment", &tables::environment(record));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>kraft-bench</title><style>{}</style></head>\n<body>{body}</body></html>\n",
        include_str!("style.css")
    )
}

fn cell(cell: &Cell, palette: &Palette) -> String {
    let mut drawn = String::new();
    for figure in cell.work.compared() {
        drawn += &whiskers::draw(cell, *figure, palette);
    }
    drawn += &spectrum::draw(cell, palette);
    drawn += &cost::draw(cell, palette);
    drawn += &kill::draw(cell);
    format!(
        "<h3>{}</h3>{}{}{}\n",
        escaped(&cell.name),
        tables::cell(cell),
        tables::notes(cell),
        charts(&drawn)
    )
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

/// What a number of the page is found by.
fn key(cell: &Cell, row: &Row, figure: Figure) -> String {
    format!("{}|{}|{}", cell.name, row.contender, figure.key())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Trial;
    use crate::record::tests::sample;
    use crate::workload::Work;

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
            });
            record.cells.push(cell);
        }
        record.cells[0].rows[0].trials = vec![Trial {
            detected_ms: 150.0,
            elected_ms: 180.0,
            first_write_ms: 200.0,
        }];
        record.conclude();
        let page = html(&record);
        for drawn in [
            "64B over 64 connections: p99",
            "slow, throughput to fast",
            "from a leader&#39;s death",
            "200 ms",
        ] {
            let drawn = drawn.replace("&#39;", "'");
            assert!(page.contains(&drawn), "{drawn}");
        }
        assert_eq!(missing(&record, &page), Vec::<String>::new());
    }

    #[test]
    fn a_number_that_is_not_there_is_missed() {
        let record = sample();
        let page = html(&record);
        let without = page.replacen(">90,000<", "><", 1);
        let missing = missing(&record, &without);
        assert_eq!(missing.len(), 1, "{missing:?}");
        assert!(
            missing[0].contains("echo 64Bx64|slow|messages_per_second"),
            "{missing:?}"
        );
        let dots = page.replacen("h0", "", 1);
        assert_eq!(super::missing(&record, &dots).len(), 1);
    }
}
