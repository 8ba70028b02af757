//! `NearCache`: the base class of caches that have a `FlexCache` as their memory. With it, a hit runs no
//! Python code.

use std::ffi::CStr;
use std::ptr;
use std::sync::OnceLock;

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use super::fast;
use super::state::FlexCache;
use crate::py::object::entered::entered;
use crate::py::object::fast_call::{Parameters, given, methods, object};
use crate::py::object::running_python::attached;

/// The base class of `flexcache_rs.remote.RemoteCache` and `flexcache_rs.diskcache_rs.FastCache`.
#[pyclass(frozen, subclass, weakref, module = "flexcache_rs._core")]
pub(crate) struct NearCache {
    /// Set once, by `__init__`.
    near: OnceLock<Py<FlexCache>>,
}

#[cold]
fn not_made() -> PyErr {
    PyRuntimeError::new_err("__init__() of the cache was not called")
}

#[pymethods]
impl NearCache {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { near: OnceLock::new() }
    }

    /// Gives a subclass reads of its own: the interpreter calls a method quickly only on the very class that has it.
    #[classmethod]
    #[pyo3(signature = (**_options))]
    fn __init_subclass__(class: &Bound<'_, PyType>, _options: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        let (py, name) = (class.py(), intern!(class.py(), "get"));
        give_get_from_memory(class)?;
        let ours = py.get_type::<Self>().getattr(name)?.get_type();
        // A `get` that is written in Python stays.
        if class.getattr(name)?.get_type().is(&ours) { give_get(class) } else { Ok(()) }
    }

    fn _set_near(&self, near: Py<FlexCache>) -> PyResult<()> {
        self.near.set(near).map_err(|_| PyRuntimeError::new_err("__init__() of the cache was called twice"))
    }

    #[getter(_near)]
    fn near(&self) -> PyResult<&Py<FlexCache>> {
        self.near.get().ok_or_else(not_made)
    }

    fn __getitem__<'py>(&self, key: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.near()?.bind(key.py()).as_any().get_item(key)
    }

    fn __contains__(&self, key: Bound<'_, PyAny>) -> PyResult<bool> {
        self.near()?.bind(key.py()).as_any().contains(key)
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(self.near.get())
    }
}

const GET_DOC: &CStr = c"get($self, key, default=None)
--

Return the value of a key, or `default` if there is none.

Raises:
    TypeError: The key is not a str, bytes, int, float, bool, None or a tuple of these.
    RemoteError: With `on_error=\"raise\"`: the server cannot be reached.
    RemoteValueError: The key holds something that is no value of this cache.

A hit in memory sends no command. Any other call sends one.

>>> with RemoteCache(\"valkey://localhost:6379/0\", \"get\") as cache:
...     cache[\"key\"] = 1
...     print(cache.get(\"key\"), cache.get(\"absent\"), cache.get(\"absent\", 0))
1 None 0
";

/// Makes a call of the memory of a cache.
///
/// # Safety
///
/// The arguments must be those of a call of the interpreter on a `NearCache`.
#[inline(always)]
unsafe fn of_memory(
    call: ffi::PyCFunctionFastWithKeywords,
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls attached, on a NearCache, with arguments that outlive the call.
    unsafe {
        let cache = object(Python::assume_attached(), this).cast_unchecked::<NearCache>();
        match cache.get().near.get() {
            Some(near) => call(near.as_ptr(), args, count, keywords),
            None => entered(ptr::null_mut(), |_| Err(not_made())),
        }
    }
}

unsafe extern "C" fn get(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls it on a NearCache.
    unsafe { of_memory(fast::get, this, args, count, keywords) }
}

unsafe extern "C" fn get_from_memory(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as for `get`.
    unsafe { of_memory(fast::get_from_memory, this, args, count, keywords) }
}

const GET_WITH: Parameters<6> = Parameters {
    method: "get",
    required: 1,
    names: ["key", "default", "read", "expire_time", "tag", "retry"],
};

const GET_WITH_DOC: &CStr =
    c"get($self, key, default=None, read=False, expire_time=False, tag=False, retry=False)
--

Return the value of a key, or the default.

Args:
    key: The key.
    default: The result if there is no value.
    read: Must be False.
    expire_time: Whether to also return the time of expiry in seconds since 1970.
    tag: Whether to also return the tag, which is None.
    retry: Accepted without effect.
";

/// [`get`] of a class that can return more than the value, by its method `_flexcache_get_with`.
unsafe extern "C" fn get_with(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls attached, on a NearCache, with arguments that outlive the call.
    unsafe {
        if keywords.is_null() && (count == 1 || count == 2) {
            return get(this, args, count, keywords);
        }
        entered(ptr::null_mut(), |py| {
            let bound = GET_WITH.bind(py, args, count, keywords)?;
            let [key, default, read, expire_time, tag, _] =
                bound.map(|argument| given(py, argument).map(Borrowed::to_owned));
            let Some(key) = key else { return Err(not_made()) };
            let default = default.unwrap_or_else(|| py.None().into_bound(py));
            let wanted = |argument: Option<Bound<'_, PyAny>>| {
                argument.map_or(Ok(false), |argument| argument.is_truthy())
            };
            let (read, expire_time, tag) = (wanted(read)?, wanted(expire_time)?, wanted(tag)?);
            if read || expire_time || tag {
                let asked = (key, default, read, expire_time, tag);
                let this = object(py, this);
                return attached(py, |py| {
                    Ok(this.call_method1(intern!(py, "_flexcache_get_with"), asked)?.into_ptr())
                });
            }
            Ok(get(this, [key.as_ptr(), default.as_ptr()].as_ptr(), 2, ptr::null_mut()))
        })
    }
}

fn give_get_from_memory(class: &Bound<'_, PyType>) -> PyResult<()> {
    methods(class, &[(c"_get_from_memory", get_from_memory, fast::GET_FROM_MEMORY_DOC)])
}

fn give_get(class: &Bound<'_, PyType>) -> PyResult<()> {
    let (call, doc): (ffi::PyCFunctionFastWithKeywords, _) =
        if class.hasattr(intern!(class.py(), "_flexcache_get_with"))? {
            (get_with, GET_WITH_DOC)
        } else {
            (get, GET_DOC)
        };
    methods(class, &[(c"get", call, doc)])
}

/// Puts the fast calls on the class.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<NearCache>();
    give_get_from_memory(&class)?;
    give_get(&class)
}
