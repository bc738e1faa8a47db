//! Which engine is drawn how, the same on the whole page.

use crate::engines::Family;
use crate::record::{Record, Row};

/// Colours of Kraft's own, by the class of each. They differ in lightness too, for those who do not tell hues apart.
const COLOURS: usize = 5;

/// Line patterns of the others, which are grey.
const PATTERNS: usize = 4;

/// How engines are drawn.
#[derive(Debug)]
pub(super) struct Palette {
    kraft: Vec<String>,
    others: Vec<String>,
}

impl Palette {
    pub(super) fn of(record: &Record) -> Self {
        let mut palette = Self {
            kraft: Vec::new(),
            others: Vec::new(),
        };
        for row in record.cells.iter().flat_map(|cell| &cell.rows) {
            let names = match row.family {
                Family::Kraft => &mut palette.kraft,
                _ => &mut palette.others,
            };
            let name = family_name(row);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        palette
    }

    /// The class of its colour.
    pub(super) fn colour(&self, row: &Row) -> String {
        let name = family_name(row);
        match self.kraft.iter().position(|kraft| *kraft == name) {
            Some(at) => format!("k{}", at % COLOURS),
            None => "b".into(),
        }
    }

    /// The classes of a line of it.
    pub(super) fn line(&self, row: &Row) -> String {
        let name = family_name(row);
        let place = self.others.iter().position(|other| *other == name);
        let pattern = match place {
            Some(at) => at % PATTERNS,
            None => usize::from(row.contender != name),
        };
        let colour = self.colour(row);
        if pattern == 0 {
            colour
        } else {
            format!("{colour} d{pattern}")
        }
    }
}

/// Variants of an engine share its colour.
fn family_name(row: &Row) -> String {
    row.engine.split('+').next().unwrap_or(&row.engine).to_owned()
}
