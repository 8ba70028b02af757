//! How entries leave: `on_evict`, hooks, and references dropped after the lock.
//!
//! Every entry that left a store comes through here, exactly once.

use std::sync::atomic::Ordering;

use flexcache_core::Cause;
use pyo3::exceptions::PyKeyError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::cache::FlexCache;
use super::custom_policy::Entered;
use super::departures::{Departures, Leaver};
use super::engine::Engine;
use super::running_python::{attached, call, call_method, release};
use super::{aclose, hooks, key, logging};

/// The exception for a key that is absent.
pub(crate) fn missing(key: &Bound<'_, PyAny>) -> PyErr {
    PyKeyError::new_err((key.clone().unbind(),))
}

impl FlexCache {
    /// Lets go of what left the stores: tells `on_evict`, runs the hooks, drops the references.
    /// The store is not locked.
    ///
    /// # Errors
    ///
    /// What a policy written in Python raises on hearing of it, when all is done. What hooks
    /// raise is logged.
    #[inline]
    pub(crate) fn settle(&self, py: Python<'_>, departures: Departures) -> PyResult<()> {
        let mut result = Ok(());
        for leaver in departures {
            result = result.and(self.let_leave(py, leaver));
        }
        result
    }

    #[inline]
    pub(super) fn let_leave(&self, py: Python<'_>, leaver: Leaver) -> PyResult<()> {
        let quiet = !self.listens
            && self.gate.is_none()
            && hooks::of(&leaver.value.bind_borrowed(py)).is_ok_and(|hooks| !hooks.on_leaving());
        if quiet {
            release(py, leaver.key);
            release(py, leaver.value);
            return Ok(());
        }
        attached(py, |py| self.let_leave_noticed(py, leaver))
    }

    #[cold]
    pub(super) fn let_leave_noticed(&self, py: Python<'_>, leaver: Leaver) -> PyResult<()> {
        let told = if self.gate.is_some() && leaver.cause != Cause::Replaced {
            self.turn(py).and_then(|turn| self.tell(py, turn.as_ref(), "on_remove", leaver.key.bind(py)))
        } else {
            Ok(())
        };
        self.announce(py, &leaver);
        self.close_value(py, &leaver.value);
        told
    }

    /// Tells `on_evict`.
    pub(super) fn announce(&self, py: Python<'_>, leaver: &Leaver) {
        if !self.listens {
            return;
        }
        let Ok(Some(on_evict)) = self.callbacks(py).map(|callbacks| callbacks.on_evict) else { return };
        let reason = match leaver.cause {
            Cause::Evicted => "evicted",
            Cause::Expired => "expired",
            Cause::Deleted => "deleted",
            Cause::Popped => "popped",
            Cause::Replaced => "replaced",
            Cause::Cleared => "cleared",
            Cause::Closed => "closed",
        };
        let (on_evict, reason) = (on_evict.bind(py), PyString::intern(py, reason));
        if let Err(error) = call(on_evict, [leaver.key.bind(py), leaver.value.bind(py), reason.as_any()]) {
            self.hook_failed(py, "on_evict()", &error);
        }
    }

    /// Runs the hook of a value that left.
    #[cold]
    pub(super) fn close_value(&self, py: Python<'_>, value: &Py<PyAny>) {
        let closed = hooks::of(&value.bind_borrowed(py)).and_then(|hooks| {
            if hooks.close() {
                call_method(value.bind(py), intern!(py, "close")).map(drop)
            } else if hooks.aclose() {
                aclose::start(py, value, &self.closing)
            } else {
                Ok(())
            }
        });
        if let Err(error) = closed {
            self.hook_failed(py, "close()", &error);
        }
    }

    pub(super) fn hook_failed(&self, py: Python<'_>, hook: &str, error: &PyErr) {
        self.hook_errors.fetch_add(1, Ordering::Relaxed);
        let raised = logging::describe(py, error);
        logging::error(py, &format_args!("{hook} raised as an entry left:\n{raised}"));
    }

    /// Removes a live entry; what it was. A value that is handed out is announced, not closed.
    pub(super) fn take(&self, key: Borrowed<'_, '_, PyAny>, cause: Cause) -> PyResult<Option<Leaver>> {
        let py = key.py();
        let turn = self.turn(py)?;
        let hash = key::hash(&key, self.seed)?;
        let (mut expired, mut taken) = (Departures::new(), Departures::new());
        self.shards.find(&key, hash, |engine, found| {
            if let Some(slot) = engine.live(found, &mut expired) {
                engine.remove(slot, cause, &mut taken);
            }
        })?;
        self.settle(py, expired)?;
        match taken.pop() {
            Some(leaver) if cause == Cause::Popped => self.hand_out(py, turn.as_ref(), leaver).map(Some),
            taken => Ok(taken),
        }
    }

    /// Removes the next victim and hands it out; `None` where the cache is empty.
    pub(super) fn take_victim(&self, py: Python<'_>) -> PyResult<Option<Leaver>> {
        self.remove_expired(py)?;
        let turn = self.turn(py)?;
        let taken = if turn.is_some() {
            if self.sum(py, Engine::len)? == 0 {
                return Ok(None);
            }
            self.take_custom_victim(py, turn.as_ref(), Cause::Popped)?
        } else {
            let mut fullest = (0, None);
            for shard in self.shards.iter() {
                let len = shard.with(py, |engine| engine.len())?;
                if len > fullest.0 {
                    fullest = (len, Some(shard));
                }
            }
            let Some(shard) = fullest.1 else { return Ok(None) };
            let mut taken = Departures::new();
            shard.with(py, |engine| {
                if let Some(victim) = engine.victim() {
                    engine.remove(victim, Cause::Popped, &mut taken);
                }
            })?;
            taken.pop()
        };
        taken.map(|leaver| self.hand_out(py, turn.as_ref(), leaver)).transpose()
    }

    /// An entry that goes to the caller, value and all.
    pub(super) fn hand_out(
        &self,
        py: Python<'_>,
        turn: Option<&Entered<'_>>,
        leaver: Leaver,
    ) -> PyResult<Leaver> {
        self.tell(py, turn, "on_remove", leaver.key.bind(py))?;
        self.announce(py, &leaver);
        Ok(leaver)
    }

    pub(super) fn remove(&self, key: Borrowed<'_, '_, PyAny>) -> PyResult<bool> {
        let py = key.py();
        let turn = self.turn(py)?;
        let removed = self.take(key, Cause::Deleted)?;
        let found = removed.is_some();
        if let Some(leaver) = removed {
            self.let_leave(py, leaver)?;
        }
        drop(turn);
        Ok(found)
    }

    pub(crate) fn remove_or_raise(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.remove(key.as_borrowed())? { Ok(()) } else { Err(missing(key)) }
    }

    /// Lets everything go.
    pub(crate) fn empty(&self, py: Python<'_>, cause: Cause) -> PyResult<()> {
        let _turn = self.turn(py)?;
        let mut result = Ok(());
        for shard in self.shards.iter() {
            let contents = shard.with(py, Engine::drain)?;
            contents.into_departed(cause).for_each(|leaver| {
                let told = self.let_leave(py, leaver);
                if result.is_ok() {
                    result = told;
                }
            });
        }
        result
    }
}
