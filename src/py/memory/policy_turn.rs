//! Serializes the calls of an eviction policy that is written in Python.
//!
//! The policy must be told of all events in their order, so calls that change a cache with such a policy take
//! turns at a gate. The gate differs from the lock of the store: threads wait for it detached, a thread that
//! is inside may enter again, and the store is not locked while the policy runs. A policy that calls back
//! into its cache gets a `RuntimeError`.

use std::sync::{Arc, Condvar, PoisonError};
use std::thread::{self, ThreadId};

use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::prelude::*;

use crate::py::object::running_python::{call, check_signals};
use crate::py::process::background;
use crate::py::process::guard::Guard;
use crate::py::process::mutex::Mutex;
use crate::py::removal::aclose::BETWEEN_SIGNALS;
use crate::py::removal::notifier::RemovalNotifier;
use crate::py::removal::removed_entries::RemovedEntry;

/// The gate at which threads wait for their turn at the policy.
pub(crate) struct Gate(Guard<Present>);

/// The threads that wait. They are detached, so any of them may hold the lock during a fork: the child has
/// a new queue.
#[derive(Default)]
struct Queue {
    is_taken: Mutex<bool>,
    over: Condvar,
}

/// The current turn. A thread that forks during its own turn goes on with it in the child.
struct Present {
    /// The process to which the queue belongs.
    process: u64,
    queue: Arc<Queue>,
    owner: Option<ThreadId>,
    depth: usize,
    in_policy: bool,
    /// The entries that were removed during the turn. They are finished after it.
    removed: Vec<RemovedEntry>,
}

impl Default for Gate {
    fn default() -> Self {
        let present = Present {
            process: background::generation(),
            queue: Arc::default(),
            owner: None,
            depth: 0,
            in_policy: false,
            removed: Vec::new(),
        };
        Self(Guard::new(present, true))
    }
}

impl Present {
    /// In a forked child, drops the state of the parent. If the thread that forked has the turn, it keeps it.
    fn renew(&mut self) {
        let process = background::generation();
        if self.process == process {
            return;
        }
        self.process = process;
        let goes_on = self.owner.is_some_and(background::forked_here);
        if !goes_on {
            (self.owner, self.depth, self.in_policy) = (None, 0, false);
            // Another thread of the parent finishes their removal.
            std::mem::forget(std::mem::take(&mut self.removed));
        }
        let queue = Queue { is_taken: Mutex::new(goes_on), over: Condvar::new() };
        // The parent's queue is never used again, nor dropped.
        std::mem::forget(std::mem::replace(&mut self.queue, Arc::new(queue)));
    }
}

impl Queue {
    /// Takes the turn if it is free. Returns whether it did.
    fn take(&self) -> bool {
        !std::mem::replace(&mut *self.is_taken.lock(), true)
    }

    /// Waits a little. Returns whether this thread has the turn now.
    fn wait(&self) -> bool {
        let waited = self.over.wait_timeout_while(self.is_taken.lock(), BETWEEN_SIGNALS, |taken| *taken);
        let (mut is_taken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !std::mem::replace(&mut *is_taken, true)
    }

    fn give_back(&self) {
        *self.is_taken.lock() = false;
        self.over.notify_one();
    }
}

/// The right to call the policy, until this is dropped. A thread that has it may take it again.
pub(crate) struct Turn<'a> {
    py: Python<'a>,
    gate: &'a Gate,
    notifier: &'a Arc<RemovalNotifier>,
}

impl Gate {
    /// Waits for this thread's turn.
    ///
    /// # Errors
    ///
    /// `RuntimeError` if the policy itself makes the call, and what a signal handler raises meanwhile.
    pub(super) fn enter<'a>(
        &'a self,
        py: Python<'a>,
        notifier: &'a Arc<RemovalNotifier>,
    ) -> PyResult<Turn<'a>> {
        if let Some(mut queue) = self.reenter(py)?
            && !queue.take()
        {
            while !py.detach(|| queue.wait()) {
                check_signals(py)?;
                // The signal's handler may have forked.
                queue = self.with(py, |present| Arc::clone(&present.queue));
            }
        }
        Ok(self.begin(py, notifier))
    }

    /// Takes the turn, unless another thread has it.
    pub(super) fn try_enter<'a>(
        &'a self,
        py: Python<'a>,
        notifier: &'a Arc<RemovalNotifier>,
    ) -> PyResult<Option<Turn<'a>>> {
        let is_taken = self.reenter(py)?.is_some_and(|queue| !queue.take());
        Ok((!is_taken).then(|| self.begin(py, notifier)))
    }

    /// Calls `step`, which must neither wait nor run Python code.
    fn with<R>(&self, py: Python<'_>, step: impl FnOnce(&mut Present) -> R) -> R {
        let done = self.0.with(py, |present| {
            present.renew();
            step(present)
        });
        done.unwrap_or_else(|_| unreachable!("nothing above uses the same state"))
    }

    /// `None` if this thread has the turn already; otherwise the queue from which to take it.
    fn reenter(&self, py: Python<'_>) -> PyResult<Option<Arc<Queue>>> {
        let me = thread::current().id();
        self.with(py, |present| match (present.owner == Some(me), present.in_policy) {
            (false, _) => Ok(Some(Arc::clone(&present.queue))),
            (true, false) => Ok(None),
            (true, true) => Err(()),
        })
        .map_err(|()| PyRuntimeError::new_err("the eviction policy called back into its own cache"))
    }

    /// Begins a turn, which this thread has taken or has already.
    fn begin<'a>(&'a self, py: Python<'a>, notifier: &'a Arc<RemovalNotifier>) -> Turn<'a> {
        let me = thread::current().id();
        self.with(py, |present| {
            present.owner = Some(me);
            present.depth += 1;
        });
        Turn { py, gate: self, notifier }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let ended = self.gate.with(self.py, |present| {
            present.depth -= 1;
            (present.depth == 0).then(|| {
                present.owner = None;
                (Arc::clone(&present.queue), std::mem::take(&mut present.removed))
            })
        });
        let Some((queue, removed)) = ended else { return };
        queue.give_back();
        if !removed.is_empty() {
            self.notifier.finish_all(self.py, removed.into_iter());
        }
    }
}

impl Turn<'_> {
    /// Finishes the removal of an entry when the turn is over.
    pub(super) fn finish_after(&self, entry: RemovedEntry) {
        self.gate.with(self.py, |present| present.removed.push(entry));
    }

    /// Calls a method of the policy.
    ///
    /// # Errors
    ///
    /// `RuntimeError`, whose cause is the exception of the policy. An exception that is no `Exception`, such as
    /// `KeyboardInterrupt`, is raised unchanged.
    pub(super) fn call<'py>(
        &self,
        policy: &Bound<'py, PyAny>,
        method: &str,
        key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let outer = self.gate.with(self.py, |present| std::mem::replace(&mut present.in_policy, true));
        let result = policy.getattr(method).and_then(|method| match key {
            Some(key) => call(&method, [key]),
            None => call(&method, []),
        });
        self.gate.with(self.py, |present| present.in_policy = outer);
        result.map_err(|cause| {
            let py = policy.py();
            if !cause.is_instance_of::<PyException>(py) {
                return cause;
            }
            let of = policy.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
            let error =
                PyRuntimeError::new_err(format!("{method}() of eviction policy {of} raised: {cause}"));
            error.set_cause(py, Some(cause));
            error
        })
    }
}
