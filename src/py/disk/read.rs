//! Calls that look up a key.

use flexcache_disk::{Entry, Key};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

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
