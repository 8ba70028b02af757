//! Reading a cache: hits, misses and look-ups that count as neither.

use std::sync::atomic::Ordering;

use flexcache_core::Slot;
use pyo3::prelude::*;

use super::cache::FlexCache;
use super::departures::Departures;
use super::engine::{Complicated, Engine};
use super::key::{self, native_eq};
use super::running_python::next;

impl FlexCache {
    /// The value of a live entry; counts a hit or a miss and an access.
    #[inline(never)]
    pub(crate) fn read(&self, key: Borrowed<'_, '_, PyAny>, hash: u64) -> PyResult<Option<Py<PyAny>>> {
        let value = if self.gate.is_some() {
            self.read_by_custom_policy(key, hash)?
        } else {
            self.read_store(key, hash)?
        };
        if self.watched.load(Ordering::Relaxed) {
            if let Some(recorder) = &self.recorder {
                recorder.looked_up(hash);
            }
            self.tell_of_lookup(key, value.as_ref());
        }
        Ok(value)
    }

    /// The hash of a key in this cache.
    #[inline(always)]
    pub(crate) fn hash(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<u64> {
        key::hash(&key, self.seed)
    }

    /// The hash in this cache of a key that Python's hash is known of.
    #[inline(always)]
    pub(crate) fn hash_of(&self, python_hash: isize) -> u64 {
        key::mix(python_hash, self.seed)
    }

    /// Keys with their hashes, all of them before anything is done with one.
    pub(crate) fn hashed<'py>(&self, keys: &Bound<'py, PyAny>) -> PyResult<Vec<(Bound<'py, PyAny>, u64)>> {
        let keys = keys.try_iter()?;
        let mut hashed = Vec::new();
        while let Some(key) = next(&keys)? {
            let hash = self.hash(key.as_borrowed())?;
            hashed.push((key, hash));
        }
        Ok(hashed)
    }

    /// [`read`](Self::read) for the fast calls: covers keys that are compared natively, live
    /// entries and built-in policies, and has changed nothing where it is `Complicated`.
    #[inline(always)]
    pub(crate) fn read_if_plain(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        hash: u64,
    ) -> Result<Option<Py<PyAny>>, Complicated> {
        self.read_if_plainly_equal(key.py(), hash, |stored| native_eq(stored, &key))
    }

    /// [`read_if_plain`](Self::read_if_plain) of a key that is not there as an object.
    #[inline(always)]
    pub(crate) fn read_if_plainly_equal(
        &self,
        py: Python<'_>,
        hash: u64,
        eq: impl Fn(&Py<PyAny>) -> Option<bool>,
    ) -> Result<Option<Py<PyAny>>, Complicated> {
        if self.gate.is_some() || self.watched.load(Ordering::Relaxed) {
            return Err(Complicated);
        }
        let read = self.shards.of(hash).with(py, |engine| {
            let value = engine.get_if_plain(hash, |stored| eq(stored).ok_or(Complicated))?;
            Ok(value.map(|value| value.clone_ref(py)))
        });
        read.unwrap_or(Err(Complicated))
    }

    /// The value of a key, if it is there and nothing but a hit has to be counted; has changed
    /// nothing otherwise.
    #[inline(always)]
    pub(crate) fn hit_if_plain(
        &self,
        py: Python<'_>,
        hash: u64,
        eq: impl Fn(&Py<PyAny>) -> Option<bool>,
    ) -> Option<Py<PyAny>> {
        if self.gate.is_some() || self.watched.load(Ordering::Relaxed) {
            return None;
        }
        let hit = self.shards.of(hash).with(py, |engine| {
            let value = engine.hit_if_plain(hash, |stored| eq(stored).ok_or(Complicated))?;
            Some(value.clone_ref(py))
        });
        hit.ok().flatten()
    }

    pub(super) fn read_store(&self, key: Borrowed<'_, '_, PyAny>, hash: u64) -> PyResult<Option<Py<PyAny>>> {
        let py = key.py();
        let mut departures = Departures::new();
        let value = self.shards.find(&key, hash, |engine, found| {
            engine.get(found, &mut departures).map(|value| value.clone_ref(py))
        })?;
        self.settle(py, departures)?;
        Ok(value)
    }

    /// Finds a live entry without counting, and runs `step` on it in the locked section.
    #[inline]
    pub(crate) fn find_live<R>(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        step: impl FnOnce(&mut Engine, Slot) -> R,
    ) -> PyResult<Option<R>> {
        let hash = key::hash(&key, self.seed)?;
        self.shards.find(&key, hash, |engine, found| {
            let slot = found?;
            if engine.has_expired(slot) { None } else { Some(step(engine, slot)) }
        })
    }

    #[inline]
    pub(crate) fn has(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<bool> {
        Ok(self.find_live(key, |_, _| ())?.is_some())
    }
}
