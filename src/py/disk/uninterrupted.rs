//! Waiting that signals do not interrupt.

use std::cell::Cell;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::py::object::running_python;

/// Whether signals may interrupt waiting on a thread.
#[derive(Clone, Copy)]
enum Signals {
    Interrupt,
    Wait,
    WaitUntil(Instant),
}

thread_local! {
    static SIGNALS: Cell<Signals> = const { Cell::new(Signals::Interrupt) };
    /// Whether a signal has interrupted waiting after the uninterrupted time was over.
    static WAS_INTERRUPTED: Cell<bool> = const { Cell::new(false) };
}

/// Raises what a signal handler raises, unless this thread must not be interrupted.
pub(super) fn check_signals(py: Python<'_>) -> PyResult<()> {
    match SIGNALS.get() {
        Signals::Interrupt => running_python::check_signals(py),
        Signals::Wait => Ok(()),
        Signals::WaitUntil(time) if Instant::now() < time => Ok(()),
        Signals::WaitUntil(_) => running_python::check_signals(py).inspect_err(|_| WAS_INTERRUPTED.set(true)),
    }
}

/// While this exists, waiting on this thread does not check for signals.
pub(super) struct Uninterrupted(Signals);

impl Uninterrupted {
    pub(super) fn begin() -> Self {
        Self(SIGNALS.replace(Signals::Wait))
    }

    /// For at most `time`. Within another such wait without a limit, there is no limit.
    pub(super) fn up_to(time: Duration) -> Self {
        WAS_INTERRUPTED.set(false);
        let before = SIGNALS.get();
        if matches!(before, Signals::Interrupt) {
            SIGNALS.set(Signals::WaitUntil(Instant::now() + time));
        }
        Self(before)
    }

    /// Whether a signal handler has raised on this thread after the time of the last wait was over.
    pub(super) fn was_interrupted() -> bool {
        WAS_INTERRUPTED.get()
    }
}

impl Drop for Uninterrupted {
    fn drop(&mut self) {
        SIGNALS.set(self.0);
    }
}
