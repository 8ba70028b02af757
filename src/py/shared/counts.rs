//! Hits and misses, which reads count in this process, and add to the sums in shared memory now and then.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use flexcache_shared::SharedCache;

use crate::py::process::background::generation;

/// After so many of a kind, they are added to the sums.
const MANY: u64 = 256;

/// What was counted since it was last added to the sums. A forked child begins with none.
#[derive(Default)]
pub(super) struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    /// The process that counts.
    process: AtomicU64,
}

/// Adds one to a number that only attached threads change. Returns what it then is.
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
    /// Counts a look for a value. The calling thread is attached.
    #[inline(always)]
    pub(super) fn count(&self, cache: &SharedCache, is_hit: bool) {
        if self.process.load(Relaxed) != generation() {
            self.begin();
        }
        if add_one(if is_hit { &self.hits } else { &self.misses }) >= MANY {
            self.add_to(cache);
        }
    }

    /// Forgets what the parent has counted, and will add itself.
    #[cold]
    fn begin(&self) {
        self.hits.store(0, Relaxed);
        self.misses.store(0, Relaxed);
        self.process.store(generation(), Relaxed);
    }

    /// Adds what was counted to the sums. The calling thread is attached.
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
