//! Removing what has expired, and what the limits leave no room for.

use std::sync::atomic::Ordering;

use flexcache_core::{Clock, Nanos};
use pyo3::prelude::*;

use super::cache::FlexCache;
use super::clock::SystemClock;
use super::departures::Departures;
use super::engine::Engine;

/// How many entries leave in one locked section, where many have to.
pub(super) const BATCH: usize = 1024;

/// How many expired entries a call that stores one removes besides.
const EXPIRED_A_PUT: usize = 64;

impl FlexCache {
    /// Whether an automatic scan is due, and if so, notes that it takes place.
    #[inline]
    pub(super) fn scan_is_due(&self, engine: &Engine) -> bool {
        if !engine.next_expiry().is_some_and(|next| SystemClock.reached(next)) {
            return false;
        }
        if self.options.scan_interval == 0 {
            return true;
        }
        let (now, last) = (SystemClock.now(), self.last_scan.load(Ordering::Relaxed));
        // In shards each scan is one shard's; the interval is the whole cache's.
        now.saturating_sub(last) >= self.options.scan_interval
    }

    #[inline]
    pub(super) fn expire_some(&self, engine: &mut Engine, departures: &mut Departures) {
        if self.scan_is_due(engine) {
            let now = SystemClock.now();
            self.last_scan.store(now, Ordering::Relaxed);
            engine.expire(now, EXPIRED_A_PUT, departures);
        }
    }

    /// Removes what has expired if an automatic scan is due.
    pub(crate) fn scan_if_due(&self, py: Python<'_>) -> PyResult<()> {
        for shard in self.shards.iter() {
            let due = shard.with(py, |engine| engine.has_deadlines() && self.scan_is_due(engine))?;
            if due {
                self.remove_expired(py)?;
                self.last_scan.store(SystemClock.now(), Ordering::Relaxed);
                break;
            }
        }
        Ok(())
    }

    /// Removes all that has expired; how many entries that were.
    pub(crate) fn remove_expired(&self, py: Python<'_>) -> PyResult<usize> {
        let now = SystemClock.now();
        let mut count = 0;
        for shard in self.shards.iter() {
            loop {
                let turn = self.turn(py)?;
                let mut departures = Departures::new();
                let removed = shard.with(py, |engine| engine.expire(now, BATCH, &mut departures))?;
                count += removed;
                self.settle(py, departures)?;
                drop(turn);
                if removed < BATCH {
                    break;
                }
            }
        }
        Ok(count)
    }

    /// Removes a batch of what has expired; whether there was any.
    pub(super) fn remove_expired_batch(&self, py: Python<'_>) -> PyResult<bool> {
        let mut removed = 0;
        for shard in self.shards.iter() {
            let mut departures = Departures::new();
            removed += shard.with(py, |engine| {
                if engine.has_deadlines() {
                    engine.expire(SystemClock.now(), BATCH, &mut departures)
                } else {
                    0
                }
            })?;
            self.settle(py, departures)?;
        }
        Ok(removed > 0)
    }

    /// When something expires next.
    pub(crate) fn next_expiry(&self, py: Python<'_>) -> PyResult<Option<Nanos>> {
        let mut next: Option<Nanos> = None;
        for shard in self.shards.iter() {
            let of_shard = shard.with(py, |engine| engine.next_expiry())?;
            next = match (next, of_shard) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
        Ok(next)
    }
}
