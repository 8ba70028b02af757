//! Loads of tasks: one native call creates the task that computes, and its end lands the load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pyo3::exceptions::{PyKeyboardInterrupt, PyStopIteration, PySystemExit};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;

use super::leasing::{end_lease, failure_for_others};
use super::load_in_thread::{LoadHandle, outcome_of};
use super::state::FlexCache;
use crate::py::object::running_python::{call, report_unraisable};
use crate::py::process::guard::Guard;
use crate::py::process::stack;
use crate::py::store::load_circle::{Chain, Waiter, context_of, own_load};
use crate::py::store::loads::{Leader, Load, Outcome, Sleeper, next_number};
use crate::py::store::shard_loads::{How, Joined};

/// The seconds after which a waiter checks whether the load can still land.
const PATIENCE: f64 = 1.0;

/// The same, if the load may come to depend on the waiter.
const SOON: f64 = 0.1;

/// Lands a load when the task that computes is done, or is no more.
#[pyclass(frozen, module = "flexcache_rs._core", name = "_Landing")]
pub(super) struct TaskLanding {
    cache: Py<FlexCache>,
    load: Arc<Load>,
    /// Whether the load was registered and has not been landed.
    due: AtomicBool,
}

#[pymethods]
impl TaskLanding {
    fn __call__(&self, py: Python<'_>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let outcome = outcome_of_task(task).unwrap_or(None);
        if !matches!(outcome, Some(Outcome::Value(_))) {
            self.cache.get().fails(py, &self.load);
        }
        let failure = failure_for_others(py, &self.load, outcome.as_ref());
        self.land(py, outcome, failure)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.cache)
    }
}

impl TaskLanding {
    fn land(&self, py: Python<'_>, outcome: Option<Outcome>, failure: Option<Vec<u8>>) -> PyResult<()> {
        if !self.due.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let landed = self.cache.get().land(py, &self.load, outcome);
        // An event loop may run in this thread.
        end_lease(py, &self.load, failure, false);
        landed
    }
}

impl Drop for TaskLanding {
    fn drop(&mut self) {
        if self.due.load(Ordering::Acquire) {
            let _ = Python::try_attach(|py| {
                let pending = PyErr::take(py);
                if let Err(error) = self.land(py, None, None) {
                    report_unraisable(py, error);
                }
                if let Some(pending) = pending {
                    pending.restore(py);
                }
            });
        }
    }
}

/// The outcome of a task.
fn outcome_of_task(task: &Bound<'_, PyAny>) -> PyResult<Option<Outcome>> {
    let py = task.py();
    if task.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
        // A cancellation from outside, such as by the end of its loop, is not an error of the computation.
        // Python 3.10 does not tell the two apart.
        let requested = match task.getattr_opt(intern!(py, "cancelling"))? {
            Some(cancelling) => cancelling.call0()?.extract::<usize>()? > 0,
            None => false,
        };
        let raised = task.call_method0(intern!(py, "result")).err();
        return Ok(raised.filter(|_| !requested).and_then(|error| outcome_of(error.value(py))));
    }
    let raised = task.call_method0(intern!(py, "exception"))?;
    if raised.is_instance_of::<PySystemExit>() || raised.is_instance_of::<PyKeyboardInterrupt>() {
        // These exceptions end the event loop by themselves.
        return Ok(None);
    }
    if !raised.is_none() {
        // An exception of any class. The task has no caller of its own, so a caller that started over would
        // do so for ever.
        return Ok(Some(Outcome::Error(raised.unbind())));
    }
    Ok(Some(Outcome::Value(task.call_method0(intern!(py, "result"))?.unbind())))
}

/// Wakes a task that waits.
#[pyclass(frozen, weakref, module = "flexcache_rs._core", name = "_Wake")]
struct Wake(Py<PyAny>);

#[pymethods]
impl Wake {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let future = self.0.bind(py);
        if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
            future.call_method1(intern!(py, "set_result"), (py.None(),))?;
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

/// The event loop that runs in this thread.
fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import(intern!(py, "asyncio.events"))?.getattr(intern!(py, "get_running_loop"))?.call0()
}

/// Creates the task of a load that was just registered.
fn launch<'py>(
    landing: &Bound<'py, TaskLanding>,
    event_loop: &Bound<'py, PyAny>,
    compute: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = landing.py();
    let load = &landing.get().load;
    let create = || {
        let context = context_of(py, load)?;
        let handle = Bound::new(py, LoadHandle(Arc::clone(load)))?;
        let computation = call(compute, [handle.as_any()])?;
        let create_task = event_loop.getattr(intern!(py, "create_task"))?;
        let created =
            context.call_method1(intern!(py, "run"), (create_task, &computation)).and_then(|task| {
                let weak = PyWeakrefReference::new(&task)?.unbind();
                let kept = load.background.then(|| task.clone().unbind());
                {
                    let mut state = load.state();
                    (state.task, state.kept) = (Some(weak), kept);
                }
                // Not at the end of the coroutine, as a task that is cancelled early never runs it.
                task.call_method1(intern!(py, "add_done_callback"), (landing,))?;
                Ok(task)
            });
        if created.is_err() {
            computation.call_method0(intern!(py, "close"))?;
        }
        created
    };
    create().inspect_err(|_| {
        let _ = landing.get().land(py, None, None);
    })
}

/// The state of a task that waits for a load.
struct Wait {
    load: Arc<Load>,
    /// Wakes the task from its current wait.
    wake: Option<Py<Wake>>,
    sleeper: u64,
    timer: Option<Py<PyAny>>,
    /// The load of the context, which depends on this one.
    own: Option<(Arc<Load>, u64)>,
    /// The task that computes, which an event loop keeps only weakly.
    task: Option<Py<PyAny>>,
    /// Whether the wait began with a lookup that found nothing.
    looked_up: bool,
}

enum Step {
    Begins,
    Waits(Wait),
    Over,
}

/// What `await` gets the value of a load from.
#[pyclass(frozen, module = "flexcache_rs._core", name = "_Loading")]
pub(crate) struct Loading {
    cache: Py<FlexCache>,
    key: Py<PyAny>,
    compute: Py<PyAny>,
    how: How,
    step: Guard<Step>,
}

/// Compute the value of a key in a task, or wait for the caller that computes it. `compute(load)` creates the
/// coroutine.
#[pyfunction]
#[pyo3(name = "_load_in_task", signature = (cache, key, compute, refresh=false))]
pub(crate) fn load_in_task(
    cache: &Bound<'_, FlexCache>,
    key: &Bound<'_, PyAny>,
    compute: &Bound<'_, PyAny>,
    refresh: bool,
) -> Loading {
    Loading {
        cache: cache.clone().unbind(),
        key: key.clone().unbind(),
        compute: compute.clone().unbind(),
        how: if refresh { How::Refresh } else { How::Join },
        step: Guard::new(Step::Begins, true),
    }
}

#[pymethods]
impl Loading {
    fn __await__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __iter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        loop {
            let step = self.step.with(py, |step| std::mem::replace(step, Step::Over))?;
            let load = match step {
                Step::Over => return Err(PyStopIteration::new_err((py.None(),))),
                Step::Begins => self.join(py)?,
                Step::Waits(wait) => Joining { cache: &self.cache, py, wait: Some(wait) },
            };
            match load.go_on()? {
                Progress::Sleeps(wait, yields) => {
                    let before = self.step.with(py, |step| std::mem::replace(step, Step::Waits(wait)))?;
                    drop(before);
                    return Ok(yields);
                }
                Progress::Ended(value) => return Err(PyStopIteration::new_err((value,))),
                Progress::Again => {
                    self.step.with(py, |step| *step = Step::Begins)?;
                }
            }
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.cache)?;
        visit.call(&self.key)?;
        visit.call(&self.compute)?;
        // SAFETY: the collector calls attached.
        let py = unsafe { Python::assume_attached() };
        let visited = self.step.try_with(py, |step| match step {
            Step::Waits(wait) => {
                visit.call(&wait.wake)?;
                visit.call(&wait.task)
            }
            _ => Ok(()),
        });
        visited.unwrap_or(Ok(()))
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        let Step::Waits(wait) = std::mem::replace(self.step.get_mut(), Step::Over) else { return };
        let _ = Python::try_attach(|py| {
            // The exception that may be propagating, such as the CancelledError that ends the wait.
            let pending = PyErr::take(py);
            if let Err(error) = wait.leave(py, &self.cache) {
                report_unraisable(py, error);
            }
            if let Some(pending) = pending {
                pending.restore(py);
            }
        });
    }
}

impl Wait {
    fn leave(mut self, py: Python<'_>, cache: &Py<FlexCache>) -> PyResult<()> {
        self.load.remove_sleeper(self.sleeper);
        if let Some((own, number)) = self.own.take() {
            own.needs_no_more(number);
        }
        if let Some(timer) = self.timer.take() {
            let _ = timer.bind(py).call_method0(intern!(py, "cancel"));
        }
        let goes_on = cache.get().leave(py, &self.load)?;
        if let Some(task) = self.task.take()
            && goes_on
        {
            // Other callers wait for the task, perhaps in other loops, which do not keep it alive.
            let before = self.load.state().kept.replace(task);
            drop(before);
        }
        Ok(())
    }
}

enum Progress {
    Sleeps(Wait, Py<PyAny>),
    Ended(Py<PyAny>),
    Again,
}

/// A wait in progress. It is left on every path except back to sleep.
struct Joining<'a, 'py> {
    cache: &'a Py<FlexCache>,
    py: Python<'py>,
    wait: Option<Wait>,
}

impl Drop for Joining<'_, '_> {
    fn drop(&mut self) {
        if let Some(wait) = self.wait.take() {
            // An exception of a signal handler is dropped here, as another one is propagating.
            let _ = wait.leave(self.py, self.cache);
        }
    }
}

impl Joining<'_, '_> {
    /// Checks the load: either it is over, or the task sleeps.
    fn go_on(mut self) -> PyResult<Progress> {
        let py = self.py;
        let Some(wait) = &mut self.wait else { return Ok(Progress::Again) };
        wait.load.remove_sleeper(wait.sleeper);
        if let Some(timer) = wait.timer.take() {
            timer.bind(py).call_method0(intern!(py, "cancel"))?;
        }
        let load = Arc::clone(&wait.load);
        let event_loop = running_loop(py)?;
        let asyncio = py.import(intern!(py, "asyncio.tasks"))?;
        let current = asyncio.getattr(intern!(py, "current_task"))?.call0()?;
        if !load.is_over(py)? {
            let own = own_load(py)?;
            if wait.own.is_none()
                && let Some(own) = &own
            {
                let computes = own.task(py).is_some_and(|task| task.is(&current));
                let via = (!computes).then(|| current.clone().unbind());
                wait.own = Some((Arc::clone(own), own.needs(&load, via)));
            }
            let thread = thread::current().id();
            let waiter = Waiter { thread, blocks: None, own: own.as_ref(), task: Some(&current) };
            let chain = waiter.refuse_circle(py, &load)?;
            let future = event_loop.call_method0(intern!(py, "create_future"))?;
            let wake = Bound::new(py, Wake(future.clone().unbind()))?;
            let is_here = matches!(&load.leader, Leader::Task { address, .. }
                if *address == event_loop.as_ptr() as usize);
            let patience = match chain {
                Chain::PerhapsLater => Some(SOON),
                Chain::Straight if !is_here => Some(PATIENCE),
                Chain::Straight => None,
            };
            if let Some(patience) = patience {
                let call_later = event_loop.getattr(intern!(py, "call_later"))?;
                wait.timer = Some(call_later.call1((patience, &wake))?.unbind());
            }
            wait.sleeper = next_number();
            let sleeper = Sleeper {
                number: wait.sleeper,
                event_loop: PyWeakrefReference::new(&event_loop)?.unbind(),
                wake: PyWeakrefReference::new(&wake)?.unbind(),
            };
            let before = wait.wake.replace(wake.unbind());
            drop(before);
            if load.add_sleeper(sleeper) {
                let steps = future.call_method0(intern!(py, "__await__"))?;
                let yields = steps.call_method0(intern!(py, "__next__"))?.unbind();
                return match self.wait.take() {
                    Some(wait) => Ok(Progress::Sleeps(wait, yields)),
                    None => Ok(Progress::Again),
                };
            }
            if let Some(timer) = wait.timer.take() {
                timer.bind(py).call_method0(intern!(py, "cancel"))?;
            }
        }
        let result = load.result(py);
        let has_waited = self.wait.as_ref().is_some_and(|wait| wait.looked_up && wait.task.is_none());
        if has_waited && matches!(result, Some(Ok(_))) {
            self.cache.get().count_wait();
        }
        if let Some(wait) = self.wait.take() {
            wait.leave(py, self.cache)?;
        }
        match result {
            Some(result) => result.map(Progress::Ended),
            None => {
                self.cache.get().land_if_left(py, &load, false)?;
                Ok(Progress::Again)
            }
        }
    }
}

impl Loading {
    /// Joins the load of the key, or begins one.
    fn join<'py>(&self, py: Python<'py>) -> PyResult<Joining<'_, 'py>> {
        stack::check(stack::Call::Nested)?;
        let event_loop = running_loop(py)?;
        let leader = Leader::task_of(&event_loop)?;
        let load = self.cache.get().new_load(self.key.bind(py), leader, false)?;
        let landing = TaskLanding {
            cache: self.cache.clone_ref(py),
            load: Arc::clone(&load),
            due: AtomicBool::new(false),
        };
        let landing = Bound::new(py, landing)?;
        let looked_up = self.how == How::Join;
        let waits =
            |load, task| Wait { load, wake: None, sleeper: 0, timer: None, own: None, task, looked_up };
        let cache = self.cache.get();
        let mut joined = cache.join(py, &load, self.how)?;
        while let Joined::Other(other) = &joined
            && cache.has_failed(py, other)?
        {
            cache.leave(py, other)?;
            joined = cache.join(py, &load, self.how)?;
        }
        let wait = match joined {
            Joined::Other(other) => waits(other, None),
            Joined::Leads => {
                landing.get().due.store(true, Ordering::Release);
                load.count_waiter();
                let task = launch(&landing, &event_loop, self.compute.bind(py))?;
                waits(load, Some(task.unbind()))
            }
        };
        Ok(Joining { cache: &self.cache, py, wait: Some(wait) })
    }
}

/// Begins a load in a task that nobody awaits, unless the key has a load. Returns whether it began one.
pub(super) fn begin_in_task(
    cache: &Bound<'_, FlexCache>,
    key: &Bound<'_, PyAny>,
    compute: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    let py = cache.py();
    stack::check(stack::Call::Nested)?;
    let event_loop = running_loop(py)?;
    let load = cache.get().new_load(key, Leader::task_of(&event_loop)?, true)?;
    let landing =
        TaskLanding { cache: cache.clone().unbind(), load: Arc::clone(&load), due: AtomicBool::new(false) };
    let landing = Bound::new(py, landing)?;
    match cache.get().join(py, &load, How::OnlyIfNone)? {
        Joined::Leads => {
            landing.get().due.store(true, Ordering::Release);
            launch(&landing, &event_loop, compute).map(|_| true)
        }
        Joined::Other(other) => {
            cache.get().land_if_left(py, &other, false)?;
            Ok(false)
        }
    }
}
