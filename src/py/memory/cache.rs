//! `FlexCache` as Python sees it: its methods and their docstrings. Each method calls one step in another
//! file.
//!
//! The fields of the cache are in `state`. `lookup` finds keys without running Python code under a lock. The
//! calls that must be fast enter through `fast`.

use std::num::NonZeroU64;

use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use super::constructor;
use super::entries::missing;
use super::options::{OptionalArgument, OrRaise};
use super::state::FlexCache;
use super::stats::CacheStats;
use super::terms::IfPresent;
use super::views::{CacheIterator, CacheView, What};
use super::{fast, mapping, pickle, repr};
use crate::py::object::did_you_mean;

#[pymethods]
impl FlexCache {
    #[new]
    #[classmethod]
    #[pyo3(signature = (*args, **options),
        text_signature = "(eviction_policy='lru', scan_interval=0.0, max_items=0, max_bytes=0, *, default_ttl=None, thread_safe=True, shards=1, background_expiry=False, on_evict=None, weigher=None, clock=None, close_values=True, store=None, coherence='strict', lease=30.0, lease_wait=30.0, negative_ttl=None, name=None, record=None, record_limit=10000000, optimize='hits')")]
    fn new(
        class: &Bound<'_, PyType>,
        args: &Bound<'_, PyTuple>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        fast::finalize_instances_of(class);
        fast::hurry_instances_of(class);
        constructor::make(class, args, options)
    }

    /// Configures a cache whose class has an `__init__` of its own, and makes a name known.
    #[pyo3(signature = (*args, **options))]
    fn __init__(
        this: &Bound<'_, Self>,
        args: &Bound<'_, PyTuple>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        constructor::initialize(this, args, options)
    }

    // `get`, `put`, `set`, `[]`, `[]=` and `in` enter through `fast`: the methods are put on the
    // class there, and the slots here are replaced.

    /// Return the value of `key`, or raise KeyError if it is absent. Counts as an access. O(1).
    fn __getitem__(this: &Bound<'_, Self>, key: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let hash = this.get().hash(key.as_borrowed())?;
        match this.get().read(key.as_borrowed(), hash)? {
            Some(value) => Ok(value),
            None => mapping::missing_item(this, key),
        }
    }

    fn __setitem__(this: &Bound<'_, Self>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if this.get().stores_in_python() {
            return mapping::store_item(this, key, value);
        }
        if this.get().chooses_in_python() {
            mapping::make_room(this, key)?;
        }
        let (key, value) = (key.as_borrowed(), value.as_borrowed());
        Self::write(&this.as_borrowed(), key, value, None, None, IfPresent::Replace).map(drop)
    }

    fn __delitem__(this: &Bound<'_, Self>, key: &Bound<'_, PyAny>) -> PyResult<()> {
        if this.get().stores_in_python() {
            mapping::remove_item(this, key)
        } else {
            this.get().remove_or_raise(key)
        }
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.has(key.as_borrowed())
    }

    /// Store a value only if the key is absent. Returns True if it was stored.
    ///
    /// Args:
    ///     key: Any hashable object.
    ///     value: Any object.
    ///     ttl: The time to live, as for :meth:`put`.
    ///     tags: The tags of the entry for :meth:`evict_tag`.
    ///
    /// Raises:
    ///     TypeError, ValueError, OverflowError: As for :meth:`put`.
    ///
    /// O(1).
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache()
    /// >>> cache.add("a", 1), cache.add("a", 2), cache["a"]
    /// (True, False, 1)
    #[pyo3(signature = (key, value, ttl=None, *, tags=None, **unknown),
        text_signature = "($self, key, value, ttl=None, *, tags=None)")]
    fn add(
        this: &Bound<'_, Self>,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
        tags: Option<&Bound<'_, PyAny>>,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<bool> {
        did_you_mean::refuse("add", unknown, &["key", "value", "ttl", "tags"])?;
        let (key, value) = (key.as_borrowed(), value.as_borrowed());
        let (ttl, tags) = (ttl.map(Bound::as_borrowed), tags.map(Bound::as_borrowed));
        Self::write(&this.as_borrowed(), key, value, ttl, tags, IfPresent::Keep)
    }

    /// The same as :meth:`get`, but it does not count as an access. It does not change the order of eviction
    /// and the statistics. O(1).
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache(max_items=2)
    /// >>> cache["a"], cache["b"] = 1, 2
    /// >>> cache.peek("a"), cache.peek("c", 0), next(iter(cache))
    /// (1, 0, 'a')
    #[pyo3(signature = (key, default=None, **unknown), text_signature = "($self, key, default=None)")]
    fn peek(
        &self,
        key: &Bound<'_, PyAny>,
        default: Option<Py<PyAny>>,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        did_you_mean::refuse("peek", unknown, &["key", "default"])?;
        Ok(self.peek_at(key.as_borrowed())?.or(default))
    }

    /// Remove an entry and close its value. Returns True if it was present. O(1).
    ///
    /// Raises:
    ///     TypeError: The key is not hashable.
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache()
    /// >>> cache["a"] = 1
    /// >>> cache.delete("a"), cache.delete("a")
    /// (True, False)
    #[pyo3(signature = (key, **unknown), text_signature = "($self, key)")]
    fn delete(&self, key: &Bound<'_, PyAny>, unknown: Option<&Bound<'_, PyDict>>) -> PyResult<bool> {
        did_you_mean::refuse("delete", unknown, &["key"])?;
        self.remove(key.as_borrowed())
    }

    /// Remove an entry and return its value. The value is not closed, because it then belongs to the caller.
    ///
    /// Raises:
    ///     KeyError: The key is absent, and no default was given.
    ///
    /// O(1).
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache()
    /// >>> cache["a"] = 1
    /// >>> cache.pop("a"), cache.pop("a", None)
    /// (1, None)
    #[pyo3(signature = (key, default=OrRaise::Raise, **unknown), text_signature = "($self, key, default=...)")]
    fn pop(
        &self,
        key: &Bound<'_, PyAny>,
        default: OrRaise,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        did_you_mean::refuse("pop", unknown, &["key", "default"])?;
        match (self.remove_and_return(key.as_borrowed())?, default) {
            (Some(value), _) => Ok(value),
            (None, OrRaise::Default(default)) => Ok(default),
            (None, OrRaise::Raise) => Err(missing(key)),
        }
    }

    /// Remove the next victim and return its key and value. The value is not closed.
    ///
    /// With shards, it is the next victim of the fullest shard.
    ///
    /// Raises:
    ///     KeyError: The cache is empty.
    ///
    /// O(1), and O(1) more for each entry that has expired.
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache("lru")
    /// >>> cache["a"], cache["b"] = 1, 2
    /// >>> cache.popitem()
    /// ('a', 1)
    fn popitem(&self, py: Python<'_>) -> PyResult<(Py<PyAny>, Py<PyAny>)> {
        self.remove_victim(py)
    }

    /// Remove every entry and close the values. O(n), but other threads can use the cache again at once.
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache()
    /// >>> cache["a"] = 1
    /// >>> cache.clear()
    /// >>> cache.items
    /// 0
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.clear_through(py)
    }

    /// Give an entry another time to live, from now on. Returns True if it was present.
    ///
    /// Args:
    ///     key: Any hashable object.
    ///     ttl: As for :meth:`put`, but None means that the entry does not expire.
    ///
    /// Does not count as an access. O(1).
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache(default_ttl=60)
    /// >>> cache["a"] = 1
    /// >>> cache.touch("a", None), cache.ttl("a")
    /// (True, None)
    #[pyo3(signature = (key, ttl=OptionalArgument::ABSENT, **unknown), text_signature = "($self, key, ttl)")]
    fn touch(
        this: &Bound<'_, Self>,
        key: &Bound<'_, PyAny>,
        ttl: OptionalArgument<'_>,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<bool> {
        did_you_mean::refuse("touch", unknown, &["key", "ttl"])?;
        let Some(ttl) = ttl.0 else {
            return Err(PyTypeError::new_err("touch() missing required argument: 'ttl'"));
        };
        Self::set_ttl(this, key.as_borrowed(), ttl.as_borrowed())
    }

    /// Return the seconds that an entry has left, or None if it does not expire.
    ///
    /// Raises:
    ///     KeyError: The key is absent.
    ///
    /// O(1).
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache()
    /// >>> cache.put("a", 1, ttl=60)
    /// >>> 59 < cache.ttl("a") <= 60
    /// True
    #[pyo3(signature = (key, **unknown), text_signature = "($self, key)")]
    fn ttl(&self, key: &Bound<'_, PyAny>, unknown: Option<&Bound<'_, PyDict>>) -> PyResult<Option<f64>> {
        did_you_mean::refuse("ttl", unknown, &["key"])?;
        self.seconds_left(key)
    }

    /// Store or replace many values.
    ///
    /// Args:
    ///     mapping: A mapping, or an iterable of pairs of key and value.
    ///     ttl: As for :meth:`put`, for all entries.
    ///     tags: As for :meth:`put`, for all entries.
    ///
    /// Raises:
    ///     TypeError, ValueError, OverflowError: As for :meth:`put`. Nothing was stored.
    ///
    /// O(1) for each entry.
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache()
    /// >>> cache.set_many({"a": 1, "b": 2}, ttl=60)
    /// >>> cache.get_many(["a", "b", "c"])
    /// {'a': 1, 'b': 2}
    #[pyo3(signature = (mapping, ttl=None, *, tags=None, **unknown),
        text_signature = "($self, mapping, ttl=None, *, tags=None)")]
    fn set_many(
        this: &Bound<'_, Self>,
        mapping: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
        tags: Option<&Bound<'_, PyAny>>,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        did_you_mean::refuse("set_many", unknown, &["mapping", "ttl", "tags"])?;
        Self::write_many(this, mapping, ttl, tags)
    }

    /// Return a dict with the values of the keys that are present. Counts as an access of each key.
    ///
    /// Raises:
    ///     TypeError: A key is not hashable. Nothing was looked up.
    ///
    /// O(1) for each key.
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache()
    /// >>> cache["a"], cache["b"] = 1, 2
    /// >>> cache.get_many(["b", "c"])
    /// {'b': 2}
    #[pyo3(signature = (keys, **unknown), text_signature = "($self, keys)")]
    fn get_many<'py>(
        &self,
        keys: &Bound<'py, PyAny>,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        did_you_mean::refuse("get_many", unknown, &["keys"])?;
        self.read_many(keys)
    }

    /// Remove the entries of these keys. Returns how many were present.
    ///
    /// Raises:
    ///     TypeError: A key is not hashable. Nothing was removed.
    ///
    /// O(1) for each key.
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache()
    /// >>> cache.set_many({"a": 1, "b": 2})
    /// >>> cache.delete_many(["a", "c"])
    /// 1
    #[pyo3(signature = (keys, **unknown), text_signature = "($self, keys)")]
    fn delete_many(&self, keys: &Bound<'_, PyAny>, unknown: Option<&Bound<'_, PyDict>>) -> PyResult<usize> {
        did_you_mean::refuse("delete_many", unknown, &["keys"])?;
        self.remove_many(keys)
    }

    /// Remove all entries that have a tag, and close their values. Returns how many.
    ///
    /// All of these entries are removed before the first hook runs.
    ///
    /// Args:
    ///     tag: A tag of put(), set() or add().
    ///
    /// Raises:
    ///     TypeError: The tag is no str.
    ///
    /// O(1) for each entry that has the tag.
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache()
    /// >>> cache.put("page", "<html>", tags=("user:1", "site"))
    /// >>> cache.evict_tag("user:1"), "page" in cache, cache.evict_tag("site")
    /// (1, False, 0)
    #[pyo3(signature = (tag, **unknown), text_signature = "($self, tag)")]
    fn evict_tag(&self, tag: &Bound<'_, PyAny>, unknown: Option<&Bound<'_, PyDict>>) -> PyResult<usize> {
        did_you_mean::refuse("evict_tag", unknown, &["tag"])?;
        self.remove_tagged_through(tag)
    }

    /// Return a tuple with the tags of an entry. It is empty if the key is absent. Does not count as an access.
    ///
    /// Raises:
    ///     TypeError: The key is not hashable.
    ///
    /// O(number of tags).
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache()
    /// >>> cache.put("page", "<html>", tags=("user:1",))
    /// >>> cache.tags("page")
    /// ('user:1',)
    #[pyo3(signature = (key, **unknown), text_signature = "($self, key)")]
    fn tags<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        did_you_mean::refuse("tags", unknown, &["key"])?;
        let tags = self.tags_of(key.as_borrowed())?.unwrap_or_default();
        PyTuple::new(key.py(), tags.iter().map(|tag| &**tag))
    }

    /// Remove all expired entries. Returns how many.
    ///
    /// This call is rarely needed. No call returns an expired entry, and calls that store or count remove
    /// expired entries, at most every `scan_interval` seconds.
    ///
    /// O(1) for each entry that has expired.
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache(scan_interval=3600)
    /// >>> cache.put("a", 1, ttl=0)
    /// >>> cache.scan(), cache.items
    /// (1, 0)
    fn scan(&self, py: Python<'_>) -> PyResult<usize> {
        self.scan_now(py)
    }

    /// Change the limits. Entries that no longer fit are evicted before the call returns.
    ///
    /// Args:
    ///     max_items: The largest number of entries, or 0 for no limit. None does not change it.
    ///     max_bytes: The largest sum of sizes, or 0 for no limit. None does not change it.
    ///
    /// Raises:
    ///     TypeError, ValueError: A limit is no integer, or it is negative.
    ///
    /// O(n).
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache(max_items=3)
    /// >>> cache.set_many({"a": 1, "b": 2, "c": 3})
    /// >>> cache.resize(max_items=1)
    /// >>> list(cache)
    /// ['c']
    #[pyo3(signature = (*, max_items=None, max_bytes=None, **unknown),
        text_signature = "($self, *, max_items=None, max_bytes=None)")]
    fn resize(
        &self,
        py: Python<'_>,
        max_items: Option<&Bound<'_, PyAny>>,
        max_bytes: Option<&Bound<'_, PyAny>>,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        did_you_mean::refuse("resize", unknown, &["max_items", "max_bytes"])?;
        self.change_limits(py, max_items, max_bytes)
    }

    /// Return a cache with the same configuration, keys and values, order of eviction and times left to live.
    /// Its statistics start at 0.
    ///
    /// Values with hooks are then in two caches, and each cache closes them. Pickling does the same, but it
    /// divides the keys among the shards again. Keys of a full shard may then find no room.
    ///
    /// O(n).
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache(max_items=10)
    /// >>> cache["a"] = 1
    /// >>> other = cache.copy()
    /// >>> other["a"] = 2
    /// >>> cache["a"], other.max_items
    /// (1, 10)
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

    /// The sum of the sizes of all entries. The size of an entry is the result of `item_size` or of the
    /// weigher, or 1. O(1), and O(1) more for each entry that has expired.
    #[getter]
    fn bytes(&self, py: Python<'_>) -> PyResult<u128> {
        self.scan_if_due(py)?;
        self.sum(py, |store| u128::from(store.weight()))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.scan_if_due(py)?;
        self.sum(py, |store| store.len())
    }

    fn __iter__(this: &Bound<'_, Self>) -> PyResult<CacheIterator> {
        CacheIterator::new(this, What::Keys)
    }

    /// Return a view of the keys, the next victim first. O(1).
    ///
    /// Iterating over the view is O(n), and the cache may change meanwhile.
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache("lru")
    /// >>> cache["a"], cache["b"] = 1, 2
    /// >>> _ = cache["a"]
    /// >>> list(cache.keys())
    /// ['b', 'a']
    fn keys(this: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        CacheView::of(this, What::Keys)
    }

    /// Return a view of the values, in the order of :meth:`keys`. O(1).
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache()
    /// >>> cache["a"], cache["b"] = 1, 2
    /// >>> sum(cache.values())
    /// 3
    fn values(this: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        CacheView::of(this, What::Values)
    }

    /// Return a view of the pairs of key and value, in the order of :meth:`keys`. O(1).
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache("lru")
    /// >>> cache["a"], cache["b"] = 1, 2
    /// >>> _ = cache["a"]
    /// >>> list(cache.entries())
    /// [('b', 2), ('a', 1)]
    fn entries(this: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        CacheView::of(this, What::Entries)
    }

    /// Return the statistics of the cache as a :class:`CacheStats`. O(1).
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

    /// Set the counts of :meth:`stats` to 0. O(1).
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache()
    /// >>> _ = cache.get("a")
    /// >>> cache.reset_stats()
    /// >>> cache.stats().misses
    /// 0
    fn reset_stats(&self, py: Python<'_>) -> PyResult<()> {
        self.count_anew(py)
    }

    /// The name of the policy, or the policy object.
    #[getter]
    fn eviction_policy(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.own_policy(py)? {
            Some(policy) => Ok(policy),
            None => Ok(self.options.policy.as_str().into_pyobject(py)?.into_any().unbind()),
        }
    }

    /// The largest number of entries, or 0 for no limit.
    #[getter]
    fn max_items(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.limits(py)?.items.map_or(0, NonZeroU64::get))
    }

    /// The largest sum of sizes, or 0 for no limit.
    #[getter]
    fn max_bytes(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.limits(py)?.weight.map_or(0, NonZeroU64::get))
    }

    /// The name of the cache, or None.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.options.name.as_deref()
    }

    /// The store behind the cache, or None.
    #[getter]
    fn store(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.tier.as_ref().map(|tier| tier.given.clone_ref(py))
    }

    fn __repr__(this: &Bound<'_, Self>) -> PyResult<String> {
        repr::of(this)
    }

    fn __sizeof__(&self, py: Python<'_>) -> PyResult<usize> {
        let stores = self.sum(py, |store| store.allocated_bytes())? + self.bytes_of_absent(py)?;
        Ok(size_of::<Self>() + self.setups_bytes() + self.shards.allocated_bytes() + stores)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.visit_references(&visit)
    }

    fn __clear__(&self, py: Python<'_>) {
        self.drop_references(py);
    }
}
