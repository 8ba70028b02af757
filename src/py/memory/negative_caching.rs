//! Negative caching: remembers that the store behind a cache does not have a key.
//!
//! An absent key takes a place and a weight of 1 in the shard of its hash. Like a copy of an entry, it is
//! served while its stamp is live.

use std::num::NonZeroU64;

use flexcache_core::{Cause, Clock, Limits, New, Stamp};
use pyo3::prelude::*;

use super::absent::AbsentKeys;
use super::shard_lock::ShardLock;
use super::state::FlexCache;
use super::through::Place;
use super::tier::{Freshness, Tier};
use crate::py::object::running_python::decref;
use crate::py::process::clock::SystemClock;
use crate::py::removal::removed_entries::RemovedEntries;
use crate::py::store::rule_switch::is_off;

/// The most expired absent keys that are removed whenever another one is stored.
const SOME: usize = 16;

/// Absent keys may evict entries until they have one place in `PART`. Beyond that they evict each other.
const PART: u64 = 4;

/// Drops removed absent keys. Hooks run only for entries.
fn drop_removed(py: Python<'_>, removed: RemovedEntries) {
    for entry in removed {
        decref(py, entry.key);
        decref(py, entry.value);
    }
}

/// Whether this number and weight of entries and this number of absent keys exceed the limits of a shard.
fn is_over(limits: Limits, entries: (u64, u64), absent: u64) -> bool {
    let over = |limit: Option<NonZeroU64>, taken: u64| {
        limit.is_some_and(|most| taken.saturating_add(absent) > most.get())
    };
    over(limits.items, entries.0) || over(limits.weight, entries.1)
}

/// The number of absent keys that may evict entries.
fn part_of(limits: Limits) -> u64 {
    let least = [limits.items, limits.weight].into_iter().flatten().min();
    least.map_or(u64::MAX, |least| (least.get() / PART).max(1))
}

impl FlexCache {
    /// Whether the store is known to have no entry.
    pub(super) fn is_known_absent(&self, tier: &Tier, place: &Place<'_>) -> PyResult<bool> {
        let Some(absent) = &self.absent else { return Ok(false) };
        let known = absent.shards.find(&place.key.as_borrowed(), place.hash, |store, found| {
            found.filter(|&slot| !store.has_expired(slot)).map(|slot| store.freshness(slot))
        })?;
        let Some(known) = known else { return Ok(false) };
        Ok(tier.is_live(place.key.py(), known)? || is_off("absence"))
    }

    /// Remembers that the store has no entry, as a load found.
    pub(super) fn remember_absent(&self, place: &Place<'_>, freshness: Freshness) -> PyResult<()> {
        let Some(absent) = self.absent.as_ref().filter(|_| freshness.stamp != Stamp::NONE) else {
            return Ok(());
        };
        let py = place.key.py();
        let now = SystemClock.now();
        let mut removed = RemovedEntries::new();
        let refused = absent.shards.find(&place.key.as_borrowed(), place.hash, |store, found| {
            let deadline = Some(now.saturating_add(absent.ttl));
            let new = New { key: place.key.clone().unbind(), value: py.None(), weight: 1, deadline };
            let refused = match store.put(found, place.hash, new, &[], &SystemClock, &mut removed) {
                Ok(slot) => {
                    if store.set_freshness(slot, freshness).is_err() {
                        store.remove(slot, Cause::Deleted, &mut removed);
                    }
                    None
                }
                Err((_, new)) => Some(new),
            };
            store.expire(now, SOME, &mut removed);
            refused
        })?;
        if let Some(new) = refused {
            decref(py, new.key);
            decref(py, new.value);
        }
        drop_removed(py, removed);
        self.share_places(py, self.shards.of(place.hash), absent.shards.of(place.hash), true)
    }

    /// Handles an entry that was stored: its key is no longer absent, and absent keys make room for it.
    pub(super) fn forget_absent(&self, place: &Place<'_>) -> PyResult<()> {
        let Some(absent) = &self.absent else { return Ok(()) };
        let py = place.key.py();
        let mut removed = RemovedEntries::new();
        absent.shards.find(&place.key.as_borrowed(), place.hash, |store, found| {
            if let Some(slot) = found {
                store.remove(slot, Cause::Deleted, &mut removed);
            }
        })?;
        drop_removed(py, removed);
        self.share_places(py, self.shards.of(place.hash), absent.shards.of(place.hash), false)
    }

    /// The bytes that the tables of absent keys take.
    pub(super) fn bytes_of_absent(&self, py: Python<'_>) -> PyResult<usize> {
        let Some(absent) = &self.absent else { return Ok(0) };
        let own = size_of::<AbsentKeys>() + absent.shards.allocated_bytes();
        absent
            .shards
            .iter()
            .try_fold(own, |sum, shard| Ok(sum + shard.with(py, |store| store.allocated_bytes())?))
    }

    /// Recounts the absent keys.
    pub(crate) fn check_absent(&self, py: Python<'_>) -> PyResult<Result<(), String>> {
        for shard in self.absent.iter().flat_map(|absent| absent.shards.iter()) {
            if let Err(wrong) = shard.with(py, |store| store.check())? {
                return Ok(Err(wrong));
            }
        }
        Ok(Ok(()))
    }

    /// Makes room in all shards, after the limits have changed.
    pub(super) fn shrink_absent(&self, py: Python<'_>) -> PyResult<()> {
        let Some(absent) = &self.absent else { return Ok(()) };
        let mut pairs = self.shards.iter().zip(absent.shards.iter());
        pairs.try_for_each(|(entries, absent)| self.share_places(py, entries, absent, false))
    }

    /// Removes absent keys, the oldest first, until they and the entries of a shard are within its limits. To
    /// make room for a new absent key, an entry may be evicted instead, as long as absent keys have few
    /// places.
    fn share_places(
        &self,
        py: Python<'_>,
        entries: &ShardLock,
        absent: &ShardLock,
        is_for_absent: bool,
    ) -> PyResult<()> {
        loop {
            let known = absent.with(py, |absent| absent.len() as u64)?;
            let (limits, taken) =
                entries.with(py, |store| (store.limits(), (store.len() as u64, store.weight())))?;
            if known == 0 || !is_over(limits, taken, known) {
                return Ok(());
            }
            let evicts_entry = is_for_absent && known <= part_of(limits) && taken.0 > 0;
            let (shard, cause) =
                if evicts_entry { (entries, Cause::Evicted) } else { (absent, Cause::Deleted) };
            let mut removed = RemovedEntries::new();
            shard.with(py, |store| {
                if let Some(victim) = store.victim() {
                    store.remove(victim, cause, &mut removed);
                }
            })?;
            if evicts_entry {
                self.finish_removals(py, removed)?;
            } else {
                drop_removed(py, removed);
            }
        }
    }
}
