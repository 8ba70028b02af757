//! The native calls of `_shared_locks`: locks, which are leases of keys of their own, and limiters.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flexcache_shared::{Key, Lease, Token};
use pyo3::prelude::*;

use super::key::{self, own_kind};
use super::segment::{SharedSegment, run};
use super::waiting::wait_for;
use crate::py::object::duration::interval;

/// Holds a lock or not. It knows so before the call that acquired the lock returns, so that no signal comes in between.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct SharedHold(Mutex<Option<Held>>);

/// A lock that is held.
#[derive(Clone)]
struct Held {
    /// By which process: a forked child does not hold its parent's.
    process: u32,
    token: Token,
}

impl SharedHold {
    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn token(&self) -> Option<Token> {
        let held = self.held();
        held.as_ref().filter(|held| held.process == std::process::id()).map(|held| held.token.clone())
    }
}

#[pymethods]
impl SharedHold {
    #[new]
    fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Whether it holds the lock, as far as it knows.
    fn is_held(&self) -> bool {
        self.token().is_some()
    }
}

#[pymethods]
impl SharedSegment {
    /// Acquires the lock of a key, for so many seconds at most, or waits for it to be free, for `wait` seconds. Whether `hold` has it now.
    fn _take_lock(
        &self,
        py: Python<'_>,
        hold: &SharedHold,
        key: &Bound<'_, PyAny>,
        seconds: &Bound<'_, PyAny>,
        wait: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let opened = self.opened()?;
        let (kind, bytes) = key::encode(key)?.of_own_kind(own_kind::LOCK);
        let key = Key { kind, bytes: &bytes };
        let time = Duration::from_nanos(interval("ttl", seconds)?);
        let limit = Duration::from_nanos(interval("timeout", wait)?);
        match run(py, opened, |cache, patience| cache.lease(key, time, true, patience))? {
            Lease::Got(token) => {
                *hold.held() = Some(Held { process: std::process::id(), token });
                Ok(true)
            }
            Lease::Value => Ok(false),
            Lease::Taken { wait, .. } => wait_for(py, || {
                opened.cache.wait_for_end(key, &wait, limit);
                Ok(false)
            }),
        }
    }

    /// Gives a lock back. Whether it was still held.
    fn _release_lock(&self, py: Python<'_>, hold: &SharedHold, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (kind, bytes) = key::encode(key)?.of_own_kind(own_kind::LOCK);
        let key = Key { kind, bytes: &bytes };
        let Some(token) = hold.token() else { return Ok(false) };
        let was_held = run(py, self.opened()?, |cache, patience| cache.release(key, &token, patience))?;
        // Not before it is given back: where that fails, it can be tried again.
        hold.held().take_if(|held| held.token == token);
        Ok(was_held)
    }

    /// Has a lock hold for so many seconds from now. Whether it was still held.
    fn _renew_lock(
        &self,
        py: Python<'_>,
        hold: &SharedHold,
        key: &Bound<'_, PyAny>,
        seconds: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let (kind, bytes) = key::encode(key)?.of_own_kind(own_kind::LOCK);
        let key = Key { kind, bytes: &bytes };
        let Some(token) = hold.token() else { return Ok(false) };
        let time = Duration::from_nanos(interval("ttl", seconds)?);
        run(py, self.opened()?, |cache, patience| cache.renew(key, &token, time, patience))
    }

    /// Takes one of `limit` uses in `period` seconds. Returns 0, or the seconds after which there is one.
    fn _take_use(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        limit: u32,
        period: &Bound<'_, PyAny>,
    ) -> PyResult<f64> {
        let (kind, bytes) = key::encode(key)?.of_own_kind(own_kind::LIMITER);
        let key = Key { kind, bytes: &bytes };
        let period = Duration::from_nanos(interval("per", period)?);
        let wait = run(py, self.opened()?, |cache, patience| cache.limit(key, limit, period, patience))?;
        Ok(wait.as_secs_f64())
    }
}
