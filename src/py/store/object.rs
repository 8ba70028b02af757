//! A store that is an object of the user, with the methods of `flexcache_rs.Store`.
//!
//! The order in which its writes take effect is unknown. So a write leaves no copy in memory if another one of its stripe
//! of keys was in flight meanwhile.

use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use flexcache_core::tracker::{Stamp, Tracker};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use super::lease::{Lease, LeaseAnswer, LeaseRequest};
use super::rule_switch::is_off;
use super::seam::{Coherence, Commit, Equality, Loaded, NewEntry, PutMode, PutResult, Store, StoredEntry};
use super::tracked_writes::TrackedWrites;
use super::watches::{Watch, Watches};
use crate::py::object::argument::wrong_type;
use crate::py::object::integer::shown;
use crate::py::object::key::python_hash;
use crate::py::object::tags;
use crate::py::process::clock::ClockOfSection;
use crate::py::process::mutex::Mutex;
use crate::py::process::stack;

/// The methods that every store must have.
const REQUIRED: [&str; 4] = ["load", "save", "remove", "clear"];

/// Methods that are used if an object has them.
const OPTIONAL: [&str; 6] = ["add", "pop", "contains", "touch", "evict_tag", "transact"];

/// Whether an object's attribute `closed` is True. In another object `closed` may be a method, for instance.
pub(super) fn is_closed(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let closed = object.getattr_opt(intern!(object.py(), "closed"))?;
    Ok(closed.is_some_and(|closed| closed.extract().unwrap_or(false)))
}

/// The effect of a write on the loads of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The write comes after them: their results are discarded.
    Replaces,
    /// The write is the result of one of them, and discards the others if it is stored.
    Lands,
    /// None.
    Touches,
}

/// An entry as `load` and `pop` return it.
type ObjectsEntry<'py> = (Py<PyAny>, Option<f64>, Bound<'py, PyAny>);

/// The store for an object of the user.
pub(crate) struct ObjectStore {
    object: Py<PyAny>,
    tracker: Arc<TrackedWrites>,
    /// The loads of the caches in front of it.
    watches: Arc<Watches>,
    /// Whether a cache must see the writes of others, so that `version()` has to be called.
    has_version: AtomicBool,
    known_version: AtomicU64,
    /// The optional methods that it has.
    optional: Vec<&'static str>,
}

/// The stores that are alive, by the address of their object. A store keeps its object alive, so the address of a live
/// store cannot belong to another object.
static ALIVE: Mutex<Option<HashMap<usize, Weak<ObjectStore>>>> = Mutex::new(None);

impl ObjectStore {
    /// The store of an object: one for all caches in front of it, so that each sees the writes of the others.
    ///
    /// # Errors
    ///
    /// `TypeError` for an object that is not a store, or has no `version()` although `coherence` needs it.
    pub(crate) fn shared(object: &Bound<'_, PyAny>, coherence: Coherence) -> PyResult<Arc<Self>> {
        let made = Arc::new(Self::new(object, coherence)?);
        let address = object.as_ptr() as usize;
        let there = {
            let mut alive = ALIVE.lock();
            let alive = alive.get_or_insert_default();
            alive.retain(|_, store| store.strong_count() > 0);
            match alive.get(&address).and_then(Weak::upgrade) {
                Some(there) => Some(there),
                None => {
                    alive.insert(address, Arc::downgrade(&made));
                    None
                }
            }
        };
        // `made` is dropped here at the earliest, so its references are dropped without the lock.
        let store = there.unwrap_or(made);
        if coherence == Coherence::Strict {
            store.has_version.store(true, Ordering::Release);
        }
        Ok(store)
    }

    fn new(object: &Bound<'_, PyAny>, coherence: Coherence) -> PyResult<Self> {
        let has =
            |name: &str| object.getattr_opt(name).map(|method| method.is_some_and(|it| it.is_callable()));
        for name in REQUIRED {
            if !has(name)? {
                let shown = shown(&object.as_borrowed());
                let meant = if object.is_instance_of::<PyString>() {
                    format!("; did you mean store=flexcache_rs.disk.Cache({shown})?")
                } else {
                    String::new()
                };
                return Err(PyTypeError::new_err(format!(
                    "store must have the methods load, save, remove and clear; {shown} has no {name}{meant}"
                )));
            }
        }
        if coherence == Coherence::Strict && !has("version")? {
            return Err(PyTypeError::new_err(format!(
                "coherence must be a number of seconds or None for {}, which has no version() method",
                object.get_type().name()?
            )));
        }
        let mut optional = Vec::new();
        for name in OPTIONAL {
            if has(name)? {
                optional.push(name);
            }
        }
        Ok(Self {
            object: object.clone().unbind(),
            tracker: TrackedWrites::new(object.py()),
            watches: Arc::default(),
            has_version: AtomicBool::new(false),
            known_version: AtomicU64::new(0),
            optional,
        })
    }

    fn has(&self, method: &str) -> bool {
        self.optional.contains(&method)
    }

    fn hash(key: Borrowed<'_, '_, PyAny>) -> PyResult<u64> {
        Ok(python_hash(&key)?.cast_unsigned() as u64)
    }

    fn stripe_of(key: Borrowed<'_, '_, PyAny>) -> PyResult<usize> {
        Ok(Tracker::stripe_of(Self::hash(key)?))
    }

    /// Starts a generation if the store's version has changed.
    fn ask_version(&self, py: Python<'_>) -> PyResult<()> {
        if self.asks_version() {
            let version = self.version(py)?;
            if version != self.known_version.load(Ordering::Acquire) {
                // The generation starts first, so that no other thread takes an old copy for one of this
                // version.
                self.tracker.start_generation();
                self.known_version.store(version, Ordering::Release);
            }
        }
        Ok(())
    }

    #[inline]
    fn asks_version(&self) -> bool {
        self.has_version.load(Ordering::Acquire)
    }

    /// The object, for calling a method. Checks that the stack has room for the call.
    fn callee<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        stack::check(stack::Call::Any)?;
        Ok(self.object.bind(py))
    }

    fn version(&self, py: Python<'_>) -> PyResult<u64> {
        self.callee(py)?.call_method0(intern!(py, "version"))?.extract()
    }

    /// Runs a write of one key. `has_written` tells from its result whether something was written.
    fn write<'py, R>(
        &self,
        key: Borrowed<'_, 'py, PyAny>,
        kind: Kind,
        write: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<R>,
        has_written: impl FnOnce(&R) -> bool,
    ) -> PyResult<Commit<R>> {
        let py = key.py();
        let hash = Self::hash(key)?;
        let stripe = Tracker::stripe_of(hash);
        self.ask_version(py)?;
        let before = self.known_version.load(Ordering::Acquire);
        if kind == Kind::Replaces {
            self.watches.written(key, hash)?;
        }
        let (written, stamp) = self.tracker.run(stripe, || self.callee(py).and_then(write));
        let result = written?;
        let has_written = has_written(&result);
        if kind == Kind::Replaces || (kind == Kind::Lands && has_written) {
            // Also discards the loads that began during the write.
            self.watches.written(key, hash)?;
        }
        if self.asks_version() && has_written {
            let after = self.version(py)?;
            if after == before.wrapping_add(1) {
                // There was exactly one write in between, which is ours.
                let (known, success, failure) = (&self.known_version, Ordering::AcqRel, Ordering::Acquire);
                let _ = known.compare_exchange(before, after, success, failure);
            }
        }
        Ok(Commit { result, stamp })
    }

    /// Runs a write that may concern any key. Calls `discard`, which discards the affected loads, before and
    /// after it.
    fn write_all<R>(
        &self,
        py: Python<'_>,
        discard: impl Fn() -> PyResult<()>,
        write: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<R>,
    ) -> PyResult<R> {
        discard()?;
        let writing = self.tracker.write_all();
        let written = self.callee(py).and_then(write);
        drop(writing);
        discard()?;
        written
    }

    /// Runs `writes` in one transaction, if the store has transactions. All of them take effect at its end, so each is
    /// in flight until then.
    fn transact(&self, py: Python<'_>, writes: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
        if !self.has("transact") {
            return writes();
        }
        let transaction = self.callee(py)?.call_method0(intern!(py, "transact"))?;
        let _writing = self.tracker.write_all();
        inside(&transaction, writes)
    }

    /// What a method of the object has found.
    fn entry(method: &str, found: &Bound<'_, PyAny>) -> PyResult<Option<StoredEntry>> {
        if found.is_none() {
            return Ok(None);
        }
        let (value, seconds, tags) = found.extract::<ObjectsEntry<'_>>().map_err(|cause| {
            let allowed = "a tuple of the value, the seconds that it has left or None, and its tags, or None";
            let error = wrong_type(&format!("the result of the store's {method}()"), allowed, found);
            error.set_cause(found.py(), Some(cause));
            error
        })?;
        Ok(Some(StoredEntry { value, seconds, tags: tags::tags(Some(tags.as_borrowed()))? }))
    }

    fn find(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Option<StoredEntry>> {
        let py = key.py();
        Self::entry("load", &self.callee(py)?.call_method1(intern!(py, "load"), (key,))?)
    }
}

impl Store for ObjectStore {
    fn equality(&self) -> Equality {
        Equality::Python
    }

    #[inline]
    fn is_live_natively(&self, _py: Python<'_>, stamp: Stamp, _clock: &ClockOfSection) -> Option<bool> {
        if self.asks_version() { None } else { Some(self.tracker.is_live(stamp)) }
    }

    fn is_live(&self, py: Python<'_>, stamp: Stamp) -> PyResult<bool> {
        self.ask_version(py)?;
        Ok(self.tracker.is_live(stamp))
    }

    fn bypasses_memory(&self, _py: Python<'_>) -> PyResult<bool> {
        Ok(false)
    }

    fn stamp(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Stamp> {
        self.ask_version(key.py())?;
        Ok(self.tracker.stamp(Self::stripe_of(key)?))
    }

    fn load(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Loaded> {
        // The stamp is taken before the read, so that a write in between invalidates it.
        let mut stamp = self.stamp(key)?;
        let entry = self.find(key)?;
        if is_off("fill_stamp") {
            stamp = self.stamp(key)?;
        }
        Ok(Loaded { entry, stamp })
    }

    fn keeps_no_result(&self, py: Python<'_>) -> PyResult<bool> {
        is_closed(self.object.bind(py))
    }

    /// Any number of loads can have a lease at the same time: it only watches for writes through this store.
    fn lease(&self, key: Borrowed<'_, '_, PyAny>, _request: LeaseRequest<'_>) -> PyResult<LeaseAnswer> {
        Ok(LeaseAnswer::Held(Arc::new(self.watches.watch(key, Self::hash(key)?)?)))
    }

    fn contains(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<bool> {
        if !self.has("contains") {
            return Ok(self.find(key)?.is_some());
        }
        self.callee(key.py())?.call_method1(intern!(key.py(), "contains"), (key,))?.is_truthy()
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
        let given = PyTuple::new(py, tags.iter().map(|tag| &**tag))?;
        let watch = lease.and_then(|lease| (lease.as_ref() as &dyn Any).downcast_ref::<Watch>());
        let put_now = |object: &Bound<'_, PyAny>| {
            let may_land = watch.map_or(Ok(true), |watch| watch.may_land(py, tags))?;
            if unless() || !may_land {
                return Ok(PutResult::Discarded);
            }
            let tags = given;
            if mode == PutMode::Add && self.has("add") {
                let added =
                    object.call_method1(intern!(py, "add"), (key, value, seconds, tags))?.is_truthy()?;
                return Ok(if added { PutResult::Inserted } else { PutResult::Present });
            }
            if mode == PutMode::Add && self.find(key)?.is_some() {
                return Ok(PutResult::Present);
            }
            object.call_method1(intern!(py, "save"), (key, value, seconds, tags))?;
            Ok(if mode == PutMode::Add { PutResult::Inserted } else { PutResult::Stored })
        };
        let put = |object: &Bound<'_, PyAny>| {
            if watch.is_none() || !self.has("transact") {
                return put_now(object);
            }
            // Other writes come either before the transaction, and discard the load, or after it, and replace
            // the value.
            let mut result = PutResult::Discarded;
            let transaction = object.call_method0(intern!(py, "transact"))?;
            inside(&transaction, || {
                result = put_now(object)?;
                Ok(())
            })?;
            Ok(result)
        };
        let kind = if lease.is_some() { Kind::Lands } else { Kind::Replaces };
        self.write(key, kind, put, |&result| !matches!(result, PutResult::Present | PutResult::Discarded))
    }

    fn remove(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Commit<bool>> {
        let remove =
            |object: &Bound<'_, PyAny>| object.call_method1(intern!(key.py(), "remove"), (key,))?.is_truthy();
        self.write(key, Kind::Replaces, remove, |&removed| removed)
    }

    fn pop(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Commit<Option<StoredEntry>>> {
        let py = key.py();
        let pop = |object: &Bound<'_, PyAny>| {
            if self.has("pop") {
                return Self::entry("pop", &object.call_method1(intern!(py, "pop"), (key,))?);
            }
            let found = self.find(key)?;
            let removed = object.call_method1(intern!(py, "remove"), (key,))?.is_truthy()?;
            Ok(found.filter(|_| removed))
        };
        self.write(key, Kind::Replaces, pop, Option::is_some)
    }

    fn touch(&self, key: Borrowed<'_, '_, PyAny>, seconds: Option<f64>) -> PyResult<Commit<bool>> {
        let py = key.py();
        let touch = |object: &Bound<'_, PyAny>| {
            if self.has("touch") {
                return object.call_method1(intern!(py, "touch"), (key, seconds))?.is_truthy();
            }
            let Some(found) = self.find(key)? else { return Ok(false) };
            let tags = PyTuple::new(py, found.tags.iter().map(|tag| &**tag))?;
            object.call_method1(intern!(py, "save"), (key, found.value, seconds, tags))?;
            Ok(true)
        };
        self.write(key, Kind::Touches, touch, |&touched| touched)
    }

    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        let discard = || self.watches.cleared(py);
        self.write_all(py, discard, |object| object.call_method0(intern!(py, "clear")).map(drop))
    }

    fn evict_tag(&self, py: Python<'_>, tag: &str) -> PyResult<usize> {
        if !self.has("evict_tag") {
            return Err(PyTypeError::new_err(format!(
                "evict_tag() needs a store with an evict_tag() method, and {} has none",
                self.object.bind(py).repr()?
            )));
        }
        let discard = || self.watches.evicting(py, tag);
        self.write_all(py, discard, |object| object.call_method1(intern!(py, "evict_tag"), (tag,))?.extract())
    }

    fn put_many(&self, py: Python<'_>, entries: &[NewEntry<'_, '_>]) -> PyResult<Vec<Stamp>> {
        let mut stamps = Vec::with_capacity(entries.len());
        self.transact(py, || {
            for entry in entries {
                stamps.push(self.put(*entry, PutMode::Replace, &|| false, None)?.stamp);
            }
            Ok(())
        })?;
        Ok(stamps)
    }

    fn remove_many(&self, py: Python<'_>, keys: &[Borrowed<'_, '_, PyAny>]) -> PyResult<usize> {
        let mut removed = 0;
        self.transact(py, || {
            for key in keys {
                removed += usize::from(self.remove(*key)?.result);
            }
            Ok(())
        })?;
        Ok(removed)
    }

    fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.object)
    }
}

/// Runs `writes` inside a context manager.
fn inside(manager: &Bound<'_, PyAny>, writes: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
    let py = manager.py();
    manager.call_method0(intern!(py, "__enter__"))?;
    let written = writes();
    let none = py.None();
    let (kind, error, traceback) = match &written {
        Ok(()) => (none.clone_ref(py), none.clone_ref(py), none),
        Err(error) => {
            let traceback = error.traceback(py).map_or(none, |traceback| traceback.into_any().unbind());
            (error.get_type(py).into_any().unbind(), error.value(py).clone().into_any().unbind(), traceback)
        }
    };
    manager.call_method1(intern!(py, "__exit__"), (kind, error, traceback))?;
    written
}
