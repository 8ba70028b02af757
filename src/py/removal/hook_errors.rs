//! Exceptions of hooks and listeners, which are counted and logged because no caller could handle them.

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;

use crate::py::object::running_python::{interpreter_is_ending, report_unraisable};
use crate::py::process::raised_later::raise_later;
use crate::py::process::{background, logging, stack};

/// The stack that a report needs if it has to import `logging` and `traceback`.
const ROOM_TO_REPORT: usize = 192 << 10;

/// The number of exceptions that the hooks and listeners of one cache have raised.
#[derive(Default)]
pub(crate) struct HookErrors(AtomicU64);

impl HookErrors {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Counts and logs what `hook` raised. What ends the program is raised after the call instead.
    pub(crate) fn add(&self, py: Python<'_>, hook: &str, error: &PyErr) {
        self.0.fetch_add(1, Ordering::Relaxed);
        if interpreter_is_ending() {
            // At the end of the interpreter, `logging` may no longer work.
            report_unraisable(py, error.clone_ref(py));
            return;
        }
        if raise_later(py, error) {
            return;
        }
        if stack::has_room(ROOM_TO_REPORT) {
            report(py, hook, error);
            return;
        }
        // The thread's stack is small or used up, so another thread reports.
        let (hook, raised) = (hook.to_owned(), error.clone_ref(py));
        if background::run(py, Box::new(move |py| report(py, &hook, &raised))).is_err() {
            report_unraisable(py, error.clone_ref(py));
        }
    }
}

fn report(py: Python<'_>, hook: &str, error: &PyErr) {
    let raised = logging::describe(py, error);
    logging::error(py, &format_args!("{hook} raised as an entry left:\n{raised}"));
}
