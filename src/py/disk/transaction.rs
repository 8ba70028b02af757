//! `with cache.transact():`

use pyo3::prelude::*;

use super::cache::DiskCache;

/// A transaction of the calling thread, from `__enter__` to `__exit__`.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct DiskTransaction {
    pub(super) cache: Py<DiskCache>,
    pub(super) retry: bool,
}

#[pymethods]
impl DiskTransaction {
    fn __enter__(&self, py: Python<'_>) -> PyResult<()> {
        self.cache.get().begin(py, self.retry)
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.cache.get().end(py, kind.is_none(), self.retry).map(drop)
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.cache)
    }
}
