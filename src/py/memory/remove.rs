//! Removes entries: one by its key, the next victim, those with a tag, or all.

use flexcache_core::{Cause, OutOfMemory, Slot};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use std::sync::Arc;

use super::any_store::Complicated;
use super::core_errors::out_of_memory;
use super::detours::Detours;
use super::entries::missing;
use super::expiry::BATCH;
use super::lookup::Shard;
use super::shard_lock::ShardLock;
use super::state::FlexCache;
use crate::py::object::key::native_eq_by_hash;
use crate::py::object::running_python::attached;
use crate::py::removal::removed_entries::{RemovedEntries, RemovedEntry};
use crate::py::store::loads::{Load, LoadLease};

impl FlexCache {
    /// Removes the next victim and returns it; `None` if the cache is empty.
    pub(super) fn pop_victim(&self, py: Python<'_>) -> PyResult<Option<RemovedEntry>> {
        self.remove_expired(py)?;
        let turn = self.turn(py)?;
        let popped = if turn.is_some() {
            if self.sum(py, |store| store.len())? == 0 {
                return Ok(None);
            }
            self.remove_custom_victim(py, turn.as_ref(), Cause::Popped)?
        } else {
            self.pop_from_fullest(py)?
        };
        popped.map(|entry| self.finish_pop(py, turn.as_ref(), entry)).transpose()
    }

    fn pop_from_fullest(&self, py: Python<'_>) -> PyResult<Option<RemovedEntry>> {
        loop {
            let mut fullest = (0, None);
            for shard in self.shards.iter() {
                let len = shard.with(py, |store| store.len())?;
                if len > fullest.0 {
                    fullest = (len, Some(shard));
                }
            }
            let Some(shard) = fullest.1 else { return Ok(None) };
            // Other threads may have emptied the shard meanwhile; then another shard may have entries.
            if let Some(entry) = Self::pop_from(py, shard, |store| store.victim())? {
                return Ok(Some(entry));
            }
        }
    }

    /// Chooses an entry and removes it in one locked section; `None` if there is none.
    fn pop_from(
        py: Python<'_>,
        shard: &ShardLock,
        choose: impl FnOnce(&mut Shard) -> Option<Slot>,
    ) -> PyResult<Option<RemovedEntry>> {
        let mut removed = RemovedEntries::new();
        let discarded = shard.with(py, |store| {
            let chosen = choose(store)?;
            store.remove(chosen, Cause::Popped, &mut removed);
            removed.iter().last().map(|entry| store.loads.removed(&entry.key.bind_borrowed(py)))
        })?;
        drop(discarded);
        Ok(removed.pop())
    }

    /// Removes the entry with a rank, if each entry has its own rank; `None` if there is none.
    pub(super) fn pop_at_rank(&self, py: Python<'_>, rank: u64) -> PyResult<Option<RemovedEntry>> {
        for shard in self.shards.iter() {
            if let Some(entry) = Self::pop_from(py, shard, |store| store.at_rank(rank))? {
                return self.finish_pop(py, None, entry).map(Some);
            }
        }
        Ok(None)
    }

    /// `del` for the fast calls. It handles the same cases as [`write_if_plain`](Self::write_if_plain).
    #[inline]
    pub(crate) fn remove_or_raise_fast(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
        let py = key.py();
        if self.detours.have(Detours::SLOW_PATH | Detours::WRITES | Detours::WEIGHER) {
            return attached(py, |_| self.remove_or_raise(&key));
        }
        let hash = self.hash(key)?;
        match self.remove_if_plain(key, hash) {
            Ok(Some(entry)) => {
                self.notifier.finish(py, entry);
                Ok(())
            }
            Ok(None) => Err(missing(&key)),
            Err(Complicated) => attached(py, |py| {
                let written = |shard: &mut Shard, _, hash| Some(shard.loads.written(hash, &key));
                let entry = self.remove_entry_hashed(None, key, hash, Cause::Deleted, written)?;
                self.finish_removal(py, entry.ok_or_else(|| missing(&key))?)
            }),
        }
    }

    #[inline]
    fn remove_if_plain(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        hash: u64,
    ) -> Result<Option<RemovedEntry>, Complicated> {
        let Ok(mut shard) = self.shards.of(hash).lock(key.py()) else { return Err(Complicated) };
        if !shard.loads.is_empty() {
            return Err(Complicated);
        }
        shard.remove_if_plain(hash, |stored, hash| native_eq_by_hash(stored, &key, &hash).ok_or(Complicated))
    }

    /// Removes an entry. Returns whether it was present.
    pub(super) fn remove(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<bool> {
        if let Some(tier) = &self.tier {
            return self.remove_through(tier, key);
        }
        let py = key.py();
        let turn = self.turn(py)?;
        let removed = self.remove_entry(key, Cause::Deleted)?;
        let found = removed.is_some();
        if let Some(entry) = removed {
            self.finish_removal(py, entry)?;
        }
        drop(turn);
        Ok(found)
    }

    /// Removes the older entry of a key when the result of a load cannot be stored, unless the key was
    /// written since the load began.
    pub(super) fn remove_for_load(&self, key: Borrowed<'_, '_, PyAny>, load: &Arc<Load>) -> PyResult<()> {
        let py = key.py();
        if let Some(tier) = &self.tier {
            let may_land = self.shards.of(load.hash()).with(py, |shard| shard.loads.may_land(load, &[]))?;
            let may_write = match load.lease() {
                LoadLease::Held(lease) => lease.is_valid(py)?,
                LoadLease::Elsewhere => false,
                LoadLease::None | LoadLease::Waits(..) => true,
            };
            return if may_land && may_write { self.remove_through(tier, key).map(drop) } else { Ok(()) };
        }
        let turn = self.turn(py)?;
        let unless_written = |shard: &mut Shard, _, _| shard.loads.may_land(load, &[]).then(Vec::new);
        if let Some(entry) = self.remove_entry_and(key, Cause::Deleted, unless_written)? {
            self.finish_removal(py, entry)?;
        }
        drop(turn);
        Ok(())
    }

    pub(crate) fn remove_or_raise(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.remove(key.as_borrowed())? { Ok(()) } else { Err(missing(key)) }
    }

    /// Removes every live entry that has a tag. Returns their number.
    pub(crate) fn remove_tagged(&self, py: Python<'_>, tag: &str) -> PyResult<usize> {
        self.read_clock(py)?;
        let turn = self.turn(py)?;
        let mut removed = RemovedEntries::new();
        // All entries are removed before any hook runs, as hooks may store others with the tag.
        let all = self.remove_tagged_entries(py, tag, &mut removed);
        let count = removed.iter().filter(|entry| entry.cause == Cause::Deleted).count();
        let ran_out = removed.ran_out_of_memory();
        let finished = self.finish_removals(py, removed);
        drop(turn);
        all.and(finished)?;
        if ran_out { Err(out_of_memory(OutOfMemory)) } else { Ok(count) }
    }

    fn remove_tagged_entries(&self, py: Python<'_>, tag: &str, removed: &mut RemovedEntries) -> PyResult<()> {
        for shard in self.shards.iter() {
            // At most as many as there were at the beginning, or threads that keep storing would keep this
            // loop running.
            let (mut rest, discarded) =
                shard.with(py, |store| (store.count_tagged(tag), store.loads.evicting(tag)))?;
            drop(discarded);
            while rest > 0 {
                let most = rest.min(BATCH);
                let count = shard.with(py, |store| store.evict_tag(tag, most, self.clock(), removed))?;
                rest = if count < most { 0 } else { rest - count };
            }
        }
        Ok(())
    }

    /// Removes every entry.
    pub(crate) fn remove_all(&self, py: Python<'_>, cause: Cause) -> PyResult<()> {
        let turn = self.turn(py)?;
        let mut result = Ok(());
        if let Some(absent) = &self.absent {
            absent.clear(py);
        }
        for shard in self.shards.iter() {
            let (contents, discarded) = shard.with(py, |store| (store.drain(), store.loads.cleared()))?;
            drop(discarded);
            let contents = contents.into_removed(cause);
            let Some(turn) = &turn else {
                self.notifier.finish_all(py, contents);
                continue;
            };
            for entry in contents {
                result = result.and(self.tell_policy(py, Some(turn), "on_remove", entry.key.bind(py)));
                turn.finish_after(entry);
            }
        }
        result
    }

    /// Removes an entry and returns its value; `None` if it is absent.
    pub(super) fn remove_and_return(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        match &self.tier {
            Some(tier) => self.pop_through(tier, key),
            None => Ok(self.remove_entry(key, Cause::Popped)?.map(|entry| entry.value)),
        }
    }

    /// Removes the next victim, also from the store, and returns its key and value.
    pub(super) fn remove_victim(&self, py: Python<'_>) -> PyResult<(Py<PyAny>, Py<PyAny>)> {
        if let Some(tier) = &self.tier {
            return self.pop_victim_through(py, tier);
        }
        let entry =
            self.pop_victim(py)?.ok_or_else(|| PyKeyError::new_err("popitem(): the cache is empty"))?;
        Ok((entry.key, entry.value))
    }

    /// Removes entries by their keys. Returns the number that were present.
    pub(super) fn remove_many(&self, keys: &Bound<'_, PyAny>) -> PyResult<usize> {
        let hashed = self.hashed(keys)?;
        if let Some(tier) = &self.tier {
            return self.remove_many_through(keys.py(), tier, &hashed);
        }
        let mut count = 0;
        for (key, _) in &hashed {
            count += usize::from(self.remove(key.as_borrowed())?);
        }
        Ok(count)
    }
}
