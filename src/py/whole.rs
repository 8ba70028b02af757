//! A cache as a whole: how it is built, counted, bounded and ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use flexcache_core::{Cause, Clock, Limits, Stats};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::background::Watch;
use super::cache::{Callbacks, FlexCache};
use super::clock::SystemClock;
use super::custom_policy::{self, Gate};
use super::departures::Departures;
use super::engine::Engine;
use super::expire::BATCH;
use super::farewell::Farewell;
use super::guard::{Guard, Shards};
use super::logging;
use super::options::{self, Options};
use super::recorder::Recorder;
use super::running_python::release;
use super::stats::CacheStats;

/// How often a cache that ends is emptied, if its hooks keep storing.
const MOST_FINAL_ROUNDS: usize = 100;

impl FlexCache {
    pub(crate) fn build(
        py: Python<'_>,
        options: Options,
        callbacks: Callbacks,
        engines: impl Iterator<Item = Engine>,
        first: Engine,
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
        let sized = first.limits().weight.is_some();
        let recorder = options
            .record
            .clone()
            .map(|path| Recorder::start(py, path, options.record_limit, sized))
            .transpose()?;
        Ok(Self {
            // The background thread is one more that uses the cache.
            shards: Shards::new(engines, first, options.thread_safe || options.background.is_some()),
            seed,
            plain_writes: callbacks.on_evict.is_none()
                && callbacks.policy.is_none()
                && options.default_ttl.is_none(),
            default_ttl: options.default_ttl,
            gate: callbacks.policy.is_some().then(Gate::default),
            watch: options.background.map(|interval| Arc::new(Watch::new(interval))),
            finalized: AtomicBool::new(false),
            farewell: Farewell::new(callbacks.on_evict, options.runs_hooks),
            flights: PyOnceLock::new(),
            watched: AtomicBool::new(recorder.is_some()),
            recorder,
            options,
            policy: Guard::new(callbacks.policy, true),
            last_scan: AtomicU64::new(SystemClock.now()),
        })
    }

    /// A policy written in Python.
    pub(crate) fn own_policy(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(self.policy.with(py, |policy| policy.as_ref().map(|policy| policy.clone_ref(py)))?)
    }

    /// The seed of this cache's hashes, which a copy of its stores must share.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn sum<N: std::iter::Sum>(&self, py: Python<'_>, count: impl Fn(&Engine) -> N) -> PyResult<N> {
        let mut parts = Vec::with_capacity(self.shards.len());
        for shard in self.shards.iter() {
            parts.push(shard.with(py, |engine| count(engine))?);
        }
        Ok(parts.into_iter().sum())
    }

    /// The limits of the whole cache.
    pub(crate) fn limits(&self, py: Python<'_>) -> PyResult<Limits> {
        let items = self.sum(py, |engine| engine.limits().items.map_or(0, std::num::NonZeroU64::get))?;
        let weight = self.sum(py, |engine| engine.limits().weight.map_or(0, std::num::NonZeroU64::get))?;
        Ok(Limits::new(items, weight))
    }

    /// Changes the limits and lets go of what no longer fits.
    pub(super) fn set_limits(&self, py: Python<'_>, limits: Limits) -> PyResult<()> {
        let shards = self.shards.len() as u64;
        options::divisible(shards, limits)?;
        for (shard, index) in self.shards.iter().zip(0..) {
            shard.with(py, |engine| engine.set_limits(options::share(limits, index, shards)))?;
        }
        self.shrink(py)
    }

    fn shrink(&self, py: Python<'_>) -> PyResult<()> {
        if self.gate.is_some() {
            let turn = self.turn(py)?;
            for shard in self.shards.iter() {
                while shard.with(py, |engine| engine.is_over_limits())? {
                    if !self.remove_expired_batch(py)? {
                        self.evict_custom_victim(py, turn.as_ref())?;
                    }
                }
            }
            return Ok(());
        }
        for shard in self.shards.iter() {
            loop {
                let mut departures = Departures::new();
                let more = shard.with(py, |engine| engine.shrink(BATCH, &mut departures))?;
                self.settle(py, departures)?;
                if !more {
                    break;
                }
            }
        }
        Ok(())
    }

    pub(super) fn counted(&self, py: Python<'_>) -> PyResult<CacheStats> {
        let mut counted = Stats::default();
        for shard in self.shards.iter() {
            counted = counted + shard.with(py, |engine| engine.stats())?;
        }
        Ok(CacheStats::new(
            counted,
            self.farewell.hook_errors.load(Ordering::Relaxed),
            self.sum(py, Engine::len)?,
            self.sum(py, |engine| u128::from(engine.weight()))?,
        ))
    }

    /// The end of the cache: whatever is in it is let go. Nothing is raised, for nobody is there
    /// to catch it.
    pub(super) fn finalize(&self, py: Python<'_>) {
        // One that is on its way, as the cache goes.
        let pending = PyErr::take(py);
        self.finalized.store(true, Ordering::Relaxed);
        // Hooks may store something anew.
        for _ in 0..MOST_FINAL_ROUNDS {
            if let Err(error) = self.empty(py, Cause::Closed) {
                logging::error(py, &format_args!("a cache that ended:\n{}", logging::describe(py, &error)));
            }
            if self.sum(py, Engine::len).is_ok_and(|len| len == 0) {
                break;
            }
        }
        if let Some(pending) = pending {
            pending.restore(py);
        }
    }

    /// Drops what is in the cache without a word to anyone.
    pub(super) fn drop_contents(&self, py: Python<'_>) {
        for shard in self.shards.iter() {
            if let Ok(contents) = shard.with(py, Engine::drain) {
                for leaver in contents.into_departed(Cause::Closed) {
                    release(py, leaver.key);
                    release(py, leaver.value);
                }
            }
        }
    }
}

impl Drop for FlexCache {
    fn drop(&mut self) {
        if self.shards.iter_mut().all(|shard| shard.get_mut().len() == 0) {
            return;
        }
        // Where the interpreter has ended there is nobody left to run a hook.
        let _ = Python::try_attach(|py| {
            if self.finalized.load(Ordering::Relaxed) {
                self.drop_contents(py);
            } else {
                self.finalize(py);
            }
        });
    }
}
