//! Integers as Python accepts them.

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt};

/// An int, or what an `__index__` returns; `None` for what is no integer, a bool among them.
///
/// # Errors
///
/// What `__index__` raises.
pub(crate) fn integer<'py>(value: &Borrowed<'_, 'py, PyAny>) -> PyResult<Option<Bound<'py, PyInt>>> {
    if value.is_instance_of::<PyBool>() {
        return Ok(None);
    }
    if let Ok(number) = value.cast::<PyInt>() {
        return Ok(Some(number.to_owned()));
    }
    // SAFETY: the object is valid and the thread attached, as the borrow proves.
    if unsafe { ffi::PyIndex_Check(value.as_ptr()) } == 0 {
        return Ok(None);
    }
    // SAFETY: as above; what is returned is a new reference, or null with an exception set.
    let number = unsafe { Bound::from_owned_ptr_or_err(value.py(), ffi::PyNumber_Index(value.as_ptr())) };
    match number {
        Ok(number) => Ok(number.cast_into::<PyInt>().ok()),
        Err(error) if error.is_instance_of::<PyTypeError>(value.py()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How to show a value in a message; ints may have too many digits.
pub(crate) fn shown(value: &Borrowed<'_, '_, PyAny>) -> String {
    value.repr().map_or_else(|_| "a number too large to show".to_owned(), |text| text.to_string())
}
