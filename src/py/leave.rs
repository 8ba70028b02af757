//! How entries leave a cache: removed by a call, taken out, or all at once.
//!
//! What has left goes on to its `Farewell`. A policy written in Python hears of it first, and the
//! farewell is said when this thread's turn to talk to the policy is over.

use flexcache_core::Cause;
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;

use super::cache::FlexCache;
use super::custom_policy::Turn;
use super::departures::{Departures, Leaver};
use super::engine::Engine;
use super::expire::BATCH;
use super::key;
use super::running_python::attached;

/// The exception for a key that is absent.
pub(crate) fn missing(key: &Bound<'_, PyAny>) -> PyErr {
    PyKeyError::new_err((key.clone().unbind(),))
}

impl FlexCache {
    /// Lets go of what left the stores. The store is not locked.
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
        if self.gate.is_some() {
            return attached(py, |py| self.let_leave_after_turn(py, leaver));
        }
        self.farewell.let_leave(py, leaver);
        Ok(())
    }

    #[cold]
    fn let_leave_after_turn(&self, py: Python<'_>, leaver: Leaver) -> PyResult<()> {
        let turn = match self.turn(py) {
            Ok(Some(turn)) => turn,
            other => {
                self.farewell.let_leave(py, leaver);
                return other.map(drop);
            }
        };
        let told = if leaver.cause == Cause::Replaced {
            Ok(())
        } else {
            self.tell(py, Some(&turn), "on_remove", leaver.key.bind(py))
        };
        turn.leave_after(leaver);
        told
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
            self.take_from_fullest(py)?
        };
        taken.map(|leaver| self.hand_out(py, turn.as_ref(), leaver)).transpose()
    }

    fn take_from_fullest(&self, py: Python<'_>) -> PyResult<Option<Leaver>> {
        loop {
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
            // Others may have emptied it in between; then there may be entries elsewhere.
            if let Some(leaver) = taken.pop() {
                return Ok(Some(leaver));
            }
        }
    }

    /// An entry that goes to the caller, value and all.
    fn hand_out(&self, py: Python<'_>, turn: Option<&Turn<'_>>, leaver: Leaver) -> PyResult<Leaver> {
        let Some(turn) = turn else {
            self.farewell.announce(py, &leaver);
            return Ok(leaver);
        };
        match self.tell(py, Some(turn), "on_remove", leaver.key.bind(py)) {
            Ok(()) => {
                let (key, value) = (leaver.key.clone_ref(py), leaver.value.clone_ref(py));
                turn.leave_after(Leaver { key, value, cause: leaver.cause });
                Ok(leaver)
            }
            Err(error) => {
                // It cannot be handed out, so it is closed.
                turn.leave_after(Leaver { cause: Cause::Deleted, ..leaver });
                Err(error)
            }
        }
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

    /// Removes every live entry that has a tag; how many those were.
    pub(crate) fn remove_tagged(&self, py: Python<'_>, tag: &str) -> PyResult<usize> {
        let turn = self.turn(py)?;
        let mut departures = Departures::new();
        // All are out before any hook runs, which may store others under the tag.
        let all = self.take_tagged(py, tag, &mut departures);
        let count = departures.iter().filter(|leaver| leaver.cause == Cause::Deleted).count();
        let settled = self.settle(py, departures);
        drop(turn);
        all.and(settled).map(|()| count)
    }

    fn take_tagged(&self, py: Python<'_>, tag: &str, departures: &mut Departures) -> PyResult<()> {
        for shard in self.shards.iter() {
            // No more than there were, or threads that keep storing would keep this one here.
            let mut rest = shard.with(py, |engine| engine.count_tagged(tag))?;
            while rest > 0 {
                let most = rest.min(BATCH);
                let left = shard.with(py, |engine| engine.evict_tag(tag, most, departures))?;
                rest = if left < most { 0 } else { rest - left };
            }
        }
        Ok(())
    }

    /// Lets everything go.
    pub(crate) fn empty(&self, py: Python<'_>, cause: Cause) -> PyResult<()> {
        let turn = self.turn(py)?;
        let mut result = Ok(());
        for shard in self.shards.iter() {
            let contents = shard.with(py, Engine::drain)?.into_departed(cause);
            let Some(turn) = &turn else {
                self.farewell.let_all_leave(py, contents);
                continue;
            };
            for leaver in contents {
                result = result.and(self.tell(py, Some(turn), "on_remove", leaver.key.bind(py)));
                turn.leave_after(leaver);
            }
        }
        result
    }
}
