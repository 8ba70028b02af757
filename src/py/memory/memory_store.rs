//! A `FlexCache` as the store behind another one.
//!
//! Reading it is as fast as reading memory, so nothing tracks the writes of others. A copy in front of it is
//! served only if the user allowed that for a time, or declared that nobody else writes to it.

use std::any::Any;
use std::sync::Arc;

use flexcache_core::tracker::{Stamp, Tracker};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::state::FlexCache;
use super::terms::{IfPresent, Terms};
use crate::py::object::duration;
use crate::py::object::key::python_hash;
use crate::py::process::clock::ClockOfSection;
use crate::py::process::stack;
use crate::py::store::lease::{Lease, LeaseAnswer, LeaseRequest};
use crate::py::store::loads::{Leader, Load, LoadLease, Origin};
use crate::py::store::seam::{
    Coherence, Commit, Equality, Loaded, NewEntry, PutMode, PutResult, Store, StoredEntry,
};
use crate::py::store::tracked_writes::TrackedWrites;

/// The most caches that may be chained. Each call passes natively from one to the next, and must not exhaust
/// a small stack.
const LONGEST_CHAIN: usize = 100;

/// A `FlexCache` behind another one.
pub(super) struct MemoryStore {
    cache: Py<FlexCache>,
    /// Tracks the writes through all caches in front of `cache`, and no others.
    tracker: Arc<TrackedWrites>,
    /// Whether others may write to the cache, so that every read has to ask it.
    strict: bool,
    /// The number of chained caches, including this one.
    chain: usize,
}

impl MemoryStore {
    /// # Errors
    ///
    /// `ValueError` if too many caches would be chained.
    pub(super) fn new(cache: &Bound<'_, FlexCache>, coherence: Coherence) -> PyResult<Self> {
        let chain = 1 + cache.get().tier.as_ref().map_or(0, |behind| behind.store.chain());
        if chain > LONGEST_CHAIN {
            return Err(PyValueError::new_err(format!(
                "store is the last of {chain} caches behind each other; at most {LONGEST_CHAIN} are allowed"
            )));
        }
        let strict = coherence == Coherence::Strict;
        let tracker = cache.get().fronts.get_or_init(|| TrackedWrites::new(cache.py()));
        Ok(Self { cache: cache.clone().unbind(), tracker: Arc::clone(tracker), strict, chain })
    }

    /// Whether copies may be kept. While a transaction is open behind the cache, none is: its writes are tracked when they
    /// are made, not when they are committed.
    fn keeps(&self, py: Python<'_>) -> bool {
        !self.strict && !self.has_open_transaction(py)
    }

    fn stripe_of(key: Borrowed<'_, '_, PyAny>) -> PyResult<usize> {
        Ok(Tracker::stripe_of(python_hash(&key)?.cast_unsigned() as u64))
    }

    fn find(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Option<StoredEntry>> {
        // Many caches may be chained.
        stack::check(stack::Call::Any)?;
        let cache = self.cache.get();
        // One call, so that each cache in a chain asks the next one only once.
        cache.read_entry(key, cache.hash(key)?)
    }

    /// Runs a write of one key.
    fn write<R>(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        write: impl FnOnce(&Bound<'_, FlexCache>) -> PyResult<R>,
    ) -> PyResult<Commit<R>> {
        let stripe = Self::stripe_of(key)?;
        let py = key.py();
        // A transaction may end in another thread during the write.
        let keeps = self.keeps(py);
        let (written, stamp) = self.tracker.run(stripe, || write(self.cache.bind(py)));
        Ok(Commit { result: written?, stamp: if keeps && self.keeps(py) { stamp } else { Stamp::NONE } })
    }
}

/// A load of the cache behind.
#[derive(Debug)]
struct MemoryLease {
    cache: Py<FlexCache>,
    load: Arc<Load>,
}

impl Lease for MemoryLease {
    fn order(&self) -> u64 {
        self.load.held_lease().map_or_else(|| self.load.hash(), |further| further.order())
    }

    fn is_valid(&self, py: Python<'_>) -> PyResult<bool> {
        if self.load.is_discarded() {
            return Ok(false);
        }
        self.load.held_lease().map_or(Ok(true), |further| further.is_valid(py))
    }

    fn encode_failure(&self, error: &Bound<'_, PyAny>) -> Option<Vec<u8>> {
        self.load.held_lease()?.encode_failure(error)
    }

    fn end(self: Arc<Self>, py: Python<'_>, failure: Option<Vec<u8>>, may_wait: bool) {
        let shard = self.cache.get().shards.of(self.load.hash());
        let removed = shard.with(py, |shard| shard.loads.remove(&self.load));
        drop(removed);
        if let LoadLease::Held(further) = self.load.set_lease(LoadLease::None) {
            further.end(py, failure, may_wait);
        }
    }
}

impl Store for MemoryStore {
    fn equality(&self) -> Equality {
        Equality::Python
    }

    fn chain(&self) -> usize {
        self.chain
    }

    fn is_live_natively(&self, py: Python<'_>, stamp: Stamp, _clock: &ClockOfSection) -> Option<bool> {
        if self.has_open_transaction(py) {
            return None;
        }
        Some(!self.strict && self.tracker.is_live(stamp))
    }

    fn is_live(&self, _py: Python<'_>, stamp: Stamp) -> PyResult<bool> {
        Ok(!self.strict && self.tracker.is_live(stamp))
    }

    fn has_open_transaction(&self, py: Python<'_>) -> bool {
        self.cache.get().tier.as_ref().is_some_and(|behind| behind.store.has_open_transaction(py))
    }

    fn bypasses_memory(&self, py: Python<'_>) -> PyResult<bool> {
        self.cache.get().tier.as_ref().map_or(Ok(false), |behind| behind.store.bypasses_memory(py))
    }

    fn load(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Loaded> {
        let stamp = self.stamp(key)?;
        Ok(Loaded { entry: self.find(key)?, stamp })
    }

    fn stamp(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Stamp> {
        let stripe = Self::stripe_of(key)?;
        Ok(if self.keeps(key.py()) { self.tracker.stamp(stripe) } else { Stamp::NONE })
    }

    /// Registers a load in the cache behind, which nobody joins, and which writes to that cache discard.
    fn lease(&self, key: Borrowed<'_, '_, PyAny>, request: LeaseRequest<'_>) -> PyResult<LeaseAnswer> {
        let (py, cache) = (key.py(), self.cache.get());
        let load = cache.new_load(&key, Leader::this_thread(), false)?;
        cache.shards.of(load.hash()).with(py, |shard| shard.loads.watch(&load))?;
        let lease = Arc::new(MemoryLease { cache: self.cache.clone_ref(py), load });
        // The lease of the store behind that cache, if it has one.
        match cache.tier.as_ref().map(|tier| tier.store.lease(key, request)).transpose() {
            Ok(None | Some(LeaseAnswer::None)) => Ok(LeaseAnswer::Held(lease)),
            Ok(Some(LeaseAnswer::Held(further))) => {
                drop(lease.load.set_lease(LoadLease::Held(further)));
                Ok(LeaseAnswer::Held(lease))
            }
            Ok(Some(other)) => {
                lease.end(py, None, true);
                Ok(other)
            }
            Err(error) => {
                lease.end(py, None, true);
                Err(error)
            }
        }
    }

    fn contains(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<bool> {
        self.cache.get().has(key)
    }

    fn put(
        &self,
        entry: NewEntry<'_, '_>,
        mode: PutMode,
        unless: &(dyn Fn() -> bool + Sync),
        lease: Option<&Arc<dyn Lease>>,
    ) -> PyResult<Commit<PutResult>> {
        let NewEntry { key, value, seconds, tags } = entry;
        self.write(key, |cache| {
            if unless() {
                return Ok(PutResult::Discarded);
            }
            let lease = lease.and_then(|lease| (lease.as_ref() as &dyn Any).downcast_ref::<MemoryLease>());
            let origin = lease.map_or(Origin::Write, |lease| Origin::Landing(&lease.load));
            let present = cache.get().has(key)?;
            if mode == PutMode::Add && present {
                return Ok(PutResult::Present);
            }
            let (hash, weight) = (cache.get().hash(key)?, cache.get().weight_of(key, value)?);
            let if_present = if mode == PutMode::Add { IfPresent::Keep } else { IfPresent::Replace };
            let deadline = cache.get().moment(seconds.map(duration::after));
            let terms = Terms { deadline, tags, origin, ..Terms::new(weight, if_present) };
            let stored = FlexCache::write_until(&cache.as_borrowed(), key, value, hash, terms)?;
            Ok(match (stored, present) {
                (false, _) if lease.is_some() => PutResult::Discarded,
                (false, _) => PutResult::Present,
                (true, true) => PutResult::Replaced,
                (true, false) => PutResult::Inserted,
            })
        })
    }

    fn remove(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Commit<bool>> {
        self.write(key, |cache| cache.get().remove(key))
    }

    fn pop(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Commit<Option<StoredEntry>>> {
        self.write(key, |cache| {
            let Some(entry) = self.find(key)? else { return Ok(None) };
            let removed = cache.get().remove_and_return(key)?;
            Ok(removed.map(|value| StoredEntry { value, ..entry }))
        })
    }

    fn touch(&self, key: Borrowed<'_, '_, PyAny>, seconds: Option<f64>) -> PyResult<Commit<bool>> {
        self.write(key, |cache| {
            FlexCache::set_deadline(cache, key, cache.get().moment(seconds.map(duration::after)))
        })
    }

    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        let _writing = self.tracker.write_all();
        self.cache.get().clear_through(py)
    }

    fn evict_tag(&self, py: Python<'_>, tag: &str) -> PyResult<usize> {
        let _writing = self.tracker.write_all();
        self.cache.get().remove_tagged_through(PyString::new(py, tag).as_any())
    }

    fn put_many(&self, _py: Python<'_>, entries: &[NewEntry<'_, '_>]) -> PyResult<Vec<Stamp>> {
        let put = |entry: &NewEntry<'_, '_>| Ok(self.put(*entry, PutMode::Replace, &|| false, None)?.stamp);
        entries.iter().map(put).collect()
    }

    fn remove_many(&self, _py: Python<'_>, keys: &[Borrowed<'_, '_, PyAny>]) -> PyResult<usize> {
        let mut removed = 0;
        for key in keys {
            removed += usize::from(self.remove(*key)?.result);
        }
        Ok(removed)
    }

    fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.cache)
    }
}
