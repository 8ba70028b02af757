//! Storing entries.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use flexcache_core::{Cause, Error, Nanos, New};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::cache::FlexCache;
use super::departures::Departures;
use super::duration::{self, Ttl};
use super::engine::{Complicated, PlainPut};
use super::errors::refused;
use super::hooks;
use super::key::native_eq;
use super::observers::Event;
use super::options;
use super::running_python::{attached, call, release};

/// What to do where the key is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfPresent {
    Replace,
    Raise,
    Keep,
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// Nothing: the key was present.
    Not,
    Inserted,
    Updated,
}

/// On what terms an entry is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) weight: u64,
    pub(crate) deadline: Option<Nanos>,
    pub(crate) tags: &'a [Arc<str>],
    pub(crate) if_present: IfPresent,
}

impl Terms<'_> {
    pub(crate) fn new(weight: u64, if_present: IfPresent) -> Self {
        Self { weight, deadline: None, tags: &[], if_present }
    }
}

/// A key and value with the key's hash and the value's weight.
type Weighed<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, u64, u64);

impl FlexCache {
    /// When an entry with this `ttl` argument expires.
    #[inline]
    pub(crate) fn deadline(&self, ttl: Option<Borrowed<'_, '_, PyAny>>) -> PyResult<Option<Nanos>> {
        match ttl {
            Some(ttl) if !ttl.is_none() => duration::ttl("ttl", ttl).map(|ttl| Some(ttl.deadline())),
            _ => Ok(self.default_ttl.map(Ttl::deadline)),
        }
    }

    /// [`write`](Self::write) for the fast calls: covers entries without weight or deadline in a
    /// cache that has none, and has changed nothing where it is `Complicated`.
    #[inline(always)]
    pub(crate) fn write_if_plain(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        value: Borrowed<'_, '_, PyAny>,
        hash: u64,
    ) -> Result<(), Complicated> {
        if !self.plain_writes || self.watched.load(Ordering::Relaxed) {
            return Err(Complicated);
        }
        let py = key.py();
        let put = self.shards.of(hash).with(py, |engine| {
            let eq = |stored: &Py<PyAny>| native_eq(stored, &key).ok_or(Complicated);
            engine.put_if_plain(hash, eq, || key.to_owned().unbind(), || value.to_owned().unbind())
        });
        match put.unwrap_or(Err(Complicated))? {
            PlainPut::Stored => {}
            PlainPut::Evicted(leaver) => {
                release(py, leaver.key);
                self.drop_value(py, leaver.value);
            }
            PlainPut::Replaced(before) if before.is(&*value) => release(py, before),
            PlainPut::Replaced(before) => self.drop_value(py, before),
        }
        Ok(())
    }

    /// Lets a value go of which nobody has to be told but itself.
    #[inline(always)]
    fn drop_value(&self, py: Python<'_>, value: Py<PyAny>) {
        if !self.farewell.has_no_hook_to_run(py, &value) {
            attached(py, |py| self.farewell.close_value(py, &value));
        }
        release(py, value);
    }

    /// Stores an entry; whether it was stored.
    pub(crate) fn write(
        this: &Borrowed<'_, '_, Self>,
        key: Borrowed<'_, '_, PyAny>,
        value: Borrowed<'_, '_, PyAny>,
        ttl: Option<Borrowed<'_, '_, PyAny>>,
        tags: Option<Borrowed<'_, '_, PyAny>>,
        if_present: IfPresent,
    ) -> PyResult<bool> {
        let hash = this.get().hash(key)?;
        let weight = hooks::weight(&value)?;
        let tags = options::tags(tags)?;
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
        let cache = this.get();
        let deadline = cache.deadline(ttl)?;
        let terms = Terms { deadline, ..terms };
        let stored = if cache.gate.is_some() {
            cache.write_by_custom_policy(key, value, hash, terms)?
        } else {
            cache.write_store(key, value, hash, terms)?
        };
        if let Some(deadline) = deadline {
            cache.expect_expiry(this, deadline)?;
        }
        if cache.watched.load(Ordering::Relaxed) {
            cache.note_write(&key, &value, hash, terms.weight, stored);
        }
        Ok(stored != Stored::Not)
    }

    #[cold]
    fn note_write(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        hash: u64,
        weight: u64,
        stored: Stored,
    ) {
        let event = match stored {
            Stored::Not => return,
            Stored::Inserted => Event::Insert,
            Stored::Updated => Event::Update,
        };
        if let Some(recorder) = self.recorder.as_ref().filter(|_| weight != 1) {
            recorder.stored(hash, weight);
        }
        if self.farewell.observers.want(event) {
            self.farewell.tell_of(key.py(), event, key, value);
        }
    }

    /// Stores or replaces many entries.
    pub(super) fn write_many(
        this: &Bound<'_, Self>,
        mapping: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
        tags: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (py, cache, ttl) = (this.py(), this.get(), ttl.map(Bound::as_borrowed));
        let entries = PyDict::new(py);
        call(&entries.getattr("update")?, [mapping])?;
        // Everything that can be refused is, before anything is stored.
        cache.deadline(ttl)?;
        let tags = options::tags(tags.map(Bound::as_borrowed))?;
        let mut weighed = Vec::with_capacity(entries.len());
        let mut total = 0_u128;
        for (key, value) in &entries {
            let hash = cache.hash(key.as_borrowed())?;
            let weight = hooks::weight(&value.as_borrowed())?;
            cache.shards.of(hash).with(py, |engine| engine.fits_alone(weight))?.map_err(refused)?;
            total += u128::from(weight);
            weighed.push((key, value, hash, weight));
        }
        if total > weighed.len() as u128 {
            cache.check_sums(py, &weighed)?;
        }
        for (key, value, hash, weight) in weighed {
            let (key, value, this) = (key.as_borrowed(), value.as_borrowed(), &this.as_borrowed());
            let terms = Terms { tags: &tags, ..Terms::new(weight, IfPresent::Replace) };
            Self::write_weighed(this, key, value, hash, ttl, terms)?;
        }
        Ok(())
    }

    /// Checks that the weights of new entries fit 64 bits together with those that stay.
    fn check_sums(&self, py: Python<'_>, new: &[Weighed<'_>]) -> PyResult<()> {
        for shard in self.shards.iter() {
            let (limited, mut total) =
                shard.with(py, |engine| (engine.limits().weight.is_some(), u128::from(engine.weight())))?;
            if limited {
                // Others will leave.
                continue;
            }
            for (key, _, hash, weight) in
                new.iter().filter(|(_, _, hash, _)| ptr::eq(self.shards.of(*hash), shard))
            {
                let freed = self.shards.find(&key.as_borrowed(), *hash, |engine, found| {
                    found.map_or(0, |slot| engine.weight_of(slot))
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

    /// Tells the background thread, if there is to be one, when it is needed.
    #[inline]
    pub(crate) fn expect_expiry(&self, this: &Bound<'_, Self>, deadline: Nanos) -> PyResult<()> {
        self.watch.as_ref().map_or(Ok(()), |watch| watch.expect(this, deadline))
    }

    #[inline]
    pub(super) fn write_store(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        value: Borrowed<'_, '_, PyAny>,
        hash: u64,
        Terms { weight, deadline, tags, if_present }: Terms<'_>,
    ) -> PyResult<Stored> {
        let py = key.py();
        let mut departures = Departures::new();
        let stored = self.shards.find(&key, hash, |engine, found| {
            let present = found.is_some_and(|slot| !engine.has_expired(slot));
            if present && if_present != IfPresent::Replace {
                return Ok(Stored::Not);
            }
            // Only now, so that nothing has to be taken back where Python's equality failed.
            let (key, value) = (key.to_owned().unbind(), value.to_owned().unbind());
            let new = New { key, value, weight, deadline };
            let stored = engine.put(found, hash, new, tags, &mut departures);
            if engine.has_deadlines() {
                self.expire_some(engine, &mut departures);
            }
            stored.map(|_| if present { Stored::Updated } else { Stored::Inserted })
        })?;
        if !departures.is_empty() {
            self.settle_written(py, departures, value)?;
        }
        match stored {
            Ok(stored) => Ok(stored),
            Err((error, new)) => {
                release(py, new.key);
                release(py, new.value);
                Err(refused(error))
            }
        }
    }

    /// Like [`settle`](Self::settle), but a value that replaced itself has not left.
    pub(super) fn settle_written(
        &self,
        py: Python<'_>,
        departures: Departures,
        value: Borrowed<'_, '_, PyAny>,
    ) -> PyResult<()> {
        let mut result = Ok(());
        for leaver in departures {
            if leaver.cause == Cause::Replaced && leaver.value.is(&*value) {
                release(py, leaver.key);
                release(py, leaver.value);
            } else {
                result = result.and(self.let_leave(py, leaver));
            }
        }
        result
    }
}
