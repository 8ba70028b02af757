//! The loads of one shard: joined, discarded by writes, and landed, under the shard's lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;

use super::loads::Load;
use crate::py::object::key::native_eq;
use crate::py::process::background;

/// So many evicted tags are kept before those are dropped that no running load is older than.
const FEW_TAGS: usize = 64;

/// How a call looks for a load of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Joins the one there is.
    Join,
    /// Never joins one that began before.
    Refresh,
    /// Begins one only where there is none.
    OnlyIfNone,
}

pub(crate) enum Joined {
    /// The caller's own load is registered: it has to compute and to land.
    Leads,
    /// There is another one, for which the caller is counted as waiting unless it said
    /// [`How::OnlyIfNone`].
    Other(Arc<Load>),
}

/// The loads of one shard.
#[derive(Debug, Default)]
pub(crate) struct ShardLoads {
    running: Vec<Arc<Load>>,
    /// When tags were last evicted, for those evicted since the oldest running load began.
    evicted: HashMap<Arc<str>, u64>,
    /// How many tags to have before they are looked through.
    most_evicted: usize,
    /// Numbers beginnings and evictions.
    clock: u64,
    generation: u64,
}

impl ShardLoads {
    /// Whether a write has nothing to discard.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// A fork's child begins with no loads. Those of its parent are neither touched nor dropped.
    fn renew(&mut self) {
        let now = background::generation();
        if self.generation != now {
            std::mem::forget(std::mem::take(&mut self.running));
            self.evicted.clear();
            self.generation = now;
        }
    }

    /// Joins a load or registers `mine`; `None` where Python has to be asked whether the `unknown`
    /// are loads of the key.
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

    /// Registers a load that nobody joins, so that writes discard it.
    pub(crate) fn watch(&mut self, load: &Arc<Load>) {
        self.renew();
        load.supersede();
        self.begin(load);
    }

    /// Takes a load out.
    pub(crate) fn remove(&mut self, load: &Arc<Load>) -> Option<Arc<Load>> {
        let at = self.running.iter().position(|running| Arc::ptr_eq(running, load))?;
        let removed = self.running.swap_remove(at);
        if self.running.is_empty() {
            self.evicted.clear();
        }
        Some(removed)
    }

    /// Takes out and discards the loads that `matches`.
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

    /// A key was written: its loads are discarded, and given back to be dropped without the lock. A
    /// load whose key only Python could tell apart from it is taken for one of them.
    #[must_use]
    pub(crate) fn written(&mut self, hash: u64, key: &Borrowed<'_, '_, PyAny>) -> Vec<Arc<Load>> {
        if self.is_empty() {
            return Vec::new();
        }
        self.discard_if(|load| load.hash == hash && native_eq(&load.key_in_memory, key) != Some(false))
    }

    /// An entry was removed of which there is only the key.
    #[must_use]
    pub(crate) fn removed(&mut self, key: &Borrowed<'_, '_, PyAny>) -> Vec<Arc<Load>> {
        if self.is_empty() {
            return Vec::new();
        }
        self.discard_if(|load| native_eq(&load.key_in_memory, key) != Some(false))
    }

    /// A load was stored: older ones of its key no longer are.
    #[must_use]
    pub(crate) fn landed(&mut self, of: &Arc<Load>, key: &Borrowed<'_, '_, PyAny>) -> Vec<Arc<Load>> {
        let began = of.began.load(Ordering::Relaxed);
        self.discard_if(|load| {
            load.hash == of.hash
                && load.began.load(Ordering::Relaxed) < began
                && native_eq(&load.key_in_memory, key) != Some(false)
        })
    }

    /// Everything was removed: all loads are discarded.
    #[must_use]
    pub(crate) fn cleared(&mut self) -> Vec<Arc<Load>> {
        if self.is_empty() {
            return Vec::new();
        }
        self.discard_if(|_| true)
    }

    /// A load says what tags it has, so that one of them can discard it before it lands. It is given back where
    /// that has happened already.
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

    /// A tag is about to be evicted: running loads that are known to have it are discarded, and those that turn
    /// out to have it are not stored.
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
