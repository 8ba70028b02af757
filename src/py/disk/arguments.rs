//! Arguments that several calls have in common.

use flexcache_disk::Entry;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyTuple};

use super::datum::{Datum, to_object};

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

pub(super) fn encode_tag<'py>(tag: Option<&Bound<'py, PyAny>>) -> PyResult<Datum<'py>> {
    tag.map_or(Ok(Datum::Null), |tag| Datum::any("tag", tag))
}
