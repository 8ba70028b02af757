//! The store of a cache: the core's store of Python objects, with the operations that the bindings need.

use std::ops::{Deref, DerefMut};

use flexcache_core::{
    Cause, Clock, EntryStore, Error, HashCheck, Limits, Lookup, New, OutOfMemory, Slot, Stamp,
};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;

use super::any_policy::{AnyPolicy, PolicyName};
use super::core_errors::try_collect;
use super::tier::Freshness;
use crate::py::process::clock::{ClockOfSection, SystemClock};
use crate::py::removal::removed_entries::{RemovedEntries, RemovedEntry};

type PyNew = New<Py<PyAny>, Py<PyAny>>;
type PyStore = EntryStore<Py<PyAny>, Py<PyAny>, AnyPolicy>;

/// A store of Python objects, with any policy.
pub(crate) struct AnyStore(PyStore);

impl Deref for AnyStore {
    type Target = PyStore;

    #[inline(always)]
    fn deref(&self) -> &PyStore {
        &self.0
    }
}

impl DerefMut for AnyStore {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut PyStore {
        &mut self.0
    }
}

/// A copy of a tag's name.
fn copied(name: &str) -> Result<String, OutOfMemory> {
    let mut copy = String::new();
    copy.try_reserve_exact(name.len())?;
    copy.push_str(name);
    Ok(copy)
}

/// When the copy in a slot was current.
fn freshness(store: &PyStore, slot: Slot) -> Freshness {
    Freshness { stamp: Stamp::from_bits(store.stamp(slot)), fetched: store.fetched(slot) }
}

/// A call that the fast path does not cover.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Complicated;

/// The outcome of a put on the fast path.
pub(crate) enum PlainPut {
    /// The value that was replaced.
    Replaced(Py<PyAny>),
    /// The entry that was evicted.
    Evicted(RemovedEntry),
    Inserted,
}

impl AnyStore {
    pub(crate) fn new(policy: PolicyName, limits: Limits, seed: u64) -> Result<Self, OutOfMemory> {
        Ok(Self(EntryStore::with_policy(limits, seed, AnyPolicy::named(policy)?)))
    }

    /// Finds a live entry and counts a hit or a miss. `Err` if the slow path is needed.
    #[inline(always)]
    pub(crate) fn get_if_plain(
        &mut self,
        hash: u64,
        eq: impl FnMut(&Py<PyAny>, HashCheck<'_>) -> Result<bool, Complicated>,
    ) -> Result<Option<&Py<PyAny>>, Complicated> {
        match self.0.hit_if(hash, eq, |store, slot| !store.has_expired(slot, &SystemClock), true)? {
            Lookup::Hit(value) => Ok(Some(value)),
            Lookup::NotServed => Err(Complicated),
            Lookup::Absent => Ok(None),
        }
    }

    /// Finds a live entry and counts nothing. `Err` if the slow path is needed.
    #[cfg(Py_GIL_DISABLED)]
    #[inline(always)]
    pub(crate) fn look(
        &self,
        hash: u64,
        eq: impl FnMut(&Py<PyAny>, HashCheck<'_>) -> Result<bool, Complicated>,
    ) -> Result<Option<(Slot, &Py<PyAny>)>, Complicated> {
        match self.find_by_key(hash, eq)? {
            Some(slot) if self.has_expired(slot) => Err(Complicated),
            found => Ok(found.map(|slot| (slot, self.value(slot)))),
        }
    }

    /// Finds an entry that may be served and counts a hit. If the slow path is needed, returns `None` and
    /// changes nothing.
    #[inline(always)]
    pub(crate) fn hit_if_live(
        &mut self,
        hash: u64,
        eq: impl FnMut(&Py<PyAny>, HashCheck<'_>) -> Result<bool, Complicated>,
        is_live: impl Fn(Freshness) -> bool,
        clock: &ClockOfSection,
    ) -> Option<&Py<PyAny>> {
        let is_served =
            |store: &PyStore, slot| is_live(freshness(store, slot)) && !store.has_expired(slot, clock);
        match self.0.hit_if(hash, eq, is_served, false) {
            Ok(Lookup::Hit(value)) => Some(value),
            _ => None,
        }
    }

    /// Replaces an entry, or inserts it, in one step. `Err` if the slow path is needed. The closures make the
    /// references that are stored.
    #[inline(always)]
    pub(crate) fn put_if_plain(
        &mut self,
        hash: u64,
        eq: impl FnMut(&Py<PyAny>, HashCheck<'_>) -> Result<bool, Complicated>,
        key: impl FnOnce() -> Py<PyAny>,
        value: impl FnOnce() -> Py<PyAny>,
    ) -> Result<PlainPut, Complicated> {
        if !self.is_plain() {
            return Err(Complicated);
        }
        Ok(match self.find_by_key(hash, eq)? {
            Some(slot) => PlainPut::Replaced(self.exchange(slot, hash, value())),
            None => {
                let place = self.reserve_plain(hash).map_err(|OutOfMemory| Complicated)?;
                match self.insert_plain(place, hash, key(), value()) {
                    Some(entry) => PlainPut::Evicted(entry),
                    None => PlainPut::Inserted,
                }
            }
        })
    }

    /// Inserts an entry in one step. `Err` if the slow path is needed, for example because the key is
    /// present. Returns the entry that was evicted.
    #[inline(always)]
    pub(crate) fn insert_if_plain(
        &mut self,
        hash: u64,
        eq: impl FnMut(&Py<PyAny>, HashCheck<'_>) -> Result<bool, Complicated>,
        key: impl FnOnce() -> Py<PyAny>,
        value: impl FnOnce() -> Py<PyAny>,
    ) -> Result<Option<RemovedEntry>, Complicated> {
        if !self.is_plain() || self.find_by_key(hash, eq)?.is_some() {
            return Err(Complicated);
        }
        let place = self.reserve_plain(hash).map_err(|OutOfMemory| Complicated)?;
        Ok(self.insert_plain(place, hash, key(), value()))
    }

    /// Finds a live entry and removes it in one step. `Err` if the slow path is needed.
    #[inline(always)]
    pub(crate) fn remove_if_plain(
        &mut self,
        hash: u64,
        eq: impl FnMut(&Py<PyAny>, HashCheck<'_>) -> Result<bool, Complicated>,
    ) -> Result<Option<RemovedEntry>, Complicated> {
        let mut removed = None;
        if let Some(slot) = self.find_by_key(hash, eq)? {
            if self.has_expired(slot) {
                return Err(Complicated);
            }
            self.0.remove(slot, Cause::Deleted, &mut removed);
        }
        Ok(removed)
    }

    #[inline(always)]
    pub(crate) fn put(
        &mut self,
        found: Option<Slot>,
        hash: u64,
        new: PyNew,
        tags: &[PyBackedStr],
        clock: &impl Clock,
        removed: &mut RemovedEntries,
    ) -> Result<Slot, (Error, PyNew)> {
        if !tags.is_empty() {
            return self.put_tagged(found, hash, new, tags, clock, removed);
        }
        self.0.put(found, hash, new, clock, removed)
    }

    /// Whether an entry's deadline has come, by the system's clock.
    #[inline]
    pub(crate) fn has_expired(&self, slot: Slot) -> bool {
        self.has_expired_by(slot, &SystemClock)
    }

    /// [`has_expired`](Self::has_expired) by another clock.
    #[inline]
    pub(crate) fn has_expired_by(&self, slot: Slot, clock: &impl Clock) -> bool {
        self.0.has_expired(slot, clock)
    }

    /// The tags of an entry.
    pub(crate) fn tags(&self, slot: Slot) -> Result<Vec<String>, OutOfMemory> {
        let mut tags = Vec::new();
        for tag in self.0.tags(slot) {
            tags.try_reserve(1)?;
            tags.push(copied(tag)?);
        }
        Ok(tags)
    }

    pub(crate) fn is_over_limits(&self) -> bool {
        let limits = self.limits();
        limits.items.is_some_and(|most| self.len() as u64 > most.get())
            || limits.weight.is_some_and(|most| self.weight() > most.get())
    }

    /// Checks that an entry of this weight could be stored if all others were evicted.
    pub(crate) fn fits_alone(&self, weight: u64) -> Result<(), Error> {
        match self.limits().weight {
            Some(limit) if weight > limit.get() => Err(Error::TooHeavy { weight, limit: limit.get() }),
            _ => Ok(()),
        }
    }

    pub(crate) fn slots(&self) -> PyResult<Vec<Slot>> {
        try_collect(self.len(), self.0.slots())
    }

    /// When the copy of a store's entry was current.
    pub(crate) fn freshness(&self, slot: Slot) -> Freshness {
        freshness(self, slot)
    }

    pub(crate) fn set_freshness(&mut self, slot: Slot, of: Freshness) -> Result<(), OutOfMemory> {
        self.set_stamp(slot, of.stamp.bits())?;
        // Caches that serve a copy for a limited time set this for every entry, other caches never.
        if of.fetched != 0 || self.fetched(slot) != 0 {
            self.set_fetched(slot, of.fetched)?;
        }
        Ok(())
    }

    /// Visits every key and value; the first error ends it.
    pub(crate) fn visit<E>(&self, mut visit: impl FnMut(&Py<PyAny>) -> Result<(), E>) -> Result<(), E> {
        self.entries().try_for_each(|(key, value)| {
            visit(key)?;
            visit(value)
        })
    }

    /// The same store with references of its own.
    pub(crate) fn copy(&self, py: Python<'_>) -> Result<Self, OutOfMemory> {
        Ok(Self(self.try_map(|key, value| (key.clone_ref(py), value.clone_ref(py)))?))
    }
}
