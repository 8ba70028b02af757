//! Threads that release leases by Python code. The interpreter waits for them at its end.
//!
//! The interpreter ends a thread that wants to run Python code during its end by unwinding it (before Python 3.14). A
//! thread that was not begun by Python cannot be unwound to its start, and the process aborts. So the end of the program
//! waits for these threads. Each sends one command, for which its client waits for a limited time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;

use crate::py::object::running_python::{check_signals, detached};
use crate::py::process::at_exit::AtExit;
use crate::py::process::background::generation;

/// The number of running threads, in the lower half. The upper half is their process: a forked child has none
/// of them.
static RUNNING: AtomicU64 = AtomicU64::new(0);
/// Whether the program is about to end, so that no thread may begin.
static ENDING: AtomicBool = AtomicBool::new(false);

/// The pause between two checks, at the end of the program, whether they have ended.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// A thread, counted as long as it runs.
struct Running(u64);

impl Running {
    fn begin() -> Self {
        let process = generation() << 32;
        let more = |all: u64| Some(if all >> 32 == process >> 32 { all + 1 } else { process + 1 });
        let _ = RUNNING.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        Self(process)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let less = |all: u64| (all >> 32 == self.0 >> 32).then(|| all - 1);
        let _ = RUNNING.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
    }
}

fn are_running() -> bool {
    let all = RUNNING.load(Ordering::SeqCst);
    all >> 32 == generation() & 0xffff_ffff && all & 0xffff_ffff != 0
}

/// Has the end of the program wait for threads that are begun from now on. Runs Python code.
pub(super) fn await_at_end(py: Python<'_>) -> PyResult<()> {
    static AWAITED: AtExit = AtExit::new();
    AWAITED.call(py, |py| {
        ENDING.store(true, Ordering::SeqCst);
        while are_running() {
            detached(py, || thread::sleep(BETWEEN_LOOKS));
            check_signals(py)?;
        }
        Ok(())
    })
}

/// Runs Python code in a new thread. Does nothing if there can be none.
pub(super) fn spawn(act: impl FnOnce(Python<'_>) + Send + 'static) {
    let running = Running::begin();
    if ENDING.load(Ordering::SeqCst) {
        return;
    }
    let _ = thread::Builder::new().name("flexcache-lease".into()).spawn(move || {
        Python::try_attach(act);
        drop(running);
    });
}
