//! Converts between Python objects and the values of a table.

use adler2::adler32_slice;
use flexcache_disk::{Value, ValueRef};
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString};

use crate::py::object::argument::wrong_type;
use crate::py::object::bytes::bytes_object;

/// A value for a table, still in Python's memory: strings and bytes are not copied.
#[derive(Debug)]
pub(super) enum Datum<'py> {
    Null,
    Integer(i64),
    Real(f64),
    Text(Bound<'py, PyString>),
    Blob(Bound<'py, PyBytes>),
}

impl<'py> Datum<'py> {
    /// The object itself, if the table can hold it so that it comes back as it was: exactly a
    /// `str`, `bytes`, `float` (but not NaN, which would come back as None), or an `int` of 64 bits.
    #[inline]
    pub(super) fn exactly(object: &Bound<'py, PyAny>) -> Option<Self> {
        if let Ok(text) = object.cast_exact::<PyString>() {
            return Some(Self::Text(text.clone()));
        }
        if let Ok(bytes) = object.cast_exact::<PyBytes>() {
            return Some(Self::Blob(bytes.clone()));
        }
        if let Ok(number) = object.cast_exact::<PyInt>() {
            return number.extract().ok().map(Self::Integer);
        }
        let number = object.cast_exact::<PyFloat>().ok()?.value();
        (!number.is_nan()).then_some(Self::Real(number))
    }

    /// The hash that decides the shard of a key with this form, the same as in python-diskcache.
    pub(super) fn shard_hash(&self) -> PyResult<u64> {
        Ok(match self {
            Self::Text(text) => adler32_slice(text.to_str()?.as_bytes()).into(),
            Self::Blob(bytes) => adler32_slice(bytes.as_bytes()).into(),
            Self::Integer(number) => number.rem_euclid(0xffff_ffff).unsigned_abs(),
            Self::Real(number) => adler32_slice(&number.to_be_bytes()).into(),
            Self::Null => return Err(PyTypeError::new_err("None cannot be a key of a table")),
        })
    }

    /// Appends an encoding of the form, which differs for different keys.
    pub(super) fn append_to(&self, bytes: &mut Vec<u8>) -> PyResult<()> {
        match self {
            Self::Null => bytes.push(0),
            Self::Integer(number) => {
                bytes.push(1);
                bytes.extend(number.to_le_bytes());
            }
            Self::Real(number) => {
                bytes.push(2);
                bytes.extend(number.to_le_bytes());
            }
            Self::Text(text) => {
                bytes.push(3);
                bytes.extend(text.to_str()?.as_bytes());
            }
            Self::Blob(blob) => {
                bytes.push(4);
                bytes.extend(blob.as_bytes());
            }
        }
        Ok(())
    }

    /// Converts any object that SQLite would take: None, numbers, text, and anything with a buffer of bytes.
    pub(super) fn any(what: &str, object: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Some(datum) = Self::exactly(object) {
            return Ok(datum);
        }
        if object.is_none() {
            return Ok(Self::Null);
        }
        if let Ok(number) = object.cast::<PyInt>() {
            return number.extract().map(Self::Integer).map_err(|_| {
                PyOverflowError::new_err(format!(
                    "{what} of {number} does not fit the 64 bits of a table's column"
                ))
            });
        }
        if let Ok(number) = object.cast::<PyFloat>() {
            return Ok(Self::Real(number.value()));
        }
        if let Ok(text) = object.cast::<PyString>() {
            return Ok(Self::Text(text.clone()));
        }
        if let Ok(bytes) = object.cast::<PyBytes>() {
            return Ok(Self::Blob(bytes.clone()));
        }
        let buffer = pyo3::buffer::PyBuffer::<u8>::get(object)
            .map_err(|_| wrong_type(what, "None, a number, text or bytes", object))?;
        let copied = PyBytes::new_with(object.py(), buffer.len_bytes(), |bytes| {
            buffer.copy_to_slice(object.py(), bytes)
        })?;
        Ok(Self::Blob(copied))
    }

    /// The same for SQLite. Fails for text that is not Unicode.
    #[inline]
    pub(super) fn borrow(&self) -> PyResult<ValueRef<'_>> {
        Ok(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Real(number) => ValueRef::Real(*number),
            Self::Text(text) => ValueRef::Text(text.to_str()?.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes.as_bytes()),
        })
    }

    /// The same, copied. Fails for text that is not Unicode.
    pub(super) fn to_value(&self) -> PyResult<Value> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Integer(number) => Value::Integer(*number),
            Self::Real(number) => Value::Real(*number),
            Self::Text(text) => Value::Text(text.to_str()?.to_owned()),
            Self::Blob(bytes) => Value::Blob(bytes.as_bytes().to_vec()),
        })
    }

    /// The same as an object.
    pub(super) fn into_object(self, py: Python<'py>) -> Bound<'py, PyAny> {
        match self {
            Self::Null => py.None().into_bound(py),
            Self::Integer(number) => integer(py, number),
            Self::Real(number) => PyFloat::new(py, number).into_any(),
            Self::Text(text) => text.into_any(),
            Self::Blob(bytes) => bytes.into_any(),
        }
    }
}

pub(super) fn integer(py: Python<'_>, number: i64) -> Bound<'_, PyAny> {
    match number.into_pyobject(py) {
        Ok(number) => number.into_any(),
        Err(never) => match never {},
    }
}

/// Converts a value from a table to an object.
#[inline]
pub(super) fn to_object<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Integer(number) => integer(py, *number),
        Value::Real(number) => PyFloat::new(py, *number).into_any(),
        Value::Text(text) => text_object(py, text.as_bytes())?.into_any(),
        Value::Blob(bytes) => bytes_object(py, bytes)?.into_any(),
    })
}

/// UTF-8 as a `str`; `MemoryError` if there is no memory, where `PyString::new` panics.
pub(super) fn text_object<'py>(py: Python<'py>, text: &[u8]) -> PyResult<Bound<'py, PyString>> {
    PyString::from_bytes(py, text)
}

/// A setting as the table stores it. A bool becomes a number.
pub(super) fn setting(key: &str, object: &Bound<'_, PyAny>) -> PyResult<Value> {
    if let Ok(flag) = object.cast::<PyBool>() {
        return Ok(Value::Integer(i64::from(flag.is_true())));
    }
    Datum::any(&format!("the setting {key}"), object)?.to_value()
}
