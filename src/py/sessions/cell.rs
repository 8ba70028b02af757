//! Cells: the encoding of single elements.
//!
//! Text is UTF-8 and numbers are decimal, so that others who read a database see them. All else begins with the byte 0xFF,
//! which no UTF-8 has, and a tag, text that could be taken for a number included. Containers in a cell are their elements' cells,
//! each after its length.
//!
//! Members of sets and fields of maps that are equal in Python have the same cell: 1, 1.0 and True are `1`.

use flexcache_containers::number::float_text;
use flexcache_containers::{Number, operation::Cell};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple,
};

use super::errors::of_sessions;
use crate::py::object::elements::{items, listed};
use crate::py::object::running_python;

/// The first byte of cells that are neither plain text nor a number.
pub(super) const MARK: u8 = 0xFF;

/// The tags of cells. They are stored, so they must not change.
mod tag {
    pub(super) const TEXT: u8 = b't';
    pub(super) const SURROGATES: u8 = b'g';
    pub(super) const BIG_INT: u8 = b'i';
    pub(super) const NONE: u8 = b'N';
    pub(super) const TRUE: u8 = b'T';
    pub(super) const FALSE: u8 = b'F';
    pub(super) const BYTES: u8 = b'b';
    pub(super) const BYTEARRAY: u8 = b'y';
    pub(super) const LIST: u8 = b'l';
    pub(super) const TUPLE: u8 = b'u';
    pub(super) const DICT: u8 = b'd';
    pub(super) const SET: u8 = b's';
    pub(super) const FROZENSET: u8 = b'z';
    pub(super) const DEQUE: u8 = b'q';
    pub(super) const DATETIME: u8 = b'D';
    pub(super) const DATE: u8 = b'a';
    pub(super) const TIME: u8 = b'h';
    pub(super) const TIMEDELTA: u8 = b'e';
    pub(super) const DECIMAL: u8 = b'c';
    pub(super) const UUID: u8 = b'U';
    pub(super) const SERIALIZED: u8 = b'P';
}

/// The most levels of nested containers. Deeper ones are refused.
const DEEPEST: u32 = 100;

/// The protocol that is passed to a serializer, which Python 3.8 and later read.
const PROTOCOL: i32 = 5;

/// The most digits of a `Decimal` that is compared with other numbers. Longer ones have a separate form.
const MOST_DIGITS: i64 = 400;

/// An encoder, with the serializer for other objects, and whether equal objects must have the same cell.
#[derive(Clone, Copy)]
pub(super) struct Encoder<'a> {
    pub(super) serializer: Option<&'a Py<PyAny>>,
    pub(super) is_member: bool,
}

/// A class of the standard library.
fn class<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyAny>>,
    module: &str,
    name: &str,
) -> PyResult<&'py Bound<'py, PyAny>> {
    let class = cell.get_or_try_init(py, || Ok::<_, PyErr>(py.import(module)?.getattr(name)?.unbind()))?;
    Ok(class.bind(py))
}

macro_rules! classes {
    ($($name:ident = $module:literal $class:literal;)*) => {
        $(fn $name<'py>(py: Python<'py>) -> PyResult<&'py Bound<'py, PyAny>> {
            static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            class(py, &CLASS, $module, $class)
        })*
    };
}

classes! {
    deque = "collections" "deque";
    datetime = "datetime" "datetime";
    date = "datetime" "date";
    time = "datetime" "time";
    timedelta = "datetime" "timedelta";
    timezone = "datetime" "timezone";
    decimal = "decimal" "Decimal";
    uuid = "uuid" "UUID";
}

/// Whether an object is exactly a deque.
pub(super) fn is_deque(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(object.get_type().is(deque(object.py())?))
}

/// A deque of these objects.
pub(super) fn new_deque<'py>(
    py: Python<'py>,
    objects: Vec<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    deque(py)?.call1((PyList::new(py, objects)?,))
}

fn tagged(tag: u8, payload: &[u8]) -> Cell {
    let mut cell = Cell::with_capacity(2 + payload.len());
    cell.extend([MARK, tag]);
    cell.extend_from_slice(payload);
    cell
}

/// Appends a length, seven bits in each byte, the lowest first.
fn push_length(to: &mut Vec<u8>, mut length: usize) {
    loop {
        let low = u8::try_from(length & 0x7F).unwrap_or(0);
        length >>= 7;
        if length == 0 {
            to.push(low);
            return;
        }
        to.push(low | 0x80);
    }
}

fn push_cell(to: &mut Vec<u8>, cell: &[u8]) {
    push_length(to, cell.len());
    to.extend_from_slice(cell);
}

/// The cell of a text.
pub(super) fn text_cell(text: &Bound<'_, PyString>) -> PyResult<Cell> {
    let Ok(plain) = text.to_str() else {
        let bytes = text.call_method1(intern!(text.py(), "encode"), ("utf-8", "surrogatepass"))?;
        return Ok(tagged(tag::SURROGATES, bytes.extract::<&[u8]>()?));
    };
    let bytes = plain.as_bytes();
    Ok(if Number::parse(bytes).is_some() { tagged(tag::TEXT, bytes) } else { bytes.to_vec() })
}

fn int_cell(int: &Bound<'_, PyAny>) -> PyResult<Cell> {
    if let Ok(small) = int.extract::<i64>() {
        return Ok(Number::Int(small).text());
    }
    // Hexadecimal, since Python limits the length of decimal numbers.
    let text = int.call_method1(intern!(int.py(), "__format__"), ("x",))?;
    Ok(tagged(tag::BIG_INT, text.extract::<&str>()?.as_bytes()))
}

impl Encoder<'_> {
    /// The cell of an object.
    ///
    /// # Errors
    ///
    /// `CodecError` for an object that has no cell, and what a serializer raises.
    pub(super) fn cell(self, value: &Bound<'_, PyAny>) -> PyResult<Cell> {
        self.at_depth(value, 0)
    }

    fn at_depth(self, value: &Bound<'_, PyAny>, depth: u32) -> PyResult<Cell> {
        let py = value.py();
        if let Ok(text) = value.cast_exact::<PyString>() {
            return text_cell(text);
        }
        if value.is_exact_instance_of::<PyInt>() {
            return int_cell(value);
        }
        if let Ok(truth) = value.cast_exact::<PyBool>() {
            return Ok(match (self.is_member, truth.is_true()) {
                (true, truth) => Number::Int(i64::from(truth)).text(),
                (false, true) => tagged(tag::TRUE, &[]),
                (false, false) => tagged(tag::FALSE, &[]),
            });
        }
        if let Ok(float) = value.cast_exact::<PyFloat>() {
            return self.float(float);
        }
        if value.is_none() {
            return Ok(tagged(tag::NONE, &[]));
        }
        if let Ok(bytes) = value.cast_exact::<PyBytes>() {
            return Ok(tagged(tag::BYTES, bytes.as_bytes()));
        }
        if depth == DEEPEST {
            let message = format!("the value is nested deeper than {DEEPEST} levels, or contains itself");
            return Err(of_sessions(py, "CodecError", message));
        }
        if let Some(cell) = self.container(value, depth)? {
            return Ok(cell);
        }
        if let Some(cell) = self.of_standard_library(value)? {
            return Ok(cell);
        }
        if let Some(serializer) = self.serializer {
            let protocol = PROTOCOL.into_pyobject(py)?.into_any();
            let dumped = running_python::call(
                &serializer.bind(py).getattr(intern!(py, "dumps"))?,
                [value, &protocol],
            )?;
            let Ok(bytes) = dumped.cast::<PyBytes>() else {
                return Err(PyTypeError::new_err(format!(
                    "the serializer's dumps() must return bytes, not {}",
                    dumped.get_type().name()?
                )));
            };
            return Ok(tagged(tag::SERIALIZED, bytes.as_bytes()));
        }
        let name = value.get_type().fully_qualified_name()?.to_string();
        let what = if self.is_member { "a member or a field" } else { "a value" };
        Err(of_sessions(
            py,
            "CodecError",
            format!("an object of type {name} cannot be stored as {what}; give `serializer=` to connect()"),
        ))
    }

    fn float(self, float: &Bound<'_, PyFloat>) -> PyResult<Cell> {
        let value = float.value();
        if self.is_member && value.is_finite() && value.fract() == 0.0 {
            return int_cell(&float.call_method0(intern!(float.py(), "__int__"))?);
        }
        Ok(float_text(value).into_bytes())
    }

    fn elements<'py>(
        self,
        tag: u8,
        elements: impl Iterator<Item = Bound<'py, PyAny>>,
        depth: u32,
        is_sorted: bool,
    ) -> PyResult<Cell> {
        let mut cells =
            elements.map(|element| self.at_depth(&element, depth + 1)).collect::<PyResult<Vec<_>>>()?;
        if is_sorted {
            cells.sort_unstable();
        }
        let mut cell = tagged(tag, &[]);
        for element in cells {
            push_cell(&mut cell, &element);
        }
        Ok(cell)
    }

    fn container(self, value: &Bound<'_, PyAny>, depth: u32) -> PyResult<Option<Cell>> {
        if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            return self.elements(tag::TUPLE, tuple.iter(), depth, false).map(Some);
        }
        if let Ok(set) = value.cast_exact::<PyFrozenSet>() {
            return self.elements(tag::FROZENSET, set.iter(), depth, true).map(Some);
        }
        if self.is_member {
            // Other objects are not hashable, so Python's own sets refuse them as well.
            return Ok(None);
        }
        if let Ok(list) = value.cast_exact::<PyList>() {
            return self.elements(tag::LIST, list.iter(), depth, false).map(Some);
        }
        if let Ok(dict) = value.cast_exact::<PyDict>() {
            let pairs = items(dict)?.into_iter().flat_map(|(key, value)| [key, value]);
            return self.elements(tag::DICT, pairs, depth, false).map(Some);
        }
        if value.is_exact_instance_of::<PySet>() {
            return self.elements(tag::SET, listed(value)?.iter(), depth, true).map(Some);
        }
        if let Ok(bytes) = value.cast_exact::<PyByteArray>() {
            return Ok(Some(tagged(tag::BYTEARRAY, &bytes.to_vec())));
        }
        let py = value.py();
        if value.get_type().is(deque(py)?) {
            let items = listed(value)?;
            let maxlen: Option<usize> = value.getattr(intern!(py, "maxlen"))?.extract()?;
            let mut cell = tagged(tag::DEQUE, &[]);
            push_length(&mut cell, maxlen.map_or(0, |maxlen| maxlen.saturating_add(1)));
            for item in items {
                push_cell(&mut cell, &self.at_depth(&item, depth + 1)?);
            }
            return Ok(Some(cell));
        }
        Ok(None)
    }

    fn of_standard_library(self, value: &Bound<'_, PyAny>) -> PyResult<Option<Cell>> {
        let py = value.py();
        let kind = value.get_type();
        let as_text = |tag, value: &Bound<'_, PyAny>, method| -> PyResult<Option<Cell>> {
            let text = value.call_method0(method)?;
            Ok(Some(tagged(tag, text.extract::<&str>()?.as_bytes())))
        };
        if kind.is(datetime(py)?) {
            let is_aware = !value.call_method0("utcoffset")?.is_none();
            if self.is_member && is_aware {
                let utc = timezone(py)?.getattr("utc")?;
                return as_text(tag::DATETIME, &value.call_method1("astimezone", (utc,))?, "isoformat");
            }
            return as_text(tag::DATETIME, value, "isoformat");
        }
        if kind.is(date(py)?) {
            return as_text(tag::DATE, value, "isoformat");
        }
        if kind.is(time(py)?) {
            return as_text(tag::TIME, value, "isoformat");
        }
        if kind.is(timedelta(py)?) {
            let part = |name| value.getattr(name)?.extract::<i64>();
            let text = format!("{} {} {}", part("days")?, part("seconds")?, part("microseconds")?);
            return Ok(Some(tagged(tag::TIMEDELTA, text.as_bytes())));
        }
        if kind.is(decimal(py)?) {
            return if self.is_member {
                self.decimal_member(value).map(Some)
            } else {
                as_text(tag::DECIMAL, value, "__str__")
            };
        }
        if kind.is(uuid(py)?) {
            return Ok(Some(tagged(tag::UUID, value.getattr("bytes")?.extract::<&[u8]>()?)));
        }
        Ok(None)
    }

    /// A `Decimal` that equals an int or a float has the same cell.
    fn decimal_member(self, value: &Bound<'_, PyAny>) -> PyResult<Cell> {
        let own = |value: &Bound<'_, PyAny>| -> PyResult<Cell> {
            let text = value.call_method0("__str__")?;
            Ok(tagged(tag::DECIMAL, text.extract::<&str>()?.as_bytes()))
        };
        let is_finite: bool = value.call_method0("is_finite")?.extract()?;
        if is_finite && value.call_method0("adjusted")?.extract::<i64>()?.abs() > MOST_DIGITS {
            return own(value);
        }
        if is_finite {
            let whole = value.call_method0("__int__")?;
            if value.eq(&whole)? {
                return int_cell(&whole);
            }
        }
        if let Ok(float) = value.call_method0("__float__")
            && let Ok(float) = float.cast_exact::<PyFloat>()
            && (value.eq(float)? || float.value().is_nan())
        {
            return self.float(float);
        }
        own(&value.call_method0("normalize")?)
    }
}

/// The rest of a cell's payload.
struct Payload<'a>(&'a [u8]);

impl<'a> Payload<'a> {
    fn length(&mut self) -> Option<usize> {
        let mut length = 0_usize;
        for shift in (0..63).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            length |= usize::from(byte & 0x7F).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(length);
            }
        }
        None
    }

    fn cell(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        let (cell, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(cell)
    }
}

/// A decoder, with the serializer that encoded.
#[derive(Clone, Copy)]
pub(super) struct Decoder<'a> {
    pub(super) serializer: Option<&'a Py<PyAny>>,
}

fn damaged(py: Python<'_>) -> PyErr {
    of_sessions(
        py,
        "CodecError",
        "what is stored is no value of a session: it is damaged, or something else has written it".into(),
    )
}

impl Decoder<'_> {
    /// The object of a cell.
    ///
    /// # Errors
    ///
    /// `CodecError` for bytes that are not a cell, and what a serializer raises.
    pub(super) fn object<'py>(self, py: Python<'py>, cell: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        self.at_depth(py, cell, 0)
    }

    fn at_depth<'py>(self, py: Python<'py>, cell: &[u8], depth: u32) -> PyResult<Bound<'py, PyAny>> {
        if cell.first() != Some(&MARK) {
            return match Number::parse(cell) {
                Some(Number::Int(value)) => Ok(value.into_pyobject(py)?.into_any()),
                Some(Number::Float(value)) => Ok(value.into_pyobject(py)?.into_any()),
                None => Ok(text(py, cell)?.into_any()),
            };
        }
        let Some((tag, payload)) = cell[1..].split_first() else { return Err(damaged(py)) };
        let words = || std::str::from_utf8(payload).map_err(|_| damaged(py));
        let from_iso = |class: &Bound<'py, PyAny>| class.call_method1("fromisoformat", (words()?,));
        Ok(match *tag {
            tag::NONE => py.None().into_bound(py),
            tag::TRUE => PyBool::new(py, true).to_owned().into_any(),
            tag::FALSE => PyBool::new(py, false).to_owned().into_any(),
            tag::TEXT => text(py, payload)?.into_any(),
            tag::SURROGATES => {
                PyBytes::new(py, payload).call_method1("decode", ("utf-8", "surrogatepass"))?
            }
            tag::BIG_INT => py.get_type::<PyInt>().call1((words()?, 16))?,
            tag::BYTES => PyBytes::new(py, payload).into_any(),
            tag::BYTEARRAY => PyByteArray::new(py, payload).into_any(),
            tag::DATETIME => from_iso(datetime(py)?)?,
            tag::DATE => from_iso(date(py)?)?,
            tag::TIME => from_iso(time(py)?)?,
            tag::TIMEDELTA => {
                let parts: Option<Vec<i64>> = words()?.split(' ').map(|part| part.parse().ok()).collect();
                let parts = parts.filter(|parts| parts.len() == 3).ok_or_else(|| damaged(py))?;
                timedelta(py)?.call1((parts[0], parts[1], parts[2]))?
            }
            tag::DECIMAL => decimal(py)?.call1((words()?,))?,
            tag::UUID => uuid(py)?.call1((py.None(), PyBytes::new(py, payload)))?,
            tag::SERIALIZED => {
                let Some(serializer) = self.serializer else {
                    let message = "the value was written with a serializer; give `serializer=` to connect()";
                    return Err(of_sessions(py, "CodecError", message.into()));
                };
                let loads = serializer.bind(py).getattr(intern!(py, "loads"))?;
                running_python::call(&loads, [PyBytes::new(py, payload).as_any()])?
            }
            tag => self.container(py, tag, Payload(payload), depth)?,
        })
    }

    fn container<'py>(
        self,
        py: Python<'py>,
        tag: u8,
        mut payload: Payload<'_>,
        depth: u32,
    ) -> PyResult<Bound<'py, PyAny>> {
        if depth > DEEPEST {
            return Err(damaged(py));
        }
        let maxlen = if tag == tag::DEQUE { payload.length().ok_or_else(|| damaged(py))? } else { 0 };
        let mut elements = Vec::new();
        while !payload.0.is_empty() {
            let cell = payload.cell().ok_or_else(|| damaged(py))?;
            elements.push(self.at_depth(py, cell, depth + 1)?);
        }
        Ok(match tag {
            tag::LIST => PyList::new(py, elements)?.into_any(),
            tag::TUPLE => PyTuple::new(py, elements)?.into_any(),
            tag::SET => PySet::new(py, elements)?.into_any(),
            tag::FROZENSET => PyFrozenSet::new(py, elements)?.into_any(),
            tag::DEQUE => {
                let maxlen = maxlen.checked_sub(1);
                deque(py)?.call1((PyList::new(py, elements)?, maxlen))?
            }
            tag::DICT if elements.len() % 2 == 0 => {
                let dict = PyDict::new(py);
                let mut elements = elements.into_iter();
                while let (Some(key), Some(value)) = (elements.next(), elements.next()) {
                    dict.set_item(key, value)?;
                }
                dict.into_any()
            }
            _ => return Err(damaged(py)),
        })
    }
}

fn text<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    std::str::from_utf8(bytes).map(|text| PyString::new(py, text)).map_err(|_| damaged(py))
}
