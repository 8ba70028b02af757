//! `DiskHold`: the base class of the locks of `flexcache_rs.disk.recipes`.
//!
//! A signal handler may raise between any two bytecodes of Python. So acquiring and releasing are one native
//! call each, including `__enter__` and `__exit__`: when a handler raises, either nothing has happened or the
//! caller has acquired the lock. For its first second, releasing waits for the database without checking for
//! signals. If a handler raises after that, a new thread releases the lock, and the interpreter waits for
//! that thread.
//!
//! The stored values are those of python-diskcache, or values that it reads in the same way:
//!
//! | | python-diskcache | here |
//! | --- | --- | --- |
//! | lock | None under the key | a text that names this acquisition; nobody but its holder looks at it |
//! | reentrant lock | ("process-thread", depth) | the same, with random digits behind the thread |
//! | places | how many are free | the same; the tag names the time since all were free. Where a tag was given, the key (key, "held since") has a text that does |

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::ThreadId;
use std::time::Duration;

use flexcache_disk::{Entry, Key, Label, Value};
use pyo3::exceptions::{PyAssertionError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyCFunction, PyString, PyTuple};

use super::arguments::encode_tag;
use super::cache::DiskCache;
use super::datum::Datum;
use super::uninterrupted::Uninterrupted;
use crate::py::object::running_python::check_signals;
use crate::py::process::guard::Guard;
use crate::py::process::logging;
use crate::py::process::wall_clock::now;

/// The pause between two attempts to acquire something that another holder has.
const PAUSE: Duration = Duration::from_millis(1);

/// How often releasing is tried if Python code in it raises: signal handlers may run in a disk or serializer
/// that is written in Python.
const ATTEMPTS: usize = 3;

/// How long releasing waits for the database without checking for signals.
const UNINTERRUPTED: Duration = Duration::from_secs(1);

/// The prefix of a tag that identifies the period since all places were free.
const SINCE: &str = "held since ";

/// The second part of the key under which that is stored if the tag is the user's.
const BESIDE: &str = "held since";

thread_local! {
    /// This thread's name as a holder, and the process in which the name was made.
    static HOLDER: RefCell<(u32, String)> = const { RefCell::new((0, String::new())) };
}

/// A name that is unique among all acquisitions, in all processes of all machines.
fn unique() -> String {
    let thread = format!("{:?}", std::thread::current().id());
    let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
    format!("{}-{thread}-{:032x}", std::process::id(), rand::random::<u128>())
}

/// This thread's name as a holder. A later thread may have the same number, but not the same name.
fn this_thread() -> String {
    HOLDER.with_borrow_mut(|(process, name)| {
        if *process != std::process::id() {
            *process = std::process::id();
            *name = unique();
        }
        name.clone()
    })
}

/// The kind of lock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lock,
    Reentrant,
    /// A semaphore with this many places.
    Places(i64),
}

struct Made {
    cache: Py<DiskCache>,
    key: Py<PyAny>,
    expire: Option<f64>,
    tag: Option<Py<PyAny>>,
    kind: Kind,
}

/// A row as it was stored.
#[derive(Clone)]
enum Token {
    Row {
        mode: i64,
        filename: Option<String>,
        value: Value,
    },
    /// The tag with which the places were taken, if it named a time.
    Since(Option<String>),
}

impl Token {
    fn is(&self, entry: &Entry) -> bool {
        match self {
            Self::Row { mode, filename, value } => {
                *mode == entry.mode && *filename == entry.filename && *value == entry.value
            }
            Self::Since(_) => false,
        }
    }
}

struct Held {
    process: u32,
    thread: ThreadId,
    token: Token,
}

/// A pending release.
#[derive(Clone)]
struct Due {
    /// The acquisition of this object that is released, if there is one.
    token: Option<Token>,
    was_taken: bool,
    /// The name of the thread that releases.
    holder: String,
}

/// The base class of the locks of `flexcache_rs.disk.recipes`.
#[pyclass(frozen, subclass, weakref, module = "flexcache_rs._core")]
pub(crate) struct DiskHold {
    made: OnceLock<Made>,
    held: Guard<Vec<Held>>,
    /// Whether it was ever acquired through this object.
    was_taken: AtomicBool,
}

impl DiskHold {
    fn made(&self) -> PyResult<&Made> {
        self.made.get().ok_or_else(|| PyRuntimeError::new_err("the lock is not made: __init__ has not run"))
    }

    fn hold(&self, py: Python<'_>, token: Token) -> PyResult<()> {
        let held = Held { process: std::process::id(), thread: std::thread::current().id(), token };
        self.was_taken.store(true, Ordering::Relaxed);
        self.held.with(py, |all| all.push(held))?;
        Ok(())
    }

    /// Removes and returns the last acquisition of this thread, or else of another thread of this process.
    fn last(&self, py: Python<'_>) -> PyResult<Option<Token>> {
        let (process, thread) = (std::process::id(), std::thread::current().id());
        let found = self.held.with(py, |all| {
            let mine = |held: &Held| held.process == process && held.thread == thread;
            let place =
                all.iter().rposition(mine).or_else(|| all.iter().rposition(|held| held.process == process));
            place.map(|place| all.remove(place))
        })?;
        Ok(found.map(|held| held.token))
    }
}

impl DiskHold {
    /// Releases in a new thread, for which the interpreter waits at its end. If none can be started, releases
    /// in this one.
    fn give_back_in_thread(slf: &Bound<'_, Self>, due: &Due) {
        let py = slf.py();
        let has_begun = Arc::new(AtomicBool::new(false));
        for _ in 0..ATTEMPTS {
            let started = Self::start_thread(slf, due.clone(), Arc::clone(&has_begun));
            // A signal handler may raise anywhere in there, even after the thread has been started.
            if started.is_ok() || has_begun.load(Ordering::Relaxed) {
                return;
            }
        }
        if !has_begun.swap(true, Ordering::Relaxed) {
            slf.get().finish(py, due);
        }
    }

    fn start_thread(slf: &Bound<'_, Self>, due: Due, has_begun: Arc<AtomicBool>) -> PyResult<()> {
        let py = slf.py();
        let hold = slf.clone().unbind();
        let task = PyCFunction::new_closure(py, None, None, move |arguments, _| {
            if !has_begun.swap(true, Ordering::Relaxed) {
                hold.get().finish(arguments.py(), &due);
            }
        })?;
        let named = [
            ("target", task.into_any()),
            ("name", PyString::new(py, "flexcache_rs.disk release").into_any()),
        ];
        let named = named.into_py_dict(py)?;
        named.set_item("daemon", false)?;
        py.import("threading")?.getattr("Thread")?.call((), Some(&named))?.call_method0("start")?;
        Ok(())
    }

    /// Releases, however long it takes. Errors are logged, as no caller could get them.
    fn finish(&self, py: Python<'_>, due: &Due) {
        let _uninterrupted = Uninterrupted::begin();
        let mut done = Ok(false);
        for _ in 0..ATTEMPTS {
            done = self.made().and_then(|made| made.give_back(py, due));
            match &done {
                Err(error) if !error.is_instance_of::<PyAssertionError>(py) => {}
                _ => break,
            }
        }
        if let Err(error) = done {
            logging::error(py, &format_args!("a lock could not be released: {error}"));
        }
    }
}

impl Made {
    /// Stores a value under the key, with the user's tag or else this one.
    fn store(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        tag: Option<&str>,
        only_new: bool,
    ) -> PyResult<Option<Token>> {
        let (py, cache) = (key.py(), self.cache.get());
        let now = now(py)?;
        let (datum, raw) = cache.encode_key(key)?;
        let given = match (&self.tag, tag) {
            (Some(given), _) => encode_tag(Some(given.bind(py)))?,
            (None, Some(tag)) => Datum::Text(PyString::new(py, tag)),
            (None, None) => Datum::Null,
        };
        let rules = cache.rules(py)?;
        let at = Key { datum: datum.borrow()?, raw };
        let label =
            Label { now, expire_time: self.expire.map(|seconds| now + seconds), tag: given.borrow()? };
        let stored = cache.prepare(value, false, Some(key))?;
        let is_stored = cache.storing(py, &stored, |record, file| {
            cache.write(py, true, |store, patience| {
                file.lend(|| {
                    if only_new {
                        store.add(at, record, label, &rules, patience)
                    } else {
                        store.set(at, record, label, &rules, patience).map(|written| written.map(|()| true))
                    }
                })
            })
        })?;
        let row = Token::Row {
            mode: stored.mode,
            filename: stored.filename.clone(),
            value: stored.value.to_value()?,
        };
        Ok(is_stored.then_some(row))
    }

    /// The holder of the reentrant lock, and its depth.
    fn holder(&self, key: &Bound<'_, PyAny>) -> PyResult<(Option<String>, i64)> {
        match self.cache.get().find(key, false, false, true)? {
            None => Ok((None, 0)),
            // JSON has lists for tuples.
            Some((value, _)) => pair(&value).map_err(|_| wrong_value(&value)),
        }
    }

    /// The number of free places, and the period since all were free.
    fn free(&self, key: &Bound<'_, PyAny>, places: i64) -> PyResult<(i64, Option<String>, bool)> {
        let found = self.cache.get().find(key, false, true, true)?;
        let Some((value, entry)) = found else { return Ok((places, None, false)) };
        let since = match &entry.tag {
            _ if self.has_since_beside() => {
                let since = self.cache.get().find(&Self::key_beside(key)?, false, false, true)?;
                since.and_then(|(since, _)| since.extract().ok())
            }
            Value::Text(tag) if self.tag.is_none() && tag.starts_with(SINCE) => Some(tag.clone()),
            _ => None,
        };
        Ok((value.extract().map_err(|_| wrong_value(&value))?, since, true))
    }

    /// Whether the period since all places were free is stored under a separate key.
    fn has_since_beside(&self) -> bool {
        self.tag.is_some() && self.expire.is_some()
    }

    fn key_beside<'py>(key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        Ok((key, BESIDE).into_pyobject(key.py())?.into_any())
    }

    /// Stores the number of free places and the period since all were free, with the same time to live.
    fn store_places(
        &self,
        key: &Bound<'_, PyAny>,
        free: i64,
        since: Option<&str>,
        all: bool,
    ) -> PyResult<()> {
        let py = key.py();
        let value = free.into_pyobject(py)?.into_any();
        if self.has_since_beside() {
            let beside = Self::key_beside(key)?;
            match since {
                Some(since) if !all => {
                    self.store(&beside, PyString::new(py, since).as_any(), None, false)?;
                }
                _ => {
                    self.cache.get().remove_key(&beside, true)?;
                }
            }
        }
        self.store(key, &value, since, false).map(|_| ())
    }

    /// Makes one attempt to acquire.
    fn take(&self, py: Python<'_>) -> PyResult<Option<Token>> {
        let key = self.key.bind(py);
        match self.kind {
            Kind::Lock => self.store(key, PyString::new(py, &unique()).as_any(), None, true),
            Kind::Reentrant => {
                let me = this_thread();
                self.cache.get().in_transaction(py, || {
                    let (holder, depth) = self.holder(key)?;
                    if depth != 0 && holder.as_ref() != Some(&me) {
                        return Ok(None);
                    }
                    let value = (me.clone(), depth + 1).into_pyobject(py)?.into_any();
                    self.store(key, &value, None, false)
                })
            }
            Kind::Places(places) => self.cache.get().in_transaction(py, || {
                let (free, since, is_there) = self.free(key, places)?;
                if free <= 0 {
                    return Ok(None);
                }
                let all_are_free = !is_there || free >= places;
                // If python-diskcache has acquired a place, the period is unknown.
                let since = if all_are_free { Some(format!("{SINCE}{}", unique())) } else { since };
                let since = since.filter(|_| self.expire.is_some());
                self.store_places(key, free - 1, since.as_deref(), false)?;
                Ok(Some(Token::Since(since)))
            }),
        }
    }

    /// Releases. Returns whether there was anything to release.
    fn give_back(&self, py: Python<'_>, due: &Due) -> PyResult<bool> {
        let key = self.key.bind(py);
        let token = due.token.as_ref();
        match self.kind {
            Kind::Lock => match token {
                // As in python-diskcache, an object that has never acquired the lock frees it, even if another
                // object holds it.
                None if !due.was_taken => self.cache.get().remove_key(key, true),
                None => Ok(false),
                Some(token) => {
                    let cache = self.cache.get();
                    let (datum, raw) = cache.encode_key(key)?;
                    let at = Key { datum: datum.borrow()?, raw };
                    cache.delete_if(py, at, |entry| token.is(entry))
                }
            },
            Kind::Reentrant => self.cache.get().in_transaction(py, || match self.holder(key)? {
                (Some(holder), depth) if holder == due.holder && depth > 0 => {
                    let value = (holder, depth - 1).into_pyobject(py)?.into_any();
                    self.store(key, &value, None, false).map(|_| true)
                }
                _ => Err(PyAssertionError::new_err("cannot release un-acquired lock")),
            }),
            Kind::Places(places) => self.cache.get().in_transaction(py, || {
                let (free, since, _) = self.free(key, places)?;
                let is_late = match (token, &since) {
                    (Some(Token::Since(Some(mine))), Some(since)) => mine != since,
                    _ => false,
                };
                if free >= places || is_late {
                    return Err(PyAssertionError::new_err("cannot release un-acquired semaphore"));
                }
                self.store_places(key, free + 1, since.as_deref(), free + 1 == places).map(|()| true)
            }),
        }
    }
}

fn pair(value: &Bound<'_, PyAny>) -> PyResult<(Option<String>, i64)> {
    Ok((value.get_item(0)?.extract()?, value.get_item(1)?.extract()?))
}

fn wrong_value(value: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!("the key of the lock has a value that no lock has stored: {value:?}"))
}

#[pymethods]
impl DiskHold {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self { made: OnceLock::new(), held: Guard::new(Vec::new(), true), was_taken: AtomicBool::new(false) }
    }

    #[pyo3(signature = (*_args, **_kwargs))]
    #[expect(clippy::unused_self, reason = "the class below takes the arguments")]
    fn __init__(&self, _args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyAny>>) {}

    /// Sets where and what it is.
    fn _make(
        &self,
        cache: Py<DiskCache>,
        key: Py<PyAny>,
        expire: Option<f64>,
        tag: Option<Py<PyAny>>,
        kind: &str,
        places: i64,
    ) -> PyResult<()> {
        let kind = match kind {
            "lock" => Kind::Lock,
            "reentrant" => Kind::Reentrant,
            "places" => Kind::Places(places),
            _ => return Err(PyValueError::new_err(format!("kind must be a kind of lock, not {kind}"))),
        };
        let made = Made { cache, key, expire, tag, kind };
        self.made.set(made).map_err(|_| PyRuntimeError::new_err("a lock is made once"))
    }

    #[pyo3(name = "_take")]
    fn take(&self, py: Python<'_>) -> PyResult<()> {
        let made = self.made()?;
        loop {
            if let Some(token) = made.take(py)? {
                return self.hold(py, token);
            }
            py.detach(|| std::thread::sleep(PAUSE));
            check_signals(py)?;
        }
    }

    #[pyo3(name = "_give_back")]
    fn give_back(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let (py, this) = (slf.py(), slf.get());
        let made = this.made()?;
        let (token, was_taken) = (this.last(py)?, this.was_taken.load(Ordering::Relaxed));
        let due = Due { token, was_taken, holder: this_thread() };
        let mut raised = None;
        {
            let uninterrupted = Uninterrupted::up_to(UNINTERRUPTED);
            for _ in 0..ATTEMPTS {
                match made.give_back(py, &due) {
                    Ok(had) => return raised.map_or(Ok(had), Err),
                    Err(error) if error.is_instance_of::<PyAssertionError>(py) => return Err(error),
                    Err(error) if Uninterrupted::was_interrupted() => {
                        drop(uninterrupted);
                        Self::give_back_in_thread(slf, &due);
                        return Err(error);
                    }
                    Err(error) => raised = raised.or(Some(error)),
                }
            }
        }
        if let Some(token) = due.token {
            // It may be tried again.
            this.hold(py, token)?;
        }
        raised.map_or(Ok(false), Err)
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        slf.get().take(slf.py())?;
        Ok(slf.clone())
    }

    #[pyo3(signature = (*_raised))]
    fn __exit__(slf: &Bound<'_, Self>, _raised: &Bound<'_, PyTuple>) -> PyResult<()> {
        Self::give_back(slf).map(drop)
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        let Some(made) = self.made.get() else { return Ok(()) };
        visit.call(&made.cache)?;
        visit.call(&made.key)?;
        visit.call(&made.tag)
    }
}
