//! One speaks, all others hear.

use std::collections::VecDeque;
use std::time::Duration;

use mio::Events;

use super::meter::{Meter, Times};
use super::{EVENTS, Figures, Load, ReadClocks, Span};
use crate::fault::Fault;

/// A message that not all have heard.
struct Spoken {
    since: u64,
    /// How many have not.
    missing: usize,
}

impl Load {
    /// The last connection has `depth` messages of `size` bytes on their way to all others, and sends one for each that
    /// all of them have; its latency is that of the last.
    pub(crate) fn fan_out(
        &mut self,
        size: usize,
        depth: usize,
        span: Span,
        clocks: ReadClocks<'_>,
    ) -> Result<Figures, Fault> {
        let others = self.conns.len() - 1;
        let mut meter = Meter::of_one(span, depth);
        let mut events = Events::with_capacity(EVENTS);
        let mut spoken: VecDeque<Spoken> = VecDeque::with_capacity(depth);
        // Messages that all have heard, and that each has.
        let (mut by_all, mut by_each) = (0_usize, vec![0_usize; others]);
        loop {
            let is_over = meter.is_over(clocks)?;
            if is_over && spoken.is_empty() {
                return Ok(meter.figures());
            }
            let now = meter.now();
            while !is_over && spoken.len() < depth {
                let (since, missing) = (now, others);
                spoken.push_back(Spoken { since, missing });
                let (hearers, speaker) = self.conns.split_at_mut(others);
                speaker[0].say(size);
                hearers.iter_mut().for_each(|conn| conn.expect(now));
            }
            self.conns[others].send(self.pattern)?;
            let found = self.wait(&mut events, &mut meter)?;
            for event in &events {
                let at = event.token().0;
                let Some(heard) = by_each.get_mut(at) else {
                    // The speaker, who hears nothing.
                    continue;
                };
                let count = self.conns[at].receive(&mut self.buffer, self.pattern, size, |_| {})?;
                for _ in 0..count {
                    spoken[*heard - by_all].missing -= 1;
                    *heard += 1;
                }
                let now = meter.now();
                while let Some(first) = spoken.front().filter(|first| first.missing == 0) {
                    meter.note(others, now, Times::due(first.since));
                    spoken.pop_front();
                    by_all += 1;
                    self.answered += 1;
                }
            }
            meter.worked(found);
        }
    }

    /// A byte from the last to all others: when it has come all have been accepted.
    pub(super) fn see_all_hear(&mut self, patience: Duration) -> Result<(), Fault> {
        if let Some((speaker, hearers)) = self.conns.split_last_mut() {
            hearers.iter_mut().for_each(|conn| conn.expect(0));
            speaker.say(1);
            speaker.send(self.pattern)?;
        }
        self.hear_all(Span {
            warm_up: Duration::ZERO,
            measured: Duration::ZERO,
            patience,
            turns_min: 0,
            is_slice: false,
        })
    }
}
