//! Finishes removals, after entries have been removed from the stores of a cache and the stores are unlocked.
//!
//! Removed entries are passed to the cache's `RemovalNotifier`. A policy written in Python is told first, and
//! the removals are finished when this thread's turn at the policy is over.

use flexcache_core::Cause;
use pyo3::prelude::*;

use super::policy_turn::Turn;
use super::state::FlexCache;
use crate::py::object::hooks;
use crate::py::object::running_python::{attached, decref};
use crate::py::removal::removed_entries::{RemovedEntries, RemovedEntry};

impl FlexCache {
    /// Finishes the removal of entries. No store may be locked.
    ///
    /// # Errors
    ///
    /// What a policy written in Python raises when it is told, after everything is done. Exceptions of hooks
    /// are logged.
    #[inline]
    pub(crate) fn finish_removals(&self, py: Python<'_>, removed: RemovedEntries) -> PyResult<()> {
        let mut result = Ok(());
        for entry in removed {
            result = result.and(self.finish_removal(py, entry));
        }
        result
    }

    /// Finishes the removal of one entry.
    #[inline]
    pub(super) fn finish_removal(&self, py: Python<'_>, entry: RemovedEntry) -> PyResult<()> {
        if self.gate.is_some() {
            return attached(py, |py| self.finish_removal_after_turn(py, entry));
        }
        self.notifier.finish(py, entry);
        Ok(())
    }

    #[cold]
    fn finish_removal_after_turn(&self, py: Python<'_>, entry: RemovedEntry) -> PyResult<()> {
        let turn = match self.turn(py) {
            Ok(Some(turn)) => turn,
            other => {
                self.notifier.finish(py, entry);
                return other.map(drop);
            }
        };
        let told = if entry.cause == Cause::Replaced {
            Ok(())
        } else {
            self.tell_policy(py, Some(&turn), "on_remove", entry.key.bind(py))
        };
        turn.finish_after(entry);
        told
    }

    /// Like [`finish_removals`](Self::finish_removals), but a value that replaced itself was not removed.
    pub(super) fn finish_removals_by_write(
        &self,
        py: Python<'_>,
        removed: RemovedEntries,
        value: Borrowed<'_, '_, PyAny>,
    ) -> PyResult<()> {
        let mut result = Ok(());
        for entry in removed {
            if entry.cause == Cause::Replaced && entry.value.is(&*value) {
                decref(py, entry.key);
                decref(py, entry.value);
            } else {
                result = result.and(self.finish_removal(py, entry));
            }
        }
        result
    }

    /// Finishes the removal of an entry that the caller gets: its value is not closed.
    pub(super) fn finish_pop(
        &self,
        py: Python<'_>,
        turn: Option<&Turn<'_>>,
        entry: RemovedEntry,
    ) -> PyResult<RemovedEntry> {
        let Some(turn) = turn else {
            self.notifier.notify(py, &entry);
            return Ok(entry);
        };
        match self.tell_policy(py, Some(turn), "on_remove", entry.key.bind(py)) {
            Ok(()) => {
                let (key, value) = (entry.key.clone_ref(py), entry.value.clone_ref(py));
                turn.finish_after(RemovedEntry { key, value, cause: entry.cause });
                Ok(entry)
            }
            Err(error) => {
                // The value cannot be returned, so it is closed.
                turn.finish_after(RemovedEntry { cause: Cause::Deleted, ..entry });
                Err(error)
            }
        }
    }

    /// Finishes the removal of a value when nothing but its own hooks has to be called.
    #[inline(always)]
    pub(super) fn finish_value(&self, py: Python<'_>, value: Py<PyAny>) {
        if hooks::may_act_on_removal(&value.bind_borrowed(py)) {
            self.close_value(py, &value);
        }
        decref(py, value);
    }

    #[cold]
    #[inline(never)]
    fn close_value(&self, py: Python<'_>, value: &Py<PyAny>) {
        if self.notifier.runs_hooks {
            attached(py, |py| self.notifier.close_value(py, value));
        }
    }
}
