//! The one way from the core's errors to Python's exceptions.

use flexcache_core::Error;
use pyo3::create_exception;
use pyo3::exceptions::{PyMemoryError, PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

create_exception!(
    flexcache_rs,
    TooLargeError,
    PyValueError,
    "An entry is larger than the whole cache may be."
);

/// The exception for a refused entry.
#[cold]
pub(crate) fn refused(error: Error) -> PyErr {
    match error {
        Error::TooHeavy { weight, limit } => TooLargeError::new_err(format!(
            "the entry's size of {weight} is larger than max_bytes allows (at most {limit})"
        )),
        Error::WeightOverflow { weight, total } => PyOverflowError::new_err(format!(
            "the entry's size of {weight} on top of the {total} already stored does not fit 64 bits"
        )),
        Error::Full => PyMemoryError::new_err(error.to_string()),
        other => PyRuntimeError::new_err(other.to_string()),
    }
}
