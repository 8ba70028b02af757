//! An eviction policy written in Python.
//!
//! The policy must hear of everything in the order in which it happened, so calls that change a
//! cache with such a policy take turns at a gate of its own. The gate is no lock of the core: it
//! is waited for detached, a thread that is inside may pass it again, and the store is not locked
//! while the policy runs. A policy that calls back into its cache gets a RuntimeError.

use std::thread::{self, ThreadId};

use parking_lot::{Condvar, Mutex};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;

use super::background;

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
        let result = match key {
            Some(key) => policy.call_method1(method, (key,)),
            None => policy.call_method0(method),
        };
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
