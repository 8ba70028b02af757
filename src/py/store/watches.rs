//! Loads that watch a store for writes to their keys. These are the leases of a store that only knows its own
//! calls, and can give any number of leases at the same time.

use std::fmt;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;

use super::lease::Lease;
use super::loads::{Leader, Load};
use super::shard_loads::ShardLoads;
use crate::py::process::guard::Guard;

/// The loads that watch one store.
pub(crate) struct Watches(Guard<ShardLoads>);

impl Default for Watches {
    fn default() -> Self {
        Self(Guard::new(ShardLoads::default(), true))
    }
}

impl fmt::Debug for Watches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watches").finish_non_exhaustive()
    }
}

impl Watches {
    /// Watches for writes to a key from now on.
    pub(crate) fn watch(self: &Arc<Self>, key: Borrowed<'_, '_, PyAny>, hash: u64) -> PyResult<Watch> {
        let load = Load::new(&key, &key, hash, Leader::this_thread(), false, 0);
        self.0.with(key.py(), |loads| loads.watch(&load))?;
        Ok(Watch { load, of: Arc::clone(self) })
    }

    /// Discards the watching loads of a key that is written.
    pub(crate) fn written(&self, key: Borrowed<'_, '_, PyAny>, hash: u64) -> PyResult<()> {
        drop(self.0.with(key.py(), |loads| loads.written(hash, &key))?);
        Ok(())
    }

    /// Discards all watching loads.
    pub(crate) fn cleared(&self, py: Python<'_>) -> PyResult<()> {
        drop(self.0.with(py, ShardLoads::cleared)?);
        Ok(())
    }

    /// Discards the watching loads with a tag.
    pub(crate) fn evicting(&self, py: Python<'_>, tag: &str) -> PyResult<()> {
        drop(self.0.with(py, |loads| loads.evicting(tag))?);
        Ok(())
    }
}

/// A load that watches.
#[derive(Debug)]
pub(crate) struct Watch {
    load: Arc<Load>,
    of: Arc<Watches>,
}

impl Watch {
    /// Whether, since it began, its key was not written and none of the tags was evicted.
    pub(crate) fn may_land(&self, py: Python<'_>, tags: &[PyBackedStr]) -> PyResult<bool> {
        Ok(self.of.0.with(py, |loads| loads.may_land(&self.load, tags))?)
    }
}

impl Lease for Watch {
    fn order(&self) -> u64 {
        self.load.hash()
    }

    fn is_valid(&self, _py: Python<'_>) -> PyResult<bool> {
        Ok(!self.load.is_discarded())
    }

    fn end(self: Arc<Self>, py: Python<'_>, _failure: Option<Vec<u8>>, _may_wait: bool) {
        let removed = self.of.0.with(py, |loads| loads.remove(&self.load));
        drop(removed);
    }
}
