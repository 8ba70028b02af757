//! `get` of a directory and of shards, which the interpreter calls without PyO3's wrapping. That would make a tuple and
//! a dict of the arguments.

use std::ffi::CStr;
use std::ptr;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

use super::arguments::WithDetails;
use super::cache::DiskCache;
use super::shards::DiskShards;
use crate::py::object::argument::truth;
use crate::py::object::entered::entered;
use crate::py::object::fast_call::{Parameters, given, methods, object, or_default};
use crate::py::object::running_python::attached;

const GET: Parameters<6> = Parameters {
    method: "get",
    required: 1,
    names: ["key", "default", "read", "expire_time", "tag", "retry"],
};

const GET_DOC: &CStr =
    c"get($self, /, key, default=None, read=False, expire_time=False, tag=False, retry=False)
--

Return the value of a key. It writes only with `statistics`, or if the policy evicts by use.

Args:
    key: The key.
    default: The result if there is no live value.
    read: Whether to return an open file if the value is stored in a file of bytes.
    expire_time: Whether to return (value, time of expiry in seconds since the epoch).
    tag: Whether to return (value, tag). With `expire_time`, the result has all three.
    retry: Whether to wait for other writers for longer than `timeout`.

Raises:
    Timeout: The write lock was not acquired within `timeout` seconds, and this read needed it.

>>> from flexcache_rs.disk import Cache
>>> cache = Cache()
>>> cache[\"answer\"] = 42
>>> cache.get(\"answer\"), cache.get(\"question\", \"what?\"), cache.get(\"answer\", expire_time=True)
(42, 'what?', (42, None))
";

const GET_OF_SHARDS_DOC: &CStr =
    c"get($self, /, key, default=None, read=False, expire_time=False, tag=False, retry=False)
--

Return the value of a key.

Args:
    key: The key.
    default: The result if there is no value.
    read: Must be False, because files are not returned.
    expire_time: Whether to also return the time of expiry in seconds since 1970.
    tag: Whether to also return the tag.
    retry: Accepted without effect.

Returns:
    The value, or a tuple of the value and the requested data.
";

/// The flags of both calls, each of which is false if it is not given.
struct Flags {
    read: bool,
    wanted: WithDetails,
    retry: bool,
}

impl Flags {
    /// The flags of these arguments: `read`, `expire_time`, `tag`, `retry`.
    ///
    /// # Safety
    ///
    /// Each must be null or an object that outlives the call.
    #[inline]
    unsafe fn of(py: Python<'_>, arguments: [*mut ffi::PyObject; 4]) -> PyResult<Self> {
        // SAFETY: the caller's promise.
        let flag = |argument| unsafe { given(py, argument) }.map_or(Ok(false), |flag| truth(&flag));
        let [read, expire_time, tag, retry] = arguments;
        let (read, retry) = (flag(read)?, flag(retry)?);
        Ok(Self { read, wanted: WithDetails { expire_time: flag(expire_time)?, tag: flag(tag)? }, retry })
    }
}

/// Runs a call whose result is a new reference.
///
/// # Safety
///
/// The calling thread must be attached.
#[inline]
unsafe fn called(call: impl FnOnce(Python<'_>) -> PyResult<*mut ffi::PyObject>) -> *mut ffi::PyObject {
    // SAFETY: the caller's promise.
    unsafe { entered(ptr::null_mut(), |py| attached(py, call)) }
}

unsafe extern "C" fn get(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls attached, on a DiskCache, with arguments that outlive the call.
    unsafe {
        called(|py| {
            let [key, default, read, expire_time, tag, retry] = GET.bind(py, args, count, keywords)?;
            let cache = object(py, this).cast_unchecked::<DiskCache>().get();
            let Flags { read, wanted, retry } = Flags::of(py, [read, expire_time, tag, retry])?;
            let has_details = wanted.expire_time || wanted.tag;
            let found = cache.find(&object(py, key), read, has_details, retry)?;
            let (value, entry) = found.unzip();
            if !has_details {
                return Ok(or_default(py, value.map(Bound::unbind), default));
            }
            let value = Bound::from_owned_ptr(py, or_default(py, value.map(Bound::unbind), default));
            Ok(wanted.shape(value, entry.as_ref())?.into_ptr())
        })
    }
}

unsafe extern "C" fn get_of_shards(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as for `get`, on a DiskShards.
    unsafe {
        called(|py| {
            let [key, default, read, expire_time, tag, retry] = GET.bind(py, args, count, keywords)?;
            let shards = object(py, this).cast_unchecked::<DiskShards>();
            let Flags { read, wanted, retry: _ } = Flags::of(py, [read, expire_time, tag, retry])?;
            let key = object(py, key);
            if read || wanted.expire_time || wanted.tag {
                let default = Bound::from_owned_ptr(py, or_default(py, None, default));
                let wanted = (key, default, read, wanted.expire_time, wanted.tag);
                return Ok(shards.call_method1(intern!(py, "_flexcache_get_with"), wanted)?.into_ptr());
            }
            let found = DiskShards::find(&shards, &key)?;
            Ok(or_default(py, found.map(Bound::unbind), default))
        })
    }
}

/// Puts the fast calls on the classes.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    methods(&py.get_type::<DiskCache>(), &[(c"get", get, GET_DOC)])?;
    methods(&py.get_type::<DiskShards>(), &[(c"get", get_of_shards, GET_OF_SHARDS_DOC)])
}
