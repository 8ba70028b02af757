//! Converts the shared cache's errors to Python exceptions. All conversions are here.

use std::path::Path;

use flexcache_shared::Error;
use pyo3::exceptions::{
    PyException, PyKeyboardInterrupt, PyMemoryError, PyOSError, PyOverflowError, PyPermissionError,
    PyRuntimeError, PyTimeoutError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;

/// `ENOSPC`, the same on all of Linux.
const NO_SPACE: i32 = 28;

/// `EACCES`, as above.
const NO_PERMISSION: i32 = 13;

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
        Error::OutOfMemory | Error::NotMapped { .. } | Error::MemoryLimit { .. } => {
            PyMemoryError::new_err(message)
        }
        Error::NoSpace { path, .. } => PyOSError::new_err((NO_SPACE, message, path.into_os_string())),
        Error::NotOurs { path, what } => {
            PyPermissionError::new_err((NO_PERMISSION, what, path.into_os_string()))
        }
        Error::File { path, source } => match source.raw_os_error() {
            Some(number) => {
                let message = source.to_string();
                let message = message.split(" (os error").next().unwrap_or_default().to_owned();
                let path = path.into_os_string();
                // The number is the system's own, from which Python finds the `errno`.
                if cfg!(windows) {
                    PyOSError::new_err((0, message, path, number))
                } else {
                    PyOSError::new_err((number, message, path))
                }
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

/// The same for a call of an open cache, which the exception names if the cache, and not an argument, is the reason.
#[cold]
pub(super) fn raised_in(py: Python<'_>, error: Error, path: &Path) -> PyErr {
    let message = format!("{}: {error}", path.display());
    match error {
        Error::Busy | Error::Timeout { .. } => PyTimeoutError::new_err(message),
        Error::Damaged | Error::Retired => PyRuntimeError::new_err(message),
        error => raised(py, error),
    }
}

/// The exception for a key or a value whose bytes have no meaning. A `MemoryError` says nothing about the bytes.
#[cold]
pub(super) fn unreadable(py: Python<'_>, error: PyErr, path: &Path) -> PyErr {
    if error.is_instance_of::<PyMemoryError>(py) {
        return error;
    }
    let path = path.display();
    PyRuntimeError::new_err(format!("{path}: the stored data is damaged; clear() empties the cache"))
}

/// The exception of a serializer that cannot load a value. It may be any, so only a note says where the value is.
#[cold]
pub(super) fn of_pickle(py: Python<'_>, error: PyErr, path: &Path) -> PyErr {
    // Before Python 3.11 exceptions have no notes.
    if error.is_instance_of::<PyException>(py)
        && let Ok(add_note) = error.value(py).getattr("add_note")
    {
        let _ = add_note.call1((format!("while a value in {} was loaded", path.display()),));
    }
    error
}
