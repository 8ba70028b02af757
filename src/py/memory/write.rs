//! Storing entries.

use std::ptr;

use flexcache_core::{Error, HashCheck};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use super::any_store::{Complicated, PlainPut};
use super::core_errors::{out_of_memory, refused, try_with_capacity};
use super::detours::Detours;
use super::state::FlexCache;
use super::terms::{IfPresent, Terms, WriteOutcome};
use super::through::Weighed;
use crate::py::object::argument::wrong_type;
use crate::py::object::hooks;
use crate::py::object::key::native_eq_by_hash;
use crate::py::object::running_python::{call, decref, next};
use crate::py::object::tags;

/// Adds the name of the argument to the error for an item that is not a pair.
fn no_pairs(py: Python<'_>, error: PyErr) -> PyErr {
    let told = error.value(py).to_string();
    if !told.contains("dictionary update sequence element") {
        return error;
    }
    let told = format!("mapping must be a mapping or an iterable of pairs: {told}");
    if error.is_instance_of::<PyValueError>(py) {
        PyValueError::new_err(told)
    } else {
        PyTypeError::new_err(told)
    }
}

impl FlexCache {
    /// [`write`](Self::write) for the fast calls. It handles entries of weight 1 without a deadline, in a
    /// cache that has no others. Otherwise it returns `Complicated` and has changed nothing. Callers with
    /// different `SITE`s share no code.
    #[inline(always)]
    pub(crate) fn write_if_plain<const SITE: u8>(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        value: Borrowed<'_, '_, PyAny>,
        hash: u64,
    ) -> Result<(), Complicated> {
        match self.detours.get() & !Detours::OF_OPERATORS {
            0 if !hooks::may_have_size(&value) => {}
            Detours::WEIGHTLESS => {}
            _ => return Err(Complicated),
        }
        let py = key.py();
        let put = {
            let Ok(mut shard) = self.shards.of(hash).lock(py) else { return Err(Complicated) };
            if !shard.loads.is_empty() {
                return Err(Complicated);
            }
            let eq = |stored: &Py<PyAny>, hash: HashCheck<'_>| {
                native_eq_by_hash(stored, &key, &hash).ok_or(Complicated)
            };
            shard.put_if_plain(hash, eq, || key.to_owned().unbind(), || value.to_owned().unbind())?
        };
        match put {
            PlainPut::Inserted => {}
            PlainPut::Evicted(entry) => {
                decref(py, entry.key);
                self.finish_value(py, entry.value);
            }
            PlainPut::Replaced(before) if before.is(&*value) => decref(py, before),
            PlainPut::Replaced(before) => self.finish_value(py, before),
        }
        Ok(())
    }

    /// Stores a computed value under an absent key. If the slow path is needed, returns `Err` and changes
    /// nothing.
    #[inline]
    pub(crate) fn insert_if_plain(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        value: Borrowed<'_, '_, PyAny>,
        hash: u64,
    ) -> Result<(), Complicated> {
        if self.detours.have(Detours::SLOW_PATH | Detours::WRITES | Detours::WEIGHER) {
            return Err(Complicated);
        }
        let py = key.py();
        let evicted = {
            let Ok(mut shard) = self.shards.of(hash).lock(py) else { return Err(Complicated) };
            if !shard.loads.is_empty() {
                return Err(Complicated);
            }
            let eq = |stored: &Py<PyAny>, hash: HashCheck<'_>| {
                native_eq_by_hash(stored, &key, &hash).ok_or(Complicated)
            };
            shard.insert_if_plain(hash, eq, || key.to_owned().unbind(), || value.to_owned().unbind())?
        };
        if let Some(entry) = evicted {
            decref(py, entry.key);
            self.finish_value(py, entry.value);
        }
        Ok(())
    }

    /// Stores an entry. Returns whether it was stored.
    pub(crate) fn write(
        this: &Borrowed<'_, '_, Self>,
        key: Borrowed<'_, '_, PyAny>,
        value: Borrowed<'_, '_, PyAny>,
        ttl: Option<Borrowed<'_, '_, PyAny>>,
        tags: Option<Borrowed<'_, '_, PyAny>>,
        if_present: IfPresent,
    ) -> PyResult<bool> {
        let hash = this.get().hash(key)?;
        let weight = this.get().weight_of(key, value)?;
        let tags = tags::tags(tags)?;
        Self::write_weighed(
            this,
            key,
            value,
            hash,
            ttl,
            Terms { tags: &tags, ..Terms::new(weight, if_present) },
        )
    }

    #[inline]
    pub(crate) fn write_weighed(
        this: &Borrowed<'_, '_, Self>,
        key: Borrowed<'_, '_, PyAny>,
        value: Borrowed<'_, '_, PyAny>,
        hash: u64,
        ttl: Option<Borrowed<'_, '_, PyAny>>,
        terms: Terms<'_>,
    ) -> PyResult<bool> {
        let deadline = this.get().deadline(ttl)?;
        Self::write_until(this, key, value, hash, Terms { deadline, ..terms })
    }

    /// [`write`](Self::write) with a known deadline.
    #[inline]
    pub(super) fn write_until(
        this: &Borrowed<'_, '_, Self>,
        key: Borrowed<'_, '_, PyAny>,
        value: Borrowed<'_, '_, PyAny>,
        hash: u64,
        terms: Terms<'_>,
    ) -> PyResult<bool> {
        let cache = this.get();
        if let Some(tier) = &cache.tier {
            return Self::write_through(this, tier, key, value, hash, terms);
        }
        let stored = if cache.gate.is_some() {
            cache.write_by_custom_policy(key, value, hash, terms)?
        } else {
            cache.write_store(key, value, hash, terms)?
        };
        if let Some(deadline) = terms.deadline {
            cache.expect_expiry(this, deadline)?;
        }
        if cache.detours.have(Detours::SLOW_PATH) {
            cache.notify_write(&key, &value, hash, terms.weight, stored);
        }
        Ok(matches!(stored, WriteOutcome::Inserted | WriteOutcome::Updated))
    }

    /// The entries of a mapping, or of an iterable of pairs: the last one of each key.
    fn entries_of<'py>(
        &self,
        mapping: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
        let entries = PyDict::new(mapping.py());
        let allowed = "a mapping or an iterable of pairs";
        if mapping.is_instance_of::<PyString>() || mapping.is_instance_of::<PyBytes>() {
            return Err(wrong_type("mapping", allowed, mapping));
        }
        if !mapping.hasattr("keys")? && mapping.getattr_opt("__iter__")?.is_none() {
            return Err(wrong_type("mapping", allowed, mapping));
        }
        if self.distinguishes_equal_keys() && !mapping.hasattr("keys")? {
            // A dict would merge keys that are equal in Python but not in the store.
            let mut pairs = Vec::new();
            let iterator = mapping.try_iter()?;
            while let Some(pair) = next(&iterator)? {
                let one = PyDict::new(mapping.py());
                call(&one.getattr("update")?, [PyTuple::new(mapping.py(), [pair])?.as_any()])?;
                pairs.try_reserve(1).map_err(|error| out_of_memory(error.into()))?;
                pairs.extend(one.iter());
            }
            return Ok(pairs);
        }
        call(&entries.getattr("update")?, [mapping]).map_err(|error| no_pairs(mapping.py(), error))?;
        let mut pairs = try_with_capacity(entries.len())?;
        pairs.extend(entries.iter());
        Ok(pairs)
    }

    /// Stores or replaces many entries.
    pub(super) fn write_many(
        this: &Bound<'_, Self>,
        mapping: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
        tags: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (py, cache, ttl) = (this.py(), this.get(), ttl.map(Bound::as_borrowed));
        let entries = cache.entries_of(mapping)?;
        // All arguments are checked before anything is stored.
        cache.deadline(ttl)?;
        let tags = tags::tags(tags.map(Bound::as_borrowed))?;
        let mut weighed = try_with_capacity(entries.len())?;
        let mut total = 0_u128;
        for (key, value) in entries {
            let hash = cache.hash(key.as_borrowed())?;
            let weight = cache.weight_of(key.as_borrowed(), value.as_borrowed())?;
            cache.shards.of(hash).with(py, |store| store.fits_alone(weight))?.map_err(refused)?;
            total += u128::from(weight);
            weighed.push((key, value, hash, weight));
        }
        if total > weighed.len() as u128 {
            cache.check_sums(py, &weighed)?;
        }
        if let Some(tier) = &cache.tier {
            return Self::write_many_through(this, tier, &weighed, cache.deadline(ttl)?, &tags);
        }
        for (key, value, hash, weight) in &weighed {
            let (key, value, this) = (key.as_borrowed(), value.as_borrowed(), &this.as_borrowed());
            let terms = Terms { tags: &tags, ..Terms::new(*weight, IfPresent::Replace) };
            Self::write_weighed(this, key, value, *hash, ttl, terms)?;
        }
        Ok(())
    }

    /// Checks that the weights of new entries fit 64 bits together with those that stay.
    fn check_sums(&self, py: Python<'_>, new: &[Weighed<'_>]) -> PyResult<()> {
        for shard in self.shards.iter() {
            let (limited, mut total) =
                shard.with(py, |store| (store.limits().weight.is_some(), u128::from(store.weight())))?;
            if limited {
                // Others will be evicted.
                continue;
            }
            for (key, _, hash, weight) in
                new.iter().filter(|(_, _, hash, _)| ptr::eq(self.shards.of(*hash), shard))
            {
                let freed = self.shards.find(&key.as_borrowed(), *hash, |store, found| {
                    found.map_or(0, |slot| store.weight_of(slot))
                })?;
                if total - u128::from(freed) + u128::from(*weight) > u128::from(u64::MAX) {
                    let total = u64::try_from(total - u128::from(freed)).unwrap_or(u64::MAX);
                    return Err(refused(Error::WeightOverflow { weight: *weight, total }));
                }
                total = total - u128::from(freed) + u128::from(*weight);
            }
        }
        Ok(())
    }
}
