//! Begins, joins and lands the loads of a cache, and handles callers that stop waiting.

use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyWeakrefMethods;

use super::core_errors::out_of_memory;
use super::lookup::Answers;
use super::state::FlexCache;
use crate::py::object::key::native_eq;
use crate::py::object::running_python;
use crate::py::store::loads::{Leader, Load, Outcome, transaction_of_thread};
use crate::py::store::shard_loads::{How, Joined};

/// How often a lookup starts over, because others keep starting loads, before it gives up.
const MOST_PASSES: usize = 1000;

impl FlexCache {
    /// A new load of a key, which is not registered yet.
    ///
    /// # Errors
    ///
    /// What `__hash__` raises; the key cannot be encoded for the store.
    pub(super) fn new_load(
        &self,
        key: &Bound<'_, PyAny>,
        leader: Leader,
        background: bool,
    ) -> PyResult<Arc<Load>> {
        let hash = self.hash(key.as_borrowed())?;
        let Some(tier) = &self.tier else { return Ok(Load::new(key, key, hash, leader, background, 0)) };
        let transaction = match &leader {
            Leader::Task { .. } => transaction_of_task(key.py())?,
            // A thread that has not begun is in no transaction.
            Leader::Thread(_) if !background && tier.store.bypasses_memory(key.py())? => {
                transaction_of_thread()
            }
            Leader::Thread(_) => 0,
        };
        let in_memory = tier.key_in_memory(key.as_borrowed())?;
        let hash = if in_memory.is(key) { hash } else { self.hash(in_memory.as_borrowed())? };
        Ok(Load::new(key, &in_memory, hash, leader, background, transaction))
    }

    /// Joins the load of a key, or registers `mine`: the last step that can fail.
    ///
    /// # Errors
    ///
    /// What `__eq__` raises; nothing is registered then.
    pub(super) fn join(&self, py: Python<'_>, mine: &Arc<Load>, how: How) -> PyResult<Joined> {
        let key = mine.key_in_memory.bind_borrowed(py);
        let mut answers = Answers::default();
        for _ in 0..MOST_PASSES {
            let mut unknown = Vec::new();
            let joined = self.shards.of(mine.hash()).with(py, |shard| {
                let eq = |stored: &Py<PyAny>| native_eq(stored, &key).or_else(|| answers.about(stored));
                shard.loads.join(mine, how, eq, |load| unknown.push(load.key_in_memory.clone_ref(py)))
            })?;
            if let Some(joined) = joined {
                return Ok(joined);
            }
            for stored in unknown {
                let equal = running_python::eq(stored.bind(py), &key)?;
                answers.add(stored, equal).map_err(out_of_memory)?;
            }
        }
        Err(PyRuntimeError::new_err(format!(
            "gave up after {MOST_PASSES} lookups of one key, during each of which another caller began to compute"
        )))
    }

    /// Handles the failure of a load: no caller joins it any more, although it has not landed yet. Waiting
    /// callers get its exception.
    pub(super) fn fails(&self, py: Python<'_>, load: &Arc<Load>) {
        // As for `land`.
        let removed = self.shards.of(load.hash()).with(py, |shard| shard.loads.remove(load)).unwrap_or(None);
        drop(removed);
        if let Some(lease) = load.held_lease() {
            lease.fails();
        }
    }

    /// Whether a load that a caller would join is computed by a task that has failed and is about to land it.
    ///
    /// # Errors
    ///
    /// What a signal's handler raised.
    pub(super) fn has_failed(&self, py: Python<'_>, load: &Arc<Load>) -> PyResult<bool> {
        let Some(task) = load.task(py) else { return Ok(false) };
        if load.has_landed() || !task.call_method0(intern!(py, "done"))?.is_truthy()? {
            return Ok(false);
        }
        let failed = task.call_method0(intern!(py, "cancelled"))?.is_truthy()?
            || !task.call_method0(intern!(py, "exception"))?.is_none();
        if failed {
            self.fails(py, load);
        }
        Ok(failed)
    }

    /// Lands a load. No caller joins it any more, and callers that wait are woken.
    ///
    /// # Errors
    ///
    /// An exception of a signal handler; the load has landed all the same.
    pub(super) fn land(&self, py: Python<'_>, load: &Arc<Load>, outcome: Option<Outcome>) -> PyResult<()> {
        // If the shard is in use and the cache does not wait, the load stays registered. Callers that find it
        // skip it, because it has landed.
        let removed = self.shards.of(load.hash()).with(py, |shard| shard.loads.remove(load)).unwrap_or(None);
        load.discard();
        if !load.is_of_this_process() {
            return Ok(());
        }
        let (before, unused) = load.end(outcome);
        let mut woken = Ok(());
        for sleeper in &before.sleepers {
            let (Some(event_loop), Some(wake)) =
                (sleeper.event_loop.bind(py).upgrade(), sleeper.wake.bind(py).upgrade())
            else {
                continue;
            };
            let call = event_loop
                .getattr(intern!(py, "call_soon_threadsafe"))
                .and_then(|call| call_surely(&call, [&wake]));
            woken = woken.and(call);
        }
        drop((unused, before, removed));
        woken
    }

    /// Handles a waiter that stops waiting. If it was the last one, the task that computes is cancelled.
    /// Returns whether the load goes on.
    ///
    /// # Errors
    ///
    /// As for [`land`](Self::land).
    pub(super) fn leave(&self, py: Python<'_>, load: &Arc<Load>) -> PyResult<bool> {
        if !load.is_of_this_process() {
            return Ok(false);
        }
        let is_task = matches!(load.leader, Leader::Task { .. });
        let mut abandoned = None;
        // Under the lock, so that no caller joins a load that is about to be cancelled.
        let locked = self.shards.of(load.hash()).with(py, |shard| {
            let last = load.count_waiter_out();
            if last && is_task && !load.background && !load.has_landed() {
                load.discard();
                abandoned = shard.loads.remove(load);
            }
            last
        });
        let last = locked.unwrap_or_else(|_| load.count_waiter_out());
        if load.has_landed() {
            if last {
                let outcome = load.state().outcome.take();
                drop(outcome);
            }
            return Ok(false);
        }
        if abandoned.is_none() {
            return Ok(true);
        }
        let (Leader::Task { event_loop, .. }, Some(task)) = (&load.leader, load.task(py)) else {
            return Ok(false);
        };
        let Some(event_loop) = event_loop.bind(py).upgrade() else { return Ok(false) };
        let cancel = task.getattr(intern!(py, "cancel"))?;
        call_surely(&event_loop.getattr(intern!(py, "call_soon_threadsafe"))?, [&cancel]).map(|()| false)
    }
}

/// The number of the awaited transaction of a store that the running task is in; 0 outside of one.
fn transaction_of_task(py: Python<'_>) -> PyResult<u64> {
    py.import(intern!(py, "flexcache_rs._in_thread"))?
        .getattr(intern!(py, "transaction_number"))?
        .call0()?
        .extract()
}

/// How often a call is repeated after a signal handler raised in it.
const MOST_INTERRUPTIONS: usize = 16;

/// Calls a function that must run to its end: repeats the call if a signal handler raised during it.
///
/// # Errors
///
/// What a handler raised. A closed loop is not an error: nobody waits in it any more.
fn call_surely(call: &Bound<'_, PyAny>, arguments: [&Bound<'_, PyAny>; 1]) -> PyResult<()> {
    let mut interrupted = Ok(());
    for _ in 0..MOST_INTERRUPTIONS {
        match running_python::call(call, arguments) {
            Ok(_) => break,
            Err(error) if error.is_instance_of::<PyRuntimeError>(call.py()) => break,
            Err(error) => interrupted = interrupted.and(Err(error)),
        }
    }
    interrupted
}
