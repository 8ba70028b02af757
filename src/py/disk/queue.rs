//! Calls that use the cache as a queue.

#![expect(
    clippy::too_many_arguments,
    clippy::fn_params_excessive_bools,
    reason = "the signatures are python-diskcache's"
)]

use flexcache_disk::{Key, Label, Side, ValueRef};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::arguments::{End, Expire, OptionalArgument, Prefix, WithDetails, encode_tag, expire_time};
use super::cache::DiskCache;
use super::datum::to_object;
use crate::py::object::argument::truth;
use crate::py::object::did_you_mean;
use crate::py::process::wall_clock::now;

impl DiskCache {
    fn end_of_queue<'py>(
        &self,
        py: Python<'py>,
        prefix: Option<Prefix>,
        default: OptionalArgument<'py>,
        End(side): End,
        wanted: &WithDetails,
        retry: bool,
        take: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let prefix = prefix.as_deref();
        loop {
            let now = now(py)?;
            let found =
                self.write(py, retry, |store, patience| store.at_end(prefix, side, take, now, patience))?;
            let Some((key, entry)) = found else {
                let nothing = PyTuple::new(py, [py.None(), py.None()])?;
                return wanted.shape(default.or(|| nothing.into_any()), None);
            };
            let value = match self.fetch(py, &entry, false) {
                Ok(value) => value,
                Err(error) => {
                    if take {
                        let key = Key { datum: ValueRef::from(&key.datum), raw: key.raw };
                        self.put_back(py, key, &entry)?;
                    }
                    return Err(error);
                }
            };
            if take {
                self.discard(py, &entry)?;
            }
            if let Some(value) = value {
                let item = PyTuple::new(py, [to_object(py, &key.datum)?, value])?;
                return wanted.shape(item.into_any(), Some(&entry));
            }
            if !take {
                self.forget(py, &key, &entry)?;
            }
        }
    }
}

#[pymethods]
impl DiskCache {
    /// Add a value at an end of a queue, under a new key.
    ///
    /// Args:
    ///     value: As for `set`.
    ///     prefix: The name of the queue. None means the queue of all keys that are numbers.
    ///     side: "back" or "front".
    ///     expire: As for `set`, and also `read`, `tag` and `retry`.
    ///
    /// Returns:
    ///     The key.
    ///
    /// Raises:
    ///     Timeout: The write lock was not acquired within `timeout` seconds.
    ///     KeyError: `side` is neither "back" nor "front".
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache.push("first"), cache.push("job", prefix="jobs")
    /// (500000000000000, 'jobs-500000000000000')
    #[pyo3(signature = (value, prefix=None, side=End(Side::Back), expire=None, read=false, tag=None, retry=false, **unknown),
        text_signature = "($self, /, value, prefix=None, side='back', expire=None, read=False, tag=None, retry=False)")]
    fn push<'py>(
        &self,
        value: &Bound<'py, PyAny>,
        prefix: Option<Prefix>,
        side: End,
        expire: Option<Expire>,
        #[pyo3(from_py_with = truth)] read: bool,
        tag: Option<&Bound<'py, PyAny>>,
        #[pyo3(from_py_with = truth)] retry: bool,
        unknown: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let allowed = ["value", "prefix", "side", "expire", "read", "tag", "retry"];
        did_you_mean::refuse("push", unknown, &allowed)?;
        let (py, prefix) = (value.py(), prefix.as_deref());
        let (now, rules) = (now(py)?, self.rules(py)?);
        let tag = encode_tag(tag)?;
        let label = Label { now, expire_time: expire_time(now, expire), tag: tag.borrow()? };
        let stored = self.prepare(value, read, None)?;
        let key = self.storing(py, &stored, |record, file| {
            self.write(py, retry, |store, patience| {
                file.lend(|| store.push(prefix, side.0, record, label, &rules, patience))
            })
        })?;
        to_object(py, &key)
    }

    /// Remove a value from an end of a queue and return it.
    ///
    /// Args:
    ///     prefix: The name of the queue. None means the queue of all keys that are numbers.
    ///     default: The result if the queue is empty.
    ///     side: "front" or "back".
    ///     expire_time: As for `get`, around (key, value), and also `tag`.
    ///     retry: Whether to wait for other writers for longer than `timeout`.
    ///
    /// Returns:
    ///     (key, value)
    ///
    /// Raises:
    ///     Timeout: The write lock was not acquired within `timeout` seconds.
    ///     KeyError: `side` is neither "back" nor "front".
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> for job in "wash", "dry": _ = cache.push(job)
    /// >>> cache.pull(), cache.pull(), cache.pull()
    /// ((500000000000000, 'wash'), (500000000000001, 'dry'), (None, None))
    #[pyo3(signature = (prefix=None, default=OptionalArgument::Absent, side=End(Side::Front), expire_time=false, tag=false, retry=false, **unknown))]
    #[pyo3(
        text_signature = "($self, /, prefix=None, default=(None, None), side='front', expire_time=False, \
                             tag=False, retry=False)"
    )]
    fn pull<'py>(
        &self,
        py: Python<'py>,
        prefix: Option<Prefix>,
        default: OptionalArgument<'py>,
        side: End,
        #[pyo3(from_py_with = truth)] expire_time: bool,
        #[pyo3(from_py_with = truth)] tag: bool,
        #[pyo3(from_py_with = truth)] retry: bool,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        did_you_mean::refuse("pull", unknown, &["prefix", "default", "side", "expire_time", "tag", "retry"])?;
        self.end_of_queue(py, prefix, default, side, &WithDetails { expire_time, tag }, retry, true)
    }

    /// Return a value at an end of a queue without removing it. The arguments are those of `pull`.
    ///
    /// Raises:
    ///     Timeout: The write lock was not acquired within `timeout` seconds.
    ///     KeyError: `side` is neither "back" nor "front".
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> for job in "wash", "dry": _ = cache.push(job)
    /// >>> cache.peek(side="back")
    /// (500000000000001, 'dry')
    #[pyo3(signature = (prefix=None, default=OptionalArgument::Absent, side=End(Side::Front), expire_time=false, tag=false, retry=false, **unknown))]
    #[pyo3(
        text_signature = "($self, /, prefix=None, default=(None, None), side='front', expire_time=False, \
                             tag=False, retry=False)"
    )]
    fn peek<'py>(
        &self,
        py: Python<'py>,
        prefix: Option<Prefix>,
        default: OptionalArgument<'py>,
        side: End,
        #[pyo3(from_py_with = truth)] expire_time: bool,
        #[pyo3(from_py_with = truth)] tag: bool,
        #[pyo3(from_py_with = truth)] retry: bool,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        did_you_mean::refuse("peek", unknown, &["prefix", "default", "side", "expire_time", "tag", "retry"])?;
        self.end_of_queue(py, prefix, default, side, &WithDetails { expire_time, tag }, retry, false)
    }

    /// Return the entry that was stored last (or first) without removing it. Expired entries that it meets are deleted.
    ///
    /// Args:
    ///     last: Whether to return the last entry instead of the first.
    ///     expire_time: As for `get`, around (key, value), and also `tag`.
    ///     retry: Whether to wait for other writers for longer than `timeout`.
    ///
    /// Returns:
    ///     (key, value)
    ///
    /// Raises:
    ///     KeyError: The cache is empty.
    ///     Timeout: The write lock was not acquired within `timeout` seconds.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache["a"], cache["b"] = 1, 2
    /// >>> cache.peekitem(), cache.peekitem(last=False)
    /// (('b', 2), ('a', 1))
    #[pyo3(signature = (last=true, expire_time=false, tag=false, retry=false, **unknown), text_signature = "($self, /, last=True, expire_time=False, tag=False, retry=False)")]
    fn peekitem<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = truth)] last: bool,
        #[pyo3(from_py_with = truth)] expire_time: bool,
        #[pyo3(from_py_with = truth)] tag: bool,
        #[pyo3(from_py_with = truth)] retry: bool,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        did_you_mean::refuse("peekitem", unknown, &["last", "expire_time", "tag", "retry"])?;
        let wanted = WithDetails { expire_time, tag };
        loop {
            let now = now(py)?;
            let found = self.write(py, retry, |store, patience| store.peek_row(last, now, patience))?;
            let Some((key, entry)) = found else { return Err(PyKeyError::new_err("dictionary is empty")) };
            if let Some(value) = self.fetch(py, &entry, false)? {
                let item = PyTuple::new(py, [self.decode_key(py, &key)?, value])?;
                return wanted.shape(item.into_any(), Some(&entry));
            }
            self.forget(py, &key, &entry)?;
        }
    }
}
