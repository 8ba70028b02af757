//! Removes expired entries.

use std::sync::atomic::Ordering;

use flexcache_core::{Clock, Nanos};
use pyo3::prelude::*;

use super::any_store::AnyStore;
use super::state::FlexCache;
use crate::py::process::background::Duties;
use crate::py::removal::removed_entries::RemovedEntries;

/// The most entries that are removed in one locked section.
pub(super) const BATCH: usize = 1024;

/// The most expired entries that a call which stores an entry removes besides.
const EXPIRED_A_PUT: usize = 64;

/// What the background thread does for a cache with `background_expiry`.
pub(super) const DUTIES: Duties = Duties {
    try_remove_expired: |cache| cache.cast::<FlexCache>()?.get().try_remove_expired(cache.py()),
    next_expiry: |cache| cache.cast::<FlexCache>()?.get().next_expiry(cache.py()),
};

impl FlexCache {
    /// Whether an automatic scan is due. If so, records the time of the scan.
    #[inline]
    pub(super) fn scan_is_due(&self, store: &AnyStore, clock: &impl Clock) -> bool {
        if !store.next_expiry().is_some_and(|next| clock.reached(next)) {
            return false;
        }
        if self.options.scan_interval == 0 {
            return true;
        }
        let (now, last) = (clock.now(), self.last_scan.load(Ordering::Relaxed));
        // Each scan removes the expired entries of one shard, but the interval is that of the whole cache.
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

    /// Removes expired entries if an automatic scan is due.
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

    /// Removes all expired entries. Returns their number.
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

    /// Removes a batch of expired entries. Returns whether there were any.
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

    /// When the next entry expires.
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

    /// Removes expired entries. Returns `None` if another thread has its turn at a policy written in Python,
    /// for which the background thread must not wait.
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

    /// Tells the background thread, if the cache uses it, about a deadline.
    #[inline]
    pub(crate) fn expect_expiry(&self, this: &Bound<'_, Self>, deadline: Nanos) -> PyResult<()> {
        self.watch.as_ref().map_or(Ok(()), |watch| watch.expect(this.as_any(), deadline))
    }

    /// Removes all expired entries, and records the time of the scan. Returns their number.
    pub(super) fn scan_now(&self, py: Python<'_>) -> PyResult<usize> {
        self.last_scan.store(self.clock().now(), Ordering::Relaxed);
        self.remove_expired(py)
    }
}
