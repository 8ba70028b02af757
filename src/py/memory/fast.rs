//! The calls that must be as fast as those of a dict: `get`, `put`, `set`, `[]`, `[]=` and `in`; and the package's own
//! look into memory alone.
//!
//! The interpreter calls them without PyO3's wrapping: methods as `METH_FASTCALL | METH_KEYWORDS` descriptors
//! on the class, operators as slots of the type. Each call catches panics. The slow path runs inside
//! `attached`, so that references which are dropped there are released at once.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::exceptions::PyKeyError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

use super::any_store::Complicated;
use super::read::site;
use super::state::{self, FlexCache};
use super::terms::{IfPresent, Terms};
use super::{load_in_thread, mapping};
use crate::py::object::entered::entered;
use crate::py::object::fast_call::{FastCall, Parameters, given, method, methods, object, or_default};
use crate::py::object::fast_slots::FastSlots;
use crate::py::object::running_python::attached;

const GET: Parameters<2> = Parameters { method: "get", required: 1, names: ["key", "default"] };
const GET_FROM_MEMORY: Parameters<2> =
    Parameters { method: "_get_from_memory", required: 2, names: ["key", "default"] };
const PUT: Parameters<4> = Parameters { method: "put", required: 2, names: ["key", "value", "ttl", "tags"] };
const SET: Parameters<4> = Parameters { method: "set", required: 2, names: ["key", "value", "ttl", "tags"] };

const GET_OR_SET: Parameters<4> =
    Parameters { method: "get_or_set", required: 2, names: ["key", "factory", "ttl", "tags"] };
/// Named after the method that it is in classes which stand in for cachetools'.
const GET_OR_STORE: Parameters<2> =
    Parameters { method: "setdefault", required: 1, names: ["key", "default"] };

const GET_DOC: &CStr = c"get($self, key, default=None)
--

Return the value of a key, or `default` if it is absent or has expired.

Counts as an access and as a hit or a miss.

Raises:
    TypeError: The key is not hashable.

O(1).

>>> from flexcache_rs import FlexCache
>>> cache = FlexCache()
>>> cache[\"a\"] = 1
>>> cache.get(\"a\"), cache.get(\"b\"), cache.get(\"b\", 0)
(1, None, 0)
";

pub(super) const GET_FROM_MEMORY_DOC: &CStr = c"_get_from_memory($self, key, default)
--

The value of a key, if memory may serve it without asking the store.";

const GET_ITEM_OR_DOC: &CStr = c"_get_item_or($self, key, default=None)
--

Return the value of a key, or the default if it is absent.";

const PEEK_ITEM_DOC: &CStr = c"_peek_item($self, key, /)
--

Return the value of a key, or what `__missing__` returns. It is no use of the entry.";

const GET_OR_STORE_DOC: &CStr = c"_get_or_store($self, key, default=None)
--

Return the value of a key. If it is absent, store the default.";

const PUT_DOC: &CStr = c"put($self, key, value, ttl=None, tags=None)
--

Store or replace a value. The same as `cache[key] = value`.

Args:
    key: Any hashable object.
    value: Any object. See FlexCache for the methods that it may have.
    ttl: The time to live: seconds as int or float, a timedelta, or a datetime (without a time
        zone in local time). A time that is not in the future has already expired. float(\"inf\")
        means for ever, and None means the cache's default_ttl.
    tags: The tags of the entry for evict_tag(): an iterable of str, or None for no tags. A value
        that replaces another one has only the tags of this call.

Raises:
    TypeError: The key is not hashable, the ttl is no time, item_size() is no integer, or tags is
        no iterable of str. A single tag is written (\"user:1\",).
    ValueError: The ttl is NaN, item_size() is negative or larger than max_bytes, or a tag has
        lone surrogates.
    OverflowError: The ttl is longer than 292 years, or the sum of sizes does not fit 64 bits.

If it raises an exception, the cache is unchanged. O(1) for each removed entry.

>>> from flexcache_rs import FlexCache
>>> cache = FlexCache()
>>> cache.put(\"a\", 1)
>>> cache.put(\"a\", 2, ttl=60)
>>> cache[\"a\"]
2
";

const SET_DOC: &CStr = c"set($self, key, value, ttl=None, tags=None)
--

Store a value under a key that is absent or has expired.

The arguments and other exceptions are those of put().

Raises:
    KeyError: The key is present.

O(1) for each removed entry.

>>> from flexcache_rs import FlexCache
>>> cache = FlexCache()
>>> cache.set(\"a\", 1)
>>> cache.set(\"a\", 2)
Traceback (most recent call last):
    ...
KeyError: 'a'
";

const GET_OR_SET_DOC: &CStr = c"get_or_set($self, key, factory, ttl=None, tags=None)
--

Return the value of a key. If it is absent, call factory(), store its result and return it.

If several threads and tasks ask for an absent key at the same time, one of them calls its factory.
The others wait, and share its result or its exception. An exception is not stored, so the next call
tries again. If a caller writes to the key while the factory runs, the callers that wait get the
result, and the cache does not keep it. In front of a directory, all of this includes the callers
and writes of other caches and processes. A caller waits for them for at most `lease_wait` seconds.

Args:
    key: Any hashable object.
    factory: A function without arguments. It must not be a coroutine function; use aget_or_set()
        for these.
    ttl: The time to live, as for put().
    tags: The tags of the entry for evict_tag().

Raises:
    CircularLoadError: The factory would have to wait for itself.
    LoadCancelled: The factory for which this call waited raised asyncio.CancelledError.
    LoadFailedElsewhere: The factory of another process raised an exception that cannot be restored
        here.
    TypeError, ValueError, OverflowError: As for put().

An exception of the factory propagates. O(1), without the factory.

>>> from flexcache_rs import FlexCache
>>> cache = FlexCache()
>>> cache.get_or_set(\"a\", lambda: 1), cache.get_or_set(\"a\", lambda: 2)
(1, 1)
";

/// The cache that a method or slot was called on.
///
/// # Safety
///
/// `this` must be a `FlexCache`, as the interpreter has checked before it calls.
#[inline]
unsafe fn cache_of<'a, 'py>(py: Python<'py>, this: *mut ffi::PyObject) -> Borrowed<'a, 'py, FlexCache> {
    // SAFETY: the caller's promise; the caller of the call keeps `this` alive.
    unsafe { object(py, this).cast_unchecked::<FlexCache>() }
}

/// Reads a value: on the fast path if possible, otherwise on the slow one.
///
/// # Safety
///
/// As for [`cache_of`], and `key` must be an object that outlives the call.
#[inline(always)]
unsafe fn read<const SITE: u8>(
    py: Python<'_>,
    this: *mut ffi::PyObject,
    key: *mut ffi::PyObject,
) -> PyResult<Option<Py<PyAny>>> {
    // SAFETY: the caller's promise.
    let (cache, key) = unsafe { (cache_of(py, this), object(py, key)) };
    let hash = cache.get().hash(key)?;
    match cache.get().read_if_plain::<SITE>(key, hash) {
        Ok(value) => Ok(value),
        Err(Complicated) => read_slowly(cache, key, hash, SITE == site::GET_OR_SET),
    }
}

/// A separate function, so that the fast path needs no stack for its arguments.
#[cold]
fn read_slowly(
    cache: Borrowed<'_, '_, FlexCache>,
    key: Borrowed<'_, '_, PyAny>,
    hash: u64,
    loads: bool,
) -> PyResult<Option<Py<PyAny>>> {
    let cache = cache.get();
    attached(key.py(), |_| if loads { cache.read_to_load(key, hash) } else { cache.read(key, hash) })
}

/// Stores or replaces a value: on the fast path if possible, otherwise on the slow one.
///
/// # Safety
///
/// As for [`cache_of`], and the others must be objects that outlive the call.
#[inline(always)]
unsafe fn write<const SITE: u8>(
    py: Python<'_>,
    this: *mut ffi::PyObject,
    key: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    ttl: *mut ffi::PyObject,
) -> PyResult<()> {
    // SAFETY: the caller's promise.
    let (cache, key, value, ttl) =
        unsafe { (cache_of(py, this), object(py, key), object(py, value), given(py, ttl)) };
    let hash = cache.get().hash(key)?;
    if ttl.is_none() && cache.get().write_if_plain::<SITE>(key, value, hash).is_ok() {
        return Ok(());
    }
    write_slowly(cache, key, value, ttl, hash)
}

/// A separate function, so that the fast path needs no stack for its arguments.
#[inline(never)]
fn write_slowly(
    cache: Borrowed<'_, '_, FlexCache>,
    key: Borrowed<'_, '_, PyAny>,
    value: Borrowed<'_, '_, PyAny>,
    ttl: Option<Borrowed<'_, '_, PyAny>>,
    hash: u64,
) -> PyResult<()> {
    let weight = cache.get().weight_of(key, value)?;
    let terms = Terms::new(weight, IfPresent::Replace);
    FlexCache::write_weighed(&cache, key, value, hash, ttl, terms).map(drop)
}

/// A separate function for the same reason.
#[inline(never)]
fn write_tagged(
    cache: Borrowed<'_, '_, FlexCache>,
    key: Borrowed<'_, '_, PyAny>,
    value: Borrowed<'_, '_, PyAny>,
    ttl: Option<Borrowed<'_, '_, PyAny>>,
    tags: Option<Borrowed<'_, '_, PyAny>>,
) -> PyResult<()> {
    attached(key.py(), |_| FlexCache::write(&cache, key, value, ttl, tags, IfPresent::Replace)).map(drop)
}

pub(super) unsafe extern "C" fn get(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls attached, on a FlexCache, with arguments that outlive the call.
    unsafe {
        entered(ptr::null_mut(), |py| {
            let [key, default] = GET.bind(py, args, count, keywords)?;
            Ok(or_default(py, read::<{ site::GET }>(py, this, key)?, default))
        })
    }
}

pub(super) unsafe extern "C" fn get_from_memory(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as for `get`.
    unsafe {
        entered(ptr::null_mut(), |py| {
            let [key, default] = GET_FROM_MEMORY.bind(py, args, count, keywords)?;
            let (cache, key) = (cache_of(py, this).get(), object(py, key));
            let found = cache.read_if_plain::<{ site::FROM_MEMORY }>(key, cache.hash(key)?);
            Ok(or_default(py, found.ok().flatten(), default))
        })
    }
}

unsafe extern "C" fn put(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as for `get`.
    unsafe {
        entered(ptr::null_mut(), |py| {
            let [key, value, ttl, tags] = PUT.bind(py, args, count, keywords)?;
            if tags.is_null() {
                write::<{ site::PUT }>(py, this, key, value, ttl)?;
            } else {
                write_tagged(
                    cache_of(py, this),
                    object(py, key),
                    object(py, value),
                    given(py, ttl),
                    given(py, tags),
                )?;
            }
            Ok(py.None().into_ptr())
        })
    }
}

unsafe extern "C" fn set(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as for `get`.
    unsafe {
        entered(ptr::null_mut(), |py| {
            let [key, value, ttl, tags] = SET.bind(py, args, count, keywords)?;
            let (key, value) = (object(py, key), object(py, value));
            let (ttl, tags) = (given(py, ttl), given(py, tags));
            if FlexCache::write(&cache_of(py, this), key, value, ttl, tags, IfPresent::Raise)? {
                Ok(py.None().into_ptr())
            } else {
                Err(PyKeyError::new_err((key.to_owned().unbind(),)))
            }
        })
    }
}

unsafe extern "C" fn get_or_set(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as for `get`.
    unsafe {
        entered(ptr::null_mut(), |py| {
            let [key, factory, ttl, tags] = GET_OR_SET.bind(py, args, count, keywords)?;
            if let Some(value) = read::<{ site::GET_OR_SET }>(py, this, key)? {
                return Ok(value.into_ptr());
            }
            let (cache, key) = (cache_of(py, this), object(py, key));
            let (factory, ttl, tags) = (object(py, factory), given(py, ttl), given(py, tags));
            attached(py, |_| Ok(load_in_thread::get_or_set(&cache, &key, &factory, ttl, tags)?.into_ptr()))
        })
    }
}

/// `get` of a subclass that may compose it of its operators.
unsafe extern "C" fn get_item_or(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as for `get`.
    unsafe {
        entered(ptr::null_mut(), |py| {
            let [key, default] = GET.bind(py, args, count, keywords)?;
            if cache_of(py, this).get().composes_in_python() {
                return composed(cache_of(py, this), intern!(py, "_cachetools_plain_get"), key, default);
            }
            Ok(or_default(py, read::<{ site::GET }>(py, this, key)?, default))
        })
    }
}

/// Calls what a subclass composes of its operators.
///
/// # Safety
///
/// `key` must be an object that outlives the call, and `default` one or null.
#[cold]
unsafe fn composed(
    cache: Borrowed<'_, '_, FlexCache>,
    name: &Bound<'_, PyString>,
    key: *mut ffi::PyObject,
    default: *mut ffi::PyObject,
) -> PyResult<*mut ffi::PyObject> {
    let py = cache.py();
    // SAFETY: the caller's promise.
    let (key, default) = unsafe { (object(py, key), given(py, default)) };
    let default = default.map_or_else(|| py.None().into_bound(py), Borrowed::to_owned);
    attached(py, |_| mapping::composed(&cache, name, &key, &default)).map(Py::into_ptr)
}

unsafe extern "C" fn get_or_store(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as for `get`.
    unsafe {
        entered(ptr::null_mut(), |py| {
            let [key, default] = GET_OR_STORE.bind(py, args, count, keywords)?;
            if cache_of(py, this).get().composes_in_python() {
                return composed(
                    cache_of(py, this),
                    intern!(py, "_cachetools_plain_setdefault"),
                    key,
                    default,
                );
            }
            if let Some(value) = read::<{ site::OTHER }>(py, this, key)? {
                return Ok(value.into_ptr());
            }
            let default = given(py, default).map_or_else(|| py.None(), |default| default.to_owned().unbind());
            let (cache, key) = (object(py, this), object(py, key));
            attached(py, |_| cache.set_item(key, &default))?;
            Ok(default.into_ptr())
        })
    }
}

unsafe extern "C" fn subscript(this: *mut ffi::PyObject, key: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: as for `get`.
    unsafe {
        entered(ptr::null_mut(), |py| match read::<{ site::SUBSCRIPT }>(py, this, key)? {
            Some(value) => Ok(value.into_ptr()),
            None => {
                let (cache, key) = (cache_of(py, this).to_owned(), object(py, key).to_owned());
                attached(py, |_| mapping::missing_item(&cache, &key)).map(Py::into_ptr)
            }
        })
    }
}

/// `cache[key]` of a subclass in which this is no use of the entry.
unsafe extern "C" fn peek_item(this: *mut ffi::PyObject, key: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: as for `get`.
    unsafe {
        entered(ptr::null_mut(), |py| {
            let (cache, key) = (cache_of(py, this), object(py, key));
            match cache.get().peek_at(key)? {
                Some(value) => Ok(value.into_ptr()),
                None => attached(py, |_| mapping::missing_value(&cache, &key)).map(Py::into_ptr),
            }
        })
    }
}

unsafe extern "C" fn assign_subscript(
    this: *mut ffi::PyObject,
    key: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
) -> c_int {
    // SAFETY: as for `get`; a null value means `del`.
    unsafe {
        entered(-1, |py| {
            let in_python = cache_of(py, this).get().stores_in_python();
            if value.is_null() {
                if in_python {
                    let (cache, key) = (cache_of(py, this), object(py, key));
                    return attached(py, |_| mapping::remove_item(&cache, &key)).map(|()| 0);
                }
                return cache_of(py, this).get().remove_or_raise_fast(object(py, key)).map(|()| 0);
            }
            if in_python {
                let (cache, key, value) = (cache_of(py, this), object(py, key), object(py, value));
                return attached(py, |_| mapping::store_item(&cache, &key, &value)).map(|()| 0);
            }
            if cache_of(py, this).get().chooses_in_python() {
                let (cache, key) = (cache_of(py, this), object(py, key));
                attached(py, |_| mapping::make_room(&cache, &key))?;
            }
            write::<{ site::ASSIGN }>(py, this, key, value, ptr::null_mut()).map(|()| 0)
        })
    }
}

unsafe extern "C" fn contains(this: *mut ffi::PyObject, key: *mut ffi::PyObject) -> c_int {
    // SAFETY: as for `get`.
    unsafe { entered(-1, |py| cache_of(py, this).get().has(object(py, key)).map(c_int::from)) }
}

unsafe extern "C" fn finalize(this: *mut ffi::PyObject) {
    // SAFETY: the collector calls attached, on a FlexCache.
    unsafe {
        entered((), |py| {
            attached(py, |py| cache_of(py, this).get().finalize(py));
            Ok(())
        });
    }
}

/// `__del__` of `FlexCache`, which finalizes the cache. A subclass's `__del__` may call it.
unsafe extern "C" fn del(this: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: as for `get`.
    unsafe {
        finalize(this);
        Python::assume_attached().None().into_ptr()
    }
}

/// The finalizer that Python gives a subclass: it calls the subclass's `__del__`.
static OF_SUBCLASSES: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Finalizes an instance of a subclass: runs its `__del__`, then removes what is left in the cache, whether
/// or not that `__del__` called ours.
unsafe extern "C" fn finalize_subclass(this: *mut ffi::PyObject) {
    let own = OF_SUBCLASSES.load(Ordering::Relaxed);
    // SAFETY: the stored pointer is null or a finalizer; the collector calls attached, on a FlexCache.
    unsafe {
        if let Some(own) = std::mem::transmute::<*mut c_void, Option<ffi::destructor>>(own) {
            own(this);
        }
        finalize(this);
    }
}

/// Makes sure that instances of the class are finalized, whatever `__del__` the class has.
pub(crate) fn finalize_instances_of(class: &Bound<'_, PyType>) {
    let of = class.as_type_ptr();
    // SAFETY: the type is a subclass of ours, made on the heap, and this thread is attached; every
    // Python class is given the same finalizer by the interpreter.
    unsafe {
        let present = (*of).tp_finalize.map_or(ptr::null_mut(), |finalizer| finalizer as *mut c_void);
        if present == finalize as *mut c_void || present == finalize_subclass as *mut c_void {
            return;
        }
        if !present.is_null() {
            OF_SUBCLASSES.store(present, Ordering::Relaxed);
        }
        (*of).tp_finalize = Some(finalize_subclass);
    }
}

static SLOTS: FastSlots = FastSlots::new(subscript, assign_subscript, contains);

/// Gives a subclass the fast slots, unless it has its own.
pub(crate) fn hurry_instances_of(class: &Bound<'_, PyType>) {
    // SAFETY: the type is a subclass of ours, made on the heap.
    unsafe { SLOTS.hurry_instances_of(class) };
}

/// Puts the fast calls on the class. Called once, before a subclass can be made.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    let class = state::type_of(py);
    let calls: [FastCall; 7] = [
        (c"get", get, GET_DOC),
        (c"_get_from_memory", get_from_memory, GET_FROM_MEMORY_DOC),
        (c"put", put, PUT_DOC),
        (c"set", set, SET_DOC),
        (c"get_or_set", get_or_set, GET_OR_SET_DOC),
        (c"_get_item_or", get_item_or, GET_ITEM_OR_DOC),
        (c"_get_or_store", get_or_store, GET_OR_STORE_DOC),
    ];
    methods(&class, &calls)?;
    let call = ffi::PyMethodDefPointer { PyCFunction: peek_item };
    method(&class, c"_peek_item", call, ffi::METH_O, PEEK_ITEM_DOC)?;
    // Without `__del__` on this class, subclasses would lose the finalizer.
    let call = ffi::PyMethodDefPointer { PyCFunction: del };
    method(&class, c"__del__", call, ffi::METH_NOARGS, c"Close what is left in the cache.")?;
    // SAFETY: PyO3 made the type, on the heap, with all the methods; it is not in use yet.
    unsafe {
        SLOTS.install(&class);
        (*class.as_type_ptr()).tp_finalize = Some(finalize);
        ffi::PyType_Modified(class.as_type_ptr());
    }
    Ok(())
}
