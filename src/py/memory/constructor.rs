//! From the arguments of `FlexCache(...)` to a cache.

use std::ffi::c_void;
use std::mem::transmute;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use flexcache_core::Limits;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyType};

use super::any_store::{AnyStore, PolicyName};
use super::core_errors::out_of_memory;
use super::options::{self, OptionalArgument, Options};
use super::state::{self, Callbacks, FlexCache};
use super::stores;
use super::tier::Tier;
use crate::py::object::entered::entered;
use crate::py::object::running_python::call;
use crate::py::object::{did_you_mean, duration};
use crate::py::store::seam::Coherence;

/// For how long a load reserves its key where nothing else is said.
const LEASE_SECONDS: f64 = 30.0;

/// How long a load waits for another one beyond this cache, where nothing else is said.
const LEASE_WAIT: Duration = Duration::from_secs(30);

/// What the constructor takes.
const OPTIONS: [&str; 17] = [
    "eviction_policy",
    "scan_interval",
    "max_items",
    "max_bytes",
    "default_ttl",
    "thread_safe",
    "shards",
    "background_expiry",
    "on_evict",
    "store",
    "coherence",
    "lease",
    "lease_wait",
    "negative_ttl",
    "name",
    "record",
    "record_limit",
];

/// The constructor as PyO3 made it.
static MADE_BY_PYO3: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// The constructor: PyO3's, with messages that say what was probably meant.
unsafe extern "C" fn new(
    class: *mut ffi::PyTypeObject,
    args: *mut ffi::PyObject,
    options: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let made_by_pyo3 = MADE_BY_PYO3.load(Ordering::Relaxed);
    // SAFETY: the interpreter calls attached, with a class, a tuple, and a dict or null; what was stored is a
    // constructor or null.
    unsafe {
        entered(ptr::null_mut(), |py| {
            let of = Borrowed::from_ptr(py, class.cast()).cast_unchecked::<PyType>();
            let known = match Borrowed::from_ptr_or_opt(py, options) {
                Some(options) => check_names(&options.cast_unchecked::<PyDict>()),
                None => Ok(()),
            };
            let construct = transmute::<*mut c_void, Option<ffi::newfunc>>(made_by_pyo3);
            let made = known.and_then(|()| {
                let made = construct.map_or(ptr::null_mut(), |construct| construct(class, args, options));
                if made.is_null() { Err(PyErr::fetch(py)) } else { Ok(made) }
            });
            made.map_err(|error| of_subclass(&of, error))
        })
    }
}

fn check_names(options: &Bound<'_, PyDict>) -> PyResult<()> {
    for name in options.keys() {
        let Ok(name) = name.cast_into::<PyString>() else { continue };
        let name = name.to_string_lossy();
        if !OPTIONS.contains(&&*name) {
            let message = did_you_mean::unexpected("FlexCache", &name, &OPTIONS);
            return Err(PyTypeError::new_err(message));
        }
    }
    Ok(())
}

/// Says of arguments that a subclass takes in its `__init__` alone that `__new__` gets them too.
fn of_subclass(class: &Bound<'_, PyType>, error: PyErr) -> PyErr {
    let py = class.py();
    let base = state::type_of(py);
    let initializer = |class: &Bound<'_, PyType>| {
        // SAFETY: it is a type, and the thread is attached.
        unsafe { (*class.as_type_ptr()).tp_init }.map_or(0, |initialize| initialize as usize)
    };
    let has_own = initializer(class) != initializer(&base);
    if !has_own || !error.is_instance_of::<PyTypeError>(py) {
        return error;
    }
    let Ok(name) = class.name() else { return error };
    let told = PyTypeError::new_err(format!(
        "{name}() passes its arguments to FlexCache.__new__, which has others: {}. Give {name} a __new__ beside its \
         __init__, which calls super().__new__(cls, max_items=...) with FlexCache's options",
        error.value(py)
    ));
    told.set_cause(py, Some(error));
    told
}

/// Puts the constructor in its slot, before anyone can make a subclass.
///
/// The type belongs to the process, so a module that is initialized a second time, in a subinterpreter for instance, finds
/// our constructor there: it must not take that for PyO3's.
pub(crate) fn install(py: Python<'_>) {
    let of = state::type_of(py).as_type_ptr();
    // SAFETY: the type is ours and made on the heap; the thread is attached.
    unsafe {
        if MADE_BY_PYO3.load(Ordering::Relaxed).is_null() {
            let made_by_pyo3 = (*of).tp_new.map_or(ptr::null_mut(), |construct| construct as *mut c_void);
            MADE_BY_PYO3.store(made_by_pyo3, Ordering::Relaxed);
        }
        (*of).tp_new = Some(new);
        ffi::PyType_Modified(of);
    }
}

/// What the constructor was called with.
pub(super) struct ConstructorArguments<'py> {
    pub(super) eviction_policy: OptionalArgument<'py>,
    pub(super) scan_interval: OptionalArgument<'py>,
    pub(super) max_items: OptionalArgument<'py>,
    pub(super) max_bytes: OptionalArgument<'py>,
    pub(super) default_ttl: OptionalArgument<'py>,
    pub(super) thread_safe: OptionalArgument<'py>,
    pub(super) shards: OptionalArgument<'py>,
    pub(super) background_expiry: OptionalArgument<'py>,
    pub(super) on_evict: OptionalArgument<'py>,
    pub(super) store: OptionalArgument<'py>,
    pub(super) coherence: OptionalArgument<'py>,
    pub(super) lease: OptionalArgument<'py>,
    pub(super) lease_wait: OptionalArgument<'py>,
    pub(super) negative_ttl: OptionalArgument<'py>,
    pub(super) name: OptionalArgument<'py>,
    pub(super) record: OptionalArgument<'py>,
    pub(super) record_limit: OptionalArgument<'py>,
}

impl ConstructorArguments<'_> {
    /// Checks the arguments and makes the cache.
    pub(super) fn construct(self, py: Python<'_>) -> PyResult<FlexCache> {
        if let Some(given) = &self.eviction_policy.0 {
            options::no_size(given)?;
        }
        let named = self.eviction_policy.or(Some(PolicyName::Lru), options::policy)?;
        let limits = Limits::new(
            self.max_items.or(0, |most| options::count("max_items", most))?,
            self.max_bytes.or(0, |most| options::count("max_bytes", most))?,
        );
        let has_store = self.store.0.as_ref().is_some_and(|store| !store.is_none());
        let options = Options {
            // A policy of the user's keeps its own order; ours is only that of iteration.
            policy: named.unwrap_or(PolicyName::Fifo),
            scan_interval: self
                .scan_interval
                .or(0, |interval| duration::interval("scan_interval", interval))?,
            default_ttl: self.default_ttl.or(None, options::default_ttl)?,
            thread_safe: self.thread_safe.or(true, |flag| options::flag("thread_safe", flag))?,
            shards: self.shards.or(1, |shards| options::shards(shards, limits))?,
            background: self.background_expiry.or(None, options::background)?,
            negative_ttl: self.negative_ttl.or(None, |ttl| options::negative_ttl(ttl, has_store))?,
            name: self.name.or(None, |name| options::text("name", name))?,
            runs_hooks: !named.is_some_and(|policy| PolicyName::OF_MAPPINGS.contains(&policy)),
            record: self.record.or(None, options::record)?,
            record_limit: self
                .record_limit
                .or(options::MOST_RECORDED, |most| options::count("record_limit", most))?,
        };
        let lease = self.lease.or(Some(LEASE_SECONDS), options::lease)?;
        let lease_wait = self
            .lease_wait
            .or(LEASE_WAIT, |most| duration::interval("lease_wait", most).map(Duration::from_nanos))?;
        let callbacks = Callbacks {
            on_evict: self.on_evict.or(None, |callback| options::callable("on_evict", callback))?,
            policy: self.eviction_policy.0.filter(|_| named.is_none()).map(Bound::unbind),
            tier: match self.store.0.filter(|store| !store.is_none()) {
                Some(store) => {
                    let coherence = self.coherence.or(Coherence::Strict, Coherence::of)?;
                    let opened = stores::open(&store, coherence)?;
                    Some(Tier::new(&store, coherence, lease, lease_wait, opened))
                }
                None => {
                    self.coherence.or(Coherence::Strict, Coherence::of)?;
                    None
                }
            },
        };
        let store = |shard| {
            AnyStore::new(options.policy, options::share(limits, shard, options.shards), rand::random())
        };
        let first = store(0).map_err(out_of_memory)?;
        let rest = (1..options.shards).map(store).collect::<Result<Vec<_>, _>>().map_err(out_of_memory)?;
        FlexCache::build(py, options, callbacks, rest.into_iter(), first, rand::random())
    }
}

/// Called with every cache that has a name.
static REGISTRAR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Says what is to be called with every cache that has a name.
#[pyfunction]
#[pyo3(name = "_set_registrar")]
pub(crate) fn set_registrar(py: Python<'_>, registrar: Py<PyAny>) {
    let _ = REGISTRAR.set(py, registrar);
}

/// Tells the registrar of a cache that has a name.
pub(super) fn register(cache: &Bound<'_, FlexCache>) -> PyResult<()> {
    match (&cache.get().options.name, REGISTRAR.get(cache.py())) {
        (Some(_), Some(registrar)) => call(registrar.bind(cache.py()), [cache.as_any()]).map(drop),
        _ => Ok(()),
    }
}
