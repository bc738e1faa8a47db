//! The laws of a [`Protocol`] as functions, for formats of one's own.
//!
//! [`suite!`](crate::suite) makes a test of each law:
//!
//! ```
//! # use kraft_protocols::Binary as MyFormat;
//! kraft_protocols::suite!(my_format, || MyFormat);
//! # fn main() {}
//! ```
//!
//! Some laws need more than the protocol: a folder of golden vectors (P9), what a newer version would write (P11), a
//! counting allocator (P7, P12). A [`Subject`] brings them; a law for which it brings nothing says on the standard
//! error that it is skipped, and why.
//!
//! `docs/custom-protocols.md` is the guide, from the first line to the last law.
//!
//! Messages are drawn from seeds: [`Sample`] makes one of any kind. `KRAFT_SEED` replaces the first seed.

pub mod arbitrary;
mod damage;
mod encoding;
pub mod golden;
mod stream;

use std::env;
use std::path::PathBuf;

use kraft_core::message::Message;
use kraft_core::outbox::{Outbox, Segments};
use kraft_core::protocol::{Decoded, Limits, Protocol};

pub use self::arbitrary::Sample;
pub use self::damage::{p05_damage, p07_limits, p08_unknown};
pub use self::encoding::{p10_all_or_nothing, p11_unknown_fields, p12_no_copy};
pub use self::golden::p09_golden;
pub use self::stream::{p01_round_trip, p02_split, p03_concatenation, p04_truncation, p06_consumed};

/// Room for every sample.
pub const LIMITS: Limits = Limits {
    frame_max: 4 << 20,
    entries_max: 1 << 10,
};

/// What the calling thread has allocated since it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Allocated {
    /// How often.
    pub count: u64,
    /// How many bytes, those given back included.
    pub bytes: u64,
}

/// Makes of a frame what a newer version would send: the same message with optional fields that this one does not know.
pub type Newer = fn(&[u8]) -> Vec<u8>;

/// A protocol on trial, and what the laws need beside it.
#[derive(Debug)]
pub struct Subject<P> {
    protocol: P,
    golden: Option<PathBuf>,
    newer: Option<Newer>,
    allocated: Option<fn() -> Allocated>,
    copies: bool,
}

impl<P: Protocol> From<P> for Subject<P> {
    fn from(protocol: P) -> Self {
        Self {
            protocol,
            golden: None,
            newer: None,
            allocated: None,
            copies: false,
        }
    }
}

impl<P: Protocol> Subject<P> {
    /// With golden vectors in `folder`, one file each; `KRAFT_REWRITE=1` writes them (law P9).
    #[must_use]
    pub fn golden(mut self, folder: impl Into<PathBuf>) -> Self {
        self.golden = Some(folder.into());
        self
    }

    /// With what a newer version would send (law P11).
    #[must_use]
    pub fn newer(mut self, newer: Newer) -> Self {
        self.newer = Some(newer);
        self
    }

    /// With the count of a global allocator (laws P7 and P12).
    #[must_use]
    pub fn allocated(mut self, allocated: fn() -> Allocated) -> Self {
        self.allocated = Some(allocated);
        self
    }

    /// A format of text, which has to unescape payloads and so to copy them (law P12).
    #[must_use]
    pub fn copies(mut self) -> Self {
        self.copies = true;
        self
    }

    /// The frame of `message`.
    ///
    /// # Panics
    ///
    /// If it is not encoded.
    #[track_caller]
    pub fn frame(&self, message: &Message<'_>) -> Vec<u8> {
        let mut out = Outbox::new(LIMITS.frame_max);
        self.protocol
            .encode(message, LIMITS.frame_max, &mut out)
            .expect("there is room for every sample");
        contents(&mut out)
    }

    /// Runs `decode` and counts what it allocates, if it can be counted.
    fn counted<R>(&self, decode: impl FnOnce() -> R) -> (R, Option<Allocated>) {
        let before = self.allocated.map(|allocated| allocated());
        let result = decode();
        let counted = self.allocated.zip(before).map(|(allocated, before)| {
            let after = allocated();
            Allocated {
                count: after.count - before.count,
                bytes: after.bytes - before.bytes,
            }
        });
        (result, counted)
    }

    #[track_caller]
    fn expect_message(&self, input: &[u8], expected: &Message<'_>, length: usize) {
        match self.protocol.decode(input, &LIMITS, &mut Vec::new()) {
            Ok(Decoded::Message { message, consumed }) => {
                assert_eq!(message, *expected);
                assert_eq!(consumed, length, "law P6: consumed is exactly the frame");
            }
            other => panic!("expected {expected:?}, got {other:?}"),
        }
    }
}

/// Takes what waits in an outbox out of it.
#[must_use]
pub fn contents(out: &mut Outbox) -> Vec<u8> {
    let mut segments = Segments::new();
    out.take(&mut segments);
    out.settle(0);
    segments.slices().flatten().copied().collect()
}

/// The first of the seeds, printed for the case that a law fails.
fn seed() -> u64 {
    let seed = match env::var("KRAFT_SEED") {
        Ok(seed) => seed.parse().expect("KRAFT_SEED is a number"),
        Err(_) => 1,
    };
    println!("KRAFT_SEED={seed}");
    seed
}

fn skipped(law: &str, why: &str) {
    eprintln!("{law} skipped: {why}");
}

/// Makes a module `$name` with a test for each law, of the protocol or [`Subject`](crate::conformance::Subject) that
/// `$subject` makes.
#[macro_export]
macro_rules! suite {
    ($name:ident, $subject:expr) => {
        #[cfg(test)]
        fn $name() -> $crate::conformance::Subject<impl $crate::Protocol> {
            $crate::conformance::Subject::from(($subject)())
        }

        #[cfg(test)]
        mod $name {
            $crate::suite!(@laws $name;
                p01_round_trip p02_split p03_concatenation p04_truncation p05_damage p06_consumed p07_limits p08_unknown
                p09_golden p10_all_or_nothing p11_unknown_fields p12_no_copy);
        }
    };
    (@laws $name:ident; $($law:ident)*) => {
        $(
            #[test]
            fn $law() {
                $crate::conformance::$law(&super::$name());
            }
        )*
    };
}
