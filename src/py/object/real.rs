//! Real numbers that are neither ints nor floats.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt};

/// A real number of another class, such as numpy's, `Fraction` or `Decimal`, as a float; `None` for anything else. What
/// counts as one says `as_number` of `_arguments.py`.
///
/// # Errors
///
/// What its `__float__` raises.
pub(crate) fn other_real<'py>(value: &Borrowed<'_, 'py, PyAny>) -> PyResult<Option<Bound<'py, PyFloat>>> {
    if value.is_instance_of::<PyFloat>()
        || value.is_instance_of::<PyInt>()
        || !value.get_type().hasattr(intern!(value.py(), "__float__"))?
    {
        return Ok(None);
    }
    Ok(as_number(value)?.cast_into::<PyFloat>().ok())
}

/// A real number of any class as an int or a float; anything else as it is.
///
/// # Errors
///
/// What its conversion raises.
pub(crate) fn as_number<'py>(value: &Borrowed<'_, 'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    let as_number = py.import(intern!(py, "flexcache_rs._arguments"))?.getattr(intern!(py, "as_number"))?;
    as_number.call1((*value,))
}
