//! Strs that are keys of dicts again and again. They are kept, each with its hash, so that the next dict need not make them anew.

#[cfg(not(Py_GIL_DISABLED))]
pub(super) use kept::text;

/// The str of such bytes. Without a GIL none is kept: threads would have to exclude one another.
#[cfg(Py_GIL_DISABLED)]
pub(super) fn text<'py>(
    py: pyo3::Python<'py>,
    bytes: &[u8],
) -> pyo3::PyResult<pyo3::Bound<'py, pyo3::PyAny>> {
    super::key::text(py, bytes)
}

#[cfg(not(Py_GIL_DISABLED))]
mod kept {
    use std::ptr;
    use std::slice;
    use std::sync::atomic::AtomicPtr;
    use std::sync::atomic::Ordering::Relaxed;

    use pyo3::ffi;
    use pyo3::prelude::*;

    use crate::py::shared::key;

    /// How many are kept.
    const MANY: usize = 512;
    /// Longer ones are seldom keys of many dicts.
    const LONGEST: usize = 32;

    /// Strs of nothing but ASCII, at the places that their bytes say, or null. Each is owned. Only attached threads look.
    static KEPT: [AtomicPtr<ffi::PyObject>; MANY] = [const { AtomicPtr::new(ptr::null_mut()) }; MANY];

    /// The place of some bytes.
    #[inline]
    fn place(bytes: &[u8]) -> &'static AtomicPtr<ffi::PyObject> {
        let mut hash = bytes.len() as u64;
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
        }
        // Nine bits.
        &KEPT[(hash >> 55) as usize]
    }

    /// The str of such bytes.
    pub(in super::super) fn text<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        if bytes.len() > LONGEST || bytes.len() < 2 {
            return key::text(py, bytes);
        }
        let place = place(bytes);
        let found = place.load(Relaxed);
        if !found.is_null() {
            // SAFETY: this thread is attached, so no other one takes the str away meanwhile. All its characters are ASCII, so
            // that each is a byte of its data.
            unsafe {
                let length = ffi::PyUnicode_GET_LENGTH(found).cast_unsigned();
                if length == bytes.len()
                    && slice::from_raw_parts(ffi::PyUnicode_DATA(found).cast::<u8>(), length) == bytes
                {
                    return Ok(Bound::from_borrowed_ptr(py, found));
                }
            }
        }
        let made = key::text(py, bytes)?;
        if bytes.is_ascii() {
            let before = place.swap(made.clone().into_ptr(), Relaxed);
            // SAFETY: the place owned it. That a str goes runs no Python code.
            unsafe { ffi::Py_XDECREF(before) };
        }
        Ok(made)
    }
}
