//! An eviction policy written in Python.
//!
//! The policy must hear of everything in the order in which it happened, so calls that change a
//! cache with such a policy take turns at a gate of its own. The gate is no lock of the core: it
//! is waited for detached, a thread that is inside may pass it again, and the store is not locked
//! while the policy runs. A policy that calls back into its cache gets a `RuntimeError`.

use std::thread::{self, ThreadId};

use flexcache_core::{Cause, Nanos};
use parking_lot::{Condvar, Mutex};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;

use super::background;
use super::cache::FlexCache;
use super::departures::{Departures, Leaver};
use super::errors::refused;
use super::key;
use super::running_python::call;
use super::write::IfPresent;

/// Victims that are asked for, at most, to make room for one entry.
const MOST_VICTIMS: usize = 1 << 20;

const METHODS: [&str; 4] = ["on_insert", "on_access", "on_remove", "victim"];

/// Who may talk to the policy.
#[derive(Default)]
pub(crate) struct Gate {
    turn: Mutex<Turn>,
    over: Condvar,
}

#[derive(Default)]
struct Turn {
    owner: Option<(ThreadId, u64)>,
    depth: usize,
    in_policy: bool,
}

/// The right to talk to the policy, until dropped.
pub(crate) struct Entered<'a>(&'a Gate);

/// The thread, and the process: an owner that a fork left behind is nobody.
fn me() -> (ThreadId, u64) {
    (thread::current().id(), background::generation())
}

impl Gate {
    /// Waits for this thread's turn.
    ///
    /// # Errors
    ///
    /// `RuntimeError` where the policy itself asks.
    pub(crate) fn enter(&self, py: Python<'_>) -> PyResult<Entered<'_>> {
        let me = me();
        {
            let mut turn = self.turn.lock();
            match turn.owner {
                Some(owner) if owner == me => {
                    if turn.in_policy {
                        return Err(PyRuntimeError::new_err(
                            "the eviction policy called back into its own cache",
                        ));
                    }
                    turn.depth += 1;
                    return Ok(Entered(self));
                }
                Some((_, generation)) if generation == me.1 => {}
                _ => {
                    *turn = Turn { owner: Some(me), depth: 1, in_policy: false };
                    return Ok(Entered(self));
                }
            }
        }
        py.detach(|| {
            let mut turn = self.turn.lock();
            while turn.owner.is_some() {
                self.over.wait(&mut turn);
            }
            *turn = Turn { owner: Some(me), depth: 1, in_policy: false };
        });
        Ok(Entered(self))
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut turn = self.0.turn.lock();
        turn.depth -= 1;
        if turn.depth == 0 {
            turn.owner = None;
            self.0.over.notify_one();
        }
    }
}

impl Entered<'_> {
    /// Calls a method of the policy.
    ///
    /// # Errors
    ///
    /// `RuntimeError`, caused by what the policy raised.
    pub(crate) fn call<'py>(
        &self,
        policy: &Bound<'py, PyAny>,
        method: &str,
        key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let outer = std::mem::replace(&mut self.0.turn.lock().in_policy, true);
        let result = policy.getattr(method).and_then(|method| match key {
            Some(key) => call(&method, [key]),
            None => call(&method, []),
        });
        self.0.turn.lock().in_policy = outer;
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
        weight: u64,
        deadline: Option<Nanos>,
        if_present: IfPresent,
    ) -> PyResult<bool> {
        let py = key.py();
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
            if present && if_present != IfPresent::Replace {
                return Ok(false);
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
                return self.write_store(key, value, hash, weight, deadline, if_present);
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
        turn: Option<&Entered<'_>>,
    ) -> PyResult<Option<Leaver>> {
        self.take_custom_victim(py, turn, Cause::Evicted)
    }

    pub(super) fn take_custom_victim(
        &self,
        py: Python<'_>,
        turn: Option<&Entered<'_>>,
        cause: Cause,
    ) -> PyResult<Option<Leaver>> {
        let (Some(turn), Some(policy)) = (turn, self.callbacks(py)?.policy) else { return Ok(None) };
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
            Ok(false) => Err(PyRuntimeError::new_err(format!(
                "victim() of eviction policy {} named {}, which is not in the cache",
                policy.get_type().name()?,
                victim.repr().map_or_else(|_| "a key".into(), |text| text.to_string()),
            ))),
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
    pub(super) fn turn(&self, py: Python<'_>) -> PyResult<Option<Entered<'_>>> {
        self.gate.as_ref().map(|gate| gate.enter(py)).transpose()
    }

    pub(super) fn tell(
        &self,
        py: Python<'_>,
        turn: Option<&Entered<'_>>,
        event: &str,
        key: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        match (turn, self.callbacks(py)?.policy) {
            (Some(turn), Some(policy)) => turn.call(policy.bind(py), event, Some(key)).map(drop),
            _ => Ok(()),
        }
    }
}
