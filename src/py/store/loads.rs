//! Loads: computations in progress, by key.
//!
//! A load is registered in its key's shard, under the shard's lock, and stays there until it lands.
//! A call that finds one waits for it instead of computing. Registering is the last step that can
//! fail, and a drop guard lands the load on every way out, so no signal, exception or dead thread
//! leaves a key behind.
//!
//! A write to a key discards the loads of that key: their callers get the value, the cache does not.
//! Landing asks under the same lock that stores the value, so a write comes either before, and
//! discards, or after, and replaces.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use super::exception_copy;
use super::lease::{AwaitedLease, Lease};
use crate::py::process::background;
use crate::py::process::mutex::Mutex;

create_exception!(
    flexcache_rs,
    CircularLoadError,
    PyRuntimeError,
    "A computation would have to wait for itself."
);

create_exception!(
    flexcache_rs,
    LoadFailedElsewhere,
    PyException,
    "The computation of a value failed in another process, with an exception that cannot be restored here."
);

create_exception!(
    flexcache_rs,
    LoadCancelled,
    PyException,
    "A computation that others wait for was cancelled from inside: it raised CancelledError."
);

/// Where an entry comes from that is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin<'a> {
    /// A call that writes: it discards the loads of its key.
    Write,
    /// The store behind the cache, which had it already.
    Fill,
    /// A load: it is stored only if nothing was written since it began.
    Landing(&'a Arc<Load>),
}

/// Who computes.
#[derive(Debug)]
pub(crate) enum Leader {
    /// A thread, once it has begun, and what is dropped when it ends.
    Thread(OnceLock<(ThreadId, Weak<()>)>),
    /// A task of the event loop at this address, which is referred to weakly.
    Task { event_loop: Py<PyWeakrefReference>, address: usize },
}

/// The outcome of a load, for callers that wait.
#[derive(Debug)]
pub(crate) enum Outcome {
    Value(Py<PyAny>),
    /// An exception: each waiter gets a copy.
    Error(Py<PyAny>),
    /// A CancelledError that the computation itself raised.
    Cancelled(Py<PyAny>),
}

/// A task that waits, to be woken in its loop. Both are the task's and are referred to weakly, so that a load
/// keeps no loop alive that everybody else has forgotten.
#[derive(Debug)]
pub(crate) struct Sleeper {
    pub(crate) number: u64,
    pub(crate) event_loop: Py<PyWeakrefReference>,
    pub(crate) wake: Py<PyWeakrefReference>,
}

/// A load that another one needs before it can land.
#[derive(Debug)]
pub(crate) struct Need {
    number: u64,
    load: Arc<Load>,
    /// The task that waits, where it is not the one that computes: perhaps nobody awaits it.
    via: Option<Py<PyAny>>,
}

/// What a load has of its store's lease.
#[derive(Clone, Debug, Default)]
pub(crate) enum LoadLease {
    /// It has none: the store gives none, or was not asked.
    #[default]
    None,
    /// It waits for another load, until a moment.
    Waits(Arc<dyn AwaitedLease>, Instant),
    Held(Arc<dyn Lease>),
    /// Another load has it, for which this one does not wait: its result is for its callers alone.
    Elsewhere,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// Kept only while somebody waits.
    pub(crate) outcome: Option<Outcome>,
    /// The task that computes, weakly.
    pub(crate) task: Option<Py<PyWeakrefReference>>,
    /// The same, where nobody else would keep it alive.
    pub(crate) kept: Option<Py<PyAny>>,
    pub(crate) sleepers: Vec<Sleeper>,
    needs: Vec<Need>,
}

/// One computation in progress.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) key: Py<PyAny>,
    /// The key as memory has it, which says what other keys are the same.
    pub(crate) key_in_memory: Py<PyAny>,
    pub(super) hash: u64,
    /// When it was made, in the numbers of waits.
    pub(crate) number: u64,
    /// When it began, in the numbers of its shard.
    pub(super) began: AtomicU64,
    /// The process it belongs to.
    pub(super) generation: u64,
    pub(crate) leader: Leader,
    /// Whether it goes on when nobody waits for it.
    pub(crate) background: bool,
    /// The transaction of the store that it computes in, and shares its result within; 0 outside of one.
    pub(crate) transaction: u64,
    /// The tags that it is known to have before it lands.
    pub(super) tags: OnceLock<Arc<[PyBackedStr]>>,
    /// Something was written since: it must not be stored.
    pub(super) discarded: AtomicBool,
    /// A newer load of the same key has begun, which new callers join.
    pub(super) superseded: AtomicBool,
    /// Its result is for the caller that computed it alone.
    unshared: AtomicBool,
    has_landed: AtomicBool,
    /// How many wait. Goes up only under the lock of the shard.
    waiting: AtomicUsize,
    lease: Mutex<LoadLease>,
    state: Mutex<State>,
    landed: Condvar,
}

/// Numbers of loads, waits, sleepers and needs, in the order they are made.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

pub(crate) fn next_number() -> u64 {
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

thread_local! {
    /// Dropped when the thread ends.
    static ALIVE: Arc<()> = Arc::new(());

    /// Odd, so that no address is the same.
    static TRANSACTION: u64 = 2 * next_number() + 1;
}

/// The number of any transaction of a store that the calling thread is in.
pub(crate) fn transaction_of_thread() -> u64 {
    TRANSACTION.try_with(|number| *number).unwrap_or(1)
}

impl Leader {
    /// The calling thread.
    pub(crate) fn this_thread() -> Self {
        let leader = Self::a_thread();
        leader.is_this_thread();
        leader
    }

    /// A thread that is yet to begin.
    pub(crate) fn a_thread() -> Self {
        Self::Thread(OnceLock::new())
    }

    /// From now on it is the calling thread.
    pub(crate) fn is_this_thread(&self) {
        if let Self::Thread(leader) = self {
            let alive = ALIVE.try_with(Arc::downgrade).unwrap_or_default();
            let _ = leader.set((thread::current().id(), alive));
        }
    }

    /// The thread that computes.
    pub(crate) fn thread(&self) -> Option<ThreadId> {
        match self {
            Self::Thread(leader) => leader.get().map(|leader| leader.0),
            Self::Task { .. } => None,
        }
    }

    /// A task of an event loop.
    pub(crate) fn task_of(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        let address = event_loop.as_ptr() as usize;
        Ok(Self::Task { event_loop: PyWeakrefReference::new(event_loop)?.unbind(), address })
    }
}

impl Load {
    pub(crate) fn new(
        key: &Bound<'_, PyAny>,
        key_in_memory: &Bound<'_, PyAny>,
        hash: u64,
        leader: Leader,
        background: bool,
        transaction: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            key: key.clone().unbind(),
            key_in_memory: key_in_memory.clone().unbind(),
            hash,
            number: next_number(),
            began: AtomicU64::new(0),
            generation: background::generation(),
            leader,
            background,
            transaction,
            tags: OnceLock::new(),
            discarded: AtomicBool::new(false),
            superseded: AtomicBool::new(false),
            unshared: AtomicBool::new(false),
            has_landed: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            lease: Mutex::default(),
            state: Mutex::default(),
            landed: Condvar::new(),
        })
    }

    /// What waiters share. Nobody holds it while waiting for anything, and no Python code runs
    /// under it; a fork's child never takes its parent's.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// What it has of its store's lease; nothing where it is its parent's.
    pub(crate) fn lease(&self) -> LoadLease {
        if !self.is_of_this_process() {
            return LoadLease::None;
        }
        self.lease.lock().clone()
    }

    /// Sets what it has of its store's lease. Returns what it had.
    pub(crate) fn set_lease(&self, lease: LoadLease) -> LoadLease {
        if !self.is_of_this_process() {
            return LoadLease::None;
        }
        std::mem::replace(&mut *self.lease.lock(), lease)
    }

    /// The lease that it holds.
    pub(crate) fn held_lease(&self) -> Option<Arc<dyn Lease>> {
        match self.lease() {
            LoadLease::Held(lease) => Some(lease),
            _ => None,
        }
    }

    /// The tags that it is known to have before it lands.
    pub(crate) fn tags(&self) -> &[PyBackedStr] {
        self.tags.get().map_or(&[], |tags| tags)
    }

    /// New callers do not join it.
    pub(crate) fn supersede(&self) {
        self.superseded.store(true, Ordering::Release);
    }

    pub(crate) fn is_of_this_process(&self) -> bool {
        self.generation == background::generation()
    }

    pub(crate) fn has_landed(&self) -> bool {
        self.has_landed.load(Ordering::Acquire) || !self.is_of_this_process()
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// The caller waits, of which nobody else knows yet.
    pub(crate) fn count_waiter(&self) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether something was written since it began.
    pub(crate) fn is_discarded(&self) -> bool {
        self.discarded.load(Ordering::Acquire)
    }

    /// Something was written since it began.
    pub(crate) fn discard(&self) {
        self.discarded.store(true, Ordering::Release);
    }

    /// From now on it has landed: `outcome` is there for those who wait, who are returned with what nobody
    /// needs any more.
    pub(crate) fn end(&self, outcome: Option<Outcome>) -> (State, Option<Outcome>) {
        let outcome = outcome.filter(|_| !self.is_unshared());
        let ended = {
            let mut state = self.state();
            let before = std::mem::take(&mut *state);
            let mut unused = outcome;
            if self.waiting() > 0 {
                state.outcome = unused.take();
            }
            self.has_landed.store(true, Ordering::Release);
            (before, unused)
        };
        self.landed.notify_all();
        ended
    }

    /// One waiter less; whether it was the last.
    pub(crate) fn count_waiter_out(&self) -> bool {
        self.waiting.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Does not give the result to callers that wait. They start again.
    pub(crate) fn do_not_share(&self) {
        self.unshared.store(true, Ordering::Release);
    }

    /// Whether its result is that of the caller alone who began it.
    pub(crate) fn is_unshared(&self) -> bool {
        self.unshared.load(Ordering::Acquire)
    }

    /// Whether it has landed or never will. Runs Python code.
    pub(crate) fn is_over(&self, py: Python<'_>) -> PyResult<bool> {
        if self.has_landed() {
            return Ok(true);
        }
        match &self.leader {
            Leader::Thread(leader) => Ok(leader.get().is_some_and(|leader| leader.1.strong_count() == 0)),
            Leader::Task { event_loop, .. } => match event_loop.bind(py).upgrade() {
                Some(event_loop) => event_loop.call_method0(intern!(py, "is_closed"))?.is_truthy(),
                None => Ok(true),
            },
        }
    }

    /// Sleeps, detached, until it lands or `most` has passed.
    pub(crate) fn sleep(&self, most: Duration) {
        if self.has_landed() {
            return;
        }
        let waited = self.landed.wait_timeout_while(self.state(), most, |_| !self.has_landed());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// What a waiter gets: nothing where it has to begin anew.
    pub(crate) fn result(&self, py: Python<'_>) -> Option<PyResult<Py<PyAny>>> {
        if !self.is_of_this_process() {
            return None;
        }
        let (error, cancelled) = match &self.state().outcome {
            None => return None,
            Some(Outcome::Value(value)) => return Some(Ok(value.clone_ref(py))),
            Some(Outcome::Error(error)) => (error.clone_ref(py), false),
            Some(Outcome::Cancelled(error)) => (error.clone_ref(py), true),
        };
        if cancelled {
            let message = format!("the computation of {} raised CancelledError", shown(self.key.bind(py)));
            let raised = LoadCancelled::new_err(message);
            raised.set_cause(py, Some(PyErr::from_value(error.into_bound(py))));
            return Some(Err(raised));
        }
        Some(Err(PyErr::from_value(exception_copy::for_a_waiter(error.bind(py)))))
    }

    /// Has a task woken when it lands; `false` where it has landed.
    pub(crate) fn add_sleeper(&self, sleeper: Sleeper) -> bool {
        if !self.is_of_this_process() {
            return false;
        }
        let mut state = self.state();
        // Landing sets it under this lock.
        if self.has_landed() {
            drop(state);
            return false;
        }
        state.sleepers.push(sleeper);
        true
    }

    pub(crate) fn remove_sleeper(&self, number: u64) {
        if self.has_landed() {
            return;
        }
        let removed = {
            let mut state = self.state();
            let at = state.sleepers.iter().position(|sleeper| sleeper.number == number);
            at.map(|at| state.sleepers.swap_remove(at))
        };
        drop(removed);
    }

    /// Notes that this load cannot land before another one has; the number to take it back with.
    pub(crate) fn needs(&self, load: &Arc<Self>, via: Option<Py<PyAny>>) -> u64 {
        let number = next_number();
        if !self.has_landed() {
            self.state().needs.push(Need { number, load: Arc::clone(load), via });
        }
        number
    }

    pub(crate) fn needs_no_more(&self, number: u64) {
        if self.has_landed() {
            return;
        }
        let removed = {
            let mut state = self.state();
            let at = state.needs.iter().position(|need| need.number == number);
            at.map(|at| state.needs.swap_remove(at))
        };
        drop(removed);
    }

    /// The loads that it needs, with the tasks that wait for them.
    pub(crate) fn all_needs(&self, py: Python<'_>) -> Vec<(Arc<Self>, Option<Py<PyAny>>)> {
        let state = self.state();
        let share = |need: &Need| (Arc::clone(&need.load), need.via.as_ref().map(|via| via.clone_ref(py)));
        state.needs.iter().map(share).collect()
    }

    /// The task that computes, while it is alive.
    pub(crate) fn task<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        if !self.is_of_this_process() {
            return None;
        }
        let weak = self.state().task.as_ref().map(|task| task.clone_ref(py))?;
        weak.bind(py).upgrade()
    }

    /// Visits the objects that the collector must know of; skipped while others use them.
    pub(crate) fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.key)?;
        visit.call(&self.key_in_memory)?;
        if !self.is_of_this_process() {
            return Ok(());
        }
        self.state.try_lock().map_or(Ok(()), |state| visit.call(&state.kept))
    }
}

/// A key in a message.
pub(crate) fn shown(key: &Bound<'_, PyAny>) -> String {
    key.repr().map_or_else(|_| "a key".into(), |text| text.to_string())
}
