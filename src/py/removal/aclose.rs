//! `aclose`: awaitable hooks.
//!
//! If the thread that removes an entry has a running event loop, the hook is scheduled there. Otherwise it is
//! handed to the background thread, which runs it to completion on a loop of its own. Closing the cache and
//! the end of the program wait for that.

use std::sync::{Arc, Condvar, PoisonError};
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};

use super::hook_errors::HookErrors;
use crate::py::object::hooks;
use crate::py::object::imported::imported;
use crate::py::object::running_python::check_signals;
use crate::py::process::background;
use crate::py::process::guard::Guard;
use crate::py::process::mutex::Mutex;
use crate::py::process::per_process::PerProcess;

/// The time between two checks for signals, such as that of Ctrl-C, while waiting.
pub(crate) const BETWEEN_SIGNALS: Duration = Duration::from_millis(50);

/// The awaitable hooks of one cache that have not finished.
pub(crate) struct Closing {
    tasks: Guard<Vec<Py<PyAny>>>,
    handed_over: PerProcess<HandedOver>,
    errors: Arc<HookErrors>,
}

/// The number of hooks that the background thread has yet to run.
#[derive(Default)]
struct HandedOver {
    left: Mutex<usize>,
    finished: Condvar,
}

/// Counts as one of them until it is dropped, however the hook ends.
struct ToFinish {
    handed_over: Arc<HandedOver>,
    process: u64,
}

impl ToFinish {
    fn new(handed_over: Arc<HandedOver>) -> Self {
        *handed_over.left.lock() += 1;
        Self { handed_over, process: background::generation() }
    }
}

impl Drop for ToFinish {
    fn drop(&mut self) {
        // If the hook has forked, a thread that the child does not have may hold the lock.
        if self.process == background::generation() {
            *self.handed_over.left.lock() -= 1;
            self.handed_over.finished.notify_all();
        }
    }
}

/// A value to be closed by the background thread.
struct ValueToClose {
    value: Py<PyAny>,
    errors: Arc<HookErrors>,
    // The last field is dropped last. A caller that waits for it then finds the value dropped.
    _to_finish: ToFinish,
}

/// The loop that runs in this thread, if there is one.
fn running_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    // A program that never imported asyncio has no loop, and need not import it for the answer.
    let Some(asyncio) = imported(py, intern!(py, "asyncio"))? else { return Ok(None) };
    let running = asyncio.call_method0(intern!(py, "_get_running_loop"))?;
    Ok((!running.is_none()).then_some(running))
}

/// Starts the `aclose` of a value that was removed.
pub(crate) fn start(py: Python<'_>, value: &Py<PyAny>, closing: &Arc<Closing>) -> PyResult<()> {
    if let Some(event_loop) = running_loop(py)? {
        return schedule(py, value, &event_loop, closing);
    }
    let to_finish = ToFinish::new(closing.handed_over.get(py));
    let value = ValueToClose {
        value: value.clone_ref(py),
        errors: Arc::clone(&closing.errors),
        _to_finish: to_finish,
    };
    if let Err(job) = background::run(py, Box::new(move |py| value.close(py))) {
        job(py);
    }
    Ok(())
}

fn schedule(
    py: Python<'_>,
    value: &Py<PyAny>,
    event_loop: &Bound<'_, PyAny>,
    closing: &Arc<Closing>,
) -> PyResult<()> {
    let awaitable = hooks::run(value.bind(py), intern!(py, "aclose"))?;
    let options = PyDict::new(py);
    options.set_item("loop", event_loop)?;
    let task = py.import("asyncio")?.call_method("ensure_future", (awaitable,), Some(&options))?;
    // A loop keeps only weak references to its tasks.
    let held = task.clone().unbind();
    closing.tasks.with(py, |tasks| tasks.push(held))?;
    let of = Arc::clone(closing);
    let done = PyCFunction::new_closure(
        py,
        None,
        None,
        move |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| -> PyResult<()> {
            let (py, task) = (args.py(), args.get_item(0)?);
            let held = of.tasks.with(py, |tasks| {
                let at = tasks.iter().position(|held| held.is(&task));
                at.map(|at| tasks.swap_remove(at))
            })?;
            drop(held);
            if !task.call_method0("cancelled")?.extract::<bool>()? {
                let raised = task.call_method0("exception")?;
                if !raised.is_none() {
                    of.errors.add(py, "aclose()", &PyErr::from_value(raised));
                }
            }
            Ok(())
        },
    )?;
    task.call_method1("add_done_callback", (done,))?;
    Ok(())
}

impl ValueToClose {
    /// Runs the hook to completion on a loop of its own.
    fn close(self, py: Python<'_>) {
        let run = || -> PyResult<()> {
            let event_loop = py.import("asyncio")?.call_method0("new_event_loop")?;
            let ended = hooks::run(self.value.bind(py), intern!(py, "aclose"))
                .and_then(|awaitable| event_loop.call_method1("run_until_complete", (awaitable,)));
            event_loop.call_method0("close")?;
            ended.map(drop)
        };
        if let Err(error) = run() {
            self.errors.add(py, "aclose()", &error);
        }
    }
}

impl Closing {
    pub(crate) fn new(errors: Arc<HookErrors>) -> Self {
        Self { tasks: Guard::new(Vec::new(), true), handed_over: PerProcess::default(), errors }
    }

    /// Bytes allocated for it and for what it owns.
    pub(crate) fn allocated_bytes() -> usize {
        size_of::<Self>() + 2 * size_of::<usize>() + size_of::<HandedOver>()
    }

    /// Waits until everything handed to the background thread has finished.
    ///
    /// # Errors
    ///
    /// What a signal handler raises meanwhile.
    pub(crate) fn wait(&self, py: Python<'_>) -> PyResult<()> {
        if background::is_current_thread() {
            return Ok(());
        }
        loop {
            // A signal handler may have forked, so look again each time.
            let handed_over = self.handed_over.get(py);
            let done = py.detach(|| {
                let left = handed_over.left.lock();
                let waited = handed_over.finished.wait_timeout_while(left, BETWEEN_SIGNALS, |left| *left > 0);
                *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
            });
            if done {
                return Ok(());
            }
            check_signals(py)?;
        }
    }

    /// An awaitable for all hooks that are scheduled on the running loop; its result is `None`.
    pub(crate) fn gather<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let asyncio = py.import("asyncio")?;
        let event_loop = asyncio.call_method0("get_running_loop")?;
        let all = event_loop.call_method0("create_future")?;
        let mut tasks = Vec::new();
        let held =
            self.tasks.with(py, |tasks| tasks.iter().map(|task| task.clone_ref(py)).collect::<Vec<_>>())?;
        for task in held {
            // Tasks of other loops are not awaited.
            if task.bind(py).call_method0("get_loop")?.is(&event_loop) {
                tasks.push(task);
            }
        }
        if tasks.is_empty() {
            all.call_method1("set_result", (py.None(),))?;
            return Ok(all);
        }
        let waiting = asyncio.call_method1("wait", (tasks,))?;
        let waiting = asyncio.call_method1("ensure_future", (waiting,))?;
        let result = all.clone().unbind();
        let done = PyCFunction::new_closure(
            py,
            None,
            None,
            move |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| -> PyResult<()> {
                let result = result.bind(args.py());
                if !result.call_method0("done")?.extract::<bool>()? {
                    result.call_method1("set_result", (args.py().None(),))?;
                }
                Ok(())
            },
        )?;
        waiting.call_method1("add_done_callback", (done,))?;
        Ok(all)
    }
}

/// A future of the running loop that is done and has this result.
pub(crate) fn finished<'py>(result: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let event_loop = result.py().import("asyncio")?.call_method0("get_running_loop")?;
    let future = event_loop.call_method0("create_future")?;
    future.call_method1("set_result", (result,))?;
    Ok(future)
}
