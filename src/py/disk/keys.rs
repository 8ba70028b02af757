//! Iterates over the keys of a cache, one page at a time. The cache may change meanwhile.

use std::collections::VecDeque;

use flexcache_disk::{DiskStore, Order, OwnedKey};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::cache::DiskCache;
use crate::py::object::argument::truth;
use crate::py::object::did_you_mean;
use crate::py::process::guard::Guard;

/// The position of an iteration.
pub(super) enum Place {
    /// In the order of insertion: the last row that was returned, and the row at which to end.
    Row(i64, i64),
    /// In the order of keys: the last key that was returned.
    Key(Option<OwnedKey>),
    /// At the end.
    Over,
}

struct State {
    place: Place,
    page: VecDeque<OwnedKey>,
}

/// An iterator over the keys of a cache.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct DiskKeys {
    cache: Py<DiskCache>,
    order: Order,
    state: Guard<State>,
}

impl DiskKeys {
    pub(super) fn new(cache: Py<DiskCache>, place: Place, order: Order) -> Self {
        Self { cache, order, state: Guard::new(State { place, page: VecDeque::new() }, true) }
    }

    /// Reads the next page. If two threads do so at the same time, one page is discarded.
    fn turn_page(&self, py: Python<'_>) -> PyResult<Option<OwnedKey>> {
        let place = self.state.with(py, |state| std::mem::replace(&mut state.place, Place::Over))?;
        let cache = self.cache.get();
        let order = self.order;
        let (place, page): (Place, Vec<OwnedKey>) = match place {
            Place::Over => return Ok(None),
            Place::Row(beyond, limit) => {
                let rows = cache
                    .wait(py, true, |store, patience| store.keys_by_row(beyond, limit, order, patience))?;
                let place = rows.last().map_or(Place::Over, |(row, _)| Place::Row(*row, limit));
                (place, rows.into_iter().map(|(_, key)| key).collect())
            }
            Place::Key(beyond) => {
                let beyond = beyond.as_ref();
                let keys =
                    cache.wait(py, true, |store, patience| store.keys_by_key(beyond, order, patience))?;
                (keys.last().map_or(Place::Over, |key| Place::Key(Some(key.clone()))), keys)
            }
        };
        Ok(self.state.with(py, |state| {
            state.place = place;
            state.page.extend(page);
            state.page.pop_front()
        })?)
    }
}

#[pymethods]
impl DiskKeys {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let next = match self.state.with(py, |state| state.page.pop_front())? {
            Some(key) => Some(key),
            None => self.turn_page(py)?,
        };
        next.map(|key| self.cache.get().decode_key(py, &key)).transpose()
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.cache)
    }
}

impl DiskCache {
    fn keys(slf: &Bound<'_, Self>, order: Order) -> PyResult<DiskKeys> {
        let last = slf.get().wait(slf.py(), true, DiskStore::last_row)?;
        let place = match (last, order) {
            (None, _) => Place::Over,
            (Some(last), Order::Ascending) => Place::Row(i64::MIN, last),
            (Some(last), Order::Descending) => Place::Row(last.saturating_add(1), i64::MIN),
        };
        Ok(DiskKeys::new(slf.clone().unbind(), place, order))
    }
}

#[pymethods]
impl DiskCache {
    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        let count = self.wait(py, true, DiskStore::len)?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    fn __iter__(slf: &Bound<'_, Self>) -> PyResult<DiskKeys> {
        Self::keys(slf, Order::Ascending)
    }

    fn __reversed__(slf: &Bound<'_, Self>) -> PyResult<DiskKeys> {
        Self::keys(slf, Order::Descending)
    }

    /// Return an iterator over the keys in sorted order: numbers, then text, then bytes, including pickled
    ///     keys. Changes during the iteration are allowed.
    ///
    /// Args:
    ///     reverse: Whether to start with the largest key.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> for key in "b", 1, "a": cache[key] = None
    /// >>> list(cache.iterkeys()), list(cache)
    /// ([1, 'a', 'b'], ['b', 1, 'a'])
    #[pyo3(signature = (reverse=false, **unknown), text_signature = "($self, /, reverse=False)")]
    fn iterkeys(
        slf: Py<Self>,
        #[pyo3(from_py_with = truth)] reverse: bool,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<DiskKeys> {
        did_you_mean::refuse("iterkeys", unknown, &["reverse"])?;
        let order = if reverse { Order::Descending } else { Order::Ascending };
        Ok(DiskKeys::new(slf, Place::Key(None), order))
    }
}
