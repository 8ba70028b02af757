//! The construction and the end of a cache.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use flexcache_core::{Cause, Clock, TryBox};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::absent::AbsentKeys;
use super::any_store::AnyStore;
use super::core_errors::out_of_memory;
use super::custom_policy;
use super::detours::Detours;
use super::expiry;
use super::lookup::Shards;
use super::options::{KeptOptions, Options, Recording};
use super::policy_turn::Gate;
use super::state::{Callbacks, FlexCache, Functions, Setup};
use crate::py::object::running_python::decref;
use crate::py::process::background::Watch;
use crate::py::process::clock::CacheClock;
use crate::py::process::guard::Guard;
use crate::py::process::logging;
use crate::py::process::recorder::Recorder;
use crate::py::removal::aclose;
use crate::py::removal::notifier::RemovalNotifier;

/// How often a cache is emptied at its end if its hooks keep storing entries.
const MOST_FINAL_ROUNDS: usize = 100;

impl FlexCache {
    /// A cache over existing stores.
    pub(crate) fn build(
        py: Python<'_>,
        options: Options,
        callbacks: Callbacks,
        stores: impl Iterator<Item = AnyStore>,
        first: AnyStore,
        seed: u64,
    ) -> PyResult<Self> {
        let setup = Setup::new(py, options, callbacks)?;
        let sized = first.limits().weight.is_some();
        setup.start_recording(py, sized)?;
        Ok(Self::of(setup, stores, first, seed))
    }

    /// A cache over existing stores, with a configuration.
    pub(super) fn of(
        setup: Setup,
        stores: impl Iterator<Item = AnyStore>,
        first: AnyStore,
        seed: u64,
    ) -> Self {
        let cache = Self {
            // The background thread counts as another thread that uses the cache.
            shards: Shards::new(stores, first, setup.waits()),
            seed,
            detours: Detours::new(Detours::SLOW_PATH),
            last_scan: AtomicU64::new(setup.clock().now()),
            finalized: AtomicBool::new(false),
            is_provisional: AtomicBool::new(false),
            is_initialized: AtomicBool::new(false),
            computed: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            initial: setup,
            configured: OnceLock::new(),
        };
        cache.take_paths();
        cache
    }

    /// Replaces the configuration that the cache was made with.
    ///
    /// # Errors
    ///
    /// `RuntimeError` if the cache has been used, as its contents would be lost. Nothing has changed then.
    pub(super) fn configure(
        &self,
        py: Python<'_>,
        setup: Setup,
        stores: impl Iterator<Item = AnyStore>,
        first: AnyStore,
    ) -> PyResult<()> {
        let waits = setup.waits();
        let mut setup = Some(TryBox::new(setup).map_err(out_of_memory)?);
        let is_observed = self.notifier.observers.want_any();
        let replaced = self.shards.replace_if_unused(py, stores, first, waits, || {
            // A configuration that is not used is dropped after the lock.
            let Some(new) = (if is_observed { None } else { setup.take() }) else { return false };
            self.configured.set(new).map_err(|back| setup = Some(back)).is_ok()
        })?;
        if !replaced {
            if let Some(recorder) = setup.as_ref().and_then(|setup| setup.recorder.get()) {
                recorder.finish(py);
            }
            return Err(PyRuntimeError::new_err(
                "FlexCache.__init__() configures a cache that nothing has been done with; call super().__init__() \
                 before anything is stored, computed or listened to",
            ));
        }
        self.take_paths();
        Ok(())
    }

    /// Computes which calls take the fast path.
    fn take_paths(&self) {
        let setup: &Setup = self;
        let is_weighed = setup.options.weigher.is_some();
        let expires = setup.options.default_ttl.is_some();
        self.detours.set(Detours::WRITES, setup.notifier.listens || setup.gate.is_some() || expires);
        self.detours.set(Detours::WEIGHER, is_weighed);
        self.detours.set(Detours::WEIGHTLESS, !is_weighed && !setup.options.runs_hooks);
        self.detours.set(Detours::SLOW_PATH, self.needs_slow_path());
    }

    /// Shows the collector what the cache refers to.
    pub(super) fn visit_references(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs this in a thread that is attached; the token is used for
        // nothing but to take the locks, which visiting needs.
        let py = unsafe { Python::assume_attached() };
        for shard in self.shards.iter() {
            // A store that is in use is skipped: its objects stay alive until the next collection.
            let visited = shard.try_with(py, |shard| {
                shard.loads.running().iter().try_for_each(|load| load.traverse(visit))?;
                shard.visit(|object| visit.call(object))
            });
            visited.unwrap_or(Ok(()))?;
        }
        self.configured.get().map_or(Ok(()), |setup| setup.visit_references(py, visit))?;
        self.initial.visit_references(py, visit)
    }

    /// Drops what the cache refers to, for the collector.
    pub(super) fn drop_references(&self, py: Python<'_>) {
        self.remove_all_silently(py);
        for setup in [Some(&self.initial), self.configured.get().map(|setup| &**setup)].into_iter().flatten()
        {
            if let Some(absent) = &setup.absent {
                absent.clear(py);
            }
            setup.notifier.clear(py);
            drop(setup.policy.with(py, Option::take));
            if let Some(functions) = &setup.functions {
                drop(functions.weigher.with(py, Option::take));
                drop(functions.clock_function.with(py, Option::take));
            }
        }
    }

    /// The end of the cache: removes all entries. Exceptions are not raised, as nobody could catch them.
    pub(super) fn finalize(&self, py: Python<'_>) {
        // The exception that may be propagating while the cache is finalized.
        let pending = PyErr::take(py);
        self.finalized.store(true, Ordering::Relaxed);
        // Hooks may store new entries.
        for _ in 0..MOST_FINAL_ROUNDS {
            if let Err(error) = self.remove_all(py, Cause::Closed) {
                logging::error(py, &format_args!("a cache that ended:\n{}", logging::describe(py, &error)));
            }
            if self.sum(py, |store| store.len()).is_ok_and(|len| len == 0) {
                break;
            }
        }
        if let Some(pending) = pending {
            pending.restore(py);
        }
    }

    /// Removes every entry without calling hooks.
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

impl Setup {
    /// Checks that the options are compatible.
    pub(super) fn new(py: Python<'_>, options: Options, callbacks: Callbacks) -> PyResult<Self> {
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
        let (clock, clock_function) = match callbacks.clock {
            Some(clock) => (CacheClock::Given(clock.time), Some(clock.function)),
            None => (CacheClock::System, None),
        };
        if clock.is_given() && callbacks.tier.is_some() {
            return Err(PyValueError::new_err("clock must be None with store=, which has its own clock"));
        }
        if clock.is_given() && options.background.is_some() {
            return Err(PyValueError::new_err(
                "clock must be None with background_expiry=, as the background thread cannot know when this clock moves",
            ));
        }
        let has_functions = callbacks.weigher.is_some() || clock.is_given();
        let functions = has_functions.then(|| {
            TryBox::new(Functions {
                weigher: Guard::new(callbacks.weigher.map(|weigher| weigher.function), true),
                clock_function: Guard::new(clock_function, true),
                clock,
            })
        });
        let functions = functions.transpose();
        let waits = options.thread_safe || options.background.is_some();
        let count = usize::try_from(options.shards).unwrap_or(1);
        let absent =
            options.negative_ttl.map(|ttl| TryBox::new(AbsentKeys::new(ttl, count, waits)?)).transpose();
        let closes = options.runs_hooks && options.closes_values;
        Ok(Self {
            absent: absent.map_err(out_of_memory)?,
            gate: callbacks.policy.is_some().then(Gate::default),
            watch: options.background.map(|interval| Arc::new(Watch::new(interval, expiry::DUTIES))),
            notifier: RemovalNotifier::new(callbacks.on_evict, closes),
            tier: callbacks.tier.map(TryBox::new).transpose().map_err(out_of_memory)?,
            recorder: OnceLock::new(),
            fronts: OnceLock::new(),
            functions: functions.map_err(out_of_memory)?,
            policy: Guard::new(callbacks.policy, true),
            options: KeptOptions::new(options).map_err(out_of_memory)?,
        })
    }

    /// Whether concurrent calls wait for each other.
    fn waits(&self) -> bool {
        self.options.thread_safe || self.options.background.is_some()
    }

    /// Begins the trace that was requested, unless it has begun.
    pub(super) fn start_recording(&self, py: Python<'_>, sized: bool) -> PyResult<()> {
        if let Some(Recording { path, limit }) = self.options.record.as_deref()
            && self.recorder.get().is_none()
        {
            let recorder = Recorder::start(py, path.clone(), *limit, sized)?;
            let _ = self.recorder.set(recorder);
        }
        Ok(())
    }

    fn visit_references(&self, py: Python<'_>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for shard in self.absent.iter().flat_map(|absent| absent.shards.iter()) {
            let visited = shard.try_with(py, |shard| shard.visit(|object| visit.call(object)));
            visited.unwrap_or(Ok(()))?;
        }
        self.policy.try_with(py, |policy| visit.call(&*policy)).unwrap_or(Ok(()))?;
        if let Some(functions) = &self.functions {
            functions.weigher.try_with(py, |weigher| visit.call(&*weigher)).unwrap_or(Ok(()))?;
            functions.clock_function.try_with(py, |function| visit.call(&*function)).unwrap_or(Ok(()))?;
        }
        self.tier.as_ref().map_or(Ok(()), |tier| tier.traverse(visit))?;
        self.notifier.traverse(py, visit)
    }
}

impl Drop for FlexCache {
    fn drop(&mut self) {
        let setup = match self.configured.get_mut() {
            Some(setup) => &mut **setup,
            None => &mut self.initial,
        };
        let has_absent = setup.absent.as_mut().is_some_and(|absent| !absent.is_empty());
        if !has_absent && self.shards.iter_mut().all(|shard| shard.get_mut().is_empty()) {
            return;
        }
        // After the end of the interpreter, no hook can run.
        let _ = Python::try_attach(|py| {
            if self.finalized.load(Ordering::Relaxed) {
                self.remove_all_silently(py);
            } else {
                self.finalize(py);
            }
        });
    }
}

#[pymethods]
impl FlexCache {
    /// Remove every entry, close the values, and wait for the `aclose` hooks in the background thread. The end
    /// of a `with` block does the same.
    ///
    /// In a thread with a running event loop, `aclose` hooks are scheduled there, and this call does not wait
    /// for them. Use `async with`, or await :meth:`aclose`. The cache can be used again afterwards. O(n).
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> with FlexCache(on_evict=lambda key, value, reason: print(key, reason)) as cache:
    /// ...     cache["a"] = 1
    /// a closed
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let emptied = self.remove_all(py, Cause::Closed);
        if let Some(recorder) = self.recorder.get() {
            recorder.finish(py);
        }
        self.notifier.wait_for_hooks(py)?;
        emptied
    }

    /// The same as :meth:`close`, but awaitable. It waits until the `aclose` hooks on the running event loop
    /// have finished. The end of an `async with` block does the same.
    ///
    /// >>> import asyncio
    /// >>> from flexcache_rs import FlexCache
    /// >>> class Connection:
    /// ...     async def aclose(self):
    /// ...         print("closed")
    /// >>> async def main():
    /// ...     async with FlexCache() as cache:
    /// ...         cache["db"] = Connection()
    /// >>> asyncio.run(main())
    /// closed
    fn aclose<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.remove_all(py, Cause::Closed)?;
        if let Some(recorder) = self.recorder.get() {
            recorder.finish(py);
        }
        self.notifier.gather_hooks(py)
    }

    fn __enter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close(py)
    }

    fn __aenter__(this: Bound<'_, Self>) -> PyResult<Bound<'_, PyAny>> {
        aclose::finished(this.into_any())
    }

    #[pyo3(signature = (*_exception))]
    fn __aexit__<'py>(&self, py: Python<'py>, _exception: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.aclose(py)
    }
}
