//! The argument `clock`: a function of the user that returns the time.

use std::sync::Arc;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt};

use super::options;
use crate::py::object::integer::shown;
use crate::py::object::running_python::call;
use crate::py::process::clock::GivenTime;

/// A function that returns the time, and its last result.
pub(crate) struct GivenClock {
    pub(super) function: Py<PyAny>,
    pub(super) time: Arc<GivenTime>,
}

impl GivenClock {
    /// Converts the argument `clock`. This calls the function, so that a wrong one is refused here.
    pub(super) fn of(value: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let Some(function) = options::callable("clock", value)? else { return Ok(None) };
        let clock = Self { function, time: Arc::new(GivenTime::new()) };
        clock.read(value.py())?;
        Ok(Some(clock))
    }

    /// Calls the function and keeps the time.
    pub(super) fn read(&self, py: Python<'_>) -> PyResult<()> {
        let function = self.function.bind(py);
        let told = call(function, [])?;
        let shown_function = || shown(&function.as_borrowed());
        if !told.is_instance_of::<PyFloat>() && !told.is_instance_of::<PyInt>() {
            return Err(PyTypeError::new_err(format!(
                "clock {} must return a number of seconds, not {}",
                shown_function(),
                told.get_type().name()?
            )));
        }
        let seconds = told.extract::<f64>().ok().filter(|seconds| seconds.is_finite()).ok_or_else(|| {
            PyValueError::new_err(format!(
                "clock {} must return a number of seconds, not {}",
                shown_function(),
                shown(&told.as_borrowed())
            ))
        })?;
        self.time.advance_to(seconds);
        Ok(())
    }
}
