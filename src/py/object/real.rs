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
    let py = value.py();
    if value.is_instance_of::<PyFloat>()
        || value.is_instance_of::<PyInt>()
        || !value.get_type().hasattr(intern!(py, "__float__"))?
    {
        return Ok(None);
    }
    let as_number = py.import(intern!(py, "flexcache_rs._arguments"))?.getattr(intern!(py, "as_number"))?;
    Ok(as_number.call1((*value,))?.cast_into::<PyFloat>().ok())
}
