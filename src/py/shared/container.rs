//! Decodes tuples, lists and dicts.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat};

use super::key::{damaged, long_of_bytes, text};
use super::known_keys;
use super::value::{DEEPEST, kind};
use crate::py::object::bytes::bytes_object;

/// Makes the object of a kind and all of its bytes.
///
/// # Errors
///
/// `RuntimeError` if the bytes are not a value.
pub(super) fn make_whole<'py>(py: Python<'py>, kind: u8, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let mut decoder = Decoder { rest: bytes, parts_left: bytes.len(), error: None };
    match decoder.make(py, kind, 0) {
        Some(object) if decoder.rest.is_empty() => Ok(object),
        _ => Err(decoder.error.unwrap_or_else(damaged)),
    }
}

/// The bytes that are decoded. An error is stored here, so that the result for each part fits one word.
struct Decoder<'a> {
    rest: &'a [u8],
    /// How many parts the containers that follow can have. Every part takes at least one byte, so all containers together
    /// have no more parts than bytes.
    parts_left: usize,
    /// The exception of the interpreter; `None` if the bytes are damaged.
    error: Option<PyErr>,
}

impl<'a> Decoder<'a> {
    #[inline]
    fn noted<T>(&mut self, result: PyResult<T>) -> Option<T> {
        result.map_err(|error| self.error = Some(error)).ok()
    }

    #[inline]
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, after) = self.rest.split_at_checked(bytes)?;
        self.rest = after;
        Some(taken)
    }

    #[inline]
    fn word<const BYTES: usize>(&mut self) -> Option<[u8; BYTES]> {
        let (word, after) = self.rest.split_first_chunk::<BYTES>()?;
        self.rest = after;
        Some(*word)
    }

    /// A number of bytes or of parts, each of which takes at least one byte.
    #[inline]
    fn length(&mut self) -> Option<usize> {
        let length = u32::from_le_bytes(self.word()?) as usize;
        (length <= self.rest.len()).then_some(length)
    }

    /// Bytes that are preceded by their length.
    #[inline]
    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    fn part<'py>(&mut self, py: Python<'py>, depth: u32) -> Option<Bound<'py, PyAny>> {
        let [kind] = self.word()?;
        self.make(py, kind, depth + 1)
    }

    /// The key of an entry of a dict: mostly a str that other dicts have too.
    fn dict_key<'py>(&mut self, py: Python<'py>, depth: u32) -> Option<Bound<'py, PyAny>> {
        let [kind] = self.word()?;
        if kind != kind::TEXT {
            return self.make(py, kind, depth + 1);
        }
        let bytes = self.sized()?;
        self.noted(known_keys::text(py, bytes))
    }

    /// Makes an object of a kind and what follows it. No memory is taken for a number of parts that the bytes do not hold.
    fn make<'py>(&mut self, py: Python<'py>, kind: u8, depth: u32) -> Option<Bound<'py, PyAny>> {
        if depth > DEEPEST {
            return None;
        }
        match kind {
            kind::NONE => Some(py.None().into_bound(py)),
            kind::FALSE | kind::TRUE => Some(PyBool::new(py, kind == kind::TRUE).to_owned().into_any()),
            kind::INT => Some(i64::from_le_bytes(self.word()?).into_pyobject(py).ok()?.into_any()),
            kind::FLOAT => Some(PyFloat::new(py, f64::from_le_bytes(self.word()?)).into_any()),
            kind::TEXT => {
                let bytes = self.sized()?;
                self.noted(text(py, bytes))
            }
            kind::BYTES => {
                let bytes = self.sized()?;
                self.noted(bytes_object(py, bytes).map(Bound::into_any))
            }
            kind::LONG => {
                let bytes = self.sized()?;
                self.noted(long_of_bytes(py, bytes))
            }
            kind::TUPLE => self.make_parts(py, depth, ffi::PyTuple_New, ffi::PyTuple_SET_ITEM),
            kind::LIST => self.make_parts(py, depth, ffi::PyList_New, ffi::PyList_SET_ITEM),
            kind::DICT => {
                let length = self.length()?;
                let dict = PyDict::new(py);
                for _ in 0..length {
                    let key = self.dict_key(py, depth)?;
                    let value = self.part(py, depth)?;
                    self.noted(dict.set_item(key, value))?;
                }
                Some(dict.into_any())
            }
            _ => None,
        }
    }

    /// A tuple or a list, whose parts are made in their places.
    #[inline]
    fn make_parts<'py>(
        &mut self,
        py: Python<'py>,
        depth: u32,
        new: unsafe extern "C" fn(ffi::Py_ssize_t) -> *mut ffi::PyObject,
        set: unsafe fn(*mut ffi::PyObject, ffi::Py_ssize_t, *mut ffi::PyObject),
    ) -> Option<Bound<'py, PyAny>> {
        let length = self.length()?;
        self.parts_left = self.parts_left.checked_sub(length)?;
        // SAFETY: this thread is attached.
        let made = unsafe { Bound::from_owned_ptr_or_err(py, new(length.cast_signed())) };
        let made = self.noted(made)?;
        for at in 0..length {
            // Where this fails, it is dropped with the places that are still empty, which tuples and lists allow.
            let part = self.part(py, depth)?;
            // SAFETY: the object is new and this function's alone; the place is one of it, and empty.
            unsafe { set(made.as_ptr(), at.cast_signed(), part.into_ptr()) };
        }
        Some(made)
    }
}
