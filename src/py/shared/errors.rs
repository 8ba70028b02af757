//! Converts the shared cache's errors to Python exceptions. All conversions are here.

use flexcache_shared::Error;
use pyo3::exceptions::{
    PyKeyboardInterrupt, PyMemoryError, PyOSError, PyOverflowError, PyPermissionError, PyRuntimeError,
    PyTimeoutError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;

/// `ENOSPC`, the same on all of Linux.
const NO_SPACE: i32 = 28;

/// The exception for an error of the crate.
#[cold]
pub(super) fn raised(py: Python<'_>, error: Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Busy | Error::Timeout { .. } | Error::DirectoryBusy(_) => PyTimeoutError::new_err(message),
        Error::TooLarge { .. } => {
            let class = py.import("flexcache_rs").and_then(|package| package.getattr("TooLargeError"));
            match class.and_then(|class| class.call1((message,))) {
                Ok(exception) => PyErr::from_value(exception),
                Err(error) => error,
            }
        }
        Error::OutOfRange { .. } | Error::BadName(_) => PyValueError::new_err(message),
        Error::NotANumber => {
            PyTypeError::new_err("the stored value is not a 64-bit int and cannot be incremented")
        }
        // Only if the interpreter ends; otherwise the exception of the signal handler is raised.
        Error::Interrupted => PyKeyboardInterrupt::new_err(message),
        Error::Overflow => PyOverflowError::new_err(message),
        Error::OutOfMemory | Error::MemoryLimit { .. } => PyMemoryError::new_err(message),
        Error::NoSpace { path, .. } => PyOSError::new_err((NO_SPACE, message, path.into_os_string())),
        Error::NotOurs { .. } => PyPermissionError::new_err(message),
        Error::File { path, source } => match source.raw_os_error() {
            Some(number) => {
                let message = source.to_string();
                let message = message.split(" (os error").next().unwrap_or_default().to_owned();
                PyOSError::new_err((number, message, path.into_os_string()))
            }
            None => PyOSError::new_err(message),
        },
        Error::NotASegment { .. }
        | Error::OtherLayout { .. }
        | Error::OtherNamespace(_)
        | Error::Filesystem { .. } => PyOSError::new_err(message),
        _ => PyRuntimeError::new_err(message),
    }
}
