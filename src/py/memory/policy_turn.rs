//! Serializes the calls of an eviction policy that is written in Python.
//!
//! The policy must be told of all events in their order, so calls that change a cache with such a policy take
//! turns at a gate. The gate differs from the lock of the store: threads wait for it detached, a thread that
//! is inside may enter again, and the store is not locked while the policy runs. A policy that calls back
//! into its cache gets a `RuntimeError`.

use std::sync::{Arc, Condvar, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::py::object::running_python::call;
use crate::py::process::mutex::Mutex;
use crate::py::process::per_process::PerProcess;
use crate::py::removal::aclose::BETWEEN_SIGNALS;
use crate::py::removal::notifier::RemovalNotifier;
use crate::py::removal::removed_entries::RemovedEntry;

/// The gate at which threads wait for their turn at the policy.
#[derive(Default)]
pub(crate) struct Gate(PerProcess<Queue>);

#[derive(Default)]
struct Queue {
    present: Mutex<Present>,
    over: Condvar,
}

/// The current turn.
#[derive(Default)]
struct Present {
    owner: Option<ThreadId>,
    depth: usize,
    in_policy: bool,
    /// The entries that were removed during the turn. They are finished after it.
    removed: Vec<RemovedEntry>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Present> {
        self.present.lock()
    }
}

/// The right to call the policy, until this is dropped. A thread that has it may take it again.
pub(crate) struct Turn<'py> {
    py: Python<'py>,
    queue: Arc<Queue>,
    notifier: Arc<RemovalNotifier>,
}

impl Gate {
    /// Waits for this thread's turn.
    ///
    /// # Errors
    ///
    /// `RuntimeError` if the policy itself makes the call, and what a signal handler raises meanwhile.
    pub(super) fn enter<'py>(&self, py: Python<'py>, notifier: &Arc<RemovalNotifier>) -> PyResult<Turn<'py>> {
        let queue = self.0.get(py);
        let turn = |queue| Turn { py, queue, notifier: Arc::clone(notifier) };
        if queue.take()? {
            return Ok(turn(queue));
        }
        while !py.detach(|| queue.wait()) {
            py.check_signals()?;
        }
        Ok(turn(queue))
    }

    /// Takes the turn, unless another thread has it.
    pub(super) fn try_enter<'py>(
        &self,
        py: Python<'py>,
        notifier: &Arc<RemovalNotifier>,
    ) -> PyResult<Option<Turn<'py>>> {
        let queue = self.0.get(py);
        let taken = queue.take()?;
        Ok(taken.then(|| Turn { py, queue, notifier: Arc::clone(notifier) }))
    }
}

impl Queue {
    /// Takes the turn if it is free or this thread has it already. Returns whether it did.
    fn take(&self) -> PyResult<bool> {
        let me = thread::current().id();
        let mut present = self.lock();
        if present.owner.is_some_and(|owner| owner != me) {
            return Ok(false);
        }
        if present.in_policy {
            return Err(PyRuntimeError::new_err("the eviction policy called back into its own cache"));
        }
        present.owner = Some(me);
        present.depth += 1;
        Ok(true)
    }

    /// Waits a little. Returns whether this thread has the turn now.
    fn wait(&self) -> bool {
        let taken = |present: &mut Present| present.owner.is_some();
        let waited = self.over.wait_timeout_while(self.lock(), BETWEEN_SIGNALS, taken);
        let (mut present, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let free = present.owner.is_none();
        if free {
            (present.owner, present.depth) = (Some(thread::current().id()), 1);
        }
        free
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let removed = {
            let mut present = self.queue.lock();
            present.depth -= 1;
            if present.depth > 0 {
                return;
            }
            present.owner = None;
            self.queue.over.notify_one();
            std::mem::take(&mut present.removed)
        };
        if !removed.is_empty() {
            self.notifier.finish_all(self.py, removed.into_iter());
        }
    }
}

impl Turn<'_> {
    /// Finishes the removal of an entry when the turn is over.
    pub(super) fn finish_after(&self, entry: RemovedEntry) {
        self.queue.lock().removed.push(entry);
    }

    /// Calls a method of the policy.
    ///
    /// # Errors
    ///
    /// `RuntimeError`, whose cause is the exception of the policy.
    pub(super) fn call<'py>(
        &self,
        policy: &Bound<'py, PyAny>,
        method: &str,
        key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let outer = std::mem::replace(&mut self.queue.lock().in_policy, true);
        let result = policy.getattr(method).and_then(|method| match key {
            Some(key) => call(&method, [key]),
            None => call(&method, []),
        });
        self.queue.lock().in_policy = outer;
        result.map_err(|cause| {
            let py = policy.py();
            let of = policy.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
            let error =
                PyRuntimeError::new_err(format!("{method}() of eviction policy {of} raised: {cause}"));
            error.set_cause(py, Some(cause));
            error
        })
    }
}
