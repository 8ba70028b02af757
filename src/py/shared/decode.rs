//! Decodes the bytes that `value` encodes. Only values of simple kinds are decoded directly from shared
//! memory.

use std::mem::MaybeUninit;

use flexcache_shared::kind::INTEGER;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyString};

use super::key::{long_of_bytes, text};
use super::value::{Serializer, kind};
use super::{container, errors};
use crate::py::object::bytes::{bytes_object, filled};

/// A value that was copied out of the segment and is not decoded yet.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum RawValue {
    Integer(i64),
    Other(u8, Vec<u8>),
}

impl RawValue {
    /// Copies a value. The bytes may be arbitrary, so they are not decoded yet.
    #[inline]
    pub(super) fn copy(value: flexcache_shared::Value<'_>) -> flexcache_shared::Result<Self> {
        if value.kind == INTEGER {
            return Ok(Self::Integer(value.word().cast_signed()));
        }
        let mut bytes = Vec::new();
        value.append_to(&mut bytes)?;
        Ok(Self::Other(value.kind, bytes))
    }

    /// The object.
    ///
    /// # Errors
    ///
    /// Errors of pickle; `RuntimeError` if the bytes are not a value.
    pub(super) fn into_object<'py>(
        self,
        py: Python<'py>,
        serializer: &Serializer,
    ) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Integer(int) => Ok(int.into_pyobject(py)?.into_any()),
            Self::Other(kind, bytes) => object_of(py, kind, &bytes, serializer),
        }
    }
}

/// The object of a value's kind and bytes, which were copied.
///
/// # Errors
///
/// As [`RawValue::into_object`].
pub(super) fn object_of<'py>(
    py: Python<'py>,
    kind: u8,
    bytes: &[u8],
    serializer: &Serializer,
) -> PyResult<Bound<'py, PyAny>> {
    let decoded = match kind {
        kind::PICKLE => {
            return serializer
                .loads(py, bytes)
                .map_err(|error| errors::of_pickle(py, error, &serializer.path));
        }
        kind::TEXT | kind::ASCII => text(py, bytes),
        kind::BYTES => bytes_object(py, bytes).map(Bound::into_any),
        kind::LONG => long_of_bytes(py, bytes),
        kind => container::make_whole(py, kind, bytes),
    };
    decoded.map_err(|error| errors::unreadable(py, error, &serializer.path))
}

/// The result of reading a value.
pub(super) enum Read<'py> {
    Object(Bound<'py, PyAny>),
    /// The value was copied. The object is made later, as that may run Python code.
    Raw(RawValue),
}

impl<'py> Read<'py> {
    /// Decodes a value directly from shared memory if it is of a simple kind, or copies it.
    #[inline]
    pub(super) fn of(py: Python<'py>, value: flexcache_shared::Value<'_>) -> flexcache_shared::Result<Self> {
        match simple(py, value) {
            Some(object) => Ok(Self::Object(object)),
            None => RawValue::copy(value).map(Self::Raw),
        }
    }

    /// The object.
    ///
    /// # Errors
    ///
    /// As [`RawValue::into_object`].
    #[inline]
    pub(super) fn finish(self, py: Python<'py>, serializer: &Serializer) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Object(object) => Ok(object),
            Self::Raw(raw) => raw.into_object(py, serializer),
        }
    }
}

/// The object of a value where it lies, if it is of a simple kind and there is memory for it. Another process may be writing over
/// the value, so the object may have a wrong
/// content, but it is a valid object. The reader checks the entry afterwards.
#[inline(always)]
pub(super) fn simple<'py>(py: Python<'py>, value: flexcache_shared::Value<'_>) -> Option<Bound<'py, PyAny>> {
    match value.kind {
        kind::ASCII => ascii_text(py, value),
        INTEGER => Some(value.word().cast_signed().into_pyobject(py).ok()?.into_any()),
        kind::FLOAT => Some(PyFloat::new(py, f64::from_bits(value.word())).into_any()),
        kind::NONE => Some(py.None().into_bound(py)),
        kind::FALSE | kind::TRUE => Some(PyBool::new(py, value.kind == kind::TRUE).to_owned().into_any()),
        kind::BYTES => bytes_where_they_lie(py, value),
        _ => None,
    }
}

#[inline]
fn bytes_where_they_lie<'py>(
    py: Python<'py>,
    value: flexcache_shared::Value<'_>,
) -> Option<Bound<'py, PyAny>> {
    // SAFETY: the value has as many bytes, and all are copied.
    let made = unsafe {
        filled(py, value.len(), |room| {
            value.copy_to(room);
            Ok(())
        })
    };
    Some(made.ok()?.into_any())
}

/// A str of a value that is ASCII, if that is what its bytes are.
#[inline(always)]
fn ascii_text<'py>(py: Python<'py>, value: flexcache_shared::Value<'_>) -> Option<Bound<'py, PyAny>> {
    if value.is_empty() {
        return Some(PyString::new(py, "").into_any());
    }
    // SAFETY: this thread is attached. The new object is nobody else's yet; it has room for so many characters of one byte,
    // all of which `copy_to` writes.
    let (text, all) = unsafe {
        let text = ffi::PyUnicode_New(value.len().cast_signed(), 127);
        let Some(text) = Bound::from_owned_ptr_or_opt(py, text) else {
            drop(PyErr::take(py));
            return None;
        };
        let data = ffi::PyUnicode_DATA(text.as_ptr()).cast::<MaybeUninit<u8>>();
        let all = value.copy_to(std::slice::from_raw_parts_mut(data, value.len()));
        (text, all)
    };
    if all & 0x8080_8080_8080_8080 == 0 {
        return Some(text);
    }
    // The bytes are torn or damaged. The str must not be dropped with characters that it cannot have. SAFETY:
    // as above.
    unsafe {
        ffi::PyUnicode_DATA(text.as_ptr()).cast::<u8>().write_bytes(b'?', value.len());
    }
    None
}
