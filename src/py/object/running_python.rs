//! Runs Python code from Rust, and handles threads that the interpreter ends meanwhile.
//!
//! Before 3.14, an interpreter that ends makes every other thread that asks for the GIL exit, by unwinding
//! its stack. Python code can ask for the GIL at any instruction, so a daemon thread that is in a hook or an
//! `__eq__` unwinds into the frames here, without the GIL: nothing may be dropped there, and nothing can be
//! caught. Such a thread must simply wait until the process ends a moment later. Therefore every call that
//! runs code of the user goes through this file. Here the interpreter's functions are declared as functions
//! that may unwind, which PyO3's declarations rule out.
//!
//! The called code may call this library again, so each call checks that the stack has room.

use std::ffi::c_int;
use std::hint::black_box;
use std::mem::transmute;
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;

use crate::py::process::stack;

/// One of the interpreter's functions, declared as one that may unwind. The compiler must not see which
/// function it is, or it would use PyO3's declaration.
macro_rules! unwinding {
    ($function:ident($($argument:ty),*) $(-> $result:ty)?) => {{
        let function: unsafe extern "C" fn($($argument),*) $(-> $result)? = black_box(ffi::$function);
        // SAFETY: the types differ only in what the compiler may assume.
        unsafe {
            transmute::<
                unsafe extern "C" fn($($argument),*) $(-> $result)?,
                unsafe extern "C-unwind" fn($($argument),*) $(-> $result)?,
            >(function)
        }
    }};
}

type Object = *mut ffi::PyObject;

/// Stops a thread that is being unwound by the interpreter, not by a panic.
struct StaysHere;

impl Drop for StaysHere {
    fn drop(&mut self) {
        while !std::thread::panicking() {
            std::thread::park();
        }
    }
}

/// Runs one of these functions of the interpreter.
#[inline(always)]
fn guarded<R>(call: impl FnOnce() -> R) -> R {
    let stays_here = StaysHere;
    let result = call();
    std::mem::forget(stays_here);
    result
}

/// Drops a reference to an object, which may run its destructor.
#[inline(always)]
pub(crate) fn decref(_py: Python<'_>, object: Py<PyAny>) {
    let object = object.into_ptr();
    // SAFETY: the thread is attached, as the token proves, and the reference was the caller's.
    unsafe {
        // Dropping a reference that is not the last one runs no code.
        if ffi::Py_REFCNT(object) > 1 { ffi::Py_DECREF(object) } else { decref_last(object) }
    }
}

/// # Safety
///
/// The thread must be attached, and the reference the caller's.
unsafe fn decref_last(object: Object) {
    let decrease = unwinding!(Py_DecRef(Object));
    // SAFETY: the caller's promise.
    guarded(|| unsafe { decrease(object) });
}

/// The hash of an object, as its `__hash__` computes it; -1 if that raised.
#[inline(always)]
pub(crate) fn hash(object: &Borrowed<'_, '_, PyAny>) -> ffi::Py_hash_t {
    if let Err(error) = stack::check(stack::Call::Any) {
        error.restore(object.py());
        return -1;
    }
    let hash = unwinding!(PyObject_Hash(Object) -> ffi::Py_hash_t);
    // SAFETY: the object is valid and the thread attached, as the borrow proves.
    guarded(|| unsafe { hash(object.as_ptr()) })
}

/// Whether two objects are equal, as their `__eq__` says.
pub(crate) fn eq(one: &Bound<'_, PyAny>, other: &Borrowed<'_, '_, PyAny>) -> PyResult<bool> {
    stack::check(stack::Call::Any)?;
    let compare = unwinding!(PyObject_RichCompareBool(Object, Object, c_int) -> c_int);
    // SAFETY: both objects are valid and the thread attached, as the borrows prove.
    match guarded(|| unsafe { compare(one.as_ptr(), other.as_ptr(), ffi::Py_EQ) }) {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(PyErr::fetch(one.py())),
    }
}

/// The next object of an iterator.
pub(crate) fn next<'py>(iterator: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = iterator.py();
    stack::check(stack::Call::Any)?;
    let advance = unwinding!(PyIter_Next(Object) -> Object);
    // SAFETY: the iterator is valid and the thread attached, as the borrow proves; what is returned
    // is a new reference, or null.
    let next = unsafe {
        let next = guarded(|| advance(iterator.as_ptr()));
        Bound::from_owned_ptr_or_opt(py, next)
    };
    match next {
        Some(next) => Ok(Some(next)),
        None => PyErr::take(py).map_or(Ok(None), Err),
    }
}

/// Calls an object with arguments as the interpreter passes them.
///
/// # Safety
///
/// They must be as `PyObject_Vectorcall` wants them.
pub(crate) unsafe fn call_raw<'py>(
    callable: &Bound<'py, PyAny>,
    args: *const Object,
    count: usize,
    names: Object,
) -> PyResult<Bound<'py, PyAny>> {
    stack::check(stack::Call::Any)?;
    let call = vectorcall(callable);
    // SAFETY: the caller's promise, and the thread is attached; what is returned is a new
    // reference, or null with an exception set.
    unsafe {
        let result = guarded(|| call(callable.as_ptr(), args, count, names));
        Bound::from_owned_ptr_or_err(callable.py(), result)
    }
}

type Vectorcall = unsafe extern "C-unwind" fn(Object, *const Object, usize, Object) -> Object;

/// The function to call an object with.
#[cfg(Py_3_11)]
#[inline]
fn vectorcall(_callable: &Bound<'_, PyAny>) -> Vectorcall {
    unwinding!(PyObject_Vectorcall(Object, *const Object, usize, Object) -> Object)
}

/// The function to call an object with: its own, since the interpreter has none that does all.
#[cfg(not(Py_3_11))]
fn vectorcall(callable: &Bound<'_, PyAny>) -> Vectorcall {
    unsafe extern "C-unwind" fn by_tuple(
        callable: Object,
        args: *const Object,
        count: usize,
        names: Object,
    ) -> Object {
        let call = unwinding!(PyObject_Call(Object, Object, Object) -> Object);
        // SAFETY: the arguments are as for any vectorcall. References are dropped only where no
        // thread unwinds: `call` either returns or never does.
        unsafe {
            let py = Python::assume_attached();
            let positional = ffi::PyVectorcall_NARGS(count).cast_unsigned();
            let object = |at: usize| Borrowed::from_ptr(py, *args.add(at));
            let arguments = pyo3::types::PyTuple::new(py, (0..positional).map(object));
            let keywords = pyo3::types::PyDict::new(py);
            let keyword_count = if names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(names) };
            let filled = arguments.and_then(|arguments| {
                for at in 0..keyword_count {
                    let name = Borrowed::from_ptr(py, ffi::PyTuple_GET_ITEM(names, at));
                    keywords.set_item(name, object(positional + at.cast_unsigned()))?;
                }
                Ok(arguments)
            });
            match filled {
                Ok(arguments) => guarded(|| call(callable, arguments.as_ptr(), keywords.as_ptr())),
                Err(error) => {
                    error.restore(py);
                    ptr::null_mut()
                }
            }
        }
    }
    // SAFETY: the object is valid and the thread attached, as the borrow proves.
    let own = unsafe { ffi::PyVectorcall_Function(callable.as_ptr()) };
    // SAFETY: the types differ only in what the compiler may assume.
    own.map_or(by_tuple, |own| unsafe { transmute::<ffi::vectorcallfunc, Vectorcall>(own) })
}

/// Calls an object with positional arguments.
pub(crate) fn call<'py, const N: usize>(
    callable: &Bound<'py, PyAny>,
    args: [&Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    let args = args.map(Bound::as_ptr);
    // SAFETY: `args` has `N` valid objects.
    unsafe { call_raw(callable, args.as_ptr(), N, ptr::null_mut()) }
}

/// Runs the signal handlers that are due, in the main thread, and a garbage collection that is due, in any thread. Raises
/// what a handler raises.
pub(crate) fn check_signals(py: Python<'_>) -> PyResult<()> {
    let check = unwinding!(PyErr_CheckSignals() -> c_int);
    // SAFETY: the thread is attached, as the token proves.
    if guarded(|| unsafe { check() }) == 0 { Ok(()) } else { Err(PyErr::fetch(py)) }
}

/// Runs `wait` detached from the interpreter, so that other threads can run. `wait` must not use any object.
pub(crate) fn detached<R>(_py: Python<'_>, wait: impl FnOnce() -> R) -> R {
    /// Attaches the thread again, even if `wait` panicked.
    struct Detached(*mut ffi::PyThreadState);

    impl Drop for Detached {
        fn drop(&mut self) {
            let attach = unwinding!(PyEval_RestoreThread(*mut ffi::PyThreadState));
            // SAFETY: the state is this thread's, which is detached.
            guarded(|| unsafe { attach(self.0) });
        }
    }

    // SAFETY: the thread is attached, as the token proves.
    let _detached = Detached(unsafe { ffi::PyEval_SaveThread() });
    wait()
}

/// Whether modules are being torn down and other threads may end at any moment.
pub(crate) fn interpreter_is_ending() -> bool {
    #[cfg(not(Py_3_13))]
    unsafe extern "C" {
        #[link_name = "_Py_IsFinalizing"]
        fn is_finalizing() -> c_int;
    }
    #[cfg(Py_3_13)]
    use ffi::Py_IsFinalizing as is_finalizing;

    // SAFETY: may be called at any time.
    unsafe { is_finalizing() != 0 }
}

/// Reports an error that no caller can get, as the interpreter does for an error in `__del__`.
pub(crate) fn report_unraisable(py: Python<'_>, error: PyErr) {
    error.restore(py);
    let report = unwinding!(PyErr_WriteUnraisable(Object));
    // SAFETY: the thread is attached, as the token proves, and an exception is set.
    guarded(|| unsafe { report(ptr::null_mut()) });
}

/// Runs `call` such that PyO3 knows this thread to be attached, which it does not know in the fast calls. So
/// references that are dropped without a token are released at once.
pub(crate) fn attached<R>(py: Python<'_>, call: impl FnOnce(Python<'_>) -> R) -> R {
    let mut call = Some(call);
    let result = Python::try_attach(|py| call.take().map(|call| call(py))).flatten();
    match (result, call) {
        (Some(result), _) => result,
        // The interpreter is ending: attached all the same, as the caller's token proves.
        (None, Some(call)) => call(py),
        (None, None) => unreachable!("a call that was taken has a result"),
    }
}
