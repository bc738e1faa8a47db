//! The targets of `kraft-fuzz-targets` as programs of libFuzzer: nothing but the threads that tie them together.

#[path = "../targets/tests/it/counting.rs"]
mod counting;

#[doc(hidden)]
pub use libfuzzer_sys;

/// Runs a target on an input, with a count of what it allocates.
pub fn run(target: fn(&[u8]), input: &[u8]) {
    kraft_fuzz_targets::measure_by(counting::allocated);
    target(input);
}

/// The program that fuzzes the target of this name.
#[macro_export]
macro_rules! fuzz {
    ($target:ident) => {
        $crate::libfuzzer_sys::fuzz_target!(|input: &[u8]| $crate::run($crate::targets::$target, input));
    };
}

pub use kraft_fuzz_targets as targets;
