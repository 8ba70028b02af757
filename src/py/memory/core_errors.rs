//! Converts the core's errors to Python exceptions. All conversions are here.

use flexcache_core::{Error, OutOfMemory};
use pyo3::create_exception;
use pyo3::exceptions::{PyMemoryError, PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

create_exception!(
    flexcache_rs,
    TooLargeError,
    PyValueError,
    "The entry is larger than the whole cache may be."
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
        Error::OutOfMemory => out_of_memory(OutOfMemory),
        Error::Full => PyMemoryError::new_err(error.to_string()),
        other => PyRuntimeError::new_err(other.to_string()),
    }
}

/// The exception for a failed allocation. Like the interpreter's own, it has no message, which would have to
/// be allocated, too.
#[cold]
pub(crate) fn out_of_memory(_: OutOfMemory) -> PyErr {
    PyMemoryError::new_err(())
}

/// Collects the values of an iterator of `len` values.
///
/// # Errors
///
/// `MemoryError`, with nothing taken from the iterator.
pub(crate) fn try_collect<T>(len: usize, values: impl Iterator<Item = T>) -> PyResult<Vec<T>> {
    let mut all = try_with_capacity(len)?;
    all.extend(values);
    Ok(all)
}

/// An empty vector with room for `len` values.
///
/// # Errors
///
/// `MemoryError`.
pub(crate) fn try_with_capacity<T>(len: usize) -> PyResult<Vec<T>> {
    let mut all = Vec::new();
    all.try_reserve_exact(len).map_err(|error| out_of_memory(error.into()))?;
    Ok(all)
}
