//! The keys that the store behind a cache was found not to have.
//!
//! They are in tables of their own beside the entries, so iteration does not see them, and a hit of an entry
//! costs the same with and without them.

use flexcache_core::{Cause, Limits, Nanos, OutOfMemory};
use pyo3::prelude::*;

use super::any_policy::PolicyName;
use super::any_store::AnyStore;
use super::lookup::Shards;
use crate::py::object::running_python::decref;

/// The keys that a store was found not to have.
pub(crate) struct AbsentKeys {
    /// One table for each shard of entries, with the same number.
    pub(super) shards: Shards,
    /// The longest time for which an absent key is served.
    pub(super) ttl: Nanos,
}

impl AbsentKeys {
    pub(super) fn new(ttl: Nanos, shards: usize, waits: bool) -> Result<Self, OutOfMemory> {
        let table = || AnyStore::new(PolicyName::Fifo, Limits::new(0, 0), rand::random());
        let first = table()?;
        let rest = (1..shards).map(|_| table()).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { shards: Shards::new(rest.into_iter(), first, waits), ttl })
    }

    pub(super) fn is_empty(&mut self) -> bool {
        self.shards.iter_mut().all(|shard| shard.get_mut().len() == 0)
    }

    /// Forgets all keys.
    pub(super) fn clear(&self, py: Python<'_>) {
        for shard in self.shards.iter() {
            if let Ok(contents) = shard.with(py, |absent| absent.drain()) {
                for entry in contents.into_removed(Cause::Cleared) {
                    decref(py, entry.key);
                    decref(py, entry.value);
                }
            }
        }
    }
}
