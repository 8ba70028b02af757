//! Waiting that signals do not interrupt.

use std::cell::Cell;

thread_local! {
    static UNINTERRUPTED: Cell<bool> = const { Cell::new(false) };
}

/// Whether waiting must not look for signals.
pub(super) fn is_uninterrupted() -> bool {
    UNINTERRUPTED.get()
}

/// While it lives, waiting on this thread does not look for signals.
pub(super) struct Uninterrupted(bool);

impl Uninterrupted {
    pub(super) fn begin() -> Self {
        Self(UNINTERRUPTED.replace(true))
    }
}

impl Drop for Uninterrupted {
    fn drop(&mut self) {
        UNINTERRUPTED.set(self.0);
    }
}
