//! What is stored where more has to be known of a result than the result.

use flexcache_core::{Clock, Nanos};
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::py::process::clock::SystemClock;

/// A result, or what the function raised, and how long it can be used without a second thought.
///
/// Args:
///     value: the result, or the exception.
///     raised: whether it was raised.
///     fresh: for how many seconds the result is simply returned.
///     good: for how many seconds it is as good as asked for; later it only replaces an error.
///     cost: how many seconds it took to compute.
// Stores hold pickles of it, so that its name in Python stays.
#[pyclass(frozen, name = "Remembered", module = "flexcache_rs._core")]
pub(crate) struct CachedResult {
    #[pyo3(get)]
    value: Py<PyAny>,
    #[pyo3(get)]
    raised: bool,
    #[pyo3(get)]
    cost: f64,
    fresh_until: Nanos,
    good_until: Nanos,
}

/// What a pickle holds: the arguments of the constructor.
type State = (Py<PyAny>, bool, f64, f64, f64);

/// The moment so many seconds from now.
fn after(seconds: f64) -> PyResult<Nanos> {
    if seconds.is_nan() {
        return Err(PyValueError::new_err("a time must not be NaN"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let nanos = (seconds.max(0.0) * 1e9) as u64;
    Ok(SystemClock.now().saturating_add(nanos))
}

#[expect(clippy::cast_precision_loss, reason = "a time in seconds needs no nanoseconds")]
fn seconds_until(moment: Nanos) -> f64 {
    if moment == Nanos::MAX {
        return f64::INFINITY;
    }
    let now = SystemClock.now();
    if moment >= now { (moment - now) as f64 / 1e9 } else { -((now - moment) as f64 / 1e9) }
}

#[pymethods]
impl CachedResult {
    #[new]
    fn new(value: Py<PyAny>, raised: bool, fresh: f64, good: f64, cost: f64) -> PyResult<Self> {
        Ok(Self { value, raised, cost, fresh_until: after(fresh)?, good_until: after(good)? })
    }

    /// For how many seconds the result is still as good as asked for; negative afterwards.
    #[getter]
    fn good_for(&self) -> f64 {
        seconds_until(self.good_until)
    }

    fn __reduce__<'py>(this: &Bound<'py, Self>) -> (Bound<'py, PyType>, State) {
        let (of, me) = (this.get_type(), this.get());
        let (fresh, good) = (seconds_until(me.fresh_until), seconds_until(me.good_until));
        (of, (me.value.clone_ref(this.py()), me.raised, fresh, good, me.cost))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let value = self.value.bind(py).repr()?;
        Ok(if self.raised {
            format!("<remembered: raised {value}>")
        } else {
            format!("<remembered: {value}>")
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.value)
    }
}

impl CachedResult {
    /// The object as one of these, if it is one.
    #[inline]
    pub(crate) fn of<'a, 'py>(object: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, Self>> {
        object.cast_exact::<Self>().ok()
    }

    /// The result, if that is all there is to say.
    #[inline]
    pub(crate) fn if_fresh(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let fresh = !self.raised && (self.fresh_until == Nanos::MAX || SystemClock.now() < self.fresh_until);
        fresh.then(|| self.value.clone_ref(py))
    }
}
