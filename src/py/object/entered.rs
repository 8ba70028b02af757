//! The border for calls that the interpreter makes without PyO3's wrapping: panics and errors are caught
//! here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::prelude::*;

use super::running_python::attached;
use crate::py::process::panics::bug;

/// Runs a call. After a panic or an error, sets the exception and returns `failure`.
///
/// # Safety
///
/// The calling thread must be attached.
#[inline]
pub(crate) unsafe fn entered<'py, R>(failure: R, call: impl FnOnce(Python<'py>) -> PyResult<R>) -> R {
    // SAFETY: the caller's promise.
    let py = unsafe { Python::assume_attached() };
    match catch_unwind(AssertUnwindSafe(|| call(py))) {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => {
            raise(py, error);
            failure
        }
        Err(payload) => {
            raise(py, bug(&*payload));
            failure
        }
    }
}

#[cold]
fn raise(py: Python<'_>, error: PyErr) {
    attached(py, |py| error.restore(py));
}
