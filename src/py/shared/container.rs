//! Tuples, lists and dicts of their bytes.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyList, PyTuple};

use super::key::{damaged, long_of_bytes, text};
use super::known_keys;
use super::value::{DEEPEST, bytes_object, kind};

/// Makes the object of a kind and all of its bytes.
///
/// # Errors
///
/// `RuntimeError` if they are no value's.
pub(super) fn make_whole<'py>(py: Python<'py>, kind: u8, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let mut rest = bytes;
    let object = make(py, kind, &mut rest, 0)?;
    if rest.is_empty() { Ok(object) } else { Err(damaged()) }
}

fn taken<'a>(rest: &mut &'a [u8], bytes: usize) -> PyResult<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(bytes).ok_or_else(damaged)?;
    *rest = after;
    Ok(taken)
}

fn word<const BYTES: usize>(rest: &mut &[u8]) -> PyResult<[u8; BYTES]> {
    let (word, after) = rest.split_first_chunk::<BYTES>().ok_or_else(damaged)?;
    *rest = after;
    Ok(*word)
}

/// A number of bytes or of parts, each of which takes a byte at least.
fn length(rest: &mut &[u8]) -> PyResult<usize> {
    let length = u32::from_le_bytes(word(rest)?) as usize;
    if length > rest.len() { Err(damaged()) } else { Ok(length) }
}

fn part<'py>(py: Python<'py>, rest: &mut &[u8], depth: u32) -> PyResult<Bound<'py, PyAny>> {
    let [kind] = word(rest)?;
    make(py, kind, rest, depth + 1)
}

/// The key of an entry of a dict: mostly a str that other dicts have too.
fn dict_key<'py>(py: Python<'py>, rest: &mut &[u8], depth: u32) -> PyResult<Bound<'py, PyAny>> {
    let [kind] = word(rest)?;
    if kind != kind::TEXT {
        return make(py, kind, rest, depth + 1);
    }
    let length = length(rest)?;
    known_keys::text(py, taken(rest, length)?)
}

/// Makes an object of a kind and what follows it. No memory is taken for a number of parts that the bytes do not hold.
fn make<'py>(py: Python<'py>, kind: u8, rest: &mut &[u8], depth: u32) -> PyResult<Bound<'py, PyAny>> {
    if depth > DEEPEST {
        return Err(damaged());
    }
    match kind {
        kind::NONE => Ok(py.None().into_bound(py)),
        kind::FALSE | kind::TRUE => Ok(PyBool::new(py, kind == kind::TRUE).to_owned().into_any()),
        kind::INT => Ok(i64::from_le_bytes(word(rest)?).into_pyobject(py)?.into_any()),
        kind::FLOAT => Ok(PyFloat::new(py, f64::from_le_bytes(word(rest)?)).into_any()),
        kind::TEXT => {
            let length = length(rest)?;
            text(py, taken(rest, length)?)
        }
        kind::BYTES => {
            let length = length(rest)?;
            bytes_object(py, taken(rest, length)?)
        }
        kind::LONG => {
            let length = length(rest)?;
            long_of_bytes(py, taken(rest, length)?)
        }
        kind::TUPLE => {
            let length = length(rest)?;
            let parts = (0..length).map(|_| part(py, rest, depth)).collect::<PyResult<Vec<_>>>()?;
            Ok(PyTuple::new(py, parts)?.into_any())
        }
        kind::LIST => {
            let length = length(rest)?;
            make_list(py, length, rest, depth)
        }
        kind::DICT => {
            let length = length(rest)?;
            let dict = PyDict::new(py);
            for _ in 0..length {
                let key = dict_key(py, rest, depth)?;
                dict.set_item(key, part(py, rest, depth)?)?;
            }
            Ok(dict.into_any())
        }
        _ => Err(damaged()),
    }
}

/// A list of so many parts, which are made in their places.
fn make_list<'py>(
    py: Python<'py>,
    length: usize,
    rest: &mut &[u8],
    depth: u32,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: this thread is attached.
    let list = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyList_New(length.cast_signed()))? };
    for at in 0..length {
        // Where this fails, the list is dropped with the places that are still empty, which lists allow.
        let made = part(py, rest, depth)?;
        // SAFETY: the list is new and this function's alone; the place is one of it, and empty.
        unsafe { ffi::PyList_SET_ITEM(list.as_ptr(), at.cast_signed(), made.into_ptr()) };
    }
    debug_assert!(list.is_exact_instance_of::<PyList>());
    Ok(list)
}
