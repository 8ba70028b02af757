//! `with cache.transact():`

use pyo3::prelude::*;

use super::cache::DiskCache;

/// A transaction of the calling thread, from `__enter__` to `__exit__`, in one cache or in each of several.
///
/// Entering and leaving are native calls: a signal handler that raises finds all of them begun, or none.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct DiskTransaction {
    pub(super) caches: Vec<Py<DiskCache>>,
    pub(super) retry: bool,
}

impl DiskTransaction {
    /// Ends the transactions of these, the last one first. The first error; all others are undone then.
    fn end(py: Python<'_>, caches: &[Py<DiskCache>], commit: bool, retry: bool) -> PyResult<()> {
        let mut ended = Ok(());
        for cache in caches.iter().rev() {
            let done = cache.get().end(py, commit && ended.is_ok(), retry).map(drop);
            ended = ended.and(done);
        }
        ended
    }
}

#[pymethods]
impl DiskTransaction {
    #[new]
    fn new(caches: Vec<Py<DiskCache>>, retry: bool) -> Self {
        Self { caches, retry }
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<()> {
        for (begun, cache) in self.caches.iter().enumerate() {
            if let Err(error) = cache.get().begin(py, self.retry) {
                // What is wrong is what began it.
                let _ = Self::end(py, &self.caches[..begun], false, self.retry);
                return Err(error);
            }
        }
        Ok(())
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        Self::end(py, &self.caches, kind.is_none(), self.retry)
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        self.caches.iter().try_for_each(|cache| visit.call(cache))
    }
}
