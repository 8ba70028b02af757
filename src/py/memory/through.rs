//! Calls to a cache in front of a store: reading and writing through.
//!
//! What is not in memory is looked up in the store, a write goes to both, and what is evicted from memory stays in
//! the store. The store's code runs without any lock of ours, so two threads may come between one another's write to
//! the store and write to memory. No thread waits for that: each write takes a ticket, and a thread which finds that
//! another write of the same stripe of keys has begun meanwhile leaves nothing in memory. The store has the truth,
//! and the next lookup fetches it.

use flexcache_core::{Cause, Nanos};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::core_errors::refused;
use super::entries::missing;
use super::options;
use super::state::FlexCache;
use super::terms::{IfPresent, Terms, WriteOutcome};
use crate::py::object::duration::{self, seconds_until};
use crate::py::object::hooks;
use crate::py::removal::removed_entries::RemovedEntries;
use crate::py::store::cached_result::CachedResult;
use crate::py::store::loads::Origin;
use crate::py::store::tier::{LoadedEntry, Ticket, Tier, as_in_memory};

impl FlexCache {
    /// A value from memory, or else from the store; counts a hit or a miss of memory.
    pub(super) fn read_through(
        &self,
        tier: &Tier,
        key: Borrowed<'_, '_, PyAny>,
        hash: u64,
    ) -> PyResult<Option<Py<PyAny>>> {
        let py = key.py();
        let stamp = tier.stamp(py)?;
        let mut removed = RemovedEntries::new();
        let value = self.shards.find(&key, hash, |store, found| {
            let fresh = found.filter(|&slot| tier.is_fresh(store.stamp(slot), stamp));
            store.get(fresh, &mut removed).map(|value| value.clone_ref(py))
        })?;
        if !removed.is_empty() {
            self.finish_removals(py, removed)?;
        }
        if value.is_some() {
            return Ok(value);
        }
        let stripe = tier.stripe(hash);
        let look = stripe.look();
        let Some((value, seconds, tags)) = tier.load(key)? else {
            self.remove_from_memory(key)?;
            return Ok(None);
        };
        let tags = options::tags(Some(tags.bind(py).as_any().as_borrowed()))?;
        let deadline = seconds.map(|seconds| duration::after(seconds).deadline());
        let origin = Origin::Fill;
        let terms = Terms { deadline, tags: &tags, stamp, origin, ..Terms::new(1, IfPresent::Replace) };
        let value_now = value.bind(py).as_borrowed();
        self.keep(tier, key, value_now, hash, terms, || stripe.is_quiet_since(look))?;
        Ok(Some(value))
    }

    /// Puts into memory what is in the store, unless it has become doubtful; an entry that memory cannot take is just
    /// not there.
    fn keep(
        &self,
        tier: &Tier,
        key: Borrowed<'_, '_, PyAny>,
        value: Borrowed<'_, '_, PyAny>,
        hash: u64,
        terms: Terms<'_>,
        is_certain: impl Fn() -> bool,
    ) -> PyResult<()> {
        let py = key.py();
        let weight = hooks::weight(&value)?;
        let fits = self.shards.of(hash).with(py, |store| store.fits_alone(weight))?.is_ok();
        if fits && is_certain() && !tier.is_in_transaction(py)? {
            let stored = self.write_store(key, value, hash, Terms { weight, ..terms });
            if stored.is_ok() && is_certain() {
                return Ok(());
            }
        }
        self.remove_from_memory(key)
    }

    /// Whether a write may go to the store: a load whose key was written since it began may not. Other
    /// writes discard the loads of their key, before they reach the store and after.
    fn begin_write(
        &self,
        py: Python<'_>,
        key: Borrowed<'_, '_, PyAny>,
        hash: u64,
        terms: &Terms<'_>,
    ) -> PyResult<bool> {
        let (may_write, discarded) = self.shards.of(hash).with(py, |shard| match terms.origin {
            Origin::Landing(load) => (shard.loads.may_land(load, terms.tags), Vec::new()),
            Origin::Write => (true, shard.loads.written(hash, &key)),
            Origin::Fill => (true, Vec::new()),
        })?;
        drop(discarded);
        Ok(may_write)
    }

    /// Discards the loads of a key.
    fn discard_loads_of(&self, key: Borrowed<'_, '_, PyAny>, hash: u64) -> PyResult<()> {
        let discarded = self.shards.of(hash).with(key.py(), |shard| shard.loads.written(hash, &key))?;
        drop(discarded);
        Ok(())
    }

    /// Discards all loads.
    pub(super) fn discard_loads(&self, py: Python<'_>) -> PyResult<()> {
        for shard in self.shards.iter() {
            let discarded = shard.with(py, |shard| shard.loads.cleared())?;
            drop(discarded);
        }
        Ok(())
    }

    /// Discards the loads that turn out to have a tag.
    pub(super) fn discard_loads_tagged(&self, py: Python<'_>, tag: &str) -> PyResult<()> {
        for shard in self.shards.iter() {
            let discarded = shard.with(py, |shard| shard.loads.evicting(tag))?;
            drop(discarded);
        }
        Ok(())
    }

    /// Removes an entry from memory, not from the store.
    pub(super) fn remove_from_memory(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
        match self.remove_entry_and(key, Cause::Deleted, |_, _| Some(Vec::new()))? {
            Some(entry) => self.finish_removal(key.py(), entry),
            None => Ok(()),
        }
    }

    /// Stores an entry in the store and in memory; whether it was stored.
    pub(super) fn write_through(
        this: &Borrowed<'_, '_, Self>,
        tier: &Tier,
        key: Borrowed<'_, '_, PyAny>,
        value: Borrowed<'_, '_, PyAny>,
        hash: u64,
        terms: Terms<'_>,
    ) -> PyResult<bool> {
        let (py, cache) = (key.py(), this.get());
        cache.shards.of(hash).with(py, |store| store.fits_alone(terms.weight))?.map_err(refused)?;
        if !cache.begin_write(py, key, hash, &terms)? {
            return Ok(false);
        }
        let stamp = tier.stamp(py)?;
        let ticket = Ticket::take(tier.stripe(hash));
        let seconds = terms.deadline.map(seconds_until);
        // What is known of a result goes to the store in plain types.
        let stored = CachedResult::of(&value).map(|known| known.get().stored(py)).transpose()?;
        let stored = stored.as_ref().map_or(value, |plain| plain.as_any().as_borrowed());
        let tags = PyTuple::new(py, terms.tags.iter().map(|tag| &**tag))?;
        let written = tier.write(py, |store| match terms.if_present {
            IfPresent::Replace => {
                store.call_method1(intern!(py, "save"), (key, stored, seconds, tags))?;
                Ok(true)
            }
            IfPresent::Raise | IfPresent::Keep => {
                store.call_method1(intern!(py, "add"), (key, stored, seconds, tags))?.is_truthy()
            }
        });
        if !matches!(written, Ok(true)) {
            // Whatever the store has now.
            cache.remove_from_memory(key)?;
            return written;
        }
        let present = cache.find_live(key, |_, _| ())?.is_some();
        let terms = Terms { stamp, if_present: IfPresent::Replace, ..terms };
        cache.keep(tier, key, value, hash, terms, || ticket.is_alone())?;
        drop(ticket);
        if matches!(terms.origin, Origin::Write) {
            // Those that began while the store was written, where memory keeps nothing.
            cache.discard_loads_of(key, hash)?;
        }
        if let Some(deadline) = terms.deadline {
            cache.expect_expiry(this, deadline)?;
        }
        let stored = if present { WriteOutcome::Updated } else { WriteOutcome::Inserted };
        cache.notify_write(&key, &value, hash, terms.weight, stored);
        Ok(true)
    }

    /// Removes an entry from the store and from memory; whether the store had it.
    pub(super) fn remove_through(&self, tier: &Tier, key: Borrowed<'_, '_, PyAny>) -> PyResult<bool> {
        let (py, hash) = (key.py(), self.hash(key)?);
        self.discard_loads_of(key, hash)?;
        let ticket = Ticket::take(tier.stripe(hash));
        let removed = tier.write(py, |store| store.call_method1(intern!(py, "remove"), (key,))?.is_truthy());
        self.remove_from_memory(key)?;
        drop(ticket);
        self.discard_loads_of(key, hash)?;
        removed
    }

    /// Removes an entry from the store and from memory; its value.
    pub(super) fn pop_through(
        &self,
        tier: &Tier,
        key: Borrowed<'_, '_, PyAny>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let (py, hash) = (key.py(), self.hash(key)?);
        self.discard_loads_of(key, hash)?;
        let stamp = tier.stamp(py)?;
        let ticket = Ticket::take(tier.stripe(hash));
        let popped = tier.write(py, |store| {
            store.call_method1(intern!(py, "pop"), (key,))?.extract::<Option<LoadedEntry>>()
        });
        let fresh = self.find_live(key, |store, slot| tier.is_fresh(store.stamp(slot), stamp))?;
        let value = match as_in_memory(py, popped?)? {
            // The very object, as long as it is in memory.
            Some((value, ..)) if fresh == Some(true) => {
                Some(self.remove_entry(key, Cause::Popped)?.map_or(value, |entry| entry.value))
            }
            popped => {
                self.remove_from_memory(key)?;
                popped.map(|(value, ..)| value)
            }
        };
        drop(ticket);
        self.discard_loads_of(key, hash)?;
        Ok(value)
    }

    /// Whether memory has an entry that is still the store's.
    fn has_fresh(&self, tier: &Tier, key: Borrowed<'_, '_, PyAny>) -> PyResult<bool> {
        let stamp = tier.stamp(key.py())?;
        Ok(self.find_live(key, |store, slot| tier.is_fresh(store.stamp(slot), stamp))? == Some(true))
    }

    /// Whether memory or the store has an entry.
    pub(super) fn has_through(&self, tier: &Tier, key: Borrowed<'_, '_, PyAny>) -> PyResult<bool> {
        if self.has_fresh(tier, key)? {
            return Ok(true);
        }
        // A key that cannot be hashed is none, whatever the store says.
        self.hash(key)?;
        tier.store.bind(key.py()).call_method1(intern!(key.py(), "contains"), (key,))?.is_truthy()
    }

    /// A value from memory or from the store, which counts as nothing and leaves memory as it is.
    pub(super) fn peek_through(
        &self,
        tier: &Tier,
        key: Borrowed<'_, '_, PyAny>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let py = key.py();
        let stamp = tier.stamp(py)?;
        let value = self.find_live(key, |store, slot| {
            let fresh = tier.is_fresh(store.stamp(slot), stamp);
            fresh.then(|| store.value(slot).clone_ref(py))
        })?;
        match value.flatten() {
            Some(value) => Ok(Some(value)),
            None => Ok(tier.load(key)?.map(|(value, ..)| value)),
        }
    }

    /// The seconds an entry has left to live, in memory or in the store; `None` is for ever.
    pub(super) fn ttl_through(&self, tier: &Tier, key: Borrowed<'_, '_, PyAny>) -> PyResult<Option<f64>> {
        if self.has_fresh(tier, key)?
            && let Some(deadline) = self.find_live(key, |store, slot| store.deadline(slot))?
        {
            return Ok(deadline.map(seconds_until));
        }
        let (_, seconds, _) = tier.load(key)?.ok_or_else(|| missing(&key))?;
        Ok(seconds)
    }

    /// Gives an entry another time to live, in the store and in memory; whether the store has it.
    pub(super) fn touch_through(
        &self,
        tier: &Tier,
        key: Borrowed<'_, '_, PyAny>,
        deadline: Option<Nanos>,
    ) -> PyResult<bool> {
        let (py, hash) = (key.py(), self.hash(key)?);
        let ticket = Ticket::take(tier.stripe(hash));
        let seconds = deadline.map(seconds_until);
        let touched =
            tier.write(py, |store| store.call_method1(intern!(py, "touch"), (key, seconds))?.is_truthy());
        if matches!(touched, Ok(true)) && ticket.is_alone() {
            self.find_live(key, |store, slot| store.set_deadline(slot, deadline))?;
        } else {
            self.remove_from_memory(key)?;
        }
        touched
    }
}
