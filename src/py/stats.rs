//! `CacheStats`: what a cache has counted, at one moment.

use flexcache_core::Stats;
use pyo3::prelude::*;

/// Counts of one cache; see the stubs.
#[pyclass(frozen, eq, get_all, module = "flexcache_rs")]
#[derive(Clone, PartialEq)]
pub(crate) struct CacheStats {
    hits: u64,
    misses: u64,
    insertions: u64,
    updates: u64,
    evictions: u64,
    expirations: u64,
    removals: u64,
    hook_errors: u64,
    items: usize,
    bytes: u64,
}

impl CacheStats {
    pub(crate) fn new(counted: Stats, hook_errors: u64, items: usize, bytes: u64) -> Self {
        Self {
            hits: counted.hits,
            misses: counted.misses,
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
    /// Hits in all reads, 0.0 where nothing was read.
    #[getter]
    #[expect(clippy::cast_precision_loss, reason = "a ratio needs no more than a float holds")]
    fn hit_ratio(&self) -> f64 {
        let reads = self.hits + self.misses;
        if reads == 0 { 0.0 } else { self.hits as f64 / reads as f64 }
    }

    fn __repr__(&self) -> String {
        format!(
            "CacheStats(hits={}, misses={}, insertions={}, updates={}, evictions={}, expirations={}, \
             removals={}, hook_errors={}, items={}, bytes={})",
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
