//! The store behind a cache that outlasts it: what is known of it, and the writes to it that go on.
//!
//! Every entry in memory has a stamp that says up to when it was known to be the store's. How long that holds is the
//! cache's `coherence`. Each write takes a ticket, by which another can tell that it has begun meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};

use flexcache_core::{Clock, Nanos};
use flexcache_disk::Version;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::py::disk::DiskCache;
use crate::py::object::duration;
use crate::py::object::running_python::call;
use crate::py::process::clock::SystemClock;

/// Keys are divided among so many counters of writes.
const STRIPES: usize = 64;

/// For how long an entry in memory is taken for the store's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Coherence {
    /// As long as it is there: nobody else writes to the store.
    Trusting,
    /// Until the store has changed.
    Strict,
    /// For so long.
    Within(Nanos),
}

/// The argument `coherence`: None, "strict" or seconds.
pub(crate) fn coherence(value: &Bound<'_, PyAny>) -> PyResult<Coherence> {
    if value.is_none() {
        return Ok(Coherence::Trusting);
    }
    if let Ok(name) = value.cast::<PyString>() {
        if name.to_cow()? == "strict" {
            return Ok(Coherence::Strict);
        }
        return Err(PyValueError::new_err(format!(
            "coherence must be 'strict', a number of seconds or None, not {}",
            value.repr()?
        )));
    }
    duration::interval("coherence", value).map(Coherence::Within)
}

/// Writes that have begun, and those that go on.
#[derive(Debug, Default)]
pub(crate) struct Stripe {
    begun: AtomicU64,
    active: AtomicU64,
}

impl Stripe {
    /// What a thread that is about to read the store has seen of writes.
    pub(crate) fn look(&self) -> Option<u64> {
        let begun = self.begun.load(Ordering::SeqCst);
        (self.active.load(Ordering::SeqCst) == 0).then_some(begun)
    }

    /// Whether none has begun since.
    pub(crate) fn is_quiet_since(&self, look: Option<u64>) -> bool {
        look == Some(self.begun.load(Ordering::SeqCst))
    }
}

/// A write that goes on.
pub(crate) struct Ticket<'a> {
    stripe: &'a Stripe,
    number: u64,
}

impl<'a> Ticket<'a> {
    pub(crate) fn take(stripe: &'a Stripe) -> Self {
        stripe.active.fetch_add(1, Ordering::SeqCst);
        let number = stripe.begun.fetch_add(1, Ordering::SeqCst) + 1;
        Self { stripe, number }
    }

    /// Whether no other has been at work since this one began.
    pub(crate) fn is_alone(&self) -> bool {
        self.stripe.begun.load(Ordering::SeqCst) == self.number
            && self.stripe.active.load(Ordering::SeqCst) == 1
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.stripe.active.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An entry from the store: value, seconds left to live, tags.
pub(crate) type LoadedEntry = (Py<PyAny>, Option<f64>, Py<PyTuple>);

/// A store, and what is known of it.
pub(crate) struct Tier {
    /// What the user gave.
    pub(crate) given: Py<PyAny>,
    pub(crate) coherence: Coherence,
    /// The same with all the methods that are called here.
    pub(crate) store: Py<PyAny>,
    /// Whose versions are that of the store; none where the store is asked.
    databases: Vec<Py<DiskCache>>,
    /// The version that the entries in memory are known to be of, see [`pack`].
    known: AtomicU64,
    /// The stamp of entries that are of that version.
    epoch: AtomicU64,
    stripes: Box<[Stripe]>,
}

fn pack(version: Version) -> u64 {
    u64::from(version.count) << 32 | u64::from(version.sum)
}

fn unpack(version: u64) -> Version {
    #[expect(clippy::cast_possible_truncation, reason = "the halves are taken apart")]
    Version { count: (version >> 32) as u32, sum: version as u32 }
}

impl Tier {
    pub(crate) fn new(store: &Bound<'_, PyAny>, coherence: Coherence) -> PyResult<Self> {
        let adapt = store.py().import(intern!(store.py(), "flexcache_rs._tier"))?.getattr("adapt")?;
        let adapted = call(&adapt, [store])?;
        let databases: Vec<Py<DiskCache>> = adapted.getattr("databases")?.extract()?;
        if coherence == Coherence::Strict && databases.is_empty() && adapted.getattr("version")?.is_none() {
            return Err(PyTypeError::new_err(format!(
                "coherence must be a number of seconds or None for {}, which has no version() to ask whether it changed",
                store.get_type().name()?
            )));
        }
        Ok(Self {
            given: store.clone().unbind(),
            coherence,
            store: adapted.unbind(),
            databases,
            known: AtomicU64::new(0),
            epoch: AtomicU64::new(1),
            stripes: (0..STRIPES).map(|_| Stripe::default()).collect(),
        })
    }

    pub(crate) fn stripe(&self, hash: u64) -> &Stripe {
        #[expect(clippy::cast_possible_truncation, reason = "only the low bits matter")]
        &self.stripes[hash as usize % STRIPES]
    }

    fn version(&self, py: Python<'_>) -> PyResult<Version> {
        if self.databases.is_empty() {
            let version: u64 = self.store.bind(py).call_method0(intern!(py, "version"))?.extract()?;
            #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
            return Ok(Version { count: version as u32, sum: (version >> 32) as u32 });
        }
        let mut version = Version::default();
        for database in &self.databases {
            version = version.and(database.get().version(py)?);
        }
        Ok(version)
    }

    /// The stamp for what is read from the store after this.
    #[inline]
    pub(crate) fn stamp(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(match self.coherence {
            Coherence::Trusting => 1,
            Coherence::Within(_) => SystemClock.now().max(1),
            Coherence::Strict => self.epoch_of(pack(self.version(py)?)),
        })
    }

    /// The same, where it takes no Python and does not fail.
    #[inline]
    pub(crate) fn stamp_without_python(&self, py: Python<'_>) -> Option<u64> {
        match self.coherence {
            Coherence::Strict if self.databases.is_empty() => None,
            Coherence::Strict => {
                let mut versions =
                    self.databases.iter().map(|database| database.get().version_if_watched(py));
                let version =
                    versions.try_fold(Version::default(), |sum, version| Some(sum.and(version?)))?;
                Some(self.epoch_of(pack(version)))
            }
            // What they compare with needs no reading of a clock.
            Coherence::Trusting | Coherence::Within(_) => Some(0),
        }
    }

    /// The epoch, which ends when the version is another one.
    #[inline]
    fn epoch_of(&self, version: u64) -> u64 {
        if version != self.known.load(Ordering::Acquire) {
            // First, so that no other thread takes an old entry for one of this version.
            self.epoch.fetch_add(1, Ordering::AcqRel);
            self.known.store(version, Ordering::Release);
        }
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether what has a stamp is still the store's, whose stamp is now the other.
    #[inline]
    pub(crate) fn is_fresh(&self, stamp: u64, now: u64) -> bool {
        match self.coherence {
            Coherence::Trusting => stamp != 0,
            Coherence::Strict => stamp == now,
            Coherence::Within(bound) => stamp != 0 && !SystemClock.reached(stamp.saturating_add(bound)),
        }
    }

    /// After a write of our own: it is no reason to doubt what is in memory, if nobody else has written.
    fn note_own_write(&self, py: Python<'_>, before: u64) -> PyResult<()> {
        if self.coherence == Coherence::Strict {
            let after = self.version(py)?;
            if after.is_next_after(unpack(before)) {
                let _ = self.known.compare_exchange(before, pack(after), Ordering::AcqRel, Ordering::Acquire);
            }
        }
        Ok(())
    }

    /// Runs a call that writes to the store; what it returns.
    pub(crate) fn write<'py, R>(
        &self,
        py: Python<'py>,
        write: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<R>,
    ) -> PyResult<R> {
        let before = self.known.load(Ordering::Acquire);
        let written = write(self.store.bind(py))?;
        self.note_own_write(py, before)?;
        Ok(written)
    }

    /// Whether the calling thread is in a transaction, which may yet be undone.
    pub(crate) fn is_in_transaction(&self, py: Python<'_>) -> PyResult<bool> {
        for database in &self.databases {
            if database.get().is_in_transaction(py)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) fn load(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Option<LoadedEntry>> {
        self.store.bind(key.py()).call_method1(intern!(key.py(), "load"), (key,))?.extract()
    }

    pub(crate) fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.given)?;
        visit.call(&self.store)?;
        self.databases.iter().try_for_each(|database| visit.call(database))
    }

    /// The keyword arguments that give a cache this tier.
    pub(crate) fn configuration(&self, arguments: &Bound<'_, PyDict>) -> PyResult<()> {
        arguments.set_item("store", &self.given)?;
        match self.coherence {
            Coherence::Trusting => arguments.set_item("coherence", arguments.py().None()),
            Coherence::Strict => arguments.set_item("coherence", "strict"),
            Coherence::Within(nanos) => arguments.set_item("coherence", duration::seconds(nanos)),
        }
    }

    /// Removes everything from the store.
    pub(crate) fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.write(py, |store| store.call_method0(intern!(py, "clear"))).map(drop)
    }

    /// Removes from the store what has a tag; how many entries.
    pub(crate) fn evict_tag(&self, py: Python<'_>, tag: &str) -> PyResult<usize> {
        self.write(py, |store| store.call_method1(intern!(py, "evict_tag"), (tag,))?.extract())
    }

    /// Runs `writes` in one transaction of the store, if it has such.
    pub(crate) fn together(&self, py: Python<'_>, writes: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
        self.write(py, |store| {
            let transaction = store.call_method0(intern!(py, "transact"))?;
            transaction.call_method0(intern!(py, "__enter__"))?;
            let written = writes();
            let none = py.None();
            let (kind, error, traceback) = match &written {
                Ok(()) => (none.clone_ref(py), none.clone_ref(py), none),
                Err(error) => {
                    let traceback =
                        error.traceback(py).map_or(none, |traceback| traceback.into_any().unbind());
                    (
                        error.get_type(py).into_any().unbind(),
                        error.value(py).clone().into_any().unbind(),
                        traceback,
                    )
                }
            };
            transaction.call_method1(intern!(py, "__exit__"), (kind, error, traceback))?;
            written
        })
    }
}
