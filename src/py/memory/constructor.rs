//! Makes a cache from the arguments of `FlexCache(...)`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use flexcache_core::policy::Goal;
use flexcache_core::{Limits, OutOfMemory};
use pyo3::exceptions::{PyException, PyRuntimeWarning, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::any_policy::PolicyName;
use super::any_store::AnyStore;
use super::clock::GivenClock;
use super::core_errors::out_of_memory;
use super::detours::Detours;
use super::options::{self, OptionalArgument, Options, Recording};
use super::state::{self, Callbacks, FlexCache, Setup};
use super::stores;
use super::tier::Tier;
use super::weigher::Weigher;
use crate::py::object::running_python::call;
use crate::py::object::{did_you_mean, duration};
use crate::py::store::seam::Coherence;

/// The default of the seconds for which a load reserves its key.
const LEASE_SECONDS: f64 = 30.0;

/// The default of the time that a load waits for one in another cache or process.
const LEASE_WAIT: Duration = Duration::from_secs(30);

/// The arguments of the constructor. The first ones may also be positional.
const OPTIONS: [&str; 21] = [
    "eviction_policy",
    "scan_interval",
    "max_items",
    "max_bytes",
    "default_ttl",
    "thread_safe",
    "shards",
    "background_expiry",
    "on_evict",
    "weigher",
    "clock",
    "close_values",
    "store",
    "coherence",
    "lease",
    "lease_wait",
    "negative_ttl",
    "name",
    "record",
    "record_limit",
    "optimize",
];

/// The number of arguments that may be positional.
const POSITIONAL: usize = 4;

/// Marks a configuration as that of a pickle, which is used whatever `__init__` of the class does.
pub(super) const OF_A_PICKLE: &str = "_of_a_pickle";

/// Makes a cache of a class.
///
/// A subclass with its own `__init__` passes its configuration to `super().__init__()`. Until then, its
/// arguments are used as options if they are valid options.
pub(super) fn make(
    class: &Bound<'_, PyType>,
    args: &Bound<'_, PyTuple>,
    options: Option<&Bound<'_, PyDict>>,
) -> PyResult<FlexCache> {
    let py = class.py();
    let (base, of) = (state::type_of(py).as_type_ptr(), class.as_type_ptr());
    // SAFETY: both are types, and the thread is attached.
    let (has_own_init, has_own_new) = unsafe {
        let initializer = |class: *mut ffi::PyTypeObject| (*class).tp_init.map_or(0, |init| init as usize);
        let constructor = |class: *mut ffi::PyTypeObject| (*class).tp_new.map_or(0, |new| new as usize);
        (initializer(of) != initializer(base), constructor(of) != constructor(base))
    };
    let given = !args.is_empty() || options.is_some_and(|options| !options.is_empty());
    let of_a_pickle = options.map_or(Ok(false), |options| options.contains(OF_A_PICKLE))?;
    let is_provisional = has_own_init && !of_a_pickle && !(has_own_new && given);
    let arguments = ConstructorArguments::bind(args, options).map(|arguments| {
        // Shards can be added only once, and `__init__` does that.
        let shards = if is_provisional { OptionalArgument::ABSENT } else { arguments.shards };
        ConstructorArguments { shards, ..arguments }
    });
    let parts = match arguments.and_then(|arguments| arguments.construct(py)) {
        Ok(parts) => parts,
        Err(error) if is_provisional && error.is_instance_of::<PyException>(py) => {
            ConstructorArguments::bind(&PyTuple::empty(py), None)?.construct(py)?
        }
        Err(error) if has_own_init && !of_a_pickle => return Err(of_subclass(class, error)),
        Err(error) => return Err(error),
    };
    let Parts { setup, rest, first } = parts;
    if !is_provisional {
        setup.start_recording(py, first.limits().weight.is_some())?;
    }
    let cache = FlexCache::of(setup, rest.into_iter(), first, rand::random());
    cache.is_provisional.store(is_provisional, Ordering::Relaxed);
    Ok(cache)
}

/// `FlexCache.__init__`: configures a cache whose class has an `__init__` of its own.
pub(super) fn initialize(
    cache: &Bound<'_, FlexCache>,
    args: &Bound<'_, PyTuple>,
    options: Option<&Bound<'_, PyDict>>,
) -> PyResult<()> {
    let (py, this) = (cache.py(), cache.get());
    if this.is_initialized.load(Ordering::Relaxed)
        && (!args.is_empty() || options.is_some_and(|options| !options.is_empty()))
    {
        // If a class always returns the same object, `__init__` runs again at each call, so this is not an
        // error.
        let told = c"FlexCache.__init__() was called before, and its options are fixed: this call has no effect; resize() \
                     changes the limits, and FlexCache(...) makes another cache";
        PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), told, 1)?;
    }
    if this.is_provisional.load(Ordering::Relaxed) {
        if !args.is_empty() || options.is_some_and(|options| !options.is_empty()) {
            let Parts { setup, rest, first } = ConstructorArguments::bind(args, options)?.construct(py)?;
            setup.start_recording(py, first.limits().weight.is_some())?;
            this.configure(py, setup, rest.into_iter(), first)?;
        } else {
            this.start_recording(py, this.limits(py)?.weight.is_some())?;
        }
        this.detours.set(Detours::SLOW_PATH, this.needs_slow_path());
        this.is_provisional.store(false, Ordering::Relaxed);
    }
    this.is_initialized.store(true, Ordering::Relaxed);
    register(cache)
}

/// Adds to an error about arguments what the `__new__` of a subclass may pass on.
fn of_subclass(class: &Bound<'_, PyType>, error: PyErr) -> PyErr {
    let py = class.py();
    if !error.is_instance_of::<PyTypeError>(py) {
        return error;
    }
    let Ok(name) = class.name() else { return error };
    let told = PyTypeError::new_err(format!(
        "{name}.__new__() passes arguments to FlexCache.__new__() that are not its options: {}. Call \
         super().__new__(cls) there, and super().__init__(max_items=...) with FlexCache's options in __init__",
        error.value(py)
    ));
    told.set_cause(py, Some(error));
    told
}

/// The arguments that the constructor was called with.
struct ConstructorArguments<'py> {
    eviction_policy: OptionalArgument<'py>,
    scan_interval: OptionalArgument<'py>,
    max_items: OptionalArgument<'py>,
    max_bytes: OptionalArgument<'py>,
    default_ttl: OptionalArgument<'py>,
    thread_safe: OptionalArgument<'py>,
    shards: OptionalArgument<'py>,
    background_expiry: OptionalArgument<'py>,
    on_evict: OptionalArgument<'py>,
    weigher: OptionalArgument<'py>,
    clock: OptionalArgument<'py>,
    close_values: OptionalArgument<'py>,
    store: OptionalArgument<'py>,
    coherence: OptionalArgument<'py>,
    lease: OptionalArgument<'py>,
    lease_wait: OptionalArgument<'py>,
    negative_ttl: OptionalArgument<'py>,
    name: OptionalArgument<'py>,
    record: OptionalArgument<'py>,
    record_limit: OptionalArgument<'py>,
    optimize: OptionalArgument<'py>,
}

/// The parts of a cache.
struct Parts {
    setup: Setup,
    rest: Vec<AnyStore>,
    first: AnyStore,
}

impl<'py> ConstructorArguments<'py> {
    /// Assigns positional and keyword arguments to the options.
    fn bind(args: &Bound<'py, PyTuple>, options: Option<&Bound<'py, PyDict>>) -> PyResult<Self> {
        let mut given = [const { OptionalArgument::ABSENT }; OPTIONS.len()];
        if args.len() > POSITIONAL {
            return Err(PyTypeError::new_err(format!(
                "FlexCache() takes at most {POSITIONAL} positional arguments ({}), not {}; write the others with their \
                 names, such as {}=",
                OPTIONS[..POSITIONAL].join(", "),
                args.len(),
                OPTIONS[POSITIONAL],
            )));
        }
        for (place, argument) in given.iter_mut().zip(args) {
            place.0 = Some(argument);
        }
        for (name, argument) in options.into_iter().flatten() {
            let Ok(name) = name.cast_into::<PyString>() else {
                return Err(PyTypeError::new_err("keywords must be strings"));
            };
            let name = name.to_string_lossy();
            match OPTIONS.iter().position(|option| *option == name) {
                Some(at) if given[at].0.is_none() => given[at].0 = Some(argument),
                Some(_) => {
                    let message = format!("FlexCache() got multiple values for argument '{name}'");
                    return Err(PyTypeError::new_err(message));
                }
                None if name == OF_A_PICKLE => {}
                None => {
                    let message = did_you_mean::unexpected("FlexCache", &name, &OPTIONS);
                    return Err(PyTypeError::new_err(message));
                }
            }
        }
        let [
            eviction_policy,
            scan_interval,
            max_items,
            max_bytes,
            default_ttl,
            thread_safe,
            shards,
            background_expiry,
            on_evict,
            weigher,
            clock,
            close_values,
            store,
            coherence,
            lease,
            lease_wait,
            negative_ttl,
            name,
            record,
            record_limit,
            optimize,
        ] = given;
        Ok(Self {
            eviction_policy,
            scan_interval,
            max_items,
            max_bytes,
            default_ttl,
            thread_safe,
            shards,
            background_expiry,
            on_evict,
            weigher,
            clock,
            close_values,
            store,
            coherence,
            lease,
            lease_wait,
            negative_ttl,
            name,
            record,
            record_limit,
            optimize,
        })
    }

    /// Checks the arguments and makes the parts of the cache.
    fn construct(self, py: Python<'_>) -> PyResult<Parts> {
        if let Some(given) = &self.eviction_policy.0 {
            options::no_size(given)?;
        }
        let named = self.eviction_policy.or(Some(PolicyName::Lru), options::policy)?;
        let limits = Limits::new(
            self.max_items.or(0, |most| options::count("max_items", most))?,
            self.max_bytes.or(0, |most| options::count("max_bytes", most))?,
        );
        let path = self.record.or(None, options::record)?;
        let limit = self.record_limit.with(
            ("record_limit", options::MOST_RECORDED),
            ("record", path.is_some()),
            |most| options::count("record_limit", most),
        )?;
        let weigher = self.weigher.or(None, Weigher::of)?;
        let store = self.store.0.filter(|store| !store.is_none());
        let of_store = ("store", store.is_some());
        let options = Options {
            // A policy of the user keeps its own order of eviction; ours is only the order of iteration.
            policy: named.unwrap_or(PolicyName::Fifo),
            goal: self.optimize.or(Goal::Hits, |goal| options::goal(goal, named))?,
            scan_interval: self
                .scan_interval
                .or(0, |interval| duration::interval("scan_interval", interval))?,
            default_ttl: self.default_ttl.or(None, options::default_ttl)?,
            thread_safe: self.thread_safe.or(true, |flag| options::flag("thread_safe", flag))?,
            shards: self.shards.or(1, |shards| options::shards(shards, limits))?,
            background: self.background_expiry.or(None, options::background)?,
            negative_ttl: self.negative_ttl.with(("negative_ttl", None), of_store, options::negative_ttl)?,
            name: self.name.or(None, |name| options::text("name", name))?,
            runs_hooks: !named.is_some_and(|policy| PolicyName::OF_MAPPINGS.contains(&policy)),
            closes_values: self.close_values.or(true, |flag| options::flag("close_values", flag))?,
            weigher: weigher.as_ref().map(|weigher| weigher.of),
            record: path.map(|path| Box::new(Recording { path, limit })),
        };
        let lease = self.lease.with(("lease", Some(LEASE_SECONDS)), of_store, options::lease)?;
        let lease_wait = self.lease_wait.with(("lease_wait", LEASE_WAIT), of_store, |most| {
            duration::interval("lease_wait", most).map(Duration::from_nanos)
        })?;
        let coherence = self.coherence.with(("coherence", Coherence::Strict), of_store, Coherence::of)?;
        let callbacks = Callbacks {
            on_evict: self.on_evict.or(None, |callback| options::callable("on_evict", callback))?,
            weigher,
            clock: self.clock.or(None, GivenClock::of)?,
            policy: self.eviction_policy.0.filter(|_| named.is_none()).map(Bound::unbind),
            tier: store
                .map(|store| {
                    let opened = stores::open(&store, coherence)?;
                    Ok::<_, PyErr>(Tier::new(&store, coherence, lease, lease_wait, opened))
                })
                .transpose()?,
        };
        let store = |shard| {
            let limits = options::share(limits, shard, options.shards);
            let mut store = AnyStore::new(options.policy, limits, rand::random())?;
            store.set_goal(options.goal);
            Ok::<_, OutOfMemory>(store)
        };
        let first = store(0).map_err(out_of_memory)?;
        let rest = (1..options.shards).map(store).collect::<Result<Vec<_>, _>>().map_err(out_of_memory)?;
        Ok(Parts { setup: Setup::new(py, options, callbacks)?, rest, first })
    }
}

/// The function that is called with every cache that has a name.
static REGISTRAR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Says what is to be called with every cache that has a name.
#[pyfunction]
#[pyo3(name = "_set_registrar")]
pub(crate) fn set_registrar(py: Python<'_>, registrar: Py<PyAny>) {
    let _ = REGISTRAR.set(py, registrar);
}

/// Calls the registrar with a cache, if that has a name.
pub(super) fn register(cache: &Bound<'_, FlexCache>) -> PyResult<()> {
    match (&cache.get().options.name, REGISTRAR.get(cache.py())) {
        (Some(_), Some(registrar)) => call(registrar.bind(cache.py()), [cache.as_any()]).map(drop),
        _ => Ok(()),
    }
}
