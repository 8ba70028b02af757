//! The server's answers as Python objects.

use flexcache_remote::Value;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList};

use crate::py::object::bytes::bytes_object;
use crate::py::object::fallible;

/// Bytes as an object; `MemoryError` if there is no memory.
pub(super) fn bytes<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    Ok(bytes_object(py, bytes)?.into_any())
}

pub(super) fn list<'py>(
    py: Python<'py>,
    values: Vec<Value>,
    failed: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let made = PyList::empty(py);
    for value in values {
        made.append(object(py, value, failed)?)?;
    }
    Ok(made.into_any())
}

/// Handles a value that Python cannot represent, such as an unhashable key, like a refusal.
fn strange<'py>(error: PyErr, what: &str, failed: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = failed.py();
    if error.is_instance_of::<PyTypeError>(py) || error.is_instance_of::<PyValueError>(py) {
        return failed.call1(("refused", format!("{what} in the reply cannot be read: {}", error.value(py))));
    }
    Err(error)
}

/// A value as an object. A refusal is an exception, made by `failed`, which is returned.
pub(super) fn object<'py>(
    py: Python<'py>,
    value: Value,
    failed: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    match value {
        Value::Null => Ok(py.None().into_bound(py)),
        Value::Bool(yes) => Ok(PyBool::new(py, yes).to_owned().into_any()),
        Value::Int(number) => fallible::signed_int(py, number),
        Value::Double(number) => fallible::float(py, number),
        Value::BigNumber(digits) => {
            let number = py.get_type::<pyo3::types::PyInt>().call1((bytes(py, &digits)?,));
            number.or_else(|error| strange(error, "a number", failed))
        }
        Value::Bytes(text) => bytes(py, &text),
        Value::Error(text) => failed.call1(("refused", String::from_utf8_lossy(&text))),
        Value::Array(values) | Value::Set(values) | Value::Push(values) => list(py, values, failed),
        Value::Map(values) => {
            let made = PyDict::new(py);
            let mut values = values.into_iter();
            while let (Some(key), Some(value)) = (values.next(), values.next()) {
                let (key, value) = (object(py, key, failed)?, object(py, value, failed)?);
                if let Err(error) = made.set_item(key, value) {
                    return strange(error, "a key of a map", failed);
                }
            }
            Ok(made.into_any())
        }
    }
}
