//! `SharedSegment`: the calls of `flexcache_rs.shared.SharedCache` that reach the shared memory.
//!
//! A call first tries a stripe's lock while it is attached to Python. If the lock is not free, the call detaches, waits, does
//! all of its work, unlocks, and only then attaches again. So no thread ever waits for the GIL while it holds a
//! stripe's lock. Keys and values are encoded before, and objects are made afterwards.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use flexcache_shared::{Entry, Error, Key, Location, Options, Patience, SharedCache, Tag};
use pyo3::exceptions::{PyKeyError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyDict, PyList, PyTuple};

use super::arguments::deadline;
use super::counts::Counts;
use super::decode::RawValue;
use super::key::own_kind;
use super::locks::run_if_free;
use super::value::Serializer;
use super::waiting::{goes_on, wait_at, wait_for};
use super::{errors, key, value};
use crate::py::object::did_you_mean;
use crate::py::object::duration::{Ttl, interval, ttl};
use crate::py::object::tags;

/// An open cache.
pub(super) struct Opened {
    pub(super) cache: SharedCache,
    pub(super) default_ttl: Ttl,
    pub(super) serializer: Serializer,
    pub(super) counts: Counts,
}

/// The base class of `flexcache_rs.shared.SharedCache`.
#[pyclass(frozen, subclass, weakref, module = "flexcache_rs._core")]
pub(crate) struct SharedSegment {
    /// Mapped until the object is gone, so that no call can outlive it.
    opened: OnceLock<Arc<Opened>>,
    is_closed: AtomicBool,
}

impl SharedSegment {
    /// One that is not open yet.
    pub(super) fn unopened() -> Self {
        Self { opened: OnceLock::new(), is_closed: AtomicBool::new(false) }
    }

    #[inline]
    pub(super) fn opened(&self) -> PyResult<&Arc<Opened>> {
        match self.opened.get() {
            Some(opened) if !self.is_closed.load(Ordering::Relaxed) => Ok(opened),
            found => Err(not_open(found.is_some())),
        }
    }
}

#[cold]
fn not_open(is_closed: bool) -> PyErr {
    if is_closed {
        PyValueError::new_err("the cache is closed")
    } else {
        PyRuntimeError::new_err("the cache is not open: __init__ has not run")
    }
}

/// Calls the cache, and again without the GIL if it would have to wait.
pub(super) fn run<R: Send>(
    py: Python<'_>,
    opened: &Opened,
    call: impl Fn(&SharedCache, Patience) -> Result<R, Error> + Send + Sync,
) -> PyResult<R> {
    match call(&opened.cache, Patience::Try) {
        Err(Error::Busy) => wait_at(py, &opened.serializer.path, || call(&opened.cache, Patience::Wait)),
        result => result.map_err(|error| errors::raised_in(py, error, &opened.serializer.path)),
    }
}

/// Removes and returns a value. Its object is made before the removal, so that a value which cannot be read
/// stays.
pub(super) fn pop<'py>(
    py: Python<'py>,
    opened: &Opened,
    key: Key<'_>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match pop_if_free(py, opened, key, true)? {
        Popped::Value(value) => Ok(Some(value)),
        Popped::Nothing | Popped::WouldWait => Ok(None),
    }
}

/// The outcome of a removal.
enum Popped<'py> {
    Value(Bound<'py, PyAny>),
    Nothing,
    /// The call would have to wait for another process, and may not.
    WouldWait,
}

fn pop_if_free<'py>(py: Python<'py>, opened: &Opened, key: Key<'_>, may_wait: bool) -> PyResult<Popped<'py>> {
    let get = |cache: &SharedCache, patience| cache.get(key, patience, RawValue::copy);
    let Some(seen) = run_if_free(py, opened, may_wait, get)? else { return Ok(Popped::WouldWait) };
    let object = seen.clone().map(|seen| seen.into_object(py, &opened.serializer)).transpose()?;
    // Also if there was no value: a running computation of the key must not be stored after this.
    let pop = |cache: &SharedCache, patience| cache.pop(key, patience, RawValue::copy);
    let Some(taken) = run_if_free(py, opened, may_wait, pop)? else { return Ok(Popped::WouldWait) };
    Ok(match (taken, object) {
        (None, _) => Popped::Nothing,
        (taken, Some(object)) if taken == seen => Popped::Value(object),
        // The key was written again in between.
        (Some(other), _) => Popped::Value(other.into_object(py, &opened.serializer)?),
    })
}

#[pymethods]
impl SharedSegment {
    /// Opens a cache by its name or its path; a temporary one if there is none.
    #[pyo3(signature = (place, is_path, max_bytes, expected_item, max_item, default_ttl, lock_timeout, resize, create, serializer))]
    #[expect(clippy::too_many_arguments, reason = "they are the class's")]
    fn _open(
        &self,
        py: Python<'_>,
        place: Option<PathBuf>,
        is_path: bool,
        max_bytes: usize,
        expected_item: usize,
        max_item: Option<usize>,
        default_ttl: Option<&Bound<'_, PyAny>>,
        lock_timeout: &Bound<'_, PyAny>,
        resize: bool,
        create: bool,
        serializer: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let default_ttl = match default_ttl {
            Some(given) => ttl("default_ttl", given.as_borrowed())?,
            None => Ttl::Never,
        };
        let lock_timeout = Duration::from_nanos(interval("lock_timeout", lock_timeout)?);
        let location = match place {
            None => Location::Temporary,
            Some(path) if is_path => Location::Path(path),
            Some(name) => Location::Name(name.to_string_lossy().into_owned()),
        };
        let options = Options {
            max_bytes,
            expected_item,
            max_item,
            lock_timeout,
            resize,
            create,
            goes_on,
            ..Options::default()
        };
        let cache = wait_for(py, || SharedCache::open(&location, options))?;
        let serializer = Serializer { given: serializer, path: cache.path() };
        let opened = Opened { cache, default_ttl, serializer, counts: Counts::default() };
        let Err(second) = self.opened.set(Arc::new(opened)) else { return Ok(()) };
        drop(second);
        Err(PyRuntimeError::new_err("the cache is open already: __init__ has run"))
    }

    /// Close the cache in this process. Its entries stay for other processes. Later calls raise `ValueError`. A temporary cache is
    /// removed if no other process has it open.
    ///
    /// The memory stays mapped as long as this object is alive, so that no call in another thread can outlive it.
    ///
    /// >>> from flexcache_rs.shared import SharedCache
    /// >>> cache = SharedCache("example-close", max_bytes=1 << 20)
    /// >>> cache.close()
    /// >>> cache.get("key")
    /// Traceback (most recent call last):
    /// ValueError: the cache is closed
    /// >>> with SharedCache("example-close") as cache:
    /// ...     cache.unlink()
    /// True
    fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        if let Some(opened) = self.opened.get() {
            opened.counts.add_to(&opened.cache);
            opened.cache.leave();
        }
    }

    /// The directory of this user's caches that have a name.
    #[staticmethod]
    fn _directory() -> PathBuf {
        flexcache_shared::directory_of_names()
    }

    /// Removes the temporary caches of this user that no process has open any more. How many.
    #[staticmethod]
    fn _remove_left(py: Python<'_>) -> PyResult<usize> {
        wait_for(py, flexcache_shared::remove_left)
    }

    /// Removes a file of the directory of caches that have a name, if no process has it open. Whether it did.
    #[staticmethod]
    fn _remove_unused(py: Python<'_>, file: OsString) -> PyResult<bool> {
        wait_for(py, || flexcache_shared::remove_unused(&file))
    }

    /// Remove the cache and all its entries, for all processes. The next call of a process that has it open
    /// starts a new, empty cache. The memory is freed when all processes have closed the old one.
    ///
    /// Returns:
    ///     True, or False if it had been removed or replaced before.
    ///
    /// >>> from flexcache_rs.shared import SharedCache
    /// >>> cache = SharedCache("example-unlink", max_bytes=1 << 20)
    /// >>> cache.unlink(), cache.unlink()
    /// (True, False)
    fn unlink(&self, py: Python<'_>) -> PyResult<bool> {
        let opened = self.opened()?;
        wait_for(py, || opened.cache.unlink())
    }

    /// Whether the cache is closed in this process.
    #[getter]
    fn closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// The path of the file of the cache.
    #[getter]
    fn path(&self) -> PyResult<PathBuf> {
        Ok(self.opened()?.cache.path())
    }

    /// Store a value only if the key has none. If several processes do this, exactly one succeeds.
    ///
    /// Returns:
    ///     True if it was stored.
    ///
    /// Raises:
    ///     TooLargeError, TimeoutError, TypeError: As for `put`.
    ///
    /// >>> from flexcache_rs.shared import SharedCache
    /// >>> with SharedCache("example-add", max_bytes=1 << 20) as cache:
    /// ...     print(cache.add("leader", 1), cache.add("leader", 2), cache["leader"])
    /// ...     _ = cache.unlink()
    /// True False 1
    #[pyo3(signature = (key, value, ttl=None, tags=None, **unknown), text_signature = "($self, key, value, ttl=None, tags=None)")]
    fn add(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
        tags: Option<&Bound<'_, PyAny>>,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<bool> {
        did_you_mean::refuse("add", unknown, &["key", "value", "ttl", "tags"])?;
        let (ttl, tags) = (ttl.map(Bound::as_borrowed), tags.map(Bound::as_borrowed));
        self.store(py, key.as_borrowed(), value.as_borrowed(), ttl, tags, |cache, key, entry, patience| {
            Ok(cache.add(key, entry, patience)?.result)
        })
    }

    /// Remove a key.
    ///
    /// Returns:
    ///     True if it had a value.
    ///
    /// Raises:
    ///     TimeoutError: The lock was not free within `lock_timeout`. The value may still be there.
    ///     TypeError: The key is of another type.
    ///
    /// O(1).
    ///
    /// >>> from flexcache_rs.shared import SharedCache
    /// >>> with SharedCache("example-delete", max_bytes=1 << 20) as cache:
    /// ...     cache["a"] = 1
    /// ...     print(cache.delete("a"), cache.delete("a"))
    /// ...     _ = cache.unlink()
    /// True False
    #[pyo3(signature = (key, **unknown), text_signature = "($self, key)")]
    pub(super) fn delete(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<bool> {
        did_you_mean::refuse("delete", unknown, &["key"])?;
        let encoded = key::encode(key)?;
        run(py, self.opened()?, |cache, patience| Ok(cache.delete(encoded.as_key(), patience)?.result))
    }

    /// Remove a key and return its value. Of several processes exactly one gets it.
    ///
    /// Returns:
    ///     The value, or None if there is none: `pop` of the class raises `KeyError` then.
    fn _pop<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Option<(Bound<'py, PyAny>,)>> {
        let opened = self.opened()?;
        let encoded = key::encode(key)?;
        Ok(pop(py, opened, encoded.as_key())?.map(|value| (value,)))
    }

    /// The same for an event loop: `(value,)`, `()` if there is none, None if another process is writing.
    fn _pop_at_once<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let encoded = key::encode(key)?;
        match pop_if_free(py, self.opened()?, encoded.as_key(), false)? {
            Popped::Value(value) => PyTuple::new(py, [value]).map(Some),
            Popped::Nothing => Ok(Some(PyTuple::empty(py))),
            Popped::WouldWait => Ok(None),
        }
    }

    /// Give the value of a key another time to live.
    ///
    /// Args:
    ///     key: The key.
    ///     ttl: As for `put`, from now, but None (the default) means that the entry does not expire.
    ///
    /// Returns:
    ///     True if there was a value.
    ///
    /// Raises:
    ///     TimeoutError, TypeError: As for `put`.
    ///
    /// O(1).
    ///
    /// >>> from flexcache_rs.shared import SharedCache
    /// >>> with SharedCache("example-touch", max_bytes=1 << 20, default_ttl=60) as cache:
    /// ...     cache["a"] = 1
    /// ...     print(cache.touch("a", None), cache.ttl("a"))
    /// ...     _ = cache.unlink()
    /// True None
    #[pyo3(signature = (key, ttl=None, **unknown), text_signature = "($self, key, ttl=None)")]
    fn touch(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<bool> {
        did_you_mean::refuse("touch", unknown, &["key", "ttl"])?;
        let opened = self.opened()?;
        let encoded = key::encode(key)?;
        let deadline = deadline(ttl.map(Bound::as_borrowed), Ttl::Never)?;
        run(py, opened, |cache, patience| Ok(cache.touch(encoded.as_key(), deadline, patience)?.result))
    }

    /// Return the seconds that a key has left.
    ///
    /// Returns:
    ///     The seconds, or None if the key never expires.
    ///
    /// Raises:
    ///     KeyError: The key has no value.
    ///     TypeError: The key is of another type.
    ///
    /// O(1).
    ///
    /// >>> from flexcache_rs.shared import SharedCache
    /// >>> with SharedCache("example-ttl", max_bytes=1 << 20) as cache:
    /// ...     cache.put("a", 1, ttl=60)
    /// ...     print(59 < cache.ttl("a") <= 60)
    /// ...     _ = cache.unlink()
    /// True
    #[pyo3(signature = (key, **unknown), text_signature = "($self, key)")]
    fn ttl(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Option<f64>> {
        did_you_mean::refuse("ttl", unknown, &["key"])?;
        let encoded = key::encode(key)?;
        let found = run(py, self.opened()?, |cache, patience| {
            cache.get_version(encoded.as_key(), patience, |_| Ok(()))
        })?;
        match found {
            None => Err(PyKeyError::new_err(key.clone().unbind())),
            Some(((), 0, _)) => Ok(None),
            Some(((), deadline, _)) => {
                let left = deadline.saturating_sub(flexcache_shared::now());
                Ok(Some(Duration::from_nanos(left).as_secs_f64()))
            }
        }
    }

    /// Remove every entry with a tag.
    ///
    /// A tag is stored as one of 4,096 numbers, so an entry with another tag is now and then removed too. The
    /// call checks every entry without a lock, to count them.
    ///
    /// Returns:
    ///     The number of entries. Of several concurrent calls, one counts each entry.
    ///
    /// Raises:
    ///     TimeoutError: Another process did not release a lock within `lock_timeout`. Nothing was changed.
    ///
    /// >>> from flexcache_rs.shared import SharedCache
    /// >>> with SharedCache("example-tags", max_bytes=1 << 20) as cache:
    /// ...     cache.put("a", 1, tags=("user:1",))
    /// ...     print(cache.evict_tag("user:1"), "a" in cache)
    /// ...     _ = cache.unlink()
    /// 1 False
    #[pyo3(signature = (tag, **unknown), text_signature = "($self, tag)")]
    fn evict_tag(
        &self,
        py: Python<'_>,
        tag: &Bound<'_, PyAny>,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<u64> {
        did_you_mean::refuse("evict_tag", unknown, &["tag"])?;
        let tag = tags::tag(&tag.as_borrowed())?;
        self.opened()?.evict_tag(py, &tag)
    }

    /// Remove everything. Returns the number of entries.
    ///
    /// Raises:
    ///     TimeoutError: A part of the cache was not free within `lock_timeout`. The rest was emptied.
    ///
    /// O(n).
    ///
    /// >>> from flexcache_rs.shared import SharedCache
    /// >>> with SharedCache("example-clear", max_bytes=1 << 20) as cache:
    /// ...     cache["a"] = 1
    /// ...     print(cache.clear(), len(cache))
    /// ...     _ = cache.unlink()
    /// 1 0
    fn clear(&self, py: Python<'_>) -> PyResult<u64> {
        let opened = self.opened()?;
        // This takes some hundred microseconds for each stripe, so it runs detached.
        wait_at(py, &opened.serializer.path, || opened.cache.clear(Patience::Wait))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        let opened = self.opened()?;
        Ok(usize::try_from(py.detach(|| opened.cache.len()))?)
    }

    /// The keys of all values, each copied at a slightly different moment. A key that is there all the time occurs once.
    fn _keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let opened = self.opened()?;
        let copied = wait_at(py, &opened.serializer.path, || {
            let mut copied: Vec<(u8, Vec<u8>)> = Vec::new();
            let mut is_full = false;
            opened.cache.keys(Patience::Wait, |kind, bytes| {
                if kind >= own_kind::FIRST {
                    return;
                }
                let mut key = Vec::new();
                if copied.try_reserve(1).is_err() || key.try_reserve_exact(bytes.len()).is_err() {
                    is_full = true;
                    return;
                }
                key.extend_from_slice(bytes);
                copied.push((kind, key));
            })?;
            if is_full { Err(Error::OutOfMemory) } else { Ok(copied) }
        })?;
        let keys = PyList::empty(py);
        for (kind, bytes) in copied {
            let key = key::decode(py, kind, &bytes);
            keys.append(key.map_err(|error| errors::unreadable(py, error, &opened.serializer.path))?)?;
        }
        Ok(keys)
    }

    /// Adds to the int of a key, and returns the sum; None if there is no value.
    fn _incr_present(&self, py: Python<'_>, key: &Bound<'_, PyAny>, by: i64) -> PyResult<Option<i64>> {
        let encoded = key::encode(key)?;
        run(py, self.opened()?, |cache, patience| {
            Ok(cache.increment_present(encoded.as_key(), by, patience)?.result)
        })
    }

    /// Sums by name.
    fn _stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let opened = self.opened()?;
        opened.counts.add_to(&opened.cache);
        let stats = py.detach(|| opened.cache.stats());
        let sums = PyDict::new(py);
        for (name, value) in [
            ("hits", stats.hits),
            ("misses", stats.misses),
            ("entries", stats.entries),
            ("bytes", stats.bytes),
            ("live_bytes", stats.live_bytes),
            ("capacity", stats.capacity),
            ("largest_item", stats.largest_item),
            ("evicted", stats.evicted),
            ("crowded", stats.crowded),
            ("forced", stats.forced),
            ("resets", stats.resets),
            ("damaged", stats.damaged),
        ] {
            sums.set_item(name, value)?;
        }
        Ok(sums)
    }

    /// Recounts the cache, for tests.
    fn _check(&self, py: Python<'_>) -> PyResult<()> {
        let opened = self.opened()?;
        py.detach(|| opened.cache.check()).map_err(PyRuntimeError::new_err)
    }

    /// Stores entries, one after the other. All are encoded before the first is stored: one that cannot be changes nothing.
    fn _put_many(
        &self,
        py: Python<'_>,
        entries: Vec<(Bound<'_, PyAny>, Bound<'_, PyAny>)>,
        ttl: Option<&Bound<'_, PyAny>>,
        tags: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let opened = self.opened()?;
        let tags = opened.tags(py, &tags::tags(tags.map(Bound::as_borrowed))?)?;
        let encoded = entries
            .iter()
            .map(|(key, value)| Ok((key::encode(key)?, value::encode(value, &opened.serializer)?)))
            .collect::<PyResult<Vec<_>>>()?;
        let deadline = deadline(ttl.map(Bound::as_borrowed), opened.default_ttl)?;
        for (key, value) in &encoded {
            let entry = Entry { kind: value.kind, value: &value.bytes, deadline, tags: &tags };
            run(py, opened, |cache, patience| cache.put(key.as_key(), &entry, patience))?;
        }
        Ok(())
    }

    /// Removes keys, one after the other, as `_put_many` stores them. Returns how many had a value.
    fn _delete_many(&self, py: Python<'_>, keys: Vec<Bound<'_, PyAny>>) -> PyResult<usize> {
        let opened = self.opened()?;
        let encoded = keys.iter().map(key::encode).collect::<PyResult<Vec<_>>>()?;
        let mut removed = 0;
        for key in &encoded {
            let delete = |cache: &SharedCache, patience| Ok(cache.delete(key.as_key(), patience)?.result);
            removed += usize::from(run(py, opened, delete)?);
        }
        Ok(removed)
    }
}

impl SharedSegment {
    /// Stores or replaces a value.
    pub(super) fn put(
        &self,
        py: Python<'_>,
        key: Borrowed<'_, '_, PyAny>,
        value: Borrowed<'_, '_, PyAny>,
        ttl: Option<Borrowed<'_, '_, PyAny>>,
        tags: Option<Borrowed<'_, '_, PyAny>>,
    ) -> PyResult<()> {
        self.store(py, key, value, ttl, tags, |cache, key, entry, patience| {
            Ok(cache.put(key, entry, patience)?.result)
        })?;
        Ok(())
    }

    pub(super) fn store(
        &self,
        py: Python<'_>,
        key: Borrowed<'_, '_, PyAny>,
        value: Borrowed<'_, '_, PyAny>,
        ttl: Option<Borrowed<'_, '_, PyAny>>,
        tags: Option<Borrowed<'_, '_, PyAny>>,
        call: impl Fn(&SharedCache, Key<'_>, &Entry<'_>, Patience) -> Result<bool, Error> + Send + Sync,
    ) -> PyResult<bool> {
        let opened = self.opened()?;
        // The tags are read before the value is encoded, so that an eviction meanwhile affects it.
        let tags = opened.tags(py, &tags::tags(tags)?)?;
        // Encoding may run Python code, so it comes before everything else.
        let encoded = value::encode(&value, &opened.serializer)?;
        let key = key::encode(&key)?;
        let deadline = deadline(ttl, opened.default_ttl)?;
        let entry = Entry { kind: encoded.kind, value: &encoded.bytes, deadline, tags: &tags };
        run(py, opened, |cache, patience| call(cache, key.as_key(), &entry, patience))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.counts.add_to(&self.cache);
    }
}

impl Opened {
    /// The tags with their current versions.
    pub(super) fn tags(&self, py: Python<'_>, tags: &[PyBackedStr]) -> PyResult<Vec<Tag>> {
        tags.iter().map(|tag| run(py, self, |cache, patience| cache.tag(tag.as_bytes(), patience))).collect()
    }

    /// Removes the entries with a tag. Returns their number.
    pub(super) fn evict_tag(&self, py: Python<'_>, tag: &str) -> PyResult<u64> {
        // This scans every entry, so it runs detached.
        wait_at(py, &self.serializer.path, || self.cache.evict_tag(tag.as_bytes(), Patience::Wait))
    }
}
