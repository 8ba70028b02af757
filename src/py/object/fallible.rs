//! Makes Python objects that are made for each entry. Without memory, the result is a `MemoryError`.
//!
//! PyO3's own conversions would panic.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// A float.
pub(crate) fn float(py: Python<'_>, value: f64) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the thread is attached, and what is returned is a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyFloat_FromDouble(value)) }
}

/// An int.
pub(crate) fn int(py: Python<'_>, value: u64) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: as for `float`.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyLong_FromUnsignedLongLong(value)) }
}

/// A tuple of two objects, which an iteration makes for each entry.
#[inline]
pub(crate) fn pair(py: Python<'_>, first: Py<PyAny>, second: Py<PyAny>) -> PyResult<Bound<'_, PyTuple>> {
    // SAFETY: as for `tuple`, with a place for each.
    unsafe {
        let tuple = Bound::from_owned_ptr_or_err(py, ffi::PyTuple_New(2))?;
        ffi::PyTuple_SET_ITEM(tuple.as_ptr(), 0, first.into_ptr());
        ffi::PyTuple_SET_ITEM(tuple.as_ptr(), 1, second.into_ptr());
        Ok(tuple.cast_into_unchecked())
    }
}

/// An int with a sign.
pub(crate) fn signed_int(py: Python<'_>, value: i64) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: as for `float`.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyLong_FromLongLong(value)) }
}

/// A tuple of objects.
pub(crate) fn tuple<'py>(
    py: Python<'py>,
    objects: impl ExactSizeIterator<Item = Py<PyAny>>,
) -> PyResult<Bound<'py, PyTuple>> {
    let len = ffi::Py_ssize_t::try_from(objects.len())?;
    // SAFETY: as for `float`; `PyTuple_SET_ITEM` takes the reference, and is called
    // once for each place of a new tuple.
    unsafe {
        let tuple = Bound::from_owned_ptr_or_err(py, ffi::PyTuple_New(len))?;
        for (at, object) in (0..len).zip(objects) {
            ffi::PyTuple_SET_ITEM(tuple.as_ptr(), at, object.into_ptr());
        }
        Ok(tuple.cast_into_unchecked())
    }
}
