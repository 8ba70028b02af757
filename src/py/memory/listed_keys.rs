//! The iterator over the keys of a cache that lists them in the order of insertion, as a `dict` does. It
//! costs no more for each key than that of a `dict`, and nothing for the keys that nobody asks for.
//!
//! The interpreter calls its `__next__` without PyO3's wrapping.

use std::ptr;

use flexcache_core::Slot;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::lookup::Shard;
use super::state::FlexCache;
use crate::py::object::entered::entered;
use crate::py::object::running_python;
use crate::py::process::guard::Guard;

struct Rest {
    /// The cache, which is let go at the end.
    cache: Option<Py<FlexCache>>,
    next: Option<Slot>,
    /// How many keys are left. There are as many as entries at the beginning.
    left: usize,
    /// What the store said of its changes at the last step. The number of entries is that of the beginning.
    seen: (u64, usize),
}

/// Iterates over the keys of a cache, under the rules of a `dict`'s iterator: it raises RuntimeError if the
/// number of entries has changed.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct ListedKeys {
    rest: Guard<Rest>,
}

/// The key at a slot, and the next slot. `None` if the slot is vacant. Never panics.
#[inline(always)]
fn step(py: Python<'_>, store: &Shard, slot: Slot) -> Option<(Py<PyAny>, Option<Slot>)> {
    let key = store.key_at(slot)?.clone_ref(py);
    Some((key, store.listed_after(slot)))
}

impl ListedKeys {
    /// An iterator over the keys of a cache that has one shard, with a policy that lists its entries. O(1).
    pub(super) fn new(cache: &Bound<'_, FlexCache>) -> PyResult<Self> {
        let (next, seen) =
            cache.get().shards.first().with(cache.py(), |store| (store.first_listed(), store.changes()))?;
        let rest = Rest { cache: Some(cache.clone().unbind()), next, left: seen.1, seen };
        Ok(Self { rest: Guard::new(rest, true) })
    }

    /// The next key, unless it is the end or the keys have changed. Never panics.
    #[inline(always)]
    fn next_of_unchanged(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let mut rest = self.rest.lock(py).ok()?;
        let (slot, left) = (rest.next?, rest.left.checked_sub(1)?);
        let store = rest.cache.as_ref()?.get().shards.first().lock(py).ok()?;
        if store.changes() != rest.seen {
            return None;
        }
        let (key, next) = step(py, &store, slot)?;
        drop(store);
        (rest.next, rest.left) = (next, left);
        Some(key)
    }

    /// The next key in all other cases.
    #[cold]
    fn next_of_changed(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let mut rest = self.rest.lock(py)?;
        let Some(cache) = &rest.cache else { return Ok(None) };
        let (next, left, len) = (rest.next, rest.left, rest.seen.1);
        let (changes, found) = cache.get().shards.first().with(py, |store| {
            let goes_on = next.filter(|_| left > 0 && store.len() == len);
            (store.changes(), goes_on.and_then(|slot| step(py, store, slot)))
        })?;
        if changes.1 != len {
            return Err(PyRuntimeError::new_err("the cache changed its size during iteration"));
        }
        if let Some((key, next)) = found {
            // Entries have replaced others.
            (rest.next, rest.left, rest.seen) = (next, left - 1, changes);
            return Ok(Some(key));
        }
        if next.is_some() || left > 0 {
            // There are more than at the beginning, or the next entry was replaced.
            return Err(PyRuntimeError::new_err("the keys of the cache changed during iteration"));
        }
        let cache = rest.cache.take();
        drop(rest);
        if let Some(cache) = cache {
            running_python::decref(py, cache.into_any());
        }
        Ok(None)
    }
}

#[pymethods]
impl ListedKeys {
    fn __iter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.next_of_unchanged(py).map_or_else(|| self.next_of_changed(py), |key| Ok(Some(key)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs this in a thread that is attached; the token is used for
        // nothing but to take the lock.
        let py = unsafe { Python::assume_attached() };
        self.rest.try_with(py, |rest| visit.call(&rest.cache)).unwrap_or(Ok(()))
    }

    fn __clear__(&self, py: Python<'_>) {
        let cache = self.rest.with(py, |rest| rest.cache.take());
        drop(cache);
    }
}

/// `__next__`, as the interpreter calls it.
unsafe extern "C" fn next(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls the slot in a thread that is attached, on an instance of the class, which
    // it keeps alive. No class derives from it.
    unsafe {
        let py = Python::assume_attached();
        let this = Borrowed::from_ptr(py, this).cast_unchecked::<ListedKeys>();
        if let Some(key) = this.get().next_of_unchanged(py) {
            return key.into_ptr();
        }
        entered(ptr::null_mut(), |py| {
            Ok(this.get().next_of_changed(py)?.map_or(ptr::null_mut(), Py::into_ptr))
        })
    }
}

/// Puts the fast `__next__` on the class. Called once, before an instance can be made.
pub(crate) fn install(py: Python<'_>) {
    let class = py.get_type::<ListedKeys>();
    // SAFETY: PyO3 made the type, on the heap, with this method; it is not in use yet.
    unsafe {
        (*class.as_type_ptr()).tp_iternext = Some(next);
        ffi::PyType_Modified(class.as_type_ptr());
    }
}
