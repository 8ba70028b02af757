//! The calls that must be fast: `get`, `put`, `set`, `incr`, `[]`, `[]=` and `in`, without PyO3's wrapping.

use std::ffi::{CStr, c_int};
use std::ptr;

use flexcache_shared::Entry;
use pyo3::exceptions::PyKeyError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use super::arguments::{deadline, whole};
use super::read::read;
use super::segment::{SharedSegment, run};
use super::{key, value};
use crate::py::object::duration::Ttl;
use crate::py::object::entered::entered;
use crate::py::object::fast_call::{FastCall, Parameters, given, methods, object, or_default};
use crate::py::object::fast_slots::FastSlots;
use crate::py::object::running_python::attached;

const GET: Parameters<2> = Parameters { method: "get", required: 1, names: ["key", "default"] };
const PUT: Parameters<4> = Parameters { method: "put", required: 2, names: ["key", "value", "ttl", "tags"] };
const SET: Parameters<4> = Parameters { method: "set", required: 2, names: ["key", "value", "ttl", "tags"] };

const INCR: Parameters<4> =
    Parameters { method: "incr", required: 1, names: ["key", "by", "initial", "ttl"] };

const GET_DOC: &CStr = c"get($self, key, default=None)
--

Return the value of a key, or `default` if there is none. Takes no lock.

Every call makes a new object.

Raises:
    TypeError: The key is not a str, bytes, int, float, bool, None or a tuple of these.
    RuntimeError: The stored bytes are damaged. The message names the file.
    Exception: What the serializer raises for a value that it cannot load, with a note that names the file.

O(1), and the copy of the value.

>>> from flexcache_rs.shared import SharedCache
>>> with SharedCache(\"example-get\", max_bytes=1 << 20) as cache:
...     cache[\"answer\"] = {\"value\": 42}
...     print(cache.get(\"answer\"), cache.get(\"question\", \"unknown\"))
...     _ = cache.unlink()
{'value': 42} unknown
";

const PUT_DOC: &CStr = c"put($self, key, value, ttl=None, tags=None)
--

Store or replace a value.

Args:
    key: A str, bytes, int, float, bool, None, or a tuple of these. 1, 1.0 and True are one key, as in a dict.
    value: Anything that can be pickled. Plain types, and tuples, lists and dicts of them, are stored without pickle.
    ttl: Seconds as int or float, a `timedelta` or a `datetime`; None for `default_ttl`, `float(\"inf\")` for ever.
    tags: The tags of the entry for `evict_tag`: an iterable of str.

Raises:
    TooLargeError: The entry is larger than `stats().largest_item`.
    TimeoutError: Another process did not release the lock within `lock_timeout`. Nothing was changed.
    TypeError: The key or the tags are of another type.

>>> from flexcache_rs.shared import SharedCache
>>> with SharedCache(\"example-put\", max_bytes=1 << 20) as cache:
...     cache.put(\"session\", [\"a\", \"list\"], ttl=60)
...     print(cache[\"session\"])
...     _ = cache.unlink()
['a', 'list']
";

const SET_DOC: &CStr = c"set($self, key, value, ttl=None, tags=None)
--

The same as `put`.
";

const INCR_DOC: &CStr = c"incr($self, key, by=1, initial=0, ttl=None)
--

Add to the int of a key, in one step for all processes.

Args:
    key: The key.
    by: The int to add.
    initial: The initial value of an absent key.
    ttl: The time to live of a new value. An existing value keeps its own.

Returns:
    The sum.

Raises:
    TypeError: The value, `by` or `initial` is not an int.
    ValueError: `by` or `initial` does not fit 64 bits.
    OverflowError: The sum does not fit 64 bits.
    TimeoutError: As for `put`.

>>> from flexcache_rs.shared import SharedCache
>>> with SharedCache(\"example-incr\", max_bytes=1 << 20) as cache:
...     print(cache.incr(\"visits\"), cache.incr(\"visits\", 10))
...     _ = cache.unlink()
1 11
";

/// The segment that a call was made on.
///
/// # Safety
///
/// `this` must be a `SharedSegment`, as the interpreter has checked before it calls, and outlive the call.
#[inline(always)]
unsafe fn segment_of<'a>(py: Python<'_>, this: *mut ffi::PyObject) -> &'a SharedSegment {
    // SAFETY: the caller's promise.
    unsafe { object(py, this).cast_unchecked::<SharedSegment>().get() }
}

/// Stores a value: on the fast path if possible, otherwise on the slow one.
///
/// # Safety
///
/// As for [`segment_of`], and the others must be null or objects that outlive the call.
#[inline(always)]
unsafe fn store(
    py: Python<'_>,
    this: *mut ffi::PyObject,
    [key, value, ttl, tags]: [*mut ffi::PyObject; 4],
) -> PyResult<()> {
    // SAFETY: the caller's promise.
    let (segment, key, value) = unsafe { (segment_of(py, this), object(py, key), object(py, value)) };
    let opened = segment.opened()?;
    // The fast path needs neither a clock nor Python code, and does not wait.
    if ttl.is_null()
        && tags.is_null()
        && matches!(opened.default_ttl, Ttl::Never)
        && let Some((kind, value)) = value::plain(&value)
        && let Some(key) = key::plain(&key)
    {
        let entry = Entry { kind, value, deadline: 0, tags: &[] };
        if opened.cache.put_at_once(key, &entry).is_some() {
            return Ok(());
        }
    }
    // SAFETY: the caller's promise.
    let (ttl, tags) = unsafe { (given(py, ttl), given(py, tags)) };
    attached(py, |py| segment.put(py, key, value, ttl, tags))
}

/// Reads a value, or returns `default`, which is None if it is not given.
///
/// # Safety
///
/// As for [`segment_of`], and the others must be what the interpreter passes to a fast call.
#[inline(always)]
unsafe fn get_or_default<const LOOKS_AGAIN: bool>(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the caller's promise.
    unsafe {
        entered(ptr::null_mut(), |py| {
            let [key, default] = GET.bind(py, args, count, keywords)?;
            let opened = segment_of(py, this).opened()?;
            let key = object(py, key);
            let encoded = key::encode(&key)?;
            let found = read::<LOOKS_AGAIN>(py, opened, encoded.as_key())?;
            Ok(or_default(py, found.map(Bound::unbind), default))
        })
    }
}

unsafe extern "C" fn get(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls attached, on a SharedSegment, with arguments that outlive the call.
    unsafe { get_or_default::<false>(this, args, count, keywords) }
}

unsafe extern "C" fn find(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as for `get`.
    unsafe { get_or_default::<true>(this, args, count, keywords) }
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
            store(py, this, PUT.bind(py, args, count, keywords)?)?;
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
            store(py, this, SET.bind(py, args, count, keywords)?)?;
            Ok(py.None().into_ptr())
        })
    }
}

unsafe extern "C" fn incr(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as for `get`.
    unsafe {
        entered(ptr::null_mut(), |py| {
            let [key, by, initial, ttl] = INCR.bind(py, args, count, keywords)?;
            let opened = segment_of(py, this).opened()?;
            let key = object(py, key);
            let by = given(py, by).map_or(Ok(1), |by| whole("by", &by))?;
            let initial = given(py, initial).map_or(Ok(0), |initial| whole("initial", &initial))?;
            let deadline = deadline(given(py, ttl), opened.default_ttl)?;
            let encoded = key::encode(&key)?;
            let sum = run(py, opened, |cache, patience| {
                Ok(cache.increment(encoded.as_key(), by, initial, deadline, patience)?.result)
            })?;
            Ok(sum.into_pyobject(py)?.into_ptr())
        })
    }
}

unsafe extern "C" fn subscript(this: *mut ffi::PyObject, key: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: as for `get`.
    unsafe {
        entered(ptr::null_mut(), |py| {
            let opened = segment_of(py, this).opened()?;
            let key = object(py, key);
            let encoded = key::encode(&key)?;
            match read::<false>(py, opened, encoded.as_key())? {
                Some(value) => Ok(value.into_ptr()),
                None => Err(PyKeyError::new_err(key.to_owned().unbind())),
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
            if value.is_null() {
                let segment = segment_of(py, this);
                let key = object(py, key);
                return attached(py, |py| segment.__delitem__(py, &key)).map(|()| 0);
            }
            store(py, this, [key, value, ptr::null_mut(), ptr::null_mut()]).map(|()| 0)
        })
    }
}

unsafe extern "C" fn contains(this: *mut ffi::PyObject, key: *mut ffi::PyObject) -> c_int {
    // SAFETY: as for `get`.
    unsafe {
        entered(-1, |py| {
            let segment = segment_of(py, this);
            segment.__contains__(py, &object(py, key)).map(c_int::from)
        })
    }
}

static SLOTS: FastSlots = FastSlots::new(subscript, assign_subscript, contains);

#[pymethods]
impl SharedSegment {
    #[new]
    #[classmethod]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(
        class: &Bound<'_, PyType>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> Self {
        // SAFETY: it is a subclass of this one, made on the heap.
        unsafe { SLOTS.hurry_instances_of(class) };
        Self::unopened()
    }
}

/// Puts the fast calls on the class.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<SharedSegment>();
    let calls: [FastCall; 5] = [
        (c"get", get, GET_DOC),
        (c"_find", find, c"The same as `get` for a caller that looks again: a miss is not counted, and nothing is waited for."),
        (c"put", put, PUT_DOC),
        (c"set", set, SET_DOC),
        (c"incr", incr, INCR_DOC),
    ];
    methods(&class, &calls)?;
    // SAFETY: PyO3 made the type, on the heap, with all the methods; it is not in use yet.
    unsafe { SLOTS.install(&class) };
    Ok(())
}
