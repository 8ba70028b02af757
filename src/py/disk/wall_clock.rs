//! The time of day, as Python's own module tells it.

use std::time::{SystemTime, UNIX_EPOCH};

use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyDict};

/// What the module `time` holds, and its function `time` as it is when nobody has replaced it.
static TIME: PyOnceLock<(Py<PyDict>, Option<Py<PyAny>>)> = PyOnceLock::new();

/// Seconds since the epoch. Asked of the module each time, so that tests may replace it; where they
/// have not, without calling it.
pub(super) fn now(py: Python<'_>) -> PyResult<f64> {
    let (module, own) = TIME.get_or_try_init(py, || {
        let module = py.import("time")?;
        let time = module.getattr(pyo3::intern!(py, "time"))?;
        let own = time.is_instance_of::<PyCFunction>().then(|| time.unbind());
        Ok::<_, PyErr>((module.dict().unbind(), own))
    })?;
    let name = pyo3::intern!(py, "time");
    let time =
        module.bind(py).get_item(name)?.ok_or_else(|| PyAttributeError::new_err("time.time is gone"))?;
    match (own, SystemTime::now().duration_since(UNIX_EPOCH)) {
        (Some(own), Ok(now)) if time.is(own) => Ok(now.as_secs_f64()),
        _ => time.call0()?.extract(),
    }
}
