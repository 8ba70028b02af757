//! `FlexCache`: the one class, thin over the store.
//!
//! Here is what each call means; how keys are found without running Python code under the lock is
//! in `guard`, the calls that must be fast enter through `fast`, and what Python sees beyond the
//! calls themselves (pickling, views, `async with`) is in files of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flexcache_core::{Cause, Clock, Limits, Nanos, New, Slot, Stats};
use pyo3::exceptions::{PyKeyError, PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use super::aclose::{self, Closing};
use super::background::Watch;
use super::clock::SystemClock;
use super::custom_policy::{self, Entered, Gate};
use super::departures::{Departures, Leaver};
use super::duration::{self, Ttl};
use super::engine::{Engine, PolicyName};
use super::errors::refused;
use super::guard::{Guard, Shards};
use super::options::{self, Options};
use super::stats::CacheStats;
use super::views::{CacheIterator, CacheView, What};
use super::{hooks, key, logging, pickle};

/// How many entries leave in one locked section, where many have to.
const BATCH: usize = 1024;

/// How many expired entries a call that stores one removes besides.
const EXPIRED_A_PUT: usize = 64;

/// Evictions that a store asks of a policy written in Python, at most, for one entry.
const MOST_VICTIMS: usize = 1 << 20;

/// What to do where the key is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfPresent {
    Replace,
    Raise,
    Keep,
}

/// What Python gave the cache to call.
#[derive(Default)]
pub(crate) struct Callbacks {
    pub(crate) on_evict: Option<Py<PyAny>>,
    pub(crate) policy: Option<Py<PyAny>>,
}

/// An in-process cache; see `FlexCache` in the stubs for the whole of its documentation.
#[pyclass(frozen, subclass, weakref, generic, module = "flexcache_rs")]
pub(crate) struct FlexCache {
    pub(crate) shards: Shards,
    /// Goes into every hash.
    seed: u64,
    /// Whether `on_evict` was given.
    listens: bool,
    default_ttl: Option<Ttl>,
    /// The turn to talk to a policy written in Python; `None` for a built-in one.
    gate: Option<Gate>,
    pub(crate) options: Options,
    callbacks: Guard<Callbacks>,
    last_scan: AtomicU64,
    hook_errors: AtomicU64,
    watch: Option<Arc<Watch>>,
    closing: Arc<Closing>,
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

    // ---------------------------------------------------------------- reading

    /// The value of a live entry; counts a hit or a miss and an access.
    #[inline]
    pub(crate) fn read(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        if self.gate.is_some() {
            return self.read_by_custom_policy(key);
        }
        self.read_store(key)
    }

    #[inline]
    fn read_store(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        let py = key.py();
        let hash = key::hash(&key, self.seed)?;
        let mut departures = Departures::new();
        let value = self.shards.find(&key, hash, |engine, found| {
            engine.get(found, &mut departures).map(|value| value.clone_ref(py))
        })?;
        if !departures.is_empty() {
            self.settle(py, departures)?;
        }
        Ok(value)
    }

    #[cold]
    fn read_by_custom_policy(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        let py = key.py();
        let turn = self.turn(py)?;
        let value = self.read_store(key)?;
        if value.is_some() {
            self.tell(py, turn.as_ref(), "on_access", &key)?;
        }
        Ok(value)
    }

    /// Finds a live entry without counting, and runs `step` on it in the locked section.
    #[inline]
    pub(crate) fn find_live<R>(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        step: impl FnOnce(&mut Engine, Slot) -> R,
    ) -> PyResult<Option<R>> {
        let hash = key::hash(&key, self.seed)?;
        self.shards.find(&key, hash, |engine, found| {
            let slot = found?;
            if engine.has_expired(slot) { None } else { Some(step(engine, slot)) }
        })
    }

    #[inline]
    pub(crate) fn has(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<bool> {
        Ok(self.find_live(key, |_, _| ())?.is_some())
    }

    // ---------------------------------------------------------------- storing

    /// When an entry with this `ttl` argument expires.
    #[inline]
    pub(crate) fn deadline(&self, ttl: Option<Borrowed<'_, '_, PyAny>>) -> PyResult<Option<Nanos>> {
        match ttl {
            Some(ttl) if !ttl.is_none() => duration::ttl("ttl", ttl).map(|ttl| Some(ttl.deadline())),
            _ => Ok(self.default_ttl.map(Ttl::deadline)),
        }
    }

    /// Stores an entry; whether it was stored.
    #[inline]
    pub(crate) fn write(
        this: &Borrowed<'_, '_, Self>,
        key: Borrowed<'_, '_, PyAny>,
        value: Borrowed<'_, '_, PyAny>,
        ttl: Option<Borrowed<'_, '_, PyAny>>,
        if_present: IfPresent,
    ) -> PyResult<bool> {
        let cache = this.get();
        let hash = key::hash(&key, cache.seed)?;
        let weight = hooks::weight(&value)?;
        let deadline = cache.deadline(ttl)?;
        let stored = if cache.gate.is_some() {
            cache.write_by_custom_policy(key, value, hash, weight, deadline, if_present)?
        } else {
            cache.write_store(key, value, hash, weight, deadline, if_present)?
        };
        if let Some(deadline) = deadline {
            cache.expect_expiry(this, deadline)?;
        }
        Ok(stored)
    }

    /// Tells the background thread, if there is to be one, when it is needed.
    #[inline]
    pub(crate) fn expect_expiry(&self, this: &Bound<'_, Self>, deadline: Nanos) -> PyResult<()> {
        self.watch.as_ref().map_or(Ok(()), |watch| watch.expect(this, deadline))
    }

    #[inline]
    fn write_store(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        value: Borrowed<'_, '_, PyAny>,
        hash: u64,
        weight: u64,
        deadline: Option<Nanos>,
        if_present: IfPresent,
    ) -> PyResult<bool> {
        let py = key.py();
        let mut departures = Departures::new();
        let stored = self.shards.find(&key, hash, |engine, found| {
            if if_present != IfPresent::Replace && found.is_some_and(|slot| !engine.has_expired(slot)) {
                return Ok(false);
            }
            // Only now, so that nothing has to be taken back where Python's equality failed.
            let (key, value) = (key.to_owned().unbind(), value.to_owned().unbind());
            let new = New { key, value, weight, deadline };
            let stored = engine.put(found, hash, new, &mut departures);
            if engine.has_deadlines() {
                self.expire_some(engine, &mut departures);
            }
            stored.map(|_| true)
        })?;
        if !departures.is_empty() {
            self.settle_written(py, departures, value)?;
        }
        match stored {
            Ok(stored) => Ok(stored),
            Err((error, new)) => {
                new.key.drop_ref(py);
                new.value.drop_ref(py);
                Err(refused(error))
            }
        }
    }

    /// Like [`settle`](Self::settle), but a value that replaced itself has not left.
    fn settle_written(
        &self,
        py: Python<'_>,
        departures: Departures,
        value: Borrowed<'_, '_, PyAny>,
    ) -> PyResult<()> {
        let mut result = Ok(());
        for leaver in departures {
            if leaver.cause == Cause::Replaced && leaver.value.is(&*value) {
                leaver.key.drop_ref(py);
                leaver.value.drop_ref(py);
            } else {
                result = result.and(self.let_leave(py, leaver));
            }
        }
        result
    }

    #[cold]
    fn write_by_custom_policy(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        value: Borrowed<'_, '_, PyAny>,
        hash: u64,
        weight: u64,
        deadline: Option<Nanos>,
        if_present: IfPresent,
    ) -> PyResult<bool> {
        let py = key.py();
        let turn = self.turn(py)?;
        let mut present = false;
        for _ in 0..MOST_VICTIMS {
            let mut departures = Departures::new();
            let room = self.shards.find(&key, hash, |engine, found| {
                let live = engine.live(found, &mut departures);
                present = live.is_some();
                engine.admit(live, weight).map(|()| {
                    let freed = live.map_or(0, |slot| engine.weight_of(slot));
                    let limits = engine.limits();
                    let items = engine.len() as u64 + u64::from(!present);
                    limits.items.is_none_or(|most| items <= most.get())
                        && limits.weight.is_none_or(|most| engine.weight() - freed <= most.get() - weight)
                })
            })?;
            self.settle(py, departures)?;
            if present && if_present != IfPresent::Replace {
                return Ok(false);
            }
            if room.map_err(refused)? {
                let event = if present { "on_access" } else { "on_insert" };
                self.tell(py, turn.as_ref(), event, &key)?;
                return self.write_store(key, value, hash, weight, deadline, if_present);
            }
            if !self.remove_expired_batch(py)? {
                self.evict_custom_victim(py, turn.as_ref())?;
            }
        }
        Err(PyRuntimeError::new_err("the eviction policy made no room"))
    }

    /// Removes the entry that a policy written in Python names.
    fn evict_custom_victim(&self, py: Python<'_>, turn: Option<&Entered<'_>>) -> PyResult<Option<Leaver>> {
        self.take_custom_victim(py, turn, Cause::Evicted)
    }

    fn take_custom_victim(
        &self,
        py: Python<'_>,
        turn: Option<&Entered<'_>>,
        cause: Cause,
    ) -> PyResult<Option<Leaver>> {
        let (Some(turn), Some(policy)) = (turn, self.callbacks(py)?.policy) else { return Ok(None) };
        let policy = policy.bind(py);
        let victim = turn.call(policy, "victim", None)?;
        let mut departures = Departures::new();
        let named = victim.as_borrowed();
        let removed = key::hash(&named, self.seed).and_then(|hash| {
            self.shards.find(&named, hash, |engine, found| {
                found.map(|slot| engine.remove(slot, cause, &mut departures)).is_some()
            })
        });
        match removed {
            Ok(true) if cause == Cause::Popped => Ok(departures.pop()),
            Ok(true) => self.settle(py, departures).map(|()| None),
            Ok(false) => Err(PyRuntimeError::new_err(format!(
                "victim() of eviction policy {} named {}, which is not in the cache",
                policy.get_type().name()?,
                victim.repr().map_or_else(|_| "a key".into(), |text| text.to_string()),
            ))),
            Err(cause) => {
                let error = PyRuntimeError::new_err(format!(
                    "victim() of eviction policy {} named something that cannot be looked up",
                    policy.get_type().name()?
                ));
                error.set_cause(py, Some(cause));
                Err(error)
            }
        }
    }

    /// This thread's turn to talk to a policy written in Python; `None` for built-in policies.
    fn turn(&self, py: Python<'_>) -> PyResult<Option<Entered<'_>>> {
        self.gate.as_ref().map(|gate| gate.enter(py)).transpose()
    }

    fn tell(
        &self,
        py: Python<'_>,
        turn: Option<&Entered<'_>>,
        event: &str,
        key: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        match (turn, self.callbacks(py)?.policy) {
            (Some(turn), Some(policy)) => turn.call(policy.bind(py), event, Some(key)).map(drop),
            _ => Ok(()),
        }
    }

    // ---------------------------------------------------------------- leaving

    /// Lets go of what left the stores: tells `on_evict`, runs the hooks, drops the references.
    /// The store is not locked.
    ///
    /// # Errors
    ///
    /// What a policy written in Python raises on hearing of it, when all is done. What hooks
    /// raise is logged.
    #[inline]
    pub(crate) fn settle(&self, py: Python<'_>, departures: Departures) -> PyResult<()> {
        let mut result = Ok(());
        for leaver in departures {
            result = result.and(self.let_leave(py, leaver));
        }
        result
    }

    #[inline]
    fn let_leave(&self, py: Python<'_>, leaver: Leaver) -> PyResult<()> {
        let quiet = !self.listens
            && self.gate.is_none()
            && hooks::of(&leaver.value.bind_borrowed(py)).is_ok_and(|hooks| !hooks.on_leaving());
        if quiet {
            leaver.key.drop_ref(py);
            leaver.value.drop_ref(py);
            return Ok(());
        }
        super::attached(py, |py| self.let_leave_noticed(py, &leaver))
    }

    #[cold]
    fn let_leave_noticed(&self, py: Python<'_>, leaver: &Leaver) -> PyResult<()> {
        let told = if self.gate.is_some() && leaver.cause != Cause::Replaced {
            self.turn(py).and_then(|turn| self.tell(py, turn.as_ref(), "on_remove", leaver.key.bind(py)))
        } else {
            Ok(())
        };
        self.announce(py, leaver);
        if let Err(error) = self.close_value(py, &leaver.value) {
            self.hook_failed(py, "close()", &error);
        }
        told
    }

    /// Tells `on_evict`.
    fn announce(&self, py: Python<'_>, leaver: &Leaver) {
        if !self.listens {
            return;
        }
        let Ok(Some(on_evict)) = self.callbacks(py).map(|callbacks| callbacks.on_evict) else { return };
        let reason = match leaver.cause {
            Cause::Evicted => "evicted",
            Cause::Expired => "expired",
            Cause::Deleted => "deleted",
            Cause::Popped => "popped",
            Cause::Replaced => "replaced",
            Cause::Cleared => "cleared",
            Cause::Closed => "closed",
        };
        if let Err(error) = on_evict.call1(py, (&leaver.key, &leaver.value, reason)) {
            self.hook_failed(py, "on_evict()", &error);
        }
    }

    fn close_value(&self, py: Python<'_>, value: &Py<PyAny>) -> PyResult<()> {
        let hooks = hooks::of(&value.bind_borrowed(py))?;
        if hooks.close() {
            value.call_method0(py, "close")?;
        } else if hooks.aclose() {
            aclose::start(py, value, &self.closing)?;
        }
        Ok(())
    }

    fn hook_failed(&self, py: Python<'_>, hook: &str, error: &PyErr) {
        self.hook_errors.fetch_add(1, Ordering::Relaxed);
        logging::error(
            py,
            &format_args!("{hook} raised as an entry left:\n{}", logging::describe(py, error)),
        );
    }

    /// Removes a live entry; what it was. A value that is handed out is announced, not closed.
    fn take(&self, key: Borrowed<'_, '_, PyAny>, cause: Cause) -> PyResult<Option<Leaver>> {
        let py = key.py();
        let turn = self.turn(py)?;
        let hash = key::hash(&key, self.seed)?;
        let (mut expired, mut taken) = (Departures::new(), Departures::new());
        self.shards.find(&key, hash, |engine, found| {
            if let Some(slot) = engine.live(found, &mut expired) {
                engine.remove(slot, cause, &mut taken);
            }
        })?;
        self.settle(py, expired)?;
        match taken.pop() {
            Some(leaver) if cause == Cause::Popped => self.hand_out(py, turn.as_ref(), leaver).map(Some),
            taken => Ok(taken),
        }
    }

    /// An entry that goes to the caller, value and all.
    fn hand_out(&self, py: Python<'_>, turn: Option<&Entered<'_>>, leaver: Leaver) -> PyResult<Leaver> {
        self.tell(py, turn, "on_remove", leaver.key.bind(py))?;
        self.announce(py, &leaver);
        Ok(leaver)
    }

    fn remove(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<bool> {
        let py = key.py();
        let turn = self.turn(py)?;
        let removed = self.take(key, Cause::Deleted)?;
        let found = removed.is_some();
        if let Some(leaver) = removed {
            self.let_leave(py, leaver)?;
        }
        drop(turn);
        Ok(found)
    }

    pub(crate) fn remove_or_raise(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.remove(key.as_borrowed())? { Ok(()) } else { Err(missing(key)) }
    }

    /// Lets everything go.
    pub(crate) fn empty(&self, py: Python<'_>, cause: Cause) -> PyResult<()> {
        let _turn = self.turn(py)?;
        let mut result = Ok(());
        for shard in self.shards.iter() {
            let contents = shard.with(py, Engine::drain)?;
            contents.for_each(cause, |leaver| {
                let told = self.let_leave(py, leaver);
                if result.is_ok() {
                    result = told;
                }
            });
        }
        result
    }

    // ---------------------------------------------------------------- expiry

    /// Whether an automatic scan is due, and if so, notes that it takes place.
    #[inline]
    fn scan_is_due(&self, engine: &Engine) -> bool {
        if !engine.next_expiry().is_some_and(|next| SystemClock.reached(next)) {
            return false;
        }
        if self.options.scan_interval == 0 {
            return true;
        }
        let (now, last) = (SystemClock.now(), self.last_scan.load(Ordering::Relaxed));
        // In shards each scan is one shard's; the interval is the whole cache's.
        now.saturating_sub(last) >= self.options.scan_interval
    }

    #[inline]
    fn expire_some(&self, engine: &mut Engine, departures: &mut Departures) {
        if self.scan_is_due(engine) {
            let now = SystemClock.now();
            self.last_scan.store(now, Ordering::Relaxed);
            engine.expire(now, EXPIRED_A_PUT, departures);
        }
    }

    /// Removes what has expired if an automatic scan is due.
    pub(crate) fn scan_if_due(&self, py: Python<'_>) -> PyResult<()> {
        for shard in self.shards.iter() {
            let due = shard.with(py, |engine| engine.has_deadlines() && self.scan_is_due(engine))?;
            if due {
                self.remove_expired(py)?;
                self.last_scan.store(SystemClock.now(), Ordering::Relaxed);
                break;
            }
        }
        Ok(())
    }

    /// Removes all that has expired; how many entries that were.
    pub(crate) fn remove_expired(&self, py: Python<'_>) -> PyResult<usize> {
        let now = SystemClock.now();
        let mut count = 0;
        for shard in self.shards.iter() {
            loop {
                let turn = self.turn(py)?;
                let mut departures = Departures::new();
                let removed = shard.with(py, |engine| engine.expire(now, BATCH, &mut departures))?;
                count += removed;
                self.settle(py, departures)?;
                drop(turn);
                if removed < BATCH {
                    break;
                }
            }
        }
        Ok(count)
    }

    /// Removes a batch of what has expired; whether there was any.
    fn remove_expired_batch(&self, py: Python<'_>) -> PyResult<bool> {
        let mut removed = 0;
        for shard in self.shards.iter() {
            let mut departures = Departures::new();
            removed += shard.with(py, |engine| {
                if engine.has_deadlines() {
                    engine.expire(SystemClock.now(), BATCH, &mut departures)
                } else {
                    0
                }
            })?;
            self.settle(py, departures)?;
        }
        Ok(removed > 0)
    }

    /// When something expires next.
    pub(crate) fn next_expiry(&self, py: Python<'_>) -> PyResult<Option<Nanos>> {
        let mut next: Option<Nanos> = None;
        for shard in self.shards.iter() {
            let of_shard = shard.with(py, |engine| engine.next_expiry())?;
            next = match (next, of_shard) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
        Ok(next)
    }

    // ---------------------------------------------------------------- whole

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

fn missing(key: &Bound<'_, PyAny>) -> PyErr {
    PyKeyError::new_err((key.clone().unbind(),))
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
        self.read(key.as_borrowed())?.ok_or_else(|| missing(key))
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
            if let Some(value) = self.read(key.as_borrowed())? {
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

    #[expect(clippy::needless_pass_by_value, reason = "the collector's protocol")]
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
                contents.for_each(Cause::Closed, |leaver| {
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
