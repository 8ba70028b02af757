//! The shards of a cache, and lookups that never run Python code while one of them is locked.
//!
//! If only Python can compare two keys, the lookup takes references to the stored keys, releases the lock,
//! calls `__eq__`, and starts over with the answers. The answers hold references to their keys, so an address
//! means the same object both times. The step on the slot runs in the same locked section that found the
//! slot, so two equal keys can never be stored.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;

use flexcache_core::{OutOfMemory, Slot};
use hashbrown::HashMap;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::any_store::AnyStore;
use super::core_errors::out_of_memory;
use super::shard_lock::ShardLock;
use crate::py::object::key::{native_eq, native_eq_by_hash};
use crate::py::object::running_python;
use crate::py::store::shard_loads::ShardLoads;

/// How often a lookup starts over, because others keep adding keys with the same hash, before it gives up.
const MOST_PASSES: usize = 1000;

/// Up to this many answers are found faster by a linear search than by hashing.
const FEW_ANSWERS: usize = 16;

/// The data behind one lock: entries, and the computations in progress. It dereferences to [`AnyStore`], for
/// code that needs only entries.
pub(crate) struct Shard {
    store: AnyStore,
    pub(crate) loads: ShardLoads,
}

impl Shard {
    fn new(store: AnyStore) -> Self {
        Self { store, loads: ShardLoads::default() }
    }
}

impl Deref for Shard {
    type Target = AnyStore;

    #[inline(always)]
    fn deref(&self) -> &AnyStore {
        &self.store
    }
}

impl DerefMut for Shard {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut AnyStore {
        &mut self.store
    }
}

/// The stores of a cache: one, or several among which the keys are divided by hash.
pub(crate) struct Shards {
    first: ShardLock,
    /// Unset if there is only one shard.
    rest: OnceLock<Box<[ShardLock]>>,
}

impl Shards {
    pub(crate) fn new(stores: impl Iterator<Item = AnyStore>, first: AnyStore, waits: bool) -> Self {
        let shards = Self { first: ShardLock::new(Shard::new(first), waits), rest: OnceLock::new() };
        shards.add(stores, waits);
        shards
    }

    /// Adds shards to the first one.
    fn add(&self, stores: impl Iterator<Item = AnyStore>, waits: bool) {
        let rest: Box<[_]> = stores.map(|store| ShardLock::new(Shard::new(store), waits)).collect();
        if !rest.is_empty() {
            let _ = self.rest.set(rest);
        }
    }

    /// Replaces the only store by other ones, if nothing has been stored in it and `agree`, which is called
    /// under the lock, returns true. Returns whether it did.
    pub(super) fn replace_if_unused(
        &self,
        py: Python<'_>,
        stores: impl Iterator<Item = AnyStore>,
        first: AnyStore,
        waits: bool,
        agree: impl FnOnce() -> bool,
    ) -> PyResult<bool> {
        let replaced = self.first.with(py, |shard| {
            let unused = shard.is_empty() && shard.loads.is_empty() && self.rest.get().is_none();
            (unused && agree()).then(|| {
                self.add(stores, waits);
                mem::replace(shard, Shard::new(first))
            })
        })?;
        Ok(replaced.is_some())
    }

    /// The only shard of a cache that has no others.
    #[inline(always)]
    pub(super) fn first(&self) -> &ShardLock {
        &self.first
    }

    #[inline(always)]
    pub(crate) fn of(&self, hash: u64) -> &ShardLock {
        let Some(rest) = self.rest.get() else { return &self.first };
        // These bits are used neither to choose a bucket nor to choose a segment, in a table of
        // any size that fits in memory.
        let shard = ((hash >> 46) % (rest.len() as u64 + 1)) as usize;
        if shard == 0 { &self.first } else { &rest[shard - 1] }
    }

    /// Bytes allocated for locks and for further shards, without their contents.
    pub(super) fn allocated_bytes(&self) -> usize {
        let rest = self.rest.get().map_or(0, |rest| size_of_val(&**rest));
        rest + self.iter().map(ShardLock::allocated_bytes).sum::<usize>()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &ShardLock> {
        std::iter::once(&self.first).chain(self.rest.get().into_iter().flatten())
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut ShardLock> {
        std::iter::once(&mut self.first).chain(self.rest.get_mut().into_iter().flatten())
    }

    /// Whether there is more than one.
    #[inline(always)]
    pub(crate) fn are_several(&self) -> bool {
        self.rest.get().is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.rest.get().map_or(0, |rest| rest.len()) + 1
    }

    /// Finds `key` and runs `step` with its slot, if there is one, in one locked section.
    ///
    /// # Errors
    ///
    /// What `__eq__` raises; nothing has changed then.
    #[inline]
    pub(crate) fn find<R>(
        &self,
        key: &Borrowed<'_, '_, PyAny>,
        hash: u64,
        step: impl FnOnce(&mut Shard, Option<Slot>) -> R,
    ) -> PyResult<R> {
        let shard = self.of(hash);
        let mut step = Some(step);
        let done = shard.with(key.py(), |store| {
            let found = store
                .find_by_key(hash, |stored, hash| native_eq_by_hash(stored, key, &hash).ok_or(()))
                .ok()?;
            step.take().map(|step| step(store, found))
        })?;
        match (done, step) {
            (Some(result), _) => Ok(result),
            (None, Some(step)) => find_asking_python(shard, key, hash, step),
            (None, None) => unreachable!("a step that was taken has a result"),
        }
    }
}

#[cold]
fn find_asking_python<R>(
    shard: &ShardLock,
    key: &Borrowed<'_, '_, PyAny>,
    hash: u64,
    step: impl FnOnce(&mut Shard, Option<Slot>) -> R,
) -> PyResult<R> {
    let py = key.py();
    let mut step = Some(step);
    let mut answers = Answers::default();
    for _ in 0..MOST_PASSES {
        let mut unknown = Vec::new();
        let done = shard.with(py, |store| {
            let found = store.find(hash, |stored| {
                let equal = native_eq(stored, key).or_else(|| answers.about(stored));
                if equal.is_none() {
                    unknown.try_reserve(1).map_err(OutOfMemory::from)?;
                    unknown.push(stored.clone_ref(py));
                }
                Ok::<_, OutOfMemory>(equal.unwrap_or(false))
            });
            match found.map_err(out_of_memory)? {
                found if found.is_some() || unknown.is_empty() => {
                    Ok(step.take().map(|step| step(store, found)))
                }
                _ => Ok::<_, PyErr>(None),
            }
        })??;
        if let Some(result) = done {
            return Ok(result);
        }
        for stored in unknown {
            let equal = running_python::eq(stored.bind(py), key)?;
            answers.add(stored, equal).map_err(out_of_memory)?;
            if equal {
                break;
            }
        }
    }
    Err(PyRuntimeError::new_err(format!(
        "gave up after {MOST_PASSES} lookups of one key, during each of which keys with the same hash were added"
    )))
}

/// The results of comparing stored keys in Python. The keys are kept alive.
#[derive(Default)]
pub(super) struct Answers {
    list: Vec<(Py<PyAny>, bool)>,
    by_address: HashMap<usize, bool, std::hash::RandomState>,
}

impl Answers {
    pub(super) fn about(&self, stored: &Py<PyAny>) -> Option<bool> {
        if self.by_address.is_empty() {
            return self.list.iter().find(|(known, _)| known.is(stored)).map(|&(_, equal)| equal);
        }
        self.by_address.get(&(stored.as_ptr() as usize)).copied()
    }

    pub(super) fn add(&mut self, stored: Py<PyAny>, equal: bool) -> Result<(), OutOfMemory> {
        self.list.try_reserve(1)?;
        self.by_address.try_reserve(if self.list.len() + 1 < FEW_ANSWERS { 0 } else { FEW_ANSWERS })?;
        self.list.push((stored, equal));
        if self.list.len() == FEW_ANSWERS {
            let known = self.list.iter().map(|(known, equal)| (known.as_ptr() as usize, *equal));
            self.by_address.extend(known);
        } else if let Some((known, equal)) = self.list.last().filter(|_| self.list.len() > FEW_ANSWERS) {
            self.by_address.insert(known.as_ptr() as usize, *equal);
        }
        Ok(())
    }
}
