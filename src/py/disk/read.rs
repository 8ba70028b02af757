//! Calls that look up a key.

#![expect(
    clippy::too_many_arguments,
    clippy::fn_params_excessive_bools,
    reason = "the signatures are python-diskcache's"
)]

use flexcache_disk::{Entry, Key};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::arguments::WithDetails;
use super::cache::DiskCache;
use super::codec::native;
use super::errors;
use crate::py::object::argument::truth;
use crate::py::object::did_you_mean;
use crate::py::process::wall_clock::now;

/// How often a lookup is repeated because the row's file is gone and the key was written again.
const MOST_LOOKS: usize = 100;

impl DiskCache {
    /// The entry of a key, with its value. Expiry and tag are filled in only with `details`.
    pub(super) fn find<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        read: bool,
        details: bool,
        retry: bool,
    ) -> PyResult<Option<(Bound<'py, PyAny>, Entry)>> {
        let (datum, raw) = self.encode_key(key)?;
        self.find_encoded(key.py(), Key { datum: datum.borrow()?, raw }, read, details, retry)
    }

    /// The same for an encoded key.
    pub(super) fn find_encoded<'py>(
        &self,
        py: Python<'py>,
        key: Key<'_>,
        read: bool,
        details: bool,
        retry: bool,
    ) -> PyResult<Option<(Bound<'py, PyAny>, Entry)>> {
        let (now, rules) = (now(py)?, self.rules(py)?);
        let mut found = self.wait(py, retry, |store, patience| {
            if details {
                store.get(key, now, &rules, patience)
            } else {
                store.value(key, now, &rules, patience)
            }
        })?;
        if found.is_none() {
            return Ok(None);
        }
        // A write removes the file of the old value, perhaps between our reading of the row and of the file.
        for _ in 0..MOST_LOOKS {
            let Some(entry) = found else { break };
            let fetched = match self.fetch(py, &entry, read) {
                Err(error) if native(self.disk(py)?).is_none() => {
                    return Err(errors::of_key(py, error, &key, &self.opened()?.directory));
                }
                fetched => fetched?,
            };
            if let Some(value) = fetched {
                return Ok(Some((value, entry)));
            }
            found =
                self.wait(py, retry, |store, patience| store.written_again(key, &entry, now, patience))?;
        }
        self.wait(py, true, |store, patience| store.count_as_miss(&rules, patience))?;
        Ok(None)
    }

    /// Whether there is a live entry of a key.
    pub(super) fn has_key(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (datum, raw) = self.encode_key(key)?;
        self.has_encoded(key.py(), Key { datum: datum.borrow()?, raw })
    }

    /// The same for an encoded key.
    pub(super) fn has_encoded(&self, py: Python<'_>, key: Key<'_>) -> PyResult<bool> {
        let now = now(py)?;
        self.wait(py, true, |store, patience| store.contains(key, now, patience))
    }
}

#[pymethods]
impl DiskCache {
    /// Return the value of a key. It writes only with `statistics`, or if the policy evicts by use.
    ///
    /// Args:
    ///     key: The key.
    ///     default: The result if there is no live value.
    ///     read: Whether to return an open file if the value is stored in a file of bytes.
    ///     expire_time: Whether to return (value, time of expiry in seconds since the epoch).
    ///     tag: Whether to return (value, tag). With `expire_time`, the result has all three.
    ///     retry: Whether to wait for other writers for longer than `timeout`.
    ///
    /// Raises:
    ///     Timeout: The write lock was not acquired within `timeout` seconds, and this read needed it.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache["answer"] = 42
    /// >>> cache.get("answer"), cache.get("question", "what?"), cache.get("answer", expire_time=True)
    /// (42, 'what?', (42, None))
    #[pyo3(signature = (key, default=None, read=false, expire_time=false, tag=false, retry=false, **unknown),
        text_signature = "($self, /, key, default=None, read=False, expire_time=False, tag=False, retry=False)")]
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
        #[pyo3(from_py_with = truth)] read: bool,
        #[pyo3(from_py_with = truth)] expire_time: bool,
        #[pyo3(from_py_with = truth)] tag: bool,
        #[pyo3(from_py_with = truth)] retry: bool,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        did_you_mean::refuse("get", unknown, &["key", "default", "read", "expire_time", "tag", "retry"])?;
        let wanted = WithDetails { expire_time, tag };
        match self.find(key, read, expire_time || tag, retry)? {
            Some((value, entry)) => wanted.shape(value, Some(&entry)),
            None => wanted.shape(default.unwrap_or_else(|| py.None().into_bound(py)), None),
        }
    }

    fn __getitem__<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match self.find(key, false, false, true)? {
            Some((value, _)) => Ok(value),
            None => Err(PyKeyError::new_err((key.clone().unbind(),))),
        }
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.has_key(key)
    }

    /// Return a value as an open file if it is stored in a file of bytes, otherwise the value.
    ///
    /// Raises:
    ///     KeyError: There is no live value.
    ///     Timeout: As for `get`.
    ///
    /// >>> import io
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache.set("page", io.BytesIO(b"hello"), read=True)
    /// True
    /// >>> with cache.read("page") as file:
    /// ...     file.read()
    /// b'hello'
    #[pyo3(signature = (key, retry=false, **unknown), text_signature = "($self, /, key, retry=False)")]
    fn read<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        #[pyo3(from_py_with = truth)] retry: bool,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        did_you_mean::refuse("read", unknown, &["key", "retry"])?;
        match self.find(key, true, false, retry)? {
            Some((value, _)) => Ok(value),
            None => Err(PyKeyError::new_err((key.clone().unbind(),))),
        }
    }
}
