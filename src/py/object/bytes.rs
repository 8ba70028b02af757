//! New objects of bytes. `PyBytes::new` panics if there is no memory, and `PyBytes::new_with` sets every byte to zero first.

use std::ffi::c_char;
#[cfg(any(unix, has_shared_cache))]
use std::{mem::MaybeUninit, ptr, slice};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// An object of `length` bytes copied from `from`, or with bytes of any content if that is null.
///
/// # Safety
///
/// `from` points to as many bytes or is null.
#[inline]
unsafe fn new(py: Python<'_>, from: *const c_char, length: usize) -> PyResult<Bound<'_, PyBytes>> {
    let length = ffi::Py_ssize_t::try_from(length)?;
    // SAFETY: the interpreter returns bytes, or null and an exception. The rest is the caller's promise.
    unsafe {
        let made = ffi::PyBytes_FromStringAndSize(from, length);
        Ok(Bound::from_owned_ptr_or_err(py, made)?.cast_into_unchecked())
    }
}

/// Bytes as an object; `MemoryError` if there is no memory.
#[inline]
pub(crate) fn bytes_object<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    // SAFETY: a slice points to bytes of its length.
    unsafe { new(py, bytes.as_ptr().cast(), bytes.len()) }
}

/// An object of `length` bytes, all of which `fill` writes; `MemoryError` if there is no memory.
///
/// # Safety
///
/// If `fill` returns `Ok`, it has written every byte.
#[cfg(any(unix, has_shared_cache))]
#[inline]
pub(crate) unsafe fn filled<'py>(
    py: Python<'py>,
    length: usize,
    fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> PyResult<()>,
) -> PyResult<Bound<'py, PyBytes>> {
    // SAFETY: the object is new and nobody else knows it, except for the one of no bytes. It has room for `length` bytes,
    // and is returned only when they are written.
    unsafe {
        let made = new(py, ptr::null(), length)?;
        fill(slice::from_raw_parts_mut(ffi::PyBytes_AsString(made.as_ptr()).cast(), length))?;
        Ok(made)
    }
}
