//! Frames in pieces.

use std::ops::ControlFlow;

use arbitrary::{Result, Unstructured};
use kraft_core::inbox::{Budget, Inbox, InboxError};
use kraft_core::protocol::Limits;
use kraft_protocols::{Any, Format};

use crate::decode::encode;
use crate::said;

const FRAMES_MAX: usize = 8;
const BUDGET: usize = 1 << 20;

/// What an inbox keeps for the next frame.
const KEPT_MAX: usize = 4096;

pub(crate) fn run(input: &[u8]) {
    let _ = try_run(&mut Unstructured::new(input));
}

fn try_run(u: &mut Unstructured<'_>) -> Result<()> {
    let limits = match u.arbitrary()? {
        true => Limits::BEFORE_HELLO,
        false => Limits {
            frame_max: 16 << 10,
            entries_max: 32,
        },
    };
    let mut bytes = Vec::new();
    for _ in 0..u.int_in_range(1..=FRAMES_MAX)? {
        if u.is_empty() {
            break;
        }
        let format = *u.choose(Format::ALL)?;
        let Some(mut frame) = encode(format, &said::message(u)?) else {
            continue;
        };
        if u.ratio(1, 8)? {
            let at = u.int_in_range(0..=frame.len() - 1)?;
            frame[at] ^= u.int_in_range(1..=255)?;
        }
        bytes.extend(frame);
    }
    if u.ratio(1, 4)? {
        bytes.truncate(u.int_in_range(0..=bytes.len())?);
    }
    let mut cuts = Vec::new();
    for _ in 0..u.int_in_range(0..=15)? {
        // Most reads that matter are short: they end within a header, or a byte before a frame does.
        cuts.push(1 + usize::from(u.arbitrary::<u8>()?));
    }
    let mut cuts = cuts.into_iter().cycle();
    let whole = feed(&bytes, &limits, &mut |left| left);
    let pieces = feed(&bytes, &limits, &mut |left| cuts.next().unwrap_or(1).min(left));
    assert!(whole == pieces, "{whole:?} in one, {pieces:?} in pieces");
    Ok(())
}

/// The messages, each as its frame in `binary`, and how it ended.
fn feed(
    bytes: &[u8],
    limits: &Limits,
    cut: &mut dyn FnMut(usize) -> usize,
) -> (Vec<Option<Vec<u8>>>, Option<InboxError>) {
    let mut inbox = Inbox::default();
    let mut budget = Budget::new(BUDGET);
    let mut messages = Vec::new();
    let (mut rest, mut pending_max) = (bytes, 0);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(cut(rest.len()));
        rest = after;
        let fed = inbox.feed(&Any::new(Format::Binary), limits, &mut budget, piece, |message| {
            messages.push(encode(Format::Binary, &message));
            ControlFlow::Continue(())
        });
        if let Err(error) = fed {
            return (messages, Some(error));
        }
        pending_max = inbox.pending().max(pending_max);
        assert!(pending_max < limits.frame_max, "a whole frame waits for nothing");
        let held = BUDGET - budget.free;
        assert!(
            held <= (2 * pending_max).max(KEPT_MAX),
            "{held} bytes for {pending_max}"
        );
    }
    inbox.clear(&mut budget);
    assert_eq!(budget.free, BUDGET, "what was taken of the budget is given back");
    (messages, None)
}
