//! The methods of a mapping as PyO3 makes them: for calls by name. `fast` replaces their slots.

use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;

use super::key;
use super::read::read;
use super::segment::{SharedSegment, run};

#[pymethods]
impl SharedSegment {
    fn __getitem__<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let encoded = key::encode(key)?;
        let found = read::<false>(py, self.opened()?, encoded.as_key())?;
        found.ok_or_else(|| PyKeyError::new_err(key.clone().unbind()))
    }

    pub(super) fn __contains__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let encoded = key::encode(key)?;
        run(py, self.opened()?, |cache, patience| cache.contains(encoded.as_key(), patience))
    }

    fn __setitem__(&self, py: Python<'_>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put(py, key.as_borrowed(), value.as_borrowed(), None, None)
    }

    pub(super) fn __delitem__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.delete(py, key, None)? { Ok(()) } else { Err(PyKeyError::new_err(key.clone().unbind())) }
    }
}
