//! `Store`: what stands behind a cache in memory. Objects in, objects out; each store encodes them as it likes.
//!
//! No method is called while a lock is held, since each may run Python code and wait. Every write returns what it
//! changed, in a [`Commit`]. Whether a copy in memory may still be served is decided by its [`Stamp`] alone: a load
//! takes it before it reads, a write takes it in the order of the commits. `flexcache_core::tracker` has the argument.

use std::sync::Arc;

use flexcache_core::{Nanos, Stamp};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyDict, PyString};

use super::lease::{Lease, LeaseAnswer, LeaseRequest};
use crate::py::object::duration;
use crate::py::object::integer::shown;
use crate::py::process::clock::ClockOfSection;

/// A live entry of a store.
pub(crate) struct StoredEntry {
    pub(crate) value: Py<PyAny>,
    /// How long it has to live; `None` is for ever.
    pub(crate) seconds: Option<f64>,
    pub(crate) tags: Vec<PyBackedStr>,
}

/// What a load found, and the stamp of that, also where it found nothing.
pub(crate) struct Loaded {
    pub(crate) entry: Option<StoredEntry>,
    pub(crate) stamp: Stamp,
}

/// What a write did, and the stamp of the new state; [`Stamp::NONE`] where memory must not keep it.
pub(crate) struct Commit<R> {
    pub(crate) result: R,
    pub(crate) stamp: Stamp,
}

/// What to do where a store has a live entry under the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutMode {
    Replace,
    Add,
}

/// What a put did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutResult {
    /// Nothing: a live entry was present.
    Present,
    Inserted,
    Replaced,
    /// Nothing: `unless` said so, or the lease was not there.
    Discarded,
    /// It is stored now. The store cannot tell whether there was another.
    Stored,
}

/// Which keys a store takes for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Equality {
    /// Those that are equal in Python: 1, 1.0 and True are one key.
    Python,
    /// Those that are encoded alike.
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

/// What stands behind a cache in memory.
pub(crate) trait Store: Send + Sync {
    /// Which keys it takes for one.
    fn equality(&self) -> Equality;

    /// How many tags an entry may have.
    fn most_tags(&self) -> usize {
        usize::MAX
    }

    /// How many caches in memory stand behind each other here.
    fn chain(&self) -> usize {
        0
    }

    /// Whether a copy may be served, where that can be said without Python and without waiting; `None` elsewhere.
    fn is_live_natively(&self, py: Python<'_>, stamp: Stamp, clock: &ClockOfSection) -> Option<bool>;

    /// Whether a copy may be served.
    fn is_live(&self, py: Python<'_>, stamp: Stamp) -> PyResult<bool>;

    /// Whether anybody in this process is in a transaction of the store. No copy is served natively then.
    fn has_open_transaction(&self, _py: Python<'_>) -> bool {
        false
    }

    /// Whether the caller must neither be served from memory nor leave anything there: it is in a transaction of the
    /// store, sees its own writes, and may yet undo them.
    fn bypasses_memory(&self, py: Python<'_>) -> PyResult<bool>;

    /// Counts a lookup, where the store has counts of its own: the callers of `load` know which of their looks are one.
    fn count_lookup(&self, _py: Python<'_>, _found: bool) {}

    /// A live entry.
    fn load(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Loaded>;

    /// The stamp of what is read of a key after this.
    fn stamp(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Stamp>;

    /// Whether there is a live entry.
    fn contains(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<bool>;

    /// Stores an entry, unless `unless` is true when the write's turn has come. It is asked where no other write of this
    /// store object can come between, if the store knows such a place, and may run no Python. With a `lease`, which this
    /// store has given, the entry is stored only if that is still there, and it ends with the write.
    fn put(
        &self,
        entry: NewEntry<'_, '_>,
        mode: PutMode,
        unless: &(dyn Fn() -> bool + Sync),
        lease: Option<&Arc<dyn Lease>>,
    ) -> PyResult<Commit<PutResult>>;

    /// Where a result was computed and could not be stored: whether that is so because the store was closed meanwhile, or is
    /// only read, which the program has been warned of. It gets the result then.
    fn keeps_no_result(&self, _py: Python<'_>) -> PyResult<bool> {
        Ok(false)
    }

    /// Asks for the lease of a key, as whose only load the caller computes then.
    fn lease(&self, _key: Borrowed<'_, '_, PyAny>, _request: LeaseRequest<'_>) -> PyResult<LeaseAnswer> {
        Ok(LeaseAnswer::None)
    }

    /// Removes an entry. Whether a live one was there.
    fn remove(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Commit<bool>>;

    /// Removes an entry and returns it, if a live one was there.
    fn pop(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Commit<Option<StoredEntry>>>;

    /// Gives a live entry another time to live. Whether there was one.
    fn touch(&self, key: Borrowed<'_, '_, PyAny>, seconds: Option<f64>) -> PyResult<Commit<bool>>;

    /// Removes every entry.
    fn clear(&self, py: Python<'_>) -> PyResult<()>;

    /// Removes every entry with a tag. How many.
    fn evict_tag(&self, py: Python<'_>, tag: &str) -> PyResult<usize>;

    /// Stores or replaces entries: all of them, or none, if the store has transactions. The stamp of each.
    fn put_many(&self, py: Python<'_>, entries: &[NewEntry<'_, '_>]) -> PyResult<Vec<Stamp>>;

    /// Removes entries, under the same terms. How many live ones were there.
    fn remove_many(&self, py: Python<'_>, keys: &[Borrowed<'_, '_, PyAny>]) -> PyResult<usize>;

    /// The encoded form of a key, for a store whose equality is that. Never called where every key is plain.
    fn encode_key(&self, _key: Borrowed<'_, '_, PyAny>) -> PyResult<Vec<u8>> {
        unreachable!("keys of this store are not encoded")
    }

    /// Whether memory may use the key itself, since whatever Python takes for equal the store takes for equal too. It is of
    /// every key of the exact type `str`, for which nobody asks.
    fn is_plain_key(&self, _key: Borrowed<'_, '_, PyAny>) -> bool {
        true
    }

    /// Shows the collector what it refers to.
    fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError>;
}

/// For how long a copy in memory is served without asking the store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Coherence {
    /// As long as no write through the store object has changed it: nobody else writes to the store.
    Trusting,
    /// Until anybody has changed it.
    Strict,
    /// For so long, unless a write through the store object has changed it.
    Within(Nanos),
}

impl Coherence {
    /// From the argument `coherence`: None, "strict" or seconds.
    pub(crate) fn of(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if value.is_none() {
            return Ok(Self::Trusting);
        }
        if let Ok(name) = value.cast::<PyString>() {
            if name.to_string_lossy() == "strict" {
                return Ok(Self::Strict);
            }
            return Err(pyo3::exceptions::PyValueError::new_err(format!(
                "coherence must be 'strict', a number of seconds or None, not {}",
                shown(&value.as_borrowed())
            )));
        }
        duration::interval("coherence", value).map(Self::Within)
    }

    /// As the argument `coherence`.
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
