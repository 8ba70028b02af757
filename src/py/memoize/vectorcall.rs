//! Classes whose instances the interpreter calls directly, through a function pointer in a field of the
//! instance, without the wrapping of PyO3's `__call__`.

use std::ffi::c_ulong;
use std::ptr;
#[cfg(Py_GIL_DISABLED)]
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{PyClass, ffi};

/// `__call__` of such a class until [`install`] replaces it; the slot must exist.
pub(super) fn call<'py>(
    callable: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the objects are valid and of the types that are asked for.
    unsafe {
        let kwargs = kwargs.map_or(ptr::null_mut(), Bound::as_ptr);
        let result = ffi::PyVectorcall_Call(callable.as_ptr(), args.as_ptr(), kwargs);
        Bound::from_owned_ptr_or_err(callable.py(), result)
    }
}

/// Makes the interpreter call all instances of a class through a field, which `field` points to in
/// `instance`. Called once, before another instance is made.
pub(super) fn install<T: PyClass>(instance: &Bound<'_, T>, field: *const ffi::vectorcallfunc) {
    let offset = field as isize - instance.as_ptr() as isize;
    let class = instance.as_any().get_type();
    // SAFETY: the type is ours, made on the heap and not in use yet; the field is at the same place in every instance.
    unsafe {
        let of = class.as_type_ptr();
        (*of).tp_vectorcall_offset = offset;
        (*of).tp_call = Some(ffi::PyVectorcall_Call);
        add_flags(&class, ffi::Py_TPFLAGS_HAVE_VECTORCALL);
    }
}

/// Adds flags to a class.
///
/// # Safety
///
/// The class was made on the heap, and the flags are true of its instances.
pub(super) unsafe fn add_flags(class: &Bound<'_, PyType>, flags: c_ulong) {
    // SAFETY: this thread is attached, and the rest is the caller's promise.
    unsafe {
        let of = class.as_type_ptr();
        #[cfg(not(Py_GIL_DISABLED))]
        {
            (*of).tp_flags |= flags;
        }
        #[cfg(Py_GIL_DISABLED)]
        (*of).tp_flags.fetch_or(flags, Ordering::Relaxed);
        ffi::PyType_Modified(of);
    }
}
