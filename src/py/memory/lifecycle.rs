//! How a cache begins and ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use flexcache_core::{Cause, Clock, TryBox};
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::absent::AbsentKeys;
use super::any_store::AnyStore;
use super::core_errors::out_of_memory;
use super::custom_policy;
use super::expiry;
use super::lookup::Shards;
use super::options::Options;
use super::policy_turn::Gate;
use super::state::{Callbacks, FlexCache};
use crate::py::object::running_python::decref;
use crate::py::process::background::Watch;
use crate::py::process::clock::SystemClock;
use crate::py::process::guard::Guard;
use crate::py::process::logging;
use crate::py::process::recorder::Recorder;
use crate::py::removal::notifier::RemovalNotifier;

/// How often a cache that ends is emptied, if its hooks keep storing.
const MOST_FINAL_ROUNDS: usize = 100;

impl FlexCache {
    /// A cache of stores that are there.
    pub(crate) fn build(
        py: Python<'_>,
        options: Options,
        callbacks: Callbacks,
        stores: impl Iterator<Item = AnyStore>,
        first: AnyStore,
        seed: u64,
    ) -> PyResult<Self> {
        if let Some(policy) = &callbacks.policy {
            custom_policy::check(policy.bind(py))?;
            if options.shards > 1 {
                return Err(PyValueError::new_err(format!(
                    "shards must be 1 with an eviction policy written in Python, not {}",
                    options.shards
                )));
            }
        }
        if callbacks.tier.is_some() && callbacks.policy.is_some() {
            return Err(PyValueError::new_err(
                "store must be None with an eviction policy written in Python",
            ));
        }
        let sized = first.limits().weight.is_some();
        let recorder = options
            .record
            .clone()
            .map(|path| Recorder::start(py, path, options.record_limit, sized))
            .transpose()?;
        let waits = options.thread_safe || options.background.is_some();
        let count = usize::try_from(options.shards).unwrap_or(1);
        let absent =
            options.negative_ttl.map(|ttl| TryBox::new(AbsentKeys::new(ttl, count, waits)?)).transpose();
        Ok(Self {
            absent: absent.map_err(out_of_memory)?,
            // The background thread is one more that uses the cache.
            shards: Shards::new(stores, first, waits),
            seed,
            plain_writes: callbacks.on_evict.is_none()
                && callbacks.policy.is_none()
                && options.default_ttl.is_none(),
            default_ttl: options.default_ttl,
            gate: callbacks.policy.is_some().then(Gate::default),
            watch: options.background.map(|interval| Arc::new(Watch::new(interval, expiry::DUTIES))),
            finalized: AtomicBool::new(false),
            in_python: AtomicBool::new(false),
            notifier: RemovalNotifier::new(callbacks.on_evict, options.runs_hooks),
            slow_path: AtomicBool::new(
                recorder.is_some() || callbacks.tier.is_some() || callbacks.policy.is_some(),
            ),
            tier: callbacks.tier.map(TryBox::new).transpose().map_err(out_of_memory)?,
            recorder,
            options,
            policy: Guard::new(callbacks.policy, true),
            last_scan: AtomicU64::new(SystemClock.now()),
        })
    }

    /// Removes every entry, ends the trace, and waits for the hooks that the background thread has.
    pub(super) fn end(&self, py: Python<'_>) -> PyResult<()> {
        let emptied = self.remove_all(py, Cause::Closed);
        if let Some(recorder) = &self.recorder {
            recorder.finish(py);
        }
        self.notifier.closing.wait(py)?;
        emptied
    }

    /// The same, with an awaitable for the hooks that the running event loop has.
    pub(super) fn end_awaitably<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.remove_all(py, Cause::Closed)?;
        if let Some(recorder) = &self.recorder {
            recorder.finish(py);
        }
        self.notifier.closing.gather(py)
    }

    /// Shows the collector what the cache refers to.
    pub(super) fn visit_references(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs this in a thread that is attached; the token is used for
        // nothing but to take the locks, which visiting needs.
        let py = unsafe { Python::assume_attached() };
        for shard in self.shards.iter() {
            // A store that is in use is skipped: what it holds just stays alive until next time.
            let visited = shard.try_with(py, |shard| {
                shard.loads.running().iter().try_for_each(|load| load.traverse(visit))?;
                shard.visit(|object| visit.call(object))
            });
            visited.unwrap_or(Ok(()))?;
        }
        for shard in self.absent.iter().flat_map(|absent| absent.shards.iter()) {
            let visited = shard.try_with(py, |shard| shard.visit(|object| visit.call(object)));
            visited.unwrap_or(Ok(()))?;
        }
        self.policy.try_with(py, |policy| visit.call(&*policy)).unwrap_or(Ok(()))?;
        self.tier.as_ref().map_or(Ok(()), |tier| tier.traverse(visit))?;
        self.notifier.traverse(py, visit)
    }

    /// Drops what the cache refers to, for the collector.
    pub(super) fn drop_references(&self, py: Python<'_>) {
        self.remove_all_silently(py);
        self.notifier.clear(py);
        drop(self.policy.with(py, Option::take));
    }

    /// The end of the cache: removes whatever is in it. Nothing is raised, for nobody is there
    /// to catch it.
    pub(super) fn finalize(&self, py: Python<'_>) {
        // One that is on its way, as the cache goes.
        let pending = PyErr::take(py);
        self.finalized.store(true, Ordering::Relaxed);
        // Hooks may store something anew.
        for _ in 0..MOST_FINAL_ROUNDS {
            if let Err(error) = self.remove_all(py, Cause::Closed) {
                logging::error(py, &format_args!("a cache that ended:\n{}", logging::describe(py, &error)));
            }
            if self.sum(py, AnyStore::len).is_ok_and(|len| len == 0) {
                break;
            }
        }
        if let Some(pending) = pending {
            pending.restore(py);
        }
    }

    /// Removes every entry without telling anyone.
    pub(super) fn remove_all_silently(&self, py: Python<'_>) {
        if let Some(absent) = &self.absent {
            absent.clear(py);
        }
        for shard in self.shards.iter() {
            let removed = shard.with(py, |store| (store.drain(), store.loads.cleared()));
            if let Ok((contents, discarded)) = removed {
                drop(discarded);
                for entry in contents.into_removed(Cause::Closed) {
                    decref(py, entry.key);
                    decref(py, entry.value);
                }
            }
        }
    }
}

impl Drop for FlexCache {
    fn drop(&mut self) {
        let has_absent = self.absent.as_mut().is_some_and(|absent| !absent.is_empty());
        if !has_absent && self.shards.iter_mut().all(|shard| shard.get_mut().len() == 0) {
            return;
        }
        // Where the interpreter has ended there is nobody left to run a hook.
        let _ = Python::try_attach(|py| {
            if self.finalized.load(Ordering::Relaxed) {
                self.remove_all_silently(py);
            } else {
                self.finalize(py);
            }
        });
    }
}
