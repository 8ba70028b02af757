//! Copies of exceptions, for exceptions that several callers get or that are kept.
//!
//! A raised exception collects a traceback, and with it the frames that it passed. So each caller gets a
//! separate object, and a kept exception has neither traceback nor context.

use pyo3::exceptions::PyBaseException;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};

/// The depth to which causes of causes and nested groups are copied.
const DEEPEST: usize = 32;

/// A copy for a waiting caller, with the same class, arguments, attributes, notes and cause. If no copy can
/// be made, the original.
pub(crate) fn for_a_waiter<'py>(error: &Bound<'py, PyAny>) -> Bound<'py, PyAny> {
    copy(error, None).unwrap_or_else(|_| error.clone())
}

/// A copy without the traceback and the context of an exception, and of all that it consists of
/// and was caused by. The original, without traceback and context, where that cannot be made.
#[pyfunction]
#[pyo3(name = "_copy_of_exception")]
pub(crate) fn copy_of_exception<'py>(error: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    bare(error, DEEPEST)
}

fn bare<'py>(error: &Bound<'py, PyAny>, depth: usize) -> PyResult<Bound<'py, PyAny>> {
    if let Ok(copied) = copy(error, Some(depth)) {
        return Ok(copied);
    }
    let none = error.py().None();
    error.setattr(intern!(error.py(), "__traceback__"), &none)?;
    error.setattr(intern!(error.py(), "__context__"), &none)?;
    Ok(error.clone())
}

/// The built-in class, or class of another extension, from which an exception's class is derived. Its
/// instances can be made again from their parts, whatever the derived class does.
fn native_base<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
    for base in class.mro() {
        let base = base.cast_into::<PyType>()?;
        // SAFETY: the class is alive, and the function only reads its flags.
        let flags = unsafe { ffi::PyType_GetFlags(base.as_type_ptr()) };
        if flags & ffi::Py_TPFLAGS_HEAPTYPE == 0 {
            return Ok(base);
        }
    }
    Ok(class.py().get_type::<PyBaseException>())
}

/// Whether an exception is a group.
fn is_group(error: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = error.py();
    // There are no groups before Python 3.11.
    match py.import(intern!(py, "builtins"))?.getattr_opt(intern!(py, "BaseExceptionGroup"))? {
        Some(class) => error.is_instance(&class),
        None => Ok(false),
    }
}

/// Copies an exception. With `bare_to`, also copies its causes and the exceptions of a group up to this
/// depth.
fn copy<'py>(error: &Bound<'py, PyAny>, bare_to: Option<usize>) -> PyResult<Bound<'py, PyAny>> {
    let py = error.py();
    let class = error.get_type();
    let base = native_base(&class)?;
    // Class, arguments and perhaps attributes, as the interpreter's own `__reduce__` returns them.
    let parts = base.call_method1(intern!(py, "__reduce__"), (error,))?.cast_into::<PyTuple>()?;
    let mut arguments = parts.get_item(1)?.cast_into::<PyTuple>()?;
    if let (Some(depth), true) = (bare_to, is_group(error)?) {
        let within = PyList::empty(py);
        if depth > 0 {
            for one in arguments.get_item(1)?.try_iter()? {
                within.append(bare(&one?, depth - 1)?)?;
            }
            arguments = PyTuple::new(py, [arguments.get_item(0)?, within.into_any()])?;
        }
    }
    let mut given = vec![class.clone().into_any()];
    given.extend(arguments.iter());
    let copied = class.call_method1(intern!(py, "__new__"), PyTuple::new(py, given)?)?;
    if copied.get_type().is(&class) {
        let mut given = vec![copied.clone()];
        given.extend(arguments.iter());
        base.call_method1(intern!(py, "__init__"), PyTuple::new(py, given)?)?;
    }
    if let Ok(state) = parts.get_item(2)
        && !state.is_none()
    {
        base.call_method1(intern!(py, "__setstate__"), (&copied, state))?;
    }
    let attributes = error.getattr(intern!(py, "__dict__"))?.cast_into::<PyDict>()?;
    let own = copied.getattr(intern!(py, "__dict__"))?.cast_into::<PyDict>()?;
    own.update(attributes.as_mapping())?;
    let notes = intern!(py, "__notes__");
    if let Some(list) = own.get_item(notes)?
        && let Ok(list) = list.cast::<PyList>()
    {
        own.set_item(notes, list.get_slice(0, list.len()))?;
    }
    let mut cause = error.getattr(intern!(py, "__cause__"))?;
    if let (Some(depth), false) = (bare_to, cause.is_none()) {
        cause = if depth > 0 { bare(&cause, depth - 1)? } else { py.None().into_bound(py) };
    }
    copied.setattr(intern!(py, "__cause__"), cause)?;
    let suppressed = error.getattr(intern!(py, "__suppress_context__"))?;
    copied.setattr(intern!(py, "__suppress_context__"), suppressed)?;
    Ok(copied)
}
