//! What is done when the program ends.

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};

use super::background::generation;

/// A function that the end of the program calls.
///
/// It is registered again in a forked child: `multiprocessing` lets its children forget what the parent has registered.
pub(crate) struct AtExit {
    registered_in: AtomicU64,
}

impl AtExit {
    pub(crate) const fn new() -> Self {
        Self { registered_in: AtomicU64::new(u64::MAX) }
    }

    /// Has the end of this process call a function. Does nothing after the first time. Runs Python code.
    pub(crate) fn call(&self, py: Python<'_>, at_exit: fn(Python<'_>) -> PyResult<()>) -> PyResult<()> {
        if self.registered_in.load(Ordering::Acquire) == generation() {
            return Ok(());
        }
        let end = PyCFunction::new_closure(
            py,
            None,
            None,
            move |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| at_exit(args.py()),
        )?;
        py.import(intern!(py, "atexit"))?.call_method1(intern!(py, "register"), (end,))?;
        self.registered_in.store(generation(), Ordering::Release);
        Ok(())
    }
}
