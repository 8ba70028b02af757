//! `SessionCodec`: converts Python's objects to operations of stores, and replies to objects.

use flexcache_containers::operation::{Cell, Key};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

use super::call::{SessionCall, act, operation};
use super::cell::{Decoder, Encoder};

/// Encodes and decodes for one session.
///
/// The serializer encodes objects that have no cell of their own. `missing` is the result of reads of absent
/// values.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct SessionCodec {
    serializer: Option<Py<PyAny>>,
    pub(super) missing: Py<PyAny>,
}

impl SessionCodec {
    pub(super) fn value(&self, object: &Bound<'_, PyAny>) -> PyResult<Cell> {
        Encoder { serializer: self.serializer.as_ref(), is_member: false }.cell(object)
    }

    /// The cell of an object as a member, which all equal objects share.
    pub(super) fn member(&self, object: &Bound<'_, PyAny>) -> PyResult<Cell> {
        Encoder { serializer: self.serializer.as_ref(), is_member: true }.cell(object)
    }

    pub(super) fn object<'py>(&self, py: Python<'py>, cell: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        Decoder { serializer: self.serializer.as_ref() }.object(py, cell)
    }
}

/// The bytes of a key.
pub(super) fn key(object: &Bound<'_, PyAny>) -> PyResult<Key> {
    let Ok(text) = object.cast::<PyString>() else {
        return Err(PyTypeError::new_err(format!("key must be a str, not {}", object.get_type().name()?)));
    };
    Ok(text_of(text)?.as_bytes().to_vec())
}

/// The text of a key.
pub(super) fn text_of<'a>(key: &'a Bound<'_, PyString>) -> PyResult<&'a str> {
    key.to_str().map_err(|_| match key.repr() {
        Ok(shown) => PyValueError::new_err(format!("key must be text without surrogates, not {shown}")),
        Err(error) => error,
    })
}

#[pymethods]
impl SessionCodec {
    #[new]
    fn new(serializer: Option<Py<PyAny>>, missing: Py<PyAny>) -> Self {
        Self { serializer, missing }
    }

    /// A call that is ready to be made.
    #[pyo3(signature = (name, *arguments))]
    fn call(&self, name: &str, arguments: &Bound<'_, PyTuple>) -> PyResult<SessionCall> {
        operation(self, name, arguments).map(SessionCall::new)
    }

    /// Return a call on the container of a key.
    #[pyo3(signature = (kind, key, touch, name, *arguments))]
    fn act(
        &self,
        kind: &str,
        key: &Bound<'_, PyAny>,
        touch: (String, u64),
        name: &str,
        arguments: &Bound<'_, PyTuple>,
    ) -> PyResult<SessionCall> {
        act(self, kind, key, &touch, name, arguments).map(SessionCall::new)
    }

    /// Encode an object as a cell.
    #[pyo3(signature = (object, is_member = false))]
    fn encode<'py>(&self, object: &Bound<'py, PyAny>, is_member: bool) -> PyResult<Bound<'py, PyBytes>> {
        let cell = if is_member { self.member(object)? } else { self.value(object)? };
        Ok(PyBytes::new(object.py(), &cell))
    }

    /// Decode the object of a cell.
    fn decode<'py>(&self, py: Python<'py>, cell: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        self.object(py, cell)
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.serializer)?;
        visit.call(&self.missing)
    }
}
