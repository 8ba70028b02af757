//! A cache's view of the store behind it: which copies memory may serve, and under which keys it has them.

use std::sync::Arc;
use std::time::Duration;

use flexcache_core::{Clock, Nanos, Stamp};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::py::object::encoded_key::EncodedKey;
use crate::py::process::clock::{ClockOfSection, SystemClock};
use crate::py::store::cached_result::CachedResult;
use crate::py::store::loads::{LoadLease, Origin};
use crate::py::store::rule_switch::is_off;
use crate::py::store::seam::{
    Coherence, Commit, Equality, Loaded, NewEntry, PutMode, PutResult, Store, StoredEntry,
};

/// The store behind a cache.
pub(crate) struct Tier {
    /// The argument `store`.
    pub(crate) given: Py<PyAny>,
    pub(crate) coherence: Coherence,
    /// The seconds for which a load reserves its key; `None` if it does not.
    pub(crate) lease_seconds: Option<f64>,
    /// How long a load waits for one in another cache or process.
    pub(crate) lease_wait: Duration,
    pub(crate) store: Arc<dyn Store>,
}

/// When a copy in memory was current.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Freshness {
    pub(crate) stamp: Stamp,
    /// When it was fetched; 0 unless copies are served for a limited time.
    pub(crate) fetched: Nanos,
}

/// Converts a [`CachedResult`] to the plain types that go to the store; `None` for other values.
fn as_in_store<'py>(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Option<Bound<'py, PyTuple>>> {
    CachedResult::of(&value).map(|known| known.get().stored(value.py())).transpose()
}

fn as_in_memory(py: Python<'_>, entry: &mut StoredEntry) -> PyResult<()> {
    if let Some(known) = CachedResult::from_stored(entry.value.bind(py))? {
        entry.value = known;
    }
    Ok(())
}

impl Tier {
    pub(crate) fn new(
        given: &Bound<'_, PyAny>,
        coherence: Coherence,
        lease_seconds: Option<f64>,
        lease_wait: Duration,
        store: Arc<dyn Store>,
    ) -> Self {
        Self { given: given.clone().unbind(), coherence, lease_seconds, lease_wait, store }
    }

    /// The tier for a copy of the cache. It shares the store, so the copies in memory stay valid.
    pub(crate) fn share(&self, py: Python<'_>) -> Self {
        Self { given: self.given.clone_ref(py), store: Arc::clone(&self.store), ..*self }
    }

    /// Refuses more tags than the store can keep for an entry.
    pub(crate) fn check_tags(&self, py: Python<'_>, tags: &[PyBackedStr]) -> PyResult<()> {
        let is_new = |&(at, tag): &(usize, &PyBackedStr)| tags[..at].iter().all(|other| **other != **tag);
        if tags.len() <= 1 || tags.iter().enumerate().filter(is_new).count() <= self.store.most_tags() {
            return Ok(());
        }
        let tags = PyTuple::new(py, tags.iter().map(|tag| &**tag))?;
        Err(PyValueError::new_err(format!(
            "tags must be at most one with a store on disk, which keeps one tag for each entry, not {}",
            tags.repr()?
        )))
    }

    /// The time from which the bound counts for a copy of what is read or written after this call; 0 without a bound.
    pub(crate) fn asked_at(&self) -> Nanos {
        if let Coherence::Within(_) = self.coherence { SystemClock.now() } else { 0 }
    }

    /// Whether a copy may be served, if that can be decided without running Python code or waiting.
    #[inline(always)]
    pub(crate) fn is_live_natively(
        &self,
        py: Python<'_>,
        of: Freshness,
        clock: &ClockOfSection,
    ) -> Option<bool> {
        if let Coherence::Within(bound) = self.coherence
            && clock.reached(of.fetched.saturating_add(bound))
        {
            return Some(false);
        }
        self.store.is_live_natively(py, of.stamp, clock)
    }

    /// Whether a copy may be served.
    pub(crate) fn is_live(&self, py: Python<'_>, of: Freshness) -> PyResult<bool> {
        match self.is_live_natively(py, of, &ClockOfSection::default()) {
            Some(live) => Ok(live),
            None => self.store.is_live(py, of.stamp),
        }
    }

    /// Whether memory uses the key itself.
    #[inline(always)]
    pub(crate) fn is_plain_key(&self, key: Borrowed<'_, '_, PyAny>) -> bool {
        key.is_exact_instance_of::<PyString>() || self.store.is_plain_key(key)
    }

    /// The key under which memory has an entry. Two keys share one only if they are equal to the store.
    pub(crate) fn key_in_memory<'py>(&self, key: Borrowed<'_, 'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if self.store.equality() == Equality::Python || self.is_plain_key(key) {
            return Ok(key.to_owned());
        }
        EncodedKey::wrap(key, self.store.encode_key(key)?)
    }

    /// Loads a live entry.
    pub(crate) fn load(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Loaded> {
        Self::as_loaded(key.py(), self.store.load(key)?)
    }

    /// Converts a loaded entry to the form that memory has.
    pub(crate) fn as_loaded(py: Python<'_>, mut loaded: Loaded) -> PyResult<Loaded> {
        if let Some(entry) = &mut loaded.entry {
            as_in_memory(py, entry)?;
        }
        Ok(loaded)
    }

    /// Stores an entry, unless it is the result of a load that was discarded.
    pub(crate) fn put(
        &self,
        entry: NewEntry<'_, '_>,
        mode: PutMode,
        origin: Origin<'_>,
    ) -> PyResult<Commit<PutResult>> {
        let plain = as_in_store(entry.value)?;
        let value = plain.as_ref().map_or(entry.value, |plain| plain.as_any().as_borrowed());
        let Origin::Landing(load) = origin else {
            return self.store.put(NewEntry { value, ..entry }, mode, &|| false, None);
        };
        let lease = match load.lease() {
            LoadLease::Elsewhere => {
                return Ok(Commit { result: PutResult::Discarded, stamp: Stamp::NONE });
            }
            LoadLease::Held(lease) => Some(lease).filter(|_| !is_off("landing_lease")),
            LoadLease::None | LoadLease::Waits(..) => None,
        };
        let put = self.store.put(NewEntry { value, ..entry }, mode, &|| load.is_discarded(), lease.as_ref());
        let commit = match put {
            Err(error) => {
                if self.store.keeps_no_result(entry.key.py())? {
                    return Ok(Commit { result: PutResult::Discarded, stamp: Stamp::NONE });
                }
                return Err(error);
            }
            Ok(commit) => commit,
        };
        if commit.result == PutResult::Discarded {
            load.discard();
        }
        Ok(commit)
    }

    /// Stores or replaces entries, and returns the stamp of each.
    pub(crate) fn put_many(&self, py: Python<'_>, entries: &[NewEntry<'_, '_>]) -> PyResult<Vec<Stamp>> {
        let mut plain = Vec::with_capacity(entries.len());
        for entry in entries {
            plain.push(as_in_store(entry.value)?);
        }
        let mut in_store = Vec::with_capacity(entries.len());
        for (entry, plain) in entries.iter().zip(&plain) {
            let value = plain.as_ref().map_or(entry.value, |plain| plain.as_any().as_borrowed());
            in_store.push(NewEntry { value, ..*entry });
        }
        self.store.put_many(py, &in_store)
    }

    /// Removes a live entry and returns it.
    pub(crate) fn pop(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Commit<Option<StoredEntry>>> {
        let mut popped = self.store.pop(key)?;
        if let Some(entry) = &mut popped.result {
            as_in_memory(key.py(), entry)?;
        }
        Ok(popped)
    }

    pub(crate) fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.given)?;
        self.store.traverse(visit)
    }

    /// The keyword arguments that give a cache this tier.
    pub(crate) fn configuration(&self, arguments: &Bound<'_, PyDict>) -> PyResult<()> {
        arguments.set_item("store", &self.given)?;
        arguments.set_item("lease", self.lease_seconds)?;
        arguments.set_item("lease_wait", self.lease_wait.as_secs_f64())?;
        self.coherence.configuration(arguments)
    }
}
