//! Panics, which are bugs of this library. They are caught at the border to Python, and counted.

use std::any::Any;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

static COUNT: AtomicU64 = AtomicU64::new(0);

/// Starts to count panics in every thread, including those that are caught.
pub(crate) fn count() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            COUNT.fetch_add(1, Ordering::Relaxed);
            report(panic);
        }));
    });
}

/// How many panics there have been in this process.
#[pyfunction]
pub(crate) fn _panics() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// The exception for a caught panic, which says that it is a bug of this library.
#[cold]
pub(crate) fn bug(payload: &(dyn Any + Send)) -> PyErr {
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    PyRuntimeError::new_err(format!("a bug in flexcache_rs, please report it: {message}"))
}
