//! ^C in programs that measure or try something for long: what they have so far is printed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::SIGINT;

/// How programs end that were interrupted: 128 and the number of SIGINT.
pub(crate) const EXIT_CODE: u8 = 130;

/// Whether somebody asked the program to end.
#[derive(Debug, Default)]
pub(crate) struct Interrupt {
    is_asked: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens for ^C from here on. A second one ends the program at once.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(crate) fn catch() -> io::Result<Self> {
        let interrupt = Self::default();
        // In this order: the first one finds the flag down. SIGTERM still ends it at once.
        let asked = || Arc::clone(&interrupt.is_asked);
        signal_hook::flag::register_conditional_shutdown(SIGINT, i32::from(EXIT_CODE), asked())?;
        signal_hook::flag::register(SIGINT, asked())?;
        Ok(interrupt)
    }

    /// As a first ^C does it.
    #[cfg(test)]
    pub(crate) fn ask(&self) {
        self.is_asked.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::Relaxed)
    }
}
