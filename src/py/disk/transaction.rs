//! `with cache.transact():`

use std::thread::{self, ThreadId};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::cache::DiskCache;
use crate::py::process::guard::Guard;

/// A transaction of the calling thread, from `__enter__` to `__exit__`, in one cache or in each of several.
///
/// Entering and leaving are native calls: a signal handler that raises finds all of them begun, or none. A block that
/// is left on another thread, as a generator is by whoever collects it, is undone.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct DiskTransaction {
    caches: Vec<Py<DiskCache>>,
    retry: bool,
    /// What `with ... as` gives.
    target: Option<Py<PyAny>>,
    /// The threads that are inside, the last one to enter last.
    entered: Guard<Vec<ThreadId>>,
}

impl DiskTransaction {
    pub(super) fn of(caches: Vec<Py<DiskCache>>, retry: bool) -> Self {
        Self { caches, retry, target: None, entered: Guard::new(Vec::new(), true) }
    }

    /// Ends the transactions of these, the last one first. The first error; all others are undone then.
    fn end(py: Python<'_>, caches: &[Py<DiskCache>], commit: bool, retry: bool) -> PyResult<()> {
        let mut ended = Ok(());
        for cache in caches.iter().rev() {
            let done = cache.get().end(py, commit && ended.is_ok(), retry).map(drop);
            ended = ended.and(done);
        }
        ended
    }

    /// Undoes what another thread has begun.
    fn undo(&self, py: Python<'_>, owner: ThreadId) -> PyResult<()> {
        self.caches.iter().try_for_each(|cache| cache.get().abandon(py, owner))
    }

    /// Who entered last: this thread, if it is inside, else another. It is inside no longer.
    fn last(&self, py: Python<'_>) -> PyResult<Option<ThreadId>> {
        let me = thread::current().id();
        Ok(self.entered.with(py, |all| match all.iter().rposition(|thread| *thread == me) {
            Some(place) => Some(all.remove(place)),
            None => all.pop(),
        })?)
    }
}

#[pymethods]
impl DiskTransaction {
    #[new]
    #[pyo3(signature = (caches, retry, target=None))]
    fn new(caches: Vec<Py<DiskCache>>, retry: bool, target: Option<Py<PyAny>>) -> Self {
        Self { target, ..Self::of(caches, retry) }
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        for (begun, cache) in self.caches.iter().enumerate() {
            if let Err(error) = cache.get().begin(py, self.retry) {
                // What is wrong is what began it.
                let _ = Self::end(py, &self.caches[..begun], false, self.retry);
                return Err(error);
            }
        }
        let me = thread::current().id();
        self.entered.with(py, |all| all.push(me))?;
        Ok(self.target.as_ref().map(|target| target.clone_ref(py)))
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        match self.last(py)? {
            Some(owner) if owner != thread::current().id() => {
                self.undo(py, owner)?;
                if kind.is_none() {
                    return Err(PyRuntimeError::new_err(
                        "the transaction was undone: it is left on another thread than it was entered on",
                    ));
                }
                Ok(())
            }
            _ => Self::end(py, &self.caches, kind.is_none(), self.retry),
        }
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        self.caches.iter().try_for_each(|cache| visit.call(cache))?;
        visit.call(&self.target)
    }
}
