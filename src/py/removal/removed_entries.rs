//! Removed entries, which are carried out of the locked section and finished there.

use flexcache_core::{Cause, OutOfMemory, RemovalSink, Removed};
use pyo3::prelude::*;

/// A key and value that were removed, and why.
pub(crate) type RemovedEntry = Removed<Py<PyAny>, Py<PyAny>>;

/// Entries that were removed; the common case of one allocates nothing.
#[derive(Default)]
pub(crate) struct RemovedEntries {
    first: Option<RemovedEntry>,
    rest: Vec<RemovedEntry>,
    /// Whether fewer were removed than there were to remove, for want of memory.
    ran_out: bool,
}

impl RemovedEntries {
    #[inline]
    pub(crate) fn new() -> Self {
        Self { first: None, rest: Vec::new(), ran_out: false }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &RemovedEntry> {
        self.first.iter().chain(&self.rest)
    }

    /// Whether fewer were removed than there were to remove, for want of memory.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        self.ran_out
    }

    /// Takes the last one out.
    pub(crate) fn pop(&mut self) -> Option<RemovedEntry> {
        self.rest.pop().or_else(|| self.first.take())
    }
}

impl RemovalSink<Py<PyAny>, Py<PyAny>> for RemovedEntries {
    #[inline]
    fn try_reserve(&mut self) -> Result<(), OutOfMemory> {
        if self.first.is_some() && self.rest.try_reserve(1).is_err() {
            self.ran_out = true;
            return Err(OutOfMemory);
        }
        Ok(())
    }

    #[inline]
    fn push(&mut self, entry: RemovedEntry) {
        match &mut self.first {
            None => self.first = Some(entry),
            // What was replaced is told of first, before what was evicted for the new value.
            Some(first) if entry.cause == Cause::Replaced => {
                let evicted = std::mem::replace(first, entry);
                self.rest.insert(0, evicted);
            }
            Some(_) => self.rest.push(entry),
        }
    }
}

impl IntoIterator for RemovedEntries {
    type Item = RemovedEntry;
    type IntoIter = std::iter::Chain<std::option::IntoIter<RemovedEntry>, std::vec::IntoIter<RemovedEntry>>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.rest)
    }
}
