//! The time that entries have to live.

use flexcache_core::Nanos;
use pyo3::prelude::*;

use super::core_errors::out_of_memory;
use super::entries::missing;
use super::state::FlexCache;
use crate::py::object::duration::{self, Ttl};

impl FlexCache {
    /// When an entry with this `ttl` argument expires.
    #[inline]
    pub(crate) fn deadline(&self, ttl: Option<Borrowed<'_, '_, PyAny>>) -> PyResult<Option<Nanos>> {
        match ttl {
            Some(ttl) if !ttl.is_none() => duration::ttl("ttl", ttl).map(Ttl::deadline),
            _ => Ok(self.options.default_ttl.and_then(Ttl::deadline)),
        }
    }

    /// Gives an entry another time to live, from now on; whether it is there.
    pub(super) fn set_ttl(
        this: &Bound<'_, Self>,
        key: Borrowed<'_, '_, PyAny>,
        ttl: Borrowed<'_, '_, PyAny>,
    ) -> PyResult<bool> {
        let deadline = if ttl.is_none() { None } else { duration::ttl("ttl", ttl)?.deadline() };
        Self::set_deadline(this, key, deadline)
    }

    /// Gives an entry another moment to expire at; whether it is there.
    pub(super) fn set_deadline(
        this: &Bound<'_, Self>,
        key: Borrowed<'_, '_, PyAny>,
        deadline: Option<Nanos>,
    ) -> PyResult<bool> {
        let cache = this.get();
        let found = match &cache.tier {
            Some(tier) => cache.touch_through(tier, key, deadline)?,
            None => {
                let set = cache.find_live(key, |store, slot| store.set_deadline(slot, deadline))?;
                set.transpose().map_err(out_of_memory)?.is_some()
            }
        };
        if let (Some(deadline), true) = (deadline, found) {
            cache.expect_expiry(this, deadline)?;
        }
        Ok(found)
    }

    /// The seconds that an entry has left to live; `None` is for ever.
    pub(super) fn seconds_left(&self, key: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
        if let Some(tier) = &self.tier {
            return self.ttl_through(tier, key.as_borrowed());
        }
        let deadline = self.find_live(key.as_borrowed(), |store, slot| store.deadline(slot))?;
        Ok(deadline.ok_or_else(|| missing(key))?.map(duration::seconds_until))
    }

    /// The seconds that an entry lives where nothing else is said; `None` for ever.
    pub(super) fn default_seconds(&self) -> Option<f64> {
        self.options.default_ttl.and_then(Ttl::deadline).map(duration::seconds_until)
    }
}
