//! Calls to a cache whose eviction policy is written in Python.

use flexcache_core::Cause;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::core_errors::refused;
use super::policy_turn::Turn;
use super::state::FlexCache;
use super::terms::{IfPresent, Terms, WriteOutcome};
use crate::py::object::key;
use crate::py::process::logging;
use crate::py::removal::removed_entries::{RemovedEntries, RemovedEntry};
use crate::py::store::seam::StoredEntry;

/// The most victims that a call asks for to make room for one entry.
const MOST_VICTIMS: usize = 1 << 20;

const METHODS: [&str; 4] = ["on_insert", "on_access", "on_remove", "victim"];

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
    pub(super) fn read_by_custom_policy<const WHOLE: bool>(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        hash: u64,
    ) -> PyResult<Option<StoredEntry>> {
        let py = key.py();
        let turn = self.turn(py)?;
        let entry = self.read_store::<WHOLE>(key, hash)?;
        if entry.is_some() {
            self.tell_policy(py, turn.as_ref(), "on_access", &key)?;
        }
        Ok(entry)
    }

    #[cold]
    pub(super) fn write_by_custom_policy(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        value: Borrowed<'_, '_, PyAny>,
        hash: u64,
        terms: Terms<'_>,
    ) -> PyResult<WriteOutcome> {
        let (py, weight) = (key.py(), terms.weight);
        let turn = self.turn(py)?;
        let (mut present, mut accessed) = (false, false);
        for _ in 0..MOST_VICTIMS {
            let mut removed = RemovedEntries::new();
            let room = self.shards.find(&key, hash, |store, found| {
                let live = store.live(found, self.clock(), &mut removed);
                present = live.is_some();
                store.admit(live, weight).map(|()| {
                    let freed = live.map_or(0, |slot| store.weight_of(slot));
                    let limits = store.limits();
                    let items = store.len() as u64 + u64::from(!present);
                    limits.items.is_none_or(|most| items <= most.get())
                        && limits.weight.is_none_or(|most| store.weight() - freed <= most.get() - weight)
                })
            })?;
            self.finish_removals(py, removed)?;
            if present && terms.if_present != IfPresent::Replace {
                return Ok(WriteOutcome::AlreadyPresent);
            }
            let room = room.map_err(refused)?;
            if present && !accessed {
                // The policy is told before room is made, so that the written entry is not the first to be
                // evicted.
                self.tell_policy(py, turn.as_ref(), "on_access", &key)?;
                accessed = true;
            }
            if room {
                if !present {
                    self.tell_policy(py, turn.as_ref(), "on_insert", &key)?;
                }
                let stored = self.write_store(key, value, hash, terms);
                if !present && !matches!(stored, Ok(WriteOutcome::Inserted | WriteOutcome::Updated)) {
                    self.tell_policy_removed(py, turn.as_ref(), &key);
                }
                return stored;
            }
            if !self.remove_expired_batch(py)? {
                self.evict_custom_victim(py, turn.as_ref())?;
            }
        }
        Err(PyRuntimeError::new_err("the eviction policy made no room"))
    }

    /// Evicts the entry that a policy written in Python names.
    pub(super) fn evict_custom_victim(
        &self,
        py: Python<'_>,
        turn: Option<&Turn<'_>>,
    ) -> PyResult<Option<RemovedEntry>> {
        self.remove_custom_victim(py, turn, Cause::Evicted)
    }

    /// Removes the entry that a policy written in Python names. Returns it if it is popped.
    pub(super) fn remove_custom_victim(
        &self,
        py: Python<'_>,
        turn: Option<&Turn<'_>>,
        cause: Cause,
    ) -> PyResult<Option<RemovedEntry>> {
        let (Some(turn), Some(policy)) = (turn, self.own_policy(py)?) else { return Ok(None) };
        let policy = policy.bind(py);
        let victim = turn.call(policy, "victim", None)?;
        let mut removed = RemovedEntries::new();
        let named = victim.as_borrowed();
        let found = key::hash(&named, self.seed).and_then(|hash| {
            self.shards.find(&named, hash, |store, found| {
                found.map(|slot| store.remove(slot, cause, &mut removed)).is_some()
            })
        });
        match found {
            Ok(true) if cause == Cause::Popped => Ok(removed.pop()),
            Ok(true) => self.finish_removals(py, removed).map(|()| None),
            Ok(false) => {
                // The policy named an absent key. It is told that the key is gone, so that it can recover.
                self.tell_policy_removed(py, Some(turn), &victim);
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

    /// Tells the policy that a key is absent.
    fn tell_policy_removed(&self, py: Python<'_>, turn: Option<&Turn<'_>>, key: &Bound<'_, PyAny>) {
        if let Err(error) = self.tell_policy(py, turn, "on_remove", key) {
            logging::debug(py, &format_args!("{error}"));
        }
    }
}
