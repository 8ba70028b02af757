//! The loads of one shard: joined, discarded by writes, and landed, under the shard's lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;

use super::loads::Load;
use crate::py::object::key::native_eq;
use crate::py::process::background;

/// The number of evicted tags above which those that concern no running load are dropped.
const FEW_TAGS: usize = 64;

/// What a call does about another load of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Joins it.
    Join,
    /// Does not join it, but begins a new one.
    Refresh,
    /// Begins a load only if there is none.
    OnlyIfNone,
}

pub(crate) enum Joined {
    /// The caller's own load was registered. The caller has to compute and to land it.
    Leads,
    /// There is another load. The caller is counted as a waiter, except with [`How::OnlyIfNone`].
    Other(Arc<Load>),
}

/// The loads of one shard.
#[derive(Debug, Default)]
pub(crate) struct ShardLoads {
    running: Vec<Arc<Load>>,
    /// The times of the last evictions of tags, for tags evicted since the oldest running load began.
    evicted: HashMap<Arc<str>, u64>,
    /// The number of tags above which outdated ones are searched for.
    most_evicted: usize,
    /// A logical clock, which numbers beginnings of loads and evictions.
    clock: u64,
    generation: u64,
}

impl ShardLoads {
    /// Whether there are no loads.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// A forked child begins without loads. Those of its parent are neither used nor dropped.
    fn renew(&mut self) {
        let now = background::generation();
        if self.generation != now {
            std::mem::forget(std::mem::take(&mut self.running));
            self.evicted.clear();
            self.generation = now;
        }
    }

    /// Joins a load or registers `mine`. Returns `None` if only Python code can tell whether the loads in
    /// `unknown` are of the same key.
    pub(crate) fn join(
        &mut self,
        mine: &Arc<Load>,
        how: How,
        eq: impl Fn(&Py<PyAny>) -> Option<bool>,
        mut unknown: impl FnMut(&Arc<Load>),
    ) -> Option<Joined> {
        self.renew();
        let mut asks = false;
        let joinable = |load: &Arc<Load>| {
            load.hash == mine.hash
                && load.transaction == mine.transaction
                && !load.superseded.load(Ordering::Relaxed)
                && !load.has_landed()
        };
        let mut found = Vec::new();
        for load in self.running.iter().filter(|load| joinable(load)) {
            match eq(&load.key_in_memory) {
                Some(true) => found.push(load),
                Some(false) => {}
                None => {
                    asks = true;
                    unknown(load);
                }
            }
        }
        if asks {
            return None;
        }
        if how == How::Refresh {
            for load in found {
                load.superseded.store(true, Ordering::Relaxed);
            }
        } else if let Some(load) = found.first() {
            if how == How::Join {
                load.count_waiter();
            }
            return Some(Joined::Other(Arc::clone(load)));
        }
        self.begin(mine);
        Some(Joined::Leads)
    }

    fn begin(&mut self, load: &Arc<Load>) {
        self.clock += 1;
        load.began.store(self.clock, Ordering::Relaxed);
        self.running.push(Arc::clone(load));
    }

    /// Registers a load that no caller joins, so that writes discard it.
    pub(crate) fn watch(&mut self, load: &Arc<Load>) {
        self.renew();
        load.supersede();
        self.begin(load);
    }

    /// Removes a load.
    pub(crate) fn remove(&mut self, load: &Arc<Load>) -> Option<Arc<Load>> {
        let at = self.running.iter().position(|running| Arc::ptr_eq(running, load))?;
        let removed = self.running.swap_remove(at);
        if self.running.is_empty() {
            self.evicted.clear();
        }
        Some(removed)
    }

    /// Removes and discards the loads for which `matches` returns true.
    pub(crate) fn discard_if(&mut self, matches: impl Fn(&Load) -> bool) -> Vec<Arc<Load>> {
        let (mut kept, mut discarded) = (Vec::new(), Vec::new());
        for load in self.running.drain(..) {
            if matches(&load) {
                load.discarded.store(true, Ordering::Release);
                discarded.push(load);
            } else {
                kept.push(load);
            }
        }
        self.running = kept;
        if self.running.is_empty() {
            self.evicted.clear();
        }
        discarded
    }

    /// Discards the loads of a key that was written. They are returned, to be dropped without the lock. If
    /// only Python code could tell whether a load is of the same key, it is discarded, too.
    #[must_use]
    pub(crate) fn written(&mut self, hash: u64, key: &Borrowed<'_, '_, PyAny>) -> Vec<Arc<Load>> {
        if self.is_empty() {
            return Vec::new();
        }
        self.discard_if(|load| load.hash == hash && native_eq(&load.key_in_memory, key) != Some(false))
    }

    /// Discards the loads of a removed entry, of which only the key is known.
    #[must_use]
    pub(crate) fn removed(&mut self, key: &Borrowed<'_, '_, PyAny>) -> Vec<Arc<Load>> {
        if self.is_empty() {
            return Vec::new();
        }
        self.discard_if(|load| native_eq(&load.key_in_memory, key) != Some(false))
    }

    /// Discards the older loads of a key after the result of a load was stored.
    #[must_use]
    pub(crate) fn landed(&mut self, of: &Arc<Load>, key: &Borrowed<'_, '_, PyAny>) -> Vec<Arc<Load>> {
        let began = of.began.load(Ordering::Relaxed);
        self.discard_if(|load| {
            load.hash == of.hash
                && load.began.load(Ordering::Relaxed) < began
                && native_eq(&load.key_in_memory, key) != Some(false)
        })
    }

    /// Discards all loads, after all entries were removed.
    #[must_use]
    pub(crate) fn cleared(&mut self) -> Vec<Arc<Load>> {
        if self.is_empty() {
            return Vec::new();
        }
        self.discard_if(|_| true)
    }

    /// Records the tags of a load, so that the eviction of one of them can discard it before it lands. If one
    /// was evicted already, discards the load and returns it.
    #[must_use]
    pub(crate) fn declare(&mut self, load: &Arc<Load>, tags: Arc<[PyBackedStr]>) -> Option<Arc<Load>> {
        let evicted = !self.may_land(load, &tags);
        let _ = load.tags.set(tags);
        if evicted {
            load.discard();
            return self.remove(load);
        }
        None
    }

    /// Prepares the eviction of a tag: discards running loads that are known to have it. Loads that turn out
    /// to have it later will not be stored.
    #[must_use]
    pub(crate) fn evicting(&mut self, tag: &str) -> Vec<Arc<Load>> {
        if self.is_empty() {
            return Vec::new();
        }
        self.clock += 1;
        self.evicted.insert(Arc::from(tag), self.clock);
        if self.evicted.len() > self.most_evicted.max(FEW_TAGS) {
            let oldest = self.running.iter().map(|load| load.began.load(Ordering::Relaxed)).min();
            self.evicted.retain(|_, evicted| oldest.is_some_and(|oldest| *evicted > oldest));
            self.most_evicted = 2 * self.evicted.len();
        }
        self.discard_if(|load| load.tags.get().is_some_and(|tags| tags.iter().any(|known| **known == *tag)))
    }

    /// Whether a load may be stored with these tags.
    pub(crate) fn may_land(&self, load: &Load, tags: &[PyBackedStr]) -> bool {
        let began = load.began.load(Ordering::Relaxed);
        !load.discarded.load(Ordering::Acquire)
            && load.is_of_this_process()
            && (self.evicted.is_empty()
                || !tags.iter().any(|tag| self.evicted.get(&**tag).is_some_and(|evicted| *evicted > began)))
    }

    pub(crate) fn running(&self) -> &[Arc<Load>] {
        &self.running
    }
}
