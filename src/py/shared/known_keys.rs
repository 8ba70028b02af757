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

    /// The number of strs that are kept.
    const MANY: usize = 512;
    /// Longer ones are seldom keys of many dicts.
    const LONGEST: usize = 32;

    /// Strs of nothing but ASCII, at the places that their bytes say, or null. Each is owned. Only attached threads look.
    static KEPT: [AtomicPtr<ffi::PyObject>; MANY] = [const { AtomicPtr::new(ptr::null_mut()) }; MANY];

    /// A short text's bytes in words, which overlap. Texts of one length are equal if these are.
    #[inline]
    fn words(bytes: &[u8]) -> [u64; 4] {
        let first = |at: usize| bytes[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        let last = |before: usize| {
            bytes[..bytes.len() - before].last_chunk().map_or(0, |word| u64::from_le_bytes(*word))
        };
        match (bytes, bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
            (_, Some(_), Some(_)) if bytes.len() > 16 => [first(0), first(8), last(8), last(0)],
            (_, Some(_), Some(_)) if bytes.len() > 8 => [first(0), last(0), 0, 0],
            (_, Some(low), Some(high)) => {
                [u64::from(u32::from_le_bytes(*low)) | u64::from(u32::from_le_bytes(*high)) << 32, 0, 0, 0]
            }
            ([low, .., high], ..) => {
                [u64::from(*low) | u64::from(bytes[bytes.len() / 2]) << 8 | u64::from(*high) << 16, 0, 0, 0]
            }
            _ => [0; 4],
        }
    }

    /// The place of a text of this length with these words.
    #[inline]
    fn place(length: usize, words: [u64; 4]) -> &'static AtomicPtr<ffi::PyObject> {
        let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
        let mut hash = mix(length as u64, words[0]);
        if length > 8 {
            hash = words[1..].iter().fold(hash, |hash, &word| mix(hash, word));
        }
        // Nine bits.
        &KEPT[(hash >> 55) as usize]
    }

    /// The str of such bytes.
    pub(in super::super) fn text<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        if bytes.len() > LONGEST || bytes.len() < 2 {
            return key::text(py, bytes);
        }
        let sought = words(bytes);
        let place = place(bytes.len(), sought);
        let found = place.load(Relaxed);
        if !found.is_null() {
            // SAFETY: this thread is attached, so no other one takes the str away meanwhile. All its characters are ASCII, so
            // that each is a byte of its data.
            unsafe {
                let length = ffi::PyUnicode_GET_LENGTH(found).cast_unsigned();
                if length == bytes.len()
                    && words(slice::from_raw_parts(ffi::PyUnicode_DATA(found).cast::<u8>(), length)) == sought
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
