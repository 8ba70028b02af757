//! Log records to Python's `logging`, logger `flexcache_rs`.
//!
//! The first record imports `logging` and installs the bridge, so a program that never logs does not pay for
//! it. The bridge caches levels, so a record below the level costs no call into Python.

use std::sync::OnceLock;

use log::{Level, LevelFilter};
use pyo3::prelude::*;
use pyo3::types::IntoPyDict;
use pyo3_log::{Caching, Logger, ResetHandle};

use super::raised_later::raise_later;

const TARGET: &str = "flexcache_rs";

static BRIDGE: OnceLock<Option<ResetHandle>> = OnceLock::new();

/// Makes the bridge, which runs Python code.
fn make(py: Python<'_>) -> PyResult<Logger> {
    let logging = py.import("logging")?;
    // Silent unless the program configures where records go.
    let silent = logging.call_method0("NullHandler")?;
    logging.call_method1("getLogger", (TARGET,))?.call_method1("addHandler", (silent,))?;
    Ok(Logger::new(py, Caching::LoggersAndLevels)?.filter(LevelFilter::Debug))
}

fn write(py: Python<'_>, level: Level, message: &std::fmt::Arguments<'_>) {
    if BRIDGE.get().is_none() {
        // Making it may switch threads, and another one may fork. A child would wait for ever for a cell that its
        // parent was filling then, so only what runs no Python code happens in the cell.
        let logger = make(py).map_err(|error| error.write_unraisable(py, None)).ok();
        BRIDGE.get_or_init(|| logger.and_then(|logger| logger.install().ok()));
    }
    log::log!(target: TARGET, level, "{message}");
}

/// Logs an error at level `ERROR`.
pub(crate) fn error(py: Python<'_>, message: &std::fmt::Arguments<'_>) {
    // A log handler must neither see nor lose an exception that is propagating.
    let pending = PyErr::take(py);
    write(py, Level::Error, message);
    if let Some(raised) = PyErr::take(py)
        && !raise_later(py, &raised)
    {
        raised.write_unraisable(py, None);
    }
    if let Some(pending) = pending {
        pending.restore(py);
    }
}

/// Logs an action of the library at level `DEBUG`.
pub(crate) fn debug(py: Python<'_>, message: &std::fmt::Arguments<'_>) {
    // If nobody imported `logging`, nobody can have enabled this level.
    let imported = py
        .import("sys")
        .and_then(|sys| sys.getattr("modules"))
        .and_then(|modules| modules.contains("logging"))
        .unwrap_or(false);
    if imported {
        write(py, Level::Debug, message);
    }
}

/// The error with its traceback, as text.
pub(crate) fn describe(py: Python<'_>, error: &PyErr) -> String {
    let formatted = py.import("traceback").and_then(|traceback| {
        let lines = traceback.call_method(
            "format_exception",
            (error.get_type(py), error.value(py), error.traceback(py)),
            Some(&[("chain", true)].into_py_dict(py)?),
        )?;
        Ok(lines.extract::<Vec<String>>()?.concat())
    });
    formatted.unwrap_or_else(|_| error.to_string())
}

/// Read the log levels again.
///
/// The library looks up the levels of the logger ``flexcache_rs`` once, so that a record below the level costs
/// nothing. Call this after you have changed the levels. O(1).
///
/// >>> import logging, flexcache_rs
/// >>> logging.getLogger("flexcache_rs").setLevel(logging.DEBUG)
/// >>> flexcache_rs.reset_logging()
/// >>> logging.getLogger("flexcache_rs").setLevel(logging.NOTSET)
/// >>> flexcache_rs.reset_logging()
#[pyfunction]
pub(crate) fn reset_logging() {
    if let Some(Some(bridge)) = BRIDGE.get() {
        bridge.reset();
    }
}
