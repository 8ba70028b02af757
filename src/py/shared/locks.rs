//! The native calls of `_shared_locks`: locks, which are leases of keys of their own, and limiters.

use std::sync::MutexGuard;
use std::time::Duration;

use flexcache_shared::{Error, Key, Lease, Patience, SharedCache, Token};
use pyo3::prelude::*;

use super::errors;
use super::key::{self, own_kind};
use super::segment::{Opened, SharedSegment, run};
use super::waiting::wait_at;
use crate::py::object::duration::interval;
use crate::py::process::mutex::Mutex;

/// States whether a lock is held. It is changed before the call that acquires the lock returns, so no signal can
/// come in between.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct SharedHold(Mutex<Option<Held>>);

/// A lock that is held.
#[derive(Clone)]
struct Held {
    /// The process that holds it: a forked child does not hold its parent's lock.
    process: u32,
    token: Token,
}

impl SharedHold {
    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.0.lock()
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

    /// Whether the lock is held, as far as this object knows.
    fn is_held(&self) -> bool {
        self.token().is_some()
    }
}

/// Calls the cache. `None` if it would have to wait for another process, and may not.
pub(super) fn run_if_free<R: Send>(
    py: Python<'_>,
    opened: &Opened,
    may_wait: bool,
    call: impl Fn(&SharedCache, Patience) -> Result<R, Error> + Send + Sync,
) -> PyResult<Option<R>> {
    if may_wait {
        return run(py, opened, call).map(Some);
    }
    match call(&opened.cache, Patience::Try) {
        Err(Error::Busy) => Ok(None),
        result => result.map(Some).map_err(|error| errors::raised_in(py, error, &opened.serializer.path)),
    }
}

/// Calls that an event loop makes have `may_wait` false: they return None where they would have to wait for another process
/// that writes, and have changed nothing.
#[pymethods]
impl SharedSegment {
    /// Acquires the lock of a key, for so many seconds at most, or waits for it to be free, for `wait` seconds. Whether `hold` has it now.
    #[pyo3(signature = (hold, key, seconds, wait, may_wait=true))]
    fn _take_lock(
        &self,
        py: Python<'_>,
        hold: &SharedHold,
        key: &Bound<'_, PyAny>,
        seconds: &Bound<'_, PyAny>,
        wait: &Bound<'_, PyAny>,
        may_wait: bool,
    ) -> PyResult<Option<bool>> {
        let opened = self.opened()?;
        let (kind, bytes) = key::encode(key)?.of_own_kind(own_kind::LOCK);
        let key = Key { kind, bytes: &bytes };
        let time = Duration::from_nanos(interval("ttl", seconds)?);
        let limit = Duration::from_nanos(interval("timeout", wait)?);
        let lease =
            run_if_free(py, opened, may_wait, |cache, patience| cache.lease(key, time, true, patience))?;
        match lease {
            None => Ok(None),
            Some(Lease::Got(token)) => {
                *hold.held() = Some(Held { process: std::process::id(), token });
                Ok(Some(true))
            }
            Some(Lease::Taken { wait, .. }) if may_wait => wait_at(py, &opened.serializer.path, || {
                opened.cache.wait_for_end(key, &wait, limit);
                Ok(Some(false))
            }),
            Some(Lease::Value | Lease::Taken { .. }) => Ok(Some(false)),
        }
    }

    /// Gives a lock back. Whether it was still held.
    #[pyo3(signature = (hold, key, may_wait=true))]
    fn _release_lock(
        &self,
        py: Python<'_>,
        hold: &SharedHold,
        key: &Bound<'_, PyAny>,
        may_wait: bool,
    ) -> PyResult<Option<bool>> {
        let (kind, bytes) = key::encode(key)?.of_own_kind(own_kind::LOCK);
        let key = Key { kind, bytes: &bytes };
        let Some(token) = hold.token() else { return Ok(Some(false)) };
        let was_held = run_if_free(py, self.opened()?, may_wait, |cache, patience| {
            cache.release(key, &token, patience)
        })?;
        if was_held.is_some() {
            // Only after it is released: if that fails, it can be tried again.
            hold.held().take_if(|held| held.token == token);
        }
        Ok(was_held)
    }

    /// Has a lock hold for so many seconds from now. Whether it was still held.
    #[pyo3(signature = (hold, key, seconds, may_wait=true))]
    fn _renew_lock(
        &self,
        py: Python<'_>,
        hold: &SharedHold,
        key: &Bound<'_, PyAny>,
        seconds: &Bound<'_, PyAny>,
        may_wait: bool,
    ) -> PyResult<Option<bool>> {
        let (kind, bytes) = key::encode(key)?.of_own_kind(own_kind::LOCK);
        let key = Key { kind, bytes: &bytes };
        let Some(token) = hold.token() else { return Ok(Some(false)) };
        let time = Duration::from_nanos(interval("ttl", seconds)?);
        run_if_free(py, self.opened()?, may_wait, |cache, patience| cache.renew(key, &token, time, patience))
    }

    /// Takes one of `limit` uses in `period` seconds. Returns 0, or the seconds after which there is one.
    #[pyo3(signature = (key, limit, period, may_wait=true))]
    fn _take_use(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        limit: u32,
        period: &Bound<'_, PyAny>,
        may_wait: bool,
    ) -> PyResult<Option<f64>> {
        let (kind, bytes) = key::encode(key)?.of_own_kind(own_kind::LIMITER);
        let key = Key { kind, bytes: &bytes };
        let period = Duration::from_nanos(interval("per", period)?);
        let wait = run_if_free(py, self.opened()?, may_wait, |cache, patience| {
            cache.limit(key, limit, period, patience)
        })?;
        Ok(wait.map(|wait| wait.as_secs_f64()))
    }

    /// Waits until no other process writes where the locks and limiters of a key are.
    fn _wait_for_writers(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<()> {
        let opened = self.opened()?;
        // The stripe depends only on the bytes.
        let (kind, bytes) = key::encode(key)?.of_own_kind(own_kind::LOCK);
        wait_at(py, &opened.serializer.path, || opened.cache.wait_for_writers(Key { kind, bytes: &bytes }))
    }
}
