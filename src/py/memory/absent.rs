//! The keys that the store behind a cache was found not to have.
//!
//! They lie in tables of their own beside the entries, so that nothing that goes through the entries meets them, and a
//! hit of an entry costs what it costs without them.

use flexcache_core::{Cause, Limits, Nanos, OutOfMemory};
use pyo3::prelude::*;

use super::any_policy::PolicyName;
use super::any_store::AnyStore;
use super::lookup::Shards;
use crate::py::object::running_python::decref;

/// The keys that a store was found not to have.
pub(crate) struct AbsentKeys {
    /// Each beside the shard of entries of the same number.
    pub(super) shards: Shards,
    /// For how long they are served at most.
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

    /// Forgets all.
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
