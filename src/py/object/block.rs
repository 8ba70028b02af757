//! `Block` and `AwaitedBlock`: the two ends of a `with` statement, which no signal handler can skip.
//!
//! A handler that raises as `__exit__` begins would skip all of it if that were a function of Python's: it has not run a
//! single line then. So the first lines are these. They call methods of Python's classes, whose names begin with an `a`
//! where they are awaited:
//!
//! | method | what it does |
//! | --- | --- |
//! | `_before()` | raises if the block cannot be entered now; nothing is undone then. What it returns, `_end` gets |
//! | `_enter()` | begins: acquires the lock, for instance |
//! | `_leave(succeeded)` | ends, at the end of the block |
//! | `_end(before)` | ends what is left after `_enter` or `_leave` raised, if anything is. It may be called again |

use std::mem::replace;
use std::sync::MutexGuard;

use pyo3::exceptions::{PyBaseException, PyException, PyGeneratorExit, PyRuntimeError, PyStopIteration};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::py::process::mutex::Mutex;

/// How often `_end` is tried. A second handler may raise in it, but hardly a third.
const ATTEMPTS: usize = 2;

/// The message of the interpreter itself for other objects that can be awaited only once.
const REUSED: &str = "cannot reuse already awaited __aenter__()/__aexit__()";

/// The base class of objects with a `with` block.
#[pyclass(subclass, frozen, module = "flexcache_rs._core")]
pub(crate) struct Block;

#[pymethods]
impl Block {
    #[new]
    #[pyo3(signature = (*_arguments, **_options))]
    fn new(_arguments: &Bound<'_, PyAny>, _options: Option<&Bound<'_, PyAny>>) -> Self {
        Self
    }

    /// Begins. If that raises, nothing is left of it.
    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let py = slf.py();
        let before = slf.call_method0(intern!(py, "_before"))?;
        slf.call_method0(intern!(py, "_enter")).map_err(|error| Self::ended(slf, error, &before))?;
        Ok(slf.clone())
    }

    /// Ends, whatever is raised meanwhile.
    fn __exit__(
        slf: &Bound<'_, Self>,
        kind: &Bound<'_, PyAny>,
        _raised: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let left = slf.call_method1(intern!(py, "_leave"), (kind.is_none(),));
        left.map(drop).map_err(|error| Self::ended(slf, error, py.None().bind(py)))
    }
}

impl Block {
    /// Calls `_end` after an error. Returns the error for the caller.
    fn ended(slf: &Bound<'_, Self>, mut error: PyErr, before: &Bound<'_, PyAny>) -> PyErr {
        let py = slf.py();
        for _ in 0..ATTEMPTS {
            match slf.call_method1(intern!(py, "_end"), (before,)) {
                Ok(_) => break,
                Err(failed) => error = one_of(py, error, failed),
            }
        }
        error
    }
}

/// The error for the caller after ending failed, too: the first one, unless only the second one ends more than the block,
/// as a cancellation or Ctrl-C does. A task that was cancelled must not go on. The other error is its context.
fn one_of(py: Python<'_>, error: PyErr, failed: PyErr) -> PyErr {
    let is_ordinary = |error: &PyErr| error.is_instance_of::<PyException>(py);
    let (raised, context) =
        if is_ordinary(&error) && !is_ordinary(&failed) { (failed, error) } else { (error, failed) };
    follows(py, &raised, &context);
    raised
}

/// Records another error in one as its context.
fn follows(py: Python<'_>, error: &PyErr, failed: &PyErr) {
    let (error, failed) = (error.value(py), failed.value(py));
    // One that is raised again would be its own context, where programs that follow contexts never come to an end.
    if !error.is(failed) {
        // An exception whose class refuses the attribute goes without it.
        let _ = error.setattr(intern!(py, "__context__"), failed);
    }
}

/// Returns `show(object)`, or "{...}" inside of such a call, for an object that contains itself.
#[pyfunction]
#[pyo3(name = "_show_once")]
pub(crate) fn show_once<'py>(
    object: &Bound<'py, PyAny>,
    show: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    // SAFETY: the thread is attached, and the object lives.
    match unsafe { pyo3::ffi::Py_ReprEnter(object.as_ptr()) } {
        0 => {}
        1.. => return Ok(intern!(py, "{...}").clone().into_any()),
        _ => return Err(PyErr::fetch(py)),
    }
    let shown = show.call1((object,));
    // SAFETY: as above. It was entered.
    unsafe { pyo3::ffi::Py_ReprLeave(object.as_ptr()) };
    shown
}

/// The base class of objects with an `async with` block.
#[pyclass(subclass, frozen, module = "flexcache_rs._core")]
pub(crate) struct AwaitedBlock;

#[pymethods]
impl AwaitedBlock {
    #[new]
    #[pyo3(signature = (*_arguments, **_options))]
    fn new(_arguments: &Bound<'_, PyAny>, _options: Option<&Bound<'_, PyAny>>) -> Self {
        Self
    }

    /// Begins. If that raises, nothing is left of it.
    fn __aenter__(slf: &Bound<'_, Self>) -> PyResult<BlockStep> {
        let py = slf.py();
        let before = slf.call_method0(intern!(py, "_before"))?;
        let first = slf.call_method0(intern!(py, "_aenter"))?;
        Ok(BlockStep::new(slf, &before, &first, slf.as_any()))
    }

    /// Ends, whatever is raised meanwhile.
    fn __aexit__(
        slf: &Bound<'_, Self>,
        kind: &Bound<'_, PyAny>,
        _raised: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<BlockStep> {
        let py = slf.py();
        let nothing = py.None().into_bound(py);
        let first = slf.call_method1(intern!(py, "_aleave"), (kind.is_none(),))?;
        let step = BlockStep::new(slf, &nothing, &first, &nothing);
        // It begins now, in case a handler raises before it is awaited.
        let begun = step.resume(py, sent);
        step.state().begun = Some(begun.map(Bound::unbind).map_err(|error| error.into_value(py)));
        Ok(step)
    }
}

/// One end of an `async with`, which is awaited.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct BlockStep {
    block: Py<PyAny>,
    before: Py<PyAny>,
    /// The result of awaiting it.
    result: Py<PyAny>,
    state: Mutex<State>,
}

/// Exceptions are kept as objects, which the collector visits: their tracebacks refer to the block.
struct State {
    /// The coroutine that is awaited; `None` when all is over.
    coroutine: Option<Py<PyAny>>,
    /// The outcome of its first step, if that ran before it was awaited.
    begun: Option<Result<Py<PyAny>, Py<PyBaseException>>>,
    /// The exception for the caller, after `_end` is done.
    raised: Option<Py<PyBaseException>>,
    attempts: usize,
}

impl BlockStep {
    fn new(
        block: &Bound<'_, AwaitedBlock>,
        before: &Bound<'_, PyAny>,
        first: &Bound<'_, PyAny>,
        result: &Bound<'_, PyAny>,
    ) -> Self {
        let state = State { coroutine: Some(first.clone().unbind()), begun: None, raised: None, attempts: 0 };
        Self {
            block: block.clone().into_any().unbind(),
            before: before.clone().unbind(),
            result: result.clone().unbind(),
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Resumes the coroutine. If that raises, resumes `_end`, which ends what is left. Returns what it waits
    /// for.
    fn resume<'py>(
        &self,
        py: Python<'py>,
        how: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let awaited = self.state().coroutine.as_ref().map(|coroutine| coroutine.clone_ref(py).into_bound(py));
        let awaited = awaited.ok_or_else(|| PyRuntimeError::new_err(REUSED))?;
        let mut outcome = how(&awaited);
        loop {
            let error = match outcome {
                Err(error) if !error.is_instance_of::<PyGeneratorExit>(py) => error,
                // It waits, or is no longer awaited.
                waits => return waits,
            };
            let is_done = error.is_instance_of::<PyStopIteration>(py);
            let (raised, attempts) = {
                let mut state = self.state();
                (state.raised.take(), state.attempts)
            };
            let raised = match raised.map(|raised| error_of(py, raised)) {
                None if is_done => {
                    self.goes_on_with(None);
                    return Err(PyStopIteration::new_err((self.result.clone_ref(py),)));
                }
                None => error,
                Some(raised) => {
                    let raised = if is_done { raised } else { one_of(py, raised, error) };
                    if is_done || attempts == ATTEMPTS {
                        self.goes_on_with(None);
                        return Err(raised);
                    }
                    raised
                }
            };
            let ending = self.block.bind(py).call_method1(intern!(py, "_aend"), (&self.before,))?;
            self.goes_on_with(Some(ending.clone().unbind()));
            {
                let mut state = self.state();
                state.raised = Some(raised.into_value(py));
                state.attempts = attempts + 1;
            }
            outcome = sent(&ending);
        }
    }

    fn goes_on_with(&self, coroutine: Option<Py<PyAny>>) {
        let before = replace(&mut self.state().coroutine, coroutine);
        drop(before);
    }
}

/// An exception that was kept, to be raised.
fn error_of(py: Python<'_>, kept: Py<PyBaseException>) -> PyErr {
    PyErr::from_value(kept.into_bound(py).into_any())
}

/// Resumes a coroutine.
fn sent<'py>(coroutine: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = coroutine.py();
    coroutine.call_method1(intern!(py, "send"), (py.None(),))
}

#[pymethods]
impl BlockStep {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let begun = self.state().begun.take();
        match begun {
            Some(begun) => begun.map(|waits| waits.into_bound(py)).map_err(|raised| error_of(py, raised)),
            None => self.resume(py, sent),
        }
    }

    fn send<'py>(&self, py: Python<'py>, _value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.__next__(py)
    }

    /// Raises an exception in what is awaited.
    #[pyo3(signature = (*raised))]
    fn throw<'py>(&self, py: Python<'py>, raised: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let begun = self.state().begun.take();
        drop(begun);
        self.resume(py, |coroutine| coroutine.call_method1(intern!(py, "throw"), raised))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let coroutine = self.state().coroutine.take();
        coroutine.map_or(Ok(()), |coroutine| coroutine.call_method0(py, intern!(py, "close")).map(drop))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.block)?;
        visit.call(&self.before)?;
        visit.call(&self.result)?;
        let Some(state) = self.state.try_lock() else { return Ok(()) };
        visit.call(&state.coroutine)?;
        visit.call(&state.raised)?;
        match &state.begun {
            Some(Ok(waits)) => visit.call(waits),
            Some(Err(raised)) => visit.call(raised),
            None => Ok(()),
        }
    }
}
