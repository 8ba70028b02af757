//! Memoized functions, where a hit runs no Python code.
//!
//! `lru_cache` and `memoize` return a `Memoized`. The interpreter calls it directly, and its arguments are
//! looked up without building a key. Only a miss builds the key and goes on: `lru_cache` then calls the
//! function, and `memoize` calls methods of a subclass, where one computation serves all waiting callers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use flexcache_core::Limits;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType, PyWeakrefReference};

use super::bound_method::{self, BoundMemoized};
use super::call_key::{self, Arguments, Call};
use super::vectorcall;
use crate::py::memory::any_policy::PolicyName;
use crate::py::memory::any_store::{AnyStore, Complicated};
use crate::py::memory::core_errors::out_of_memory;
use crate::py::memory::load_in_thread::compute_and_keep;
use crate::py::memory::options::{self, Options};
use crate::py::memory::read::site;
use crate::py::memory::state::{Callbacks, FlexCache};
use crate::py::memory::terms::{IfPresent, Terms};
use crate::py::memory::tier::Freshness;
use crate::py::object::entered::entered;
use crate::py::object::int_hash;
use crate::py::object::running_python::{attached, call as call_python};
use crate::py::process::guard::Guard;
use crate::py::store::cached_result::CachedResult;

unsafe extern "C" {
    fn PyMethod_New(function: *mut ffi::PyObject, instance: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

/// A function whose results are kept in a cache.
///
/// Args:
///     function: The function that computes a result.
///     cache: The cache of the results. None means that none is kept.
///     typed: Whether equal arguments of different types have different keys.
///     prefix: The first part of every key, if several functions share a cache.
///     in_store: Whether keys are texts for a store. A nonce follows the prefix. The method _read_nonce() returns
///         it.
///     ignored_positions: A bit for each positional argument that is not part of the key.
///     ignored_names: The keyword arguments that are not part of the key.
///     key: A function of the arguments that returns the key. It replaces the options above.
///     ready: A function of a kept result that returns what the caller gets: a coroutine, or a copy.
///     awaited: The name of a coroutine function. Its calls must not wait for a store.
///     normalize: A function of the arguments, a tuple and a dict. It returns the same arguments for all forms of
///         a call.
///     loads: Whether a miss calls the method _load(key, args, kwargs).
///     examines: Whether values in the cache may be of the class Remembered. The method
///         _reconsider(key, remembered, args, kwargs) answers a call whose value is not fresh.
///     keeps_results: Whether each result is kept as it is. A miss then needs no method while `examines` is false.
///     ttl: The time to live of these results.
///
/// Programs use lru_cache and memoize, which create it.
#[pyclass(frozen, subclass, dict, weakref, module = "flexcache_rs._core")]
pub(crate) struct Memoized {
    /// The function that the interpreter calls.
    vectorcall: ffi::vectorcallfunc,
    pub(super) function: Py<PyAny>,
    pub(super) cache: Option<Py<FlexCache>>,
    /// The cache again, if a single argument can be a key and a value is returned unchanged.
    plain: Option<Py<FlexCache>>,
    pub(super) arguments: Arguments,
    pub(super) key: Option<Py<PyAny>>,
    pub(super) ready: Option<Py<PyAny>>,
    /// The name of the coroutines, if calls are awaited. A warning about one that is never awaited shows it.
    pub(super) awaited: Option<Py<PyString>>,
    pub(super) normalize: Option<Py<PyAny>>,
    loads: bool,
    /// How long results are kept, if that needs no Python code.
    keeps: Option<KeptFor>,
    /// Whether a value in the cache may be a [`CachedResult`], not the result itself.
    examines: AtomicBool,
    /// Whether keys need more than the arguments.
    makes_key: AtomicBool,
    /// The objects that replace instances in keys of methods, by the address of the instance.
    pub(super) instances: PyOnceLock<Py<PyDict>>,
    /// Classes whose instances are ordinary arguments: their addresses, and weak references.
    pub(super) plain_classes: Guard<Vec<(usize, Py<PyWeakrefReference>)>>,
    /// Whether keys are texts for a store, which include a nonce.
    pub(super) in_store: bool,
    /// The last nonce that was read, with the stamp of the store it was read at.
    pub(super) nonce: Guard<Option<(Freshness, Py<PyAny>)>>,
    /// The number of calls without a cache to count them.
    uncached: AtomicU64,
}

#[pymethods]
impl Memoized {
    #[new]
    #[pyo3(signature = (function, cache, *, typed=false, prefix=None, ignored_positions=0,
        ignored_names=Vec::new(), key=None, ready=None, awaited=None, normalize=None, loads=false,
        examines=false, in_store=false, keeps_results=false, ttl=None))]
    #[expect(
        clippy::too_many_arguments,
        clippy::fn_params_excessive_bools,
        reason = "all that a memoized function is, by name"
    )]
    fn new(
        py: Python<'_>,
        function: Py<PyAny>,
        cache: Option<Py<FlexCache>>,
        typed: bool,
        prefix: Option<Py<PyAny>>,
        ignored_positions: u64,
        ignored_names: Vec<Py<PyString>>,
        key: Option<Py<PyAny>>,
        ready: Option<Py<PyAny>>,
        awaited: Option<Py<PyString>>,
        normalize: Option<Py<PyAny>>,
        loads: bool,
        examines: bool,
        in_store: bool,
        keeps_results: bool,
        ttl: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let arguments = Arguments::new(py, prefix, typed, ignored_positions, ignored_names)?;
        let straight =
            key.is_none() && ready.is_none() && normalize.is_none() && !examines && arguments.take_single();
        let plain = cache.as_ref().filter(|_| straight);
        Ok(Self {
            plain: plain.map(|cache| cache.clone_ref(py)),
            examines: AtomicBool::new(examines),
            makes_key: AtomicBool::new(key.is_some() || in_store || normalize.is_some()),
            in_store,
            nonce: Guard::new(None, true),
            plain_classes: Guard::new(Vec::new(), true),
            vectorcall: call_memoized,
            function,
            cache,
            arguments,
            key,
            ready,
            awaited,
            normalize,
            loads,
            keeps: keeps_results.then_some(KeptFor(ttl)),
            instances: PyOnceLock::new(),
            uncached: AtomicU64::new(0),
        })
    }

    /// Call the function, or answer from the cache.
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        this: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        vectorcall::call(this, args, kwargs)
    }

    fn __get__<'py>(
        this: &Bound<'py, Self>,
        instance: &Bound<'py, PyAny>,
        owner: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _ = owner;
        if instance.is_none() {
            return Ok(this.as_any().clone());
        }
        if this.get().loads {
            return BoundMemoized::new(this, instance).map(Bound::into_any);
        }
        // SAFETY: both are valid objects; a new reference is returned, or null.
        unsafe { Bound::from_owned_ptr_or_err(this.py(), PyMethod_New(this.as_ptr(), instance.as_ptr())) }
    }

    /// A memoized function is found again by its name, like any function.
    fn __reduce__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        this.getattr(intern!(this.py(), "__qualname__"))
    }

    fn __copy__<'py>(this: &Bound<'py, Self>) -> Bound<'py, Self> {
        this.clone()
    }

    fn __deepcopy__<'py>(this: &Bound<'py, Self>, _memo: &Bound<'py, PyAny>) -> Bound<'py, Self> {
        this.clone()
    }

    /// The cache in which results are kept; None where they are not.
    #[getter]
    fn cache(&self, py: Python<'_>) -> Option<Py<FlexCache>> {
        self.cache.as_ref().map(|cache| cache.clone_ref(py))
    }

    /// What computes a result.
    #[getter]
    fn _function(&self, py: Python<'_>) -> Py<PyAny> {
        self.function.clone_ref(py)
    }

    /// How many calls went to the function because there is no cache.
    #[getter]
    fn _uncached(&self) -> u64 {
        self.uncached.load(Ordering::Relaxed)
    }

    fn _forget_uncached(&self) {
        self.uncached.store(0, Ordering::Relaxed);
    }

    /// The key of a call with these arguments.
    #[pyo3(signature = (*args, **kwargs))]
    fn cache_key<'py>(
        this: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let mut all: Vec<_> = args.iter().collect();
        let mut names = Vec::new();
        for (name, value) in kwargs.into_iter().flatten() {
            names.push(name);
            all.push(value);
        }
        let names = PyTuple::new(py, names)?;
        let pointers: Vec<_> = all.iter().map(Bound::as_ptr).collect();
        // SAFETY: arguments as the interpreter would pass them, alive until the end.
        let call = unsafe { Call::new(py, pointers.as_ptr(), args.len(), names.as_ptr()) };
        this.get().normalized(&call, |call| Self::key_of(this, call))
    }

    /// The nonce has changed.
    fn _forget_nonce(&self, py: Python<'_>) -> PyResult<()> {
        let before = self.nonce.with(py, Option::take)?;
        drop(before);
        Ok(())
    }

    /// From now on the first argument may be an instance, and `instances` knows what stands for it.
    fn _may_be_method(&self, py: Python<'_>, instances: Py<PyDict>) -> PyResult<()> {
        let _ = self.instances.set(py, instances);
        let before = self.plain_classes.with(py, std::mem::take)?;
        drop(before);
        // Results that may refer to the instance are wrapped.
        self.examines.store(true, Ordering::Release);
        self.makes_key.store(true, Ordering::Release);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.function)?;
        visit.call(&self.cache)?;
        visit.call(&self.plain)?;
        visit.call(&self.arguments.prefix)?;
        visit.call(&self.key)?;
        visit.call(&self.ready)?;
        visit.call(&self.normalize)?;
        if let Some(KeptFor(ttl)) = &self.keeps {
            visit.call(ttl)?;
        }
        // SAFETY: the collector calls attached.
        let py = unsafe { Python::assume_attached() };
        self.instances.get(py).map_or(Ok(()), |instances| visit.call(instances))
    }
}

/// Results are kept as they are, for this time.
struct KeptFor(Option<Py<PyAny>>);

/// The stored result, if the fast path can tell.
type Answer = Result<Option<Py<PyAny>>, Complicated>;

/// The key that a call without a fast answer has to look up.
pub(super) struct LookupKey<'py> {
    pub(super) key: Bound<'py, PyAny>,
    pub(super) hash: u64,
}

impl Memoized {
    /// Looks up the result of a call whose only argument is the key. If there is none, counts a miss and
    /// returns the hash of the key. If it returns `Complicated`, nothing has happened yet. Does the same as
    /// [`find`](Self::find) with less data.
    ///
    /// A separate function, so that its stack is released before a recursive function is called.
    #[inline(never)]
    fn find_if_plain(&self, call: &Call<'_, '_>) -> Result<Result<Py<PyAny>, u64>, Complicated> {
        let cache = self.plain.as_ref().ok_or(Complicated)?.bind_borrowed(call.py());
        let key = call.single().ok_or(Complicated)?;
        if self.makes_key.load(Ordering::Relaxed) {
            return Err(Complicated);
        }
        let hash = cache.get().hash(key).map_err(|_| Complicated)?;
        Ok(cache.get().read_if_plain::<{ site::MEMOIZED }>(key, hash)?.ok_or(hash))
    }

    /// Computes the result of a call for which [`find_if_plain`](Self::find_if_plain) found none.
    #[cold]
    fn miss_plainly<'py>(
        &self,
        this: Borrowed<'_, 'py, Self>,
        call: &Call<'_, 'py>,
        hash: u64,
    ) -> PyResult<Py<PyAny>> {
        let cache = self.plain.as_ref().expect("it was looked in").bind_borrowed(this.py());
        self.miss(this, cache, call, LookupKey { key: self.arguments.key(call)?, hash })
    }

    /// Answers a call.
    #[inline(always)]
    fn answer<'py>(&self, this: Borrowed<'_, 'py, Self>, call: Call<'_, 'py>) -> PyResult<Py<PyAny>> {
        let py = this.py();
        let Some(cache) = &self.cache else {
            self.uncached.fetch_add(1, Ordering::Relaxed);
            return call.call(&self.function).map(Bound::unbind);
        };
        let cache = cache.bind_borrowed(py);
        if self.makes_key.load(Ordering::Relaxed) {
            return attached(py, |_| self.answer_with_made_key(this, cache, call));
        }
        let (found, hash) = self.find(cache, &call).map_err(|error| self.unhashable(py, error))?;
        match found {
            Ok(Some(value)) if self.ready.is_none() && !self.examines.load(Ordering::Relaxed) => Ok(value),
            Ok(Some(value)) => self.hit(this, value, &call, |_| self.arguments.key(&call)),
            Ok(None) => attached(py, |_| {
                self.miss(this, cache, &call, LookupKey { key: self.arguments.key(&call)?, hash })
            }),
            Err(Complicated) => attached(py, |_| {
                let key = self.arguments.key(&call)?;
                self.look_up(this, cache, &call, LookupKey { key, hash })
            }),
        }
    }

    /// Looks up the result of a call, and returns it with the hash of its key. A separate function for the
    /// same reason as [`find_if_plain`](Self::find_if_plain).
    #[inline(never)]
    fn find(&self, cache: Borrowed<'_, '_, FlexCache>, call: &Call<'_, '_>) -> PyResult<(Answer, u64)> {
        if let Some(key) = self.arguments.sole(call) {
            let hash = cache.get().hash(key)?;
            return Ok((cache.get().read_if_plain::<{ site::MEMOIZED }>(key, hash), hash));
        }
        let hash = cache.get().hash_of(self.arguments.hash(call)?);
        Ok((self.read_call(cache, call, hash), hash))
    }

    /// The error for unhashable arguments, which names the function. It begins with the interpreter's
    /// message, because programs that use functools may look for that.
    #[cold]
    pub(super) fn unhashable(&self, py: Python<'_>, error: PyErr) -> PyErr {
        attached(py, |py| {
            if !error.is_instance_of::<PyTypeError>(py) {
                return error;
            }
            let function = self.function.bind(py);
            let name =
                function.getattr(intern!(py, "__qualname__")).and_then(|name| name.extract::<String>());
            let Ok(name) = name.or_else(|_| function.repr().map(|text| text.to_string())) else {
                return error;
            };
            let reason = match (&self.key, self.loads) {
                (Some(_), _) => format!("the key of a call of {name}() must be hashable"),
                (None, true) => {
                    format!("an argument of {name}() cannot be part of a key; give memoize() a key")
                }
                (None, false) => format!("an argument of {name}() cannot be part of a key"),
            };
            let told = PyTypeError::new_err(format!("{}; {reason}", error.value(py)));
            told.set_cause(py, Some(error));
            told
        })
    }

    /// Reads the result of a call without building its key.
    #[inline(always)]
    pub(super) fn read_call(
        &self,
        cache: Borrowed<'_, '_, FlexCache>,
        call: &Call<'_, '_>,
        hash: u64,
    ) -> Result<Option<Py<PyAny>>, Complicated> {
        let eq = |stored: &Py<PyAny>| self.arguments.native_eq(stored, call);
        cache.get().read_if_plainly_equal(call.py(), hash, eq)
    }

    /// Looks a key up on the slow path.
    #[cold]
    #[inline(never)]
    pub(super) fn look_up<'py>(
        &self,
        this: Borrowed<'_, 'py, Self>,
        cache: Borrowed<'_, 'py, FlexCache>,
        call: &Call<'_, 'py>,
        wanted: LookupKey<'py>,
    ) -> PyResult<Py<PyAny>> {
        let found = if self.ready.is_some() && cache.get().tier.is_some() {
            // The store may make callers wait, which is not allowed on an event loop. So the method _load()
            // asks the store.
            cache
                .get()
                .read_if_plain::<{ site::OTHER }>(wanted.key.as_borrowed(), wanted.hash)
                .unwrap_or(None)
        } else {
            cache.get().read_to_load(wanted.key.as_borrowed(), wanted.hash)?
        };
        match found {
            Some(value) => self.hit(this, value, call, |_| Ok(wanted.key)),
            None => self.miss(this, cache, call, wanted),
        }
    }

    /// The result of a call that found a value in the cache.
    #[inline]
    pub(super) fn hit<'py>(
        &self,
        this: Borrowed<'_, 'py, Self>,
        value: Py<PyAny>,
        call: &Call<'_, 'py>,
        key: impl FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let py = this.py();
        let value = match CachedResult::of(value.bind(py)).filter(|_| self.examines.load(Ordering::Relaxed)) {
            None => value,
            Some(remembered) => match remembered.get().if_fresh(py) {
                Some(value) => value,
                None => {
                    let (key, args) = (key(py)?, call.args()?);
                    let kwargs = call.kwargs()?.unwrap_or_else(|| PyDict::new(py));
                    return attached(py, |py| {
                        let arguments = [&key, value.bind(py), args.as_any(), kwargs.as_any()];
                        Self::answer_by(this, intern!(py, "_reconsider"), arguments)
                    });
                }
            },
        };
        match &self.ready {
            None => Ok(value),
            Some(ready) => call_python(ready.bind(py), [value.bind(py)]).map(Bound::unbind),
        }
    }

    /// The result of a call that found nothing.
    #[cold]
    pub(super) fn miss<'py>(
        &self,
        this: Borrowed<'_, 'py, Self>,
        cache: Borrowed<'_, 'py, FlexCache>,
        call: &Call<'_, 'py>,
        wanted: LookupKey<'py>,
    ) -> PyResult<Py<PyAny>> {
        if self.loads {
            return Self::load(this, call, &wanted.key);
        }
        let result = call.call(&self.function)?;
        Self::keep(cache, &wanted, &result)?;
        Ok(result.unbind())
    }

    // These two are separate functions so that a recursive call takes less of the stack.

    /// Lets one call compute for all waiting callers.
    #[inline(never)]
    fn load<'py>(
        this: Borrowed<'_, 'py, Self>,
        call: &Call<'_, 'py>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        let (py, memo) = (this.py(), this.get());
        if let Some(KeptFor(ttl)) = &memo.keeps
            && !memo.examines.load(Ordering::Relaxed)
            && let Some(cache) = &memo.cache
        {
            let ttl = ttl.as_ref().map(|ttl| ttl.bind_borrowed(py));
            return compute_and_keep(cache.bind(py), key, ttl, || call.call(&memo.function));
        }
        let (args, kwargs) = (call.args()?, call.kwargs()?.unwrap_or_else(|| PyDict::new(py)));
        Self::answer_by(this, intern!(py, "_load"), [key, args.as_any(), kwargs.as_any()])
    }

    /// Calls a method that answers a call. A coroutine gets the name of the function.
    pub(super) fn answer_by<'py, const N: usize>(
        this: Borrowed<'_, 'py, Self>,
        method: &Bound<'py, PyString>,
        arguments: [&Bound<'py, PyAny>; N],
    ) -> PyResult<Py<PyAny>> {
        let answer = call_python(&this.getattr(method)?, arguments)?;
        if let Some(name) = &this.get().awaited {
            answer.setattr(intern!(this.py(), "__qualname__"), name)?;
        }
        Ok(answer.unbind())
    }

    /// Stores a computed result, unless another call has stored one meanwhile.
    #[inline(never)]
    fn keep(
        cache: Borrowed<'_, '_, FlexCache>,
        wanted: &LookupKey<'_>,
        result: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (key, value) = (wanted.key.as_borrowed(), result.as_borrowed());
        if cache.get().insert_if_plain(key, value, wanted.hash).is_ok() {
            return Ok(());
        }
        FlexCache::write_weighed(&cache, key, value, wanted.hash, None, Terms::new(1, IfPresent::Keep))
            .map(drop)
    }
}

pub(super) unsafe extern "C" fn call_memoized(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    flagged_count: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls attached, with arguments that outlive the call, what it has
    // found this function in.
    unsafe {
        let py = Python::assume_attached();
        let this = Borrowed::from_ptr(py, this).cast_unchecked::<Memoized>();
        let call = Call::new(py, args, flagged_count, names);
        // A panic here happens again below, where it is turned into an exception.
        if !call.has_keywords()
            && let Ok(Ok(found)) = catch_unwind(AssertUnwindSafe(|| this.get().find_if_plain(&call)))
        {
            return match found {
                Ok(value) => value.into_ptr(),
                Err(hash) => entered(ptr::null_mut(), |py| {
                    attached(py, |_| this.get().miss_plainly(this, &call, hash)).map(Py::into_ptr)
                }),
            };
        }
        entered(ptr::null_mut(), |_| this.get().answer(this, call).map(Py::into_ptr))
    }
}

/// A cache for results of functions, whose hooks are not run: what left may be in use elsewhere.
///
/// `most` is the largest number of results; None for no limit.
#[pyfunction]
#[pyo3(name = "_cache_of_results")]
pub(crate) fn cache_of_results(py: Python<'_>, most: Option<u64>) -> PyResult<FlexCache> {
    // Without a limit nothing is evicted, and there is no order to keep.
    let policy = if most.is_some() { PolicyName::Lru } else { PolicyName::Fifo };
    let options = Options { policy, runs_hooks: false, ..Options::default() };
    let limits = Limits::new(most.unwrap_or(0), 0);
    let store = AnyStore::new(policy, options::share(limits, 0, 1), rand::random()).map_err(out_of_memory)?;
    let callbacks = Callbacks { on_evict: None, policy: None, weigher: None, clock: None, tier: None };
    FlexCache::build(py, options, callbacks, std::iter::empty(), store, rand::random())
}

/// Lets the interpreter call instances of a class directly, and methods without binding them.
/// Subclasses do not inherit that.
#[pyfunction]
#[pyo3(name = "_call_directly")]
pub(crate) fn call_directly(class: &Bound<'_, PyType>) -> PyResult<()> {
    if !class.is_subclass_of::<Memoized>()? {
        return Err(PyTypeError::new_err("class must be a subclass of Memoized"));
    }
    let flags = ffi::Py_TPFLAGS_HAVE_VECTORCALL | ffi::Py_TPFLAGS_METHOD_DESCRIPTOR;
    // SAFETY: the class was made on the heap, and its instances begin as those of `Memoized` do.
    unsafe { vectorcall::add_flags(class, flags) };
    Ok(())
}

/// Makes instances callable without PyO3's wrapping. Called once, before any instance is used.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    int_hash::look(py)?;
    call_key::compare_hashes(py)?;
    let nothing = Memoized::new(
        py,
        py.None(),
        None,
        false,
        None,
        0,
        Vec::new(),
        None,
        None,
        None,
        None,
        false,
        false,
        false,
        false,
        None,
    )?;
    let instance = Bound::new(py, nothing)?;
    vectorcall::install(&instance, &raw const instance.get().vectorcall);
    call_directly(&instance.get_type())?;
    bound_method::install(&instance)
}
