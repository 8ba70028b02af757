//! `NearCache`: what a cache inherits that has a `FlexCache` as its memory, so that a hit in it runs no Python code.

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
use crate::py::object::fast_call::{method, object};

/// What `flexcache_rs.remote.RemoteCache` inherits.
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

    /// Gives a subclass a `get` of its own: the interpreter calls a method quickly only on the very class that has it.
    #[classmethod]
    #[pyo3(signature = (**_options))]
    fn __init_subclass__(class: &Bound<'_, PyType>, _options: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        let (py, name) = (class.py(), intern!(class.py(), "get"));
        let ours = py.get_type::<Self>().getattr(name)?.get_type();
        // One that is written in Python stays.
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
    RemoteError: With `on_error=\"raise\"`: the server cannot be asked.
    RemoteValueError: What the server has there is no value of this cache.

A copy in memory costs little more than in a `FlexCache`, anything else one command.
";

unsafe extern "C" fn get(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls attached, on a NearCache, with arguments that outlive the call.
    unsafe {
        let cache = object(Python::assume_attached(), this).cast_unchecked::<NearCache>();
        match cache.get().near.get() {
            Some(near) => fast::get(near.as_ptr(), args, count, keywords),
            None => entered(ptr::null_mut(), |_| Err(not_made())),
        }
    }
}

fn give_get(class: &Bound<'_, PyType>) -> PyResult<()> {
    let call = ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: get };
    method(class, c"get", call, ffi::METH_FASTCALL | ffi::METH_KEYWORDS, GET_DOC)
}

/// Puts the calls on the class.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    give_get(&py.get_type::<NearCache>())
}
