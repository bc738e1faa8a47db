//! Segments made ahead, so that the log never waits for a file to grow.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use kraft_core::time::Instant;

use super::config::{Config, RESERVE_BYTES};
use super::disk_log::OVERHEAD_MAX;
use super::files::Files;
use super::work::{Making, PrepareWork, Progress};

/// After a failure it is tried again after this, and twice as long after each further one.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// While the disk is short it is asked again after this whether somebody made room: what stands ready may be too little
/// for the next message, and then nothing else would ask.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// A disk with less than this is short, or with less than makes the log refuse what a segment holds.
const SHORT_BYTES: u64 = 16 << 20;

/// So many times as much is zeroed at once when the log would come to the end of what is ready before it is done.
const HASTE: u32 = 16;

/// A segment that waits for its turn, or one that the log writes to and whose file is still in the making.
#[derive(Debug)]
pub(crate) struct Spare<F: Files> {
    pub(crate) number: u32,
    pub(crate) capacity: u32,
    /// Whether it was another segment before, whose records still stand in it.
    pub(crate) is_reused: bool,
    pub(crate) file: Option<Arc<F::File>>,
}

/// A spare in the making.
#[derive(Clone, Copy, Debug)]
struct Planned {
    number: u32,
    capacity: u32,
    is_reused: bool,
}

/// Spares, what is in the making, and what is done with.
///
/// Numbers ascend: live segments < spares < the one in the making < `next_number`.
#[derive(Debug)]
pub(crate) struct Pool<F: Files> {
    files: F,
    spares: VecDeque<Spare<F>>,
    /// The spare in the making, unless the log has taken it already.
    planned: Option<Planned>,
    /// What stood ready at the last job.
    ready_bytes: u64,
    making: Option<Making<F>>,
    is_out: bool,
    /// Numbers and capacities of segments that are done with.
    retired: VecDeque<(u32, u32)>,
    next_number: u32,
    next_capacity: u32,
    free_bytes: u64,
    /// When that was asked.
    measured_at: Instant,
    failures: u32,
    retry_at: Option<Instant>,
    now: Instant,
}

/// What the pool has to do next.
#[derive(Debug)]
pub(crate) enum Job<F: Files> {
    Prepare(PrepareWork<F>),
    Remove(u32),
    Measure,
}

impl<F: Files> Pool<F> {
    pub(crate) fn new(files: F, config: &Config, next_number: u32, others: &[(u32, u64)]) -> Self {
        let capacity = |size: u64| u32::try_from(size).unwrap_or(0);
        Self {
            free_bytes: files.free_bytes().unwrap_or(0),
            files,
            spares: VecDeque::new(),
            planned: None,
            ready_bytes: 0,
            making: None,
            is_out: false,
            retired: others.iter().map(|(number, size)| (*number, capacity(*size))).collect(),
            next_number,
            next_capacity: config.first_segment_bytes,
            measured_at: Instant::ZERO,
            failures: 0,
            retry_at: None,
            now: Instant::ZERO,
        }
    }

    pub(crate) const fn tick(&mut self, now: Instant) {
        self.now = now;
    }

    /// When a failed preparation is tried again, or a disk that is almost full is looked at.
    pub(crate) fn deadline(&self, config: &Config) -> Option<Instant> {
        if self.is_out {
            return None;
        }
        let measure_at = self.is_short(config).then(|| self.measured_at + MEASURE_EVERY);
        self.retry_at.or(measure_at)
    }

    /// Whether there was little room on the disk when it was looked at last. Not after a preparation that failed: that is
    /// tried again, and looks by itself.
    const fn is_short(&self, config: &Config) -> bool {
        let for_a_segment = config.segment_bytes as u64 * OVERHEAD_MAX + RESERVE_BYTES;
        let is_little = self.free_bytes < for_a_segment || self.free_bytes < SHORT_BYTES;
        self.failures == 0 && is_little
    }

    /// The segment to go on in, with at least `needed` bytes. Its file may still be in the making.
    pub(crate) fn take(&mut self, needed: u32, config: &Config) -> Spare<F> {
        while let Some(spare) = self.spares.pop_front() {
            if spare.capacity >= needed {
                return spare;
            }
            self.retired.push_back((spare.number, spare.capacity));
        }
        if let Some(planned) = self.planned.take()
            && planned.capacity >= needed
        {
            return Spare {
                number: planned.number,
                capacity: planned.capacity,
                is_reused: planned.is_reused,
                file: None,
            };
        }
        let capacity = self.plan_capacity(config).max(needed.next_multiple_of(8));
        Spare {
            number: self.plan_number(),
            capacity,
            is_reused: false,
            file: None,
        }
    }

    fn plan_number(&mut self) -> u32 {
        let number = self.next_number;
        self.next_number = number
            .checked_add(1)
            .expect("four billion segments of a log are never reached");
        number
    }

    /// Capacities grow from the first to the configured one.
    fn plan_capacity(&mut self, config: &Config) -> u32 {
        let capacity = self.next_capacity;
        self.next_capacity = capacity.saturating_mul(4).min(config.segment_bytes);
        capacity
    }

    /// Segments that are done with.
    pub(crate) fn retire(&mut self, number: u32, capacity: u32) {
        self.retired.push_back((number, capacity));
    }

    /// The next thing to do. `missing` is a segment of the log that has no file yet, `ahead_bytes` what the log has
    /// left in its last segment, `live_bytes` the capacity of its segments.
    pub(crate) fn next_job(
        &mut self,
        missing: Option<(u32, u32)>,
        ahead_bytes: u64,
        live_bytes: u64,
        config: &Config,
    ) -> Option<Job<F>> {
        if self.is_out || self.retry_at.is_some_and(|at| self.now < at) {
            return None;
        }
        self.retry_at = None;
        if self.making.is_none() {
            if let Some((number, capacity)) = missing {
                self.making = Some(Making {
                    number,
                    capacity,
                    source: None,
                    file: None,
                    filled: 0,
                });
            } else if let Some(number) = self.superfluous(config) {
                self.is_out = true;
                return Some(Job::Remove(number));
            } else {
                self.making = self.plan_spare(ahead_bytes, live_bytes, config);
            }
        }
        let Some(making) = self.making.take() else {
            let is_due = self.is_short(config) && self.now >= self.measured_at + MEASURE_EVERY;
            self.is_out = is_due;
            return is_due.then_some(Job::Measure);
        };
        self.is_out = true;
        let left = u64::from(making.capacity - making.filled);
        let ready = ahead_bytes + self.spare_bytes();
        let written = std::mem::replace(&mut self.ready_bytes, ready).saturating_sub(ready);
        let is_late = left > ready && (written >= u64::from(config.zero_step_bytes) || missing.is_some());
        let haste = if is_late { HASTE } else { 1 };
        Some(Job::Prepare(PrepareWork {
            files: self.files.clone(),
            making,
            step_bytes: config.zero_step_bytes.saturating_mul(haste),
        }))
    }

    /// Of the segments that are done with, one too small to be used again, or above the bound.
    fn superfluous(&mut self, config: &Config) -> Option<u32> {
        let small = self
            .retired
            .iter()
            .position(|(_, capacity)| *capacity < self.next_capacity);
        let surplus = (self.retired.len() > config.recycle_max as usize).then_some(0);
        let (number, _) = self.retired.remove(small.or(surplus)?)?;
        Some(number)
    }

    fn plan_spare(&mut self, ahead_bytes: u64, live_bytes: u64, config: &Config) -> Option<Making<F>> {
        if self.spares.len() >= config.zero_ahead as usize {
            return None;
        }
        if let Some((source, capacity)) = self.retired.pop_front() {
            self.plan_capacity(config);
            return Some(self.plan(capacity, Some(source)));
        }
        let spare_bytes = self.spare_bytes();
        let left = config.log_bytes_max.saturating_sub(live_bytes + spare_bytes);
        let least = RESERVE_BYTES.min(u64::from(self.next_capacity));
        if left >= least {
            let left = u32::try_from(left).unwrap_or(u32::MAX) & !7;
            let capacity = self.plan_capacity(config).min(left);
            return Some(self.plan(capacity, None));
        }
        // The log is full: no entries are taken, but elections must go on.
        let is_short = ahead_bytes + spare_bytes < least;
        is_short.then(|| self.plan(u32::try_from(least).expect("the reserve is small"), None))
    }

    fn plan(&mut self, capacity: u32, source: Option<u32>) -> Making<F> {
        let number = self.plan_number();
        self.planned = Some(Planned {
            number,
            capacity,
            is_reused: source.is_some(),
        });
        Making {
            number,
            capacity,
            source,
            file: None,
            filled: 0,
        }
    }

    /// Takes a piece of work back. Returns a finished segment that is not a spare: the log waits for it, or has gone
    /// past it.
    pub(crate) fn prepared(
        &mut self,
        making: Making<F>,
        result: Result<Progress, io::Error>,
        config: &Config,
    ) -> Option<Spare<F>> {
        self.is_out = false;
        let Ok(progress) = result else {
            self.planned = None;
            self.next_capacity = (self.next_capacity / 4).max(config.first_segment_bytes);
            let wait = RETRY_MIN.saturating_mul(1 << self.failures.min(16)).min(RETRY_MAX);
            self.failures = self.failures.saturating_add(1);
            self.retry_at = Some(self.now + wait);
            return None;
        };
        self.failures = 0;
        self.free_bytes = progress.free_bytes;
        self.measured_at = self.now;
        if !progress.is_finished {
            self.making = Some(making);
            return None;
        }
        let spare = Spare {
            number: making.number,
            capacity: making.capacity,
            is_reused: making.source.is_some(),
            file: making.file,
        };
        if self.planned.is_some_and(|planned| planned.number == making.number) {
            self.planned = None;
            self.spares.push_back(spare);
            return None;
        }
        Some(spare)
    }

    /// The disk was looked at.
    pub(crate) fn measured(&mut self, free_bytes: io::Result<u64>) {
        self.is_out = false;
        self.measured_at = self.now;
        self.free_bytes = free_bytes.unwrap_or(0);
    }

    pub(crate) const fn removed(&mut self) {
        self.is_out = false;
    }

    /// What stands ready.
    pub(crate) fn spare_bytes(&self) -> u64 {
        self.spares.iter().map(|spare| u64::from(spare.capacity)).sum()
    }

    /// What the disk can still give, as far as is known: nothing while preparations fail.
    pub(crate) const fn free_bytes(&self) -> u64 {
        if self.failures == 0 { self.free_bytes } else { 0 }
    }
}
