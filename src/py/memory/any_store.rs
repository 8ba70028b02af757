//! One store, whatever its policy: the only place that names all policies.

use flexcache_core::policy::{
    Auto, ExactLfu, Fifo, Goal, Lfu, Listed, Lru, Policy, Random, Requeue, S3Fifo, Sieve, TinyLfu,
};
use flexcache_core::{
    Cause, Clock, EntryStore, Error, Limits, Lookup, Nanos, New, OutOfMemory, Slot, Stamp, Stats, TryBox,
    store::Drained,
};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;

use super::core_errors::try_collect;
use super::tier::Freshness;
use crate::py::process::clock::{ClockOfSection, SystemClock};
use crate::py::removal::removed_entries::{RemovedEntries, RemovedEntry};

type PyNew = New<Py<PyAny>, Py<PyAny>>;
type PyStore<P> = EntryStore<Py<PyAny>, Py<PyAny>, P>;

/// The built-in policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PolicyName {
    Lru,
    Fifo,
    Lfu,
    Random,
    Sieve,
    S3Fifo,
    TinyLfu,
    Auto,
    /// Those of the classes that stand in for cachetools': iteration is in order of insertion.
    Listed,
    ListedLru,
    ListedFifo,
    ListedLfu,
}

impl PolicyName {
    /// Those that a user may name.
    pub(crate) const ALL: [Self; 8] = [
        Self::Lru,
        Self::Fifo,
        Self::Lfu,
        Self::Random,
        Self::Sieve,
        Self::S3Fifo,
        Self::TinyLfu,
        Self::Auto,
    ];

    /// Those for mappings, whose values are only kept: they are neither weighed nor closed.
    pub(crate) const OF_MAPPINGS: [Self; 4] =
        [Self::Listed, Self::ListedLru, Self::ListedFifo, Self::ListedLfu];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Lru => "lru",
            Self::Fifo => "fifo",
            Self::Lfu => "lfu",
            Self::Random => "random",
            Self::Sieve => "sieve",
            Self::S3Fifo => "s3fifo",
            Self::TinyLfu => "tinylfu",
            Self::Auto => "auto",
            Self::Listed => "listed",
            Self::ListedLru => "listed-lru",
            Self::ListedFifo => "listed-fifo",
            Self::ListedLfu => "listed-lfu",
        }
    }
}

/// When the copy in a slot was current.
macro_rules! freshness {
    ($store:ident, $slot:ident) => {
        Freshness { stamp: Stamp::from_bits($store.stamp($slot)), fetched: $store.fetched($slot) }
    };
}

/// A store of Python objects. All have the size of the largest that is not in a box, so the larger ones are.
pub(crate) enum AnyStore {
    Lru(PyStore<Lru>),
    Fifo(PyStore<Fifo>),
    Lfu(TryBox<PyStore<Lfu>>),
    Random(TryBox<PyStore<Random>>),
    Sieve(TryBox<PyStore<Sieve>>),
    S3Fifo(TryBox<PyStore<S3Fifo>>),
    TinyLfu(TryBox<PyStore<TinyLfu>>),
    Auto(TryBox<PyStore<Auto>>),
    ListedLru(TryBox<PyStore<Listed<Lru>>>),
    ListedFifo(TryBox<PyStore<Listed<Requeue>>>),
    ListedLfu(TryBox<PyStore<Listed<ExactLfu>>>),
}

fn boxed<P: Policy>(limits: Limits, seed: u64) -> Result<TryBox<PyStore<P>>, OutOfMemory> {
    TryBox::new(EntryStore::new(limits, seed))
}

/// A copy of a tag's name.
fn copied(name: &str) -> Result<String, OutOfMemory> {
    let mut copy = String::new();
    copy.try_reserve_exact(name.len())?;
    copy.push_str(name);
    Ok(copy)
}

/// A call that the fast path does not cover.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Complicated;

/// What came of a put on the fast path.
pub(crate) enum PlainPut {
    /// The value that was replaced.
    Replaced(Py<PyAny>),
    /// The entry that made room.
    Evicted(RemovedEntry),
    Inserted,
}

/// Runs one expression with the store, whichever it is.
macro_rules! on_store {
    ($any:expr, $store:ident => $call:expr) => {
        match $any {
            AnyStore::Lru($store) => $call,
            AnyStore::Fifo($store) => $call,
            AnyStore::Lfu($store) => $call,
            AnyStore::Random($store) => $call,
            AnyStore::Sieve($store) => $call,
            AnyStore::S3Fifo($store) => $call,
            AnyStore::TinyLfu($store) => $call,
            AnyStore::Auto($store) => $call,
            AnyStore::ListedLfu($store) => $call,
            AnyStore::ListedFifo($store) => $call,
            AnyStore::ListedLru($store) => $call,
        }
    };
}

impl AnyStore {
    pub(crate) fn new(policy: PolicyName, limits: Limits, seed: u64) -> Result<Self, OutOfMemory> {
        Ok(match policy {
            PolicyName::Lru => Self::Lru(EntryStore::new(limits, seed)),
            PolicyName::Fifo | PolicyName::Listed => Self::Fifo(EntryStore::new(limits, seed)),
            PolicyName::Lfu => Self::Lfu(boxed(limits, seed)?),
            PolicyName::Random => Self::Random(boxed(limits, seed)?),
            PolicyName::Sieve => Self::Sieve(boxed(limits, seed)?),
            PolicyName::S3Fifo => Self::S3Fifo(boxed(limits, seed)?),
            PolicyName::TinyLfu => Self::TinyLfu(boxed(limits, seed)?),
            PolicyName::Auto => Self::Auto(boxed(limits, seed)?),
            PolicyName::ListedLfu => Self::ListedLfu(boxed(limits, seed)?),
            PolicyName::ListedFifo => Self::ListedFifo(boxed(limits, seed)?),
            PolicyName::ListedLru => Self::ListedLru(boxed(limits, seed)?),
        })
    }

    /// What is to be optimized where sizes limit the cache.
    pub(crate) fn set_goal(&mut self, goal: Goal) {
        on_store!(self, store => store.set_goal(goal));
    }

    #[inline(always)]
    pub(crate) fn find<E>(
        &self,
        hash: u64,
        eq: impl FnMut(&Py<PyAny>) -> Result<bool, E>,
    ) -> Result<Option<Slot>, E> {
        on_store!(self, store => store.find(hash, eq))
    }

    /// [`find`](Self::find) and [`get`](Self::get) in one, so that the policy is looked at once;
    /// `Err` where that is not all there is to do.
    #[inline(always)]
    pub(crate) fn get_if_plain(
        &mut self,
        hash: u64,
        eq: impl FnMut(&Py<PyAny>) -> Result<bool, Complicated>,
    ) -> Result<Option<&Py<PyAny>>, Complicated> {
        on_store!(self, store => {
            match store.hit_if(hash, eq, |store, slot| !store.has_expired(slot, &SystemClock), true)? {
                Lookup::Hit(value) => Ok(Some(value)),
                Lookup::NotServed => Err(Complicated),
                Lookup::Absent => Ok(None),
            }
        })
    }

    /// Finds a live entry and counts a hit; `None`, with nothing changed, where that is not all
    /// there is to do.
    #[inline(always)]
    pub(crate) fn hit_if_plain(
        &mut self,
        hash: u64,
        eq: impl FnMut(&Py<PyAny>) -> Result<bool, Complicated>,
    ) -> Option<&Py<PyAny>> {
        on_store!(self, store => {
            match store.hit_if(hash, eq, |store, slot| !store.has_expired(slot, &SystemClock), false) {
                Ok(Lookup::Hit(value)) => Some(value),
                _ => None,
            }
        })
    }

    /// [`hit_if_plain`](Self::hit_if_plain) of an entry that may be served.
    #[inline(always)]
    pub(crate) fn hit_if_live(
        &mut self,
        hash: u64,
        eq: impl FnMut(&Py<PyAny>) -> Result<bool, Complicated>,
        is_live: impl Fn(Freshness) -> bool,
        clock: &ClockOfSection,
    ) -> Option<&Py<PyAny>> {
        on_store!(self, store => {
            let is_served = |store: &PyStore<_>, slot| {
                is_live(freshness!(store, slot)) && !store.has_expired(slot, clock)
            };
            match store.hit_if(hash, eq, is_served, false) {
                Ok(Lookup::Hit(value)) => Some(value),
                _ => None,
            }
        })
    }

    /// Finds an entry and replaces it, or stores it anew, in one; `Err` where that is not all there
    /// is to do. The closures make the references that are stored.
    #[inline(always)]
    pub(crate) fn put_if_plain(
        &mut self,
        hash: u64,
        eq: impl FnMut(&Py<PyAny>) -> Result<bool, Complicated>,
        key: impl FnOnce() -> Py<PyAny>,
        value: impl FnOnce() -> Py<PyAny>,
    ) -> Result<PlainPut, Complicated> {
        on_store!(self, store => {
            if !store.is_plain() {
                return Err(Complicated);
            }
            Ok(match store.find_by_key(hash, eq)? {
                Some(slot) => PlainPut::Replaced(store.exchange(slot, hash, value())),
                None => {
                    let place = store.reserve_plain(hash).map_err(|OutOfMemory| Complicated)?;
                    match store.insert_plain(place, hash, key(), value()) {
                        Some(entry) => PlainPut::Evicted(entry),
                        None => PlainPut::Inserted,
                    }
                }
            })
        })
    }

    /// Stores an entry anew, in one; `Err` where that is not all there is to do, as where the key is there. Returns the
    /// entry that made room.
    #[inline(always)]
    pub(crate) fn insert_if_plain(
        &mut self,
        hash: u64,
        eq: impl FnMut(&Py<PyAny>) -> Result<bool, Complicated>,
        key: impl FnOnce() -> Py<PyAny>,
        value: impl FnOnce() -> Py<PyAny>,
    ) -> Result<Option<RemovedEntry>, Complicated> {
        on_store!(self, store => {
            if !store.is_plain() || store.find_by_key(hash, eq)?.is_some() {
                return Err(Complicated);
            }
            let place = store.reserve_plain(hash).map_err(|OutOfMemory| Complicated)?;
            Ok(store.insert_plain(place, hash, key(), value()))
        })
    }

    /// Finds a live entry and removes it, in one; `Err` where that is not all there is to do.
    #[inline(always)]
    pub(crate) fn remove_if_plain(
        &mut self,
        hash: u64,
        eq: impl FnMut(&Py<PyAny>) -> Result<bool, Complicated>,
    ) -> Result<Option<RemovedEntry>, Complicated> {
        on_store!(self, store => {
            let mut removed = None;
            if let Some(slot) = store.find_by_key(hash, eq)? {
                if store.has_expired(slot, &SystemClock) {
                    return Err(Complicated);
                }
                store.remove(slot, Cause::Deleted, &mut removed);
            }
            Ok(removed)
        })
    }

    pub(crate) fn get(
        &mut self,
        found: Option<Slot>,
        clock: &impl Clock,
        removed: &mut RemovedEntries,
    ) -> Option<&Py<PyAny>> {
        on_store!(self, store => store.get(found, clock, removed))
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
            return on_store!(self, store => store.put_tagged(found, hash, new, tags, clock, removed));
        }
        on_store!(self, store => store.put(found, hash, new, clock, removed))
    }

    pub(crate) fn live(
        &mut self,
        found: Option<Slot>,
        clock: &impl Clock,
        removed: &mut RemovedEntries,
    ) -> Option<Slot> {
        on_store!(self, store => store.live(found, clock, removed))
    }

    #[inline]
    pub(crate) fn has_expired(&self, slot: Slot) -> bool {
        self.has_expired_by(slot, &SystemClock)
    }

    /// [`has_expired`](Self::has_expired) by another clock.
    #[inline]
    pub(crate) fn has_expired_by(&self, slot: Slot, clock: &impl Clock) -> bool {
        on_store!(self, store => store.has_expired(slot, clock))
    }

    pub(crate) fn remove(&mut self, slot: Slot, cause: Cause, removed: &mut RemovedEntries) {
        on_store!(self, store => store.remove(slot, cause, removed));
    }

    pub(crate) fn expire(&mut self, now: Nanos, most: usize, removed: &mut RemovedEntries) -> usize {
        on_store!(self, store => store.expire(now, most, removed))
    }

    #[inline]
    pub(crate) fn has_deadlines(&self) -> bool {
        on_store!(self, store => store.has_deadlines())
    }

    pub(crate) fn next_expiry(&self) -> Option<Nanos> {
        on_store!(self, store => store.next_expiry())
    }

    pub(crate) fn deadline(&self, slot: Slot) -> Option<Nanos> {
        on_store!(self, store => store.deadline(slot))
    }

    pub(crate) fn set_deadline(
        &mut self,
        slot: Slot,
        deadline: Option<Nanos>,
        clock: &impl Clock,
    ) -> Result<(), OutOfMemory> {
        on_store!(self, store => store.set_deadline(slot, deadline, clock))
    }

    /// The tags of an entry.
    pub(crate) fn tags(&self, slot: Slot) -> Result<Vec<String>, OutOfMemory> {
        on_store!(self, store => {
            let mut tags = Vec::new();
            for tag in store.tags(slot) {
                tags.try_reserve(1)?;
                tags.push(copied(tag)?);
            }
            Ok(tags)
        })
    }

    pub(crate) fn count_tagged(&self, tag: &str) -> usize {
        on_store!(self, store => store.count_tagged(tag))
    }

    pub(crate) fn evict_tag(
        &mut self,
        tag: &str,
        most: usize,
        clock: &impl Clock,
        removed: &mut RemovedEntries,
    ) -> usize {
        on_store!(self, store => store.evict_tag(tag, most, clock, removed))
    }

    pub(crate) fn set_limits(&mut self, limits: Limits) {
        on_store!(self, store => store.set_limits(limits));
    }

    pub(crate) fn limits(&self) -> Limits {
        on_store!(self, store => store.limits())
    }

    pub(crate) fn shrink(&mut self, most: usize, clock: &impl Clock, removed: &mut RemovedEntries) -> bool {
        on_store!(self, store => store.shrink(most, clock, removed))
    }

    pub(crate) fn is_over_limits(&self) -> bool {
        let limits = self.limits();
        limits.items.is_some_and(|most| self.len() as u64 > most.get())
            || limits.weight.is_some_and(|most| self.weight() > most.get())
    }

    pub(crate) fn admit(&self, found: Option<Slot>, weight: u64) -> Result<(), Error> {
        on_store!(self, store => store.admit(found, weight))
    }

    /// Whether an entry of this weight could come in if all others were evicted.
    pub(crate) fn fits_alone(&self, weight: u64) -> Result<(), Error> {
        match self.limits().weight {
            Some(limit) if weight > limit.get() => Err(Error::TooHeavy { weight, limit: limit.get() }),
            _ => Ok(()),
        }
    }

    pub(crate) fn victim(&mut self) -> Option<Slot> {
        on_store!(self, store => store.victim())
    }

    pub(crate) fn slots(&self) -> PyResult<Vec<Slot>> {
        on_store!(self, store => try_collect(store.len(), store.slots()))
    }

    /// The slots in the order of iteration.
    pub(crate) fn listing(&self) -> PyResult<Vec<Slot>> {
        on_store!(self, store => try_collect(store.len(), store.listing()))
    }

    pub(crate) fn key(&self, slot: Slot) -> &Py<PyAny> {
        on_store!(self, store => store.key(slot))
    }

    pub(crate) fn value(&self, slot: Slot) -> &Py<PyAny> {
        on_store!(self, store => store.value(slot))
    }

    pub(crate) fn key_at(&self, slot: Slot) -> Option<&Py<PyAny>> {
        on_store!(self, store => store.key_at(slot))
    }

    pub(crate) fn weight_of(&self, slot: Slot) -> u64 {
        on_store!(self, store => store.weight_of(slot))
    }

    #[inline]
    /// When the copy of a store's entry was current.
    pub(crate) fn freshness(&self, slot: Slot) -> Freshness {
        on_store!(self, store => freshness!(store, slot))
    }

    pub(crate) fn set_freshness(&mut self, slot: Slot, of: Freshness) -> Result<(), OutOfMemory> {
        on_store!(self, store => {
            store.set_stamp(slot, of.stamp.bits())?;
            // Caches that serve a copy for a time set it for each entry, the others never.
            if of.fetched != 0 || store.fetched(slot) != 0 {
                store.set_fetched(slot, of.fetched)?;
            }
            Ok(())
        })
    }

    pub(crate) fn rank(&self, slot: Slot) -> u64 {
        on_store!(self, store => store.rank(slot))
    }

    pub(crate) fn restore(&mut self, slot: Slot, rank: u64) {
        on_store!(self, store => store.restore(slot, rank));
    }

    pub(crate) fn len(&self) -> usize {
        on_store!(self, store => store.len())
    }

    pub(crate) fn weight(&self) -> u64 {
        on_store!(self, store => store.weight())
    }

    pub(crate) fn stats(&self) -> Stats {
        on_store!(self, store => store.stats())
    }

    pub(crate) fn reset_stats(&mut self) {
        on_store!(self, store => store.reset_stats());
    }

    /// Bytes allocated, beside those of `self`.
    pub(crate) fn allocated_bytes(&self) -> usize {
        let boxed = match self {
            Self::Lru(_) | Self::Fifo(_) => 0,
            Self::Lfu(_) => size_of::<PyStore<Lfu>>(),
            Self::Random(_) => size_of::<PyStore<Random>>(),
            Self::Sieve(_) => size_of::<PyStore<Sieve>>(),
            Self::S3Fifo(_) => size_of::<PyStore<S3Fifo>>(),
            Self::TinyLfu(_) => size_of::<PyStore<TinyLfu>>(),
            Self::Auto(_) => size_of::<PyStore<Auto>>(),
            Self::ListedLru(_) => size_of::<PyStore<Listed<Lru>>>(),
            Self::ListedFifo(_) => size_of::<PyStore<Listed<Requeue>>>(),
            Self::ListedLfu(_) => size_of::<PyStore<Listed<ExactLfu>>>(),
        };
        boxed + on_store!(self, store => store.allocated_bytes())
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        on_store!(self, store => store.check())
    }

    /// Visits every key and value; the first error ends it.
    pub(crate) fn visit<E>(&self, mut visit: impl FnMut(&Py<PyAny>) -> Result<(), E>) -> Result<(), E> {
        on_store!(self, store => {
            for (key, value) in store.entries() {
                visit(key)?;
                visit(value)?;
            }
            Ok(())
        })
    }

    /// Empties the store. O(1): the contents are dropped by the caller, after the lock.
    pub(crate) fn drain(&mut self) -> Drained<Py<PyAny>, Py<PyAny>> {
        on_store!(self, store => store.drain())
    }

    /// The same store with references of its own.
    pub(crate) fn copy(&self, py: Python<'_>) -> Result<Self, OutOfMemory> {
        let share = |key: &Py<PyAny>, value: &Py<PyAny>| (key.clone_ref(py), value.clone_ref(py));
        Ok(match self {
            Self::Lru(store) => Self::Lru(store.try_map(share)?),
            Self::Fifo(store) => Self::Fifo(store.try_map(share)?),
            Self::Lfu(store) => Self::Lfu(TryBox::new(store.try_map(share)?)?),
            Self::Random(store) => Self::Random(TryBox::new(store.try_map(share)?)?),
            Self::Sieve(store) => Self::Sieve(TryBox::new(store.try_map(share)?)?),
            Self::S3Fifo(store) => Self::S3Fifo(TryBox::new(store.try_map(share)?)?),
            Self::TinyLfu(store) => Self::TinyLfu(TryBox::new(store.try_map(share)?)?),
            Self::Auto(store) => Self::Auto(TryBox::new(store.try_map(share)?)?),
            Self::ListedLfu(store) => Self::ListedLfu(TryBox::new(store.try_map(share)?)?),
            Self::ListedFifo(store) => Self::ListedFifo(TryBox::new(store.try_map(share)?)?),
            Self::ListedLru(store) => Self::ListedLru(TryBox::new(store.try_map(share)?)?),
        })
    }
}
