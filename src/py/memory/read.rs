//! Reads of a cache: hits, misses and lookups that count as neither.

use flexcache_core::HashCheck;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::any_store::Complicated;
use super::core_errors::out_of_memory;
use super::detours::Detours;
use super::shard_lock::ShardLock;
use super::state::FlexCache;
use super::tier::Tier;
use crate::py::object::key::native_eq_by_hash;
use crate::py::process::clock::ClockOfSection;
use crate::py::store::seam::{Equality, StoredEntry};

/// The purpose of a lookup, which decides what a store behind the cache counts. One computation counts as one
/// miss of the store, however many callers looked for the value, and however often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Counts a hit or a miss.
    Read,
    /// Counts a hit. After a miss, the caller computes the value or waits for the computation, which counts
    /// the miss.
    Load,
    /// Counts nothing: the caller counts.
    Turn,
}

/// The calls that share a fast path. Each call is a separate instance of the generic code, because the
/// compiler does not inline code that several calls share, which would cost a sixth of a hit.
pub(crate) mod site {
    pub(crate) const GET: u8 = 0;
    pub(crate) const SUBSCRIPT: u8 = 1;
    pub(crate) const GET_OR_SET: u8 = 2;
    pub(crate) const PUT: u8 = 3;
    pub(crate) const ASSIGN: u8 = 4;
    pub(crate) const MEMOIZED: u8 = 5;
    pub(crate) const FROM_MEMORY: u8 = 6;
    pub(crate) const OTHER: u8 = 7;
}

impl FlexCache {
    /// Whether the store behind it distinguishes keys that are equal in Python.
    #[inline]
    pub(crate) fn distinguishes_equal_keys(&self) -> bool {
        self.tier.as_ref().is_some_and(|tier| tier.store.equality() == Equality::Encoded)
    }

    /// Reads the value of a live entry; counts a hit or a miss and an access.
    #[inline(never)]
    pub(crate) fn read(&self, key: Borrowed<'_, '_, PyAny>, hash: u64) -> PyResult<Option<Py<PyAny>>> {
        Ok(self.read_any::<false>(key, hash, Purpose::Read)?.map(|entry| entry.value))
    }

    /// [`read`](Self::read) for a caller that computes the value if it is absent.
    #[inline(never)]
    pub(crate) fn read_to_load(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        hash: u64,
    ) -> PyResult<Option<Py<PyAny>>> {
        Ok(self.read_any::<false>(key, hash, Purpose::Load)?.map(|entry| entry.value))
    }

    /// [`read`](Self::read) for [`take_turn`](super::leasing::take_turn).
    pub(super) fn read_in_turn(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        hash: u64,
    ) -> PyResult<Option<Py<PyAny>>> {
        Ok(self.read_any::<false>(key, hash, Purpose::Turn)?.map(|entry| entry.value))
    }

    /// A live entry with its time to live and tags, which are read together. Counts like
    /// [`read`](Self::read).
    pub(super) fn read_entry(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        hash: u64,
    ) -> PyResult<Option<StoredEntry>> {
        self.read_any::<true>(key, hash, Purpose::Read)
    }

    #[inline(always)]
    fn read_any<const WHOLE: bool>(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        hash: u64,
        purpose: Purpose,
    ) -> PyResult<Option<StoredEntry>> {
        self.read_clock(key.py())?;
        let entry = if let Some(tier) = &self.tier {
            self.read_through::<WHOLE>(tier, key, hash, purpose)?
        } else if self.gate.is_some() {
            self.read_by_custom_policy::<WHOLE>(key, hash)?
        } else {
            self.read_store::<WHOLE>(key, hash)?
        };
        if self.detours.have(Detours::SLOW_PATH) {
            if let Some(recorder) = self.recorder.get() {
                recorder.looked_up(hash);
            }
            self.notify_lookup(key, entry.as_ref().map(|entry| &entry.value));
        }
        Ok(entry)
    }

    /// [`read`](Self::read) for the fast calls. It handles keys that are compared natively, live entries and
    /// built-in policies. Otherwise it returns `Complicated` and has changed nothing. Callers with different
    /// `SITE`s share no code.
    #[inline(always)]
    pub(crate) fn read_if_plain<const SITE: u8>(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        hash: u64,
    ) -> Result<Option<Py<PyAny>>, Complicated> {
        if self.detours.have(Detours::SLOW_PATH) {
            // The store's equality of keys may differ from Python's.
            if self.tier.as_ref().is_some_and(|tier| !tier.is_plain_key(key)) {
                return Err(Complicated);
            }
            let eq = |stored: &Py<PyAny>, hash: HashCheck<'_>| native_eq_by_hash(stored, &key, &hash);
            return match self.hit_in_front::<SITE>(key.py(), hash, eq) {
                Some(value) => Ok(Some(value)),
                // Other calls have more to do if a key is absent.
                None if (SITE == site::GET || SITE == site::SUBSCRIPT) && self.miss_in_front(key, hash) => {
                    Ok(None)
                }
                None => Err(Complicated),
            };
        }
        self.read_memory(key.py(), hash, |stored, hash| native_eq_by_hash(stored, &key, &hash))
    }

    /// [`read_if_plain`](Self::read_if_plain) for a key that does not exist as an object.
    #[inline(always)]
    pub(crate) fn read_if_plainly_equal(
        &self,
        py: Python<'_>,
        hash: u64,
        eq: impl Fn(&Py<PyAny>) -> Option<bool>,
    ) -> Result<Option<Py<PyAny>>, Complicated> {
        let eq = |stored: &Py<PyAny>, hash: HashCheck<'_>| Some(eq(stored)? && hash.agrees());
        if self.detours.have(Detours::SLOW_PATH) {
            return self.hit_in_front::<{ site::MEMOIZED }>(py, hash, eq).map(Some).ok_or(Complicated);
        }
        self.read_memory(py, hash, eq)
    }

    #[inline(always)]
    fn read_memory(
        &self,
        py: Python<'_>,
        hash: u64,
        eq: impl Fn(&Py<PyAny>, HashCheck<'_>) -> Option<bool>,
    ) -> Result<Option<Py<PyAny>>, Complicated> {
        let shard = self.shards.of(hash);
        #[cfg(Py_GIL_DISABLED)]
        if let Some(mut reading) = shard.reading(py) {
            let value = reading.look(hash, |stored, hash| eq(stored, hash).ok_or(Complicated))?;
            return Ok(value.map(|value| value.clone_ref(py)));
        }
        let Ok(mut store) = shard.lock_to_read(py, self.shards.are_several()) else {
            return Err(Complicated);
        };
        let value = store.get_if_plain(hash, |stored, hash| eq(stored, hash).ok_or(Complicated))?;
        Ok(value.map(|value| value.clone_ref(py)))
    }

    /// A hit in memory in front of a store, if counting it is all there is to do; otherwise changes nothing.
    /// Callers with different `SITE`s share no code.
    #[inline(never)]
    fn hit_in_front<const SITE: u8>(
        &self,
        py: Python<'_>,
        hash: u64,
        eq: impl Fn(&Py<PyAny>, HashCheck<'_>) -> Option<bool>,
    ) -> Option<Py<PyAny>> {
        let tier = self.tier.as_ref()?;
        if self.is_observed() {
            return None;
        }
        let mut store = self.shards.of(hash).lock(py).ok()?;
        let clock = ClockOfSection::default();
        let is_live = |of| tier.is_live_natively(py, of, &clock) == Some(true);
        let value =
            store.hit_if_live(hash, |stored, hash| eq(stored, hash).ok_or(Complicated), is_live, &clock)?;
        Some(value.clone_ref(py))
    }

    /// Counts a miss of a key that memory knows to be absent in the store, if that is all there is to do.
    /// Returns whether it did; otherwise changes nothing.
    #[inline(never)]
    fn miss_in_front(&self, key: Borrowed<'_, '_, PyAny>, hash: u64) -> bool {
        let py = key.py();
        let Some(tier) = &self.tier else { return false };
        if self.absent.is_none() || self.is_observed() || self.has_in_front(tier, key, hash) != Some(false) {
            return false;
        }
        self.shards.of(hash).with(py, |store| store.miss(hash)).is_ok()
    }

    /// Whether a key has an entry, if memory in front of a store can tell without running Python code or
    /// waiting.
    #[inline]
    fn has_in_front(&self, tier: &Tier, key: Borrowed<'_, '_, PyAny>, hash: u64) -> Option<bool> {
        if !tier.is_plain_key(key) {
            return None;
        }
        let (py, clock) = (key.py(), ClockOfSection::default());
        let is_live = |of| tier.is_live_natively(py, of, &clock) == Some(true);
        let eq = |stored: &Py<PyAny>, hash: HashCheck<'_>| native_eq_by_hash(stored, &key, &hash).ok_or(());
        // For the entry or for the absence of the key: whether memory has it, and whether it may be served.
        let holds = |shard: &ShardLock| {
            let store = shard.lock(py).ok()?;
            let found = store.find_by_key(hash, eq).ok()?;
            Some(found.map(|slot| is_live(store.freshness(slot)) && !store.has_expired_by(slot, &clock)))
        };
        match holds(self.shards.of(hash))? {
            Some(entry) => entry.then_some(true),
            None => holds(self.absent.as_ref()?.shards.of(hash))?.filter(|&absence| absence).map(|_| false),
        }
    }

    #[inline]
    pub(crate) fn has(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<bool> {
        match &self.tier {
            Some(tier) => {
                let hash = self.hash(key)?;
                match self.has_in_front(tier, key, hash) {
                    Some(has) => Ok(has),
                    None => self.has_through(tier, key, hash),
                }
            }
            None => Ok(self.find_live(key, |_, _| ())?.is_some()),
        }
    }

    /// The value of a live entry. Counts nothing.
    pub(super) fn peek_at(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        match &self.tier {
            Some(tier) => self.peek_through(tier, key),
            None => self.find_live(key, |store, slot| store.value(slot).clone_ref(key.py())),
        }
    }

    /// The tags of a live entry.
    pub(super) fn tags_of(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Option<Vec<String>>> {
        match &self.tier {
            Some(tier) => self.tags_through(tier, key),
            None => self.find_live(key, |store, slot| store.tags(slot))?.transpose().map_err(out_of_memory),
        }
    }

    /// The values of those keys that are present.
    pub(super) fn read_many<'py>(&self, keys: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
        let found = PyDict::new(keys.py());
        for (key, hash) in self.hashed(keys)? {
            if let Some(value) = self.read(key.as_borrowed(), hash)? {
                found.set_item(key, value)?;
            }
        }
        Ok(found)
    }
}
