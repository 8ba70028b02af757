//! What a `FlexCache` consists of: the lowest of the files that know the class.
//!
//! The steps of its calls are in the files above, the calls themselves in `cache` and `fast`.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};

use flexcache_core::TryBox;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::absent::AbsentKeys;
use super::any_store::AnyStore;
use super::clock::GivenClock;
use super::core_errors::out_of_memory;
use super::detours::Detours;
use super::lookup::Shards;
use super::options::Options;
use super::policy_turn::{Gate, Turn};
use super::tier::Tier;
use super::weigher::Weigher;
use crate::py::object::argument::iterate;
use crate::py::object::key;
use crate::py::object::running_python::next;
use crate::py::process::background::Watch;
use crate::py::process::clock::CacheClock;
use crate::py::process::guard::Guard;
use crate::py::process::recorder::Recorder;
use crate::py::removal::notifier::RemovalNotifier;

/// What Python gave the cache to call.
pub(crate) struct Callbacks {
    pub(crate) on_evict: Option<Py<PyAny>>,
    pub(crate) policy: Option<Py<PyAny>>,
    pub(crate) weigher: Option<Weigher>,
    pub(crate) clock: Option<GivenClock>,
    /// What lasts, behind the cache.
    pub(crate) tier: Option<Tier>,
}

/// An in-process cache with a policy, limits, expiry and hooks.
///
/// Args:
///     eviction_policy: which entry is evicted when there is no room: "lru" (the default: least recently
///         used), "fifo" (first in, first out), "lfu" (least frequently used, with aging),
///         "random", "sieve", "s3fifo", "tinylfu" (windowed), "auto" (finds out by itself what suits
///         the workload), or an object with the methods on_insert(key), on_access(key),
///         on_remove(key) and victim(). docs/policies.md says which suits what.
///     scan_interval: least seconds between two automatic removals of all that has expired; 0.0
///         (the default) removes it whenever something is stored or counted.
///     max_items: the largest number of entries; 0 (the default) for no limit.
///     max_bytes: the largest sum of sizes; 0 (the default) for no limit. An entry's size is what
///         the weigher or its value's method item_size() returns, or 1.
///     default_ttl: how long an entry lives where put() says nothing else: seconds as int or
///         float, a timedelta, or a datetime (a naive one in local time); None or float("inf") for ever.
///     thread_safe: False leaves out the waiting on builds without a GIL; two threads that meet
///         then get a RuntimeError. With a GIL it makes no difference.
///     shards: into how many parts, each with its own lock and its own order of eviction, the
///         cache is divided; more than 1 lets threads run at once on builds without a GIL.
///     background_expiry: True for a thread that removes what expires when it expires, without
///         anyone touching the cache, or the least seconds between two such removals.
///     on_evict: called as on_evict(key, value, reason) after an entry left, with a reason of
///         "evicted", "expired", "deleted", "popped", "replaced", "cleared" or "closed".
///     weigher: called with a value, or with a key and a value, to get the entry's size, an integer
///         from 0; None (the default) for what the value's method item_size() returns, or 1.
///         flexcache_rs.size_of estimates bytes.
///     clock: called without arguments to get the time in seconds, as time.monotonic is, which times to
///         live are counted by: for tests, simulations and replays. The cache asks it at each call; where it
///         goes back, time stands still until it has caught up. None (the default) for the system's
///         monotonic clock. It goes with neither store nor background_expiry.
///     close_values: False leaves values alone when their entries leave: close() and aclose() are not
///         called.
///     store: what the cache is to be in front of: a `Cache` or `FanoutCache` of
///         `flexcache_rs.disk`, or an object of your own with the methods of `flexcache_rs.Store`.
///         What is not in memory is looked up there, a write goes to both, and what is evicted from
///         memory stays there. Length and iteration are those of memory. None for no store.
///     coherence: how others' writes to the store are seen: "strict" (the default) at once, or a
///         number of seconds after which an entry in memory is fetched anew, or None where nobody
///         else writes to it.
///     negative_ttl: for how many seconds at most a key that the store does not have is not looked up
///         there again; None (the default) to look it up each time. Others' writes are seen as
///         `coherence` says. Such a key takes a place and a size of 1, and is no entry otherwise.
///     name: what to call the cache, for people and in the registry of caches().
///     record: a file to write a trace of all lookups to, as hashes of the keys, with the sizes if
///         there is a max_bytes: what `python -m flexcache_rs replay` reads. Compressed if its name
///         ends in ".gz"; complete when the cache is closed or the program ends. It costs a lookup
///         about as much again.
///     record_limit: after how many lookups recording ends; 0 for no limit.
///     optimize: what "auto" and "tinylfu" make the most of where max_bytes limits the cache and sizes differ: "hits"
///         (the default), for which they prefer to keep small entries, or "bytes", the sum of the sizes of what is found.
///
/// Values may have methods of their own, looked up on their type: item_size(), and close() or
/// aclose(), of which one (close() if there are both) runs exactly once when the entry leaves,
/// unless the caller took the value out with pop() or popitem(). What a hook raises is logged to
/// the logger "flexcache_rs" and counted.
///
/// Every call is O(1) unless it says otherwise.
///
/// Raises:
///     TypeError, ValueError, OverflowError: for an argument that makes no sense.
///
/// >>> from flexcache_rs import FlexCache
/// >>> cache = FlexCache("lru", max_items=2)
/// >>> cache["a"], cache["b"] = 1, 2
/// >>> cache.get("a")
/// 1
/// >>> cache.put("c", 3, ttl=60)
/// >>> "b" in cache, cache.items
/// (False, 2)
#[pyclass(frozen, subclass, weakref, generic, module = "flexcache_rs")]
pub(crate) struct FlexCache {
    pub(crate) shards: Shards,
    /// Goes into every hash.
    pub(super) seed: u64,
    /// What keeps lookups and writes from the fast path.
    pub(super) detours: Detours,
    pub(super) last_scan: AtomicU64,
    /// The finalizer has run: what comes in after that is removed without hooks, whose code the
    /// collector may have taken apart.
    pub(super) finalized: AtomicBool,
    /// Whether `__init__` is still to say how the cache is configured.
    pub(super) is_provisional: AtomicBool,
    /// Whether `__init__` has been called, which it is once.
    pub(super) is_initialized: AtomicBool,
    /// How many values were computed.
    pub(super) computed: AtomicU64,
    /// How many lookups found nothing, and got what another computed.
    pub(super) waited: AtomicU64,
    /// What the cache was made with.
    pub(super) initial: Setup,
    /// What `__init__` of a subclass made of it. It is never replaced: others may be using it.
    pub(super) configured: OnceLock<TryBox<Setup>>,
}

/// What a cache is configured to be, beside what every hit needs.
pub(crate) struct Setup {
    /// The turn to talk to a policy written in Python; `None` for a built-in one.
    pub(super) gate: Option<Gate>,
    pub(crate) options: Options,
    pub(super) policy: Guard<Option<Py<PyAny>>>,
    /// What few caches have.
    pub(super) functions: Option<TryBox<Functions>>,
    pub(super) notifier: Arc<RemovalNotifier>,
    pub(super) watch: Option<Arc<Watch>>,
    pub(super) recorder: OnceLock<Arc<Recorder>>,
    pub(crate) tier: Option<TryBox<Tier>>,
    /// Keys that the store behind the tier was found not to have, where such are remembered.
    pub(super) absent: Option<TryBox<AbsentKeys>>,
}

/// Functions of the user's that say what entries weigh and what time it is.
pub(crate) struct Functions {
    pub(super) weigher: Guard<Option<Py<PyAny>>>,
    /// What tells `clock` the time.
    pub(super) clock_function: Guard<Option<Py<PyAny>>>,
    pub(super) clock: CacheClock,
}

/// The clock of a cache that was given none.
static SYSTEM: CacheClock = CacheClock::System;

impl Setup {
    /// The clock that the cache goes by.
    #[inline]
    pub(crate) fn clock(&self) -> &CacheClock {
        self.functions.as_ref().map_or(&SYSTEM, |functions| &functions.clock)
    }
}

impl Deref for FlexCache {
    type Target = Setup;

    #[inline]
    fn deref(&self) -> &Setup {
        self.configured.get().map_or(&self.initial, |configured| &**configured)
    }
}

/// The type object, for those who change its slots.
pub(crate) fn type_of(py: Python<'_>) -> Bound<'_, PyType> {
    py.get_type::<FlexCache>()
}

impl FlexCache {
    /// The hash of a key in this cache.
    #[inline(always)]
    pub(crate) fn hash(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<u64> {
        key::hash(&key, self.seed)
    }

    /// The hash in this cache of a key that Python's hash is known of.
    #[inline(always)]
    pub(crate) fn hash_of(&self, python_hash: isize) -> u64 {
        key::mix(python_hash, self.seed)
    }

    /// Keys with their hashes, all of them before anything is done with one.
    pub(crate) fn hashed<'py>(&self, keys: &Bound<'py, PyAny>) -> PyResult<Vec<(Bound<'py, PyAny>, u64)>> {
        let keys = iterate("keys", "an iterable of keys", keys)?;
        let mut hashed = Vec::new();
        while let Some(key) = next(&keys)? {
            let hash = self.hash(key.as_borrowed())?;
            hashed.try_reserve(1).map_err(|error| out_of_memory(error.into()))?;
            hashed.push((key, hash));
        }
        Ok(hashed)
    }

    /// A policy written in Python.
    pub(crate) fn own_policy(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(self.policy.with(py, |policy| policy.as_ref().map(|policy| policy.clone_ref(py)))?)
    }

    /// The seed of this cache's hashes, which a copy of its stores must share.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn sum<N: std::iter::Sum>(
        &self,
        py: Python<'_>,
        count: impl Fn(&AnyStore) -> N,
    ) -> PyResult<N> {
        let mut parts = Vec::with_capacity(self.shards.len());
        for shard in self.shards.iter() {
            parts.push(shard.with(py, |store| count(store))?);
        }
        Ok(parts.into_iter().sum())
    }

    /// This thread's turn to talk to a policy written in Python; `None` for built-in policies.
    pub(super) fn turn<'py>(&self, py: Python<'py>) -> PyResult<Option<Turn<'py>>> {
        self.gate.as_ref().map(|gate| gate.enter(py, &self.notifier)).transpose()
    }

    /// Tells a policy written in Python what happened to a key.
    pub(super) fn tell_policy(
        &self,
        py: Python<'_>,
        turn: Option<&Turn<'_>>,
        event: &str,
        key: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        match (turn, self.own_policy(py)?) {
            (Some(turn), Some(policy)) => turn.call(policy.bind(py), event, Some(key)).map(drop),
            _ => Ok(()),
        }
    }
}
