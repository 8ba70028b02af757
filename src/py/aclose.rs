//! `aclose`: hooks that are awaitable.
//!
//! Where the thread that lets an entry go has a running event loop, the hook is scheduled there.
//! Elsewhere it is handed to the background thread, which runs it to completion on a loop of its
//! own; closing the cache, and the end of the program, wait for that.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};

use super::background;
use super::farewell::Farewell;
use super::guard::Guard;
use super::hooks;
use super::per_process::PerProcess;

/// How long to wait before signals, such as that of Ctrl-C, are looked at.
pub(crate) const BETWEEN_SIGNALS: Duration = Duration::from_millis(50);

/// The awaitable hooks of one cache that have not finished.
pub(crate) struct Closing {
    tasks: Guard<Vec<Py<PyAny>>>,
    handed_over: PerProcess<HandedOver>,
}

/// How many hooks the background thread has still to run.
#[derive(Default)]
struct HandedOver {
    left: Mutex<usize>,
    finished: Condvar,
}

/// A value to be closed by the background thread.
pub(crate) struct Job {
    value: Py<PyAny>,
    farewell: Arc<Farewell>,
    handed_over: Arc<HandedOver>,
}

/// The loop that runs in this thread, if there is one.
fn running_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    let modules = py.import(intern!(py, "sys"))?.getattr(intern!(py, "modules"))?;
    // A program that never imported asyncio has no loop, and need not import it for the answer.
    if !modules.contains(intern!(py, "asyncio"))? {
        return Ok(None);
    }
    let running = py.import(intern!(py, "asyncio"))?.call_method0(intern!(py, "_get_running_loop"))?;
    Ok((!running.is_none()).then_some(running))
}

/// Starts the `aclose` of a value that left.
pub(crate) fn start(py: Python<'_>, value: &Py<PyAny>, farewell: &Arc<Farewell>) -> PyResult<()> {
    if let Some(event_loop) = running_loop(py)? {
        return schedule(py, value, &event_loop, farewell);
    }
    let handed_over = farewell.closing.handed_over.get(py);
    *handed_over.left.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    let job = Job { value: value.clone_ref(py), farewell: Arc::clone(farewell), handed_over };
    if let Err(job) = background::run(py, job) {
        job.complete(py);
    }
    Ok(())
}

fn schedule(
    py: Python<'_>,
    value: &Py<PyAny>,
    event_loop: &Bound<'_, PyAny>,
    farewell: &Arc<Farewell>,
) -> PyResult<()> {
    let awaitable = hooks::run(value.bind(py), intern!(py, "aclose"))?;
    let options = PyDict::new(py);
    options.set_item("loop", event_loop)?;
    let task = py.import("asyncio")?.call_method("ensure_future", (awaitable,), Some(&options))?;
    // A loop keeps only weak references to its tasks.
    let held = task.clone().unbind();
    farewell.closing.tasks.with(py, |tasks| tasks.push(held))?;
    let of = Arc::clone(farewell);
    let done = PyCFunction::new_closure(
        py,
        None,
        None,
        move |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| -> PyResult<()> {
            let (py, task) = (args.py(), args.get_item(0)?);
            let held = of.closing.tasks.with(py, |tasks| {
                let at = tasks.iter().position(|held| held.is(&task));
                at.map(|at| tasks.swap_remove(at))
            })?;
            drop(held);
            if !task.call_method0("cancelled")?.extract::<bool>()? {
                let raised = task.call_method0("exception")?;
                if !raised.is_none() {
                    of.hook_failed(py, "aclose()", &PyErr::from_value(raised));
                }
            }
            Ok(())
        },
    )?;
    task.call_method1("add_done_callback", (done,))?;
    Ok(())
}

impl Job {
    /// Runs the hook to completion on a loop of its own.
    pub(crate) fn complete(self, py: Python<'_>) {
        let run = || -> PyResult<()> {
            let event_loop = py.import("asyncio")?.call_method0("new_event_loop")?;
            let ended = hooks::run(self.value.bind(py), intern!(py, "aclose"))
                .and_then(|awaitable| event_loop.call_method1("run_until_complete", (awaitable,)));
            event_loop.call_method0("close")?;
            ended.map(drop)
        };
        if let Err(error) = run() {
            self.farewell.hook_failed(py, "aclose()", &error);
        }
        drop((self.value, self.farewell));
        *self.handed_over.left.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.handed_over.finished.notify_all();
    }
}

impl Default for Closing {
    fn default() -> Self {
        Self { tasks: Guard::new(Vec::new(), true), handed_over: PerProcess::default() }
    }
}

impl Closing {
    /// Waits until everything handed to the background thread has finished.
    ///
    /// # Errors
    ///
    /// What a signal's handler raises meanwhile.
    pub(crate) fn wait(&self, py: Python<'_>) -> PyResult<()> {
        if background::is_current_thread() {
            return Ok(());
        }
        let handed_over = self.handed_over.get(py);
        loop {
            let done = py.detach(|| {
                let left = handed_over.left.lock().unwrap_or_else(PoisonError::into_inner);
                let waited = handed_over.finished.wait_timeout_while(left, BETWEEN_SIGNALS, |left| *left > 0);
                *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
            });
            if done {
                return Ok(());
            }
            py.check_signals()?;
        }
    }

    /// An awaitable for all that is scheduled on the running loop; its result is `None`.
    pub(crate) fn gather<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let asyncio = py.import("asyncio")?;
        let event_loop = asyncio.call_method0("get_running_loop")?;
        let all = event_loop.call_method0("create_future")?;
        let mut tasks = Vec::new();
        let held =
            self.tasks.with(py, |tasks| tasks.iter().map(|task| task.clone_ref(py)).collect::<Vec<_>>())?;
        for task in held {
            // One of another loop is not ours to wait for.
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
