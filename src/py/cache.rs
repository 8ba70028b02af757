//! `FlexCache`: the one class, thin over the store.
//!
//! Here is what each call means; how keys are found without running Python code under the lock is
//! in `guard`, the calls that must be fast enter through `fast`, and what Python sees beyond the
//! calls themselves (pickling, views, `async with`) is in files of its own.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use flexcache_core::{Cause, Clock, Limits};
use pyo3::exceptions::PyKeyError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::aclose;
use super::background::Watch;
use super::clock::SystemClock;
use super::custom_policy::Gate;
use super::duration::{self, Ttl};
use super::engine::{Engine, PolicyName};
use super::farewell::Farewell;
use super::fast;
use super::guard::{Guard, Shards};
use super::leave::missing;
use super::observers::Event;
use super::options::{self, Given, Options};
use super::pickle;
use super::recorder::Recorder;
use super::running_python::call;
use super::stats::CacheStats;
use super::tier::{self, Coherence, Tier};
use super::views::{CacheIterator, CacheView, What};
use super::write::IfPresent;

/// What Python gave the cache to call.
pub(crate) struct Callbacks {
    pub(crate) on_evict: Option<Py<PyAny>>,
    pub(crate) policy: Option<Py<PyAny>>,
    /// What lasts, behind the cache.
    pub(crate) tier: Option<Tier>,
}

/// An in-process cache with a policy, limits, expiry and hooks.
///
/// Args:
///     eviction_policy: who leaves when there is no room: "lru" (the default: least recently
///         used), "fifo" (first in, first out), "lfu" (least frequently used, with aging),
///         "random", "sieve", "s3fifo", "tinylfu" (windowed), "auto" (finds out by itself what suits
///         the workload), or an object with the methods on_insert(key), on_access(key),
///         on_remove(key) and victim(). docs/policies.md says which suits what.
///     scan_interval: least seconds between two automatic removals of all that has expired; 0.0
///         (the default) removes it whenever something is stored or counted.
///     max_items: the largest number of entries; 0 (the default) for no limit.
///     max_bytes: the largest sum of sizes; 0 (the default) for no limit. An entry's size is what
///         its value's method item_size() returns, or 1.
///     default_ttl: how long an entry lives where put() says nothing else: seconds as int or
///         float, a timedelta, or a datetime (a naive one in local time); None for ever.
///     thread_safe: False leaves out the waiting on builds without a GIL; two threads that meet
///         then get a RuntimeError. With a GIL it makes no difference.
///     shards: into how many parts, each with its own lock and its own order of eviction, the
///         cache is divided; more than 1 lets threads run at once on builds without a GIL.
///     background_expiry: True for a thread that removes what expires when it expires, without
///         anyone touching the cache, or the least seconds between two such removals.
///     on_evict: called as on_evict(key, value, reason) after an entry left, with a reason of
///         "evicted", "expired", "deleted", "popped", "replaced", "cleared" or "closed".
///     store: what the cache is to be in front of: a `Cache` or `FanoutCache` of
///         `flexcache_rs.disk`, or an object of your own with the methods of `flexcache_rs.Store`.
///         What is not in memory is looked up there, a write goes to both, and what is evicted from
///         memory stays there. Length and iteration are those of memory. None for no store.
///     coherence: how others' writes to the store are seen: "strict" (the default) at once, or a
///         number of seconds after which an entry in memory is fetched anew, or None where nobody
///         else writes to it.
///     name: what to call the cache, for people and in the registry of caches().
///     record: a file to write a trace of all lookups to, as hashes of the keys, with the sizes if
///         there is a max_bytes: what `python -m flexcache_rs replay` reads. Compressed if its name
///         ends in ".gz"; complete when the cache is closed or the program ends. It costs a lookup
///         about as much again.
///     record_limit: after how many lookups recording ends.
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
    pub(super) shards: Shards,
    /// Goes into every hash.
    pub(super) seed: u64,
    /// Whether a put has nothing to do but to store: nobody listens, nothing expires.
    pub(super) plain_writes: bool,
    pub(super) default_ttl: Option<Ttl>,
    /// The turn to talk to a policy written in Python; `None` for a built-in one.
    pub(super) gate: Option<Gate>,
    pub(crate) options: Options,
    pub(super) policy: Guard<Option<Py<PyAny>>>,
    pub(super) farewell: Arc<Farewell>,
    pub(super) last_scan: AtomicU64,
    pub(super) watch: Option<Arc<Watch>>,
    /// The finalizer has run: what comes in after that leaves without hooks, whose code the
    /// collector may have taken apart.
    pub(super) finalized: AtomicBool,
    /// The computations in progress, by key.
    pub(super) flights: PyOnceLock<Py<PyDict>>,
    /// Whether every lookup and write has to be told of or recorded.
    pub(super) watched: AtomicBool,
    pub(super) recorder: Option<Arc<Recorder>>,
    pub(super) tier: Option<Tier>,
}

/// Called with every cache that has a name.
static REGISTRAR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Says what is to be called with every cache that has a name.
#[pyfunction]
#[pyo3(name = "_set_registrar")]
pub(crate) fn set_registrar(py: Python<'_>, registrar: Py<PyAny>) {
    let _ = REGISTRAR.set(py, registrar);
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
    #[classmethod]
    #[pyo3(signature = (eviction_policy=Given::NOT, scan_interval=Given::NOT, max_items=Given::NOT,
        max_bytes=Given::NOT, *, default_ttl=Given::NOT, thread_safe=Given::NOT, shards=Given::NOT,
        background_expiry=Given::NOT, on_evict=Given::NOT, store=Given::NOT,
        coherence=Given::NOT, name=Given::NOT, record=Given::NOT,
        record_limit=Given::NOT),
        text_signature = "(eviction_policy='lru', scan_interval=0.0, max_items=0, max_bytes=0, *, default_ttl=None, thread_safe=True, shards=1, background_expiry=False, on_evict=None, store=None, coherence='strict', name=None, record=None, record_limit=10000000)")]
    #[expect(clippy::too_many_arguments, reason = "the constructor is the cache's whole configuration")]
    fn new(
        class: &Bound<'_, PyType>,
        eviction_policy: Given<'_>,
        scan_interval: Given<'_>,
        max_items: Given<'_>,
        max_bytes: Given<'_>,
        default_ttl: Given<'_>,
        thread_safe: Given<'_>,
        shards: Given<'_>,
        background_expiry: Given<'_>,
        on_evict: Given<'_>,
        store: Given<'_>,
        coherence: Given<'_>,
        name: Given<'_>,
        record: Given<'_>,
        record_limit: Given<'_>,
    ) -> PyResult<Self> {
        let py = class.py();
        fast::finalize_instances_of(class);
        let named = eviction_policy.or(Some(PolicyName::Lru), options::policy)?;
        let limits = Limits::new(
            max_items.or(0, |most| options::count("max_items", most))?,
            max_bytes.or(0, |most| options::count("max_bytes", most))?,
        );
        let options = Options {
            // A policy of the user's keeps its own order; ours is only that of iteration.
            policy: named.unwrap_or(PolicyName::Fifo),
            scan_interval: scan_interval.or(0, |interval| duration::interval("scan_interval", interval))?,
            default_ttl: default_ttl.or(None, options::default_ttl)?,
            thread_safe: thread_safe.or(true, |flag| options::flag("thread_safe", flag))?,
            shards: shards.or(1, |shards| options::shards(shards, limits))?,
            background: background_expiry.or(None, options::background)?,
            name: name.or(None, |name| options::text("name", name))?,
            runs_hooks: true,
            record: record.or(None, options::record)?,
            record_limit: record_limit
                .or(options::MOST_RECORDED, |most| options::count("record_limit", most))?,
        };
        let callbacks = Callbacks {
            on_evict: on_evict.or(None, |callback| options::callable("on_evict", callback))?,
            policy: eviction_policy.0.filter(|_| named.is_none()).map(Bound::unbind),
            tier: match store.0.filter(|store| !store.is_none()) {
                Some(store) => Some(Tier::new(&store, coherence.or(Coherence::Strict, tier::coherence)?)?),
                None => {
                    coherence.or(Coherence::Strict, tier::coherence)?;
                    None
                }
            },
        };
        let engine = |shard| {
            Engine::new(options.policy, options::share(limits, shard, options.shards), rand::random())
        };
        let (first, rest): (_, Vec<_>) = (engine(0), (1..options.shards).map(engine).collect());
        Self::build(py, options, callbacks, rest.into_iter(), first, rand::random())
    }

    /// Makes a cache with a name known; takes any arguments, so that a subclass may pass its own on.
    #[pyo3(signature = (*_args, **_options))]
    fn __init__(
        this: &Bound<'_, Self>,
        _args: &Bound<'_, PyTuple>,
        _options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        match (&this.get().options.name, REGISTRAR.get(this.py())) {
            (Some(_), Some(registrar)) => call(registrar.bind(this.py()), [this.as_any()]).map(drop),
            _ => Ok(()),
        }
    }

    // `get`, `put`, `set`, `[]`, `[]=` and `in` enter through `fast`: the methods are put on the
    // class there, and the slots here are replaced.

    /// The value of `key`; KeyError where it is absent. Counts as an access. O(1).
    fn __getitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let hash = self.hash(key.as_borrowed())?;
        self.read(key.as_borrowed(), hash)?.ok_or_else(|| missing(key))
    }

    fn __setitem__(this: &Bound<'_, Self>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let (key, value) = (key.as_borrowed(), value.as_borrowed());
        Self::write(&this.as_borrowed(), key, value, None, None, IfPresent::Replace).map(drop)
    }

    fn __delitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        self.remove_or_raise(key)
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.has(key.as_borrowed())
    }

    /// Store a value unless the key is present; whether it was stored.
    ///
    /// Args:
    ///     key: any hashable.
    ///     value: any object.
    ///     ttl: how long the entry lives, as for :meth:`put`.
    ///     tags: what :meth:`evict_tag` knows the entry by.
    ///
    /// Raises:
    ///     TypeError, ValueError, OverflowError: as for :meth:`put`.
    ///
    /// O(1).
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache()
    /// >>> cache.add("a", 1), cache.add("a", 2), cache["a"]
    /// (True, False, 1)
    #[pyo3(signature = (key, value, ttl=None, *, tags=None))]
    fn add(
        this: &Bound<'_, Self>,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
        tags: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let (key, value) = (key.as_borrowed(), value.as_borrowed());
        let (ttl, tags) = (ttl.map(Bound::as_borrowed), tags.map(Bound::as_borrowed));
        Self::write(&this.as_borrowed(), key, value, ttl, tags, IfPresent::Keep)
    }

    /// Like :meth:`get`, but without counting as an access: the order of eviction and the
    /// statistics stay as they are. O(1).
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache(max_items=2)
    /// >>> cache["a"], cache["b"] = 1, 2
    /// >>> cache.peek("a"), cache.peek("c", 0), next(iter(cache))
    /// (1, 0, 'a')
    #[pyo3(signature = (key, default=None))]
    fn peek(&self, key: &Bound<'_, PyAny>, default: Option<Py<PyAny>>) -> PyResult<Option<Py<PyAny>>> {
        let py = key.py();
        let value = match &self.tier {
            Some(tier) => self.peek_through(tier, key.as_borrowed())?,
            None => self.find_live(key.as_borrowed(), |engine, slot| engine.value(slot).clone_ref(py))?,
        };
        Ok(value.or(default))
    }

    /// Remove an entry; whether it was there. Its value is closed. O(1).
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache()
    /// >>> cache["a"] = 1
    /// >>> cache.delete("a"), cache.delete("a")
    /// (True, False)
    fn delete(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.remove(key.as_borrowed())
    }

    /// Remove an entry and return its value, which is not closed: it is the caller's now.
    ///
    /// Raises:
    ///     KeyError: where the key is absent and no default is given.
    ///
    /// O(1).
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache()
    /// >>> cache["a"] = 1
    /// >>> cache.pop("a"), cache.pop("a", None)
    /// (1, None)
    #[pyo3(signature = (key, default=OrRaise::Raise), text_signature = "($self, key, default=...)")]
    fn pop(&self, key: &Bound<'_, PyAny>, default: OrRaise) -> PyResult<Py<PyAny>> {
        let value = match &self.tier {
            Some(tier) => self.pop_through(tier, key.as_borrowed())?,
            None => self.take(key.as_borrowed(), Cause::Popped)?.map(|leaver| leaver.value),
        };
        match (value, default) {
            (Some(value), _) => Ok(value),
            (None, OrRaise::Default(default)) => Ok(default),
            (None, OrRaise::Raise) => Err(missing(key)),
        }
    }

    /// Remove the next victim and return its key and value, which is not closed.
    ///
    /// With shards, it is the next victim of the fullest one.
    ///
    /// Raises:
    ///     KeyError: where the cache is empty.
    ///
    /// O(1), and O(1) more for each entry that has expired.
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache("lru")
    /// >>> cache["a"], cache["b"] = 1, 2
    /// >>> cache.popitem()
    /// ('a', 1)
    fn popitem(&self, py: Python<'_>) -> PyResult<(Py<PyAny>, Py<PyAny>)> {
        let leaver =
            self.take_victim(py)?.ok_or_else(|| PyKeyError::new_err("popitem(): the cache is empty"))?;
        if let Some(tier) = &self.tier {
            self.remove_through(tier, leaver.key.bind_borrowed(py))?;
        }
        Ok((leaver.key, leaver.value))
    }

    /// Remove every entry. O(n), but the cache is free for others again at once.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(tier) = &self.tier {
            tier.clear(py)?;
        }
        self.empty(py, Cause::Cleared)
    }

    /// Give an entry another time to live, from now on; whether it is there.
    ///
    /// Args:
    ///     key: any hashable.
    ///     ttl: as for :meth:`put`, but None means that the entry does not expire.
    ///
    /// Counts as no access. O(1).
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache(default_ttl=60)
    /// >>> cache["a"] = 1
    /// >>> cache.touch("a", None), cache.ttl("a")
    /// (True, None)
    fn touch(this: &Bound<'_, Self>, key: &Bound<'_, PyAny>, ttl: &Bound<'_, PyAny>) -> PyResult<bool> {
        let deadline =
            if ttl.is_none() { None } else { Some(duration::ttl("ttl", ttl.as_borrowed())?.deadline()) };
        let cache = this.get();
        let found = match &cache.tier {
            Some(tier) => cache.touch_through(tier, key.as_borrowed(), deadline)?,
            None => cache
                .find_live(key.as_borrowed(), |engine, slot| engine.set_deadline(slot, deadline))?
                .is_some(),
        };
        if let (Some(deadline), true) = (deadline, found) {
            cache.expect_expiry(this, deadline)?;
        }
        Ok(found)
    }

    /// The seconds an entry has left to live, None where it does not expire.
    ///
    /// Raises:
    ///     KeyError: where the key is absent.
    ///
    /// O(1).
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache()
    /// >>> cache.put("a", 1, ttl=60)
    /// >>> 59 < cache.ttl("a") <= 60
    /// True
    fn ttl(&self, key: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
        if let Some(tier) = &self.tier {
            return self.ttl_through(tier, key.as_borrowed());
        }
        let deadline = self.find_live(key.as_borrowed(), |engine, slot| engine.deadline(slot))?;
        Ok(deadline.ok_or_else(|| missing(key))?.map(duration::seconds_until))
    }

    /// Store or replace many values.
    ///
    /// Args:
    ///     mapping: a mapping, or an iterable of pairs of key and value.
    ///     ttl: as for :meth:`put`, for all of them.
    ///     tags: as for :meth:`put`, for all of them.
    ///
    /// Raises:
    ///     TypeError, ValueError, OverflowError: as for :meth:`put`, before anything is stored.
    ///
    /// O(1) for each entry.
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache()
    /// >>> cache.set_many({"a": 1, "b": 2}, ttl=60)
    /// >>> cache.get_many(["a", "b", "c"])
    /// {'a': 1, 'b': 2}
    #[pyo3(signature = (mapping, ttl=None, *, tags=None))]
    fn set_many(
        this: &Bound<'_, Self>,
        mapping: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
        tags: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        Self::write_many(this, mapping, ttl, tags)
    }

    /// The values of those keys that are present, as a dict. Counts as an access of each.
    ///
    /// Raises:
    ///     TypeError: where a key is not hashable, before any is looked up.
    ///
    /// O(1) for each key.
    fn get_many<'py>(&self, keys: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
        let found = PyDict::new(keys.py());
        for (key, hash) in self.hashed(keys)? {
            if let Some(value) = self.read(key.as_borrowed(), hash)? {
                found.set_item(key, value)?;
            }
        }
        Ok(found)
    }

    /// Remove the entries of these keys; how many were there.
    ///
    /// Raises:
    ///     TypeError: where a key is not hashable, before any is removed.
    ///
    /// O(1) for each key.
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache()
    /// >>> cache.set_many({"a": 1, "b": 2})
    /// >>> cache.delete_many(["a", "c"])
    /// 1
    fn delete_many(&self, keys: &Bound<'_, PyAny>) -> PyResult<usize> {
        let mut count = 0;
        let hashed = self.hashed(keys)?;
        let mut remove_all = || {
            for (key, _) in &hashed {
                count += usize::from(self.remove(key.as_borrowed())?);
            }
            Ok(())
        };
        match &self.tier {
            Some(tier) => tier.together(keys.py(), remove_all)?,
            None => remove_all()?,
        }
        Ok(count)
    }

    /// Remove all entries that have a tag; how many. Their values are closed.
    ///
    /// All of them have left before the first hook runs.
    ///
    /// Args:
    ///     tag: one of those an entry got with put(), set() or add().
    ///
    /// Raises:
    ///     TypeError: where the tag is no str.
    ///
    /// O(1) for each entry that has the tag.
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache()
    /// >>> cache.put("page", "<html>", tags=("user:1", "site"))
    /// >>> cache.evict_tag("user:1"), "page" in cache, cache.evict_tag("site")
    /// (1, False, 0)
    fn evict_tag(&self, tag: &Bound<'_, PyAny>) -> PyResult<usize> {
        let (py, tag) = (tag.py(), options::tag(&tag.as_borrowed())?);
        let stored = self.tier.as_ref().map(|tier| tier.evict_tag(py, &tag)).transpose()?;
        let removed = self.remove_tagged(py, &tag)?;
        Ok(stored.unwrap_or(removed))
    }

    /// The tags of an entry, as a tuple; empty where the key is absent. Counts as no access.
    ///
    /// Raises:
    ///     TypeError: where the key is not hashable.
    ///
    /// O(1) beside the tags.
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache()
    /// >>> cache.put("page", "<html>", tags=("user:1",))
    /// >>> cache.tags("page")
    /// ('user:1',)
    fn tags<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
        let tags = self.find_live(key.as_borrowed(), |engine, slot| engine.tags(slot))?.unwrap_or_default();
        PyTuple::new(key.py(), tags.iter().map(|tag| &**tag))
    }

    /// Remove what has expired now; how many entries that were.
    ///
    /// There is seldom a need for it: an expired entry is never returned, and calls that store or
    /// count remove expired entries by themselves, at most every `scan_interval` seconds.
    ///
    /// O(1) for each entry that has expired.
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache(scan_interval=3600)
    /// >>> cache.put("a", 1, ttl=0)
    /// >>> cache.scan(), cache.items
    /// (1, 0)
    fn scan(&self, py: Python<'_>) -> PyResult<usize> {
        self.last_scan.store(SystemClock.now(), Ordering::Relaxed);
        self.remove_expired(py)
    }

    /// Change the limits; what no longer fits is evicted before the call returns.
    ///
    /// Args:
    ///     max_items: the largest number of entries, 0 for no limit; None leaves it as it is.
    ///     max_bytes: the largest sum of sizes, 0 for no limit; None leaves it as it is.
    ///
    /// Raises:
    ///     TypeError, ValueError: where a limit is no integer, or negative.
    ///
    /// O(n).
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache(max_items=3)
    /// >>> cache.set_many({"a": 1, "b": 2, "c": 3})
    /// >>> cache.resize(max_items=1)
    /// >>> list(cache)
    /// ['c']
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
        self.set_limits(py, limits)
    }

    /// A cache with the same configuration and the same keys and values, in the same order of
    /// eviction, with the same time left to live. Its statistics begin anew.
    ///
    /// Values with hooks are then in two caches and will be closed by each. Pickling does the same,
    /// but divides keys among shards anew, where those of a full shard may not find room.
    ///
    /// O(n).
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

    /// The number of entries; the same as `len(cache)`. O(1), and O(1) more for each entry that
    /// has expired.
    #[getter]
    fn items(&self, py: Python<'_>) -> PyResult<usize> {
        self.__len__(py)
    }

    /// The sum of the sizes of all entries: of 1 each, or what `item_size` said. O(1), and O(1)
    /// more for each entry that has expired.
    #[getter]
    fn bytes(&self, py: Python<'_>) -> PyResult<u128> {
        self.scan_if_due(py)?;
        self.sum(py, |engine| u128::from(engine.weight()))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.scan_if_due(py)?;
        self.sum(py, Engine::len)
    }

    fn __iter__(this: &Bound<'_, Self>) -> PyResult<CacheIterator> {
        CacheIterator::new(this, What::Keys)
    }

    /// A view of the keys, the next victim first. O(1); iterating is O(n) and survives changes.
    fn keys(this: &Bound<'_, Self>) -> CacheView {
        CacheView::new(this, What::Keys)
    }

    /// A view of the values, in the order of :meth:`keys`. O(1).
    fn values(this: &Bound<'_, Self>) -> CacheView {
        CacheView::new(this, What::Values)
    }

    /// A view of the pairs of key and value, in the order of :meth:`keys`. O(1).
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache("lru")
    /// >>> cache["a"], cache["b"] = 1, 2
    /// >>> _ = cache["a"]
    /// >>> list(cache.entries())
    /// [('b', 2), ('a', 1)]
    fn entries(this: &Bound<'_, Self>) -> CacheView {
        CacheView::new(this, What::Entries)
    }

    /// What the cache has counted so far, as a :class:`CacheStats`. O(1).
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache()
    /// >>> cache["a"] = 1
    /// >>> _ = cache.get("a"), cache.get("b")
    /// >>> cache.stats().hits, cache.stats().hit_ratio
    /// (1, 0.5)
    fn stats(&self, py: Python<'_>) -> PyResult<CacheStats> {
        self.counted(py)
    }

    /// Start counting anew. O(1).
    fn reset_stats(&self, py: Python<'_>) -> PyResult<()> {
        for shard in self.shards.iter() {
            shard.with(py, Engine::reset_stats)?;
        }
        self.farewell.hook_errors.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Remove every entry, close the values, and wait for what `aclose` hooks were handed to the
    /// background thread. Leaving a `with` block does the same.
    ///
    /// In a thread whose event loop runs, `aclose` hooks are scheduled there and not waited for:
    /// use `async with`, or await :meth:`aclose`. The cache may be used again afterwards. O(n).
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let emptied = self.empty(py, Cause::Closed);
        if let Some(recorder) = &self.recorder {
            recorder.finish(py);
        }
        self.farewell.closing.wait(py)?;
        emptied
    }

    /// Like :meth:`close`, but awaitable: done when the `aclose` hooks that were scheduled on the
    /// running event loop have finished. Leaving an `async with` block does the same.
    fn aclose<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.empty(py, Cause::Closed)?;
        if let Some(recorder) = &self.recorder {
            recorder.finish(py);
        }
        self.farewell.closing.gather(py)
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

    /// The name of the policy, or the policy object that was given.
    #[getter]
    fn eviction_policy(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.own_policy(py)? {
            Some(policy) => Ok(policy),
            None => Ok(self.options.policy.as_str().into_pyobject(py)?.into_any().unbind()),
        }
    }

    /// The largest number of entries, 0 for no limit.
    #[getter]
    fn max_items(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.limits(py)?.items.map_or(0, NonZeroU64::get))
    }

    /// The largest sum of sizes, 0 for no limit.
    #[getter]
    fn max_bytes(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.limits(py)?.weight.map_or(0, NonZeroU64::get))
    }

    /// The name that the cache was given, or None.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.options.name.as_deref()
    }

    /// The store that the cache is in front of, or None.
    #[getter]
    fn store(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.tier.as_ref().map(|tier| tier.given.clone_ref(py))
    }

    fn __repr__(this: &Bound<'_, Self>) -> PyResult<String> {
        let py = this.py();
        let cache = this.get();
        let limits = cache.limits(py)?;
        let mut text = this.get_type().name()?.to_string();
        text.push('(');
        if let Some(name) = &cache.options.name {
            text += &format!("name={}, ", PyString::new(py, name).repr()?);
        }
        match cache.own_policy(py)? {
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

    /// Call a function with what happens in the cache, until it is removed by unlisten().
    ///
    /// Args:
    ///     listener: called as listener(event, key, value) after each event, in the thread that
    ///         caused it; the value of a miss is None. What it raises is logged and counted.
    ///     *events: "hit", "miss", "insert", "update", "evict", "expire", "remove" (by a call) and
    ///         "load" (computed by get_or_set() or a memoized function); none for all of them.
    ///
    /// Raises:
    ///     TypeError, ValueError: for what is not callable, or no event.
    ///
    /// While there is a listener, lookups and writes take a longer way. O(1).
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache(max_items=1)
    /// >>> cache.listen(print, "miss", "evict")
    /// >>> cache.get("a")
    /// miss a None
    /// >>> cache["a"], cache["b"] = 1, 2
    /// evict a 1
    #[pyo3(signature = (listener, *events))]
    fn listen(&self, listener: &Bound<'_, PyAny>, events: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.add_listener(listener, events)
    }

    /// Remove a listener that listen() added; whether it was there. O(listeners).
    fn unlisten(&self, listener: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.remove_listener(listener)
    }

    /// A value was computed.
    fn _loaded(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) {
        if self.farewell.observers.want(Event::Load) {
            self.farewell.tell_of(key.py(), Event::Load, key, value);
        }
    }

    /// The computations in progress, by key.
    #[getter]
    fn _flights(&self, py: Python<'_>) -> Py<PyDict> {
        self.flights.get_or_init(py, || PyDict::new(py).unbind()).clone_ref(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs this in a thread that is attached; the token is used for
        // nothing but to take the locks, which visiting needs.
        let py = unsafe { Python::assume_attached() };
        for shard in self.shards.iter() {
            // A store that is in use is skipped: what it holds just stays alive until next time.
            shard.try_with(py, |engine| engine.visit(|object| visit.call(object))).unwrap_or(Ok(()))?;
        }
        self.policy.try_with(py, |policy| visit.call(&*policy)).unwrap_or(Ok(()))?;
        self.flights.get(py).map_or(Ok(()), |flights| visit.call(flights))?;
        self.tier.as_ref().map_or(Ok(()), |tier| tier.traverse(&visit))?;
        self.farewell.traverse(py, &visit)
    }

    fn __clear__(&self, py: Python<'_>) {
        self.drop_contents(py);
        self.farewell.clear(py);
        drop(self.policy.with(py, Option::take));
    }
}

/// The type object, for those who change its slots.
pub(crate) fn type_of(py: Python<'_>) -> Bound<'_, PyType> {
    py.get_type::<FlexCache>()
}
