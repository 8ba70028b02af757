//! The clock of deadlines: nanoseconds since the machine booted, including the time that it sleeps.

use std::cell::Cell;

use crate::system;

/// The time now. It is never 0.
#[must_use]
pub fn now() -> u64 {
    system::now().max(1)
}

/// The time of one call, read when it is first needed.
#[derive(Default)]
pub(crate) struct Now(Cell<u64>);

impl Now {
    #[inline]
    pub(crate) fn get(&self) -> u64 {
        if self.0.get() == 0 {
            self.0.set(now());
        }
        self.0.get()
    }

    /// Whether a deadline has passed; 0 is none.
    #[inline]
    pub(crate) fn is_past(&self, deadline: u64) -> bool {
        deadline != 0 && deadline <= self.get()
    }
}
