//! Shared memory as the store behind a cache in memory, called without Python code.
//!
//! A stamp is the version word of the key: its index, what it was, and the number of the segment. Every process moves the same
//! words, so a copy is current until anybody writes to a key of the word, in whatever process.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use flexcache_core::Stamp;
use flexcache_shared::{
    Condition, Entry, Error, Key, Lease as Leased, LeaseTerms, Patience, Put, SharedCache, Stamp as Version,
    Written,
};
use pyo3::exceptions::PyRuntimeWarning;
use pyo3::prelude::*;

use super::decode::{RawValue, Read};
use super::errors;
use super::key::{self, own_kind};
use super::segment::{self, Opened, SharedSegment, run};
use super::shared_lease::{AwaitedSharedLease, OwnedKey, SharedLease, failure_key};
use super::value;
use super::waiting::{wait_at, wait_in};
use crate::py::process::clock::ClockOfSection;
use crate::py::store::lease::{Lease, LeaseAnswer, LeaseRequest};
use crate::py::store::lease_failure;
use crate::py::store::rule_switch::is_off;
use crate::py::store::seam::{Commit, Equality, Loaded, NewEntry, PutMode, PutResult, Store, StoredEntry};

/// A `SharedCache` as a store.
pub(crate) struct SharedStore {
    segment: Py<SharedSegment>,
}

/// The deadline of an entry with this time to live in seconds.
fn deadline(seconds: Option<f64>) -> u64 {
    let Some(seconds) = seconds else { return 0 };
    let left = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
    flexcache_shared::now().saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX))
}

/// The seconds until a deadline; `None` if there is none.
fn seconds_until(deadline: u64) -> Option<f64> {
    (deadline != 0)
        .then(|| Duration::from_nanos(deadline.saturating_sub(flexcache_shared::now())).as_secs_f64())
}

impl SharedStore {
    /// The store for an object, if it is a cache in shared memory.
    pub(crate) fn of(given: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let Ok(segment) = given.cast::<SharedSegment>() else { return Ok(None) };
        segment.get().opened()?;
        Ok(Some(Self { segment: segment.clone().unbind() }))
    }

    fn opened(&self) -> PyResult<&Arc<Opened>> {
        self.segment.get().opened()
    }

    fn stamp(opened: &Opened, stamp: Option<&Version>) -> Stamp {
        stamp.and_then(|stamp| opened.cache.bits(stamp)).map_or(Stamp::NONE, Stamp::from_bits)
    }

    fn commit<R>(opened: &Opened, written: Written<R>) -> Commit<R> {
        Commit { result: written.result, stamp: Self::stamp(opened, written.stamp.as_ref()) }
    }

    /// Warns, once for each line of code, that the result of a computation was too large to be stored.
    fn warn_of_size(py: Python<'_>, error: &Error) -> PyResult<()> {
        let message = format!("the result of a computation was not stored in shared memory: {error}");
        let message = std::ffi::CString::new(message).unwrap_or_default();
        PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &message, 1)
    }
}

impl Store for SharedStore {
    fn equality(&self) -> Equality {
        Equality::Python
    }

    #[inline]
    fn is_live_natively(&self, _py: Python<'_>, stamp: Stamp, _clock: &ClockOfSection) -> Option<bool> {
        // A closed cache raises when it is called.
        let opened = self.segment.get().opened().ok()?;
        Some(opened.cache.is_current_in_bits(stamp.bits()) || is_off("epoch_after_commit"))
    }

    fn is_live(&self, _py: Python<'_>, stamp: Stamp) -> PyResult<bool> {
        Ok(self.opened()?.cache.is_current_in_bits(stamp.bits()))
    }

    fn bypasses_memory(&self, _py: Python<'_>) -> PyResult<bool> {
        Ok(false)
    }

    fn count_lookup(&self, _py: Python<'_>, found: bool) {
        // If the cache was closed meanwhile, nothing is counted.
        if let Ok(opened) = self.opened() {
            opened.counts.count(&opened.cache, found);
        }
    }

    fn load(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Loaded> {
        let py = key.py();
        let opened = self.opened()?;
        let encoded = key::encode(&key)?;
        let key = encoded.as_key();
        let (found, stamp) = match opened.cache.get_stamped(key, Patience::Try, |value| Read::of(py, value)) {
            Ok((found, stamp)) => (found, stamp),
            Err(_) => {
                let stamped =
                    |cache: &SharedCache, patience| cache.get_stamped(key, patience, RawValue::copy);
                let (found, stamp) = run(py, opened, stamped)?;
                (found.map(|(raw, deadline)| (Read::Raw(raw), deadline)), stamp)
            }
        };
        let entry = found
            .map(|(read, deadline)| {
                let value = read.finish(py, &opened.serializer)?.unbind();
                // Memory needs no tags: the version words show when a tag was evicted.
                Ok::<_, PyErr>(StoredEntry { value, seconds: seconds_until(deadline), tags: Vec::new() })
            })
            .transpose()?;
        Ok(Loaded { entry, stamp: Self::stamp(opened, stamp.as_ref()) })
    }

    fn stamp(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Stamp> {
        let opened = self.opened()?;
        let encoded = key::encode(&key)?;
        let stamp = run(key.py(), opened, |cache, patience| cache.stamp_of(encoded.as_key(), patience))?;
        Ok(Self::stamp(opened, stamp.as_ref()))
    }

    fn contains(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<bool> {
        let encoded = key::encode(&key)?;
        run(key.py(), self.opened()?, |cache, patience| cache.contains(encoded.as_key(), patience))
    }

    fn put(
        &self,
        entry: NewEntry<'_, '_>,
        mode: PutMode,
        unless: &(dyn Fn() -> bool + Sync),
        lease: Option<&Arc<dyn Lease>>,
    ) -> PyResult<Commit<PutResult>> {
        let NewEntry { key, value, seconds, tags } = entry;
        let py = key.py();
        let opened = self.opened()?;
        let discarded = Commit { result: PutResult::Discarded, stamp: Stamp::NONE };
        let lease = lease.and_then(|lease| (lease.as_ref() as &dyn Any).downcast_ref::<SharedLease>());
        let tags = match lease {
            Some(lease) => {
                let mut then = Vec::with_capacity(tags.len());
                for tag in tags {
                    let Some(tag) = lease.tag(py, tag)? else { return Ok(discarded) };
                    then.push(tag);
                }
                then
            }
            None => opened.tags(py, tags)?,
        };
        let encoded = value::encode(&value, &opened.serializer)?;
        let key = key::encode(&key)?;
        let entry =
            Entry { kind: encoded.kind, value: &encoded.bytes, deadline: deadline(seconds), tags: &tags };
        let token = lease.map(|lease| &lease.token);
        let condition = Condition { if_absent: mode == PutMode::Add, lease: token, unless };
        let put = |patience| opened.cache.put_if(key.as_key(), &entry, &condition, patience);
        let written = match put(Patience::Try) {
            Err(Error::Busy) => wait_in(py, || put(Patience::Wait))?,
            result => result,
        };
        match written {
            Ok(written) => {
                // The result of a load that depends on a tag which was evicted meanwhile is absent in the store already.
                let is_stale = lease.is_some() && !tags.is_empty() && written.stamp.is_none();
                let commit = Self::commit(opened, written);
                Ok(Commit {
                    result: match commit.result {
                        Put::Inserted | Put::Replaced if is_stale => PutResult::Discarded,
                        Put::Inserted => PutResult::Inserted,
                        Put::Replaced => PutResult::Replaced,
                        Put::Present => PutResult::Present,
                        Put::Refused => PutResult::Discarded,
                    },
                    stamp: commit.stamp,
                })
            }
            // The computed value is returned to the callers that asked for it, stored or not.
            Err(error @ Error::TooLarge { .. }) if lease.is_some() => {
                Self::warn_of_size(py, &error)?;
                Ok(discarded)
            }
            Err(Error::Timeout { .. }) if lease.is_some() => Ok(discarded),
            Err(error) => Err(errors::raised_in(py, error, &opened.serializer.path)),
        }
    }

    fn keeps_no_result(&self, _py: Python<'_>) -> PyResult<bool> {
        Ok(self.opened().is_err())
    }

    fn lease(&self, key: Borrowed<'_, '_, PyAny>, request: LeaseRequest<'_>) -> PyResult<LeaseAnswer> {
        let py = key.py();
        let opened = self.opened()?;
        let encoded = key::encode(&key)?;
        let owned = OwnedKey::of(encoded.as_key());
        let awaited = request.awaited.and_then(|awaited| {
            (awaited.as_ref() as &dyn Any).downcast_ref::<AwaitedSharedLease>().map(|it| it.wait.words())
        });
        if let Some(words) = awaited {
            let told = Key { kind: own_kind::FAILURE, bytes: &failure_key(words) };
            let copy = |cache: &SharedCache, patience| {
                cache.get(told, patience, |value| {
                    let mut bytes = Vec::new();
                    value.append_to(&mut bytes)?;
                    Ok(bytes)
                })
            };
            if let Some(failure) = run(py, opened, copy)? {
                let error = lease_failure::decode(&key, &failure, |pickled| {
                    opened.serializer.loads(py, pickled).map(Some)
                });
                return Ok(LeaseAnswer::Failed(error));
            }
        }
        // The tags are read before the value is computed.
        let versions = opened.tags(py, request.tags)?;
        let evictions = run(py, opened, SharedCache::evictions)?;
        let time = Duration::try_from_secs_f64(request.seconds).unwrap_or(Duration::MAX);
        // The lease may be granted beside a live value, which a refresh must not destroy.
        let terms = LeaseTerms { time, refresh: true, seizes: request.takes_over, tags: &versions };
        let lease = |patience| opened.cache.take_lease(owned.as_key(), &terms, patience);
        let leased = match lease(Patience::Try) {
            Err(Error::Busy) => wait_in(py, || lease(Patience::Wait))?,
            result => result,
        };
        let opened = Arc::clone(opened);
        let tags = request.tags.iter().map(|tag| (&**tag).into()).zip(versions).collect();
        match leased {
            Ok(Leased::Got(token)) => {
                Ok(LeaseAnswer::Held(Arc::new(SharedLease { opened, key: owned, token, tags, evictions })))
            }
            Ok(Leased::Taken { wait, .. }) => {
                Ok(LeaseAnswer::Elsewhere(Arc::new(AwaitedSharedLease { opened, key: owned, wait })))
            }
            // As if the store gave no leases: the value is computed and stored.
            Ok(Leased::Value) | Err(Error::Timeout { .. } | Error::TooLarge { .. }) => Ok(LeaseAnswer::None),
            Err(error) => Err(errors::raised_in(py, error, &opened.serializer.path)),
        }
    }

    fn remove(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Commit<bool>> {
        let opened = self.opened()?;
        let encoded = key::encode(&key)?;
        let written = run(key.py(), opened, |cache, patience| cache.delete(encoded.as_key(), patience))?;
        Ok(Self::commit(opened, written))
    }

    fn pop(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Commit<Option<StoredEntry>>> {
        let py = key.py();
        let opened = self.opened()?;
        let encoded = key::encode(&key)?;
        let value = segment::pop(py, opened, encoded.as_key())?;
        let result =
            value.map(|value| StoredEntry { value: value.unbind(), seconds: None, tags: Vec::new() });
        Ok(Commit { result, stamp: Stamp::NONE })
    }

    fn touch(&self, key: Borrowed<'_, '_, PyAny>, seconds: Option<f64>) -> PyResult<Commit<bool>> {
        let opened = self.opened()?;
        let encoded = key::encode(&key)?;
        let deadline = deadline(seconds);
        let written =
            run(key.py(), opened, |cache, patience| cache.touch(encoded.as_key(), deadline, patience))?;
        Ok(Self::commit(opened, written))
    }

    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        let opened = self.opened()?;
        wait_at(py, &opened.serializer.path, || opened.cache.clear(Patience::Wait)).map(drop)
    }

    fn evict_tag(&self, py: Python<'_>, tag: &str) -> PyResult<usize> {
        Ok(usize::try_from(self.opened()?.evict_tag(py, tag)?)?)
    }

    fn put_many(&self, py: Python<'_>, entries: &[NewEntry<'_, '_>]) -> PyResult<Vec<Stamp>> {
        let opened = self.opened()?;
        // All entries are encoded before the first is stored, so one that cannot be encoded changes nothing.
        let encoded = entries
            .iter()
            .map(|NewEntry { key, value, tags, .. }| {
                let tags = opened.tags(py, tags)?;
                Ok((tags, key::encode(key)?, value::encode(value, &opened.serializer)?))
            })
            .collect::<PyResult<Vec<_>>>()?;
        encoded
            .iter()
            .zip(entries)
            .map(|((tags, key, value), entry)| {
                let entry =
                    Entry { kind: value.kind, value: &value.bytes, deadline: deadline(entry.seconds), tags };
                let put = |cache: &SharedCache, patience| cache.put(key.as_key(), &entry, patience);
                Ok(Self::commit(opened, run(py, opened, put)?).stamp)
            })
            .collect()
    }

    fn remove_many(&self, py: Python<'_>, keys: &[Borrowed<'_, '_, PyAny>]) -> PyResult<usize> {
        let opened = self.opened()?;
        let encoded = keys.iter().map(|key| key::encode(key)).collect::<PyResult<Vec<_>>>()?;
        let mut removed = 0;
        for key in &encoded {
            let delete = |cache: &SharedCache, patience| Ok(cache.delete(key.as_key(), patience)?.result);
            removed += usize::from(run(py, opened, delete)?);
        }
        Ok(removed)
    }

    fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.segment)
    }
}
