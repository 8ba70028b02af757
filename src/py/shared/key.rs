//! Encodes keys in a canonical form: keys that are equal in a dict have the same bytes.
//!
//! Pickle is not used, as its bytes depend on which parts of a key are the same object.

use std::ops::Deref;

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString, PyTuple};

use crate::py::object::bytes::bytes_object;

/// Kinds of keys. They are part of the layout.
mod kind {
    pub(super) const NONE: u8 = 0;
    pub(super) const INT: u8 = 1;
    pub(super) const LONG: u8 = 2;
    pub(super) const FLOAT: u8 = 3;
    pub(super) const TEXT: u8 = 4;
    pub(super) const BYTES: u8 = 5;
    pub(super) const TUPLE: u8 = 6;
}

/// The most levels of nested tuples in a key.
const DEEPEST: u32 = 32;

/// The kinds of internal keys, which users cannot name.
pub(super) mod own_kind {
    /// The first internal kind. Keys of these kinds are not listed.
    pub(in super::super) const FIRST: u8 = 248;
    pub(in super::super) const LIMITER: u8 = 248;
    pub(in super::super) const LOCK: u8 = 249;
    /// The failure of a computation, for the callers that waited for it.
    pub(in super::super) const FAILURE: u8 = 250;
}

/// Bytes, which are borrowed or made without an allocation if possible.
pub(super) enum Encoded<'a> {
    Borrowed(&'a [u8]),
    Word([u8; 8]),
    Owned(Vec<u8>),
}

impl Deref for Encoded<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Word(word) => word,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// A key's kind and bytes.
pub(super) struct EncodedKey<'a> {
    kind: u8,
    bytes: Encoded<'a>,
}

impl EncodedKey<'_> {
    pub(super) fn as_key(&self) -> flexcache_shared::Key<'_> {
        flexcache_shared::Key { kind: self.kind, bytes: &self.bytes }
    }

    /// The internal key of a kind that belongs to this key.
    pub(super) fn of_own_kind(&self, kind: u8) -> (u8, Vec<u8>) {
        (kind, [&[self.kind], &*self.bytes].concat())
    }
}

/// Encodes a key.
///
/// # Errors
///
/// `TypeError` for a key of another type.
#[inline(always)]
pub(super) fn encode<'a>(key: &'a Bound<'_, PyAny>) -> PyResult<EncodedKey<'a>> {
    match ascii(key) {
        Some(bytes) => Ok(EncodedKey { kind: kind::TEXT, bytes: Encoded::Borrowed(bytes) }),
        None => encode_at(key, 0),
    }
}

/// The key that a str of ASCII is, for which nothing of the interpreter has to be called.
#[inline(always)]
pub(super) fn plain<'a>(key: &'a Bound<'_, PyAny>) -> Option<flexcache_shared::Key<'a>> {
    Some(flexcache_shared::Key { kind: kind::TEXT, bytes: ascii(key)? })
}

/// The characters of an ASCII str, if they can be read without a call.
#[cfg(not(Py_3_14))]
#[inline(always)]
pub(super) fn ascii<'a>(object: &'a Bound<'_, PyAny>) -> Option<&'a [u8]> {
    let pointer = object.cast_exact::<PyString>().ok()?.as_ptr();
    // SAFETY: it is a str, which the borrow keeps alive, and whose characters never change; each is a byte where it is compact and
    // ASCII.
    unsafe {
        if ffi::PyUnicode_IS_COMPACT_ASCII(pointer) == 0 {
            return None;
        }
        let length = ffi::PyUnicode_GET_LENGTH(pointer).cast_unsigned();
        Some(std::slice::from_raw_parts(ffi::PyUnicode_DATA(pointer).cast(), length))
    }
}

/// The same for a Python that does not show which strs are ASCII.
#[cfg(Py_3_14)]
#[inline(always)]
pub(super) fn ascii<'a>(object: &'a Bound<'_, PyAny>) -> Option<&'a [u8]> {
    let text = object.cast_exact::<PyString>().ok()?;
    // SAFETY: the object is a str.
    let characters = unsafe { ffi::PyUnicode_GET_LENGTH(text.as_ptr()) }.cast_unsigned();
    let text = text.to_str().ok()?;
    (characters == text.len()).then_some(text.as_bytes())
}

fn encode_at<'a>(key: &'a Bound<'_, PyAny>, depth: u32) -> PyResult<EncodedKey<'a>> {
    let owned = |kind, bytes| Ok(EncodedKey { kind, bytes: Encoded::Owned(bytes) });
    if let Ok(text) = key.cast_exact::<PyString>() {
        return match text.to_str() {
            Ok(text) => Ok(EncodedKey { kind: kind::TEXT, bytes: Encoded::Borrowed(text.as_bytes()) }),
            // The text has lone surrogates. These bytes are not valid UTF-8, so they differ from those of any
            // other text.
            Err(_) => {
                let bytes = text.call_method1("encode", ("utf-8", "surrogatepass"))?;
                owned(kind::TEXT, bytes.cast::<PyBytes>()?.as_bytes().to_vec())
            }
        };
    }
    if key.is_exact_instance_of::<PyInt>() || key.is_instance_of::<PyBool>() {
        return encode_int(key);
    }
    if let Ok(bytes) = key.cast_exact::<PyBytes>() {
        return Ok(EncodedKey { kind: kind::BYTES, bytes: Encoded::Borrowed(bytes.as_bytes()) });
    }
    if let Ok(float) = key.cast_exact::<PyFloat>() {
        let float = float.value();
        if float.is_finite() && float.fract() == 0.0 {
            // As in a dict, 1.0 equals 1 and -0.0 equals 0.
            let int = key.call_method0("__int__")?;
            let encoded = encode_int(&int)?;
            return owned(encoded.kind, encoded.bytes.to_vec());
        }
        // All NaNs are one key.
        let float = if float.is_nan() { f64::NAN } else { float };
        return owned(kind::FLOAT, float.to_bits().to_le_bytes().to_vec());
    }
    if key.is_none() {
        return owned(kind::NONE, Vec::new());
    }
    if let Ok(tuple) = key.cast_exact::<PyTuple>() {
        if depth == DEEPEST {
            return Err(PyValueError::new_err(format!(
                "a key must not be nested more than {DEEPEST} tuples deep"
            )));
        }
        let mut bytes = Vec::new();
        for part in tuple.iter_borrowed() {
            let part = part.to_owned();
            let part = encode_at(&part, depth + 1)?;
            let length =
                u32::try_from(part.bytes.len()).map_err(|_| PyValueError::new_err("the key is too long"))?;
            bytes.push(part.kind);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&part.bytes);
        }
        return owned(kind::TUPLE, bytes);
    }
    Err(PyTypeError::new_err(format!(
        "a key must be a str, bytes, int, float, bool, None or a tuple of these, not {}; other processes could not tell \
         which key it is",
        key.get_type().name()?
    )))
}

fn encode_int<'a>(int: &Bound<'_, PyAny>) -> PyResult<EncodedKey<'a>> {
    if let Ok(small) = int.extract::<i64>() {
        return Ok(EncodedKey { kind: kind::INT, bytes: Encoded::Word(small.to_le_bytes()) });
    }
    Ok(EncodedKey { kind: kind::LONG, bytes: Encoded::Owned(bytes_of_long(int)?) })
}

/// The shortest two's complement representation of an int.
pub(super) fn bytes_of_long(int: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let bits: usize = int.call_method0("bit_length")?.extract()?;
    let options = pyo3::types::PyDict::new(int.py());
    options.set_item("signed", true)?;
    let bytes = int.call_method("to_bytes", (bits / 8 + 1, "little"), Some(&options))?;
    Ok(bytes.cast::<PyBytes>()?.as_bytes().to_vec())
}

/// The int of such bytes.
pub(super) fn long_of_bytes<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let options = pyo3::types::PyDict::new(py);
    options.set_item("signed", true)?;
    let bytes = bytes_object(py, bytes)?;
    py.get_type::<PyInt>().call_method("from_bytes", (bytes, "little"), Some(&options))
}

/// The key that has this form.
///
/// # Errors
///
/// `RuntimeError` if the bytes are not a key.
pub(super) fn decode<'py>(py: Python<'py>, kind: u8, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    decode_at(py, kind, bytes, 0)
}

fn decode_at<'py>(py: Python<'py>, kind: u8, bytes: &[u8], depth: u32) -> PyResult<Bound<'py, PyAny>> {
    let word = || bytes.try_into().map_err(|_| damaged());
    match kind {
        kind::NONE => Ok(py.None().into_bound(py)),
        kind::INT => Ok(i64::from_le_bytes(word()?).into_pyobject(py)?.into_any()),
        kind::LONG => long_of_bytes(py, bytes),
        kind::FLOAT => Ok(f64::from_le_bytes(word()?).into_pyobject(py)?.into_any()),
        kind::TEXT => text(py, bytes),
        kind::BYTES => Ok(PyBytes::new(py, bytes).into_any()),
        kind::TUPLE if depth <= DEEPEST => {
            let mut parts = Vec::new();
            let mut rest = bytes;
            while let Some((&kind, after)) = rest.split_first() {
                let (length, after) = after.split_first_chunk::<4>().ok_or_else(damaged)?;
                let (part, after) =
                    after.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(damaged)?;
                parts.push(decode_at(py, kind, part, depth + 1)?);
                rest = after;
            }
            Ok(PyTuple::new(py, parts)?.into_any())
        }
        _ => Err(damaged()),
    }
}

/// The text of UTF-8 bytes, including lone surrogates.
pub(super) fn text<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // The interpreter caches texts of one character.
    if let [byte] = bytes
        && byte.is_ascii()
    {
        // SAFETY: this thread is attached.
        return unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_FromOrdinal((*byte).into())) };
    }
    // The interpreter would read every byte twice.
    if bytes.len() > 1 && bytes.is_ascii() {
        // SAFETY: this thread is attached. The new object is nobody else's yet, and has room for so many characters of one byte.
        return unsafe {
            let text = ffi::PyUnicode_New(bytes.len().cast_signed(), 127);
            let text = Bound::from_owned_ptr_or_err(py, text)?;
            let data = ffi::PyUnicode_DATA(text.as_ptr()).cast::<u8>();
            data.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            Ok(text)
        };
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(PyString::new(py, text).into_any()),
        Err(_) => PyBytes::new(py, bytes).call_method1("decode", ("utf-8", "surrogatepass")),
    }
}

#[cold]
pub(super) fn damaged() -> PyErr {
    PyRuntimeError::new_err("the stored data is damaged; clear() empties the cache")
}
