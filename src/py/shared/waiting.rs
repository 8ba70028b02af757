//! Waiting for another process: detached from the interpreter, and ended by Ctrl-C.

use std::cell::RefCell;
use std::path::Path;

use flexcache_shared::Error;
use pyo3::prelude::*;

use super::errors;
use crate::py::object::running_python::check_signals;

/// Whether signals can end the wait of a thread.
enum Wait {
    /// The thread does not wait, or no signal may end the wait.
    Deaf,
    Listening,
    /// What a signal handler raised.
    Ended(PyErr),
}

thread_local! {
    static WAIT: RefCell<Wait> = const { RefCell::new(Wait::Deaf) };
}

/// Whether a waiting call may go on. Runs signal handlers.
pub(super) fn goes_on() -> bool {
    if WAIT.with_borrow(|wait| !matches!(wait, Wait::Listening)) {
        return true;
    }
    let looked = Python::try_attach(|py| {
        check_signals(py)?;
        Ok::<(), PyErr>(())
    });
    match looked {
        Some(Ok(())) => true,
        Some(Err(raised)) => {
            WAIT.set(Wait::Ended(raised));
            false
        }
        // The interpreter ends: nobody needs the result any more.
        None => false,
    }
}

/// Makes a call that may wait, detached. Raises what a signal handler raises meanwhile.
pub(super) fn wait_for<R: Send>(
    py: Python<'_>,
    call: impl FnOnce() -> flexcache_shared::Result<R> + Send,
) -> PyResult<R> {
    wait_in(py, call)?.map_err(|error| errors::raised(py, error))
}

/// The same, with separate results for errors of the call and for exceptions of signal handlers.
pub(super) fn wait_in<R: Send>(
    py: Python<'_>,
    call: impl FnOnce() -> flexcache_shared::Result<R> + Send,
) -> PyResult<Result<R, Error>> {
    // A handler may itself come here.
    let before = WAIT.replace(Wait::Listening);
    let result = py.detach(call);
    match (result, WAIT.replace(before)) {
        (Err(Error::Interrupted), Wait::Ended(raised)) => Err(raised),
        (result, _) => Ok(result),
    }
}

/// The same as [`wait_for`] for a call of the cache in this file, which errors name.
pub(super) fn wait_at<R: Send>(
    py: Python<'_>,
    path: &Path,
    call: impl FnOnce() -> flexcache_shared::Result<R> + Send,
) -> PyResult<R> {
    wait_in(py, call)?.map_err(|error| errors::raised_in(py, error, path))
}
