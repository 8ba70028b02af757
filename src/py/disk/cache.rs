//! `DiskCache`: the calls of `flexcache_rs.disk.Cache` that reach the store.
//!
//! Each call encodes key and value while attached to Python, and works on the store detached. Strings and
//! bytes are not copied on the way in: the call holds references to these objects, which are immutable.

#![expect(clippy::unused_self, reason = "the signatures are python-diskcache's")]

use std::ffi::{CString, OsStr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use flexcache_core::tracker::Tracker;
use flexcache_core::{Clock, Nanos};
use flexcache_disk::files::OtherWriters;
use flexcache_disk::{
    Commit, CommitObserver, DiskStore, Error, PATIENCE_TO_OPEN, Policy, Rules, TransactionId, Written, files,
};
use pyo3::exceptions::{PyRuntimeError, PyUserWarning, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::codec::{Disk, native};
use super::commit_tracker::DirectoryTracker;
use super::datum::{setting, to_object};
use super::fork::Lazy;
use super::transaction::DiskTransaction;
use super::uninterrupted::check_signals;
use super::value_files::{finish_at_exit, remove};
use super::{audit_hook, errors};
use crate::py::object::argument::truth;
use crate::py::object::did_you_mean;
use crate::py::process::clock::SystemClock;
use crate::py::process::fork;
use crate::py::process::guard::Guard;
use crate::py::process::per_process::PerProcess;
use crate::py::process::stack;

/// The least time for which opening waits for a file system that fails to lock, which may pass.
const MOMENT_FOR_LOCKS: Duration = Duration::from_secs(2);
/// How long hits are served before the store is asked whether its file was replaced, for example by a backup.
const BETWEEN_QUESTIONS: Nanos = 1_000_000_000;

/// The time between two checks for signals while waiting.
const SLICE: Duration = Duration::from_secs(1);

/// The pause between two attempts if the filesystem fails to lock.
const PAUSE: Duration = Duration::from_millis(10);

/// An open directory.
pub(super) struct OpenDirectory {
    pub(super) directory: PathBuf,
    timeout: Duration,
    /// When it was begun to open it.
    since: Instant,
    store: PerProcess<Lazy>,
    disk: OnceLock<Py<PyAny>>,
    /// The disk object, if it has its own method to remove files.
    pub(super) remover: Arc<OnceLock<Py<PyAny>>>,
    /// Whether the class of the disk object is a program's.
    has_own_files: Arc<AtomicBool>,
    pub(super) unreadable_is_missing: AtomicBool,
    /// Whether a result was computed and not stored, and the program was warned.
    has_warned: AtomicBool,
}

/// The base class of `flexcache_rs.disk.Cache`.
#[pyclass(frozen, subclass, weakref, module = "flexcache_rs._core")]
pub(crate) struct DiskCache {
    pub(super) open: OnceLock<OpenDirectory>,
    tracker: Arc<DirectoryTracker>,
    /// When the store was last asked whether the open file is still the directory's.
    asked: AtomicU64,
    rules: Guard<Arc<Rules>>,
}

/// The generation of a store, as a hit needs it.
#[cfg(not(Py_GIL_DISABLED))]
#[inline(always)]
#[expect(unsafe_code, reason = "the GIL keeps other threads out")]
fn generation_now(_py: Python<'_>, store: &DiskStore) -> Option<u64> {
    // SAFETY: the token proves that this thread holds the GIL, and the call does not release it.
    unsafe { store.generation_alone() }
}

#[cfg(Py_GIL_DISABLED)]
#[inline]
fn generation_now(_py: Python<'_>, store: &DiskStore) -> Option<u64> {
    store.generation()
}

impl DiskCache {
    pub(super) fn opened(&self) -> PyResult<&OpenDirectory> {
        self.open.get().ok_or_else(|| PyRuntimeError::new_err("the cache is not open: __init__ has not run"))
    }

    pub(super) fn store(&self, py: Python<'_>) -> PyResult<Arc<Lazy>> {
        let open = self.opened()?;
        let lazy = open.store.get(py);
        if lazy.get().is_none() {
            let remover = Arc::clone(&open.remover);
            let remove = move |directory: &Path, name: &str| remove(&remover, directory, name);
            lazy.get_or_init(|| {
                let store = DiskStore::with_remove(&open.directory, Box::new(remove))
                    .with_own_files(Arc::clone(&open.has_own_files));
                store.observed_by(Arc::clone(&self.tracker) as Arc<dyn CommitObserver>)
            });
            fork::register(py, &lazy);
            audit_hook::watch(py);
            finish_at_exit(py);
        }
        Ok(lazy)
    }

    /// The disk object, which encodes keys and values and may be the user's. Checks that the stack has room
    /// to call it.
    pub(super) fn disk<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        stack::check(stack::Call::Any)?;
        let disk = self.opened()?.disk.get();
        Ok(disk
            .ok_or_else(|| PyRuntimeError::new_err("the cache is not open: __init__ has not run"))?
            .bind(py))
    }

    pub(super) fn rules(&self, py: Python<'_>) -> PyResult<Arc<Rules>> {
        Ok(self.rules.with(py, |rules| Arc::clone(rules))?)
    }

    /// Works on the store without the GIL, and waits for other writers: up to the timeout, or
    /// until a signal if `retry`. A call that finds the disk full is repeated if there is room after all.
    pub(super) fn wait<R: Send>(
        &self,
        py: Python<'_>,
        retry: bool,
        call: impl Fn(&DiskStore, Duration) -> Result<R, Error> + Send + Sync,
    ) -> PyResult<R> {
        self.wait_once(py, retry, |store, patience| match call(store, patience) {
            // In a transaction, the block has to be repeated.
            Err(error) if error.is_disk_full() && !store.in_transaction() && store.make_room(patience) => {
                call(store, patience)
            }
            done => done,
        })
    }

    /// As `wait`, for a call that must not be repeated on a full disk.
    pub(super) fn wait_once<R: Send>(
        &self,
        py: Python<'_>,
        retry: bool,
        call: impl Fn(&DiskStore, Duration) -> Result<R, Error> + Send + Sync,
    ) -> PyResult<R> {
        let timeout = self.opened()?.timeout;
        let patience = if retry { Duration::MAX } else { timeout };
        self.wait_up_to(py, patience, patience, call)
    }

    /// As `wait`, but waits longer for other processes that open the directory at the same time. All steps of opening
    /// together wait for a file system that does not lock for at most the timeout, or a moment if that is shorter.
    fn wait_to_open<R: Send>(
        &self,
        py: Python<'_>,
        call: impl Fn(&DiskStore, Duration) -> Result<R, Error> + Send + Sync,
    ) -> PyResult<R> {
        let open = self.opened()?;
        let for_locks = open.timeout.max(MOMENT_FOR_LOCKS).saturating_sub(open.since.elapsed());
        self.wait_up_to(py, PATIENCE_TO_OPEN, for_locks, call)
    }

    /// Waits up to `patience` for other writers, and up to `for_locks` for a file system that does not lock, or until a
    /// signal.
    fn wait_up_to<R: Send>(
        &self,
        py: Python<'_>,
        patience: Duration,
        for_locks: Duration,
        call: impl Fn(&DiskStore, Duration) -> Result<R, Error> + Send + Sync,
    ) -> PyResult<R> {
        let begin = Instant::now();
        let mut slice = patience.min(for_locks).min(SLICE);
        loop {
            // A signal handler may have forked, so look again each time.
            let store = self.store(py)?;
            let Some(store) = store.get() else {
                return Err(PyRuntimeError::new_err("the cache is not open"));
            };
            let error = match py.detach(|| call(store, slice)) {
                Ok(result) => return Ok(result),
                Err(error) => error,
            };
            let limit = if error.is_failed_lock() { for_locks } else { patience };
            let left = limit.saturating_sub(begin.elapsed());
            match error {
                Error::Busy if !left.is_zero() => {}
                Error::NoLock(_) if !left.is_zero() => {
                    py.detach(|| std::thread::sleep(PAUSE.min(left)));
                }
                error => return Err(errors::raised_in(py, error, store.directory())),
            }
            check_signals(py)?;
            slice = left.min(SLICE);
        }
    }

    /// As `wait`, for a call that writes. Returns its result.
    pub(super) fn write<R: Send>(
        &self,
        py: Python<'_>,
        retry: bool,
        call: impl Fn(&DiskStore, Duration) -> Result<Written<R>, Error> + Send + Sync,
    ) -> PyResult<R> {
        Ok(self.wait(py, retry, call)?.result)
    }

    /// Whether the directory can be read but not written.
    pub(super) fn is_read_only(&self, py: Python<'_>) -> PyResult<bool> {
        let store = self.store(py)?;
        Ok(py.detach(|| store.get().is_some_and(DiskStore::is_read_only)))
    }

    /// Raises `PermissionError` if the directory cannot be written.
    pub(super) fn require_writable(&self, py: Python<'_>) -> PyResult<()> {
        self.wait(py, false, |store, _| store.require_writable())
    }

    /// Warns, once for each cache, that a result was computed and not stored.
    pub(super) fn warn_not_stored(&self, py: Python<'_>) -> PyResult<()> {
        let open = self.opened()?;
        if open.has_warned.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let message = CString::new(format!(
            "the cache directory {} cannot be written: results are computed and not stored",
            open.directory.display()
        ))?;
        PyErr::warn(py, &py.get_type::<PyUserWarning>(), &message, 2)
    }

    pub(super) fn tracker(&self) -> &Tracker {
        &self.tracker.0
    }

    /// The generation of the database, if reading memory is enough to tell. `None` also while a thread is in
    /// a transaction, unless `in_transactions`: the transaction may be the caller's.
    #[inline(always)]
    pub(super) fn generation(&self, py: Python<'_>, in_transactions: bool) -> Option<u64> {
        if SystemClock.reached(self.asked.load(Ordering::Relaxed).saturating_add(BETWEEN_QUESTIONS)) {
            return None;
        }
        self.look(py, in_transactions, |store| generation_now(py, store))
    }

    /// The result of `look` for the open store, under the same condition.
    #[inline(always)]
    fn look<R>(
        &self,
        py: Python<'_>,
        in_transactions: bool,
        look: impl FnOnce(&DiskStore) -> Option<R>,
    ) -> Option<R> {
        self.open.get()?.store.with(py, |store| {
            let store = store.get()?;
            if !in_transactions && store.has_transaction() { None } else { look(store) }
        })
    }

    /// The generation of the database; `None` while it is about to change.
    pub(super) fn observe(&self, py: Python<'_>, retry: bool) -> PyResult<Option<u64>> {
        let asked = SystemClock.now();
        let observed = self.wait(py, retry, DiskStore::observe)?;
        self.asked.store(asked, Ordering::Relaxed);
        Ok(observed)
    }

    /// The incarnation of the directory, if it is open, under the same condition.
    #[inline(always)]
    pub(super) fn incarnation(&self, py: Python<'_>, in_transactions: bool) -> Option<u64> {
        self.look(py, in_transactions, |store| Some(store.incarnation()))
    }

    /// The incarnation of the directory, which is opened if necessary.
    pub(super) fn incarnation_now(&self, py: Python<'_>) -> PyResult<u64> {
        let store = self.store(py)?;
        store
            .get()
            .map(DiskStore::incarnation)
            .ok_or_else(|| PyRuntimeError::new_err("the cache is not open"))
    }

    /// Whether some thread of this process is in a transaction.
    #[inline]
    pub(super) fn has_open_transaction(&self, py: Python<'_>) -> bool {
        let open = self.open.get();
        open.is_some_and(|open| {
            open.store.with(py, |store| store.get().is_some_and(DiskStore::has_transaction))
        })
    }

    /// Whether the calling thread is in a transaction.
    pub(crate) fn is_in_transaction(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.store(py)?.get().is_some_and(DiskStore::in_transaction))
    }

    /// Runs a step in a transaction of this thread. An exception undoes it. If the disk was full, the step is repeated
    /// once, because the failed commit has made room if there is any.
    pub(super) fn in_transaction<R>(&self, py: Python<'_>, step: impl Fn() -> PyResult<R>) -> PyResult<R> {
        let is_inner = self.is_in_transaction(py)?;
        match self.try_transaction(py, &step) {
            Err(error) if !is_inner && errors::is_disk_full(py, &error) => self.try_transaction(py, &step),
            done => done,
        }
    }

    fn try_transaction<R>(&self, py: Python<'_>, step: impl Fn() -> PyResult<R>) -> PyResult<R> {
        self.begin(py, true)?;
        let done = step().and_then(|result| self.end(py, true, true).map(|_| result));
        if done.is_err() {
            // If the commit itself failed, there may be nothing left to undo.
            let _ = self.end(py, false, true);
        }
        done
    }

    pub(super) fn begin(&self, py: Python<'_>, retry: bool) -> PyResult<TransactionId> {
        self.wait(py, retry, DiskStore::begin)
    }

    /// Undoes a transaction of which one block will never be left.
    pub(super) fn abandon(&self, py: Python<'_>, id: TransactionId) {
        let Some(open) = self.open.get() else { return };
        let store = open.store.get(py);
        py.detach(|| store.get().map(|store| store.abandon(id)));
    }

    /// Leaves one level of the thread's transaction. If the outermost level cannot be committed, because
    /// others read for longer than the timeout or because of a signal, it is rolled back. No transaction is
    /// open afterwards.
    pub(super) fn end(&self, py: Python<'_>, commit: bool, retry: bool) -> PyResult<Option<Commit>> {
        if !commit {
            return self.wait(py, false, |store, _| store.rollback()).map(|()| None);
        }
        let committed = self.wait_once(py, retry, DiskStore::commit);
        if committed.is_err() && self.is_in_transaction(py)? {
            self.wait(py, false, |store, _| store.rollback())?;
        }
        committed
    }
}

impl Drop for DiskCache {
    fn drop(&mut self) {
        // Closing writes the log back, so it is done without the GIL. At the end of the interpreter, no
        // thread needs the GIL.
        if let Some(open) = self.open.take() {
            Python::try_attach(|py| {
                let store = open.store.get(py);
                py.detach(|| {
                    if let Some(store) = store.get() {
                        store.close();
                    }
                });
            });
        }
    }
}

#[pymethods]
impl DiskCache {
    #[new]
    #[pyo3(signature = (*args, **_kwargs))]
    fn new(args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self {
            open: OnceLock::new(),
            tracker: DirectoryTracker::new(args.py()),
            asked: AtomicU64::new(0),
            rules: Guard::new(Arc::default(), true),
        }
    }

    /// Takes whatever the constructor takes: the class below opens the directory.
    #[pyo3(signature = (*_args, **_kwargs))]
    fn __init__(&self, _args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) {}

    /// Sets whether a value that cannot be read counts as missing.
    fn _set_unreadable_is_missing(&self, #[pyo3(from_py_with = truth)] is_missing: bool) -> PyResult<()> {
        self.opened()?.unreadable_is_missing.store(is_missing, Ordering::Relaxed);
        Ok(())
    }

    /// What to warn of, if other users can write to a directory.
    #[staticmethod]
    fn _other_writers(directory: PathBuf) -> Option<String> {
        let (who, remedy) = match files::other_writers(&directory)? {
            OtherWriters::Everybody => ("can be written by other users".to_owned(), ": chmod o-w"),
            OtherWriters::Owner(user) => (format!("belongs to user {user}"), ""),
        };
        Some(format!(
            "the cache directory {} {who}, who can change its values, and run code in this process where values are \
             pickles{remedy}",
            directory.display()
        ))
    }

    /// The settings in a directory that exists.
    fn _connect(&self, py: Python<'_>, directory: PathBuf, timeout: f64) -> PyResult<Py<PyDict>> {
        let timeout = match timeout {
            _ if timeout.is_nan() => {
                return Err(PyValueError::new_err("timeout must be a number of seconds, not nan"));
            }
            _ if timeout <= 0.0 => Duration::ZERO,
            _ => Duration::try_from_secs_f64(timeout).unwrap_or(Duration::MAX),
        };
        let open = OpenDirectory {
            directory,
            timeout,
            since: Instant::now(),
            store: PerProcess::default(),
            disk: OnceLock::new(),
            remover: Arc::default(),
            has_own_files: Arc::default(),
            unreadable_is_missing: AtomicBool::new(false),
            has_warned: AtomicBool::new(false),
        };
        if self.open.set(open).is_err() {
            return Err(PyRuntimeError::new_err("the cache is open already: __init__ must run once"));
        }
        let settings = PyDict::new(py);
        for (key, value) in self.wait_to_open(py, DiskStore::settings)? {
            settings.set_item(key, to_object(py, &value)?)?;
        }
        Ok(settings.unbind())
    }

    /// Sets what turns keys and values into what the directory holds.
    fn _use_disk(&self, disk: &Bound<'_, PyAny>) -> PyResult<()> {
        let open = self.opened()?;
        if !disk.cast::<Disk>()?.get().is_made() {
            let kind = disk.get_type();
            return Err(PyRuntimeError::new_err(format!(
                "Disk.__init__ has not been called by that of {kind}"
            )));
        }
        let own = disk.py().get_type::<Disk>().getattr("remove")?;
        if !disk.get_type().getattr("remove")?.is(&own) {
            let _ = open.remover.set(disk.clone().unbind());
        }
        let is_of_package = disk.get_type().module()?.to_string_lossy().starts_with("flexcache_rs.");
        open.has_own_files.store(native(disk).is_none() && !is_of_package, Ordering::Relaxed);
        let _ = open.disk.set(disk.clone().unbind());
        Ok(())
    }

    /// Makes what the directory does not have yet.
    fn _create(&self, py: Python<'_>, settings: &Bound<'_, PyDict>, init: Option<&str>) -> PyResult<()> {
        let settings = settings
            .iter()
            .map(|(key, value)| {
                let key: String = key.extract()?;
                let value = setting(&key, &value)?;
                Ok((key, value))
            })
            .collect::<PyResult<Vec<_>>>()?;
        let policy = Policy::new(init, None, None);
        self.wait_to_open(py, |store, patience| store.create(&settings, &policy, patience))
    }

    /// Sets what reads and writes do besides.
    fn _set_rules(
        &self,
        py: Python<'_>,
        get: Option<&str>,
        cull: Option<&str>,
        size_limit: f64,
        cull_limit: u64,
        statistics: bool,
    ) -> PyResult<()> {
        let rules =
            Arc::new(Rules { policy: Policy::new(None, get, cull), size_limit, cull_limit, statistics });
        self.rules.with(py, |current| std::mem::replace(current, rules))?;
        Ok(())
    }

    fn _setting<'py>(&self, py: Python<'py>, key: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        let value = self.wait(py, true, |store, patience| store.setting(key, patience))?;
        value.map(|value| to_object(py, &value)).transpose()
    }

    fn _change_setting(&self, key: &str, value: &Bound<'_, PyAny>, update: bool) -> PyResult<()> {
        let stored = setting(key, value)?;
        self.wait(value.py(), true, |store, patience| store.change_setting(key, &stored, update, patience))
    }

    fn _index_tags(&self, py: Python<'_>, wanted: bool) -> PyResult<()> {
        self.wait(py, true, |store, patience| store.index_tags(wanted, patience))
    }

    fn _stats(&self, py: Python<'_>, reset: bool) -> PyResult<(i64, i64)> {
        self.wait(py, true, |store, patience| store.stats(reset, patience))
    }

    #[getter]
    fn _disk(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.disk(py)?.clone().unbind())
    }

    /// The object that converts keys and values to what the directory stores.
    #[getter(disk)]
    fn disk_property(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.disk(py)?.clone().unbind())
    }

    /// The directory, as an absolute path.
    #[getter]
    fn directory(&self) -> PyResult<&OsStr> {
        Ok(self.opened()?.directory.as_os_str())
    }

    /// Begin a transaction of this thread. All of the changes in the block take effect, or none of them. Other
    /// writers wait, and writing many values takes a fraction of the time. Transactions may be nested, and the
    /// outermost one decides. An exception undoes all changes.
    ///
    /// Args:
    ///     retry: Whether to wait for other writers for longer than `timeout`.
    ///
    /// Raises:
    ///     Timeout: The write lock was not acquired within `timeout` seconds. It is raised at the start of the block.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> with cache.transact():
    /// ...     total = cache.incr("total", 3)
    /// ...     count = cache.incr("count")
    /// >>> total, count
    /// (3, 1)
    #[pyo3(signature = (retry=false, **unknown), text_signature = "($self, /, retry=False)")]
    fn transact(
        slf: Py<Self>,
        #[pyo3(from_py_with = truth)] retry: bool,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<DiskTransaction> {
        did_you_mean::refuse("transact", unknown, &["retry"])?;
        Ok(DiskTransaction::of(vec![slf], retry))
    }

    /// Whether the directory can only be read, because of its permissions or because its file system is mounted
    /// read-only. Calls that only read then work, and write no statistics and no access times. Memoized
    /// functions compute and do not store. Calls that write raise `PermissionError`.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> Cache().read_only
    /// False
    #[getter]
    fn read_only(&self, py: Python<'_>) -> PyResult<bool> {
        self.is_read_only(py)
    }

    fn _warn_not_stored(&self, py: Python<'_>) -> PyResult<()> {
        self.warn_not_stored(py)
    }

    /// Return the bytes on disk of the database and of the files of values.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> Cache().volume() < 100_000
    /// True
    fn volume(&self, py: Python<'_>) -> PyResult<i64> {
        self.wait(py, true, DiskStore::volume)
    }

    /// Close the connections of this process. The next call opens them again.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache["a"] = 1
    /// >>> cache.close()
    /// >>> cache["a"]
    /// 1
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let store = self.store(py)?;
        py.detach(|| store.get().map(DiskStore::close));
        Ok(())
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_raised))]
    fn __exit__(&self, py: Python<'_>, _raised: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        match self.open.get().and_then(|open| open.disk.get()) {
            Some(disk) => visit.call(disk),
            None => Ok(()),
        }
    }
}
