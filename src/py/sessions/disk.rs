//! The backend in a directory: one session's use of `sessions.db`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flexcache_disk::{Error, Micros, Outcome, SessionError, SessionStore};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::call::SessionCall;
use super::codec::SessionCodec;
use super::errors::{of_sessions, raised};
use crate::py::object::running_python::check_signals;
use crate::py::process::clock::ahead;
use crate::py::process::fork::{self, Forkable};
use crate::py::process::mutex::Mutex;

/// How often a waiting call checks for signals.
const SLICE: Duration = Duration::from_millis(50);

impl Forkable for SessionStore {
    fn before_fork(&self) -> bool {
        self.before_fork();
        true
    }

    fn after_fork_in_parent(&self) {
        self.after_fork_in_parent();
    }

    fn after_fork_in_child(&self) {
        self.after_fork_in_child();
    }
}

/// The typed values of a directory, in one namespace, with the codec of one session.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct DiskSession {
    database: PathBuf,
    /// The store, and the process that it belongs to.
    store: Mutex<(u32, Arc<SessionStore>)>,
    namespace: Vec<u8>,
    codec: Py<SessionCodec>,
    timeout: Duration,
}

/// The time of day in microseconds, moved ahead by tests.
fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX).saturating_add_unsigned(ahead() / 1000)
}

fn new_store(py: Python<'_>, database: &Path) -> Arc<SessionStore> {
    let store = Arc::new(SessionStore::of(database));
    fork::register(py, &store);
    store
}

impl DiskSession {
    fn store(&self, py: Python<'_>) -> Arc<SessionStore> {
        let mut store = self.store.lock();
        if store.0 != std::process::id() {
            let old = std::mem::replace(&mut *store, (std::process::id(), new_store(py, &self.database)));
            // The old store belongs to the parent process.
            std::mem::forget(old);
        }
        Arc::clone(&store.1)
    }

    #[cold]
    fn failed(&self, py: Python<'_>, error: SessionError) -> PyErr {
        let database = self.database.display();
        match error {
            SessionError::Operation(error) => raised(py, &error),
            SessionError::Version(-1) => of_sessions(
                py,
                "SessionError",
                format!("{database} is a database of another program, and sessions do not write to it"),
            ),
            SessionError::Version(version) => of_sessions(
                py,
                "SessionError",
                format!(
                    "{database} has version {version} of sessions, which this flexcache-rs does not support"
                ),
            ),
            SessionError::Disk(Error::Busy) => of_sessions(
                py,
                "TimedOut",
                format!(
                    "the write lock of {database} was not acquired within {} seconds; nothing was changed",
                    self.timeout.as_secs_f64()
                ),
            ),
            SessionError::Disk(Error::OutOfMemory) => PyMemoryError::new_err("there is not enough memory"),
            SessionError::Disk(Error::NoTransaction) => {
                of_sessions(py, "ClosedError", "this thread has no transaction".into())
            }
            SessionError::Disk(Error::InDoubt(error)) => of_sessions(
                py,
                "OutcomeUnknown",
                format!("{database}: {error}; the write may have been stored"),
            ),
            // A store that replaces unavailable ones must not hide a mistake of the program.
            SessionError::Disk(Error::HeldByThisThread) => {
                of_sessions(py, "SessionError", format!("{}: {database}", Error::HeldByThisThread))
            }
            SessionError::Disk(error @ Error::File { .. }) => {
                of_sessions(py, "Unavailable", error.to_string())
            }
            SessionError::Disk(error) => of_sessions(py, "Unavailable", format!("{database}: {error}")),
        }
    }

    /// Works on the store detached, and waits for other writers up to the timeout.
    fn wait<R: Send>(
        &self,
        py: Python<'_>,
        call: impl Fn(&SessionStore, Duration) -> Outcome<R> + Send + Sync,
    ) -> PyResult<R> {
        let begin = Instant::now();
        let mut patience = SLICE.min(self.timeout);
        let mut has_made_room = false;
        loop {
            // A signal handler may have forked, so look again each time.
            let store = self.store(py);
            match py.detach(|| call(&store, patience)) {
                Ok(result) => return Ok(result),
                Err(SessionError::Disk(error))
                    if error.is_disk_full() && !has_made_room && store.make_room(patience) =>
                {
                    has_made_room = true;
                }
                Err(SessionError::Disk(Error::Busy)) if begin.elapsed() < self.timeout => {
                    check_signals(py)?;
                    patience = SLICE.min(self.timeout.saturating_sub(begin.elapsed()));
                }
                Err(error) => return Err(self.failed(py, error)),
            }
        }
    }
}

#[pymethods]
impl DiskSession {
    /// Opens a database, which is made if there is none.
    #[new]
    fn new(
        py: Python<'_>,
        database: PathBuf,
        namespace: &str,
        codec: Py<SessionCodec>,
        timeout: f64,
    ) -> PyResult<Self> {
        let store = new_store(py, &database);
        let timeout = Duration::try_from_secs_f64(timeout).unwrap_or(Duration::MAX);
        let session = Self {
            database,
            store: Mutex::new((std::process::id(), store)),
            namespace: namespace.as_bytes().to_vec(),
            codec,
            timeout,
        };
        session.wait(py, |store, _| store.open())?;
        Ok(session)
    }

    /// Return a number that changes with every write to the database.
    fn version(&self, py: Python<'_>) -> PyResult<u64> {
        let version = self.wait(py, SessionStore::version)?;
        Ok(u64::from(version.count) << 32 | u64::from(version.sum))
    }

    /// Make a call, in the thread's transaction if there is one.
    fn execute<'py>(&self, py: Python<'py>, call: &Bound<'py, SessionCall>) -> PyResult<Bound<'py, PyAny>> {
        let op = &call.get().op;
        let reply = self.wait(py, |store, patience| store.apply(&self.namespace, op, now, patience))?;
        self.codec.get().reply(py, &reply)
    }

    /// Make several calls, which all write or all read. Writes are one transaction. Returns the result of each
    /// call, or its exception. Does not wait for other writers.
    fn execute_many<'py>(
        &self,
        py: Python<'py>,
        calls: Vec<Bound<'py, SessionCall>>,
        writes: bool,
    ) -> PyResult<Bound<'py, PyList>> {
        let ops: Vec<_> = calls.iter().map(|call| &call.get().op).collect();
        let store = self.store(py);
        let replies = py.detach(|| {
            if writes {
                let apply = || store.apply_writes(&self.namespace, &ops, now, Duration::ZERO);
                return match apply() {
                    Err(SessionError::Disk(error))
                        if error.is_disk_full() && store.make_room(Duration::ZERO) =>
                    {
                        apply()
                    }
                    done => done,
                };
            }
            Ok(ops.iter().map(|op| store.apply(&self.namespace, op, now, self.timeout)).collect())
        });
        let results = PyList::empty(py);
        for reply in replies.map_err(|error| self.failed(py, error))? {
            let result = match reply {
                Ok(reply) => self.codec.get().reply(py, &reply),
                Err(error) => Err(self.failed(py, error)),
            };
            match result {
                Ok(result) => results.append((result, py.None()))?,
                Err(error) => results.append((py.None(), error))?,
            }
        }
        Ok(results)
    }

    /// Begin a transaction of the calling thread, or one inside its transaction.
    fn begin(&self, py: Python<'_>) -> PyResult<()> {
        self.wait(py, SessionStore::begin)
    }

    /// Commit the thread's transaction. An inner transaction leaves its changes to the outer one.
    fn commit(&self, py: Python<'_>) -> PyResult<()> {
        let store = self.store(py);
        let committed = py.detach(|| store.commit(self.timeout));
        committed.map_err(|error| self.failed(py, error))
    }

    /// Roll back the thread's transaction, or only the inner one.
    fn roll_back(&self, py: Python<'_>) -> PyResult<()> {
        let store = self.store(py);
        let done = py.detach(|| store.rollback());
        done.map_err(|error| self.failed(py, error))
    }

    /// Return how many transactions of the calling thread are open, one inside the other.
    fn depth(&self, py: Python<'_>) -> usize {
        self.store(py).depth()
    }

    /// Close the database. The next call opens it again.
    fn close(&self, py: Python<'_>) {
        let store = self.store(py);
        py.detach(|| store.close());
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.codec)
    }
}
