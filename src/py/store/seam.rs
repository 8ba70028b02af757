//! `Store`: the interface of stores behind a cache in memory. It takes and returns Python objects, which each
//! store encodes in its own way.
//!
//! No method is called while a lock is held, since each may run Python code and wait. Every write returns
//! what it changed, in a [`Commit`]. Only its [`Stamp`] decides whether a copy in memory may still be served.
//! A load takes the stamp before it reads; a write takes it in the order of the commits.
//! `flexcache_core::tracker` explains why this is correct.

use std::sync::Arc;

use flexcache_core::{Nanos, Stamp};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyDict, PyString};

use super::lease::{Lease, LeaseAnswer, LeaseRequest};
use crate::py::object::duration;
use crate::py::process::clock::ClockOfSection;

/// A live entry of a store.
pub(crate) struct StoredEntry {
    pub(crate) value: Py<PyAny>,
    /// The seconds that it has to live; `None` means for ever.
    pub(crate) seconds: Option<f64>,
    pub(crate) tags: Vec<PyBackedStr>,
}

/// The entry that a load found, if any, and its stamp. There is a stamp even if there is no entry.
pub(crate) struct Loaded {
    pub(crate) entry: Option<StoredEntry>,
    pub(crate) stamp: Stamp,
}

/// The result of a write, and the stamp of the new state; [`Stamp::NONE`] if memory must not keep a copy.
pub(crate) struct Commit<R> {
    pub(crate) result: R,
    pub(crate) stamp: Stamp,
}

/// What to do if the store has a live entry under the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutMode {
    Replace,
    Add,
}

/// What a put did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutResult {
    /// Nothing was stored: a live entry was present.
    Present,
    Inserted,
    Replaced,
    /// Nothing was stored: `unless` returned true, or the lease was gone.
    Discarded,
    /// The entry was stored. The store cannot tell whether it replaced another.
    Stored,
}

/// Which keys are equal to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Equality {
    /// Keys that are equal in Python: 1, 1.0 and True are one key.
    Python,
    /// Keys with the same encoding.
    Encoded,
}

/// A new entry for a store.
#[derive(Clone, Copy)]
pub(crate) struct NewEntry<'a, 'py> {
    pub(crate) key: Borrowed<'a, 'py, PyAny>,
    pub(crate) value: Borrowed<'a, 'py, PyAny>,
    pub(crate) seconds: Option<f64>,
    pub(crate) tags: &'a [PyBackedStr],
}

/// A store behind a cache in memory.
pub(crate) trait Store: Send + Sync {
    /// Which keys are equal.
    fn equality(&self) -> Equality;

    /// The most tags that an entry may have.
    fn most_tags(&self) -> usize {
        usize::MAX
    }

    /// The number of chained caches in memory, if the store is one.
    fn chain(&self) -> usize {
        0
    }

    /// Whether a copy may be served; `None` if that cannot be decided without running Python code or waiting.
    fn is_live_natively(&self, py: Python<'_>, stamp: Stamp, clock: &ClockOfSection) -> Option<bool>;

    /// Whether a copy may be served.
    fn is_live(&self, py: Python<'_>, stamp: Stamp) -> PyResult<bool>;

    /// Whether any thread of this process is in a transaction of the store. Then no copy is served natively.
    fn has_open_transaction(&self, _py: Python<'_>) -> bool {
        false
    }

    /// Whether the caller must neither read copies in memory nor leave any there, because it is in a
    /// transaction of the store: it sees its own writes, and may yet undo them.
    fn bypasses_memory(&self, py: Python<'_>) -> PyResult<bool>;

    /// Counts a lookup, if the store has its own counts. `load` does not count, as several loads may belong
    /// to one lookup.
    fn count_lookup(&self, _py: Python<'_>, _found: bool) {}

    /// Loads a live entry.
    fn load(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Loaded>;

    /// The stamp for a value of the key that is read after this call.
    fn stamp(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Stamp>;

    /// Whether there is a live entry.
    fn contains(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<bool>;

    /// Stores an entry, unless `unless` returns true. The store calls `unless` when the write's turn has
    /// come; if possible, no other write of this store object comes between that and the write. `unless` must
    /// not run Python code. With a `lease` of this store, the entry is stored only if the lease still exists,
    /// and the lease ends with the write.
    fn put(
        &self,
        entry: NewEntry<'_, '_>,
        mode: PutMode,
        unless: &(dyn Fn() -> bool + Sync),
        lease: Option<&Arc<dyn Lease>>,
    ) -> PyResult<Commit<PutResult>>;

    /// Called when a computed result could not be stored. True if the reason is that the store was closed
    /// meanwhile or is read-only, of which the program has been warned; then the caller gets the result
    /// instead of the error.
    fn keeps_no_result(&self, _py: Python<'_>) -> PyResult<bool> {
        Ok(false)
    }

    /// Requests the lease of a key. The holder is the only load that computes the key.
    fn lease(&self, _key: Borrowed<'_, '_, PyAny>, _request: LeaseRequest<'_>) -> PyResult<LeaseAnswer> {
        Ok(LeaseAnswer::None)
    }

    /// Removes an entry. Returns whether there was a live one.
    fn remove(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Commit<bool>>;

    /// Removes an entry and returns it, if there was a live one.
    fn pop(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Commit<Option<StoredEntry>>>;

    /// Gives a live entry another time to live. Returns whether there was one.
    fn touch(&self, key: Borrowed<'_, '_, PyAny>, seconds: Option<f64>) -> PyResult<Commit<bool>>;

    /// Removes every entry.
    fn clear(&self, py: Python<'_>) -> PyResult<()>;

    /// Removes every entry with a tag. Returns their number.
    fn evict_tag(&self, py: Python<'_>, tag: &str) -> PyResult<usize>;

    /// Stores or replaces entries: all of them, or none, if the store has transactions. The stamp of each.
    fn put_many(&self, py: Python<'_>, entries: &[NewEntry<'_, '_>]) -> PyResult<Vec<Stamp>>;

    /// Removes entries: all of them or none, if the store has transactions. Returns the number of live ones.
    fn remove_many(&self, py: Python<'_>, keys: &[Borrowed<'_, '_, PyAny>]) -> PyResult<usize>;

    /// The encoding of a key, for a store with [`Equality::Encoded`]. Never called if every key is plain.
    fn encode_key(&self, _key: Borrowed<'_, '_, PyAny>) -> PyResult<Vec<u8>> {
        unreachable!("keys of this store are not encoded")
    }

    /// Whether memory may use the key itself, because keys that are equal to it in Python are equal in the
    /// store. This holds for every key of the exact type `str`, for which this is not called.
    fn is_plain_key(&self, _key: Borrowed<'_, '_, PyAny>) -> bool {
        true
    }

    /// Shows the collector what it refers to.
    fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError>;
}

/// How long a copy in memory is served without asking the store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Coherence {
    /// Until a write through the store object changes it; nobody else writes to the store.
    Trusting,
    /// Until any process changes it.
    Strict,
    /// For this time, or until a write through the store object changes it.
    Within(Nanos),
}

impl Coherence {
    /// Converts the argument `coherence`: None, "strict" or seconds.
    pub(crate) fn of(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if value.is_none() {
            return Ok(Self::Trusting);
        }
        if let Ok(name) = value.cast::<PyString>() {
            if name.to_cow()? == "strict" {
                return Ok(Self::Strict);
            }
            return Err(pyo3::exceptions::PyValueError::new_err(format!(
                "coherence must be 'strict', a number of seconds or None, not {}",
                value.repr()?
            )));
        }
        duration::interval("coherence", value).map(Self::Within)
    }

    /// Sets the argument `coherence`.
    pub(crate) fn configuration(self, arguments: &Bound<'_, PyDict>) -> PyResult<()> {
        match self {
            Self::Trusting => arguments.set_item("coherence", arguments.py().None()),
            Self::Strict => arguments.set_item("coherence", "strict"),
            Self::Within(nanos) => {
                arguments.set_item("coherence", std::time::Duration::from_nanos(nanos).as_secs_f64())
            }
        }
    }
}
