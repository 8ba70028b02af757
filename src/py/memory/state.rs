//! The fields of a `FlexCache`. This is the lowest of the files that use the class.
//!
//! The steps of its methods are in the files above, the methods themselves in `cache` and `fast`.

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
use super::options::KeptOptions;
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
use crate::py::store::tracked_writes::TrackedWrites;

/// The Python objects that the cache calls.
pub(crate) struct Callbacks {
    pub(crate) on_evict: Option<Py<PyAny>>,
    pub(crate) policy: Option<Py<PyAny>>,
    pub(crate) weigher: Option<Weigher>,
    pub(crate) clock: Option<GivenClock>,
    /// The store behind the cache.
    pub(crate) tier: Option<Tier>,
}

/// An in-process cache with a policy, limits, expiry and hooks.
///
/// Args:
///     eviction_policy: The policy that selects the entry to evict: "lru" (the default: least recently used),
///         "fifo" (first in, first out), "lfu" (least frequently used, with aging), "random", "sieve",
///         "s3fifo", "tinylfu" (windowed), "auto" (adapts to the workload), or an object with the methods
///         on_insert(key), on_access(key), on_remove(key) and victim(). docs/policies.md compares the policies.
///     scan_interval: The least number of seconds between two automatic removals of all expired entries. With
///         0.0 (the default), each write and each count removes them.
///     max_items: The largest number of entries. 0 (the default) means no limit.
///     max_bytes: The largest sum of sizes. 0 (the default) means no limit. The size of an entry is the result
///         of the weigher or of its value's method item_size(), or 1.
///     default_ttl: The time to live of entries without one of their own: seconds as int or float, a timedelta,
///         or a datetime (without a time zone in local time). None or float("inf") means for ever.
///     thread_safe: With False, threads do not wait for each other on builds without a GIL. Simultaneous calls
///         then raise RuntimeError. With a GIL it makes no difference.
///     shards: The number of parts of the cache. Each part has its own lock and its own order of eviction. With
///         more than 1, threads can run at the same time on builds without a GIL.
///     background_expiry: With True, a thread removes entries when they expire, even if no call uses the cache.
///         A number is the least number of seconds between two such removals.
///     on_evict: A function that is called as on_evict(key, value, reason) after an entry was removed. The
///         reason is "evicted", "expired", "deleted", "popped", "replaced", "cleared" or "closed".
///     weigher: A function of a value, or of a key and a value, that returns the size of the entry as an
///         integer that is not negative. None (the default) means the result of the value's method item_size(),
///         or 1. flexcache_rs.size_of estimates bytes.
///     clock: A function without arguments that returns the time in seconds, like time.monotonic, for tests,
///         simulations and replays. The cache calls it at each call. If it goes back, time stands still until
///         it has caught up. None (the default) means the system's monotonic clock. It cannot be combined with
///         store or background_expiry.
///     close_values: With False, the cache does not call close() and aclose() of values.
///     store: The store behind the cache: a `Cache` or `FanoutCache` of `flexcache_rs.disk`, a `SharedCache`,
///         another FlexCache, or an object of your own with the methods of `flexcache_rs.Store`. A read looks
///         in memory first and then in the store. A write goes to both. An entry that is evicted from memory
///         stays in the store. Length and iteration are those of memory. None (the default) means no store.
///     coherence: How long a hit in memory is served without asking the store. "strict" (the default) means
///         until another process writes to the store. A number of seconds (or a timedelta) means for that
///         long. None means for ever. Use it only if no other process writes to the store. In front of a
///         SharedCache, coherence is always strict.
///     lease: The number of seconds for which a computation reserves its key in the store. Other processes
///         wait for its result for this long (default 30.0). None means that each process computes for itself.
///     lease_wait: The largest number of seconds for which a call waits for a computation of another process
///         (default 30.0). After that, it computes for its own callers and stores nothing.
///     negative_ttl: The largest number of seconds for which memory remembers that the store does not have a
///         key. With None (the default), each read asks the store. `coherence` applies to it too. Such a key
///         takes a place and a size of 1, and is no entry otherwise.
///     name: The name of the cache in its reports and in caches().
///     record: The file for a trace of all lookups, which `python -m flexcache_rs replay` reads. The trace has
///         hashes of the keys, and the sizes if there is a max_bytes. It is compressed if the name ends in
///         ".gz". It is complete when the cache is closed or the program ends. A lookup then takes about twice
///         as long.
///     record_limit: The number of lookups after which recording ends. 0 means no limit.
///     optimize: What "auto" and "tinylfu" maximize if max_bytes limits the cache and sizes differ. "hits" (the
///         default) prefers small entries. "bytes" maximizes the sum of the sizes of the hits.
///
/// Values may have the methods item_size(), close() and aclose(), which are looked up on their type. When an
/// entry is removed, close() runs exactly once, or aclose() if there is no close(). They do not run for pop()
/// and popitem(). An exception of a hook is logged to the logger "flexcache_rs" and counted. In the main thread,
/// KeyboardInterrupt and SystemExit of a hook are raised after the call.
///
/// Every call is O(1) unless its description says otherwise.
///
/// Raises:
///     TypeError, ValueError, OverflowError: An argument is invalid, or has no effect without another one, such
///         as coherence without store.
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
    /// Mixed into every hash.
    pub(super) seed: u64,
    /// The reasons for which calls cannot take the fast path.
    pub(super) detours: Detours,
    pub(super) last_scan: AtomicU64,
    /// Whether the finalizer has run. Entries that are stored after that are removed without hooks, whose
    /// code the collector may have cleared.
    pub(super) finalized: AtomicBool,
    /// Whether `__init__` has yet to configure the cache.
    pub(super) is_provisional: AtomicBool,
    /// Whether `__init__` has been called. It has an effect only once.
    pub(super) is_initialized: AtomicBool,
    /// The number of values that were computed.
    pub(super) computed: AtomicU64,
    /// The number of lookups that found nothing, and got the result of another call.
    pub(super) waited: AtomicU64,
    /// The configuration that the cache was made with.
    pub(super) initial: Setup,
    /// The configuration that `__init__` of a subclass set. It is never replaced, as other threads may be
    /// using it.
    pub(super) configured: OnceLock<TryBox<Setup>>,
}

/// The configuration of a cache, except for the fields that every hit needs.
pub(crate) struct Setup {
    /// The gate of a policy written in Python; `None` for a built-in policy.
    pub(super) gate: Option<Gate>,
    pub(crate) options: KeptOptions,
    pub(super) policy: Guard<Option<Py<PyAny>>>,
    /// Functions of the user, which few caches have.
    pub(super) functions: Option<TryBox<Functions>>,
    pub(super) notifier: Arc<RemovalNotifier>,
    pub(super) watch: Option<Arc<Watch>>,
    pub(super) recorder: OnceLock<Arc<Recorder>>,
    pub(crate) tier: Option<TryBox<Tier>>,
    /// Tracks the writes through the caches in front of this one, if there are any.
    pub(super) fronts: OnceLock<Arc<TrackedWrites>>,
    /// The keys that the store is known not to have, if they are remembered.
    pub(super) absent: Option<TryBox<AbsentKeys>>,
}

/// Functions of the user that return the weight of an entry and the time.
pub(crate) struct Functions {
    pub(super) weigher: Guard<Option<Py<PyAny>>>,
    /// The function that sets `clock`.
    pub(super) clock_function: Guard<Option<Py<PyAny>>>,
    pub(super) clock: CacheClock,
}

/// The clock of a cache without the argument `clock`.
static SYSTEM: CacheClock = CacheClock::System;

impl Setup {
    /// Bytes allocated for the parts that every cache has.
    fn allocated_bytes(&self) -> usize {
        self.options.allocated_bytes() + self.notifier.allocated_bytes()
    }

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

/// The type object, for code that changes its slots.
pub(crate) fn type_of(py: Python<'_>) -> Bound<'_, PyType> {
    py.get_type::<FlexCache>()
}

impl FlexCache {
    /// The hash of a key in this cache.
    #[inline(always)]
    pub(crate) fn hash(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<u64> {
        key::hash(&key, self.seed)
    }

    /// The hash in this cache of a key whose Python hash is known.
    #[inline(always)]
    pub(crate) fn hash_of(&self, python_hash: isize) -> u64 {
        key::mix(python_hash, self.seed)
    }

    /// Keys with their hashes. All are hashed before any is used.
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

    /// Bytes allocated for what the cache was made with and what it was configured to be.
    pub(super) fn setups_bytes(&self) -> usize {
        let configured =
            self.configured.get().map_or(0, |setup| size_of::<Setup>() + setup.allocated_bytes());
        self.initial.allocated_bytes() + configured
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

    /// This thread's turn at a policy written in Python; `None` for built-in policies.
    pub(super) fn turn<'a>(&'a self, py: Python<'a>) -> PyResult<Option<Turn<'a>>> {
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
