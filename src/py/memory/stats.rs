//! `CacheStats`: the statistics of a cache at one moment.

use std::sync::atomic::Ordering;

use flexcache_core::Stats;
use pyo3::intern;
use pyo3::prelude::*;

use super::state::FlexCache;

/// The exact statistics of a cache at one moment, since its creation or `reset_stats()`.
#[pyclass(frozen, eq, get_all, module = "flexcache_rs")]
#[derive(Clone, PartialEq)]
pub(crate) struct CacheStats {
    /// Reads that found a live entry, or got the result of a computation of another call.
    hits: u64,
    /// Reads that found no live entry.
    misses: u64,
    /// Values that get_or_set(), aget_or_set() and memoized functions computed, kept or not.
    loads: u64,
    /// Entries stored under a key that had no entry.
    insertions: u64,
    /// Values that were replaced.
    updates: u64,
    /// Entries that were evicted to make room.
    evictions: u64,
    /// Entries that were removed because they had expired.
    expirations: u64,
    /// Entries that a call removed: deleted, popped, cleared or closed.
    removals: u64,
    /// Exceptions of hooks.
    hook_errors: u64,
    /// Entries in the cache, including expired ones that are not removed yet.
    items: usize,
    /// The sum of their sizes.
    bytes: u128,
}

/// All counts but the bytes, in the order of the fields.
type Counts = [u64; 10];

impl CacheStats {
    pub(crate) fn new(counted: Stats, loads: u64, hook_errors: u64, items: usize, bytes: u128) -> Self {
        Self {
            hits: counted.hits,
            misses: counted.misses,
            loads,
            insertions: counted.insertions,
            updates: counted.updates,
            evictions: counted.evictions,
            expirations: counted.expirations,
            removals: counted.removals,
            hook_errors,
            items,
            bytes,
        }
    }
}

#[pymethods]
impl CacheStats {
    /// Hits divided by reads, or 0.0 without reads.
    #[getter]
    #[expect(clippy::cast_precision_loss, reason = "a ratio needs no more than a float holds")]
    fn hit_ratio(&self) -> f64 {
        let reads = self.hits + self.misses;
        if reads == 0 { 0.0 } else { self.hits as f64 / reads as f64 }
    }

    /// What counts are pickled and copied as.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (Counts, u128))> {
        let of = py.get_type::<Self>().getattr(intern!(py, "_of"))?;
        let counts = [
            self.hits,
            self.misses,
            self.loads,
            self.insertions,
            self.updates,
            self.evictions,
            self.expirations,
            self.removals,
            self.hook_errors,
            self.items as u64,
        ];
        Ok((of, (counts, self.bytes)))
    }

    /// The counts that `__reduce__` has returned.
    #[staticmethod]
    #[pyo3(name = "_of")]
    fn of(counts: Counts, bytes: u128) -> PyResult<Self> {
        let [hits, misses, loads, insertions, updates, evictions, expirations, removals, hook_errors, items] =
            counts;
        let items = usize::try_from(items)?;
        Ok(Self {
            hits,
            misses,
            loads,
            insertions,
            updates,
            evictions,
            expirations,
            removals,
            hook_errors,
            items,
            bytes,
        })
    }

    fn __repr__(&self) -> String {
        // Counts that stay 0 in most caches are left out.
        let loads = if self.loads == 0 { String::new() } else { format!(", loads={}", self.loads) };
        format!(
            "CacheStats(hits={}, misses={}, insertions={}, updates={}, evictions={}, expirations={}, \
             removals={}, hook_errors={}, items={}, bytes={}{loads})",
            self.hits,
            self.misses,
            self.insertions,
            self.updates,
            self.evictions,
            self.expirations,
            self.removals,
            self.hook_errors,
            self.items,
            self.bytes,
        )
    }
}

impl FlexCache {
    pub(super) fn counted(&self, py: Python<'_>) -> PyResult<CacheStats> {
        let mut counted = Stats::default();
        for shard in self.shards.iter() {
            counted = counted + shard.with(py, |store| store.stats())?;
        }
        // A caller that waited for another call's result was counted as a miss when it found nothing.
        let waited = self.waited.load(Ordering::Relaxed).min(counted.misses);
        (counted.hits, counted.misses) = (counted.hits + waited, counted.misses - waited);
        Ok(CacheStats::new(
            counted,
            self.computed.load(Ordering::Relaxed),
            self.notifier.hook_errors.count(),
            self.sum(py, |store| store.len())?,
            self.sum(py, |store| u128::from(store.weight()))?,
        ))
    }

    /// Resets the counters.
    pub(super) fn count_anew(&self, py: Python<'_>) -> PyResult<()> {
        for shard in self.shards.iter() {
            shard.with(py, |store| store.reset_stats())?;
        }
        self.computed.store(0, Ordering::Relaxed);
        self.waited.store(0, Ordering::Relaxed);
        self.notifier.hook_errors.reset();
        Ok(())
    }
}
