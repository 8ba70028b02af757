//! Values as bytes; `decode` has the way back. What consists of Python's own plain types has a form of its own; pickle does the rest.
//!
//! Only exact types have such a form: an instance of a subclass is pickled. So is what refers to itself, what lies too
//! deep, and what would be larger than pickle makes it because parts of it are one object.

use std::path::PathBuf;

use flexcache_shared::kind::INTEGER;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use super::key::{Encoded, ascii, bytes_of_long};
use crate::py::object::bytes::bytes_object;
use crate::py::object::running_python;

/// Kinds of values. They are part of the layout.
pub(super) mod kind {
    pub(in super::super) const NONE: u8 = 0;
    pub(in super::super) const FALSE: u8 = 1;
    pub(in super::super) const TRUE: u8 = 2;
    pub(in super::super) const LONG: u8 = 3;
    pub(in super::super) const FLOAT: u8 = 4;
    pub(in super::super) const TEXT: u8 = 5;
    pub(in super::super) const BYTES: u8 = 6;
    pub(in super::super) const TUPLE: u8 = 7;
    pub(in super::super) const LIST: u8 = 8;
    pub(in super::super) const DICT: u8 = 9;
    pub(in super::super) const PICKLE: u8 = 10;
    /// An int of 64 bits inside a container. By itself it is an `INTEGER`, which can be incremented.
    pub(in super::super) const INT: u8 = 11;
    /// An ASCII str that is not in a container. It is copied directly into the new object.
    pub(in super::super) const ASCII: u8 = 12;
}

/// The most levels of nested containers. Deeper ones are pickled.
pub(super) const DEEPEST: u32 = 50;
/// The most bytes of a container. Larger ones are pickled, as parts that are the same object would be written
/// repeatedly.
const LARGEST: usize = 1 << 20;

/// A value's kind and bytes.
pub(super) struct EncodedValue<'a> {
    pub(super) kind: u8,
    pub(super) bytes: Encoded<'a>,
}

/// Pickle, or the user's replacement for it.
pub(super) struct Serializer {
    pub(super) given: Option<Py<PyAny>>,
    /// The file of the cache, for errors.
    pub(super) path: PathBuf,
}

impl Serializer {
    /// The pickle of an object.
    pub(super) fn dumps<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = object.py();
        let own = self.given.as_ref().map(|own| own.bind(py).getattr(intern!(py, "dumps"))).transpose()?;
        let dumps = match own {
            Some(dumps) => dumps,
            None => DUMPS
                .get_or_try_init(py, || Ok::<_, PyErr>(py.import("_pickle")?.getattr("dumps")?.unbind()))?
                .bind(py)
                .clone(),
        };
        let dumped = running_python::call(&dumps, [object, &5_i32.into_pyobject(py)?.into_any()])?;
        dumped.cast_into::<PyBytes>().map_err(|error| {
            let kind = error.into_inner().get_type();
            pyo3::exceptions::PyTypeError::new_err(format!(
                "the serializer's dumps() must return bytes, not {kind}"
            ))
        })
    }

    /// The object of a pickle.
    pub(super) fn loads<'py>(&self, py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let own = self.given.as_ref().map(|own| own.bind(py).getattr(intern!(py, "loads"))).transpose()?;
        let loads = match own {
            Some(loads) => loads,
            None => LOADS
                .get_or_try_init(py, || Ok::<_, PyErr>(py.import("_pickle")?.getattr("loads")?.unbind()))?
                .bind(py)
                .clone(),
        };
        running_python::call(&loads, [bytes_object(py, bytes)?.as_any()])
    }
}

/// The kind and the bytes of a value that is bytes, or a str of ASCII.
#[inline(always)]
pub(super) fn plain<'a>(value: &'a Bound<'_, PyAny>) -> Option<(u8, &'a [u8])> {
    if let Some(text) = ascii(value) {
        return Some((kind::ASCII, text));
    }
    let bytes = value.cast_exact::<PyBytes>().ok()?;
    Some((kind::BYTES, bytes.as_bytes()))
}

/// Encodes a value.
///
/// # Errors
///
/// Errors of pickle.
pub(super) fn encode<'a>(value: &'a Bound<'_, PyAny>, serializer: &Serializer) -> PyResult<EncodedValue<'a>> {
    let owned = |kind, bytes| Ok(EncodedValue { kind, bytes: Encoded::Owned(bytes) });
    if let Some((kind, bytes)) = plain(value) {
        return Ok(EncodedValue { kind, bytes: Encoded::Borrowed(bytes) });
    }
    if let Ok(text) = value.cast_exact::<PyString>()
        && let Ok(text) = text.to_str()
    {
        return Ok(EncodedValue { kind: kind::TEXT, bytes: Encoded::Borrowed(text.as_bytes()) });
    }
    if value.is_exact_instance_of::<PyInt>()
        && let Ok(int) = value.extract::<i64>()
    {
        return Ok(EncodedValue { kind: INTEGER, bytes: Encoded::Word(int.to_le_bytes()) });
    }
    if let Some(plain) = encode_word(value) {
        return Ok(plain);
    }
    if value.is_exact_instance_of::<PyInt>() {
        return owned(kind::LONG, bytes_of_long(value)?);
    }
    if let Some(encoded) = encode_container(value)? {
        return Ok(encoded);
    }
    owned(kind::PICKLE, serializer.dumps(value)?.as_bytes().to_vec())
}

/// Encodes a value that takes at most one word.
fn encode_word<'a>(value: &'a Bound<'_, PyAny>) -> Option<EncodedValue<'a>> {
    if value.is_none() {
        return Some(EncodedValue { kind: kind::NONE, bytes: Encoded::Borrowed(&[]) });
    }
    if let Ok(truth) = value.cast_exact::<PyBool>() {
        let kind = if truth.is_true() { kind::TRUE } else { kind::FALSE };
        return Some(EncodedValue { kind, bytes: Encoded::Borrowed(&[]) });
    }
    let float = value.cast_exact::<PyFloat>().ok()?;
    let bytes = Encoded::Word(float.value().to_bits().to_le_bytes());
    Some(EncodedValue { kind: kind::FLOAT, bytes })
}

fn kind_of_container(value: &Bound<'_, PyAny>) -> Option<u8> {
    if value.is_exact_instance_of::<PyDict>() {
        Some(kind::DICT)
    } else if value.is_exact_instance_of::<PyList>() {
        Some(kind::LIST)
    } else {
        value.is_exact_instance_of::<PyTuple>().then_some(kind::TUPLE)
    }
}

/// Encodes a tuple, a list or a dict, if all its parts can be encoded.
fn encode_container<'a>(value: &Bound<'_, PyAny>) -> PyResult<Option<EncodedValue<'a>>> {
    let Some(kind) = kind_of_container(value) else { return Ok(None) };
    let mut bytes = Vec::with_capacity(128);
    let is_plain = append_parts(value, &mut bytes, 0)?;
    Ok(is_plain.then_some(EncodedValue { kind, bytes: Encoded::Owned(bytes) }))
}

/// Appends a kind, and what it needs: nothing, eight bytes, or a length and so many bytes or parts. Returns false for what is
/// to be pickled.
fn append(value: &Bound<'_, PyAny>, to: &mut Vec<u8>, depth: u32) -> PyResult<bool> {
    if to.len() > LARGEST {
        return Ok(false);
    }
    let sized = |to: &mut Vec<u8>, kind, bytes: &[u8]| {
        let Ok(length) = u32::try_from(bytes.len()) else { return Ok(false) };
        if bytes.len() > LARGEST && depth > 0 {
            return Ok(false);
        }
        to.push(kind);
        to.extend_from_slice(&length.to_le_bytes());
        to.extend_from_slice(bytes);
        Ok(true)
    };
    if let Ok(text) = value.cast_exact::<PyString>() {
        return text.to_str().map_or(Ok(false), |text| sized(to, kind::TEXT, text.as_bytes()));
    }
    if value.is_exact_instance_of::<PyInt>() {
        if let Ok(int) = value.extract::<i64>() {
            to.push(kind::INT);
            to.extend_from_slice(&int.to_le_bytes());
            return Ok(true);
        }
        return sized(to, kind::LONG, &bytes_of_long(value)?);
    }
    if value.is_none() {
        to.push(kind::NONE);
        return Ok(true);
    }
    if let Ok(truth) = value.cast_exact::<PyBool>() {
        to.push(if truth.is_true() { kind::TRUE } else { kind::FALSE });
        return Ok(true);
    }
    if let Ok(float) = value.cast_exact::<PyFloat>() {
        to.push(kind::FLOAT);
        to.extend_from_slice(&float.value().to_bits().to_le_bytes());
        return Ok(true);
    }
    if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        return sized(to, kind::BYTES, bytes.as_bytes());
    }
    let Some(kind) = kind_of_container(value) else { return Ok(false) };
    if depth == DEEPEST {
        return Ok(false);
    }
    to.push(kind);
    append_parts(value, to, depth)
}

/// Appends the number of a container's parts, and the parts.
fn append_parts(value: &Bound<'_, PyAny>, to: &mut Vec<u8>, depth: u32) -> PyResult<bool> {
    let count = |to: &mut Vec<u8>, parts: usize| {
        let Ok(parts) = u32::try_from(parts) else { return false };
        to.extend_from_slice(&parts.to_le_bytes());
        true
    };
    if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        if !count(to, tuple.len()) {
            return Ok(false);
        }
        for part in tuple.iter() {
            if !append(&part, to, depth + 1)? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    if let Ok(list) = value.cast_exact::<PyList>() {
        let parts = list.len();
        if !count(to, parts) {
            return Ok(false);
        }
        let mut done = 0;
        for part in list.iter() {
            done += 1;
            if !append(&part, to, depth + 1)? {
                return Ok(false);
            }
        }
        // Another thread may change it meanwhile. Pickle then makes of it what it can.
        return Ok(done == parts);
    }
    if let Ok(dict) = value.cast_exact::<PyDict>() {
        let parts = dict.len();
        if !count(to, parts) {
            return Ok(false);
        }
        // A copy, as what appends a long int calls into the interpreter, where other threads may change the dict.
        let items = dict.items();
        for item in items.iter() {
            let item = item.cast_into::<PyTuple>()?;
            for part in item.iter() {
                if !append(&part, to, depth + 1)? {
                    return Ok(false);
                }
            }
        }
        return Ok(items.len() == parts);
    }
    Ok(false)
}
