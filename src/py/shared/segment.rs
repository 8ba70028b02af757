//! `SharedSegment`: the calls of `flexcache_rs.shared.SharedCache` that reach the shared memory.
//!
//! A call first tries a stripe's lock while it is attached to Python. If the lock is not free, the call detaches, waits, does
//! all of its work, unlocks, and only then attaches again. So no thread ever waits for the GIL while it holds a
//! stripe's lock. Keys and values are encoded before, and objects are made afterwards.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flexcache_shared::{Entry, Error, Key, Location, Options, Patience, SharedCache, Version};
use pyo3::exceptions::{PyKeyError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::arguments::deadline;
use super::value::RawValue;
use super::{errors, key, value};
use crate::py::object::duration::{Ttl, interval, ttl};
use crate::py::process::guard::Guard;

/// What is open.
struct Opened {
    cache: SharedCache,
    default_ttl: Ttl,
}

/// What `flexcache_rs.shared.SharedCache` inherits.
#[pyclass(frozen, subclass, weakref, module = "flexcache_rs._core")]
pub(crate) struct SharedSegment {
    opened: Guard<State>,
}

#[derive(Clone)]
enum State {
    New,
    Open(Arc<Opened>),
    Closed,
}

/// A value that was read, as `_replace` recognizes it.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct SharedVersion(Version);

impl SharedSegment {
    fn opened(&self, py: Python<'_>) -> PyResult<Arc<Opened>> {
        match self.opened.with(py, |state| state.clone())? {
            State::Open(opened) => Ok(opened),
            State::New => Err(PyRuntimeError::new_err("the cache is not open: __init__ has not run")),
            State::Closed => Err(PyValueError::new_err("the cache is closed")),
        }
    }
}

/// Calls the cache, and again without the GIL if it would have to wait.
fn run<R: Send>(
    py: Python<'_>,
    opened: &Opened,
    call: impl Fn(&SharedCache, Patience) -> Result<R, Error> + Send + Sync,
) -> PyResult<R> {
    let result = match call(&opened.cache, Patience::Try) {
        Err(Error::Busy) => py.detach(|| call(&opened.cache, Patience::Wait)),
        result => result,
    };
    result.map_err(|error| errors::raised(py, error))
}

fn read<'py>(py: Python<'py>, opened: &Opened, key: Key<'_>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let raw = run(py, opened, |cache, patience| cache.get(key, patience, RawValue::copy))?;
    raw.map(|raw| raw.into_object(py)).transpose()
}

#[pymethods]
impl SharedSegment {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self { opened: Guard::new(State::New, true) }
    }

    /// Opens a cache by its name or its path.
    #[pyo3(signature = (place, is_path, max_bytes, expected_item, max_item, default_ttl, lock_timeout, resize))]
    #[expect(clippy::too_many_arguments, reason = "they are the class's")]
    fn _open(
        &self,
        py: Python<'_>,
        place: PathBuf,
        is_path: bool,
        max_bytes: usize,
        expected_item: usize,
        max_item: Option<usize>,
        default_ttl: Option<&Bound<'_, PyAny>>,
        lock_timeout: &Bound<'_, PyAny>,
        resize: bool,
    ) -> PyResult<()> {
        let default_ttl = match default_ttl {
            Some(given) => ttl("default_ttl", given.as_borrowed())?,
            None => Ttl::Never,
        };
        let lock_timeout = Duration::from_nanos(interval("lock_timeout", lock_timeout)?);
        let location = if is_path {
            Location::Path(place)
        } else {
            Location::Name(place.to_string_lossy().into_owned())
        };
        let options =
            Options { max_bytes, expected_item, max_item, lock_timeout, resize, ..Options::default() };
        let opened = py.detach(|| SharedCache::open(&location, options));
        let cache = opened.map_err(|error| errors::raised(py, error))?;
        let state = State::Open(Arc::new(Opened { cache, default_ttl }));
        let before = self.opened.with(py, |open| std::mem::replace(open, state))?;
        drop(before);
        Ok(())
    }

    /// Leave the cache. Its entries stay for other processes. Later calls raise `ValueError`.
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
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let before = self.opened.with(py, |state| std::mem::replace(state, State::Closed))?;
        drop(before);
        Ok(())
    }

    /// Remove the cache and all its entries, for all processes. A process that has it open starts a new, empty one
    /// with its next call. The memory is free when all have left.
    ///
    /// Returns:
    ///     True, or False if it had been removed or replaced before.
    fn unlink(&self, py: Python<'_>) -> PyResult<bool> {
        let opened = self.opened(py)?;
        py.detach(|| opened.cache.unlink()).map_err(|error| errors::raised(py, error))
    }

    /// The path of the cache's file.
    #[getter]
    fn path(&self, py: Python<'_>) -> PyResult<PathBuf> {
        Ok(self.opened(py)?.cache.path())
    }

    /// Return the value of a key, or `default` if there is none. Takes no lock.
    ///
    /// Every call makes a new object.
    ///
    /// >>> from flexcache_rs.shared import SharedCache
    /// >>> with SharedCache("example-get", max_bytes=1 << 20) as cache:
    /// ...     cache["answer"] = {"value": 42}
    /// ...     print(cache.get("answer"), cache.get("question", "unknown"))
    /// ...     _ = cache.unlink()
    /// {'value': 42} unknown
    #[pyo3(signature = (key, default=None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let encoded = key::encode(key)?;
        Ok(read(py, &*self.opened(py)?, encoded.as_key())?.or(default))
    }

    fn __getitem__<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let encoded = key::encode(key)?;
        let found = read(py, &*self.opened(py)?, encoded.as_key())?;
        found.ok_or_else(|| PyKeyError::new_err(key.clone().unbind()))
    }

    fn __contains__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let encoded = key::encode(key)?;
        run(py, &*self.opened(py)?, |cache, patience| cache.contains(encoded.as_key(), patience))
    }

    /// Store a value, or replace the one that is there.
    ///
    /// Args:
    ///     key: A str, bytes, int, float, bool, None, or a tuple of these. 1, 1.0 and True are one key, as in a dict.
    ///     value: Anything that can be pickled. Plain types, and tuples, lists and dicts of them, are stored without pickle.
    ///     ttl: Seconds as int or float, a `timedelta` or a `datetime`; None for `default_ttl`, `float("inf")` for ever.
    ///
    /// Raises:
    ///     TooLargeError: The entry is larger than `stats().largest_item`.
    ///     TimeoutError: Another process did not release the lock within `lock_timeout`. Nothing was changed.
    ///     TypeError: The key is of another type.
    ///
    /// >>> from flexcache_rs.shared import SharedCache
    /// >>> with SharedCache("example-put", max_bytes=1 << 20) as cache:
    /// ...     cache.put("session", ["a", "list"], ttl=60)
    /// ...     print(cache["session"])
    /// ...     _ = cache.unlink()
    /// ['a', 'list']
    #[pyo3(signature = (key, value, ttl=None))]
    fn put(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.store(py, key, value, ttl, |cache, key, entry, patience| {
            Ok(cache.put(key, entry, patience)?.result)
        })?;
        Ok(())
    }

    /// The same as `put`.
    #[pyo3(signature = (key, value, ttl=None))]
    fn set(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.put(py, key, value, ttl)
    }

    fn __setitem__(&self, py: Python<'_>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put(py, key, value, None)
    }

    /// Store a value only if the key has none. Of several processes exactly one succeeds.
    ///
    /// Returns:
    ///     True if it was stored.
    ///
    /// Raises:
    ///     As `put`.
    ///
    /// >>> from flexcache_rs.shared import SharedCache
    /// >>> with SharedCache("example-add", max_bytes=1 << 20) as cache:
    /// ...     print(cache.add("leader", 1), cache.add("leader", 2), cache["leader"])
    /// ...     _ = cache.unlink()
    /// True False 1
    #[pyo3(signature = (key, value, ttl=None))]
    fn add(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        self.store(py, key, value, ttl, |cache, key, entry, patience| {
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
    fn delete(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let encoded = key::encode(key)?;
        run(py, &*self.opened(py)?, |cache, patience| Ok(cache.delete(encoded.as_key(), patience)?.result))
    }

    fn __delitem__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.delete(py, key)? { Ok(()) } else { Err(PyKeyError::new_err(key.clone().unbind())) }
    }

    /// Remove a key and return its value. Of several processes exactly one gets it.
    ///
    /// Returns:
    ///     The value, or None if there is none: `pop` of the class raises `KeyError` then.
    fn _pop<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Option<(Bound<'py, PyAny>,)>> {
        let encoded = key::encode(key)?;
        let raw = run(py, &*self.opened(py)?, |cache, patience| {
            cache.pop(encoded.as_key(), patience, RawValue::copy)
        })?;
        raw.map(|raw| Ok((raw.into_object(py)?,))).transpose()
    }

    /// Give the value of a key another time to live.
    ///
    /// Args:
    ///     key: The key.
    ///     ttl: As for `put`, from now.
    ///
    /// Returns:
    ///     True if there was a value.
    ///
    /// Raises:
    ///     TimeoutError: As `put`.
    #[pyo3(signature = (key, ttl=None))]
    fn touch(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let opened = self.opened(py)?;
        let encoded = key::encode(key)?;
        let deadline = deadline(ttl, opened.default_ttl)?;
        run(py, &opened, |cache, patience| Ok(cache.touch(encoded.as_key(), deadline, patience)?.result))
    }

    /// Return how long the value of a key still lives.
    ///
    /// Returns:
    ///     Seconds, or None if it never expires.
    ///
    /// Raises:
    ///     KeyError: There is no value.
    fn ttl(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
        let encoded = key::encode(key)?;
        let found = run(py, &*self.opened(py)?, |cache, patience| {
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

    /// Add to the int of a key, in one step for all processes.
    ///
    /// Args:
    ///     key: The key.
    ///     by: What is added.
    ///     initial: What a key without a value starts from.
    ///     ttl: The time to live of a new value. One that is there keeps its own.
    ///
    /// Returns:
    ///     The sum.
    ///
    /// Raises:
    ///     TypeError: The value is not an int.
    ///     OverflowError: The sum does not fit 64 bits.
    ///     TimeoutError: As `put`.
    ///
    /// >>> from flexcache_rs.shared import SharedCache
    /// >>> with SharedCache("example-incr", max_bytes=1 << 20) as cache:
    /// ...     print(cache.incr("visits"), cache.incr("visits", 10))
    /// ...     _ = cache.unlink()
    /// 1 11
    #[pyo3(signature = (key, by=1, initial=0, ttl=None))]
    fn incr(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        by: i64,
        initial: i64,
        ttl: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<i64> {
        let opened = self.opened(py)?;
        let encoded = key::encode(key)?;
        let deadline = deadline(ttl, opened.default_ttl)?;
        run(py, &opened, |cache, patience| {
            Ok(cache.increment(encoded.as_key(), by, initial, deadline, patience)?.result)
        })
    }

    /// Remove everything. Returns how many entries there were.
    ///
    /// Raises:
    ///     TimeoutError: Part of the cache was not free within `lock_timeout`. The rest is empty.
    fn clear(&self, py: Python<'_>) -> PyResult<u64> {
        let opened = self.opened(py)?;
        // Some hundred microseconds for each stripe, so not attached.
        py.detach(|| opened.cache.clear(Patience::Wait)).map_err(|error| errors::raised(py, error))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(usize::try_from(self.opened(py)?.cache.len())?)
    }

    /// The keys of all values, each copied at a slightly different moment. A key that is there all the time occurs once.
    fn _keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let opened = self.opened(py)?;
        let copied = py.detach(|| {
            let mut copied: Vec<(u8, Vec<u8>)> = Vec::new();
            let mut is_full = false;
            opened.cache.keys(Patience::Wait, |kind, bytes| {
                let mut key = Vec::new();
                if copied.try_reserve(1).is_err() || key.try_reserve_exact(bytes.len()).is_err() {
                    is_full = true;
                    return;
                }
                key.extend_from_slice(bytes);
                copied.push((kind, key));
            })?;
            if is_full { Err(Error::OutOfMemory) } else { Ok(copied) }
        });
        let keys = PyList::empty(py);
        for (kind, bytes) in copied.map_err(|error| errors::raised(py, error))? {
            keys.append(key::decode(py, kind, &bytes)?)?;
        }
        Ok(keys)
    }

    /// The value of a key and what `_replace` needs to know it again.
    fn _read_version<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Option<(Bound<'py, PyAny>, SharedVersion)>> {
        let encoded = key::encode(key)?;
        let found = run(py, &*self.opened(py)?, |cache, patience| {
            cache.get_version(encoded.as_key(), patience, RawValue::copy)
        })?;
        found.map(|(raw, _, version)| Ok((raw.into_object(py)?, SharedVersion(version)))).transpose()
    }

    /// Stores a value if the key's is still the one that was read.
    fn _replace(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        version: &SharedVersion,
        value: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        self.store(py, key, value, ttl, |cache, key, entry, patience| {
            Ok(cache.replace(key, &version.0, entry, patience)?.result)
        })
    }

    /// Sums by name.
    fn _stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.opened(py)?.cache.stats();
        let sums = PyDict::new(py);
        for (name, value) in [
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
        let opened = self.opened(py)?;
        py.detach(|| opened.cache.check()).map_err(PyRuntimeError::new_err)
    }
}

impl SharedSegment {
    fn store(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
        call: impl Fn(&SharedCache, Key<'_>, &Entry<'_>, Patience) -> Result<bool, Error> + Send + Sync,
    ) -> PyResult<bool> {
        // Encoding may run Python code, so it comes before everything else.
        let encoded = value::encode(value)?;
        let key = key::encode(key)?;
        let opened = self.opened(py)?;
        let deadline = deadline(ttl, opened.default_ttl)?;
        let entry = Entry { kind: encoded.kind, value: &encoded.bytes, deadline, tags: &[] };
        run(py, &opened, |cache, patience| call(cache, key.as_key(), &entry, patience))
    }
}
