//! Objects that are of use to one caller alone.

use pyo3::ffi;
use pyo3::prelude::*;

/// Whether an object is a generator, an asynchronous generator or a coroutine, which is used up when it has run once.
#[pyfunction]
#[pyo3(name = "_is_single_use")]
pub(crate) fn is_single_use(value: &Bound<'_, PyAny>) -> bool {
    let object = value.as_ptr();
    // SAFETY: the object is alive, and these compare its type.
    unsafe {
        ffi::PyGen_CheckExact(object) != 0
            || ffi::PyAsyncGen_CheckExact(object) != 0
            || ffi::PyCoro_CheckExact(object) != 0
    }
}
