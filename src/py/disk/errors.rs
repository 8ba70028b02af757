//! The one way from the disk store's errors to Python's exceptions.

use std::path::Path;

use flexcache_disk::{DATABASE, Error};
use pyo3::exceptions::{
    PyMemoryError, PyOSError, PyOverflowError, PyRuntimeError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;

pyo3::create_exception!(
    flexcache_rs.disk,
    Timeout,
    PyRuntimeError,
    "Others were writing for longer than `timeout`, and `retry` was not given. Nothing has changed."
);

/// SQLite's primary result codes that have a class of their own.
mod code {
    pub(super) const ERROR: i32 = 1;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const TOO_BIG: i32 = 18;
    pub(super) const CONSTRAINT: i32 = 19;
    pub(super) const NOT_A_DATABASE: i32 = 26;
}

/// Says which database it is, and what to do about it.
fn explain(message: &mut String, code: Option<i32>, database: &str) {
    if !message.contains(database) {
        *message += &format!(": {database}");
    }
    match code.map(|code| code & 0xff) {
        Some(code::CORRUPT | code::NOT_A_DATABASE) => {
            *message += " (delete it, or its directory, and the next opening makes an empty one)";
        }
        Some(code::ERROR) if message.starts_with("no such table") => {
            *message += " (it was deleted while the cache was open: open the directory again)";
        }
        _ => {}
    }
}

/// The exception of a class of the module `sqlite3`, which programs catch.
fn sqlite(py: Python<'_>, error: &Error, directory: Option<&Path>) -> PyErr {
    let extended = error.sqlite_code();
    let class = match extended.map(|code| code & 0xff) {
        Some(code::CORRUPT | code::NOT_A_DATABASE) | None => "DatabaseError",
        Some(code::TOO_BIG) => "DataError",
        Some(code::CONSTRAINT) => "IntegrityError",
        Some(_) => "OperationalError",
    };
    let mut message = error.to_string();
    if let Some(directory) = directory {
        explain(&mut message, extended, &directory.join(DATABASE).display().to_string());
    }
    let raised = py.import("sqlite3").and_then(|module| module.getattr(class)?.call1((message,)));
    match raised {
        Ok(exception) => {
            if let Some(code) = extended {
                // The message alone would do.
                let _ = exception.setattr("sqlite_errorcode", code);
            }
            PyErr::from_value(exception)
        }
        Err(error) => error,
    }
}

/// The exception for an error of a store, and in which directory.
#[cold]
pub(super) fn raised_in(py: Python<'_>, error: Error, directory: &Path) -> PyErr {
    match error {
        Error::Sqlite(_) | Error::NoLock(_) => sqlite(py, &error, Some(directory)),
        Error::InDoubt(error) => raised_in(py, *error, directory),
        error => raised(py, error),
    }
}

/// The exception for an error of the store.
#[cold]
pub(super) fn raised(py: Python<'_>, error: Error) -> PyErr {
    match error {
        Error::Busy => Timeout::new_err(()),
        Error::Sqlite(_) | Error::NoLock(_) => sqlite(py, &error, None),
        Error::InDoubt(error) => raised(py, *error),
        Error::File { path, source } => match source.raw_os_error() {
            Some(number) => {
                let message = source.to_string();
                let message = message.split(" (os error").next().unwrap_or_default().to_owned();
                PyOSError::new_err((number, message, path.into_os_string()))
            }
            None => PyOSError::new_err(format!("{}: {source}", path.display())),
        },
        Error::OutOfMemory => PyMemoryError::new_err(error.to_string()),
        Error::NotANumber => PyTypeError::new_err("the value is not a number that can be incremented"),
        Error::Overflow => PyOverflowError::new_err("the sum does not fit 64 bits"),
        Error::NoSum | Error::NotAQueueKey(_) | Error::DamagedValue => {
            PyValueError::new_err(error.to_string())
        }
        _ => PyRuntimeError::new_err(error.to_string()),
    }
}
