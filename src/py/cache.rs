//! `FlexCache`: the one class, thin over the store.
//!
//! Here is what each call means; how keys are found without running Python code under the lock is
//! in `guard`, the calls that must be fast enter through `fast`, and what Python sees beyond the
//! calls themselves (pickling, views, `async with`) is in files of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flexcache_core::{Cause, Clock, Limits, Stats};
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use super::aclose::{self, Closing};
use super::background::Watch;
use super::clock::SystemClock;
use super::custom_policy::{self, Gate};
use super::departures::Departures;
use super::duration::{self, Ttl};
use super::engine::{Engine, PolicyName};
use super::errors::refused;
use super::expire::BATCH;
use super::guard::{Guard, Shards};
use super::leave::missing;
use super::options::{self, Options};
use super::stats::CacheStats;
use super::views::{CacheIterator, CacheView, What};
use super::write::IfPresent;
use super::{hooks, key, logging, pickle};

/// What Python gave the cache to call.
#[derive(Default)]
pub(crate) struct Callbacks {
    pub(crate) on_evict: Option<Py<PyAny>>,
    pub(crate) policy: Option<Py<PyAny>>,
}

/// An in-process cache; see `FlexCache` in the stubs for the whole of its documentation.
#[pyclass(frozen, subclass, weakref, generic, module = "flexcache_rs")]
pub(crate) struct FlexCache {
    pub(super) shards: Shards,
    /// Goes into every hash.
    pub(super) seed: u64,
    /// Whether `on_evict` was given.
    pub(super) listens: bool,
    /// Whether a put has nothing to do but to store: nobody listens, nothing expires.
    pub(super) plain_writes: bool,
    pub(super) default_ttl: Option<Ttl>,
    /// The turn to talk to a policy written in Python; `None` for a built-in one.
    pub(super) gate: Option<Gate>,
    pub(crate) options: Options,
    pub(super) callbacks: Guard<Callbacks>,
    pub(super) last_scan: AtomicU64,
    pub(super) hook_errors: AtomicU64,
    pub(super) watch: Option<Arc<Watch>>,
    pub(super) closing: Arc<Closing>,
}

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
        Ok(Self {
            shards: Shards::new(engines, first, options.thread_safe),
            seed,
            plain_writes: callbacks.on_evict.is_none()
                && callbacks.policy.is_none()
                && options.default_ttl.is_none(),
            listens: callbacks.on_evict.is_some(),
            default_ttl: options.default_ttl,
            gate: callbacks.policy.is_some().then(Gate::default),
            watch: options.background.map(|interval| Arc::new(Watch::new(interval))),
            options,
            callbacks: Guard::new(callbacks, true),
            last_scan: AtomicU64::new(0),
            hook_errors: AtomicU64::new(0),
            closing: Arc::default(),
        })
    }

    pub(crate) fn callbacks(&self, py: Python<'_>) -> PyResult<Callbacks> {
        Ok(self.callbacks.with(py, |callbacks| Callbacks {
            on_evict: callbacks.on_evict.as_ref().map(|callback| callback.clone_ref(py)),
            policy: callbacks.policy.as_ref().map(|policy| policy.clone_ref(py)),
        })?)
    }

    /// The seed of this cache's hashes, which a copy of its stores must share.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    fn sum<N: std::iter::Sum>(&self, py: Python<'_>, count: impl Fn(&Engine) -> N) -> PyResult<N> {
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

    /// The end of the cache: whatever is in it is let go. Nothing is raised, for nobody is there
    /// to catch it.
    fn finalize(&self, py: Python<'_>) {
        if let Err(error) = self.empty(py, Cause::Closed) {
            logging::error(py, &format_args!("a cache that ended:\n{}", logging::describe(py, &error)));
        }
    }
}

impl Drop for FlexCache {
    fn drop(&mut self) {
        let empty = self.shards.iter_mut().all(|shard| shard.get_mut().len() == 0);
        if !empty {
            // Where the interpreter has ended there is nobody left to run a hook.
            let _ = Python::try_attach(|py| self.finalize(py));
        }
    }
}

/// What `pop` returns where the key is absent.
pub(crate) enum OrRaise {
    Raise,
    Default(Py<PyAny>),
}

impl<'py> FromPyObject<'_, 'py> for OrRaise {
    type Error = std::convert::Infallible;

    fn extract(default: Borrowed<'_, 'py, PyAny>) -> Result<Self, Self::Error> {
        Ok(Self::Default(default.to_owned().unbind()))
    }
}

#[pymethods]
impl FlexCache {
    #[new]
    #[pyo3(signature = (eviction_policy=None, scan_interval=None, max_items=None, max_bytes=None, *,
        default_ttl=None, thread_safe=true, shards=None, background_expiry=None, on_evict=None, name=None),
        text_signature = "(eviction_policy='lru', scan_interval=0.0, max_items=0, max_bytes=0, *, default_ttl=None, thread_safe=True, shards=1, background_expiry=False, on_evict=None, name=None)")]
    #[expect(clippy::too_many_arguments, reason = "the constructor is the cache's whole configuration")]
    fn new(
        py: Python<'_>,
        eviction_policy: Option<Bound<'_, PyAny>>,
        scan_interval: Option<Bound<'_, PyAny>>,
        max_items: Option<Bound<'_, PyAny>>,
        max_bytes: Option<Bound<'_, PyAny>>,
        default_ttl: Option<Bound<'_, PyAny>>,
        thread_safe: bool,
        shards: Option<Bound<'_, PyAny>>,
        background_expiry: Option<Bound<'_, PyAny>>,
        on_evict: Option<Bound<'_, PyAny>>,
        name: Option<String>,
    ) -> PyResult<Self> {
        let named = eviction_policy.as_ref().map_or(Ok(Some(PolicyName::Lru)), options::policy)?;
        let count = |argument, value: &Option<Bound<'_, PyAny>>| {
            value.as_ref().map_or(Ok(0), |value| options::count(argument, value))
        };
        let limits = Limits::new(count("max_items", &max_items)?, count("max_bytes", &max_bytes)?);
        let options = Options {
            // A policy of the user's keeps its own order; ours is only that of iteration.
            policy: named.unwrap_or(PolicyName::Fifo),
            scan_interval: scan_interval
                .map_or(Ok(0), |interval| duration::interval("scan_interval", &interval))?,
            default_ttl: default_ttl.map_or(Ok(None), |ttl| options::default_ttl(&ttl))?,
            thread_safe,
            shards: shards.map_or(Ok(1), |shards| options::shards(&shards, limits))?,
            background: background_expiry.map_or(Ok(None), |wanted| options::background(&wanted))?,
            name,
        };
        let callbacks = Callbacks {
            on_evict: options::callable("on_evict", on_evict)?,
            policy: eviction_policy.filter(|_| named.is_none()).map(Bound::unbind),
        };
        let engine = |shard| {
            Engine::new(options.policy, options::share(limits, shard, options.shards), rand::random())
        };
        let (first, rest): (_, Vec<_>) = (engine(0), (1..options.shards).map(engine).collect());
        Self::build(py, options, callbacks, rest.into_iter(), first, rand::random())
    }

    // The calls below are in the order of the documentation. `get`, `put`, `set`, `[]`, `[]=` and
    // `in` enter through `fast`; the slots here are what `fast` replaces on the type.

    fn __getitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let hash = self.hash(key.as_borrowed())?;
        self.read(key.as_borrowed(), hash)?.ok_or_else(|| missing(key))
    }

    fn __setitem__(this: &Bound<'_, Self>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let (key, value) = (key.as_borrowed(), value.as_borrowed());
        Self::write(&this.as_borrowed(), key, value, None, IfPresent::Replace).map(drop)
    }

    fn __delitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        self.remove_or_raise(key)
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.has(key.as_borrowed())
    }

    #[pyo3(signature = (key, value, ttl=None))]
    fn add(
        this: &Bound<'_, Self>,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let (key, value) = (key.as_borrowed(), value.as_borrowed());
        Self::write(&this.as_borrowed(), key, value, ttl.map(Bound::as_borrowed), IfPresent::Keep)
    }

    #[pyo3(signature = (key, default=None))]
    fn peek(&self, key: &Bound<'_, PyAny>, default: Option<Py<PyAny>>) -> PyResult<Option<Py<PyAny>>> {
        let py = key.py();
        let value = self.find_live(key.as_borrowed(), |engine, slot| engine.value(slot).clone_ref(py))?;
        Ok(value.or(default))
    }

    fn delete(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.remove(key.as_borrowed())
    }

    #[pyo3(signature = (key, default=OrRaise::Raise), text_signature = "($self, key, default=...)")]
    fn pop(&self, key: &Bound<'_, PyAny>, default: OrRaise) -> PyResult<Py<PyAny>> {
        match (self.take(key.as_borrowed(), Cause::Popped)?, default) {
            (Some(leaver), _) => Ok(leaver.value),
            (None, OrRaise::Default(default)) => Ok(default),
            (None, OrRaise::Raise) => Err(missing(key)),
        }
    }

    fn popitem(&self, py: Python<'_>) -> PyResult<(Py<PyAny>, Py<PyAny>)> {
        self.remove_expired(py)?;
        let turn = self.turn(py)?;
        let empty = || PyKeyError::new_err("popitem(): the cache is empty");
        if turn.is_some() {
            if self.sum(py, Engine::len)? == 0 {
                return Err(empty());
            }
            let leaver = self.take_custom_victim(py, turn.as_ref(), Cause::Popped)?.ok_or_else(empty)?;
            let leaver = self.hand_out(py, turn.as_ref(), leaver)?;
            return Ok((leaver.key, leaver.value));
        }
        let mut fullest = (0, None);
        for shard in self.shards.iter() {
            let len = shard.with(py, |engine| engine.len())?;
            if len > fullest.0 {
                fullest = (len, Some(shard));
            }
        }
        let mut taken = Departures::new();
        if let Some(shard) = fullest.1 {
            shard.with(py, |engine| {
                if let Some(victim) = engine.victim() {
                    engine.remove(victim, Cause::Popped, &mut taken);
                }
            })?;
        }
        let leaver = self.hand_out(py, None, taken.pop().ok_or_else(empty)?)?;
        Ok((leaver.key, leaver.value))
    }

    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.empty(py, Cause::Cleared)
    }

    fn touch(this: &Bound<'_, Self>, key: &Bound<'_, PyAny>, ttl: &Bound<'_, PyAny>) -> PyResult<bool> {
        let deadline =
            if ttl.is_none() { None } else { Some(duration::ttl("ttl", ttl.as_borrowed())?.deadline()) };
        let cache = this.get();
        let found = cache.find_live(key.as_borrowed(), |engine, slot| engine.set_deadline(slot, deadline))?;
        if let (Some(deadline), Some(())) = (deadline, found) {
            cache.expect_expiry(this, deadline)?;
        }
        Ok(found.is_some())
    }

    fn ttl(&self, key: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
        let deadline = self.find_live(key.as_borrowed(), |engine, slot| engine.deadline(slot))?;
        Ok(deadline.ok_or_else(|| missing(key))?.map(duration::seconds_until))
    }

    #[pyo3(signature = (mapping, ttl=None))]
    fn set_many(
        this: &Bound<'_, Self>,
        mapping: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let cache = this.get();
        let py = this.py();
        let entries = PyDict::new(py);
        entries.call_method1("update", (mapping,))?;
        cache.deadline(ttl.map(Bound::as_borrowed))?;
        // Everything that can be refused is, before anything is stored.
        for (key, value) in &entries {
            let hash = key::hash(&key.as_borrowed(), cache.seed)?;
            let weight = hooks::weight(&value.as_borrowed())?;
            cache.shards.of(hash).with(py, |engine| engine.admit(None, weight))?.map_err(refused)?;
        }
        for (key, value) in &entries {
            let (key, value) = (key.as_borrowed(), value.as_borrowed());
            Self::write(&this.as_borrowed(), key, value, ttl.map(Bound::as_borrowed), IfPresent::Replace)?;
        }
        Ok(())
    }

    fn get_many<'py>(&self, keys: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
        let found = PyDict::new(keys.py());
        for key in keys.try_iter()? {
            let key = key?;
            let hash = self.hash(key.as_borrowed())?;
            if let Some(value) = self.read(key.as_borrowed(), hash)? {
                found.set_item(key, value)?;
            }
        }
        Ok(found)
    }

    fn delete_many(&self, keys: &Bound<'_, PyAny>) -> PyResult<usize> {
        let mut count = 0;
        for key in keys.try_iter()? {
            count += usize::from(self.remove(key?.as_borrowed())?);
        }
        Ok(count)
    }

    fn scan(&self, py: Python<'_>) -> PyResult<usize> {
        self.last_scan.store(SystemClock.now(), Ordering::Relaxed);
        self.remove_expired(py)
    }

    #[pyo3(signature = (*, max_items=None, max_bytes=None))]
    fn resize(
        &self,
        py: Python<'_>,
        max_items: Option<&Bound<'_, PyAny>>,
        max_bytes: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let mut limits = self.limits(py)?;
        if let Some(max_items) = max_items {
            limits.items = options::count("max_items", max_items)?.try_into().ok();
        }
        if let Some(max_bytes) = max_bytes {
            limits.weight = options::count("max_bytes", max_bytes)?.try_into().ok();
        }
        let shards = self.shards.len() as u64;
        options::divisible(shards, limits)?;
        for (shard, index) in self.shards.iter().zip(0..) {
            shard.with(py, |engine| engine.set_limits(options::share(limits, index, shards)))?;
        }
        self.shrink(py)
    }

    fn copy(this: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        pickle::copy(this)
    }

    fn __copy__(this: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        pickle::copy(this)
    }

    fn __reduce__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        pickle::reduce(this)
    }

    fn __setstate__(this: &Bound<'_, Self>, state: &Bound<'_, PyAny>) -> PyResult<()> {
        pickle::set_state(this, state)
    }

    #[getter]
    fn items(&self, py: Python<'_>) -> PyResult<usize> {
        self.__len__(py)
    }

    #[getter]
    fn bytes(&self, py: Python<'_>) -> PyResult<u64> {
        self.scan_if_due(py)?;
        self.sum(py, Engine::weight)
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.scan_if_due(py)?;
        self.sum(py, Engine::len)
    }

    fn __iter__(this: &Bound<'_, Self>) -> PyResult<CacheIterator> {
        CacheIterator::new(this, What::Keys)
    }

    fn keys(this: &Bound<'_, Self>) -> CacheView {
        CacheView::new(this, What::Keys)
    }

    fn values(this: &Bound<'_, Self>) -> CacheView {
        CacheView::new(this, What::Values)
    }

    fn entries(this: &Bound<'_, Self>) -> CacheView {
        CacheView::new(this, What::Entries)
    }

    fn stats(&self, py: Python<'_>) -> PyResult<CacheStats> {
        let mut counted = Stats::default();
        for shard in self.shards.iter() {
            counted = counted + shard.with(py, |engine| engine.stats())?;
        }
        Ok(CacheStats::new(
            counted,
            self.hook_errors.load(Ordering::Relaxed),
            self.sum(py, Engine::len)?,
            self.sum(py, Engine::weight)?,
        ))
    }

    fn reset_stats(&self, py: Python<'_>) -> PyResult<()> {
        for shard in self.shards.iter() {
            shard.with(py, Engine::reset_stats)?;
        }
        self.hook_errors.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let emptied = self.empty(py, Cause::Closed);
        self.closing.wait(py);
        emptied
    }

    fn aclose<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.empty(py, Cause::Closed)?;
        self.closing.gather(py)
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

    #[getter]
    fn eviction_policy(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.callbacks(py)?.policy {
            Some(policy) => Ok(policy),
            None => Ok(self.options.policy.as_str().into_pyobject(py)?.into_any().unbind()),
        }
    }

    #[getter]
    fn max_items(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.limits(py)?.items.map_or(0, std::num::NonZeroU64::get))
    }

    #[getter]
    fn max_bytes(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.limits(py)?.weight.map_or(0, std::num::NonZeroU64::get))
    }

    #[getter]
    fn name(&self) -> Option<&str> {
        self.options.name.as_deref()
    }

    fn __repr__(this: &Bound<'_, Self>) -> PyResult<String> {
        let py = this.py();
        let cache = this.get();
        let limits = cache.limits(py)?;
        let mut text = this.get_type().name()?.to_string();
        text.push('(');
        if let Some(name) = &cache.options.name {
            text += &format!("name={name:?}, ");
        }
        match cache.callbacks(py)?.policy {
            Some(policy) => text += &format!("eviction_policy=<{}>", policy.bind(py).get_type().name()?),
            None => text += &format!("eviction_policy='{}'", cache.options.policy.as_str()),
        }
        for (argument, limit) in [("max_items", limits.items), ("max_bytes", limits.weight)] {
            if let Some(limit) = limit {
                text += &format!(", {argument}={limit}");
            }
        }
        text += &format!("; {} items)", cache.sum(py, Engine::len)?);
        Ok(text)
    }

    fn __sizeof__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(size_of::<Self>() + self.sum(py, Engine::allocated_bytes)?)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs this in a thread that is attached; the token is used for
        // nothing but to take the locks, which visiting needs.
        let py = unsafe { Python::assume_attached() };
        for shard in self.shards.iter() {
            // A store that is in use is skipped: what it holds just stays alive until next time.
            shard.try_with(py, |engine| engine.visit(|object| visit.call(object))).unwrap_or(Ok(()))?;
        }
        self.callbacks
            .try_with(py, |callbacks| {
                visit.call(&callbacks.on_evict)?;
                visit.call(&callbacks.policy)
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self, py: Python<'_>) {
        // The hooks have run in the finalizer, as far as there were any.
        let callbacks = self.callbacks.with(py, std::mem::take);
        drop(callbacks);
        for shard in self.shards.iter() {
            if let Ok(contents) = shard.with(py, Engine::drain) {
                contents.into_departed(Cause::Closed).for_each(|leaver| {
                    leaver.key.drop_ref(py);
                    leaver.value.drop_ref(py);
                });
            }
        }
    }
}

/// Runs the hooks of what a cache in a cycle of garbage still holds, before the collector
/// takes the cycle apart.
pub(crate) fn finalize(cache: &Bound<'_, FlexCache>) {
    let py = cache.py();
    let pending = PyErr::take(py);
    cache.get().finalize(py);
    if let Some(pending) = pending {
        pending.restore(py);
    }
}

/// The type object, for those who change its slots.
pub(crate) fn type_of(py: Python<'_>) -> Bound<'_, PyType> {
    py.get_type::<FlexCache>()
}
