//! `get` and `set_text` of a session in memory, which the interpreter calls without PyO3's wrapping.

use std::ffi::CStr;
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;

use super::memory::MemorySession;
use crate::py::object::entered::entered;
use crate::py::object::fast_call::{Parameters, given, methods, object, or_default};

const GET: Parameters<2> = Parameters { method: "get", required: 1, names: ["key", "default"] };
const SET_TEXT: Parameters<3> =
    Parameters { method: "set_text", required: 3, names: ["key", "value", "micros"] };

const GET_DOC: &CStr = c"get($self, key, default=None)
--

Return the value of a key, or `default`.";

const SET_TEXT_DOC: &CStr = c"set_text($self, key, value, micros)
--

Store a str, which expires after `micros` microseconds, or never if `micros` is None. Returns False for a value that this
call does not store.";

/// The session that a method was called on.
///
/// # Safety
///
/// `this` must be a `MemorySession`, as the interpreter has checked before it calls, and outlive the call.
unsafe fn session_of<'a, 'py>(py: Python<'py>, this: *mut ffi::PyObject) -> Borrowed<'a, 'py, MemorySession> {
    // SAFETY: the caller's promise.
    unsafe { object(py, this).cast_unchecked::<MemorySession>() }
}

unsafe extern "C" fn get(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls attached, on a MemorySession, with arguments that outlive the call.
    unsafe {
        entered(ptr::null_mut(), |py| {
            let [key, default] = GET.bind(py, args, count, keywords)?;
            Ok(or_default(py, session_of(py, this).get().value(object(py, key))?, default))
        })
    }
}

unsafe extern "C" fn set_text(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as for `get`.
    unsafe {
        entered(ptr::null_mut(), |py| {
            let [key, value, micros] = SET_TEXT.bind(py, args, count, keywords)?;
            let (session, key, value) = (session_of(py, this), object(py, key), object(py, value));
            let micros = given(py, micros).filter(|micros| !micros.is_none());
            let micros = micros.as_deref().map(PyAnyMethods::extract).transpose()?;
            let stored = session.get().store_text(key, value, micros)?;
            Ok(stored.into_pyobject(py)?.to_owned().into_any().into_ptr())
        })
    }
}

/// Puts the calls on the class.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<MemorySession>();
    methods(&class, &[(c"get", get, GET_DOC), (c"set_text", set_text, SET_TEXT_DOC)])
}
