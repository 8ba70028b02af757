//! The time to live of entries, and the clock.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use flexcache_core::Nanos;
use pyo3::prelude::*;

use super::clock::GivenClock;
use super::core_errors::out_of_memory;
use super::entries::missing;
use super::state::FlexCache;
use crate::py::object::duration::{self, Ttl};
use crate::py::object::running_python::attached;
use crate::py::process::clock::CacheClock;

impl FlexCache {
    /// When an entry with this `ttl` argument expires.
    #[inline]
    pub(crate) fn deadline(&self, ttl: Option<Borrowed<'_, '_, PyAny>>) -> PyResult<Option<Nanos>> {
        let ttl = match ttl {
            Some(ttl) if !ttl.is_none() => Some(duration::ttl("ttl", ttl)?),
            _ => self.options.default_ttl,
        };
        if let CacheClock::Given(_) = self.clock() {
            Python::attach(|py| self.read_clock(py))?;
        }
        Ok(self.moment(ttl))
    }

    /// The deadline of an entry that is stored now with this time to live.
    #[inline]
    pub(super) fn moment(&self, ttl: Option<Ttl>) -> Option<Nanos> {
        ttl.and_then(|ttl| ttl.deadline_by(self.clock()))
    }

    /// Gives an entry another time to live, from now on. Returns whether it is present.
    pub(super) fn set_ttl(
        this: &Bound<'_, Self>,
        key: Borrowed<'_, '_, PyAny>,
        ttl: Borrowed<'_, '_, PyAny>,
    ) -> PyResult<bool> {
        let ttl = if ttl.is_none() { None } else { Some(duration::ttl("ttl", ttl)?) };
        this.get().read_clock(this.py())?;
        let deadline = this.get().moment(ttl);
        Self::set_deadline(this, key, deadline)
    }

    /// Gives an entry another deadline. Returns whether it is present.
    pub(super) fn set_deadline(
        this: &Bound<'_, Self>,
        key: Borrowed<'_, '_, PyAny>,
        deadline: Option<Nanos>,
    ) -> PyResult<bool> {
        let cache = this.get();
        let found = match &cache.tier {
            Some(tier) => cache.touch_through(tier, key, deadline)?,
            None => {
                let set =
                    cache.find_live(key, |store, slot| store.set_deadline(slot, deadline, cache.clock()))?;
                set.transpose().map_err(out_of_memory)?.is_some()
            }
        };
        if let (Some(deadline), true) = (deadline, found) {
            cache.expect_expiry(this, deadline)?;
        }
        Ok(found)
    }

    /// The seconds that an entry has left to live; `None` means for ever.
    pub(super) fn seconds_left(&self, key: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
        if let Some(tier) = &self.tier {
            return self.ttl_through(tier, key.as_borrowed());
        }
        let deadline = self.find_live(key.as_borrowed(), |store, slot| store.deadline(slot))?;
        Ok(deadline
            .ok_or_else(|| missing(key))?
            .map(|deadline| duration::seconds_until_by(deadline, self.clock())))
    }

    /// The default time to live in seconds; `None` means for ever.
    pub(super) fn default_seconds(&self) -> Option<f64> {
        self.moment(self.options.default_ttl)
            .map(|deadline| duration::seconds_until_by(deadline, self.clock()))
    }

    /// Updates the clock from the user's function, if the cache has one. Runs Python code.
    #[inline]
    pub(super) fn read_clock(&self, py: Python<'_>) -> PyResult<()> {
        if self.clock().is_given() { self.ask_clock(py) } else { Ok(()) }
    }

    #[cold]
    fn ask_clock(&self, py: Python<'_>) -> PyResult<()> {
        // Not after the end of the cache: the collector may have cleared the function's module.
        if self.finalized.load(Ordering::Relaxed) {
            return Ok(());
        }
        attached(py, |py| self.own_clock(py)?.map_or(Ok(()), |clock| clock.read(py)))
    }

    /// The clock that the cache was given.
    pub(super) fn own_clock(&self, py: Python<'_>) -> PyResult<Option<GivenClock>> {
        let CacheClock::Given(time) = self.clock() else { return Ok(None) };
        let Some(functions) = &self.functions else { return Ok(None) };
        let function =
            functions.clock_function.with(py, |function| function.as_ref().map(|one| one.clone_ref(py)))?;
        Ok(function.map(|function| GivenClock { function, time: Arc::clone(time) }))
    }
}
