//! The value that is stored for a result of which more has to be known, such as how long it is fresh.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use flexcache_core::{Clock, Nanos};
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType, PyWeakrefMethods, PyWeakrefReference};

use crate::py::process::clock::CacheClock;
use crate::py::process::guard::Guard;

/// The first item of the tuple of plain types in which a result goes to a store.
const STORED: &str = "flexcache_rs result";

/// A result, or an exception of the function, and how long it can be used.
///
/// Args:
///     value: The result, or the exception.
///     raised: Whether it is an exception.
///     fresh: The number of seconds for which calls return the result at once.
///     good: The number of seconds for which the result is valid. Afterwards it only replaces an error.
///     cost: The number of seconds that the computation took.
///     results: The object that holds the value, if this one does not.
// Stores hold pickles of it, so that its name in Python stays.
#[pyclass(frozen, name = "Remembered", module = "flexcache_rs._core")]
pub(crate) struct CachedResult {
    value: Value,
    #[pyo3(get)]
    raised: bool,
    #[pyo3(get)]
    cost: f64,
    fresh_until: Nanos,
    good_until: Nanos,
    /// The clock of these times.
    clock: CacheClock,
}

/// Where the result itself is.
enum Value {
    Here(Py<PyAny>),
    /// In the instance, to which it may refer. In the cache, it would form a cycle that the collector could
    /// not break.
    WithInstance {
        results: Py<PyWeakrefReference>,
        number: u64,
    },
}

/// The results of an instance's methods that may refer to it. The instance holds them, so that the
/// collector sees that they live only as long as each other.
#[pyclass(frozen, weakref, module = "flexcache_rs._core", name = "_InstanceResults")]
pub(crate) struct InstanceResults {
    results: Guard<HashMap<u64, Py<PyAny>>>,
    /// The instance, since a shallow copy of it has the same attributes.
    instance: Py<PyWeakrefReference>,
}

#[pymethods]
impl InstanceResults {
    #[new]
    fn new(instance: &Bound<'_, PyAny>) -> PyResult<Self> {
        let instance = PyWeakrefReference::new(instance)?.unbind();
        Ok(Self { results: Guard::new(HashMap::new(), true), instance })
    }

    /// Whether the results belong to this instance, and not to one of which it is a copy.
    fn belong_to(&self, instance: &Bound<'_, PyAny>) -> bool {
        self.instance.bind(instance.py()).upgrade().is_some_and(|it| it.is(instance))
    }

    /// Pickles and copies of the instance have none.
    fn __reduce__<'py>(this: &Bound<'py, Self>) -> (Bound<'py, PyType>, Bound<'py, PyTuple>) {
        let py = this.py();
        (py.None().bind(py).get_type(), PyTuple::empty(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector calls attached.
        let py = unsafe { Python::assume_attached() };
        let visited = self.results.try_with(py, |all| all.values().try_for_each(|value| visit.call(value)));
        visited.unwrap_or(Ok(()))
    }

    fn __clear__(&self, py: Python<'_>) {
        drop(self.results.with(py, std::mem::take));
    }
}

/// The contents of a pickle: the arguments of the constructor.
type State = (Option<Py<PyAny>>, bool, f64, f64, f64);

/// The contents of a store: a mark, the value, whether it was raised, times in seconds since 1970, the cost.
type StoredParts<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, bool, Option<f64>, Option<f64>, f64);

/// The time `seconds` seconds from now.
fn after(seconds: f64, clock: &CacheClock) -> PyResult<Nanos> {
    if seconds.is_nan() {
        return Err(PyValueError::new_err("a time must not be NaN"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let nanos = (seconds.max(0.0) * 1e9) as u64;
    Ok(clock.now().saturating_add(nanos))
}

#[expect(clippy::cast_precision_loss, reason = "a time in seconds needs no nanoseconds")]
fn seconds_until(moment: Nanos, clock: &CacheClock) -> f64 {
    if moment == Nanos::MAX {
        return f64::INFINITY;
    }
    let now = clock.now();
    if moment >= now { (moment - now) as f64 / 1e9 } else { -((now - moment) as f64 / 1e9) }
}

/// Seconds since 1970.
fn wall_clock() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[pymethods]
impl CachedResult {
    #[new]
    #[pyo3(signature = (value, raised, fresh, good, cost, results=None))]
    fn new(
        py: Python<'_>,
        value: Py<PyAny>,
        raised: bool,
        fresh: f64,
        good: f64,
        cost: f64,
        results: Option<&Bound<'_, InstanceResults>>,
    ) -> PyResult<Self> {
        Self::made(py, value, [fresh, good], raised, cost, results, CacheClock::System)
    }

    /// The result, or the exception. None if it is lost.
    #[getter]
    fn value(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match &self.value {
            Value::Here(value) => Some(value.clone_ref(py)),
            Value::WithInstance { results, number } => {
                let results = results.bind(py).upgrade_as::<InstanceResults>().ok()??;
                let value =
                    results.get().results.with(py, |all| all.get(number).map(|value| value.clone_ref(py)));
                value.ok()?
            }
        }
    }

    /// Whether the instance that held the result no longer has it.
    #[getter]
    fn lost(&self, py: Python<'_>) -> bool {
        self.value(py).is_none()
    }

    /// Whether calls return the result at once.
    #[getter]
    fn fresh(&self, py: Python<'_>) -> bool {
        self.if_fresh(py).is_some()
    }

    /// The number of seconds for which the result is still valid. It is negative afterwards.
    #[getter]
    fn good_for(&self) -> f64 {
        seconds_until(self.good_until, &self.clock)
    }

    fn __reduce__<'py>(this: &Bound<'py, Self>) -> (Bound<'py, PyType>, State) {
        let (of, me) = (this.get_type(), this.get());
        let (fresh, good) =
            (seconds_until(me.fresh_until, &me.clock), seconds_until(me.good_until, &me.clock));
        (of, (me.value(this.py()), me.raised, fresh, good, me.cost))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let value = self.value(py).into_pyobject(py)?.repr()?;
        Ok(if self.raised {
            format!("<remembered: raised {value}>")
        } else {
            format!("<remembered: {value}>")
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.value {
            Value::Here(value) => visit.call(value),
            Value::WithInstance { results, .. } => visit.call(results),
        }
    }
}

impl Drop for CachedResult {
    fn drop(&mut self) {
        let Value::WithInstance { results, number } = &self.value else { return };
        let _ = Python::try_attach(|py| {
            let results = results.bind(py).upgrade_as::<InstanceResults>().ok().flatten();
            let value = results.map(|results| results.get().results.with(py, |all| all.remove(number)));
            drop(value);
        });
    }
}

impl CachedResult {
    /// A result that is fresh for `fresh` seconds and good for `good` seconds.
    pub(crate) fn made(
        py: Python<'_>,
        value: Py<PyAny>,
        [fresh, good]: [f64; 2],
        raised: bool,
        cost: f64,
        results: Option<&Bound<'_, InstanceResults>>,
        clock: CacheClock,
    ) -> PyResult<Self> {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let (fresh_until, good_until) = (after(fresh, &clock)?, after(good, &clock)?);
        let value = match results {
            None => Value::Here(value),
            Some(results) => {
                let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
                let weak = PyWeakrefReference::new(results)?.unbind();
                results.get().results.with(py, |all| all.insert(number, value))?;
                Value::WithInstance { results: weak, number }
            }
        };
        Ok(Self { value, raised, cost, fresh_until, good_until, clock })
    }

    /// The object as a `CachedResult`, if it is one.
    #[inline]
    pub(crate) fn of<'a, 'py>(object: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, Self>> {
        object.cast_exact::<Self>().ok()
    }

    /// The result, if it is fresh and was not raised.
    #[inline]
    pub(crate) fn if_fresh(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let fresh = !self.raised && (self.fresh_until == Nanos::MAX || self.clock.now() < self.fresh_until);
        if fresh { self.value(py) } else { None }
    }

    /// The result or the exception, unless it is lost.
    pub(crate) fn kept(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.value(py)
    }

    /// The form for a store: a tuple of plain types, with times in seconds since 1970.
    pub(crate) fn stored<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let moment = |moment: Nanos| {
            (moment != Nanos::MAX)
                .then(|| wall_clock() + seconds_until(moment, &self.clock))
                .into_pyobject(py)
        };
        PyTuple::new(
            py,
            [
                intern!(py, STORED).clone().into_any(),
                self.value(py).into_pyobject(py)?.into_any(),
                self.raised.into_pyobject(py)?.to_owned().into_any(),
                moment(self.fresh_until)?.into_any(),
                moment(self.good_until)?.into_any(),
                self.cost.into_pyobject(py)?.into_any(),
            ],
        )
    }

    /// The result for a tuple that [`stored`](Self::stored) made; `None` for other values.
    pub(crate) fn from_stored(value: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        let py = value.py();
        let Some((_, value, raised, fresh, good, cost)) = stored_parts(value)? else { return Ok(None) };
        let left = |moment: Option<f64>| moment.map_or(f64::INFINITY, |moment| moment - wall_clock());
        let remembered = Self::new(py, value.unbind(), raised, left(fresh), left(good), cost, None)?;
        Ok(Some(Py::new(py, remembered)?.into_any()))
    }
}

/// The parts of a tuple in which a store has a result; `None` for other values.
fn stored_parts<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<StoredParts<'py>>> {
    let Ok(parts) = value.cast_exact::<PyTuple>() else { return Ok(None) };
    if parts.len() != 6 || !parts.get_item(0)?.eq(intern!(value.py(), STORED))? {
        return Ok(None);
    }
    Ok(parts.extract().ok())
}

/// What a store has of a result, as if that were good no more: a caller gets it in place of an error alone. None of anything
/// else, and of an exception.
#[pyfunction]
#[pyo3(name = "_expired_result")]
pub(crate) fn expired_result<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<StoredParts<'py>>> {
    let expired = stored_parts(value)?.filter(|parts| !parts.2);
    Ok(expired.map(|(mark, value, raised, _, _, cost)| (mark, value, raised, Some(0.0), Some(0.0), cost)))
}
