//! The elements of a container that other threads may change.
//!
//! PyO3's iterators over a dict and a set panic if it changes meanwhile. It may do so at each call of Python code, and at
//! any time on a Python without a GIL. Everything that the user can reach is therefore read by these functions.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// The keys and values of a dict at one moment. O(n).
pub(crate) fn items<'py>(dict: &Bound<'py, PyDict>) -> PyResult<Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
    dict.items().iter().map(|item| item.extract()).collect()
}

/// The elements of an iterable: of a set, those at one moment. O(n).
///
/// # Errors
///
/// What its iterator raises. For a deque this is `RuntimeError`, if another thread changes it on a Python without a GIL.
pub(crate) fn listed<'py>(iterable: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    Ok(iterable.py().get_type::<PyList>().call1((iterable,))?.cast_into()?)
}
