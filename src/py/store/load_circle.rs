//! Detects loads that would have to wait for themselves.
//!
//! A caller that is about to wait first records what it will wait for, and then follows the chain of waits.
//! So if several callers close a circle, the last one sees it, and raises instead of waiting for ever. A
//! chain leads from a load to the loads that it needs: those that its thread waits for, those that a thread
//! waits for whose event loop it needs, and those that were requested in its context. A task that was started
//! in a load's context counts only while the load's own task waits for it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::thread::ThreadId;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::loads::{CircularLoadError, Leader, Load, shown};
use crate::py::object::running_python::call;
use crate::py::process::mutex::Mutex;

/// A load as the value of a context variable.
#[pyclass(frozen, module = "flexcache_rs._core", name = "_OwnLoad")]
pub(crate) struct OwnLoad(Arc<Load>);

/// The context variable with the load in whose context code runs.
fn variable(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static VARIABLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let made = VARIABLE.get_or_try_init(py, || {
        // SAFETY: the thread is attached; a new reference is returned, or null with an exception set.
        unsafe {
            let made = ffi::PyContextVar_New(c"flexcache_rs load".as_ptr(), std::ptr::null_mut());
            Bound::from_owned_ptr_or_err(py, made).map(Bound::unbind)
        }
    });
    made.map(|made| made.bind(py))
}

/// The load in whose context the caller runs, if it has not landed.
pub(crate) fn own_load(py: Python<'_>) -> PyResult<Option<Arc<Load>>> {
    let mut value = std::ptr::null_mut();
    // SAFETY: the variable is one; a new reference is stored, or null.
    let found = unsafe {
        let got = ffi::PyContextVar_Get(variable(py)?.as_ptr(), std::ptr::null_mut(), &raw mut value);
        if got < 0 {
            return Err(PyErr::fetch(py));
        }
        Bound::from_owned_ptr_or_opt(py, value)
    };
    let load = found.and_then(|found| Some(Arc::clone(&found.cast::<OwnLoad>().ok()?.get().0)));
    Ok(load.filter(|load| !load.has_landed()))
}

/// Sets the load of the current context. [`leave_context`] takes the token and undoes it.
pub(crate) fn enter_context<'py>(py: Python<'py>, load: &Arc<Load>) -> PyResult<Bound<'py, PyAny>> {
    let value = Bound::new(py, OwnLoad(Arc::clone(load)))?;
    // SAFETY: both are valid objects; a new reference is returned, or null with an exception set.
    unsafe {
        let token = ffi::PyContextVar_Set(variable(py)?.as_ptr(), value.as_ptr());
        Bound::from_owned_ptr_or_err(py, token)
    }
}

/// Restores the load of the context. This fails only in another context, where nothing has to be restored.
pub(crate) fn leave_context(py: Python<'_>, token: &Bound<'_, PyAny>) {
    let Ok(variable) = variable(py) else { return };
    // SAFETY: the variable is one, and the token is its.
    if unsafe { ffi::PyContextVar_Reset(variable.as_ptr(), token.as_ptr()) } < 0 {
        drop(PyErr::take(py));
    }
}

/// A copy of the current context, with another load.
pub(crate) fn context_of<'py>(py: Python<'py>, load: &Arc<Load>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the thread is attached; a new reference is returned, or null with an exception set.
    let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent())? };
    let value = Bound::new(py, OwnLoad(Arc::clone(load)))?;
    let set = variable(py)?.getattr(intern!(py, "set"))?;
    context.call_method1(intern!(py, "run"), (set, value))?;
    Ok(context)
}

/// The event loop that runs in this thread, by address.
pub(crate) fn running_loop(py: Python<'_>) -> PyResult<Option<usize>> {
    let modules = py.import(intern!(py, "sys"))?.getattr(intern!(py, "modules"))?;
    // A program that never imported asyncio has no loop, and need not import it for the answer.
    if !modules.contains(intern!(py, "asyncio.events"))? {
        return Ok(None);
    }
    let events = py.import(intern!(py, "asyncio.events"))?;
    let running = events.getattr(intern!(py, "_get_running_loop"))?.call0()?;
    Ok((!running.is_none()).then(|| running.as_ptr() as usize))
}

/// The loads that hold leases, each with the position of its lease in the order of all leases.
static HOLDERS: Mutex<Vec<(u64, Weak<Load>)>> = Mutex::new(Vec::new());

/// Records that a load holds a lease, until it lands.
pub(crate) fn holds_lease(load: &Arc<Load>, order: u64) {
    let mut holders = HOLDERS.lock();
    // A load is dropped soon after it has landed. Dropping a weak reference runs no code.
    holders.retain(|(_, holder)| holder.strong_count() > 0);
    holders.push((order, Arc::downgrade(load)));
}

/// Whether a load may wait for a lease of another process: no load of this process that needs it, directly or through
/// others, may hold a lease with the same or a later place in the order. So no circle of processes wait for one another.
pub(crate) fn may_wait_for_lease(
    py: Python<'_>,
    load: &Arc<Load>,
    blocks: Option<usize>,
    order: u64,
) -> bool {
    let later: Vec<_> = {
        let holders = HOLDERS.lock();
        let later = holders.iter().filter(|(held, _)| *held >= order);
        later.filter_map(|(_, holder)| holder.upgrade()).collect()
    };
    let keeps_waiting = |holder: &Arc<Load>| {
        if Arc::ptr_eq(holder, load) || holder.has_landed() {
            return false;
        }
        // Whether the holder runs in the same thread, or in a task of an event loop that the thread blocks.
        let is_below = match &holder.leader {
            Leader::Thread(_) => holder.leader.thread().is_some_and(|it| Some(it) == load.leader.thread()),
            Leader::Task { address, .. } => Some(*address) == blocks,
        };
        is_below || needs(py, holder, load)
    };
    !later.iter().any(keeps_waiting)
}

/// Whether a load perhaps cannot land before another one has.
fn needs(py: Python<'_>, load: &Arc<Load>, other: &Arc<Load>) -> bool {
    let (mut seen, mut open) = (HashSet::new(), vec![Arc::clone(load)]);
    while let Some(one) = open.pop() {
        if Arc::ptr_eq(&one, other) {
            return true;
        }
        if !one.has_landed() && seen.insert(Arc::as_ptr(&one)) {
            open.extend(blocked_by(&one));
            open.extend(one.all_needs(py).into_iter().map(|(needed, _)| needed));
        }
    }
    false
}

/// The waits of one thread, the latest last: each with its number, the event loop that it blocks, and its
/// load.
type Waits = Vec<(u64, Option<usize>, Arc<Load>)>;

/// The threads that wait for loads. Only attached threads touch the lock, and none of them can be
/// stopped for a fork while inside it.
static WAITING: Mutex<Option<HashMap<ThreadId, Waits>>> = Mutex::new(None);

pub(crate) fn thread_waits(thread: ThreadId, number: u64, event_loop: Option<usize>, load: &Arc<Load>) {
    let mut waiting = WAITING.lock();
    let waiting = waiting.get_or_insert_default();
    waiting.entry(thread).or_default().push((number, event_loop, Arc::clone(load)));
}

pub(crate) fn thread_waits_no_more(thread: ThreadId, number: u64) {
    let removed = {
        let mut waiting = WAITING.lock();
        let Some(waiting) = waiting.as_mut() else { return };
        let Some(waits) = waiting.get_mut(&thread) else { return };
        let at = waits.iter().position(|wait| wait.0 == number);
        let removed = at.map(|at| waits.remove(at));
        if waits.is_empty() {
            waiting.remove(&thread);
        }
        removed
    };
    drop(removed);
}

/// The load without which a load cannot land, because its thread waits for it.
fn blocked_by(load: &Load) -> Option<Arc<Load>> {
    let waiting = WAITING.lock();
    let waiting = waiting.as_ref()?;
    match &load.leader {
        // A load that a signal handler began during a wait does not depend on that wait.
        Leader::Thread(_) => {
            let wait = waiting.get(&load.leader.thread()?)?.last().filter(|wait| wait.0 > load.number);
            wait.map(|wait| Arc::clone(&wait.2))
        }
        Leader::Task { address, .. } => {
            let all = waiting.values().filter_map(|waits| waits.last());
            let mut stuck = all.filter(|wait| wait.1 == Some(*address));
            stuck.next().map(|wait| Arc::clone(&wait.2))
        }
    }
}

/// The caller that is about to wait.
pub(crate) struct Waiter<'a, 'py> {
    pub(crate) thread: ThreadId,
    /// The event loop that cannot run meanwhile.
    pub(crate) blocks: Option<usize>,
    /// The load in whose context this is.
    pub(crate) own: Option<&'a Arc<Load>>,
    /// The task that waits, where it is one.
    pub(crate) task: Option<&'a Bound<'py, PyAny>>,
}

/// The result of following the chain of waits from a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chain {
    Straight,
    /// It would be a circle if a task on the way awaited another, which it does not do at present.
    PerhapsLater,
}

impl Waiter<'_, '_> {
    /// Follows the chain of waits from a load.
    ///
    /// # Errors
    ///
    /// `CircularLoadError` if it leads back to the waiter.
    pub(crate) fn refuse_circle(&self, py: Python<'_>, load: &Arc<Load>) -> PyResult<Chain> {
        // The loads that were seen, each with whether every step on the way there is certain.
        let (mut seen, mut open) = (HashMap::new(), vec![(Arc::clone(load), true)]);
        let mut chain = Chain::Straight;
        while let Some((one, certain)) = open.pop() {
            let known = seen.get(&Arc::as_ptr(&one));
            if one.has_landed() || known.is_some_and(|&known| known || !certain) {
                continue;
            }
            seen.insert(Arc::as_ptr(&one), certain);
            let is_mine = match &one.leader {
                Leader::Thread(_) => one.leader.thread() == Some(self.thread),
                Leader::Task { address, .. } => self.blocks == Some(*address),
            };
            let is_own = self.own.is_some_and(|own| Arc::ptr_eq(own, &one));
            if is_mine || is_own {
                if certain && (is_mine || self.is_part_of(py, &one)?) {
                    return Err(circular(py, load));
                }
                chain = Chain::PerhapsLater;
                continue;
            }
            open.extend(blocked_by(&one).map(|needed| (needed, certain)));
            for (needed, via) in one.all_needs(py) {
                let counts = match (&via, one.task(py)) {
                    (Some(via), Some(task)) => waits_for(&task, via.bind(py))?,
                    _ => true,
                };
                open.push((needed, certain && counts));
            }
        }
        Ok(chain)
    }

    /// Whether the load of the waiter's context cannot land without the waiter.
    fn is_part_of(&self, py: Python<'_>, own: &Arc<Load>) -> PyResult<bool> {
        match (self.task, own.task(py)) {
            (Some(task), Some(computes)) => waits_for(&computes, task),
            _ => Ok(true),
        }
    }
}

/// Whether a task is another one or waits for it.
fn waits_for(task: &Bound<'_, PyAny>, other: &Bound<'_, PyAny>) -> PyResult<bool> {
    if task.is(other) {
        return Ok(true);
    }
    let py = task.py();
    let waits_for = py.import(intern!(py, "flexcache_rs._awaiting"))?.getattr(intern!(py, "waits_for"))?;
    call(&waits_for, [task, other])?.is_truthy()
}

fn circular(py: Python<'_>, load: &Arc<Load>) -> PyErr {
    let key = shown(load.key.bind(py));
    CircularLoadError::new_err(format!("computing the value of {key} would have to wait for itself"))
}
