//! Calls to a cache in front of a store: reading and writing through.
//!
//! Entries that are not in memory are loaded from the store. A write goes to the store first, and memory
//! keeps a copy with the stamp that the store gave to the write. Entries that are evicted from memory stay in
//! the store. Between a thread's write to the store and its write to memory, other threads may write. That
//! does no harm: a copy whose stamp is no longer live is not served, whichever was written last. See
//! `flexcache_core::tracker`.

use flexcache_core::{Cause, Nanos, Slot, Stamp};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;

use super::any_store::AnyStore;
use super::core_errors::{out_of_memory, refused};
use super::entries::missing;
use super::lookup::Shard;
use super::read::Purpose;
use super::state::FlexCache;
use super::terms::{IfPresent, Terms, WriteOutcome};
use super::tier::{Freshness, Tier};
use crate::py::object::duration::{self, seconds_until};
use crate::py::object::encoded_key::EncodedKey;
use crate::py::object::tags;
use crate::py::store::loads::Origin;
use crate::py::store::seam::{Loaded, NewEntry, PutMode, PutResult, StoredEntry};

/// The key under which memory has an entry, and its hash.
pub(super) struct Place<'py> {
    pub(super) key: Bound<'py, PyAny>,
    pub(super) hash: u64,
}

/// A key and value with the key's hash and the value's weight.
pub(super) type Weighed<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, u64, u64);

impl FlexCache {
    fn place<'py>(&self, tier: &Tier, key: Borrowed<'_, 'py, PyAny>, hash: u64) -> PyResult<Place<'py>> {
        let in_memory = tier.key_in_memory(key)?;
        let hash = if in_memory.is(&*key) { hash } else { self.hash(in_memory.as_borrowed())? };
        Ok(Place { key: in_memory, hash })
    }

    /// The freshness of the copy in memory; `None` if there is none, or if it has expired.
    fn freshness(&self, place: &Place<'_>) -> PyResult<Option<Freshness>> {
        self.shards.find(&place.key.as_borrowed(), place.hash, |store, found| {
            found.filter(|&slot| !store.has_expired(slot)).map(|slot| store.freshness(slot))
        })
    }

    /// The freshness of the copy in memory, if it may be served.
    fn live_copy(&self, tier: &Tier, place: &Place<'_>) -> PyResult<Option<Freshness>> {
        let Some(of) = self.freshness(place)? else { return Ok(None) };
        Ok(tier.is_live(place.key.py(), of)?.then_some(of))
    }

    /// The result of `step` for the copy in memory, if that may be served.
    fn with_live_copy<R>(
        &self,
        tier: &Tier,
        place: &Place<'_>,
        step: impl FnOnce(&mut AnyStore, Slot) -> R,
    ) -> PyResult<Option<R>> {
        let Some(of) = self.live_copy(tier, place)? else { return Ok(None) };
        self.shards.find(&place.key.as_borrowed(), place.hash, |store, found| {
            // Another copy may have been stored meanwhile, which was not checked.
            let same = found.filter(|&slot| store.freshness(slot) == of && !store.has_expired(slot));
            same.map(|slot| step(store, slot))
        })
    }

    /// Reads the copy in memory, if it may be served; counts a hit or a miss.
    fn read_copy<const WHOLE: bool>(&self, tier: &Tier, place: &Place<'_>) -> PyResult<Option<StoredEntry>> {
        let live = self.live_copy(tier, place)?;
        self.read_found::<WHOLE>(place.key.as_borrowed(), place.hash, |store, found| {
            found.filter(|&slot| Some(store.freshness(slot)) == live)
        })
    }

    /// Reads an entry from memory or else from the store. Counts a hit or a miss of memory; `purpose` decides
    /// what the store counts.
    pub(super) fn read_through<const WHOLE: bool>(
        &self,
        tier: &Tier,
        key: Borrowed<'_, '_, PyAny>,
        hash: u64,
        purpose: Purpose,
    ) -> PyResult<Option<StoredEntry>> {
        let py = key.py();
        let bypassed = tier.store.bypasses_memory(py)?;
        let place = self.place(tier, key, hash)?;
        if !bypassed {
            if let Some(entry) = self.read_copy::<WHOLE>(tier, &place)? {
                return Ok(Some(entry));
            }
            if self.is_known_absent(tier, &place)? {
                return Ok(None);
            }
        }
        let fetched = tier.asked_at();
        let loaded = tier.load(key)?;
        match (purpose, loaded.entry.is_some()) {
            (Purpose::Read, found) | (Purpose::Load, found @ true) => tier.store.count_lookup(py, found),
            (Purpose::Load, false) | (Purpose::Turn, _) => {}
        }
        if !bypassed {
            self.keep_loaded(tier, &place, &loaded, fetched)?;
        }
        Ok(loaded.entry)
    }

    /// Keeps in memory a copy of the loaded entry, or the absence of the key. `fetched` is a time from before the load.
    fn keep_loaded(&self, tier: &Tier, place: &Place<'_>, loaded: &Loaded, fetched: Nanos) -> PyResult<()> {
        let freshness = Freshness { stamp: loaded.stamp, fetched };
        if let Some(entry) = &loaded.entry {
            return self.keep_copy(tier, place, entry, freshness);
        }
        self.remove_copy(tier, place)?;
        self.remember_absent(place, freshness)
    }

    /// Completes a read that found nothing in memory with the entry that was loaded, by a store whose stamps alone bound
    /// how long a copy is served. Memory keeps a copy.
    pub(super) fn read_loaded(
        &self,
        tier: &Tier,
        key: Borrowed<'_, '_, PyAny>,
        loaded: Loaded,
    ) -> PyResult<Option<StoredEntry>> {
        let place = self.place(tier, key, self.hash(key)?)?;
        // This counts a miss of memory.
        self.read_found::<false>(place.key.as_borrowed(), place.hash, |_, _| None)?;
        self.keep_loaded(tier, &place, &loaded, tier.asked_at())?;
        Ok(loaded.entry)
    }

    /// Keeps a copy of a loaded entry.
    fn keep_copy(
        &self,
        tier: &Tier,
        place: &Place<'_>,
        entry: &StoredEntry,
        freshness: Freshness,
    ) -> PyResult<()> {
        let value = entry.value.bind(place.key.py()).as_borrowed();
        let terms = Terms {
            deadline: self.moment(entry.seconds.map(duration::after)),
            tags: &entry.tags,
            origin: Origin::Fill,
            freshness,
            ..Terms::new(self.weight_of(place.key.as_borrowed(), value)?, IfPresent::Replace)
        };
        self.keep(tier, place, value, terms)
    }

    /// Keeps a copy of an entry of the store, unless its stamp shows that it must not be served. An entry
    /// that memory cannot take is not kept.
    fn keep(
        &self,
        tier: &Tier,
        place: &Place<'_>,
        value: Borrowed<'_, '_, PyAny>,
        terms: Terms<'_>,
    ) -> PyResult<()> {
        let py = place.key.py();
        let fits = self.shards.of(place.hash).with(py, |store| store.fits_alone(terms.weight))?.is_ok();
        if fits && terms.freshness.stamp != Stamp::NONE {
            let terms = Terms { if_present: IfPresent::Replace, ..terms };
            if self.write_store(place.key.as_borrowed(), value, place.hash, terms).is_ok() {
                return self.forget_absent(place);
            }
        }
        self.remove_copy(tier, place)
    }

    /// Whether a write may go to the store: the result of a load whose key was written since it began may not, nor one
    /// that was computed in a transaction that is over, and may have been undone. Other writes discard the loads of their key, before they reach the store and after.
    fn begin_write(&self, tier: &Tier, place: &Place<'_>, terms: &Terms<'_>) -> PyResult<bool> {
        let key = place.key.as_borrowed();
        if let Origin::Landing(load) = terms.origin
            && load.transaction != 0
            && !tier.store.bypasses_memory(key.py())?
        {
            return Ok(false);
        }
        let (may_write, discarded) =
            self.shards.of(place.hash).with(key.py(), |shard| match terms.origin {
                Origin::Landing(load) => (shard.loads.may_land(load, terms.tags), Vec::new()),
                Origin::Write => (true, shard.loads.written(place.hash, &key)),
                Origin::Fill => (true, Vec::new()),
            })?;
        drop(discarded);
        Ok(may_write)
    }

    /// Discards the loads of a key.
    fn discard_loads_of(&self, place: &Place<'_>) -> PyResult<()> {
        let key = place.key.as_borrowed();
        let of_key = self.shards.of(place.hash);
        let discarded = of_key.with(key.py(), |shard| shard.loads.written(place.hash, &key))?;
        drop(discarded);
        Ok(())
    }

    /// Discards all loads.
    fn discard_loads(&self, py: Python<'_>) -> PyResult<()> {
        for shard in self.shards.iter() {
            let discarded = shard.with(py, |shard| shard.loads.cleared())?;
            drop(discarded);
        }
        Ok(())
    }

    /// Discards the loads whose results have a tag.
    fn discard_loads_tagged(&self, py: Python<'_>, tag: &str) -> PyResult<()> {
        for shard in self.shards.iter() {
            let discarded = shard.with(py, |shard| shard.loads.evicting(tag))?;
            drop(discarded);
        }
        Ok(())
    }

    /// Removes the copy in memory, not the entry in the store. In a transaction, the copy stays: memory
    /// serves the other threads, which still see the state before the transaction.
    fn remove_copy(&self, tier: &Tier, place: &Place<'_>) -> PyResult<()> {
        if tier.store.bypasses_memory(place.key.py())? {
            return Ok(());
        }
        match self.remove_entry_and(place.key.as_borrowed(), Cause::Deleted, |_, _, _| Some(Vec::new()))? {
            Some(entry) => self.finish_removal(place.key.py(), entry),
            None => Ok(()),
        }
    }

    /// Passes on the result of a write to the store. If the write failed, the state of the entry is unknown,
    /// so the copy in memory is removed.
    fn written<R>(&self, tier: &Tier, place: &Place<'_>, commit: PyResult<R>) -> PyResult<R> {
        if commit.is_err() {
            self.remove_copy(tier, place)?;
        }
        commit
    }

    /// Stores an entry in the store and in memory. Returns whether it was stored.
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
        tier.check_tags(py, terms.tags)?;
        let place = cache.place(tier, key, hash)?;
        if !cache.begin_write(tier, &place, &terms)? {
            return Ok(false);
        }
        let entry = NewEntry { key, value, seconds: terms.deadline.map(seconds_until), tags: terms.tags };
        let mode = match terms.if_present {
            IfPresent::Replace => PutMode::Replace,
            IfPresent::Raise | IfPresent::Keep => PutMode::Add,
        };
        let fetched = tier.asked_at();
        let commit = cache.written(tier, &place, tier.put(entry, mode, terms.origin))?;
        if matches!(commit.result, PutResult::Present | PutResult::Discarded) {
            if commit.result == PutResult::Present {
                // The key is present. It does not matter which cache stored it.
                cache.forget_absent(&place)?;
            }
            return Ok(false);
        }
        let terms = Terms { freshness: Freshness { stamp: commit.stamp, fetched }, ..terms };
        Self::finish_write_through(this, tier, &place, key, value, terms, commit.result)?;
        if matches!(terms.origin, Origin::Write) {
            // Discards loads that began during the write to the store, since memory keeps no copy.
            cache.discard_loads_of(&place)?;
        }
        Ok(true)
    }

    /// Makes the checks that `write_through` makes before it writes.
    pub(super) fn check_put_elsewhere(
        &self,
        py: Python<'_>,
        hash: u64,
        weight: u64,
        tags: &[PyBackedStr],
    ) -> PyResult<()> {
        self.shards.of(hash).with(py, |store| store.fits_alone(weight))?.map_err(refused)?;
        self.tier.as_ref().map_or(Ok(()), |tier| tier.check_tags(py, tags))
    }

    /// Discards the loads of a key and the copy in memory, before or after the key is written in another way.
    pub(super) fn discard_elsewhere(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
        let Some(tier) = &self.tier else { return Ok(()) };
        let place = self.place(tier, key, self.hash(key)?)?;
        self.remove_copy(tier, &place)?;
        self.discard_loads_of(&place)
    }

    /// Completes a write in memory, after the write to the store.
    fn finish_write_through(
        this: &Borrowed<'_, '_, Self>,
        tier: &Tier,
        place: &Place<'_>,
        key: Borrowed<'_, '_, PyAny>,
        value: Borrowed<'_, '_, PyAny>,
        terms: Terms<'_>,
        result: PutResult,
    ) -> PyResult<()> {
        let cache = this.get();
        let outcome = match result {
            PutResult::Replaced => WriteOutcome::Updated,
            // The store does not report it, but memory knows whether it had a copy.
            PutResult::Stored if cache.freshness(place)?.is_some() => WriteOutcome::Updated,
            PutResult::Stored | PutResult::Inserted => WriteOutcome::Inserted,
            PutResult::Present | PutResult::Discarded => WriteOutcome::AlreadyPresent,
        };
        cache.keep(tier, place, value, terms)?;
        if let Some(deadline) = terms.deadline {
            cache.expect_expiry(this, deadline)?;
        }
        cache.notify_write(&key, &value, place.hash, terms.weight, outcome);
        Ok(())
    }

    /// Stores or replaces many entries, in one transaction if the store has transactions.
    pub(super) fn write_many_through(
        this: &Bound<'_, Self>,
        tier: &Tier,
        weighed: &[Weighed<'_>],
        deadline: Option<Nanos>,
        tags: &[PyBackedStr],
    ) -> PyResult<()> {
        let (py, cache) = (this.py(), this.get());
        tier.check_tags(py, tags)?;
        let mut places = Vec::with_capacity(weighed.len());
        for (key, _, hash, _) in weighed {
            places.push(cache.place(tier, key.as_borrowed(), *hash)?);
        }
        let entries: Vec<_> = weighed
            .iter()
            .map(|(key, value, ..)| NewEntry {
                key: key.as_borrowed(),
                value: value.as_borrowed(),
                seconds: deadline.map(seconds_until),
                tags,
            })
            .collect();
        for place in &places {
            cache.discard_loads_of(place)?;
        }
        let fetched = tier.asked_at();
        let stamps = match tier.put_many(py, &entries) {
            Ok(stamps) => stamps,
            Err(error) => {
                for place in &places {
                    cache.remove_copy(tier, place)?;
                }
                return Err(error);
            }
        };
        for (((entry, (.., weight)), place), stamp) in entries.iter().zip(weighed).zip(&places).zip(stamps) {
            let freshness = Freshness { stamp, fetched };
            let terms = Terms { deadline, tags, freshness, ..Terms::new(*weight, IfPresent::Replace) };
            let (key, value, this) = (entry.key, entry.value, &this.as_borrowed());
            Self::finish_write_through(this, tier, place, key, value, terms, PutResult::Stored)?;
            // Those that began while the store was written, where memory keeps nothing.
            cache.discard_loads_of(place)?;
        }
        Ok(())
    }

    /// Removes an entry from the store and from memory. Returns whether the store had it.
    pub(super) fn remove_through(&self, tier: &Tier, key: Borrowed<'_, '_, PyAny>) -> PyResult<bool> {
        let place = self.place(tier, key, self.hash(key)?)?;
        self.discard_loads_of(&place)?;
        let removed = tier.store.remove(key);
        self.remove_copy(tier, &place)?;
        self.discard_loads_of(&place)?;
        Ok(removed?.result)
    }

    /// Removes entries by their keys, in one transaction if the store has transactions. Returns the number
    /// that were present.
    pub(super) fn remove_many_through(
        &self,
        py: Python<'_>,
        tier: &Tier,
        keys: &[(Bound<'_, PyAny>, u64)],
    ) -> PyResult<usize> {
        let mut places = Vec::with_capacity(keys.len());
        for (key, hash) in keys {
            places.push(self.place(tier, key.as_borrowed(), *hash)?);
        }
        let borrowed: Vec<_> = keys.iter().map(|(key, _)| key.as_borrowed()).collect();
        for place in &places {
            self.discard_loads_of(place)?;
        }
        let removed = tier.store.remove_many(py, &borrowed);
        for place in &places {
            self.remove_copy(tier, place)?;
            self.discard_loads_of(place)?;
        }
        removed
    }

    /// Removes an entry from the store and from memory, and returns its value.
    pub(super) fn pop_through(
        &self,
        tier: &Tier,
        key: Borrowed<'_, '_, PyAny>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let place = self.place(tier, key, self.hash(key)?)?;
        self.discard_loads_of(&place)?;
        let bypassed = tier.store.bypasses_memory(key.py())?;
        let copy =
            |store: &mut AnyStore, slot| (store.freshness(slot), store.value(slot).clone_ref(key.py()));
        let live = if bypassed { None } else { self.with_live_copy(tier, &place, copy)? };
        let commit = self.written(tier, &place, tier.pop(key))?;
        self.discard_loads_of(&place)?;
        let Some(entry) = commit.result else {
            self.remove_copy(tier, &place)?;
            return Ok(None);
        };
        // If ours is the only write of the stripe since the copy was current, the store had the same value.
        // Otherwise another process may have replaced it.
        if let Some((freshness, value)) = live
            && commit.stamp.is_next_after(freshness.stamp)
        {
            // Return the same object that memory served, unless another one was stored meanwhile.
            let key = place.key.as_borrowed();
            let unless_replaced = |shard: &mut Shard, found: Option<Slot>, hash| {
                found.filter(|&slot| shard.value(slot).is(&value))?;
                Some(shard.loads.written(hash, &key))
            };
            if let Some(copy) = self.remove_entry_and(key, Cause::Popped, unless_replaced)? {
                return Ok(Some(copy.value));
            }
        }
        self.remove_copy(tier, &place)?;
        Ok(Some(entry.value))
    }

    /// The key of the next victim of memory.
    fn next_victim(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.remove_expired(py)?;
        for shard in self.shards.iter() {
            let key = shard.with(py, |store| {
                let victim = store.victim()?;
                Some(store.key(victim).clone_ref(py))
            })?;
            if let Some(key) = key {
                return Ok(Some(EncodedKey::unwrap(py, key)));
            }
        }
        Ok(None)
    }

    /// Removes the next victim of memory that the store still has, also from the store, and returns its key and value.
    pub(super) fn pop_victim_through(&self, py: Python<'_>, tier: &Tier) -> PyResult<(Py<PyAny>, Py<PyAny>)> {
        // If the store no longer has the victim, the attempt removes it from memory.
        while let Some(key) = self.next_victim(py)? {
            if let Some(value) = self.pop_through(tier, key.bind_borrowed(py))? {
                return Ok((key, value));
            }
        }
        Err(PyKeyError::new_err("popitem(): the cache is empty"))
    }

    /// Whether memory or the store has an entry.
    pub(super) fn has_through(&self, tier: &Tier, key: Borrowed<'_, '_, PyAny>, hash: u64) -> PyResult<bool> {
        let py = key.py();
        let place = self.place(tier, key, hash)?;
        if !tier.store.bypasses_memory(py)? {
            if self.live_copy(tier, &place)?.is_some() {
                return Ok(true);
            }
            if self.is_known_absent(tier, &place)? {
                return Ok(false);
            }
        }
        tier.store.contains(key)
    }

    /// The result of `step` for the copy in memory, if that may be served, or else the entry in the store.
    fn look_through<R>(
        &self,
        tier: &Tier,
        key: Borrowed<'_, '_, PyAny>,
        step: impl FnOnce(&mut AnyStore, Slot) -> R,
        of_entry: impl FnOnce(StoredEntry) -> R,
    ) -> PyResult<Option<R>> {
        let place = self.place(tier, key, self.hash(key)?)?;
        if !tier.store.bypasses_memory(key.py())? {
            if let Some(copy) = self.with_live_copy(tier, &place, step)? {
                return Ok(Some(copy));
            }
            if self.is_known_absent(tier, &place)? {
                return Ok(None);
            }
        }
        Ok(tier.load(key)?.entry.map(of_entry))
    }

    /// Reads a value from memory or from the store. Counts nothing and does not change memory.
    pub(super) fn peek_through(
        &self,
        tier: &Tier,
        key: Borrowed<'_, '_, PyAny>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let py = key.py();
        self.look_through(tier, key, |store, slot| store.value(slot).clone_ref(py), |entry| entry.value)
    }

    /// The seconds that an entry has left to live, in memory or in the store; the inner `None` means for
    /// ever.
    pub(super) fn ttl_through(&self, tier: &Tier, key: Borrowed<'_, '_, PyAny>) -> PyResult<Option<f64>> {
        let found = self.look_through(
            tier,
            key,
            |store, slot| store.deadline(slot).map(seconds_until),
            |entry| entry.seconds,
        )?;
        found.ok_or_else(|| missing(&key))
    }

    /// The tags of an entry, in memory or in the store.
    pub(super) fn tags_through(
        &self,
        tier: &Tier,
        key: Borrowed<'_, '_, PyAny>,
    ) -> PyResult<Option<Vec<String>>> {
        let of_entry = |entry: StoredEntry| Ok(entry.tags.iter().map(ToString::to_string).collect());
        let tags = self.look_through(tier, key, |store, slot| store.tags(slot), of_entry)?;
        tags.transpose().map_err(out_of_memory)
    }

    /// Gives an entry another time to live, in the store and in memory. Returns whether the store has it.
    pub(super) fn touch_through(
        &self,
        tier: &Tier,
        key: Borrowed<'_, '_, PyAny>,
        deadline: Option<Nanos>,
    ) -> PyResult<bool> {
        let place = self.place(tier, key, self.hash(key)?)?;
        let before = self.live_copy(tier, &place)?;
        let touched = self.written(tier, &place, tier.store.touch(key, deadline.map(seconds_until)))?;
        // If ours is the only write of the stripe since the copy was current, its value is still that of the
        // store.
        let ours = before.filter(|before| touched.stamp.is_next_after(before.stamp));
        let mut is_set = false;
        if touched.result
            && let Some(before) = ours
        {
            // The value was not read again, so the bound goes on.
            let now = Freshness { stamp: touched.stamp, ..before };
            is_set = self.shards.find(&place.key.as_borrowed(), place.hash, |store, found| {
                let copy = found.filter(|&slot| store.freshness(slot) == before);
                copy.is_some_and(|slot| {
                    store.set_deadline(slot, deadline, self.clock()).is_ok()
                        && store.set_freshness(slot, now).is_ok()
                })
            })?;
        }
        if touched.result && !is_set {
            self.remove_copy(tier, &place)?;
        }
        Ok(touched.result)
    }

    /// Removes every entry that has a tag, also from the store. Returns their number.
    pub(super) fn remove_tagged_through(&self, tag: &Bound<'_, PyAny>) -> PyResult<usize> {
        let (py, tag) = (tag.py(), tags::tag(&tag.as_borrowed())?);
        let stored = match &self.tier {
            Some(tier) => {
                // Loads that land while the store evicts began before, so they are discarded.
                self.discard_loads_tagged(py, &tag)?;
                Some(tier.store.evict_tag(py, &tag)?)
            }
            None => None,
        };
        let removed = self.remove_tagged(py, &tag)?;
        Ok(stored.unwrap_or(removed))
    }

    /// Removes every entry, also from the store.
    pub(super) fn clear_through(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(tier) = &self.tier {
            // Loads that land while the store is cleared began before, so they are discarded.
            self.discard_loads(py)?;
            tier.store.clear(py)?;
        }
        self.remove_all(py, Cause::Cleared)
    }
}
