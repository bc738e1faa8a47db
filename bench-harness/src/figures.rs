//! What is read out of the rounds: a figure a round, its median, its ratio to the baseline's.

use crate::run::{Cell, Row, Sample};
use crate::stats::{Ratio, median};

/// One figure of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    /// Messages a second.
    Rate,
    /// CPU time of the server for a message, in microseconds.
    CpuEach,
    /// The share of a core that the server used.
    Cpu,
    /// Microseconds below which a share of the answers came, in thousandths.
    Latency(u16),
    /// The share of its time in which the load had something to do.
    Busy,
    /// The share of a core that the load used.
    OwnCpu,
    /// Bytes by which idle connections made the server grow.
    Growth,
}

/// Answers that a round must have beyond a percentile before it is one: fewer are an accident each.
const BEYOND_MIN: f64 = 10.0;

impl Figure {
    /// Its value in a round; `None` if the round does not tell.
    pub(crate) fn of(self, sample: &Sample) -> Option<f64> {
        let figures = match sample {
            Sample::Load(figures) => figures,
            Sample::Idle { growth, cpu } => {
                return match self {
                    Self::Growth => *growth,
                    Self::Cpu => *cpu,
                    _ => None,
                };
            }
        };
        let elapsed = figures.elapsed.as_secs_f64();
        let messages = figures.messages as f64;
        match self {
            Self::Rate => Some(messages / elapsed),
            Self::CpuEach => figures.server.map(|cpu| cpu.as_secs_f64() * 1e6 / messages),
            Self::Cpu => figures.server.map(|cpu| cpu.as_secs_f64() / elapsed),
            Self::Latency(thousandths) => {
                let quantile = f64::from(thousandths) / 1000.0;
                let is_known = figures.latency.len() as f64 * (1.0 - quantile) >= BEYOND_MIN;
                is_known.then(|| figures.latency.value_at_quantile(quantile) as f64 / 1000.0)
            }
            Self::Busy => Some(figures.busy),
            Self::OwnCpu => figures.own.map(|cpu| cpu.as_secs_f64() / elapsed),
            Self::Growth => figures.growth,
        }
    }

    /// The median over a row's rounds.
    pub(crate) fn median(self, row: &Row) -> Option<f64> {
        median(row.rounds.iter().flatten().filter_map(|sample| self.of(sample)))
    }

    fn by_round(self, row: &Row) -> Vec<Option<f64>> {
        let values = row.rounds.iter().map(|sample| self.of(sample.as_ref()?));
        values.collect()
    }

    /// The ratio of two rows, paired by round.
    pub(crate) fn ratio(self, row: &Row, baseline: &Row) -> Option<Ratio> {
        Ratio::paired(&self.by_round(row), &self.by_round(baseline))
    }

    /// The value itself with its interval, for what is not compared but bounded.
    pub(crate) fn alone(self, row: &Row) -> Option<Ratio> {
        Ratio::of(self.by_round(row).into_iter().flatten().collect())
    }
}

/// Above this share of busy time the load may have been the limit.
const BUSY_MAX: f64 = 0.9;

/// Whether the load, and not the server, may have limited a row.
pub(crate) fn is_load_bound(row: &Row) -> bool {
    Figure::Busy.median(row).is_some_and(|busy| busy > BUSY_MAX)
}

impl Cell {
    /// The row with this label.
    pub(crate) fn row(&self, label: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.contender.label == label)
    }

    /// The row that a row is held against.
    pub(crate) fn baseline(&self, row: &Row) -> Option<&Row> {
        self.row(row.contender.baseline.as_deref()?)
    }
}
