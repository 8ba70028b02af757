//! Iteration, and the views that `keys`, `values` and `entries` return.
//!
//! An iterator keeps a list of the entries that existed when it was made, in their order, and skips those
//! that were removed. If a slot still holds the same key object, it holds the same entry: the iterator's
//! reference keeps that object's address from being reused.

use flexcache_core::Slot;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::core_errors::out_of_memory;
use super::state::FlexCache;
use crate::py::object::encoded_key::EncodedKey;
use crate::py::object::fallible;
use crate::py::object::running_python;
use crate::py::process::guard::Guard;
use crate::py::removal::nesting::not_too_deep;

/// What a view shows of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Keys,
    Values,
    Entries,
}

/// An entry that existed when the iterator was made.
struct IterEntry {
    shard: usize,
    slot: Slot,
    key: Py<PyAny>,
}

struct Rest {
    cache: Option<Py<FlexCache>>,
    entries: std::vec::IntoIter<IterEntry>,
}

/// Iterates over the entries that a cache had at the beginning, without those that were removed since.
#[pyclass(frozen, generic, module = "flexcache_rs._core")]
pub(crate) struct CacheIterator {
    rest: Guard<Rest>,
    what: What,
    /// Whether a key may be an [`EncodedKey`].
    has_encoded_keys: bool,
}

impl CacheIterator {
    pub(crate) fn new(cache: &Bound<'_, FlexCache>, what: What) -> PyResult<Self> {
        let py = cache.py();
        cache.get().scan_if_due(py)?;
        let mut entries = Vec::new();
        for (shard, store) in cache.get().shards.iter().enumerate() {
            store.with(py, |store| {
                entries.try_reserve(store.len()).map_err(|error| out_of_memory(error.into()))?;
                store.listing().for_each(|slot| {
                    entries.push(IterEntry { shard, slot, key: store.key(slot).clone_ref(py) });
                });
                Ok::<_, PyErr>(())
            })??;
        }
        let rest = Rest { cache: Some(cache.clone().unbind()), entries: entries.into_iter() };
        let has_encoded_keys = cache.get().distinguishes_equal_keys();
        Ok(Self { rest: Guard::new(rest, true), what, has_encoded_keys })
    }

    /// The key of an entry, as the user knows it.
    #[inline]
    fn key_of(&self, py: Python<'_>, entry: IterEntry) -> Py<PyAny> {
        if self.has_encoded_keys { EncodedKey::unwrap(py, entry.key) } else { entry.key }
    }
}

/// The value of an entry, if it is still there.
fn value_of(py: Python<'_>, cache: &FlexCache, entry: &IterEntry) -> PyResult<Option<Py<PyAny>>> {
    cache.read_clock(py)?;
    let Some(shard) = cache.shards.iter().nth(entry.shard) else { return Ok(None) };
    Ok(shard.with(py, |store| {
        let same = store.key_at(entry.slot).is_some_and(|key| key.is(&entry.key));
        (same && !store.has_expired_by(entry.slot, cache.clock()))
            .then(|| store.value(entry.slot).clone_ref(py))
    })?)
}

impl Drop for CacheIterator {
    fn drop(&mut self) {
        let keys = std::mem::take(&mut self.rest.get_mut().entries);
        if keys.len() > 0 {
            let _ = Python::try_attach(|py| {
                not_too_deep(py, |py| keys.for_each(|entry| running_python::decref(py, entry.key)));
            });
        }
    }
}

#[pymethods]
impl CacheIterator {
    fn __iter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        loop {
            let (cache, next) = self.rest.with(py, |rest| match rest.entries.next() {
                Some(next) => (rest.cache.as_ref().map(|cache| cache.clone_ref(py)), Some(next)),
                None => (rest.cache.take(), None),
            })?;
            let (Some(cache), Some(entry)) = (cache, next) else { return Ok(None) };
            let Some(value) = value_of(py, cache.get(), &entry)? else { continue };
            return Ok(Some(match self.what {
                What::Keys => self.key_of(py, entry),
                What::Values => value,
                What::Entries => {
                    let key = self.key_of(py, entry);
                    fallible::pair(py, key, value)?.into_any().unbind()
                }
            }));
        }
    }

    fn __length_hint__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.rest.with(py, |rest| rest.entries.len())?)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs this in a thread that is attached; the token is used for
        // nothing but to take the lock.
        let py = unsafe { Python::assume_attached() };
        let visited = self.rest.try_with(py, |rest| {
            visit.call(&rest.cache)?;
            rest.entries.as_slice().iter().try_for_each(|entry| visit.call(&entry.key))
        });
        visited.unwrap_or(Ok(()))
    }

    fn __clear__(&self, py: Python<'_>) {
        let taken = self.rest.with(py, |rest| (rest.cache.take(), std::mem::take(&mut rest.entries)));
        drop(taken);
    }
}

/// A view of the keys, values or entries of a cache. It shows the current contents.
#[pyclass(frozen, subclass, generic, module = "flexcache_rs._core")]
pub(crate) struct CacheView {
    cache: Py<FlexCache>,
    what: What,
}

/// The keys of a cache: a `KeysView`, with the operations of a set.
#[pyclass(frozen, extends = CacheView, generic, module = "flexcache_rs._core")]
pub(crate) struct CacheKeysView;

/// The values of a cache: a `ValuesView`.
#[pyclass(frozen, extends = CacheView, generic, module = "flexcache_rs._core")]
pub(crate) struct CacheValuesView;

/// The pairs of key and value of a cache: an `ItemsView`, with the operations of a set.
#[pyclass(frozen, extends = CacheView, generic, module = "flexcache_rs._core")]
pub(crate) struct CacheItemsView;

impl CacheView {
    /// A view of one of the three kinds.
    pub(crate) fn of(cache: &Bound<'_, FlexCache>, what: What) -> PyResult<Py<PyAny>> {
        let py = cache.py();
        let view = PyClassInitializer::from(Self { cache: cache.clone().unbind(), what });
        Ok(match what {
            What::Keys => Py::new(py, view.add_subclass(CacheKeysView))?.into_any(),
            What::Values => Py::new(py, view.add_subclass(CacheValuesView))?.into_any(),
            What::Entries => Py::new(py, view.add_subclass(CacheItemsView))?.into_any(),
        })
    }
}

#[pymethods]
impl CacheView {
    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.cache.bind(py).len()
    }

    fn __iter__(&self, py: Python<'_>) -> PyResult<CacheIterator> {
        CacheIterator::new(self.cache.bind(py), self.what)
    }

    fn __contains__(&self, wanted: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = wanted.py();
        let cache = self.cache.get();
        match self.what {
            What::Keys => cache.has(wanted.as_borrowed()),
            What::Values => {
                for value in
                    CacheIterator::new(self.cache.bind(py), What::Values)?.into_pyobject(py)?.try_iter()?
                {
                    if running_python::eq(&value?, &wanted.as_borrowed())? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            What::Entries => {
                let Ok((key, value)) = wanted.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>() else {
                    return Ok(false);
                };
                let stored =
                    cache.find_live(key.as_borrowed(), |store, slot| store.value(slot).clone_ref(py))?;
                stored.map_or(Ok(false), |stored| running_python::eq(stored.bind(py), &value.as_borrowed()))
            }
        }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let name = match self.what {
            What::Keys => "keys",
            What::Values => "values",
            What::Entries => "entries",
        };
        let shown = py
            .import("builtins")?
            .call_method1("list", (CacheIterator::new(self.cache.bind(py), self.what)?,))?;
        Ok(format!("{name}({})", shown.repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.cache)
    }
}
