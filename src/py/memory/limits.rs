//! The limits of a cache, and the eviction of entries when they change.

use flexcache_core::Limits;
use pyo3::prelude::*;

use super::expiry::BATCH;
use super::options;
use super::state::FlexCache;
use crate::py::removal::removed_entries::RemovedEntries;

impl FlexCache {
    /// The limits of the whole cache.
    pub(crate) fn limits(&self, py: Python<'_>) -> PyResult<Limits> {
        let items = self.sum(py, |store| store.limits().items.map_or(0, std::num::NonZeroU64::get))?;
        let weight = self.sum(py, |store| store.limits().weight.map_or(0, std::num::NonZeroU64::get))?;
        Ok(Limits::new(items, weight))
    }

    /// Changes the limits and evicts the entries that no longer fit.
    pub(super) fn set_limits(&self, py: Python<'_>, limits: Limits) -> PyResult<()> {
        let shards = self.shards.len() as u64;
        options::divisible(shards, limits)?;
        for (shard, index) in self.shards.iter().zip(0..) {
            shard.with(py, |store| store.set_limits(options::share(limits, index, shards)))?;
        }
        self.shrink(py)
    }

    fn shrink(&self, py: Python<'_>) -> PyResult<()> {
        if self.gate.is_some() {
            let turn = self.turn(py)?;
            for shard in self.shards.iter() {
                while shard.with(py, |store| store.is_over_limits())? {
                    if !self.remove_expired_batch(py)? {
                        self.evict_custom_victim(py, turn.as_ref())?;
                    }
                }
            }
            return Ok(());
        }
        for shard in self.shards.iter() {
            loop {
                let mut removed = RemovedEntries::new();
                let more = shard.with(py, |store| store.shrink(BATCH, self.clock(), &mut removed))?;
                self.finish_removals(py, removed)?;
                if !more {
                    break;
                }
            }
        }
        self.shrink_absent(py)
    }

    /// Changes those limits that are given.
    pub(super) fn change_limits(
        &self,
        py: Python<'_>,
        max_items: Option<&Bound<'_, PyAny>>,
        max_bytes: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.read_clock(py)?;
        let mut limits = self.limits(py)?;
        if let Some(max_items) = max_items {
            limits.items = options::count("max_items", max_items)?.try_into().ok();
        }
        if let Some(max_bytes) = max_bytes {
            limits.weight = options::count("max_bytes", max_bytes)?.try_into().ok();
        }
        self.set_limits(py, limits)
    }
}
