//! Arguments of common types, and the errors for arguments of other types.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyIterator, PyString};

use super::integer::shown;

/// The exception for an argument of the wrong type.
pub(crate) fn wrong_type(argument: &str, allowed: &str, value: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!("{argument} must be {allowed}, not {}", described(value)))
}

/// The type of an object, and the object itself where it is a number or text, whose `repr` is Python's own.
pub(crate) fn described(value: &Bound<'_, PyAny>) -> String {
    const LONGEST: usize = 60;
    let of = value.get_type().name().map_or_else(|_| "that".into(), |name| name.to_string());
    let is_plain = value.is_exact_instance_of::<PyString>()
        || value.is_exact_instance_of::<PyBytes>()
        || value.is_exact_instance_of::<PyInt>()
        || value.is_exact_instance_of::<PyFloat>()
        || value.is_exact_instance_of::<PyBool>();
    if !is_plain || value.len().is_ok_and(|len| len > LONGEST) {
        return of;
    }
    format!("{of} ({})", shown(&value.as_borrowed()))
}

/// A flag: any object, as `if` takes it, since python-diskcache's users pass 1 and None as well.
pub(crate) fn truth(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    value.is_truthy()
}

/// An argument that is text.
pub(crate) fn text(argument: &str, allowed: &str, value: &Borrowed<'_, '_, PyAny>) -> PyResult<PyBackedStr> {
    let text = value.cast::<PyString>().map_err(|_| wrong_type(argument, allowed, value))?;
    text.extract::<PyBackedStr>().map_err(|error| {
        if error.is_instance_of::<PyValueError>(value.py()) {
            return PyValueError::new_err(format!(
                "{argument} must be text without lone surrogates, not {}",
                shown(value)
            ));
        }
        error
    })
}

/// Goes through an argument. What the object's own `__iter__` raises is raised as it is.
pub(crate) fn iterate<'py>(
    argument: &str,
    allowed: &str,
    value: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyIterator>> {
    value.try_iter().map_err(|error| match value.getattr_opt("__iter__") {
        Ok(None) => wrong_type(argument, allowed, value),
        _ => error,
    })
}
