//! Keys in memory that are compared as in the store, not as in Python.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use pyo3::prelude::*;

/// Stands for a key in memory where the store distinguishes keys that are equal in Python, such as 1 and True. Users
/// never see it.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct EncodedKey {
    key: Py<PyAny>,
    encoded: Vec<u8>,
}

impl EncodedKey {
    pub(crate) fn wrap<'py>(key: Borrowed<'_, 'py, PyAny>, encoded: Vec<u8>) -> PyResult<Bound<'py, PyAny>> {
        // An unhashable object is not a key, even if the store could encode it.
        key.hash()?;
        Ok(Bound::new(key.py(), Self { key: key.to_owned().unbind(), encoded })?.into_any())
    }

    /// The key that the user knows.
    pub(crate) fn unwrap(py: Python<'_>, key: Py<PyAny>) -> Py<PyAny> {
        match key.bind(py).cast_exact::<Self>() {
            Ok(encoded) => encoded.get().key.clone_ref(py),
            Err(_) => key,
        }
    }
}

#[pymethods]
impl EncodedKey {
    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.encoded.hash(&mut hasher);
        hasher.finish()
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast_exact::<Self>().is_ok_and(|other| other.get().encoded == self.encoded)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        self.key.bind(py).repr()?.extract()
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.key)
    }
}
