//! Loads: computations in progress, by key.
//!
//! A load is registered in its key's shard, under the shard's lock, and stays there until it lands.
//! A call that finds one waits for it instead of computing. Registering is the last step that can
//! fail, and a drop guard lands the load on every way out, so no signal, exception or dead thread
//! leaves a key behind.
//!
//! A write to a key discards the loads of that key: their callers get the value, but it is not stored.
//! Landing checks this under the same lock that stores the value. So a write comes either before, and
//! discards the load, or after, and replaces the value.

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

/// Where an entry that is stored comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin<'a> {
    /// A call that writes: it discards the loads of its key.
    Write,
    /// The store behind the cache, which has it already.
    Fill,
    /// A load: its result is stored only if the key was not written since it began.
    Landing(&'a Arc<Load>),
}

/// What computes the value.
#[derive(Debug)]
pub(crate) enum Leader {
    /// A thread: its id, set once it has begun, and a reference to an object that is dropped when it ends.
    Thread(OnceLock<(ThreadId, Weak<()>)>),
    /// A task of the event loop at this address, with a weak reference to the loop.
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

/// A waiting task, which is woken in its loop. The references are weak, so that a load does not keep an
/// abandoned loop alive.
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
    /// The task that waits, if it is not the task that computes: perhaps nobody awaits it.
    via: Option<Py<PyAny>>,
}

/// The state of a load's lease.
#[derive(Clone, Debug, Default)]
pub(crate) enum LoadLease {
    /// It has no lease: the store gives none, or was not asked.
    #[default]
    None,
    /// It waits for another load, until this time.
    Waits(Arc<dyn AwaitedLease>, Instant),
    Held(Arc<dyn Lease>),
    /// Another load has the lease, and this one does not wait for it: its result is only for its callers.
    Elsewhere,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// Kept only while a caller waits.
    pub(crate) outcome: Option<Outcome>,
    /// The task that computes, weakly.
    pub(crate) task: Option<Py<PyWeakrefReference>>,
    /// The same task, if nothing else would keep it alive.
    pub(crate) kept: Option<Py<PyAny>>,
    pub(crate) sleepers: Vec<Sleeper>,
    needs: Vec<Need>,
}

/// One computation in progress.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) key: Py<PyAny>,
    /// The key as memory has it, by which loads are compared.
    pub(crate) key_in_memory: Py<PyAny>,
    pub(super) hash: u64,
    /// Its number, in the order of waits.
    pub(crate) number: u64,
    /// When it began, on the clock of its shard.
    pub(super) began: AtomicU64,
    /// The process it belongs to.
    pub(super) generation: u64,
    pub(crate) leader: Leader,
    /// Whether it goes on if no caller waits for it.
    pub(crate) background: bool,
    /// The transaction of the store in which it computes, and within which it shares its result; 0 for none.
    pub(crate) transaction: u64,
    /// The tags that its result is known to have before it lands.
    pub(super) tags: OnceLock<Arc<[PyBackedStr]>>,
    /// Whether the key was written since it began, so that the result must not be stored.
    pub(super) discarded: AtomicBool,
    /// Whether new callers no longer join it, for example because a newer load has begun.
    pub(super) superseded: AtomicBool,
    /// Whether its result is only for the caller that computed it.
    unshared: AtomicBool,
    has_landed: AtomicBool,
    /// The number of waiters. Incremented only under the lock of the shard.
    waiting: AtomicUsize,
    lease: Mutex<LoadLease>,
    state: Mutex<State>,
    landed: Condvar,
}

/// The next number of a load, wait, sleeper or need, in the order in which they are made.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

pub(crate) fn next_number() -> u64 {
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

thread_local! {
    /// Dropped when the thread ends.
    static ALIVE: Arc<()> = Arc::new(());

    /// Odd, so that it differs from every address.
    static TRANSACTION: u64 = 2 * next_number() + 1;
}

/// The number that stands for any transaction of the calling thread.
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

    /// A thread that has not begun.
    pub(crate) fn a_thread() -> Self {
        Self::Thread(OnceLock::new())
    }

    /// Sets the calling thread as the one that computes.
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

    /// The state that waiters share. No thread waits or runs Python code while it holds this lock, and a
    /// forked child never takes its parent's.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The state of its lease; none in a forked child of its process.
    pub(crate) fn lease(&self) -> LoadLease {
        if !self.is_of_this_process() {
            return LoadLease::None;
        }
        self.lease.lock().clone()
    }

    /// Sets the state of its lease. Returns the previous one.
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

    /// The tags that its result is known to have before it lands.
    pub(crate) fn tags(&self) -> &[PyBackedStr] {
        self.tags.get().map_or(&[], |tags| tags)
    }

    /// From now on, new callers do not join it.
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

    /// Counts the caller as a waiter, of a load that is not registered yet.
    pub(crate) fn count_waiter(&self) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether the key was written since it began.
    pub(crate) fn is_discarded(&self) -> bool {
        self.discarded.load(Ordering::Acquire)
    }

    /// Records that the key was written since it began.
    pub(crate) fn discard(&self) {
        self.discarded.store(true, Ordering::Release);
    }

    /// Marks it as landed, with `outcome` for the waiters. Returns the previous state, which has the sleepers
    /// to wake, and an outcome that nobody needs, for the caller to drop.
    pub(crate) fn end(&self, outcome: Option<Outcome>) -> (State, Option<Outcome>) {
        let outcome = outcome.filter(|_| !self.unshared.load(Ordering::Acquire));
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

    /// Removes a waiter from the count. Returns whether it was the last.
    pub(crate) fn count_waiter_out(&self) -> bool {
        self.waiting.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Makes waiting callers start over instead of getting the result.
    pub(crate) fn do_not_share(&self) {
        self.unshared.store(true, Ordering::Release);
    }

    /// Whether it has landed, or never will. Runs Python code.
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

    /// The result for a waiter; `None` if it has to start over.
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

    /// Registers a task to be woken when the load lands. Returns false if it has landed.
    pub(crate) fn add_sleeper(&self, sleeper: Sleeper) -> bool {
        if !self.is_of_this_process() {
            return false;
        }
        let mut state = self.state();
        // Landing sets this flag under the same lock.
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

    /// Records that this load cannot land before another one. Returns the number with which to undo it.
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

    /// Visits the objects for the collector. Skips those that are in use.
    pub(crate) fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.key)?;
        visit.call(&self.key_in_memory)?;
        if !self.is_of_this_process() {
            return Ok(());
        }
        self.state.try_lock().map_or(Ok(()), |state| visit.call(&state.kept))
    }
}

/// The text of a key in a message.
pub(crate) fn shown(key: &Bound<'_, PyAny>) -> String {
    key.repr().map_or_else(|_| "a key".into(), |text| text.to_string())
}
