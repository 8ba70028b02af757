//! Counts hits and misses in this process, and adds them to the sums in shared memory from time to time.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use flexcache_shared::SharedCache;

use crate::py::process::background::generation;

/// The number of hits or misses after which they are added to the sums.
const MANY: u64 = 256;

/// The counts since they were last added to the sums. A forked child begins with 0.
#[derive(Default)]
pub(super) struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    /// The process that counts.
    process: AtomicU64,
}

/// Adds one to a number that only attached threads change. Returns the sum.
#[cfg(not(Py_GIL_DISABLED))]
#[inline(always)]
fn add_one(to: &AtomicU64) -> u64 {
    let sum = to.load(Relaxed).wrapping_add(1);
    to.store(sum, Relaxed);
    sum
}

#[cfg(Py_GIL_DISABLED)]
#[inline(always)]
fn add_one(to: &AtomicU64) -> u64 {
    to.fetch_add(1, Relaxed).wrapping_add(1)
}

impl Counts {
    /// Counts a lookup. The calling thread must be attached.
    #[inline(always)]
    pub(super) fn count(&self, cache: &SharedCache, is_hit: bool) {
        if self.process.load(Relaxed) != generation() {
            self.begin();
        }
        if add_one(if is_hit { &self.hits } else { &self.misses }) >= MANY {
            self.add_to(cache);
        }
    }

    /// Forgets the counts of the parent, which adds them itself.
    #[cold]
    fn begin(&self) {
        self.hits.store(0, Relaxed);
        self.misses.store(0, Relaxed);
        self.process.store(generation(), Relaxed);
    }

    /// Adds the counts to the sums. The calling thread must be attached.
    #[cold]
    pub(super) fn add_to(&self, cache: &SharedCache) {
        if self.process.load(Relaxed) != generation() {
            return;
        }
        let (hits, misses) = (self.hits.swap(0, Relaxed), self.misses.swap(0, Relaxed));
        if hits + misses > 0 {
            cache.count(hits, misses);
        }
    }
}
