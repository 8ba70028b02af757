//! `Cache` and `FanoutCache` as stores behind a cache in memory, called without Python code.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use flexcache_core::tracker::{LANES, Moment, Stamp};
use flexcache_disk::{
    Commit as DiskCommit, Entry, Key, Label, LeaseTerms, LeaseToken, Leased, OwnedKey, Put, Value, Written,
    stripe_of,
};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyBytes, PyFloat, PyInt, PyString, PyTuple};

use super::arguments::encode_tag;
use super::cache::DiskCache;
use super::directory_lease::{AwaitedDirectoryLease, DirectoryLease, LeasePlace, failing, failure};
use crate::py::object::imported::imported;
use crate::py::object::key::PlainParts;
use crate::py::process::clock::ClockOfSection;
use crate::py::process::stack;
use crate::py::process::wall_clock::now;
use crate::py::store::lease::{Lease, LeaseAnswer, LeaseRequest};
use crate::py::store::rule_switch::is_off;
use crate::py::store::seam::{
    Coherence, Commit, Equality, Loaded, NewEntry, PutMode, PutResult, Store, StoredEntry,
};

/// Cache directories: that of a `Cache`, or those of the shards of a `FanoutCache`.
pub(crate) struct DirectoryStore {
    shards: Vec<Py<DiskCache>>,
    /// The function that decides the shard of a key, if there are several.
    hash: Option<Py<PyAny>>,
    /// Whether writes of other processes must be seen at once.
    strict: bool,
}

impl DirectoryStore {
    /// The store for an object, if it is a cache on disk.
    pub(crate) fn of(given: &Bound<'_, PyAny>, coherence: Coherence) -> PyResult<Option<Self>> {
        let strict = coherence == Coherence::Strict;
        if let Ok(cache) = given.cast::<DiskCache>() {
            return Ok(Some(Self { shards: vec![cache.clone().unbind()], hash: None, strict }));
        }
        let py = given.py();
        // A program that has a FanoutCache has imported it.
        let Some(module) = imported(py, intern!(py, "flexcache_rs.disk"))? else { return Ok(None) };
        if !given.is_instance(&module.getattr(intern!(py, "FanoutCache"))?)? {
            return Ok(None);
        }
        let shards: Vec<Py<DiskCache>> = given.getattr(intern!(py, "shards"))?.extract()?;
        let Some(first) = shards.first() else { return Ok(None) };
        let hash = first.bind(py).getattr(intern!(py, "disk"))?.getattr(intern!(py, "hash"))?.unbind();
        Ok(Some(Self { shards, hash: Some(hash), strict }))
    }

    /// The number of the shard that has a key.
    fn lane(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<usize> {
        let Some(hash) = &self.hash else { return Ok(0) };
        stack::check(stack::Call::Any)?;
        let hash: u64 = hash.bind(key.py()).call1((key,))?.extract()?;
        #[expect(clippy::cast_possible_truncation, reason = "it is less than the number of shards")]
        Ok((hash % self.shards.len() as u64) as usize)
    }

    fn shard(&self, lane: usize) -> &DiskCache {
        self.shards[lane].get()
    }

    #[inline(always)]
    fn is_strict(&self) -> bool {
        self.strict && !is_off("own_commits")
    }

    /// Whether calls wait without a limit. For a fan-out cache they do, as its timeout is only a hundredth of
    /// a second, after which a write would be lost.
    fn retries(&self) -> bool {
        self.hash.is_some()
    }

    /// The shard's number of generations, which is added to that of its tracker, if it is known without
    /// waiting. `None` also while a thread is in a transaction, unless `in_transactions`: the transaction may
    /// be the caller's.
    #[inline(always)]
    fn generation_natively(&self, py: Python<'_>, shard: &DiskCache, in_transactions: bool) -> Option<u64> {
        if is_off("incarnation") {
            return Some(1);
        }
        if self.is_strict() {
            shard.generation(py, in_transactions)
        } else {
            shard.incarnation(py, in_transactions)
        }
    }

    /// The same number, for which this may wait; `None` if it is about to change.
    fn generation(&self, py: Python<'_>, lane: usize) -> PyResult<Option<u64>> {
        let shard = self.shard(lane);
        if is_off("incarnation") {
            return Ok(Some(1));
        }
        if self.is_strict() { shard.observe(py, self.retries()) } else { shard.incarnation_now(py).map(Some) }
    }

    fn stamp_of(&self, py: Python<'_>, lane: usize, stripe: usize) -> PyResult<Stamp> {
        if lane >= LANES {
            // There are more shards than stamps can distinguish.
            return Ok(Stamp::NONE);
        }
        let Some(generation) = self.generation(py, lane)? else { return Ok(Stamp::NONE) };
        Ok(self.shard(lane).tracker().stamp_in(generation, stripe).in_lane(lane))
    }

    /// The stamp of a key that a commit has written.
    fn stamp_after(&self, py: Python<'_>, lane: usize, stripe: usize, commit: Option<&DiskCommit>) -> Stamp {
        // Inside a transaction there is no commit yet.
        let Some(commit) = commit else { return Stamp::NONE };
        let Some(moment) = commit.moments.of(stripe) else { return Stamp::NONE };
        // If another process has committed right afterwards, the entry may have been replaced.
        let generation = if self.is_strict() && !is_off("incarnation") {
            commit.generation
        } else {
            self.generation_natively(py, self.shard(lane), true)
        };
        let Some(generation) = generation.filter(|_| lane < LANES) else { return Stamp::NONE };
        Moment::from_bits(moment).stamp(generation, stripe).in_lane(lane)
    }

    /// Runs a write of one key.
    fn write<R: Send>(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        call: impl Fn(
            &flexcache_disk::DiskStore,
            Key<'_>,
            std::time::Duration,
        ) -> Result<Written<R>, flexcache_disk::Error>
        + Send
        + Sync,
    ) -> PyResult<Commit<R>> {
        let py = key.py();
        let lane = self.lane(key)?;
        let shard = self.shard(lane);
        let (datum, raw) = shard.encode_key(&key)?;
        let key = Key { datum: datum.borrow()?, raw };
        let written = shard.wait(py, self.retries(), |store, patience| call(store, key, patience))?;
        let stamp = self.stamp_after(py, lane, stripe_of(key), written.commit.as_ref());
        Ok(Commit { result: written.result, stamp })
    }

    fn put_in(
        &self,
        lane: usize,
        entry: NewEntry<'_, '_>,
        mode: PutMode,
        unless: &(dyn Fn() -> bool + Sync),
        lease: Option<&LeaseToken>,
    ) -> PyResult<(Written<Put>, usize)> {
        let NewEntry { key, value, seconds, tags } = entry;
        let py = key.py();
        let shard = self.shard(lane);
        let tag = match tags {
            [] => None,
            [tag, others @ ..] if others.iter().all(|other| **other == **tag) => Some(PyString::new(py, tag)),
            _ => return Err(PyValueError::new_err("tags must be at most one with a store on disk")),
        };
        if self.generation_natively(py, shard, true).is_none() && !shard.has_open_transaction(py) {
            // Starts tracking the generation, so that it does not begin after this write.
            self.generation(py, lane)?;
        }
        let time = now(py)?;
        let (datum, raw) = shard.encode_key(&key)?;
        let tag = encode_tag(tag.as_ref().map(Bound::as_any))?;
        let (in_table, tag, rules) = (Key { datum: datum.borrow()?, raw }, tag.borrow()?, shard.rules(py)?);
        let stored = shard.prepare(&value, false, Some(&key))?;
        let label = Label { now: time, expire_time: seconds.map(|seconds| time + seconds), tag };
        let written = shard.storing(py, &stored, |record, file| {
            shard.wait(py, self.retries(), |store, patience| {
                let only_new = mode == PutMode::Add;
                file.lend(|| store.put(in_table, record, label, only_new, unless, lease, &rules, patience))
            })
        })?;
        Ok((written, stripe_of(in_table)))
    }

    /// Makes an entry from a row and its value.
    fn entry(py: Python<'_>, value: Bound<'_, PyAny>, row: &Entry) -> PyResult<StoredEntry> {
        let seconds = row.expire_time.map(|time| now(py).map(|now| time - now)).transpose()?;
        let tags = match &row.tag {
            Value::Text(tag) => vec![PyBackedStr::try_from(PyString::new(py, tag))?],
            _ => Vec::new(),
        };
        Ok(StoredEntry { value: value.unbind(), seconds, tags })
    }

    /// Runs `writes` in one transaction of each shard in `lanes`. Returns their commits.
    fn transact(
        &self,
        py: Python<'_>,
        lanes: &[usize],
        mut writes: impl FnMut() -> PyResult<()>,
    ) -> PyResult<Vec<(usize, Option<DiskCommit>)>> {
        let mut open = Vec::with_capacity(lanes.len());
        let mut done = Ok(());
        for &lane in lanes {
            done = self.shard(lane).begin(py, self.retries()).map(drop);
            if done.is_err() {
                break;
            }
            open.push(lane);
        }
        done = done.and_then(|()| writes());
        let mut commits = Vec::with_capacity(open.len());
        for lane in open.into_iter().rev() {
            match self.shard(lane).end(py, done.is_ok(), true) {
                Ok(commit) => commits.push((lane, commit)),
                Err(error) => done = done.and(Err(error)),
            }
        }
        done.map(|()| commits)
    }
}

impl Store for DirectoryStore {
    fn equality(&self) -> Equality {
        if is_off("equality") { Equality::Python } else { Equality::Encoded }
    }

    fn most_tags(&self) -> usize {
        1
    }

    #[inline]
    fn is_live_natively(&self, py: Python<'_>, stamp: Stamp, _clock: &ClockOfSection) -> Option<bool> {
        let lane = stamp.lane();
        let shard = self.shards.get(lane)?.get();
        let generation = self.generation_natively(py, shard, is_off("transactions"))?;
        Some(shard.tracker().is_live_in(generation, stamp))
    }

    fn is_live(&self, py: Python<'_>, stamp: Stamp) -> PyResult<bool> {
        let lane = stamp.lane();
        if stamp == Stamp::NONE || lane >= self.shards.len() {
            return Ok(false);
        }
        let Some(generation) = self.generation(py, lane)? else { return Ok(false) };
        Ok(self.shard(lane).tracker().is_live_in(generation, stamp))
    }

    fn has_open_transaction(&self, py: Python<'_>) -> bool {
        !is_off("transactions") && self.shards.iter().any(|shard| shard.get().has_open_transaction(py))
    }

    fn bypasses_memory(&self, py: Python<'_>) -> PyResult<bool> {
        for shard in &self.shards {
            if !is_off("transactions")
                && shard.get().has_open_transaction(py)
                && shard.get().is_in_transaction(py)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn stamp(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Stamp> {
        let lane = self.lane(key)?;
        let (datum, raw) = self.shard(lane).encode_key(&key)?;
        self.stamp_of(key.py(), lane, stripe_of(Key { datum: datum.borrow()?, raw }))
    }

    fn load(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Loaded> {
        let py = key.py();
        let lane = self.lane(key)?;
        let shard = self.shard(lane);
        let (datum, raw) = shard.encode_key(&key)?;
        let key = Key { datum: datum.borrow()?, raw };
        // The stamp is taken before the read, so that a commit in between invalidates it.
        let stamp = self.stamp_of(py, lane, stripe_of(key))?;
        let found = shard.find_encoded(py, key, false, true, self.retries())?;
        let entry = found.map(|(value, row)| Self::entry(py, value, &row)).transpose()?;
        Ok(Loaded { entry, stamp })
    }

    fn keeps_no_result(&self, py: Python<'_>) -> PyResult<bool> {
        for shard in &self.shards {
            if shard.get().is_read_only(py)? {
                shard.get().warn_not_stored(py)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn lease(&self, key: Borrowed<'_, '_, PyAny>, request: LeaseRequest<'_>) -> PyResult<LeaseAnswer> {
        let py = key.py();
        let lane = self.lane(key)?;
        let shard = self.shard(lane);
        if shard.is_in_transaction(py)? {
            // No other caller can write before the transaction ends, and the holder of the lease may be
            // waiting for that.
            return Ok(LeaseAnswer::None);
        }
        let (datum, raw) = shard.encode_key(&key)?;
        let owned = Arc::new(OwnedKey { datum: datum.to_value()?, raw });
        let awaited = request.awaited.and_then(|awaited| {
            (awaited.as_ref() as &dyn Any)
                .downcast_ref::<AwaitedDirectoryLease>()
                .and_then(AwaitedDirectoryLease::token)
        });
        let tag = request.tags.first().map(|tag| PyString::new(py, tag));
        let tag = encode_tag(tag.as_ref().map(Bound::as_any))?;
        let (seconds, takes_over) = (request.seconds, request.takes_over);
        let terms = LeaseTerms { seconds, tag: tag.borrow()?, awaited, takes_over };
        let token: LeaseToken = rand::random();
        let failing = failing();
        let leased = shard.wait(py, self.retries(), |store, patience| {
            store.lease(owned.borrow(), &token, terms, patience)
        })?;
        let store = shard.store(py)?;
        Ok(match leased {
            Leased::Held => {
                let place = LeasePlace::new(store, owned, token);
                let cache = self.shards[lane].clone_ref(py);
                let has_ended = AtomicBool::new(false);
                let failing = OnceLock::new();
                LeaseAnswer::Held(Arc::new(DirectoryLease { place, cache, seconds, has_ended, failing }))
            }
            Leased::Elsewhere(token) => {
                let has_failed = failing.contains(&token);
                let place = LeasePlace::new(store, owned, token);
                LeaseAnswer::Elsewhere(Arc::new(AwaitedDirectoryLease::new(place, has_failed)))
            }
            // As if the store gave no leases: the value is computed and stored.
            Leased::Unavailable => LeaseAnswer::None,
            Leased::Failed(encoded) => LeaseAnswer::Failed(failure(shard, &key, &encoded)),
        })
    }

    fn contains(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<bool> {
        let shard = self.shard(self.lane(key)?);
        shard.has_key(&key)
    }

    fn put(
        &self,
        entry: NewEntry<'_, '_>,
        mode: PutMode,
        unless: &(dyn Fn() -> bool + Sync),
        lease: Option<&Arc<dyn Lease>>,
    ) -> PyResult<Commit<PutResult>> {
        let py = entry.key.py();
        let lane = self.lane(entry.key)?;
        let lease = lease.and_then(|lease| (lease.as_ref() as &dyn Any).downcast_ref::<DirectoryLease>());
        let token = lease.map(|lease| &lease.place.token);
        let (written, stripe) = self.put_in(lane, entry, mode, unless, token)?;
        if let Some(lease) = lease
            && written.commit.is_some()
            && matches!(written.result, Put::Inserted | Put::Replaced)
        {
            // The write has ended the lease.
            lease.has_ended.store(true, Ordering::Release);
        }
        let stamp = self.stamp_after(py, lane, stripe, written.commit.as_ref());
        let result = match written.result {
            Put::Inserted => PutResult::Inserted,
            Put::Replaced => PutResult::Replaced,
            Put::Present => PutResult::Present,
            Put::Discarded => PutResult::Discarded,
        };
        Ok(Commit { result, stamp })
    }

    fn remove(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Commit<bool>> {
        let time = now(key.py())?;
        self.write(key, |store, key, patience| store.delete(key, time, patience))
    }

    fn pop(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Commit<Option<StoredEntry>>> {
        let py = key.py();
        let time = now(py)?;
        let popped = self.write(key, |store, key, patience| store.pop(key, time, patience))?;
        let Some(row) = popped.result else { return Ok(Commit { result: None, stamp: popped.stamp }) };
        let shard = self.shard(self.lane(key)?);
        let value = match shard.fetch(py, &row, false) {
            Ok(value) => value,
            Err(error) => {
                let (datum, raw) = shard.encode_key(&key)?;
                shard.put_back(py, Key { datum: datum.borrow()?, raw }, &row)?;
                return Err(error);
            }
        };
        shard.discard(py, &row)?;
        let result = value.map(|value| Self::entry(py, value, &row)).transpose()?;
        Ok(Commit { result, stamp: popped.stamp })
    }

    fn touch(&self, key: Borrowed<'_, '_, PyAny>, seconds: Option<f64>) -> PyResult<Commit<bool>> {
        let time = now(key.py())?;
        let expires = seconds.map(|seconds| time + seconds);
        self.write(key, |store, key, patience| store.touch(key, time, expires, patience))
    }

    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        for shard in &self.shards {
            shard.get().clear(py, self.retries(), None)?;
        }
        Ok(())
    }

    fn evict_tag(&self, py: Python<'_>, tag: &str) -> PyResult<usize> {
        let tag = PyString::new(py, tag);
        let mut removed = 0;
        for shard in &self.shards {
            removed += shard.get().evict(&tag, self.retries(), None)?;
        }
        Ok(usize::try_from(removed).unwrap_or(usize::MAX))
    }

    fn put_many(&self, py: Python<'_>, entries: &[NewEntry<'_, '_>]) -> PyResult<Vec<Stamp>> {
        let lanes: Vec<_> = entries.iter().map(|entry| self.lane(entry.key)).collect::<PyResult<_>>()?;
        let mut distinct = lanes.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let mut stripes = Vec::with_capacity(entries.len());
        let commits = self.transact(py, &distinct, || {
            for (entry, &lane) in entries.iter().zip(&lanes) {
                stripes.push(self.put_in(lane, *entry, PutMode::Replace, &|| false, None)?.1);
            }
            Ok(())
        })?;
        let stamp = |(&lane, &stripe): (&usize, &usize)| {
            let commit = commits.iter().find(|(of, _)| *of == lane).and_then(|(_, commit)| commit.as_ref());
            self.stamp_after(py, lane, stripe, commit)
        };
        Ok(lanes.iter().zip(&stripes).map(stamp).collect())
    }

    fn remove_many(&self, py: Python<'_>, keys: &[Borrowed<'_, '_, PyAny>]) -> PyResult<usize> {
        let mut distinct = keys.iter().map(|key| self.lane(*key)).collect::<PyResult<Vec<_>>>()?;
        distinct.sort_unstable();
        distinct.dedup();
        let mut removed = 0;
        self.transact(py, &distinct, || {
            for key in keys {
                removed += usize::from(self.remove(*key)?.result);
            }
            Ok(())
        })?;
        Ok(removed)
    }

    fn encode_key(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Vec<u8>> {
        let lane = self.lane(key)?;
        let (datum, raw) = self.shard(lane).encode_key(&key)?;
        let mut encoded = vec![u8::from(raw)];
        if self.hash.is_some() {
            encoded.extend(lane.to_le_bytes());
        }
        datum.append_to(&mut encoded)?;
        Ok(encoded)
    }

    #[inline]
    fn is_plain_key(&self, key: Borrowed<'_, '_, PyAny>) -> bool {
        if is_off("equality") {
            return true;
        }
        if key.is_exact_instance_of::<PyString>() || key.is_exact_instance_of::<PyBytes>() {
            return true;
        }
        is_plain(&key, self.hash.is_some())
    }

    fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.hash)?;
        self.shards.iter().try_for_each(|shard| visit.call(shard))
    }
}

/// Whether every key that is equal in Python is the same key of the table.
///
/// In a table 1 and 1.0 are one key, but not among the shards of a fan-out. `True`, NaN, and ints of more than 64 bits are
/// pickled, and so is everything that is not a number, text or bytes.
fn is_plain(key: &Bound<'_, PyAny>, fans_out: bool) -> bool {
    if key.is_exact_instance_of::<PyInt>() {
        return key.extract::<i64>().is_ok();
    }
    if let Ok(number) = key.cast_exact::<PyFloat>() {
        let number = number.value();
        return !number.is_nan() && (!fans_out || number.fract() != 0.0);
    }
    if key.is_none() {
        return true;
    }
    let Ok(tuple) = key.cast_exact::<PyTuple>() else { return false };
    let mut parts = PlainParts::default();
    tuple.iter_borrowed().all(|part| parts.add(part))
}
