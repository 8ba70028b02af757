//! Calls that remove many entries, in batches.

use std::time::Duration;

use flexcache_disk::{DiskStore, Error, Written, files};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::Timeout;
use super::arguments::{encode_tag, real};
use super::cache::DiskCache;
use crate::py::object::argument::{truth, wrong_type};
use crate::py::object::did_you_mean;
use crate::py::process::wall_clock::{self, now};

impl DiskCache {
    /// Repeats a step that removes a batch of entries until none are left, and removes their files. Returns
    /// their number. If the time runs out, raises `Timeout` with the number so far.
    fn until_none(
        &self,
        py: Python<'_>,
        retry: bool,
        step: impl Fn(&DiskStore, Duration) -> Result<Written<u64>, Error> + Send + Sync,
    ) -> PyResult<u64> {
        let mut removed = 0;
        loop {
            match self.write(py, retry, &step) {
                Ok(0) => {
                    py.detach(files::finish_removals);
                    return Ok(removed);
                }
                Ok(count) => removed += count,
                Err(error) if error.is_instance_of::<Timeout>(py) => {
                    return Err(Timeout::new_err((removed,)));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[pymethods]
impl DiskCache {
    /// Remove expired entries.
    ///
    /// Args:
    ///     now: The time in seconds since the epoch before which entries have expired. None means the current time.
    ///     retry: Whether to wait for other writers for longer than `timeout`.
    ///
    /// Returns:
    ///     The number of removed entries.
    ///
    /// Raises:
    ///     Timeout: The write lock was not acquired within `timeout` seconds. Its argument is the number so far.
    ///
    /// >>> import time
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> _ = cache.set("a", 1, expire=60)
    /// >>> cache.expire(), cache.expire(now=time.time() + 61), len(cache)
    /// (0, 1, 0)
    #[pyo3(signature = (now=None, retry=false, **unknown), text_signature = "($self, /, now=None, retry=False)")]
    fn expire(
        &self,
        py: Python<'_>,
        now: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = truth)] retry: bool,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<u64> {
        did_you_mean::refuse("expire", unknown, &["now", "retry"])?;
        let now = match now {
            None => wall_clock::now(py)?,
            Some(now) => {
                let allowed = "a number of seconds since the epoch or None";
                real("now", &now.as_borrowed())?.ok_or_else(|| wrong_type("now", allowed, now))?
            }
        };
        if now.is_nan() {
            return Err(PyValueError::new_err("now must be a number of seconds since the epoch, not NaN"));
        }
        self.until_none(py, retry, |store, patience| store.expire_some(now, patience))
    }

    /// Remove all entries with a tag. It checks every entry unless the cache has `tag_index`.
    ///
    /// Args:
    ///     tag: The tag. No entry has the tag None.
    ///     retry: Whether to wait for other writers for longer than `timeout`.
    ///
    /// Returns:
    ///     The number of removed entries.
    ///
    /// Raises:
    ///     Timeout: The write lock was not acquired within `timeout` seconds. Its argument is the number so far.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache(tag_index=True)
    /// >>> _ = cache.set("a", 1, tag="letters")
    /// >>> cache.evict("letters"), len(cache)
    /// (1, 0)
    #[pyo3(signature = (tag, retry=false, **unknown), text_signature = "($self, /, tag, retry=False)")]
    pub(super) fn evict(
        &self,
        tag: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = truth)] retry: bool,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<u64> {
        did_you_mean::refuse("evict", unknown, &["tag", "retry"])?;
        let py = tag.py();
        let tag = encode_tag(Some(tag))?;
        let tag = tag.borrow()?;
        // Also if there is no entry, since a value that is being computed may have the tag.
        let last = self.wait(py, true, DiskStore::last_row)?.unwrap_or(0);
        self.until_none(py, retry, |store, patience| store.evict_tag_some(tag, last, patience))
    }

    /// Remove everything.
    ///
    /// Args:
    ///     retry: Whether to wait for other writers for longer than `timeout`.
    ///
    /// Returns:
    ///     The number of removed entries.
    ///
    /// Raises:
    ///     Timeout: The write lock was not acquired within `timeout` seconds. Its argument is the number so far.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache["a"], cache["b"] = 1, 2
    /// >>> cache.clear(), len(cache)
    /// (2, 0)
    #[pyo3(signature = (retry=false, **unknown), text_signature = "($self, /, retry=False)")]
    pub(super) fn clear(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = truth)] retry: bool,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<u64> {
        did_you_mean::refuse("clear", unknown, &["retry"])?;
        // Also if there is no entry, since a value that is being computed must not be stored.
        let last = self.wait(py, true, DiskStore::last_row)?.unwrap_or(0);
        self.until_none(py, retry, |store, patience| store.clear_some(last, patience))
    }

    /// Remove expired entries, then evict until the directory is within `size_limit`.
    ///
    /// Args:
    ///     retry: Whether to wait for other writers for longer than `timeout`.
    ///
    /// Returns:
    ///     The number of removed entries.
    ///
    /// Raises:
    ///     Timeout: The write lock was not acquired within `timeout` seconds. Its argument is the number so far.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache(size_limit=100_000, cull_limit=0)
    /// >>> for number in range(10): cache[number] = b"x" * 40_000
    /// >>> cache.cull()
    /// 10
    #[pyo3(signature = (retry=false, **unknown), text_signature = "($self, /, retry=False)")]
    fn cull(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = truth)] retry: bool,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<u64> {
        did_you_mean::refuse("cull", unknown, &["retry"])?;
        let (now, rules) = (now(py)?, self.rules(py)?);
        let expired = self.until_none(py, retry, |store, patience| store.expire_some(now, patience))?;
        match self.until_none(py, retry, |store, patience| store.cull_some(now, &rules, patience)) {
            Ok(evicted) => Ok(expired + evicted),
            Err(error) if error.is_instance_of::<Timeout>(py) => {
                let evicted: u64 = error.value(py).getattr("args")?.get_item(0)?.extract()?;
                Err(Timeout::new_err((expired + evicted,)))
            }
            Err(error) => Err(error),
        }
    }
}
