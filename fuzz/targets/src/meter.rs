//! How much is allocated, as whoever runs a target counts it.

use std::sync::OnceLock;

static METER: OnceLock<fn() -> u64> = OnceLock::new();

/// Counts by `allocated`: bytes that the calling thread has allocated since it started. Until this is called, bounds of
/// memory hold by themselves.
pub fn measure_by(allocated: fn() -> u64) {
    METER.get_or_init(|| allocated);
}

/// What `act` comes to, and how many bytes it allocates.
pub(crate) fn metered<T>(act: impl FnOnce() -> T) -> (T, u64) {
    let allocated = || METER.get().map_or(0, |allocated| allocated());
    let before = allocated();
    let result = act();
    (result, allocated() - before)
}
