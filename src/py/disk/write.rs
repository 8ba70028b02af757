//! Calls that write under a key.

#![expect(clippy::too_many_arguments, reason = "the signatures are python-diskcache's")]

use flexcache_disk::{Key, Label};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::arguments::{Expire, WithDetails, encode_tag, expire_time};
use super::cache::DiskCache;
use crate::py::object::argument::truth;
use crate::py::object::did_you_mean;
use crate::py::process::wall_clock::now;

impl DiskCache {
    fn put(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        expire: Option<Expire>,
        read: bool,
        tag: Option<&Bound<'_, PyAny>>,
        retry: bool,
        only_new: bool,
    ) -> PyResult<bool> {
        let py = key.py();
        let now = now(py)?;
        let (datum, raw) = self.encode_key(key)?;
        let tag = encode_tag(tag)?;
        let (datum, tag, rules) =
            (datum.borrow().map(|datum| Key { datum, raw })?, tag.borrow()?, self.rules(py)?);
        let stored = self.prepare(value, read, Some(key))?;
        let label = Label { now, expire_time: expire_time(now, expire), tag };
        self.storing(py, &stored, |record, file| {
            self.write(py, retry, |store, patience| {
                file.lend(|| {
                    if only_new {
                        store.add(datum, record, label, &rules, patience)
                    } else {
                        store
                            .set(datum, record, label, &rules, patience)
                            .map(|written| written.map(|()| true))
                    }
                })
            })
        })
    }

    pub(super) fn remove_key(&self, key: &Bound<'_, PyAny>, retry: bool) -> PyResult<bool> {
        let py = key.py();
        let (datum, raw) = self.encode_key(key)?;
        let key = Key { datum: datum.borrow()?, raw };
        let now = now(py)?;
        self.write(py, retry, |store, patience| store.delete(key, now, patience))
    }
}

#[pymethods]
impl DiskCache {
    /// Store or replace a value. After that, up to `cull_limit` expired entries are removed. If the directory
    /// is too large, further entries are evicted.
    ///
    /// Args:
    ///     key: Any object that can be pickled. Strings, bytes, floats and 64-bit integers are stored directly.
    ///         Other keys are equal if their pickles are equal.
    ///     value: Any object that can be pickled, or a file with `read`.
    ///     expire: The time to live in seconds or as a timedelta. None means for ever.
    ///     read: Whether to store the result of `value.read()`.
    ///     tag: The tag for `evict`: None, a number, text or bytes.
    ///     retry: Whether to wait for other writers for longer than `timeout`.
    ///
    /// Returns:
    ///     True.
    ///
    /// Raises:
    ///     Timeout: The write lock was not acquired within `timeout` seconds.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache.set("answer", 42, expire=60, tag="numbers")
    /// True
    #[pyo3(signature = (key, value, expire=None, read=false, tag=None, retry=false, **unknown),
        text_signature = "($self, /, key, value, expire=None, read=False, tag=None, retry=False)")]
    #[expect(clippy::too_many_arguments, reason = "the signature is python-diskcache's")]
    fn set(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        expire: Option<Expire>,
        #[pyo3(from_py_with = truth)] read: bool,
        tag: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = truth)] retry: bool,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<bool> {
        did_you_mean::refuse("set", unknown, &["key", "value", "expire", "read", "tag", "retry"])?;
        self.put(key, value, expire, read, tag, retry, false)
    }

    /// Store a value only if the key has no live value. If several processes do this at the same time, one
    /// succeeds. The arguments are those of `set`.
    ///
    /// Returns:
    ///     True if it was stored.
    ///
    /// Raises:
    ///     Timeout: The write lock was not acquired within `timeout` seconds.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache.add("answer", 42), cache.add("answer", 43), cache["answer"]
    /// (True, False, 42)
    #[pyo3(signature = (key, value, expire=None, read=false, tag=None, retry=false, **unknown),
        text_signature = "($self, /, key, value, expire=None, read=False, tag=None, retry=False)")]
    #[expect(clippy::too_many_arguments, reason = "the signature is python-diskcache's")]
    fn add(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        expire: Option<Expire>,
        #[pyo3(from_py_with = truth)] read: bool,
        tag: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = truth)] retry: bool,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<bool> {
        did_you_mean::refuse("add", unknown, &["key", "value", "expire", "read", "tag", "retry"])?;
        self.put(key, value, expire, read, tag, retry, true)
    }

    fn __setitem__(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put(key, value, None, false, None, true, false).map(|_| ())
    }

    fn __delitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.remove_key(key, true)? { Ok(()) } else { Err(PyKeyError::new_err((key.clone().unbind(),))) }
    }

    /// Delete a key. An expired key counts as absent.
    ///
    /// Returns:
    ///     True if it was present.
    ///
    /// Raises:
    ///     Timeout: The write lock was not acquired within `timeout` seconds.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache["a"] = 1
    /// >>> cache.delete("a"), cache.delete("a")
    /// (True, False)
    #[pyo3(signature = (key, retry=false, **unknown), text_signature = "($self, /, key, retry=False)")]
    fn delete(
        &self,
        key: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = truth)] retry: bool,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<bool> {
        did_you_mean::refuse("delete", unknown, &["key", "retry"])?;
        self.remove_key(key, retry)
    }

    /// Remove a key and return its value. If several processes do this at the same time, one gets the value.
    ///
    /// Args:
    ///     key: The key.
    ///     default: The result if there is no live value.
    ///     expire_time: As for `get`.
    ///     tag: As for `get`.
    ///     retry: Whether to wait for other writers for longer than `timeout`.
    ///
    /// Raises:
    ///     Timeout: The write lock was not acquired within `timeout` seconds.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache["a"] = 1
    /// >>> cache.pop("a"), cache.pop("a", default="gone")
    /// (1, 'gone')
    #[pyo3(signature = (key, default=None, expire_time=false, tag=false, retry=false, **unknown),
        text_signature = "($self, /, key, default=None, expire_time=False, tag=False, retry=False)")]
    fn pop<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
        #[pyo3(from_py_with = truth)] expire_time: bool,
        #[pyo3(from_py_with = truth)] tag: bool,
        #[pyo3(from_py_with = truth)] retry: bool,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        did_you_mean::refuse("pop", unknown, &["key", "default", "expire_time", "tag", "retry"])?;
        let wanted = WithDetails { expire_time, tag };
        let (datum, raw) = self.encode_key(key)?;
        let key = Key { datum: datum.borrow()?, raw };
        let now = now(py)?;
        if let Some(entry) = self.write(py, retry, |store, patience| store.pop(key, now, patience))? {
            let value = match self.fetch(py, &entry, false) {
                Ok(value) => value,
                Err(error) => {
                    self.put_back(py, key, &entry)?;
                    return Err(error);
                }
            };
            self.discard(py, &entry)?;
            if let Some(value) = value {
                return wanted.shape(value, Some(&entry));
            }
        }
        wanted.shape(default.unwrap_or_else(|| py.None().into_bound(py)), None)
    }

    /// Give a key another time to live.
    ///
    /// Args:
    ///     key: The key.
    ///     expire: The time to live from now, in seconds or as a timedelta. None means for ever.
    ///     retry: Whether to wait for other writers for longer than `timeout`.
    ///
    /// Returns:
    ///     True if it was present.
    ///
    /// Raises:
    ///     Timeout: The write lock was not acquired within `timeout` seconds.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache["a"] = 1
    /// >>> cache.touch("a", expire=60), cache.touch("b")
    /// (True, False)
    #[pyo3(signature = (key, expire=None, retry=false, **unknown),
        text_signature = "($self, /, key, expire=None, retry=False)")]
    fn touch(
        &self,
        key: &Bound<'_, PyAny>,
        expire: Option<Expire>,
        #[pyo3(from_py_with = truth)] retry: bool,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<bool> {
        did_you_mean::refuse("touch", unknown, &["key", "expire", "retry"])?;
        let py = key.py();
        let (datum, raw) = self.encode_key(key)?;
        let key = Key { datum: datum.borrow()?, raw };
        let now = now(py)?;
        let expires = expire_time(now, expire);
        self.write(py, retry, |store, patience| store.touch(key, now, expires, patience))
    }
}
