//! Converts the disk store's errors to Python exceptions. All conversions are here.

use std::path::Path;

use flexcache_disk::{DATABASE, Error, Key, ValueRef};
use pyo3::exceptions::{
    PyException, PyMemoryError, PyOSError, PyOverflowError, PyPermissionError, PyRuntimeError, PyTypeError,
    PyValueError,
};
use pyo3::intern;
use pyo3::prelude::*;

pyo3::create_exception!(
    flexcache_rs.disk,
    Timeout,
    PyRuntimeError,
    "The write lock was not acquired within `timeout` seconds, and `retry` was not given. Nothing was changed."
);

/// The most bytes of a key that a message shows.
const SHOWN: usize = 100;

/// SQLite's primary result codes that have an exception class of their own, and an error number of the
/// system.
mod code {
    /// `EACCES`.
    pub(super) const NO_PERMISSION: i32 = 13;
    pub(super) const ERROR: i32 = 1;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const TOO_BIG: i32 = 18;
    pub(super) const CONSTRAINT: i32 = 19;
    pub(super) const NOT_A_DATABASE: i32 = 26;
}

/// Adds to a message which database it is about, and what to do.
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
    let raised = py.import("sqlite3").and_then(|module| module.getattr(class)?.call1((&message,)));
    match raised {
        Ok(exception) => {
            if let Some(code) = extended {
                // Without the attribute, the message is enough.
                let _ = exception.setattr("sqlite_errorcode", code);
            }
            PyErr::from_value(exception)
        }
        // If the module cannot be imported, perhaps because there is no descriptor for its file, nobody can catch its
        // classes.
        Err(error) if error.is_instance_of::<PyException>(py) => {
            let raised = PyRuntimeError::new_err(message);
            raised.set_cause(py, Some(error));
            raised
        }
        // A signal handler has raised.
        Err(error) => error,
    }
}

/// The code of SQLite for a full disk.
const SQLITE_FULL: i32 = 13;

/// Whether an exception of `raised` says that the disk is full.
#[cold]
pub(super) fn is_disk_full(py: Python<'_>, error: &PyErr) -> bool {
    let code = error.value(py).getattr(intern!(py, "sqlite_errorcode"));
    code.and_then(|code| code.extract::<i32>()).is_ok_and(|code| code & 0xff == SQLITE_FULL)
}

/// Adds to an exception the key whose value cannot be read, which a disk object of the user does not know.
#[cold]
pub(super) fn of_key(py: Python<'_>, error: PyErr, key: &Key<'_>, directory: &Path) -> PyErr {
    let shown = match key.datum {
        _ if !key.raw => "a key that is pickled".to_owned(),
        ValueRef::Text(text) => {
            format!("the key {:?}", String::from_utf8_lossy(&text[..text.len().min(SHOWN)]))
        }
        ValueRef::Blob(bytes) => format!("the key b\"{}\"", bytes[..bytes.len().min(SHOWN)].escape_ascii()),
        ValueRef::Integer(number) => format!("the key {number}"),
        ValueRef::Real(number) => format!("the key {number:?}"),
        ValueRef::Null => "the key NULL".to_owned(),
    };
    // Before Python 3.11 exceptions have no notes.
    if error.is_instance_of::<PyException>(py)
        && let Ok(add_note) = error.value(py).getattr("add_note")
    {
        let _ = add_note.call1((format!("while the value of {shown} in {} was read", directory.display()),));
    }
    error
}

/// The exception for an error of a store, which names the directory.
#[cold]
pub(super) fn raised_in(py: Python<'_>, error: Error, directory: &Path) -> PyErr {
    match error {
        Error::Sqlite(_) | Error::NoLock(_) => sqlite(py, &error, Some(directory)),
        Error::InDoubt(error) => raised_in(py, *error, directory),
        Error::HeldByThisThread => PyRuntimeError::new_err(format!("{error}: {}", directory.display())),
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
        Error::ReadOnly { directory, why } => {
            let message = format!("the cache directory cannot be written{why}");
            PyPermissionError::new_err((code::NO_PERMISSION, message, directory.into_os_string()))
        }
        Error::OutOfMemory => PyMemoryError::new_err(error.to_string()),
        Error::NotANumber => PyTypeError::new_err("the value is not a number that can be incremented"),
        Error::Overflow => PyOverflowError::new_err("the sum does not fit 64 bits"),
        Error::NoSum | Error::NotAQueueKey(_) | Error::DamagedValue => {
            PyValueError::new_err(error.to_string())
        }
        _ => PyRuntimeError::new_err(error.to_string()),
    }
}
