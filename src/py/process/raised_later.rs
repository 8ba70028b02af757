//! Exceptions that end a program, such as that of Ctrl-C, where no caller could get them.
//!
//! They are raised in the main thread as a signal handler's are: between two instructions of its code, which is after
//! its current call. If another hook runs first, it is not interrupted.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

/// Whether an exception will be raised. One is enough to end a program.
static IS_PENDING: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The number of hooks, one inside another, that run on this thread.
    static HOOKS: Cell<u32> = const { Cell::new(0) };
    /// The exception that waits for their end: a box, or null.
    static WAITING: Cell<*mut PyErr> = const { Cell::new(ptr::null_mut()) };
}

/// A hook that runs, until dropped.
pub(crate) struct RunningHook(());

impl RunningHook {
    pub(crate) fn begin() -> Self {
        HOOKS.set(HOOKS.get() + 1);
        Self(())
    }
}

impl Drop for RunningHook {
    fn drop(&mut self) {
        HOOKS.set(HOOKS.get() - 1);
        if HOOKS.get() == 0 {
            schedule(WAITING.replace(ptr::null_mut()));
        }
    }
}

/// Has the main thread raise `KeyboardInterrupt` or `SystemExit` soon. Returns false for other exceptions, in other
/// threads, and if one is to be raised already.
pub(crate) fn raise_later(py: Python<'_>, error: &PyErr) -> bool {
    let ends_program =
        error.is_instance_of::<PyKeyboardInterrupt>(py) || error.is_instance_of::<PySystemExit>(py);
    if !ends_program || !is_main_thread(py).unwrap_or(false) || IS_PENDING.swap(true, Ordering::AcqRel) {
        return false;
    }
    schedule(Box::into_raw(Box::new(error.clone_ref(py))));
    true
}

fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import(intern!(py, "threading"))?;
    let main = threading.call_method0(intern!(py, "main_thread"))?.getattr(intern!(py, "ident"))?;
    threading.call_method0(intern!(py, "get_ident"))?.eq(main)
}

/// Has the main thread raise the exception of a box.
fn schedule(error: *mut PyErr) {
    if error.is_null() {
        return;
    }
    // SAFETY: `raise` takes the box over. A pending call is made once.
    if unsafe { ffi::Py_AddPendingCall(Some(raise), error.cast()) } != 0 {
        // If too many calls are pending, the end of the next hook tries again.
        WAITING.set(error);
    }
}

/// Raises the exception of a box in the main thread, or waits for the end of the running hooks.
extern "C" fn raise(error: *mut c_void) -> c_int {
    let error = error.cast::<PyErr>();
    if HOOKS.get() > 0 {
        WAITING.set(error);
        return 0;
    }
    IS_PENDING.store(false, Ordering::Release);
    // SAFETY: The box is that of `raise_later`, and nobody else has it.
    let error = unsafe { Box::from_raw(error) };
    Python::attach(|py| error.restore(py));
    -1
}
