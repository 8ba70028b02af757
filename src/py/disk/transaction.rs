//! `with cache.transact():`

use std::thread::{self, ThreadId};

use flexcache_disk::TransactionId;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::cache::DiskCache;
use crate::py::object::argument::truth;
use crate::py::object::running_python::interpreter_is_ending;
use crate::py::process::guard::Guard;
use crate::py::process::logging;

/// One `__enter__` without its `__exit__`.
struct Entered {
    thread: ThreadId,
    /// The transaction in each cache, in their order.
    transactions: Vec<TransactionId>,
}

impl Entered {
    /// Whether this process has entered it. A forked child has copies of what its parent has entered.
    fn is_of_this_process(&self) -> bool {
        self.transactions.iter().all(|id| id.is_of_this_process())
    }
}

/// A transaction of the calling thread, from `__enter__` to `__exit__`, in one cache or in each of several.
///
/// Entering and leaving are native calls: a signal handler that raises finds all of them begun, or none. A block that
/// is left on another thread is undone. A generator is left in this way if another thread collects it. A block that is
/// dropped without being left is undone too. The blocks around it find their transaction lost.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct DiskTransaction {
    caches: Vec<Py<DiskCache>>,
    retry: bool,
    /// The index of the cache that is committed last, if that matters: if the process dies between two
    /// commits, only the others are committed.
    last: Option<usize>,
    /// The value of `with ... as`.
    target: Option<Py<PyAny>>,
    /// The entered blocks, in the order of entering.
    entered: Guard<Vec<Entered>>,
}

impl DiskTransaction {
    pub(super) fn of(caches: Vec<Py<DiskCache>>, retry: bool) -> Self {
        Self { caches, retry, last: None, target: None, entered: Guard::new(Vec::new(), true) }
    }

    /// Ends the transactions of the first `begun` caches, the last one first. After an error, undoes the
    /// others and returns the error.
    fn end(&self, py: Python<'_>, begun: usize, commit: bool) -> PyResult<()> {
        let mut ended = Ok(());
        let last = self.last.filter(|&last| last < begun);
        for at in (0..begun).rev().filter(|&at| Some(at) != last).chain(last) {
            let done = self.caches[at].get().end(py, commit && ended.is_ok(), self.retry).map(drop);
            ended = ended.and(done);
        }
        ended
    }

    /// Undoes a block that its thread will not leave.
    fn undo(&self, py: Python<'_>, entered: &Entered) {
        for (cache, id) in self.caches.iter().zip(&entered.transactions) {
            cache.get().abandon(py, *id);
        }
    }

    /// Removes and returns the last entered block: that of this thread, if it is inside, else that of
    /// another.
    fn last(&self, py: Python<'_>) -> PyResult<Option<Entered>> {
        let me = thread::current().id();
        let mine = |entered: &Entered| entered.thread == me && entered.is_of_this_process();
        Ok(self.entered.with(py, |all| match all.iter().rposition(mine) {
            Some(place) => Some(all.remove(place)),
            None => all.pop(),
        })?)
    }
}

#[pymethods]
impl DiskTransaction {
    #[new]
    #[pyo3(signature = (caches, retry, target=None, last=None))]
    fn new(
        caches: Vec<Py<DiskCache>>,
        #[pyo3(from_py_with = truth)] retry: bool,
        target: Option<Py<PyAny>>,
        last: Option<usize>,
    ) -> Self {
        let mut block = Self::of(caches, retry);
        block.target = target;
        block.last = last;
        block
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let mut transactions = Vec::with_capacity(self.caches.len());
        for (begun, cache) in self.caches.iter().enumerate() {
            match cache.get().begin(py, self.retry) {
                Ok(id) => transactions.push(id),
                Err(error) => {
                    // The error to report is the first one.
                    let _ = self.end(py, begun, false);
                    return Err(error);
                }
            }
        }
        let entered = Entered { thread: thread::current().id(), transactions };
        self.entered.with(py, |all| all.push(entered))?;
        Ok(self.target.as_ref().map(|target| target.clone_ref(py)))
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let lost = match self.last(py)? {
            Some(entered) if !entered.is_of_this_process() => {
                "the transaction is the parent process's, which goes on with it: this process has done nothing in it"
            }
            Some(entered) if entered.thread != thread::current().id() => {
                self.undo(py, &entered);
                "the transaction was undone: it is left on another thread than it was entered on"
            }
            _ => return self.end(py, self.caches.len(), kind.is_none()),
        };
        if kind.is_none() { Err(PyRuntimeError::new_err(lost)) } else { Ok(()) }
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        self.caches.iter().try_for_each(|cache| visit.call(cache))?;
        visit.call(&self.target)
    }
}

impl Drop for DiskTransaction {
    /// The block can no longer be left, and other writers would wait until its thread ends. So it is undone.
    fn drop(&mut self) {
        // At the end of the interpreter, SQLite undoes it.
        Python::try_attach(|py| {
            let all = self.entered.with(py, std::mem::take).unwrap_or_default();
            if !all.iter().any(Entered::is_of_this_process) {
                return;
            }
            // Removing files may run Python code while an exception is propagating.
            let pending = PyErr::take(py);
            for entered in all.iter().rev().filter(|entered| entered.is_of_this_process()) {
                self.undo(py, entered);
            }
            // At the end of the interpreter there may be no `logging` left to write to.
            if !interpreter_is_ending() {
                logging::error(
                    py,
                    &format_args!("a transaction was undone: its block was dropped without being left"),
                );
            }
            if let Some(pending) = pending {
                pending.restore(py);
            }
        });
    }
}
