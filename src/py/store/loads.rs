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

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{self, ThreadId};
use std::time::Duration;

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use super::exception_copy;
use crate::py::object::key::native_eq;
use crate::py::process::background;

create_exception!(
    flexcache_rs,
    CircularLoadError,
    PyRuntimeError,
    "A computation would have to wait for itself."
);

create_exception!(
    flexcache_rs,
    LoadCancelled,
    PyException,
    "A computation that others wait for was cancelled from inside: it raised CancelledError."
);

/// So many evicted tags are kept before those are dropped that no running load is older than.
const FEW_TAGS: usize = 64;

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

/// What a load ended with, for those who wait.
#[derive(Debug)]
pub(crate) enum Outcome {
    Value(Py<PyAny>),
    /// An `Exception`: each waiter gets a copy.
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
    hash: u64,
    /// When it was made, in the numbers of waits.
    pub(crate) number: u64,
    /// When it began, in the numbers of its shard.
    began: AtomicU64,
    /// The process it belongs to.
    generation: u64,
    pub(crate) leader: Leader,
    /// Whether it goes on when nobody waits for it.
    pub(crate) background: bool,
    /// The tags that it is known to have before it lands.
    tags: OnceLock<Arc<[PyBackedStr]>>,
    /// Something was written since: it must not be stored.
    discarded: AtomicBool,
    /// A newer load of the same key has begun, which new callers join.
    superseded: AtomicBool,
    /// Its result is for the caller that computed it alone.
    unshared: AtomicBool,
    has_landed: AtomicBool,
    /// How many wait. Goes up only under the lock of the shard.
    waiting: AtomicUsize,
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
            tags: OnceLock::new(),
            discarded: AtomicBool::new(false),
            superseded: AtomicBool::new(false),
            unshared: AtomicBool::new(false),
            has_landed: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            state: Mutex::default(),
            landed: Condvar::new(),
        })
    }

    /// What waiters share. Nobody holds it while waiting for anything, and no Python code runs
    /// under it; a fork's child never takes its parent's.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// One waiter less; whether it was the last.
    pub(crate) fn count_waiter_out(&self) -> bool {
        self.waiting.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Keeps the result from those who wait: they begin anew.
    pub(crate) fn do_not_share(&self) {
        self.unshared.store(true, Ordering::Release);
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
        match self.state.try_lock() {
            Ok(state) => visit.call(&state.kept),
            Err(_) => Ok(()),
        }
    }
}

/// A key in a message.
pub(crate) fn shown(key: &Bound<'_, PyAny>) -> String {
    key.repr().map_or_else(|_| "a key".into(), |text| text.to_string())
}

/// How a call looks for a load of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Joins the one there is.
    Join,
    /// Never joins one that began before.
    Refresh,
    /// Begins one only where there is none.
    OnlyIfNone,
}

pub(crate) enum Joined {
    /// The caller's own load is registered: it has to compute and to land.
    Leads,
    /// There is another one, for which the caller is counted as waiting unless it said
    /// [`How::OnlyIfNone`].
    Other(Arc<Load>),
}

/// The loads of one shard.
#[derive(Debug, Default)]
pub(crate) struct ShardLoads {
    running: Vec<Arc<Load>>,
    /// When tags were last evicted, for those evicted since the oldest running load began.
    evicted: HashMap<Arc<str>, u64>,
    /// How many tags to have before they are looked through.
    most_evicted: usize,
    /// Numbers beginnings and evictions.
    clock: u64,
    generation: u64,
}

impl ShardLoads {
    /// Whether a write has nothing to discard.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// A fork's child begins with no loads. Those of its parent are neither touched nor dropped.
    fn renew(&mut self) {
        let now = background::generation();
        if self.generation != now {
            std::mem::forget(std::mem::take(&mut self.running));
            self.evicted.clear();
            self.generation = now;
        }
    }

    /// Joins a load or registers `mine`; `None` where Python has to be asked whether the `unknown`
    /// are loads of the key.
    pub(crate) fn join(
        &mut self,
        mine: &Arc<Load>,
        how: How,
        eq: impl Fn(&Py<PyAny>) -> Option<bool>,
        mut unknown: impl FnMut(&Arc<Load>),
    ) -> Option<Joined> {
        self.renew();
        let mut asks = false;
        let joinable = |load: &Arc<Load>| {
            load.hash == mine.hash && !load.superseded.load(Ordering::Relaxed) && !load.has_landed()
        };
        let mut found = Vec::new();
        for load in self.running.iter().filter(|load| joinable(load)) {
            match eq(&load.key_in_memory) {
                Some(true) => found.push(load),
                Some(false) => {}
                None => {
                    asks = true;
                    unknown(load);
                }
            }
        }
        if asks {
            return None;
        }
        if how == How::Refresh {
            for load in found {
                load.superseded.store(true, Ordering::Relaxed);
            }
        } else if let Some(load) = found.first() {
            if how == How::Join {
                load.waiting.fetch_add(1, Ordering::AcqRel);
            }
            return Some(Joined::Other(Arc::clone(load)));
        }
        self.clock += 1;
        mine.began.store(self.clock, Ordering::Relaxed);
        self.running.push(Arc::clone(mine));
        Some(Joined::Leads)
    }

    /// Takes a load out.
    pub(crate) fn remove(&mut self, load: &Arc<Load>) -> Option<Arc<Load>> {
        let at = self.running.iter().position(|running| Arc::ptr_eq(running, load))?;
        let removed = self.running.swap_remove(at);
        if self.running.is_empty() {
            self.evicted.clear();
        }
        Some(removed)
    }

    /// Takes out and discards the loads that `matches`.
    pub(crate) fn discard_if(&mut self, matches: impl Fn(&Load) -> bool) -> Vec<Arc<Load>> {
        let (mut kept, mut discarded) = (Vec::new(), Vec::new());
        for load in self.running.drain(..) {
            if matches(&load) {
                load.discarded.store(true, Ordering::Release);
                discarded.push(load);
            } else {
                kept.push(load);
            }
        }
        self.running = kept;
        if self.running.is_empty() {
            self.evicted.clear();
        }
        discarded
    }

    /// A key was written: its loads are discarded, and given back to be dropped without the lock. A
    /// load whose key only Python could tell apart from it is taken for one of them.
    #[must_use]
    pub(crate) fn written(&mut self, hash: u64, key: &Borrowed<'_, '_, PyAny>) -> Vec<Arc<Load>> {
        if self.is_empty() {
            return Vec::new();
        }
        self.discard_if(|load| load.hash == hash && native_eq(&load.key_in_memory, key) != Some(false))
    }

    /// An entry was removed of which there is only the key.
    #[must_use]
    pub(crate) fn removed(&mut self, key: &Borrowed<'_, '_, PyAny>) -> Vec<Arc<Load>> {
        if self.is_empty() {
            return Vec::new();
        }
        self.discard_if(|load| native_eq(&load.key_in_memory, key) != Some(false))
    }

    /// A load was stored: older ones of its key no longer are.
    #[must_use]
    pub(crate) fn landed(&mut self, of: &Arc<Load>, key: &Borrowed<'_, '_, PyAny>) -> Vec<Arc<Load>> {
        let began = of.began.load(Ordering::Relaxed);
        self.discard_if(|load| {
            load.hash == of.hash
                && load.began.load(Ordering::Relaxed) < began
                && native_eq(&load.key_in_memory, key) != Some(false)
        })
    }

    /// Everything was removed: all loads are discarded.
    #[must_use]
    pub(crate) fn cleared(&mut self) -> Vec<Arc<Load>> {
        if self.is_empty() {
            return Vec::new();
        }
        self.discard_if(|_| true)
    }

    /// A load says what tags it has, so that one of them can discard it before it lands. It is given back where
    /// that has happened already.
    #[must_use]
    pub(crate) fn declare(&mut self, load: &Arc<Load>, tags: Arc<[PyBackedStr]>) -> Option<Arc<Load>> {
        let evicted = !self.may_land(load, &tags);
        let _ = load.tags.set(tags);
        if evicted {
            load.discard();
            return self.remove(load);
        }
        None
    }

    /// A tag is about to be evicted: running loads that are known to have it are discarded, and those that turn
    /// out to have it are not stored.
    #[must_use]
    pub(crate) fn evicting(&mut self, tag: &str) -> Vec<Arc<Load>> {
        if self.is_empty() {
            return Vec::new();
        }
        self.clock += 1;
        self.evicted.insert(Arc::from(tag), self.clock);
        if self.evicted.len() > self.most_evicted.max(FEW_TAGS) {
            let oldest = self.running.iter().map(|load| load.began.load(Ordering::Relaxed)).min();
            self.evicted.retain(|_, evicted| oldest.is_some_and(|oldest| *evicted > oldest));
            self.most_evicted = 2 * self.evicted.len();
        }
        self.discard_if(|load| load.tags.get().is_some_and(|tags| tags.iter().any(|known| **known == *tag)))
    }

    /// Whether a load may be stored with these tags.
    pub(crate) fn may_land(&self, load: &Load, tags: &[PyBackedStr]) -> bool {
        let began = load.began.load(Ordering::Relaxed);
        !load.discarded.load(Ordering::Acquire)
            && load.is_of_this_process()
            && (self.evicted.is_empty()
                || !tags.iter().any(|tag| self.evicted.get(&**tag).is_some_and(|evicted| *evicted > began)))
    }

    pub(crate) fn running(&self) -> &[Arc<Load>] {
        &self.running
    }
}
