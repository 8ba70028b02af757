//! Values as bytes, and back. What consists of Python's own plain types has a form of its own; pickle does the rest.
//!
//! Only exact types have such a form: an instance of a subclass is pickled. So is what refers to itself, what lies too
//! deep, and what would be larger than pickle makes it because parts of it are one object.

use std::mem::MaybeUninit;

use flexcache_shared::kind::INTEGER;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use super::key::{Encoded, ascii, bytes_of_long, damaged, long_of_bytes, text};
use crate::py::object::running_python;

/// Kinds of values. They are part of the layout.
mod kind {
    pub(super) const NONE: u8 = 0;
    pub(super) const FALSE: u8 = 1;
    pub(super) const TRUE: u8 = 2;
    pub(super) const LONG: u8 = 3;
    pub(super) const FLOAT: u8 = 4;
    pub(super) const TEXT: u8 = 5;
    pub(super) const BYTES: u8 = 6;
    pub(super) const TUPLE: u8 = 7;
    pub(super) const LIST: u8 = 8;
    pub(super) const DICT: u8 = 9;
    pub(super) const PICKLE: u8 = 10;
    /// An int of 64 bits inside a container. By itself it is an `INTEGER`, which can be counted with.
    pub(super) const INT: u8 = 11;
    /// A str of nothing but ASCII, which is copied straight into the new object. Only by itself.
    pub(super) const ASCII: u8 = 12;
}

/// Containers in containers. Deeper ones are pickled.
const DEEPEST: u32 = 50;
/// A container's bytes. Larger ones are pickled: parts that are one object would be written again and again.
const LARGEST: usize = 1 << 20;

/// A value's kind and bytes.
pub(super) struct EncodedValue<'a> {
    pub(super) kind: u8,
    pub(super) bytes: Encoded<'a>,
}

/// Pickle, or what stands in for it.
pub(super) struct Serializer(pub(super) Option<Py<PyAny>>);

impl Serializer {
    /// The pickle of an object.
    pub(super) fn dumps<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = object.py();
        let own = self.0.as_ref().map(|own| own.bind(py).getattr(intern!(py, "dumps"))).transpose()?;
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
        let own = self.0.as_ref().map(|own| own.bind(py).getattr(intern!(py, "loads"))).transpose()?;
        let loads = match own {
            Some(loads) => loads,
            None => LOADS
                .get_or_try_init(py, || Ok::<_, PyErr>(py.import("_pickle")?.getattr("loads")?.unbind()))?
                .bind(py)
                .clone(),
        };
        running_python::call(&loads, [&bytes_object(py, bytes)?])
    }
}

fn bytes_object<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let object = PyBytes::new_with(py, bytes.len(), |to| {
        to.copy_from_slice(bytes);
        Ok(())
    })?;
    Ok(object.into_any())
}

/// The form of a value that is bytes, or a str of ASCII.
#[inline]
pub(super) fn encode_plain<'a>(value: &'a Bound<'_, PyAny>) -> Option<EncodedValue<'a>> {
    if let Some(text) = ascii(value) {
        return Some(EncodedValue { kind: kind::ASCII, bytes: Encoded::Borrowed(text) });
    }
    let bytes = value.cast_exact::<PyBytes>().ok()?;
    Some(EncodedValue { kind: kind::BYTES, bytes: Encoded::Borrowed(bytes.as_bytes()) })
}

/// The form of a value.
///
/// # Errors
///
/// Those of pickle.
pub(super) fn encode<'a>(value: &'a Bound<'_, PyAny>, serializer: &Serializer) -> PyResult<EncodedValue<'a>> {
    let owned = |kind, bytes| Ok(EncodedValue { kind, bytes: Encoded::Owned(bytes) });
    if let Some(encoded) = encode_plain(value) {
        return Ok(encoded);
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
    let mut bytes = Vec::new();
    if append(value, &mut bytes, 0)? {
        let kind = bytes.remove(0);
        // By itself a text or a long int needs no length.
        let from = if matches!(kind, kind::TEXT | kind::BYTES | kind::LONG) { 4 } else { 0 };
        return owned(kind, bytes.split_off(from));
    }
    owned(kind::PICKLE, serializer.dumps(value)?.as_bytes().to_vec())
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
    if depth == DEEPEST {
        return Ok(false);
    }
    let count = |to: &mut Vec<u8>, kind, parts: usize| {
        let Ok(parts) = u32::try_from(parts) else { return false };
        to.push(kind);
        to.extend_from_slice(&parts.to_le_bytes());
        true
    };
    if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        if !count(to, kind::TUPLE, tuple.len()) {
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
        if !count(to, kind::LIST, parts) {
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
        if !count(to, kind::DICT, parts) {
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

/// A value as it was copied out of the segment, before an object is made of it.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum RawValue {
    Integer(i64),
    Other(u8, Vec<u8>),
}

impl RawValue {
    /// Copies a value. It may be nonsense, so nothing is made of it yet.
    #[inline]
    pub(super) fn copy(value: flexcache_shared::Value<'_>) -> flexcache_shared::Result<Self> {
        if value.kind == INTEGER {
            return Ok(Self::Integer(value.word().cast_signed()));
        }
        let mut bytes = Vec::new();
        value.append_to(&mut bytes)?;
        Ok(Self::Other(value.kind, bytes))
    }

    /// The object.
    ///
    /// # Errors
    ///
    /// Those of pickle; `RuntimeError` if the bytes are no value's.
    pub(super) fn into_object<'py>(
        self,
        py: Python<'py>,
        serializer: &Serializer,
    ) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Integer(int) => Ok(int.into_pyobject(py)?.into_any()),
            Self::Other(kind::PICKLE, bytes) => serializer.loads(py, &bytes),
            Self::Other(kind::TEXT | kind::ASCII, bytes) => text(py, &bytes),
            Self::Other(kind::BYTES, bytes) => bytes_object(py, &bytes),
            Self::Other(kind::LONG, bytes) => long_of_bytes(py, &bytes),
            Self::Other(kind, bytes) => {
                let mut rest = &bytes[..];
                let object = make(py, kind, &mut rest, 0)?;
                if rest.is_empty() { Ok(object) } else { Err(damaged()) }
            }
        }
    }
}

/// What became of a value while it was read.
pub(super) enum Read<'py> {
    Object(Bound<'py, PyAny>),
    /// It is copied. The object is made later, as that may run Python code.
    Raw(RawValue),
    /// There is no memory for the object.
    Failed(PyErr),
}

impl<'py> Read<'py> {
    /// Makes the object of a value where it lies, if it is of a simple kind. Another process may be writing over it, so it may
    /// be nonsense, but is a sound object; whoever reads looks afterwards.
    #[inline]
    pub(super) fn of(py: Python<'py>, value: flexcache_shared::Value<'_>) -> flexcache_shared::Result<Self> {
        match value.kind {
            kind::ASCII => Ok(ascii_text(py, value)),
            INTEGER => Ok(match value.word().cast_signed().into_pyobject(py) {
                Ok(int) => Self::Object(int.into_any()),
                Err(never) => match never {},
            }),
            kind::BYTES => {
                let made = PyBytes::new_with(py, value.len(), |to| {
                    // SAFETY: bytes that are initialized may be taken for such that need not be, and only bytes that are initialized
                    // are written.
                    let to = unsafe { &mut *(std::ptr::from_mut(to) as *mut [MaybeUninit<u8>]) };
                    value.copy_to(to);
                    Ok(())
                });
                Ok(made.map_or_else(Self::Failed, |bytes| Self::Object(bytes.into_any())))
            }
            _ => RawValue::copy(value).map(Self::Raw),
        }
    }

    /// The object.
    ///
    /// # Errors
    ///
    /// As [`RawValue::into_object`].
    #[inline]
    pub(super) fn finish(self, py: Python<'py>, serializer: &Serializer) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Object(object) => Ok(object),
            Self::Raw(raw) => raw.into_object(py, serializer),
            Self::Failed(error) => Err(error),
        }
    }
}

/// A str of a value that is ASCII.
#[inline]
fn ascii_text<'py>(py: Python<'py>, value: flexcache_shared::Value<'_>) -> Read<'py> {
    if value.is_empty() {
        return Read::Object(PyString::new(py, "").into_any());
    }
    // SAFETY: this thread is attached. The new object is nobody else's yet; it has room for so many characters of one byte,
    // all of which `copy_to` writes.
    let (text, all) = unsafe {
        let text = ffi::PyUnicode_New(value.len().cast_signed(), 127);
        let Some(text) = Bound::from_owned_ptr_or_opt(py, text) else {
            return Read::Failed(PyErr::fetch(py));
        };
        let data = ffi::PyUnicode_DATA(text.as_ptr()).cast::<MaybeUninit<u8>>();
        let all = value.copy_to(std::slice::from_raw_parts_mut(data, value.len()));
        (text, all)
    };
    if all & 0x8080_8080_8080_8080 == 0 {
        return Read::Object(text);
    }
    // Torn or damaged. The str must not be let go with characters that it cannot have.
    // SAFETY: as above.
    unsafe {
        ffi::PyUnicode_DATA(text.as_ptr()).cast::<u8>().write_bytes(b'?', value.len());
    }
    RawValue::copy(value)
        .map_or_else(|_| Read::Failed(pyo3::exceptions::PyMemoryError::new_err(())), Read::Raw)
}

/// Makes an object of a kind and what follows it. No memory is taken for a number of parts that the bytes do not hold.
fn make<'py>(py: Python<'py>, kind: u8, rest: &mut &[u8], depth: u32) -> PyResult<Bound<'py, PyAny>> {
    fn taken<'a>(rest: &mut &'a [u8], bytes: usize) -> PyResult<&'a [u8]> {
        let (taken, after) = rest.split_at_checked(bytes).ok_or_else(damaged)?;
        *rest = after;
        Ok(taken)
    }
    fn word<const BYTES: usize>(rest: &mut &[u8]) -> PyResult<[u8; BYTES]> {
        taken(rest, BYTES)?.try_into().map_err(|_| damaged())
    }
    fn length(rest: &mut &[u8]) -> PyResult<usize> {
        let length = u32::from_le_bytes(word(rest)?) as usize;
        // A part takes a byte at least.
        if length > rest.len() { Err(damaged()) } else { Ok(length) }
    }
    let part = |rest: &mut &[u8]| {
        let [kind] = word(rest)?;
        make(py, kind, rest, depth + 1)
    };
    if depth > DEEPEST {
        return Err(damaged());
    }
    match kind {
        kind::NONE => Ok(py.None().into_bound(py)),
        kind::FALSE | kind::TRUE => Ok(PyBool::new(py, kind == kind::TRUE).to_owned().into_any()),
        kind::INT => Ok(i64::from_le_bytes(word(rest)?).into_pyobject(py)?.into_any()),
        kind::FLOAT => Ok(f64::from_le_bytes(word(rest)?).into_pyobject(py)?.into_any()),
        kind::TEXT | kind::BYTES | kind::LONG => {
            let length = length(rest)?;
            let bytes = taken(rest, length)?;
            match kind {
                kind::TEXT => text(py, bytes),
                kind::BYTES => bytes_object(py, bytes),
                _ => long_of_bytes(py, bytes),
            }
        }
        kind::TUPLE => {
            let length = length(rest)?;
            let parts = (0..length).map(|_| part(rest)).collect::<PyResult<Vec<_>>>()?;
            Ok(PyTuple::new(py, parts)?.into_any())
        }
        kind::LIST => {
            let length = length(rest)?;
            let list = PyList::empty(py);
            for _ in 0..length {
                list.append(part(rest)?)?;
            }
            Ok(list.into_any())
        }
        kind::DICT => {
            let length = length(rest)?;
            let dict = PyDict::new(py);
            for _ in 0..length {
                let key = part(rest)?;
                dict.set_item(key, part(rest)?)?;
            }
            Ok(dict.into_any())
        }
        _ => Err(damaged()),
    }
}
