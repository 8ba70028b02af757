//! The calls that must cost little: `get`, `put` and `set`, without PyO3's wrapping.

use std::ffi::CStr;
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;

use super::key;
use super::segment::{SharedSegment, read};
use crate::py::object::entered::entered;
use crate::py::object::fast_call::{Parameters, given, method, object};
use crate::py::object::running_python::attached;

const GET: Parameters<2> = Parameters { method: "get", required: 1, names: ["key", "default"] };
const PUT: Parameters<4> = Parameters { method: "put", required: 2, names: ["key", "value", "ttl", "tags"] };
const SET: Parameters<4> = Parameters { method: "set", required: 2, names: ["key", "value", "ttl", "tags"] };

const GET_DOC: &CStr = c"get($self, key, default=None)
--

Return the value of a key, or `default` if there is none. Takes no lock.

Every call makes a new object.

Raises:
    TypeError: The key is not a str, bytes, int, float, bool, None or a tuple of these.

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

Store a value, or replace the one that is there.

Args:
    key: A str, bytes, int, float, bool, None, or a tuple of these. 1, 1.0 and True are one key, as in a dict.
    value: Anything that can be pickled. Plain types, and tuples, lists and dicts of them, are stored without pickle.
    ttl: Seconds as int or float, a `timedelta` or a `datetime`; None for `default_ttl`, `float(\"inf\")` for ever.
    tags: What `evict_tag` knows the entry by: an iterable of str.

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

unsafe extern "C" fn get(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls attached, on a SharedSegment, with arguments that outlive the call.
    unsafe {
        entered(ptr::null_mut(), |py| {
            let [key, default] = GET.bind(py, args, count, keywords)?;
            let segment = object(py, this).cast_unchecked::<SharedSegment>();
            let opened = segment.get().opened()?;
            let key = object(py, key);
            let encoded = key::encode(&key)?;
            match read(py, opened, encoded.as_key())? {
                Some(value) => Ok(value.into_ptr()),
                None if default.is_null() => Ok(py.None().into_ptr()),
                None => Ok(object(py, default).to_owned().into_ptr()),
            }
        })
    }
}

/// Stores a value.
///
/// # Safety
///
/// As the interpreter calls a fast method of `SharedSegment`.
unsafe fn store(
    parameters: &Parameters<4>,
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the caller's promise.
    unsafe {
        entered(ptr::null_mut(), |py| {
            let [key, value, ttl, tags] = parameters.bind(py, args, count, keywords)?;
            let segment = object(py, this).cast_unchecked::<SharedSegment>();
            let (key, value) = (object(py, key), object(py, value));
            let (ttl, tags) = (given(py, ttl), given(py, tags));
            attached(py, |py| segment.get().put(py, key, value, ttl, tags))?;
            Ok(py.None().into_ptr())
        })
    }
}

unsafe extern "C" fn put(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls it.
    unsafe { store(&PUT, this, args, count, keywords) }
}

unsafe extern "C" fn set(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls it.
    unsafe { store(&SET, this, args, count, keywords) }
}

/// Puts the calls on the class.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<SharedSegment>();
    let calls: [(_, ffi::PyCFunctionFastWithKeywords, _); 3] =
        [(c"get", get, GET_DOC), (c"put", put, PUT_DOC), (c"set", set, SET_DOC)];
    for (name, call, doc) in calls {
        let call = ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: call };
        method(&class, name, call, ffi::METH_FASTCALL | ffi::METH_KEYWORDS, doc)?;
    }
    Ok(())
}
