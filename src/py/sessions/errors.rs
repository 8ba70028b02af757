//! Converts the errors of stores to the exceptions of `flexcache_rs.sessions`. All conversions are here.

use flexcache_containers::Error;
use pyo3::exceptions::{PyIndexError, PyMemoryError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;

/// An exception of `flexcache_rs.sessions`, by its name.
#[cold]
pub(super) fn of_sessions(py: Python<'_>, name: &str, message: String) -> PyErr {
    let class = py.import("flexcache_rs.sessions._errors").and_then(|module| module.getattr(name));
    match class.and_then(|class| class.call1((message,))) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// The exception for an error.
#[cold]
pub(super) fn raised(py: Python<'_>, error: &Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Kind { .. } => of_sessions(py, "KindError", message),
        Error::Conflict => of_sessions(py, "ConflictError", message),
        Error::NotInTransaction(_) => of_sessions(py, "UnsupportedError", message),
        Error::NotANumber => PyTypeError::new_err(message),
        Error::Overflow | Error::NoSum => PyOverflowError::new_err(message),
        Error::NoElement(_) => PyIndexError::new_err(message),
        Error::OutOfMemory => PyMemoryError::new_err(message),
        _ => PyValueError::new_err(message),
    }
}
