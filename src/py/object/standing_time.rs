//! `StandingTime`: a timer whose time stands still inside a `with` block.
//!
//! Both ends of the block are native. A signal handler that raised as an `__exit__` in Python begins would leave the time
//! standing still for ever.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::py::process::guard::Guard;

/// The base class of a timer. Its clock is any function without arguments.
#[pyclass(subclass, frozen, module = "flexcache_rs._core")]
pub(crate) struct StandingTime {
    clock: Py<PyAny>,
    standing: Guard<Standing>,
}

struct Standing {
    /// The number of blocks.
    depth: isize,
    /// The time of the outermost block; `None` outside of blocks.
    now: Option<Py<PyAny>>,
}

#[pymethods]
impl StandingTime {
    #[new]
    fn new(clock: Py<PyAny>) -> Self {
        Self { clock, standing: Guard::new(Standing { depth: 0, now: None }, true) }
    }

    #[getter]
    fn _clock(&self, py: Python<'_>) -> Py<PyAny> {
        self.clock.clone_ref(py)
    }

    /// Returns the time of the outermost block, or reads the clock.
    #[pyo3(name = "_time")]
    fn time<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.standing.with(py, |standing| standing.now.as_ref().map(|now| now.clone_ref(py)))? {
            Some(now) => Ok(now.into_bound(py)),
            None => self.clock.bind(py).call0(),
        }
    }

    /// Returns the time of the outermost block, which reads the clock.
    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let now = self.time(py)?.unbind();
        // Another thread may have entered meanwhile, and its time stands then.
        let stands = self.standing.with(py, |standing| {
            standing.depth += 1;
            standing.now.get_or_insert_with(|| now.clone_ref(py)).clone_ref(py)
        })?;
        drop(now);
        Ok(stands.into_bound(py))
    }

    #[pyo3(signature = (*_raised))]
    fn __exit__(&self, py: Python<'_>, _raised: &Bound<'_, PyTuple>) -> PyResult<()> {
        let ended = self.standing.with(py, |standing| {
            // One end too many, by a program that calls this method itself, ends nothing.
            standing.depth = (standing.depth - 1).max(0);
            if standing.depth == 0 { standing.now.take() } else { None }
        })?;
        drop(ended);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs this in a thread that is attached; the token is used for
        // nothing but to take the lock.
        let py = unsafe { Python::assume_attached() };
        visit.call(&self.clock)?;
        self.standing.try_with(py, |standing| visit.call(&standing.now)).unwrap_or(Ok(()))
    }
}
