//! An eviction policy written in Python.
//!
//! The policy must hear of everything in the order in which it happened, so calls that change a
//! cache with such a policy take turns at a gate of its own. The gate is no lock of the core: it
//! is waited for detached, a thread that is inside may pass it again, and the store is not locked
//! while the policy runs. A policy that calls back into its cache gets a `RuntimeError`.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use flexcache_core::Cause;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::aclose::BETWEEN_SIGNALS;
use super::cache::FlexCache;
use super::departures::{Departures, Leaver};
use super::errors::refused;
use super::farewell::Farewell;
use super::key;
use super::logging;
use super::per_process::PerProcess;
use super::running_python::call;
use super::write::{IfPresent, Stored, Terms};

/// Victims that are asked for, at most, to make room for one entry.
const MOST_VICTIMS: usize = 1 << 20;

const METHODS: [&str; 4] = ["on_insert", "on_access", "on_remove", "victim"];

/// Where threads wait for their turn to talk to the policy.
#[derive(Default)]
pub(crate) struct Gate(PerProcess<Queue>);

#[derive(Default)]
struct Queue {
    present: Mutex<Present>,
    over: Condvar,
}

/// Whose turn it is.
#[derive(Default)]
struct Present {
    owner: Option<ThreadId>,
    depth: usize,
    in_policy: bool,
    /// What left meanwhile, to be let go after the turn.
    left: Vec<Leaver>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to talk to the policy, until dropped. A thread that has it may take it again.
pub(crate) struct Turn<'py> {
    py: Python<'py>,
    queue: Arc<Queue>,
    farewell: Arc<Farewell>,
}

impl Gate {
    /// Waits for this thread's turn.
    ///
    /// # Errors
    ///
    /// `RuntimeError` where the policy itself asks, and what a signal's handler raises meanwhile.
    fn enter<'py>(&self, py: Python<'py>, farewell: &Arc<Farewell>) -> PyResult<Turn<'py>> {
        let queue = self.0.get(py);
        let turn = |queue| Turn { py, queue, farewell: Arc::clone(farewell) };
        if queue.take()? {
            return Ok(turn(queue));
        }
        while !py.detach(|| queue.wait()) {
            py.check_signals()?;
        }
        Ok(turn(queue))
    }

    /// This thread's turn, unless another has it.
    fn try_enter<'py>(&self, py: Python<'py>, farewell: &Arc<Farewell>) -> PyResult<Option<Turn<'py>>> {
        let queue = self.0.get(py);
        let taken = queue.take()?;
        Ok(taken.then(|| Turn { py, queue, farewell: Arc::clone(farewell) }))
    }
}

impl Queue {
    /// Takes the turn if it is free or this thread's already; whether that was so.
    fn take(&self) -> PyResult<bool> {
        let me = thread::current().id();
        let mut present = self.lock();
        if present.owner.is_some_and(|owner| owner != me) {
            return Ok(false);
        }
        if present.in_policy {
            return Err(PyRuntimeError::new_err("the eviction policy called back into its own cache"));
        }
        present.owner = Some(me);
        present.depth += 1;
        Ok(true)
    }

    /// Waits a little; whether it is this thread's turn now.
    fn wait(&self) -> bool {
        let taken = |present: &mut Present| present.owner.is_some();
        let waited = self.over.wait_timeout_while(self.lock(), BETWEEN_SIGNALS, taken);
        let (mut present, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let free = present.owner.is_none();
        if free {
            (present.owner, present.depth) = (Some(thread::current().id()), 1);
        }
        free
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let left = {
            let mut present = self.queue.lock();
            present.depth -= 1;
            if present.depth > 0 {
                return;
            }
            present.owner = None;
            self.queue.over.notify_one();
            std::mem::take(&mut present.left)
        };
        if !left.is_empty() {
            self.farewell.let_all_leave(self.py, left.into_iter());
        }
    }
}

impl Turn<'_> {
    /// Lets an entry go when the turn is over.
    pub(super) fn leave_after(&self, leaver: Leaver) {
        self.queue.lock().left.push(leaver);
    }

    /// Calls a method of the policy.
    ///
    /// # Errors
    ///
    /// `RuntimeError`, caused by what the policy raised.
    fn call<'py>(
        &self,
        policy: &Bound<'py, PyAny>,
        method: &str,
        key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let outer = std::mem::replace(&mut self.queue.lock().in_policy, true);
        let result = policy.getattr(method).and_then(|method| match key {
            Some(key) => call(&method, [key]),
            None => call(&method, []),
        });
        self.queue.lock().in_policy = outer;
        result.map_err(|cause| {
            let py = policy.py();
            let of = policy.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
            let error =
                PyRuntimeError::new_err(format!("{method}() of eviction policy {of} raised: {cause}"));
            error.set_cause(py, Some(cause));
            error
        })
    }
}

/// Checks that an object can be a policy.
pub(crate) fn check(policy: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Ok(class) = policy.cast::<PyType>() {
        return Err(PyTypeError::new_err(format!(
            "eviction_policy must be a policy's name or an object, not the class {}",
            class.name()?
        )));
    }
    for method in METHODS {
        if !policy.getattr_opt(method)?.is_some_and(|method| method.is_callable()) {
            return Err(PyTypeError::new_err(format!(
                "eviction_policy must be a policy's name or have the methods {}, but {} has no {method}",
                METHODS.join(", "),
                policy.get_type().name()?
            )));
        }
    }
    Ok(())
}

impl FlexCache {
    #[cold]
    pub(super) fn read_by_custom_policy(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        hash: u64,
    ) -> PyResult<Option<Py<PyAny>>> {
        let py = key.py();
        let turn = self.turn(py)?;
        let value = self.read_store(key, hash)?;
        if value.is_some() {
            self.tell(py, turn.as_ref(), "on_access", &key)?;
        }
        Ok(value)
    }

    #[cold]
    pub(super) fn write_by_custom_policy(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        value: Borrowed<'_, '_, PyAny>,
        hash: u64,
        terms: Terms<'_>,
    ) -> PyResult<Stored> {
        let (py, weight) = (key.py(), terms.weight);
        let turn = self.turn(py)?;
        let (mut present, mut accessed) = (false, false);
        for _ in 0..MOST_VICTIMS {
            let mut departures = Departures::new();
            let room = self.shards.find(&key, hash, |engine, found| {
                let live = engine.live(found, &mut departures);
                present = live.is_some();
                engine.admit(live, weight).map(|()| {
                    let freed = live.map_or(0, |slot| engine.weight_of(slot));
                    let limits = engine.limits();
                    let items = engine.len() as u64 + u64::from(!present);
                    limits.items.is_none_or(|most| items <= most.get())
                        && limits.weight.is_none_or(|most| engine.weight() - freed <= most.get() - weight)
                })
            })?;
            self.settle(py, departures)?;
            if present && terms.if_present != IfPresent::Replace {
                return Ok(Stored::Not);
            }
            let room = room.map_err(refused)?;
            if present && !accessed {
                // Before room is made, so that what is written to is not the first to leave.
                self.tell(py, turn.as_ref(), "on_access", &key)?;
                accessed = true;
            }
            if room {
                if !present {
                    self.tell(py, turn.as_ref(), "on_insert", &key)?;
                }
                let stored = self.write_store(key, value, hash, terms);
                if stored.is_err() && !present {
                    self.take_back(py, turn.as_ref(), &key);
                }
                return stored;
            }
            if !self.remove_expired_batch(py)? {
                self.evict_custom_victim(py, turn.as_ref())?;
            }
        }
        Err(PyRuntimeError::new_err("the eviction policy made no room"))
    }

    /// Removes the entry that a policy written in Python names.
    pub(super) fn evict_custom_victim(
        &self,
        py: Python<'_>,
        turn: Option<&Turn<'_>>,
    ) -> PyResult<Option<Leaver>> {
        self.take_custom_victim(py, turn, Cause::Evicted)
    }

    pub(super) fn take_custom_victim(
        &self,
        py: Python<'_>,
        turn: Option<&Turn<'_>>,
        cause: Cause,
    ) -> PyResult<Option<Leaver>> {
        let (Some(turn), Some(policy)) = (turn, self.own_policy(py)?) else { return Ok(None) };
        let policy = policy.bind(py);
        let victim = turn.call(policy, "victim", None)?;
        let mut departures = Departures::new();
        let named = victim.as_borrowed();
        let removed = key::hash(&named, self.seed).and_then(|hash| {
            self.shards.find(&named, hash, |engine, found| {
                found.map(|slot| engine.remove(slot, cause, &mut departures)).is_some()
            })
        });
        match removed {
            Ok(true) if cause == Cause::Popped => Ok(departures.pop()),
            Ok(true) => self.settle(py, departures).map(|()| None),
            Ok(false) => {
                // A policy that is out of step may get back into it.
                self.take_back(py, Some(turn), &victim);
                Err(PyRuntimeError::new_err(format!(
                    "victim() of eviction policy {} named {}, which is not in the cache",
                    policy.get_type().name()?,
                    victim.repr().map_or_else(|_| "a key".into(), |text| text.to_string()),
                )))
            }
            Err(cause) => {
                let error = PyRuntimeError::new_err(format!(
                    "victim() of eviction policy {} named something that cannot be looked up",
                    policy.get_type().name()?
                ));
                error.set_cause(py, Some(cause));
                Err(error)
            }
        }
    }

    /// This thread's turn to talk to a policy written in Python; `None` for built-in policies.
    pub(super) fn turn<'py>(&self, py: Python<'py>) -> PyResult<Option<Turn<'py>>> {
        self.gate.as_ref().map(|gate| gate.enter(py, &self.farewell)).transpose()
    }

    /// Tells the policy that a key is not there after all.
    fn take_back(&self, py: Python<'_>, turn: Option<&Turn<'_>>, key: &Bound<'_, PyAny>) {
        if let Err(error) = self.tell(py, turn, "on_remove", key) {
            logging::debug(py, &format_args!("{error}"));
        }
    }

    /// Removes what has expired, unless another thread has its turn with a policy written in Python,
    /// which the background thread must not wait for: `None` then.
    pub(super) fn try_remove_expired(&self, py: Python<'_>) -> PyResult<Option<usize>> {
        let turn = match &self.gate {
            Some(gate) => match gate.try_enter(py, &self.farewell)? {
                None => return Ok(None),
                turn => turn,
            },
            None => None,
        };
        let removed = self.remove_expired(py)?;
        drop(turn);
        Ok(Some(removed))
    }

    pub(super) fn tell(
        &self,
        py: Python<'_>,
        turn: Option<&Turn<'_>>,
        event: &str,
        key: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        match (turn, self.own_policy(py)?) {
            (Some(turn), Some(policy)) => turn.call(policy.bind(py), event, Some(key)).map(drop),
            _ => Ok(()),
        }
    }
}
