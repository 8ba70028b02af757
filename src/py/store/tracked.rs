//! A store that is written in Python and tracks the pushes of a server, such as that of
//! `flexcache_rs.remote`.
//!
//! Its object has a [`TrackerHandle`] as `tracker`, takes the stamp of a read before it sends the command,
//! and invalidates what it writes. Writes leave no copy in memory, since only the server knows the order of
//! writes.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use flexcache_core::{PushTracker, Stamp};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyList, PyTuple};

use super::lease::{Lease, LeaseAnswer, LeaseRequest};
use super::lease_failure;
use super::object::is_closed;
use super::push_tracker::TrackerHandle;
use super::return_threads;
use super::seam::{Commit, Equality, Loaded, NewEntry, PutMode, PutResult, Store, StoredEntry};
use super::tracked_lease::{AwaitedTrackedLease, LeaseHolder, TrackedLease};
use crate::py::process::clock::{ClockOfSection, SystemClock};
use crate::py::process::stack;

/// An entry as the object returns it: value, seconds left and tags.
type ObjectsEntry<'py> = (Py<PyAny>, Option<f64>, Bound<'py, PyAny>);

/// The object's answer to a request for a lease: the kind of answer, an object, the time when the lease
/// expires, and stamps of the keys that change when it ends.
type ObjectsLease<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, u64, Vec<u64>);

/// An entry that the object has loaded, or None.
pub(crate) struct TrackedEntry(pub(crate) Option<StoredEntry>);

impl<'py> FromPyObject<'_, 'py> for TrackedEntry {
    type Error = PyErr;

    fn extract(found: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(entry(found.extract()?)?))
    }
}

/// The result of a load of the object: an entry or None, and its stamp.
pub(crate) struct TrackedLoad(pub(crate) Loaded);

impl<'py> FromPyObject<'_, 'py> for TrackedLoad {
    type Error = PyErr;

    fn extract(loaded: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let (TrackedEntry(entry), stamp): (TrackedEntry, u64) = loaded.extract()?;
        Ok(Self(Loaded { entry, stamp: Stamp::from_bits(stamp) }))
    }
}

/// An object with a tracker.
pub(crate) struct TrackedStore {
    object: Py<PyAny>,
    tracker: Arc<PushTracker>,
}

fn entry(found: Option<ObjectsEntry<'_>>) -> PyResult<Option<StoredEntry>> {
    let Some((value, seconds, tags)) = found else { return Ok(None) };
    if tags.cast_exact::<PyTuple>().is_ok_and(PyTupleMethods::is_empty) {
        return Ok(Some(StoredEntry { value, seconds, tags: Vec::new() }));
    }
    let tags = tags.try_iter()?.map(|tag| tag?.extract::<PyBackedStr>());
    Ok(Some(StoredEntry { value, seconds, tags: tags.collect::<PyResult<_>>()? }))
}

/// The result of a write, which leaves no copy in memory.
fn commit<R>(result: R) -> Commit<R> {
    Commit { result, stamp: Stamp::NONE }
}

impl TrackedStore {
    /// The store for an object, if it is a tracked store or has one as `_tracked_store`.
    pub(crate) fn of(given: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let py = given.py();
        let object = given.getattr_opt(intern!(py, "_tracked_store"))?.unwrap_or_else(|| given.clone());
        let Some(tracker) = object.getattr_opt(intern!(py, "tracker"))? else { return Ok(None) };
        let Ok(tracker) = tracker.cast::<TrackerHandle>() else { return Ok(None) };
        Ok(Some(Self { tracker: Arc::clone(&tracker.get().0), object: object.unbind() }))
    }

    /// The object, for calling a method. Checks that the stack has room for the call.
    fn callee<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        stack::check(stack::Call::Any)?;
        Ok(self.object.bind(py))
    }
}

impl Store for TrackedStore {
    fn equality(&self) -> Equality {
        Equality::Python
    }

    #[inline]
    fn is_live_natively(&self, _py: Python<'_>, stamp: Stamp, clock: &ClockOfSection) -> Option<bool> {
        Some(self.tracker.is_live(stamp, clock))
    }

    fn is_live(&self, _py: Python<'_>, stamp: Stamp) -> PyResult<bool> {
        Ok(self.tracker.is_live(stamp, &SystemClock))
    }

    fn bypasses_memory(&self, _py: Python<'_>) -> PyResult<bool> {
        Ok(false)
    }

    fn stamp(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Stamp> {
        let py = key.py();
        Ok(Stamp::from_bits(self.callee(py)?.call_method1(intern!(py, "stamp"), (key,))?.extract()?))
    }

    fn load(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Loaded> {
        let py = key.py();
        let loaded = self.callee(py)?.call_method1(intern!(py, "load"), (key,))?;
        Ok(loaded.extract::<TrackedLoad>()?.0)
    }

    fn contains(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<bool> {
        let py = key.py();
        self.callee(py)?.call_method1(intern!(py, "contains"), (key,))?.is_truthy()
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
        if unless() {
            return Ok(commit(PutResult::Discarded));
        }
        let object = self.callee(py)?;
        let tags = PyTuple::new(py, tags.iter().map(|tag| &**tag))?;
        if let Some(lease) =
            lease.and_then(|lease| (lease.as_ref() as &dyn Any).downcast_ref::<TrackedLease>())
        {
            let stored = object
                .call_method1(intern!(py, "put_with_lease"), (key, value, seconds, tags, lease.bind(py)))?
                .is_truthy()?;
            lease.has_ended.store(stored, Ordering::Release);
            return Ok(commit(if stored { PutResult::Stored } else { PutResult::Discarded }));
        }
        if mode == PutMode::Add {
            let added = object.call_method1(intern!(py, "add"), (key, value, seconds, tags))?.is_truthy()?;
            return Ok(commit(if added { PutResult::Inserted } else { PutResult::Present }));
        }
        object.call_method1(intern!(py, "put"), (key, value, seconds, tags))?;
        Ok(commit(PutResult::Stored))
    }

    fn keeps_no_result(&self, py: Python<'_>) -> PyResult<bool> {
        is_closed(self.object.bind(py))
    }

    fn lease(&self, key: Borrowed<'_, '_, PyAny>, request: LeaseRequest<'_>) -> PyResult<LeaseAnswer> {
        let py = key.py();
        let object = self.callee(py)?;
        let tags = PyTuple::new(py, request.tags.iter().map(|tag| &**tag))?;
        let awaited = request.awaited.and_then(|awaited| {
            (awaited.as_ref() as &dyn Any).downcast_ref::<AwaitedTrackedLease>().map(|it| it.bind(py))
        });
        return_threads::await_at_end(py)?;
        let holder = Py::new(py, LeaseHolder::new(request.load))?;
        let asked = (key, request.seconds, tags, awaited, request.takes_over, &holder);
        let Some((answer, lease, expires, stamps)) =
            object.call_method1(intern!(py, "lease"), asked)?.extract::<Option<ObjectsLease<'_>>>()?
        else {
            return Ok(LeaseAnswer::None);
        };
        let stamps = stamps.into_iter().map(Stamp::from_bits).collect::<Vec<_>>();
        let tracker = Arc::clone(&self.tracker);
        Ok(match answer.extract::<PyBackedStr>()?.as_bytes() {
            b"held" => LeaseAnswer::Held(Arc::new(TrackedLease::new(&lease, holder, tracker, stamps)?)),
            b"elsewhere" => {
                LeaseAnswer::Elsewhere(Arc::new(AwaitedTrackedLease::new(&lease, tracker, stamps, expires)?))
            }
            b"failed" => {
                let failure = lease.extract::<PyBackedBytes>()?;
                LeaseAnswer::Failed(lease_failure::decode(&key, &failure, |pickled| {
                    object.call_method1(intern!(py, "loads_failure"), (pickled,)).map(Some)
                }))
            }
            _ => return Err(PyTypeError::new_err(format!("lease() returned {answer}"))),
        })
    }

    fn remove(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Commit<bool>> {
        let py = key.py();
        Ok(commit(self.callee(py)?.call_method1(intern!(py, "remove"), (key,))?.is_truthy()?))
    }

    fn pop(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Commit<Option<StoredEntry>>> {
        let py = key.py();
        Ok(commit(entry(self.callee(py)?.call_method1(intern!(py, "pop"), (key,))?.extract()?)?))
    }

    fn touch(&self, key: Borrowed<'_, '_, PyAny>, seconds: Option<f64>) -> PyResult<Commit<bool>> {
        let py = key.py();
        Ok(commit(self.callee(py)?.call_method1(intern!(py, "touch"), (key, seconds))?.is_truthy()?))
    }

    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.callee(py)?.call_method0(intern!(py, "clear")).map(drop)
    }

    fn evict_tag(&self, py: Python<'_>, tag: &str) -> PyResult<usize> {
        self.callee(py)?.call_method1(intern!(py, "evict_tag"), (tag,))?.extract()
    }

    fn put_many(&self, py: Python<'_>, entries: &[NewEntry<'_, '_>]) -> PyResult<Vec<Stamp>> {
        let given = PyList::empty(py);
        for NewEntry { key, value, seconds, tags } in entries {
            let tags = PyTuple::new(py, tags.iter().map(|tag| &**tag))?;
            given.append((key, value, seconds, tags))?;
        }
        self.callee(py)?.call_method1(intern!(py, "put_many"), (given,))?;
        Ok(vec![Stamp::NONE; entries.len()])
    }

    fn remove_many(&self, py: Python<'_>, keys: &[Borrowed<'_, '_, PyAny>]) -> PyResult<usize> {
        let keys = PyList::new(py, keys)?;
        self.callee(py)?.call_method1(intern!(py, "remove_many"), (keys,))?.extract()
    }

    fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.object)
    }
}
