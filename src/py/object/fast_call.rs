//! Methods that the interpreter calls without PyO3's wrapping, as `METH_FASTCALL | METH_KEYWORDS` descriptors put on a class.

use std::ffi::{CStr, c_int};
use std::ptr;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

use super::did_you_mean;

/// A method's parameters: the number of required ones, and all names.
pub(crate) struct Parameters<const N: usize> {
    pub(crate) method: &'static str,
    pub(crate) required: usize,
    pub(crate) names: [&'static str; N],
}

impl<const N: usize> Parameters<N> {
    /// The arguments in order; null for one that was not given.
    ///
    /// # Safety
    ///
    /// `args`, `given` and `keywords` must be what the interpreter passes to a fast call.
    #[inline]
    pub(crate) unsafe fn bind(
        &self,
        py: Python<'_>,
        args: *const *mut ffi::PyObject,
        given: ffi::Py_ssize_t,
        keywords: *mut ffi::PyObject,
    ) -> PyResult<[*mut ffi::PyObject; N]> {
        let given = given.cast_unsigned();
        let mut bound = [ptr::null_mut(); N];
        if keywords.is_null() && given >= self.required && given <= N {
            for (at, place) in bound.iter_mut().enumerate().take(given) {
                // SAFETY: the interpreter passes `given` arguments.
                *place = unsafe { *args.add(at) };
            }
            return Ok(bound);
        }
        // SAFETY: the caller's promise.
        unsafe { self.bind_keywords(py, args, given, keywords) }
    }

    /// # Safety
    ///
    /// As for [`bind`](Self::bind).
    #[cold]
    unsafe fn bind_keywords(
        &self,
        py: Python<'_>,
        args: *const *mut ffi::PyObject,
        given: usize,
        keywords: *mut ffi::PyObject,
    ) -> PyResult<[*mut ffi::PyObject; N]> {
        let method = self.method;
        if given > N {
            return Err(PyTypeError::new_err(format!(
                "{method}() takes at most {N} arguments ({given} given)"
            )));
        }
        let mut bound = [ptr::null_mut(); N];
        for (at, place) in bound.iter_mut().enumerate().take(given) {
            // SAFETY: the interpreter passes `given` positional arguments.
            *place = unsafe { *args.add(at) };
        }
        // SAFETY: `keywords` is null or a tuple of the names of the arguments after `given`.
        let named = if keywords.is_null() { 0 } else { unsafe { ffi::PyTuple_GET_SIZE(keywords) } };
        for at in 0..named {
            // SAFETY: `at` is below the tuple's size, and there is an argument for each name.
            let (name, value) = unsafe {
                let name = ffi::PyTuple_GET_ITEM(keywords, at);
                (Borrowed::from_ptr(py, name), *args.add(given + at.cast_unsigned()))
            };
            let name = name.cast::<PyString>()?;
            let name = name.to_cow()?;
            match self.names.iter().position(|known| *known == name) {
                Some(at) if bound[at].is_null() => bound[at] = value,
                Some(_) => {
                    return Err(PyTypeError::new_err(format!(
                        "{method}() got multiple values for argument '{name}'"
                    )));
                }
                None => {
                    return Err(PyTypeError::new_err(did_you_mean::unexpected(method, &name, &self.names)));
                }
            }
        }
        match bound.iter().take(self.required).position(|argument| argument.is_null()) {
            Some(at) => Err(PyTypeError::new_err(format!(
                "{method}() missing required argument: '{}'",
                self.names[at]
            ))),
            None => Ok(bound),
        }
    }
}

/// An object that the interpreter passes.
///
/// # Safety
///
/// It must be an object that outlives the call.
#[inline(always)]
pub(crate) unsafe fn object<'a, 'py>(
    py: Python<'py>,
    pointer: *mut ffi::PyObject,
) -> Borrowed<'a, 'py, PyAny> {
    // SAFETY: the caller's promise. The assertion saves a check for null.
    unsafe {
        std::hint::assert_unchecked(!pointer.is_null());
        Borrowed::from_ptr(py, pointer)
    }
}

/// An argument that was given.
///
/// # Safety
///
/// `argument` must be null or an object that outlives the call.
#[inline]
pub(crate) unsafe fn given<'a, 'py>(
    py: Python<'py>,
    argument: *mut ffi::PyObject,
) -> Option<Borrowed<'a, 'py, PyAny>> {
    // SAFETY: the caller's promise.
    unsafe { Borrowed::from_ptr_or_opt(py, argument) }
}

/// The value that was found, or else `default`, or None if that was not given.
///
/// # Safety
///
/// `default` must be null or an object that outlives the call.
#[inline(always)]
pub(crate) unsafe fn or_default(
    py: Python<'_>,
    found: Option<Py<PyAny>>,
    default: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    match found {
        Some(value) => value.into_ptr(),
        None if default.is_null() => py.None().into_ptr(),
        // SAFETY: the caller's promise.
        None => unsafe { object(py, default) }.to_owned().into_ptr(),
    }
}

/// A name, the function that the interpreter calls with positional arguments and keywords, and the docstring.
pub(crate) type FastCall = (&'static CStr, ffi::PyCFunctionFastWithKeywords, &'static CStr);

/// Puts calls on a class.
pub(crate) fn methods(class: &Bound<'_, PyType>, calls: &[FastCall]) -> PyResult<()> {
    for &(name, call, doc) in calls {
        let call = ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: call };
        method(class, name, call, ffi::METH_FASTCALL | ffi::METH_KEYWORDS, doc)?;
    }
    Ok(())
}

pub(crate) fn method(
    class: &Bound<'_, PyType>,
    name: &'static CStr,
    call: ffi::PyMethodDefPointer,
    flags: c_int,
    doc: &'static CStr,
) -> PyResult<()> {
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: call,
        ml_flags: flags,
        ml_doc: doc.as_ptr(),
    }));
    // SAFETY: the definition is never freed, and the descriptor checks that it is called on an
    // instance of the class.
    let descriptor = unsafe {
        Bound::from_owned_ptr_or_err(class.py(), ffi::PyDescr_NewMethod(class.as_type_ptr(), definition))?
    };
    class.setattr(PyString::from_bytes(class.py(), name.to_bytes())?, descriptor)
}
