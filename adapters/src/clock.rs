//! Real time. For backends.

use kraft_core::time::Instant;

/// Monotonic time since the adapter was opened.
///
/// Read once a turn for `now` (law A17), and again wherever a wait is to be bounded or a deadline set.
#[derive(Clone, Copy, Debug)]
pub struct Clock(std::time::Instant);

impl Clock {
    /// A clock that stands at [`Instant::ZERO`].
    #[must_use]
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// The time.
    #[must_use]
    pub fn now(self) -> Instant {
        Instant::ZERO + self.0.elapsed()
    }
}
