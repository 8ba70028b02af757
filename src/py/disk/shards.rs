//! `DiskShards`: the base class of the caches of `flexcache_rs.sciqlop`. A read runs no Python code.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use flexcache_disk::Key;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyInt, PyTuple};

use super::cache::DiskCache;

/// The databases among which a cache divides its keys, and the counts of hits and misses.
#[pyclass(frozen, subclass, weakref, module = "flexcache_rs._core")]
pub(crate) struct DiskShards {
    /// Set once, by `__init__`.
    shards: OnceLock<Vec<Py<DiskCache>>>,
    is_closed: AtomicBool,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// A key as it is stored: True and 1 are one key.
fn plain<'py>(key: &Bound<'py, PyAny>) -> Bound<'py, PyAny> {
    match key.cast_exact::<PyBool>() {
        Ok(truth) => PyInt::new(key.py(), i64::from(truth.is_true())).into_any(),
        Err(_) => key.clone(),
    }
}

impl DiskShards {
    #[inline]
    fn shards<'a>(slf: &'a Bound<'_, Self>) -> PyResult<&'a [Py<DiskCache>]> {
        let this = slf.get();
        match this.shards.get() {
            Some(shards) if !this.is_closed.load(Ordering::Relaxed) => Ok(shards),
            _ => Err(Self::not_open(slf)),
        }
    }

    #[cold]
    fn not_open(slf: &Bound<'_, Self>) -> PyErr {
        // The error that the class raises if it has no shards.
        match slf.getattr(intern!(slf.py(), "_flexcache_shards")) {
            Err(error) => error,
            Ok(_) => PyRuntimeError::new_err("__init__() of the cache was not called"),
        }
    }

    /// Runs a call on the database of a key.
    fn on_shard<'py, R>(
        slf: &Bound<'py, Self>,
        key: &Bound<'py, PyAny>,
        call: impl FnOnce(&DiskCache, Key<'_>) -> PyResult<R>,
    ) -> PyResult<R> {
        let (shards, key) = (Self::shards(slf)?, plain(key));
        let [first, rest @ ..] = shards else {
            return Err(PyRuntimeError::new_err("the cache has no shards"));
        };
        let (datum, raw) = first.get().encode_key(&key)?;
        let shard = if rest.is_empty() {
            first
        } else {
            #[expect(clippy::cast_possible_truncation, reason = "it is less than the number of shards")]
            let number = (datum.shard_hash()? % shards.len() as u64) as usize;
            &shards[number]
        };
        call(shard.get(), Key { datum: datum.borrow()?, raw })
    }

    /// The value of a key. Counts the look.
    pub(super) fn find<'py>(
        slf: &Bound<'py, Self>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        let found = Self::on_shard(slf, key, |shard, key| shard.find_encoded(py, key, false, false, false))?;
        slf.get().count(found.is_some());
        Ok(found.map(|(value, _)| value))
    }
}

#[pymethods]
impl DiskShards {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            shards: OnceLock::new(),
            is_closed: AtomicBool::new(false),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    fn _set_shards(&self, shards: Vec<Py<DiskCache>>) -> PyResult<()> {
        self.shards
            .set(shards)
            .map_err(|_| PyRuntimeError::new_err("__init__() of the cache was called twice"))
    }

    /// From now on a read raises what the class raises where it has no `_flexcache_shards`.
    fn _close_reads(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    fn __contains__(slf: &Bound<'_, Self>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::on_shard(slf, key, |shard, key| shard.has_encoded(slf.py(), key))
    }

    /// Counts a look.
    #[pyo3(name = "_count")]
    fn count(&self, found: bool) {
        let counter = if found { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The numbers of hits and misses.
    fn _counts(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    fn _reset_counts(&self) {
        self.hits.store(0, Ordering::Relaxed);
        self.misses.store(0, Ordering::Relaxed);
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        self.shards.get().into_iter().flatten().try_for_each(|shard| visit.call(shard))
    }
}
