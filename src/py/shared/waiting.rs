//! Waiting for another process: detached from the interpreter, and ended by Ctrl-C.

use std::cell::RefCell;

use flexcache_shared::Error;
use pyo3::prelude::*;

use super::errors;

/// What a thread waits for, seen from its signals.
enum Wait {
    /// Nothing, or something that no signal may end.
    Deaf,
    Listening,
    /// What a signal's handler raised.
    Ended(PyErr),
}

thread_local! {
    static WAIT: RefCell<Wait> = const { RefCell::new(Wait::Deaf) };
}

/// Whether a call that waits may go on. Runs the handlers of signals.
pub(super) fn goes_on() -> bool {
    if WAIT.with_borrow(|wait| !matches!(wait, Wait::Listening)) {
        return true;
    }
    let looked = Python::try_attach(|py| {
        py.check_signals()?;
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

/// Makes a call that may wait, detached. What a signal's handler raises meanwhile is raised.
pub(super) fn wait_for<R: Send>(
    py: Python<'_>,
    call: impl FnOnce() -> flexcache_shared::Result<R> + Send,
) -> PyResult<R> {
    wait_in(py, call)?.map_err(|error| errors::raised(py, error))
}

/// The same, with the errors of the call apart from what a signal's handler raises.
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
