//! The time of day, from Python's module `time`.

use std::time::{SystemTime, UNIX_EPOCH};

use pyo3::exceptions::PyAttributeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyDict};

/// Python's module `time`, before anything in it was replaced.
struct TimeModule {
    content: Py<PyDict>,
    /// Its function `time`, and the address of the C function that it calls, which some libraries replace.
    own: Option<(Py<PyAny>, usize)>,
}

static TIME: PyOnceLock<TimeModule> = PyOnceLock::new();

/// The address of the C function behind a built-in function.
fn address(function: &Bound<'_, PyAny>) -> usize {
    // SAFETY: the object is a function written in C, as the caller has found out, and lives.
    unsafe { ffi::PyCFunction_GetFunction(function.as_ptr()) }.map_or(0, |call| call as usize)
}

/// Remembers the module's function before a test can replace it.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    known(py).map(drop)
}

fn known(py: Python<'_>) -> PyResult<&TimeModule> {
    TIME.get_or_try_init(py, || {
        let module = py.import("time")?;
        let time = module.getattr(pyo3::intern!(py, "time"))?;
        let own = time.is_instance_of::<PyCFunction>().then(|| {
            let address = address(&time);
            (time.unbind(), address)
        });
        Ok(TimeModule { content: module.dict().unbind(), own })
    })
}

/// Seconds since the epoch. The module's function is looked up each time, so that tests may replace it. If it
/// was not replaced, the time is read without calling it.
pub(crate) fn now(py: Python<'_>) -> PyResult<f64> {
    let TimeModule { content, own } = known(py)?;
    let name = pyo3::intern!(py, "time");
    let time =
        content.bind(py).get_item(name)?.ok_or_else(|| PyAttributeError::new_err("time.time is gone"))?;
    match (own, SystemTime::now().duration_since(UNIX_EPOCH)) {
        (Some((own, calls)), Ok(now)) if time.is(own) && address(&time) == *calls => Ok(now.as_secs_f64()),
        _ => time.call0()?.extract(),
    }
}
