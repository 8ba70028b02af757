//! The canonical encoding of a key: one text, the same in every process and for every store.
//!
//! Every part begins with a character for its kind and determines where it ends. So two keys have the same
//! text only if their parts have the same kinds and are equal. Types are marked: a store that keeps 1, 1.0
//! and True apart as keys keeps calls with them apart as well. A whole key is never pickled, since a pickle
//! distinguishes two equal objects from one object that occurs twice.
//!
//! | part | text |
//! | --- | --- |
//! | None | `n` |
//! | bool | `?1` or `?0` |
//! | int | `i` decimal `;`, or `I` hexadecimal `;` beyond 64 bits |
//! | float | `f` and the 16 hexadecimal digits of its bits; one NaN, one zero |
//! | str | `s` length in UTF-8 `:` text; `S` length `:` hexadecimal where it has lone surrogates |
//! | bytes | `b` length `:` hexadecimal |
//! | tuple | `(` parts `)` |
//! | frozenset | `{` parts, sorted by their texts `}` |
//! | what separates positional from keyword arguments | `k` |
//! | any other object | `<` parts that describe it `>`, see `_canonical.py` |

use pyo3::exceptions::PyRecursionError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyFrozenSet, PyInt, PyString, PyTuple};

use super::running_python::call;

/// Parts that are nested deeper than this are refused, as each level needs stack.
const DEEPEST: u32 = 200;

/// The parts of a key that have been encoded so far.
pub(crate) struct CanonicalKey {
    text: Vec<u8>,
    depth: u32,
}

impl CanonicalKey {
    /// Begins a key that is a tuple. Add its parts, and then call [`finish`](Self::finish).
    pub(crate) fn begin() -> Self {
        let mut text = Vec::with_capacity(96);
        text.push(b'(');
        Self { text, depth: 0 }
    }

    pub(crate) fn finish(mut self, py: Python<'_>) -> PyResult<Bound<'_, PyString>> {
        self.text.push(b')');
        PyString::from_bytes(py, &self.text)
    }

    /// Adds the separator between positional and keyword arguments.
    pub(crate) fn keywords(&mut self) {
        self.text.push(b'k');
    }

    /// Adds a part. May run Python code.
    ///
    /// # Errors
    ///
    /// `TypeError` for what cannot be hashed or pickled, `RecursionError` for what is nested too deeply, and whatever
    /// the object raises.
    pub(crate) fn part(&mut self, part: &Bound<'_, PyAny>) -> PyResult<()> {
        if part.is_none() {
            self.text.push(b'n');
        } else if let Ok(text) = part.cast_exact::<PyString>() {
            self.text(text)?;
        } else if let Ok(number) = part.cast_exact::<PyInt>() {
            self.int(number)?;
        } else if let Ok(flag) = part.cast_exact::<PyBool>() {
            self.text.extend(if flag.is_true() { b"?1" } else { b"?0" });
        } else if let Ok(number) = part.cast_exact::<PyFloat>() {
            self.float(number.value());
        } else if let Ok(bytes) = part.cast_exact::<PyBytes>() {
            self.hexadecimal(b'b', bytes.as_bytes());
        } else {
            self.nested(part)?;
        }
        Ok(())
    }

    fn nested(&mut self, part: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.depth == DEEPEST {
            return Err(PyRecursionError::new_err(format!(
                "a key in a store must not be nested more than {DEEPEST} deep"
            )));
        }
        self.depth += 1;
        if let Ok(tuple) = part.cast_exact::<PyTuple>() {
            self.parts(b'(', tuple, b')')?;
        } else if let Ok(set) = part.cast_exact::<PyFrozenSet>() {
            self.set(set)?;
        } else {
            self.parts(b'<', &description(part)?, b'>')?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn parts(&mut self, opening: u8, parts: &Bound<'_, PyTuple>, closing: u8) -> PyResult<()> {
        self.text.push(opening);
        for part in parts.iter() {
            self.part(&part)?;
        }
        self.text.push(closing);
        Ok(())
    }

    fn set(&mut self, set: &Bound<'_, PyFrozenSet>) -> PyResult<()> {
        let mut texts = Vec::with_capacity(set.len());
        for part in set.iter() {
            let mut of_part = Self { text: Vec::new(), depth: self.depth };
            of_part.part(&part)?;
            texts.push(of_part.text);
        }
        texts.sort_unstable();
        self.text.push(b'{');
        for text in texts {
            self.text.extend(text);
        }
        self.text.push(b'}');
        Ok(())
    }

    fn text(&mut self, text: &Bound<'_, PyString>) -> PyResult<()> {
        if let Ok(text) = text.to_str() {
            self.length(b's', text.len());
            self.text.extend(text.as_bytes());
            return Ok(());
        }
        // The text has lone surrogates, or there is no memory, which this call reports as well.
        let py = text.py();
        let arguments = (intern!(py, "utf-8"), intern!(py, "surrogatepass"));
        let encoded = text.call_method1(intern!(py, "encode"), arguments)?;
        self.hexadecimal(b'S', encoded.cast_exact::<PyBytes>()?.as_bytes());
        Ok(())
    }

    fn int(&mut self, number: &Bound<'_, PyInt>) -> PyResult<()> {
        if let Ok(number) = number.extract::<i64>() {
            self.text.push(b'i');
            self.text.extend(number.to_string().as_bytes());
        } else {
            // Decimal digits take quadratic time, and Python limits how many there may be.
            // SAFETY: the number is a valid object and the thread is attached; a new reference is returned, or null.
            let digits = unsafe {
                Bound::from_owned_ptr_or_err(number.py(), ffi::PyNumber_ToBase(number.as_ptr(), 16))?
            };
            self.text.push(b'I');
            self.text.extend(digits.cast::<PyString>()?.to_str()?.as_bytes());
        }
        self.text.push(b';');
        Ok(())
    }

    fn float(&mut self, number: f64) {
        let bits = match number {
            _ if number.is_nan() => 0x7ff8_0000_0000_0000,
            // 0.0 and -0.0 are equal.
            0.0 => 0,
            _ => number.to_bits(),
        };
        self.text.push(b'f');
        self.text.extend(format!("{bits:016x}").as_bytes());
    }

    fn hexadecimal(&mut self, mark: u8, bytes: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.length(mark, bytes.len());
        self.text.reserve(2 * bytes.len());
        for byte in bytes {
            self.text.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }

    fn length(&mut self, mark: u8, length: usize) {
        self.text.push(mark);
        self.text.extend(length.to_string().as_bytes());
        self.text.push(b':');
    }
}

/// The parts that describe an object that is not of the types above.
fn description<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    static DESCRIBE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    let describe = DESCRIBE.import(py, "flexcache_rs._canonical", "describe")?;
    Ok(call(describe, [object])?.cast_into::<PyTuple>()?)
}

/// The canonical encoding of a tuple.
#[pyfunction]
#[pyo3(name = "_canonical_key")]
pub(crate) fn canonical_key<'py>(parts: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyString>> {
    let mut key = CanonicalKey::begin();
    for part in parts.iter() {
        key.part(&part)?;
    }
    key.finish(parts.py())
}
