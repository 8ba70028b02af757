//! Arguments that several calls have in common.

use std::ops::Deref;

use flexcache_disk::{Entry, Side};
use pyo3::exceptions::{PyKeyError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyBool, PyDelta, PyFloat, PyTuple};

use super::datum::{Datum, to_object};
use crate::py::object::argument::{described, text};
use crate::py::object::integer::{integer, shown};
use crate::py::object::real::other_real;

/// An argument for which None is not the same as nothing.
pub(super) enum OptionalArgument<'py> {
    Absent,
    Present(Bound<'py, PyAny>),
}

impl<'py> OptionalArgument<'py> {
    pub(super) fn or(self, default: impl FnOnce() -> Bound<'py, PyAny>) -> Bound<'py, PyAny> {
        match self {
            Self::Absent => default(),
            Self::Present(object) => object,
        }
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for OptionalArgument<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self::Present(object.to_owned()))
    }
}

/// The name of a queue.
pub(super) struct Prefix(PyBackedStr);

impl Deref for Prefix {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Prefix {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        text("prefix", "a str or None", &object).map(Self)
    }
}

/// An end of a queue.
pub(super) struct End(pub(super) Side);

impl<'a, 'py> FromPyObject<'a, 'py> for End {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        match &*text("side", "'front' or 'back'", &object)? {
            "front" => Ok(Self(Side::Front)),
            "back" => Ok(Self(Side::Back)),
            // As in python-diskcache.
            _ => Err(PyKeyError::new_err(format!("side must be 'front' or 'back', not {}", shown(&object)))),
        }
    }
}

/// What is asked about a value besides.
pub(super) struct WithDetails {
    pub(super) expire_time: bool,
    pub(super) tag: bool,
}

impl WithDetails {
    /// The value alone, or in a tuple with what is wanted.
    pub(super) fn shape<'py>(
        &self,
        value: Bound<'py, PyAny>,
        entry: Option<&Entry>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = value.py();
        let expires = || match entry.and_then(|entry| entry.expire_time) {
            Some(time) => PyFloat::new(py, time).into_any(),
            None => py.None().into_bound(py),
        };
        let tag = || entry.map_or_else(|| Ok(py.None().into_bound(py)), |entry| to_object(py, &entry.tag));
        Ok(match (self.expire_time, self.tag) {
            (false, false) => value,
            (true, false) => PyTuple::new(py, [value, expires()])?.into_any(),
            (false, true) => PyTuple::new(py, [value, tag()?])?.into_any(),
            (true, true) => PyTuple::new(py, [value, expires(), tag()?])?.into_any(),
        })
    }
}

/// A number as a float; `None` for what is no number.
///
/// # Errors
///
/// `OverflowError`, which names the argument, for an int that no float can hold; what `__float__` raises.
pub(super) fn real(argument: &str, object: &Borrowed<'_, '_, PyAny>) -> PyResult<Option<f64>> {
    let py = object.py();
    match object.extract::<f64>() {
        Ok(number) => Ok(Some(number)),
        Err(error) if error.is_instance_of::<PyTypeError>(py) => Ok(None),
        Err(error) if error.is_instance_of::<PyOverflowError>(py) => Err(PyOverflowError::new_err(format!(
            "{argument} must be a number that a float can hold, not {}",
            described(object)
        ))),
        Err(error) => Err(error),
    }
}

/// Seconds to live: a real number or a timedelta, no bool, and not NaN. What is 0 or less has expired at once.
pub(super) struct Expire(pub(super) f64);

impl<'a, 'py> FromPyObject<'a, 'py> for Expire {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let number = if object.is_instance_of::<PyBool>() {
            None
        } else if object.is_instance_of::<PyDelta>() {
            Some(object.call_method0("total_seconds")?.extract()?)
        } else if object.is_instance_of::<PyFloat>() || integer(&object)?.is_some() {
            real("expire", &object)?
        } else {
            other_real(&object)?.map(|number| number.value())
        };
        match number {
            Some(number) if number.is_nan() => {
                Err(PyValueError::new_err("expire must be a number of seconds, not NaN; None means for ever"))
            }
            Some(number) => Ok(Self(number)),
            None => Err(PyTypeError::new_err(format!(
                "expire must be a number of seconds, a timedelta or None, not {}",
                shown(&object)
            ))),
        }
    }
}

/// When what is stored now expires.
pub(super) fn expire_time(now: f64, expire: Option<Expire>) -> Option<f64> {
    expire.map(|seconds| now + seconds.0)
}

/// A tag as the table has it. NaN would come back as None.
pub(super) fn encode_tag<'py>(tag: Option<&Bound<'py, PyAny>>) -> PyResult<Datum<'py>> {
    match tag.map_or(Ok(Datum::Null), |tag| Datum::any("tag", tag))? {
        Datum::Real(number) if number.is_nan() => {
            Err(PyValueError::new_err("tag must be None, a number, text or bytes, not NaN"))
        }
        tag => Ok(tag),
    }
}
