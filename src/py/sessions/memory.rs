//! The backend in memory: `MemoryKeys`, which sessions share, and the calls of one session.
//!
//! Single values that are exact str, and whose cell is plain, are kept as they are: no code of the user's runs when one is
//! looked at or dropped, so that may happen under the lock.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flexcache_containers::image::{self, ImageEntry, Times};
use flexcache_containers::memory::{Held, MemoryStore, MemoryTransaction, Value};
use flexcache_containers::operation::{Cell, Reply};
use flexcache_containers::{Error, Number};
use flexcache_core::{Clock, Limits, Lookup};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

use super::call::SessionCall;
use super::codec::SessionCodec;
use super::errors::raised;
use crate::py::memory::any_policy::{AnyPolicy, PolicyName};
use crate::py::object::running_python::{attached, decref};
use crate::py::process::clock::{SystemClock, ahead};
use crate::py::process::guard::Guard;
use crate::py::process::mutex::Mutex;

/// The bytes of a str besides its characters.
const TEXT: u64 = 56;

/// The store of all keys.
type Store = MemoryStore<HeldText, AnyPolicy>;

/// A str whose cell is its UTF-8.
struct HeldText(Py<PyString>);

impl Clone for HeldText {
    fn clone(&self) -> Self {
        Python::attach(|py| Self(self.0.clone_ref(py)))
    }
}

impl Held for HeldText {
    fn cell(&self) -> Cell {
        // The UTF-8 was made when the str was stored, and Python caches it.
        Python::attach(|py| self.0.bind(py).to_str().map(|text| text.as_bytes().to_vec()).unwrap_or_default())
    }

    fn bytes(&self) -> u64 {
        let len = Python::attach(|py| self.0.bind(py).to_str().map_or(0, str::len));
        TEXT + u64::try_from(len).unwrap_or(u64::MAX)
    }
}

/// The keys in memory, of all namespaces. The sessions of one URL share them.
#[pyclass(frozen, weakref, module = "flexcache_rs._core")]
pub(crate) struct MemoryKeys(Arc<Guard<Store>>);

#[pymethods]
impl MemoryKeys {
    /// At most so many keys, and bytes that they take; 0 means any number.
    #[new]
    fn new(py: Python<'_>, max_items: u64, max_bytes: u64, policy: &str) -> PyResult<Self> {
        let name = PolicyName::ALL.into_iter().find(|name| name.as_str() == policy);
        let name = name.ok_or_else(|| PyValueError::new_err(format!("there is no policy {policy:?}")))?;
        let policy = AnyPolicy::named(name).map_err(|_| raised(py, &Error::OutOfMemory))?;
        Ok(Self(Arc::new(Guard::new(MemoryStore::new(Limits::new(max_items, max_bytes), policy), true))))
    }

    /// The names of the policies.
    #[classattr]
    fn policies() -> Vec<&'static str> {
        PolicyName::ALL.map(PolicyName::as_str).to_vec()
    }

    /// The approximate number of bytes of the keys and their values. None without `max_bytes`.
    #[getter]
    fn bytes(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        Ok(self.0.lock(py)?.bytes())
    }

    /// Return the keys of a namespace, for one session.
    fn session(&self, namespace: &str, codec: Py<SessionCodec>) -> MemorySession {
        MemorySession { keys: Arc::clone(&self.0), namespace: namespace.as_bytes().into(), codec }
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.0.lock(py)?.len())
    }

    /// The number of evicted keys.
    #[getter]
    fn evictions(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.0.lock(py)?.evictions())
    }

    /// The number of keys of limiters, and the number of leases.
    #[getter]
    fn timed(&self, py: Python<'_>) -> PyResult<(usize, usize)> {
        Ok(self.0.lock(py)?.timed())
    }

    /// The number of the last write.
    #[getter]
    fn writes(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.0.lock(py)?.writes())
    }

    /// Return all live entries of one moment in blocks of about `size` bytes, their number, and the number of the
    /// last write before that moment.
    fn image<'py>(&self, py: Python<'py>, size: usize) -> PyResult<(Vec<Bound<'py, PyBytes>>, usize, u64)> {
        let times = times();
        let (entries, writes) = {
            let keys = self.0.lock(py)?;
            (keys.image(&SystemClock), keys.writes())
        };
        let entries: Vec<_> = entries.into_iter().map(ImageEntry::settled).collect();
        let blocks = py.detach(|| image::blocks(&entries, times, size));
        Ok((blocks.iter().map(|block| PyBytes::new(py, block)).collect(), entries.len(), writes))
    }

    /// Store the entries of blocks, all or none. Returns the number of entries that have not expired.
    fn restore(&self, py: Python<'_>, blocks: Vec<Bound<'_, PyBytes>>) -> PyResult<usize> {
        let times = times();
        let mut entries = Vec::new();
        for block in &blocks {
            let damaged = |_| PyValueError::new_err("the image is damaged");
            entries.extend(image::entries(block.as_bytes(), times).map_err(damaged)?);
        }
        let count = entries.len();
        let restored = self.0.lock(py)?.restore(entries, &SystemClock);
        restored.map(|()| count).map_err(|error| raised(py, &error))
    }

    /// Recount the structure.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.0.lock(py)?.check().map_err(pyo3::exceptions::PyAssertionError::new_err)
    }
}

/// The keys of one namespace, with the codec of one session.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct MemorySession {
    keys: Arc<Guard<Store>>,
    namespace: Arc<[u8]>,
    codec: Py<SessionCodec>,
}

fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The present time, which tests may move ahead.
fn times() -> Times {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let wall = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
    Times { clock: SystemClock.now() / 1000, wall: wall.saturating_add(ahead() / 1000) }
}

impl MemorySession {
    /// The value of a key.
    #[inline]
    pub(super) fn value(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        match key.cast_exact::<PyString>() {
            Ok(text) => self.value_of(key.py(), super::codec::text_of(&text)?.as_bytes()),
            // Before the lock, since the error for a wrong key runs Python code.
            Err(_) => attached(key.py(), |py| self.value_of(py, &super::codec::key(&key)?)),
        }
    }

    #[inline]
    fn value_of(&self, py: Python<'_>, key: &[u8]) -> PyResult<Option<Py<PyAny>>> {
        let whole = match self.keys.lock(py)?.get(&self.namespace, key, &SystemClock) {
            Lookup::Hit(Value::Held(held)) => return Ok(Some(held.0.clone_ref(py).into_any())),
            Lookup::Hit(value) => Some(value.whole()),
            Lookup::NotServed => None,
            Lookup::Absent => return Ok(None),
        };
        attached(py, |py| match whole {
            // After the lock, since decoding may run Python code.
            Some(whole) => Ok(Some(self.codec.get().whole(py, &whole)?.unbind())),
            None => {
                self.keys.lock(py)?.remove_expired(&self.namespace, key, &SystemClock);
                Ok(None)
            }
        })
    }

    /// Stores a str for so many microseconds, or for ever. Returns false if the value needs the long way.
    pub(super) fn store_text(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        value: Borrowed<'_, '_, PyAny>,
        micros: Option<u64>,
    ) -> PyResult<bool> {
        let (Ok(key), Ok(value)) = (key.cast_exact::<PyString>(), value.cast_exact::<PyString>()) else {
            return Ok(false);
        };
        let Ok(text) = value.to_str() else { return Ok(false) };
        if Number::parse(text.as_bytes()).is_some() {
            return Ok(false);
        }
        let (py, key) = (value.py(), super::codec::text_of(&key)?.as_bytes());
        let held = HeldText(value.to_owned().unbind());
        let held = if micros.is_none() {
            let replaced = self.keys.lock(py)?.replace_held(&self.namespace, key, held);
            match replaced {
                Ok(Value::Held(old)) => {
                    decref(py, old.0.into_any());
                    return Ok(true);
                }
                Ok(_) => return Ok(true),
                Err(held) => held,
            }
        } else {
            held
        };
        attached(py, |py| {
            let stored = self.keys.lock(py)?.set_held(&self.namespace, key, held, micros, &SystemClock);
            stored.map(|()| true).map_err(|error| raised(py, &error))
        })
    }
}

#[pymethods]
impl MemorySession {
    /// Ask a limiter to let a call through. Returns whether it did, how many further calls it allows, and the
    /// seconds to wait for these.
    fn gate(
        &self,
        name: &Bound<'_, PyString>,
        interval: u64,
        burst: u64,
        cost: u64,
    ) -> PyResult<(bool, u64, f64)> {
        let key = super::codec::key(name.as_any())?;
        match self.keys.lock(name.py())?.gate(&self.namespace, &key, (interval, burst, cost), &SystemClock) {
            Reply::Gate { allowed, micros, remaining } => {
                Ok((allowed, remaining, Duration::from_micros(micros).as_secs_f64()))
            }
            _ => Err(PyRuntimeError::new_err("a gate answered something else")),
        }
    }

    /// Make a call.
    fn execute<'py>(&self, py: Python<'py>, call: &SessionCall) -> PyResult<Bound<'py, PyAny>> {
        let reply = self.keys.lock(py)?.apply(&self.namespace, &call.op, &SystemClock, wall());
        self.codec.get().reply(py, &reply.map_err(|error| raised(py, &error))?)
    }

    /// Make several calls at once. Returns the result of each, or its exception.
    fn execute_many<'py>(
        &self,
        py: Python<'py>,
        calls: Vec<Bound<'py, SessionCall>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let replies: Vec<_> = {
            let mut keys = self.keys.lock(py)?;
            let wall = wall();
            calls.iter().map(|call| keys.apply(&self.namespace, &call.get().op, &SystemClock, wall)).collect()
        };
        let results = PyList::empty(py);
        for reply in replies {
            let result = match reply {
                Ok(reply) => self.codec.get().reply(py, &reply),
                Err(error) => Err(raised(py, &error)),
            };
            match result {
                Ok(result) => results.append((result, py.None()))?,
                Err(error) => results.append((py.None(), error))?,
            }
        }
        Ok(results)
    }

    /// Begin a transaction.
    fn begin(&self, py: Python<'_>) -> MemorySessionTransaction {
        MemorySessionTransaction {
            keys: Arc::clone(&self.keys),
            namespace: Arc::clone(&self.namespace),
            codec: self.codec.clone_ref(py),
            levels: Mutex::new(vec![MemoryTransaction::default()]),
        }
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.codec)
    }
}

/// A transaction on private copies.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct MemorySessionTransaction {
    keys: Arc<Guard<Store>>,
    namespace: Arc<[u8]>,
    codec: Py<SessionCodec>,
    /// The transaction, and those in it.
    levels: Mutex<Vec<MemoryTransaction<HeldText>>>,
}

fn is_over() -> PyErr {
    PyRuntimeError::new_err("the transaction has ended")
}

#[pymethods]
impl MemorySessionTransaction {
    /// Make a call in the transaction.
    fn execute<'py>(&self, py: Python<'py>, call: &SessionCall) -> PyResult<Bound<'py, PyAny>> {
        let reply = {
            let mut levels = self.levels.lock();
            let transaction = levels.last_mut().ok_or_else(is_over)?;
            self.keys.lock(py)?.apply_in(transaction, &self.namespace, &call.op, &SystemClock, wall())
        };
        self.codec.get().reply(py, &reply.map_err(|error| raised(py, &error))?)
    }

    /// Begin a transaction inside the transaction.
    fn begin_inner(&self) -> PyResult<()> {
        let mut levels = self.levels.lock();
        let inner = levels.last().ok_or_else(is_over)?.clone();
        levels.push(inner);
        Ok(())
    }

    /// Return how many transactions are open, one inside the other.
    fn depth(&self) -> usize {
        self.levels.lock().len()
    }

    /// Store all changes, or leave them to the outer transaction.
    fn commit(&self, py: Python<'_>) -> PyResult<()> {
        let mut levels = self.levels.lock();
        let transaction = levels.pop().ok_or_else(is_over)?;
        if let Some(outer) = levels.last_mut() {
            *outer = transaction;
            return Ok(());
        }
        drop(levels);
        let committed = self.keys.lock(py)?.commit(transaction, &SystemClock);
        committed.map_err(|error| raised(py, &error))
    }

    /// Discard all changes.
    fn roll_back(&self) {
        let mut levels = self.levels.lock();
        if let Some(transaction) = levels.pop()
            && let Some(outer) = levels.last_mut()
        {
            outer.roll_back_inner(transaction);
        }
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.codec)
    }
}
