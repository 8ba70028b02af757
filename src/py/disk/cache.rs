//! `DiskCache`: the calls of `flexcache_rs.disk.Cache` that reach the store.
//!
//! Each call turns key and value into what a table holds while attached to Python, and works on
//! the store detached. Strings and bytes are not copied on the way in: the call holds references
//! to the objects, and they do not change.

#![expect(
    clippy::too_many_arguments,
    clippy::fn_params_excessive_bools,
    clippy::unused_self,
    reason = "the signatures are python-diskcache's"
)]

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flexcache_disk::{
    Counted, Entry, Error, Finding, Key, Label, Number, Order, OwnedKey, Policy, Record, Rules, Side, Store,
    Version, files,
};
use pyo3::exceptions::{
    PyAttributeError, PyKeyError, PyOSError, PyOverflowError, PyRuntimeError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyDict, PyFloat, PyInt, PyTuple};

use super::codec::{Disk, Stored, native, put_key};
use super::datum::{Datum, integer, setting, to_object};
use super::fork::{Lazy, register};
use super::keys::{DiskKeys, Place};
use super::transaction::DiskTransaction;
use super::{Timeout, errors, neighbours};
use crate::py::guard::Guard;
use crate::py::per_process::PerProcess;
use crate::py::running_python;

/// Between two looks for signals while waiting.
const SLICE: Duration = Duration::from_secs(1);

/// Between two attempts where the filesystem fails to lock.
const PAUSE: Duration = Duration::from_millis(10);

/// What the module `time` holds, and its function `time` as it is when nobody has replaced it.
static TIME: PyOnceLock<(Py<PyDict>, Option<Py<PyAny>>)> = PyOnceLock::new();

/// Seconds since the epoch. Asked of the module each time, so that tests may replace it; where they
/// have not, without calling it.
fn now(py: Python<'_>) -> PyResult<f64> {
    let (module, own) = TIME.get_or_try_init(py, || {
        let module = py.import("time")?;
        let time = module.getattr(pyo3::intern!(py, "time"))?;
        let own = time.is_instance_of::<PyCFunction>().then(|| time.unbind());
        Ok::<_, PyErr>((module.dict().unbind(), own))
    })?;
    let name = pyo3::intern!(py, "time");
    let time =
        module.bind(py).get_item(name)?.ok_or_else(|| PyAttributeError::new_err("time.time is gone"))?;
    match (own, SystemTime::now().duration_since(UNIX_EPOCH)) {
        (Some(own), Ok(now)) if time.is(own) => Ok(now.as_secs_f64()),
        _ => time.call0()?.extract(),
    }
}

/// An open directory.
struct Open {
    directory: PathBuf,
    timeout: Duration,
    store: PerProcess<Lazy>,
    disk: OnceLock<Py<PyAny>>,
    /// The disk, if it has a way of its own to remove files.
    remover: Arc<OnceLock<Py<PyAny>>>,
}

/// What `flexcache_rs.disk.Cache` inherits.
#[pyclass(frozen, subclass, weakref, module = "flexcache_rs._core")]
pub(crate) struct DiskCache {
    open: OnceLock<Open>,
    rules: Guard<Arc<Rules>>,
}

/// An argument for which None is not the same as nothing.
enum Given<'py> {
    No,
    Yes(Bound<'py, PyAny>),
}

impl<'py> Given<'py> {
    fn or(self, default: impl FnOnce() -> Bound<'py, PyAny>) -> Bound<'py, PyAny> {
        match self {
            Self::No => default(),
            Self::Yes(object) => object,
        }
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Given<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self::Yes(object.to_owned()))
    }
}

/// What is asked about a value besides.
struct Wanted {
    expire_time: bool,
    tag: bool,
}

impl Wanted {
    /// The value alone, or in a tuple with what is wanted.
    fn shape<'py>(&self, value: Bound<'py, PyAny>, entry: Option<&Entry>) -> PyResult<Bound<'py, PyAny>> {
        let py = value.py();
        let expires = || match entry.and_then(|entry| entry.expire_time) {
            Some(time) => PyFloat::new(py, time).into_any(),
            None => py.None().into_bound(py),
        };
        let tag = || entry.map_or_else(|| py.None().into_bound(py), |entry| to_object(py, &entry.tag));
        Ok(match (self.expire_time, self.tag) {
            (false, false) => value,
            (true, false) => PyTuple::new(py, [value, expires()])?.into_any(),
            (false, true) => PyTuple::new(py, [value, tag()])?.into_any(),
            (true, true) => PyTuple::new(py, [value, expires(), tag()])?.into_any(),
        })
    }
}

impl DiskCache {
    fn opened(&self) -> PyResult<&Open> {
        self.open.get().ok_or_else(|| PyRuntimeError::new_err("the cache is not open: __init__ has not run"))
    }

    fn store(&self, py: Python<'_>) -> PyResult<Arc<Lazy>> {
        let open = self.opened()?;
        let lazy = open.store.get(py);
        if lazy.get().is_none() {
            let remover = Arc::clone(&open.remover);
            let remove = move |path: &Path| remove(&remover, path);
            lazy.get_or_init(|| Store::with_remove(&open.directory, Box::new(remove)));
            register(py, &lazy);
            neighbours::watch(py);
        }
        Ok(lazy)
    }

    fn disk<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        let disk = self.opened()?.disk.get();
        Ok(disk
            .ok_or_else(|| PyRuntimeError::new_err("the cache is not open: __init__ has not run"))?
            .bind(py))
    }

    fn rules(&self, py: Python<'_>) -> PyResult<Arc<Rules>> {
        Ok(self.rules.with(py, |rules| Arc::clone(rules))?)
    }

    /// Works on the store without the GIL, and waits for other writers: up to the timeout, or
    /// until a signal if `retry`.
    pub(super) fn wait<R: Send>(
        &self,
        py: Python<'_>,
        retry: bool,
        call: impl Fn(&Store, Duration) -> Result<R, Error> + Send + Sync,
    ) -> PyResult<R> {
        let store = self.store(py)?;
        let Some(store) = store.get() else { return Err(PyRuntimeError::new_err("the cache is not open")) };
        let mut left = self.opened()?.timeout;
        loop {
            let patience = if retry { SLICE } else { left.min(SLICE) };
            match py.detach(|| call(store, patience)) {
                Ok(result) => return Ok(result),
                Err(Error::Busy) if retry || left > patience => {
                    py.check_signals()?;
                    left = left.saturating_sub(patience);
                }
                Err(Error::NoLock(_)) if retry || left > PAUSE => {
                    py.detach(|| std::thread::sleep(PAUSE));
                    py.check_signals()?;
                    left = left.saturating_sub(PAUSE);
                }
                Err(error) => return Err(errors::raised_in(py, error, store.directory())),
            }
        }
    }

    /// The version of the database, for the tier.
    pub(crate) fn version(&self, py: Python<'_>) -> PyResult<Version> {
        let store = self.store(py)?;
        let Some(store) = store.get() else { return Err(PyRuntimeError::new_err("the cache is not open")) };
        store.version().map_err(|error| errors::raised(py, error))
    }

    /// The same, where it takes but a look.
    #[inline]
    pub(crate) fn version_if_watched(&self, py: Python<'_>) -> Option<Version> {
        self.open.get()?.store.with(py, |store| store.get()?.version_if_watched())
    }

    /// Whether the calling thread is in a transaction.
    pub(crate) fn is_in_transaction(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.store(py)?.get().is_some_and(Store::in_transaction))
    }

    pub(super) fn begin(&self, py: Python<'_>, retry: bool) -> PyResult<()> {
        self.wait(py, retry, Store::begin)
    }

    pub(super) fn end(&self, py: Python<'_>, commit: bool) -> PyResult<()> {
        self.wait(py, false, |store, _| if commit { store.commit() } else { store.rollback() })
    }

    #[inline]
    fn encode_key<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<(Datum<'py>, bool)> {
        let disk = self.disk(key.py())?;
        put_key(disk, native(disk), key)
    }

    pub(super) fn decode_key<'py>(&self, py: Python<'py>, key: &OwnedKey) -> PyResult<Bound<'py, PyAny>> {
        let disk = self.disk(py)?;
        match native(disk) {
            Some(disk) => disk.get_key(py, key),
            None => disk.call_method1("get", (to_object(py, &key.datum), key.raw)),
        }
    }

    /// Prepares a value; its file is there afterwards.
    fn prepare<'py>(
        &self,
        value: &Bound<'py, PyAny>,
        read: bool,
        key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Stored<'py>> {
        let disk = self.disk(value.py())?;
        if let Some(disk) = native(disk) {
            return disk.store_value(value, read);
        }
        let named = PyDict::new(value.py());
        if let Some(key) = key {
            named.set_item("key", key)?;
        }
        let stored = disk.call_method("store", (value, read), Some(&named))?;
        let (size, mode, filename, value): (i64, i64, Option<String>, Bound<'py, PyAny>) =
            stored.extract()?;
        let value = Datum::any("what Disk.store() returned for the value", &value)?;
        Ok(Stored { size, mode, filename, value })
    }

    /// Runs a call that stores a value; where it fails, the value's file goes.
    fn storing<R>(
        &self,
        py: Python<'_>,
        stored: &Stored<'_>,
        call: impl FnOnce(Record<'_>) -> PyResult<R>,
    ) -> PyResult<R> {
        let filename = stored.filename.as_deref();
        let called = stored
            .value
            .borrow()
            .and_then(|value| call(Record { size: stored.size, mode: stored.mode, filename, value }));
        if let (Err(_), Some(name), Some(open)) = (&called, filename, self.open.get()) {
            py.detach(|| remove(&open.remover, &open.directory.join(name)));
        }
        called
    }

    /// The value of an entry; `None` where its file is gone.
    fn fetch<'py>(&self, py: Python<'py>, entry: &Entry, read: bool) -> PyResult<Option<Bound<'py, PyAny>>> {
        let disk = self.disk(py)?;
        if let Some(disk) = native(disk) {
            return disk.fetch_value(py, entry, read);
        }
        let value = to_object(py, &entry.value);
        match disk.call_method1("fetch", (entry.mode, &entry.filename, value, read)) {
            Err(error) if error.is_instance_of::<PyOSError>(py) => Ok(None),
            fetched => fetched.map(Some),
        }
    }

    /// The entry of a key, with its value; with expiry and tag only if it is to have `details`.
    fn find<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        read: bool,
        details: bool,
        retry: bool,
    ) -> PyResult<Option<(Bound<'py, PyAny>, Entry)>> {
        let py = key.py();
        let (datum, raw) = self.encode_key(key)?;
        let key = Key { datum: datum.borrow()?, raw };
        let (now, rules) = (now(py)?, self.rules(py)?);
        let found = self.wait(py, retry, |store, patience| {
            if details {
                store.get(key, now, &rules, patience)
            } else {
                store.value(key, now, &rules, patience)
            }
        })?;
        let Some(entry) = found else { return Ok(None) };
        if let Some(value) = self.fetch(py, &entry, read)? {
            return Ok(Some((value, entry)));
        }
        self.wait(py, true, |store, patience| store.count_as_miss(&rules, patience))?;
        Ok(None)
    }

    fn put(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        expire: Option<f64>,
        read: bool,
        tag: Option<&Bound<'_, PyAny>>,
        retry: bool,
        only_new: bool,
    ) -> PyResult<bool> {
        let py = key.py();
        let now = now(py)?;
        let (datum, raw) = self.encode_key(key)?;
        let tag = encode_tag(tag)?;
        let (datum, tag, rules) =
            (datum.borrow().map(|datum| Key { datum, raw })?, tag.borrow()?, self.rules(py)?);
        let stored = self.prepare(value, read, Some(key))?;
        let label = Label { now, expire_time: expire.map(|seconds| now + seconds), tag };
        self.storing(py, &stored, |record| {
            self.wait(py, retry, |store, patience| {
                if only_new {
                    store.add(datum, record, label, &rules, patience)
                } else {
                    store.set(datum, record, label, &rules, patience).map(|()| true)
                }
            })
        })
    }

    fn remove_key(&self, key: &Bound<'_, PyAny>, retry: bool) -> PyResult<bool> {
        let py = key.py();
        let (datum, raw) = self.encode_key(key)?;
        let key = Key { datum: datum.borrow()?, raw };
        let now = now(py)?;
        self.wait(py, retry, |store, patience| store.delete(key, now, patience))
    }

    fn add_up<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        delta: &Bound<'py, PyAny>,
        sign: i64,
        default: &Bound<'py, PyAny>,
        retry: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = key.py();
        let (datum, raw) = self.encode_key(key)?;
        let at = Key { datum: datum.borrow()?, raw };
        let step = number(delta, sign)?;
        let (now, rules) = (now(py)?, self.rules(py)?);
        let begin = if default.is_none() {
            None
        } else {
            Some(if sign > 0 { default.add(delta)? } else { default.sub(delta)? })
        };
        let count = |record: Option<Record<'_>>| {
            self.wait(py, retry, |store, patience| store.increment(at, step, record, now, &rules, patience))
        };
        let counted = match &begin {
            None => count(None)?,
            Some(begin) => {
                let stored = self.prepare(begin, false, Some(key))?;
                let counted = self.storing(py, &stored, |record| count(Some(record)))?;
                if let (Counted::Sum(_), Some(name)) = (&counted, &stored.filename) {
                    files::remove(&self.opened()?.directory.join(name));
                }
                counted
            }
        };
        match (counted, begin) {
            (Counted::Sum(Number::Integer(sum)), _) => Ok(sum.into_pyobject(py)?.into_any()),
            (Counted::Sum(Number::Real(sum)), _) => Ok(PyFloat::new(py, sum).into_any()),
            (Counted::Began, Some(begin)) => Ok(begin),
            _ => Err(PyKeyError::new_err((key.clone().unbind(),))),
        }
    }

    /// Repeats a step that removes some entries until none are left. Their number; one that runs
    /// out of time raises `Timeout` with the number so far.
    fn until_none(
        &self,
        py: Python<'_>,
        retry: bool,
        step: impl Fn(&Store, Duration) -> Result<u64, Error> + Send + Sync,
    ) -> PyResult<u64> {
        let mut removed = 0;
        loop {
            match self.wait(py, retry, &step) {
                Ok(0) => return Ok(removed),
                Ok(count) => removed += count,
                Err(error) if error.is_instance_of::<Timeout>(py) => {
                    return Err(Timeout::new_err((removed,)));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn keys(slf: &Bound<'_, Self>, order: Order) -> PyResult<DiskKeys> {
        let last = slf.get().wait(slf.py(), true, Store::last_row)?;
        let place = match (last, order) {
            (None, _) => Place::Over,
            (Some(last), Order::Ascending) => Place::Row(i64::MIN, last),
            (Some(last), Order::Descending) => Place::Row(last.saturating_add(1), i64::MIN),
        };
        Ok(DiskKeys::new(slf.clone().unbind(), place, order))
    }
}

impl Drop for DiskCache {
    fn drop(&mut self) {
        // Closing writes the log back: not with the GIL. At the end of the interpreter there is
        // nobody to wait for it.
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

/// Removes a file of a value, as the disk wants it.
fn remove(remover: &OnceLock<Py<PyAny>>, path: &Path) {
    match remover.get() {
        None => files::remove(path),
        Some(disk) => Python::attach(|py| {
            if let Err(error) = disk.bind(py).call_method1("remove", (path.to_string_lossy(),)) {
                running_python::report_unraisable(py, error);
            }
        }),
    }
}

fn encode_tag<'py>(tag: Option<&Bound<'py, PyAny>>) -> PyResult<Datum<'py>> {
    tag.map_or(Ok(Datum::Null), |tag| Datum::any("tag", tag))
}

/// A number to count with, or its negative.
fn number(delta: &Bound<'_, PyAny>, sign: i64) -> PyResult<Number> {
    if let Ok(delta) = delta.cast::<PyFloat>() {
        let delta = delta.value();
        return Ok(Number::Real(if sign < 0 { -delta } else { delta }));
    }
    let Ok(whole) = delta.cast::<PyInt>() else {
        let kind = delta.get_type();
        return Err(PyTypeError::new_err(format!("delta must be an int or a float, not {kind}")));
    };
    let fits = whole.extract::<i128>().ok().and_then(|delta| delta.checked_mul(sign.into()));
    fits.map(Number::Integer)
        .ok_or_else(|| PyOverflowError::new_err(format!("delta of {whole} does not fit 128 bits")))
}

fn side(name: &str) -> PyResult<Side> {
    match name {
        "front" => Ok(Side::Front),
        "back" => Ok(Side::Back),
        _ => Err(PyKeyError::new_err(format!("side must be 'front' or 'back', not {name:?}"))),
    }
}

#[pymethods]
impl DiskCache {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self { open: OnceLock::new(), rules: Guard::new(Arc::default(), true) }
    }

    /// Takes whatever the constructor takes: the class below opens the directory.
    #[pyo3(signature = (*_args, **_kwargs))]
    fn __init__(&self, _args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) {}

    /// The settings in a directory that exists.
    fn _connect(&self, py: Python<'_>, directory: PathBuf, timeout: f64) -> PyResult<Py<PyDict>> {
        let timeout = match timeout {
            _ if timeout.is_nan() => {
                return Err(PyValueError::new_err("timeout must be a number of seconds, not nan"));
            }
            _ if timeout <= 0.0 => Duration::ZERO,
            _ => Duration::try_from_secs_f64(timeout).unwrap_or(Duration::MAX),
        };
        let open = Open {
            directory,
            timeout,
            store: PerProcess::default(),
            disk: OnceLock::new(),
            remover: Arc::default(),
        };
        if self.open.set(open).is_err() {
            return Err(PyRuntimeError::new_err("the cache is open already: __init__ must run once"));
        }
        let settings = PyDict::new(py);
        for (key, value) in self.wait(py, true, |store, _| store.settings())? {
            settings.set_item(key, to_object(py, &value))?;
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
        self.wait(py, true, |store, _| store.create(&settings, &policy))
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
        Ok(value.map(|value| to_object(py, &value)))
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

    /// What `check` found: kind, text, path.
    fn _check(&self, py: Python<'_>, fix: bool, retry: bool) -> PyResult<Vec<(&'static str, String)>> {
        let found = self.wait(py, retry, |store, patience| store.check(fix, patience))?;
        Ok(found.iter().map(described).collect())
    }

    #[getter]
    fn _disk(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.disk(py)?.clone().unbind())
    }

    /// What turns keys and values into what the directory holds.
    #[getter(disk)]
    fn disk_property(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.disk(py)?.clone().unbind())
    }

    /// The directory, as an absolute path.
    #[getter]
    fn directory(&self) -> PyResult<String> {
        Ok(self.opened()?.directory.to_string_lossy().into_owned())
    }

    /// Stores a value, or replaces the one that is there. Then, as `cull_limit` says, some of what
    /// has expired is removed, and some of the rest if the directory is too large.
    ///
    /// Args:
    ///     key: Any object that can be pickled. Strings, bytes, floats and 64-bit integers are
    ///         stored as they are; other keys are the same if their pickles are.
    ///     value: Any object that can be pickled, or a file with `read`.
    ///     expire: Seconds to live; None is for ever.
    ///     read: Whether to store what `value.read()` returns.
    ///     tag: A group for `evict`: None, a number, text or bytes.
    ///     retry: Whether to wait for other writers for longer than `timeout`.
    ///
    /// Returns:
    ///     True.
    ///
    /// Raises:
    ///     Timeout: Others were writing all the time.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache.set("answer", 42, expire=60, tag="numbers")
    /// True
    #[pyo3(signature = (key, value, expire=None, read=false, tag=None, retry=false))]
    fn set(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        expire: Option<f64>,
        read: bool,
        tag: Option<&Bound<'_, PyAny>>,
        retry: bool,
    ) -> PyResult<bool> {
        self.put(key, value, expire, read, tag, retry, false)
    }

    /// Stores a value where there is none that is live. Of several processes that try at a time,
    /// one succeeds. Arguments are those of `set`.
    ///
    /// Returns:
    ///     Whether it was stored.
    ///
    /// Raises:
    ///     Timeout: Others were writing all the time.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache.add("answer", 42), cache.add("answer", 43), cache["answer"]
    /// (True, False, 42)
    #[pyo3(signature = (key, value, expire=None, read=false, tag=None, retry=false))]
    fn add(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        expire: Option<f64>,
        read: bool,
        tag: Option<&Bound<'_, PyAny>>,
        retry: bool,
    ) -> PyResult<bool> {
        self.put(key, value, expire, read, tag, retry, true)
    }

    /// The value of a key. Writes only with `statistics`, or where the policy evicts by use.
    ///
    /// Args:
    ///     key: The key.
    ///     default: What to return where there is no live value.
    ///     read: Whether to return an open file, if the value has one of bytes.
    ///     expire_time: Whether to return (value, seconds since the epoch at which it expires).
    ///     tag: Whether to return (value, tag); with `expire_time` all three.
    ///     retry: Whether to wait for other writers for longer than `timeout`.
    ///
    /// Raises:
    ///     Timeout: Others were writing all the time, and this read had to.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache["answer"] = 42
    /// >>> cache.get("answer"), cache.get("question", "what?"), cache.get("answer", expire_time=True)
    /// (42, 'what?', (42, None))
    #[pyo3(signature = (key, default=None, read=false, expire_time=false, tag=false, retry=false))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
        read: bool,
        expire_time: bool,
        tag: bool,
        retry: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let wanted = Wanted { expire_time, tag };
        match self.find(key, read, expire_time || tag, retry)? {
            Some((value, entry)) => wanted.shape(value, Some(&entry)),
            None => wanted.shape(default.unwrap_or_else(|| py.None().into_bound(py)), None),
        }
    }

    fn __getitem__<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match self.find(key, false, false, true)? {
            Some((value, _)) => Ok(value),
            None => Err(PyKeyError::new_err((key.clone().unbind(),))),
        }
    }

    fn __setitem__(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put(key, value, None, false, None, true, false).map(|_| ())
    }

    fn __delitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.remove_key(key, true)? { Ok(()) } else { Err(PyKeyError::new_err((key.clone().unbind(),))) }
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = key.py();
        let (datum, raw) = self.encode_key(key)?;
        let key = Key { datum: datum.borrow()?, raw };
        let now = now(py)?;
        self.wait(py, true, |store, patience| store.contains(key, now, patience))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        let count = self.wait(py, true, Store::len)?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    fn __iter__(slf: &Bound<'_, Self>) -> PyResult<DiskKeys> {
        Self::keys(slf, Order::Ascending)
    }

    fn __reversed__(slf: &Bound<'_, Self>) -> PyResult<DiskKeys> {
        Self::keys(slf, Order::Descending)
    }

    /// An iterator over the keys in their own order: numbers, then text, then bytes, which pickled
    /// keys are. Changes meanwhile do no harm.
    ///
    /// Args:
    ///     reverse: Whether to begin with the largest.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> for key in "b", 1, "a": cache[key] = None
    /// >>> list(cache.iterkeys()), list(cache)
    /// ([1, 'a', 'b'], ['b', 1, 'a'])
    #[pyo3(signature = (reverse=false))]
    fn iterkeys(slf: Py<Self>, reverse: bool) -> DiskKeys {
        let order = if reverse { Order::Descending } else { Order::Ascending };
        DiskKeys::new(slf, Place::Key(None), order)
    }

    /// A value as an open file, if it has one of bytes; else the value.
    ///
    /// Raises:
    ///     KeyError: There is no live value.
    ///     Timeout: As for `get`.
    ///
    /// >>> import io
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache.set("page", io.BytesIO(b"hello"), read=True)
    /// True
    /// >>> with cache.read("page") as file:
    /// ...     file.read()
    /// b'hello'
    #[pyo3(signature = (key, retry=false))]
    fn read<'py>(&self, key: &Bound<'py, PyAny>, retry: bool) -> PyResult<Bound<'py, PyAny>> {
        match self.find(key, true, false, retry)? {
            Some((value, _)) => Ok(value),
            None => Err(PyKeyError::new_err((key.clone().unbind(),))),
        }
    }

    /// Deletes a key. An expired one counts as missing.
    ///
    /// Returns:
    ///     Whether it was there.
    ///
    /// Raises:
    ///     Timeout: Others were writing all the time.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache["a"] = 1
    /// >>> cache.delete("a"), cache.delete("a")
    /// (True, False)
    #[pyo3(signature = (key, retry=false))]
    fn delete(&self, key: &Bound<'_, PyAny>, retry: bool) -> PyResult<bool> {
        self.remove_key(key, retry)
    }

    /// Takes a value out. Of several processes that try at a time, one gets it.
    ///
    /// Args:
    ///     key: The key.
    ///     default: What to return where there is no live value.
    ///     expire_time: As for `get`.
    ///     tag: As for `get`.
    ///     retry: Whether to wait for other writers for longer than `timeout`.
    ///
    /// Raises:
    ///     Timeout: Others were writing all the time.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache["a"] = 1
    /// >>> cache.pop("a"), cache.pop("a", default="gone")
    /// (1, 'gone')
    #[pyo3(signature = (key, default=None, expire_time=false, tag=false, retry=false))]
    fn pop<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
        expire_time: bool,
        tag: bool,
        retry: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let wanted = Wanted { expire_time, tag };
        let (datum, raw) = self.encode_key(key)?;
        let key = Key { datum: datum.borrow()?, raw };
        let now = now(py)?;
        if let Some(entry) = self.wait(py, retry, |store, patience| store.pop(key, now, patience))? {
            let value = self.fetch(py, &entry, false);
            self.discard(py, &entry)?;
            if let Some(value) = value? {
                return wanted.shape(value, Some(&entry));
            }
        }
        wanted.shape(default.unwrap_or_else(|| py.None().into_bound(py)), None)
    }

    /// Gives a key another time to live.
    ///
    /// Args:
    ///     key: The key.
    ///     expire: Seconds from now; None is for ever.
    ///     retry: Whether to wait for other writers for longer than `timeout`.
    ///
    /// Returns:
    ///     Whether it was there.
    ///
    /// Raises:
    ///     Timeout: Others were writing all the time.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache["a"] = 1
    /// >>> cache.touch("a", expire=60), cache.touch("b")
    /// (True, False)
    #[pyo3(signature = (key, expire=None, retry=false))]
    fn touch(&self, key: &Bound<'_, PyAny>, expire: Option<f64>, retry: bool) -> PyResult<bool> {
        let py = key.py();
        let (datum, raw) = self.encode_key(key)?;
        let key = Key { datum: datum.borrow()?, raw };
        let now = now(py)?;
        let expires = expire.map(|seconds| now + seconds);
        self.wait(py, retry, |store, patience| store.touch(key, now, expires, patience))
    }

    /// Adds to a number. Counts right with any number of processes.
    ///
    /// Args:
    ///     key: The key.
    ///     delta: What to add, an int or a float.
    ///     default: What to begin with where there is no live value; None is to raise.
    ///     retry: Whether to wait for other writers for longer than `timeout`.
    ///
    /// Returns:
    ///     The sum.
    ///
    /// Raises:
    ///     KeyError: There is no live value, and `default` is None.
    ///     TypeError: The value is not a number, or one beyond 64 bits.
    ///     OverflowError: The sum is beyond 64 bits.
    ///     Timeout: Others were writing all the time.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache.incr("visits"), cache.incr("visits", 10)
    /// (1, 11)
    #[pyo3(signature = (key, delta=Given::No, default=Given::No, retry=false))]
    #[pyo3(text_signature = "($self, /, key, delta=1, default=0, retry=False)")]
    fn incr<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        delta: Given<'py>,
        default: Given<'py>,
        retry: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = key.py();
        self.add_up(key, &delta.or(|| integer(py, 1)), 1, &default.or(|| integer(py, 0)), retry)
    }

    /// Subtracts from a number. Arguments, result and errors are those of `incr`.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache.decr("left", default=10)
    /// 9
    #[pyo3(signature = (key, delta=Given::No, default=Given::No, retry=false))]
    #[pyo3(text_signature = "($self, /, key, delta=1, default=0, retry=False)")]
    fn decr<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        delta: Given<'py>,
        default: Given<'py>,
        retry: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = key.py();
        self.add_up(key, &delta.or(|| integer(py, 1)), -1, &default.or(|| integer(py, 0)), retry)
    }

    /// Begins a transaction of this thread: what is done inside is done all or nothing, other
    /// writers wait, and writing many values takes a fraction of the time. May be nested; the
    /// outermost counts. An exception undoes all of it.
    ///
    /// Args:
    ///     retry: Whether to wait for other writers for longer than `timeout`.
    ///
    /// Raises:
    ///     Timeout: Others were writing all the time; raised where the block is entered.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> with cache.transact():
    /// ...     total = cache.incr("total", 3)
    /// ...     count = cache.incr("count")
    /// >>> total, count
    /// (3, 1)
    #[pyo3(signature = (retry=false))]
    fn transact(slf: Py<Self>, retry: bool) -> DiskTransaction {
        DiskTransaction { cache: slf, retry }
    }

    /// Puts a value at an end of a queue, under a key of its own.
    ///
    /// Args:
    ///     value: As for `set`.
    ///     prefix: The name of the queue. None is the queue of all keys that are numbers.
    ///     side: "back" or "front".
    ///     expire: As for `set`; so are `read`, `tag` and `retry`.
    ///
    /// Returns:
    ///     The key.
    ///
    /// Raises:
    ///     Timeout: Others were writing all the time.
    ///     KeyError: `side` is neither "back" nor "front".
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache.push("first"), cache.push("job", prefix="jobs")
    /// (500000000000000, 'jobs-500000000000000')
    #[pyo3(signature = (value, prefix=None, side="back", expire=None, read=false, tag=None, retry=false))]
    fn push<'py>(
        &self,
        value: &Bound<'py, PyAny>,
        prefix: Option<&str>,
        side: &str,
        expire: Option<f64>,
        read: bool,
        tag: Option<&Bound<'py, PyAny>>,
        retry: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, side) = (value.py(), self::side(side)?);
        let (now, rules) = (now(py)?, self.rules(py)?);
        let tag = encode_tag(tag)?;
        let label = Label { now, expire_time: expire.map(|seconds| now + seconds), tag: tag.borrow()? };
        let stored = self.prepare(value, read, None)?;
        let key = self.storing(py, &stored, |record| {
            self.wait(py, retry, |store, patience| store.push(prefix, side, record, label, &rules, patience))
        })?;
        Ok(to_object(py, &key))
    }

    /// Takes a value out of a queue.
    ///
    /// Args:
    ///     prefix: The name of the queue. None is the queue of all keys that are numbers.
    ///     default: What to return where the queue is empty.
    ///     side: "front" or "back".
    ///     expire_time: As for `get`, around (key, value); so is `tag`.
    ///     retry: Whether to wait for other writers for longer than `timeout`.
    ///
    /// Returns:
    ///     (key, value)
    ///
    /// Raises:
    ///     Timeout: Others were writing all the time.
    ///     KeyError: `side` is neither "back" nor "front".
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> for job in "wash", "dry": _ = cache.push(job)
    /// >>> cache.pull(), cache.pull(), cache.pull()
    /// ((500000000000000, 'wash'), (500000000000001, 'dry'), (None, None))
    #[pyo3(signature = (prefix=None, default=Given::No, side="front", expire_time=false, tag=false, retry=false))]
    #[pyo3(
        text_signature = "($self, /, prefix=None, default=(None, None), side='front', expire_time=False, \
                             tag=False, retry=False)"
    )]
    fn pull<'py>(
        &self,
        py: Python<'py>,
        prefix: Option<&str>,
        default: Given<'py>,
        side: &str,
        expire_time: bool,
        tag: bool,
        retry: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.end_of_queue(py, prefix, default, side, &Wanted { expire_time, tag }, retry, true)
    }

    /// Looks at a value at the end of a queue, without taking it. Arguments are those of `pull`.
    ///
    /// Raises:
    ///     Timeout: Others were writing all the time.
    ///     KeyError: `side` is neither "back" nor "front".
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> for job in "wash", "dry": _ = cache.push(job)
    /// >>> cache.peek(side="back")
    /// (500000000000001, 'dry')
    #[pyo3(signature = (prefix=None, default=Given::No, side="front", expire_time=false, tag=false, retry=false))]
    #[pyo3(
        text_signature = "($self, /, prefix=None, default=(None, None), side='front', expire_time=False, \
                             tag=False, retry=False)"
    )]
    fn peek<'py>(
        &self,
        py: Python<'py>,
        prefix: Option<&str>,
        default: Given<'py>,
        side: &str,
        expire_time: bool,
        tag: bool,
        retry: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.end_of_queue(py, prefix, default, side, &Wanted { expire_time, tag }, retry, false)
    }

    /// The entry that came last (or first), without taking it. Expired ones on the way are deleted.
    ///
    /// Args:
    ///     last: Whether to look at the last.
    ///     expire_time: As for `get`, around (key, value); so is `tag`.
    ///     retry: Whether to wait for other writers for longer than `timeout`.
    ///
    /// Returns:
    ///     (key, value)
    ///
    /// Raises:
    ///     KeyError: There is none.
    ///     Timeout: Others were writing all the time.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache["a"], cache["b"] = 1, 2
    /// >>> cache.peekitem(), cache.peekitem(last=False)
    /// (('b', 2), ('a', 1))
    #[pyo3(signature = (last=true, expire_time=false, tag=false, retry=false))]
    fn peekitem<'py>(
        &self,
        py: Python<'py>,
        last: bool,
        expire_time: bool,
        tag: bool,
        retry: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let wanted = Wanted { expire_time, tag };
        loop {
            let now = now(py)?;
            let found = self.wait(py, retry, |store, patience| store.peek_row(last, now, patience))?;
            let Some((key, entry)) = found else { return Err(PyKeyError::new_err("dictionary is empty")) };
            if let Some(value) = self.fetch(py, &entry, false)? {
                let item = PyTuple::new(py, [self.decode_key(py, &key)?, value])?;
                return wanted.shape(item.into_any(), Some(&entry));
            }
            self.wait(py, retry, |store, patience| store.forget(&entry, patience))?;
        }
    }

    /// Removes what has expired.
    ///
    /// Args:
    ///     now: Before when, in seconds since the epoch; None is now.
    ///     retry: Whether to wait for other writers for longer than `timeout`.
    ///
    /// Returns:
    ///     How many entries.
    ///
    /// Raises:
    ///     Timeout: Others were writing all the time; its argument is the number so far.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> _ = cache.set("a", 1, expire=-1)
    /// >>> len(cache), cache.expire(), len(cache)
    /// (1, 1, 0)
    #[pyo3(signature = (now=None, retry=false))]
    fn expire(&self, py: Python<'_>, now: Option<f64>, retry: bool) -> PyResult<u64> {
        let now = now.map_or_else(|| self::now(py), Ok)?;
        self.until_none(py, retry, |store, patience| store.expire_some(now, patience))
    }

    /// Removes all entries with a tag. Costs a look at every entry unless the cache has
    /// `tag_index`.
    ///
    /// Args:
    ///     tag: The tag. None has no entries.
    ///     retry: Whether to wait for other writers for longer than `timeout`.
    ///
    /// Returns:
    ///     How many entries.
    ///
    /// Raises:
    ///     Timeout: Others were writing all the time; its argument is the number so far.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache(tag_index=True)
    /// >>> _ = cache.set("a", 1, tag="letters")
    /// >>> cache.evict("letters"), len(cache)
    /// (1, 0)
    #[pyo3(signature = (tag, retry=false))]
    fn evict(&self, tag: &Bound<'_, PyAny>, retry: bool) -> PyResult<u64> {
        let py = tag.py();
        let tag = Datum::any("tag", tag)?;
        let tag = tag.borrow()?;
        let Some(last) = self.wait(py, true, Store::last_row)? else { return Ok(0) };
        self.until_none(py, retry, |store, patience| store.evict_tag_some(tag, last, patience))
    }

    /// Removes everything.
    ///
    /// Args:
    ///     retry: Whether to wait for other writers for longer than `timeout`.
    ///
    /// Returns:
    ///     How many entries.
    ///
    /// Raises:
    ///     Timeout: Others were writing all the time; its argument is the number so far.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache["a"], cache["b"] = 1, 2
    /// >>> cache.clear(), len(cache)
    /// (2, 0)
    #[pyo3(signature = (retry=false))]
    fn clear(&self, py: Python<'_>, retry: bool) -> PyResult<u64> {
        let Some(last) = self.wait(py, true, Store::last_row)? else { return Ok(0) };
        self.until_none(py, retry, |store, patience| store.clear_some(last, patience))
    }

    /// Removes what has expired, then evicts until the directory is within `size_limit`.
    ///
    /// Args:
    ///     retry: Whether to wait for other writers for longer than `timeout`.
    ///
    /// Returns:
    ///     How many entries.
    ///
    /// Raises:
    ///     Timeout: Others were writing all the time; its argument is the number so far.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache(size_limit=100_000, cull_limit=0)
    /// >>> for number in range(10): cache[number] = b"x" * 40_000
    /// >>> cache.cull()
    /// 10
    #[pyo3(signature = (retry=false))]
    fn cull(&self, py: Python<'_>, retry: bool) -> PyResult<u64> {
        let (now, rules) = (now(py)?, self.rules(py)?);
        let expired = self.until_none(py, retry, |store, patience| store.expire_some(now, patience))?;
        match self.until_none(py, retry, |store, patience| store.cull_some(now, &rules, patience)) {
            Ok(evicted) => Ok(expired + evicted),
            Err(error) if error.is_instance_of::<Timeout>(py) => {
                let evicted: u64 = error.value(py).getattr("args")?.get_item(0)?.extract()?;
                Err(Timeout::new_err((expired + evicted,)))
            }
            Err(error) => Err(error),
        }
    }

    /// Bytes on disk: the database and the files of values.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> Cache().volume() < 100_000
    /// True
    fn volume(&self, py: Python<'_>) -> PyResult<i64> {
        self.wait(py, true, Store::volume)
    }

    /// Closes what this process has open; the next call opens it again.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache["a"] = 1
    /// >>> cache.close()
    /// >>> cache["a"]
    /// 1
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let store = self.store(py)?;
        py.detach(|| store.get().map(Store::close));
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

impl DiskCache {
    /// The file of an entry that was taken out is needed no longer.
    fn discard(&self, py: Python<'_>, entry: &Entry) -> PyResult<()> {
        if entry.filename.is_none() {
            return Ok(());
        }
        let store = self.store(py)?;
        py.detach(|| store.get().map(|store| store.discard(entry)));
        Ok(())
    }

    fn end_of_queue<'py>(
        &self,
        py: Python<'py>,
        prefix: Option<&str>,
        default: Given<'py>,
        side: &str,
        wanted: &Wanted,
        retry: bool,
        take: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let side = self::side(side)?;
        loop {
            let now = now(py)?;
            let found =
                self.wait(py, retry, |store, patience| store.at_end(prefix, side, take, now, patience))?;
            let Some((key, entry)) = found else {
                let nothing = PyTuple::new(py, [py.None(), py.None()])?;
                return wanted.shape(default.or(|| nothing.into_any()), None);
            };
            let value = self.fetch(py, &entry, false);
            if take {
                self.discard(py, &entry)?;
            }
            if let Some(value) = value? {
                let item = PyTuple::new(py, [to_object(py, &key.datum), value])?;
                return wanted.shape(item.into_any(), Some(&entry));
            }
            if !take {
                self.wait(py, retry, |store, patience| store.forget(&entry, patience))?;
            }
        }
    }
}

/// A finding as its kind and what to say.
fn described(finding: &Finding) -> (&'static str, String) {
    match finding {
        Finding::Damaged(what) => ("damaged", what.clone()),
        Finding::MissingFile(path) => ("missing_file", format!("file not found: {}", path.display())),
        Finding::WrongSize { path, actual, recorded } => {
            ("wrong_size", format!("wrong file size: {}, {actual} != {recorded}", path.display()))
        }
        Finding::UnknownFile(path) => ("unknown_file", format!("unknown file: {}", path.display())),
        Finding::EmptyDirectory(path) => ("empty_directory", format!("empty directory: {}", path.display())),
        Finding::WrongCounter { name, recorded, actual } => {
            ("wrong_counter", format!("Settings.{name} is {recorded}, and should be {actual}"))
        }
        _ => ("other", format!("{finding:?}")),
    }
}
