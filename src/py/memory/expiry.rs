//! Removing what has expired.

use std::sync::atomic::Ordering;

use flexcache_core::{Clock, Nanos};
use pyo3::prelude::*;

use super::any_store::AnyStore;
use super::state::FlexCache;
use crate::py::process::background::Duties;
use crate::py::removal::removed_entries::RemovedEntries;

/// How many entries are removed in one locked section, where many have to be.
pub(super) const BATCH: usize = 1024;

/// How many expired entries a call that stores one removes besides.
const EXPIRED_A_PUT: usize = 64;

/// What the background thread does with a cache that asked for it.
pub(super) const DUTIES: Duties = Duties {
    try_remove_expired: |cache| cache.cast::<FlexCache>()?.get().try_remove_expired(cache.py()),
    next_expiry: |cache| cache.cast::<FlexCache>()?.get().next_expiry(cache.py()),
};

impl FlexCache {
    /// Whether an automatic scan is due, and if so, notes that it takes place.
    #[inline]
    pub(super) fn scan_is_due(&self, store: &AnyStore, clock: &impl Clock) -> bool {
        if !store.next_expiry().is_some_and(|next| clock.reached(next)) {
            return false;
        }
        if self.options.scan_interval == 0 {
            return true;
        }
        let (now, last) = (clock.now(), self.last_scan.load(Ordering::Relaxed));
        // In shards each scan is one shard's; the interval is the whole cache's.
        now.saturating_sub(last) >= self.options.scan_interval
    }

    #[inline]
    pub(super) fn expire_some(&self, store: &mut AnyStore, clock: &impl Clock, removed: &mut RemovedEntries) {
        if self.scan_is_due(store, clock) {
            let now = clock.now();
            self.last_scan.store(now, Ordering::Relaxed);
            store.expire(now, EXPIRED_A_PUT, removed);
        }
    }

    /// Removes what has expired if an automatic scan is due.
    pub(crate) fn scan_if_due(&self, py: Python<'_>) -> PyResult<()> {
        self.read_clock(py)?;
        for shard in self.shards.iter() {
            let due =
                shard.with(py, |store| store.has_deadlines() && self.scan_is_due(store, self.clock()))?;
            if due {
                self.remove_expired(py)?;
                self.last_scan.store(self.clock().now(), Ordering::Relaxed);
                break;
            }
        }
        Ok(())
    }

    /// Removes all that has expired; how many entries that were.
    pub(crate) fn remove_expired(&self, py: Python<'_>) -> PyResult<usize> {
        self.read_clock(py)?;
        let now = self.clock().now();
        let mut count = 0;
        for shard in self.shards.iter() {
            loop {
                let turn = self.turn(py)?;
                let mut removed = RemovedEntries::new();
                let expired = shard.with(py, |store| store.expire(now, BATCH, &mut removed))?;
                count += expired;
                let is_all = expired < BATCH && !removed.ran_out_of_memory();
                self.finish_removals(py, removed)?;
                drop(turn);
                if is_all {
                    break;
                }
            }
        }
        Ok(count)
    }

    /// Removes a batch of what has expired; whether there was any.
    pub(super) fn remove_expired_batch(&self, py: Python<'_>) -> PyResult<bool> {
        let mut count = 0;
        for shard in self.shards.iter() {
            let mut removed = RemovedEntries::new();
            count += shard.with(py, |store| {
                if store.has_deadlines() { store.expire(self.clock().now(), BATCH, &mut removed) } else { 0 }
            })?;
            self.finish_removals(py, removed)?;
        }
        Ok(count > 0)
    }

    /// When something expires next.
    pub(crate) fn next_expiry(&self, py: Python<'_>) -> PyResult<Option<Nanos>> {
        let mut next: Option<Nanos> = None;
        for shard in self.shards.iter() {
            let of_shard = shard.with(py, |store| store.next_expiry())?;
            next = match (next, of_shard) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
        Ok(next)
    }

    /// Removes what has expired, unless another thread has its turn with a policy written in Python,
    /// which the background thread must not wait for: `None` then.
    pub(super) fn try_remove_expired(&self, py: Python<'_>) -> PyResult<Option<usize>> {
        let turn = match &self.gate {
            Some(gate) => match gate.try_enter(py, &self.notifier)? {
                None => return Ok(None),
                turn => turn,
            },
            None => None,
        };
        let removed = self.remove_expired(py)?;
        drop(turn);
        Ok(Some(removed))
    }

    /// Tells the background thread, if there is to be one, when it is needed.
    #[inline]
    pub(crate) fn expect_expiry(&self, this: &Bound<'_, Self>, deadline: Nanos) -> PyResult<()> {
        self.watch.as_ref().map_or(Ok(()), |watch| watch.expect(this.as_any(), deadline))
    }

    /// Removes what has expired now, and notes that a scan took place; how many entries that were.
    pub(super) fn scan_now(&self, py: Python<'_>) -> PyResult<usize> {
        self.last_scan.store(self.clock().now(), Ordering::Relaxed);
        self.remove_expired(py)
    }
}
