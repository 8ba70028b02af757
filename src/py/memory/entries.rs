//! The steps on one entry in memory, each in one locked section: find, read, write, remove.
//!
//! They do not handle policies written in Python or tiers; that is built on top of them.

use std::sync::Arc;

use flexcache_core::{Cause, New, Slot};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::PyString;

use super::any_store::AnyStore;
use super::core_errors::{out_of_memory, refused};
use super::lookup::Shard;
use super::policy_turn::Turn;
use super::state::FlexCache;
use super::terms::{IfPresent, Terms, WriteOutcome};
use crate::py::object::duration;
use crate::py::object::key;
use crate::py::object::running_python::decref;
use crate::py::removal::removed_entries::{RemovedEntries, RemovedEntry};
use crate::py::store::loads::{Load, Origin};
use crate::py::store::seam::StoredEntry;

/// The exception for a key that is absent.
pub(crate) fn missing(key: &Bound<'_, PyAny>) -> PyErr {
    PyKeyError::new_err((key.clone().unbind(),))
}

impl FlexCache {
    /// Reads a live entry; counts a hit or a miss and an access. Without `WHOLE`, only the value of the
    /// result is filled in.
    pub(super) fn read_store<const WHOLE: bool>(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        hash: u64,
    ) -> PyResult<Option<StoredEntry>> {
        self.read_found::<WHOLE>(key, hash, |_, found| found)
    }

    /// [`read_store`](Self::read_store), where `choose` decides whether the entry that was found is used.
    pub(super) fn read_found<const WHOLE: bool>(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        hash: u64,
        choose: impl Fn(&AnyStore, Option<Slot>) -> Option<Slot>,
    ) -> PyResult<Option<StoredEntry>> {
        let py = key.py();
        let mut removed = RemovedEntries::new();
        let read = self.shards.find(&key, hash, |store, found| {
            let chosen = choose(store, found);
            let value = store.get(chosen, hash, self.clock(), &mut removed)?.clone_ref(py);
            let slot = chosen.filter(|_| WHOLE);
            Some((value, slot.and_then(|slot| store.deadline(slot)), slot.map(|slot| store.tags(slot))))
        })?;
        if !removed.is_empty() {
            self.finish_removals(py, removed)?;
        }
        let Some((value, deadline, names)) = read else { return Ok(None) };
        let mut tags = Vec::new();
        for name in names.transpose().map_err(out_of_memory)?.unwrap_or_default() {
            tags.push(PyBackedStr::try_from(PyString::new(py, &name))?);
        }
        let seconds = deadline.map(|deadline| duration::seconds_until_by(deadline, self.clock()));
        Ok(Some(StoredEntry { value, seconds, tags }))
    }

    /// Finds a live entry without counting, and runs `step` on it in the locked section.
    #[inline]
    pub(crate) fn find_live<R>(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        step: impl FnOnce(&mut AnyStore, Slot) -> R,
    ) -> PyResult<Option<R>> {
        let hash = key::hash(&key, self.seed)?;
        self.read_clock(key.py())?;
        self.shards.find(&key, hash, |store, found| {
            let slot = found?;
            if store.has_expired_by(slot, self.clock()) { None } else { Some(step(store, slot)) }
        })
    }

    /// Stores an entry.
    #[inline]
    pub(super) fn write_store(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        value: Borrowed<'_, '_, PyAny>,
        hash: u64,
        Terms { weight, deadline, tags, if_present, freshness, origin }: Terms<'_>,
    ) -> PyResult<WriteOutcome> {
        let py = key.py();
        let mut removed = RemovedEntries::new();
        // Loads whose results must no longer be stored.
        let mut discarded = Vec::new();
        let mut unstamped = Ok(());
        let stored = self.shards.find(&key, hash, |store, found| {
            let clock = self.clock().of_section();
            let present = found.is_some_and(|slot| !store.has_expired_by(slot, &clock));
            if present && if_present != IfPresent::Replace {
                return Ok(WriteOutcome::AlreadyPresent);
            }
            if let Origin::Landing(load) = origin
                && !store.loads.may_land(load, tags)
            {
                return Ok(WriteOutcome::Discarded);
            }
            // Made only now, so that nothing has to be undone if Python's `__eq__` raised.
            let new =
                New { key: key.to_owned().unbind(), value: value.to_owned().unbind(), weight, deadline };
            let stored = store.put(found, hash, new, tags, &clock, &mut removed);
            if let (Ok(slot), true) = (&stored, self.tier.is_some()) {
                unstamped = store.set_freshness(*slot, freshness);
            }
            if !store.loads.is_empty() && stored.is_ok() {
                discarded = match origin {
                    Origin::Write => store.loads.written(hash, &key),
                    Origin::Landing(load) => store.loads.landed(load, &key),
                    Origin::Fill => Vec::new(),
                };
            }
            if store.has_deadlines() {
                self.expire_some(store, &clock, &mut removed);
            }
            stored.map(|_| if present { WriteOutcome::Updated } else { WriteOutcome::Inserted })
        })?;
        drop(discarded);
        if !removed.is_empty() {
            self.finish_removals_by_write(py, removed, value)?;
        }
        // An entry without its stamp must not be served as a copy of the store's, so the caller removes it.
        unstamped.map_err(out_of_memory)?;
        match stored {
            Ok(stored) => Ok(stored),
            Err((error, new)) => {
                decref(py, new.key);
                decref(py, new.value);
                Err(refused(error))
            }
        }
    }

    /// Removes a live entry and returns it. The caller finishes the removal, except that of a popped entry,
    /// which is finished here.
    ///
    /// Removing is a write even if there is no entry: it discards the loads of the key.
    pub(super) fn remove_entry(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        cause: Cause,
    ) -> PyResult<Option<RemovedEntry>> {
        self.remove_entry_and(key, cause, |shard, _, hash| Some(shard.loads.written(hash, &key)))
    }

    /// [`remove_entry`](Self::remove_entry), with a closure that gets the entry and the hash, and handles the loads of the
    /// key. If it returns `None`, the entry stays.
    pub(super) fn remove_entry_and(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        cause: Cause,
        discard: impl FnOnce(&mut Shard, Option<Slot>, u64) -> Option<Vec<Arc<Load>>>,
    ) -> PyResult<Option<RemovedEntry>> {
        let turn = self.turn(key.py())?;
        let hash = key::hash(&key, self.seed)?;
        self.remove_entry_hashed(turn.as_ref(), key, hash, cause, discard)
    }

    /// [`remove_entry_and`](Self::remove_entry_and) for a key with a known hash, in this thread's turn at the
    /// policy.
    pub(super) fn remove_entry_hashed(
        &self,
        turn: Option<&Turn<'_>>,
        key: Borrowed<'_, '_, PyAny>,
        hash: u64,
        cause: Cause,
        discard: impl FnOnce(&mut Shard, Option<Slot>, u64) -> Option<Vec<Arc<Load>>>,
    ) -> PyResult<Option<RemovedEntry>> {
        let py = key.py();
        self.read_clock(py)?;
        let (mut expired, mut removed) = (RemovedEntries::new(), RemovedEntries::new());
        let discarded = self.shards.find(&key, hash, |store, found| {
            let discarded = discard(store, found, hash)?;
            if let Some(slot) = store.live(found, self.clock(), &mut expired) {
                store.remove(slot, cause, &mut removed);
            }
            Some(discarded)
        })?;
        drop(discarded);
        self.finish_removals(py, expired)?;
        match removed.pop() {
            Some(entry) if cause == Cause::Popped => self.finish_pop(py, turn, entry).map(Some),
            removed => Ok(removed),
        }
    }
}
