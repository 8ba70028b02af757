//! What `flexcache_rs.testing` stands on.

use pyo3::exceptions::PyAssertionError;
use pyo3::prelude::*;

use super::memory::state::FlexCache;
use super::object::duration;
use super::process::{background, clock};

#[pyfunction]
pub(crate) fn _advance_clock(seconds: &Bound<'_, PyAny>) -> PyResult<()> {
    clock::advance(duration::interval("seconds", seconds)?);
    background::clock_moved();
    Ok(())
}

#[pyfunction]
pub(crate) fn _check(cache: &Bound<'_, FlexCache>) -> PyResult<()> {
    for shard in cache.get().shards.iter() {
        shard.with(cache.py(), |store| store.check())?.map_err(PyAssertionError::new_err)?;
    }
    cache.get().check_absent(cache.py())?.map_err(PyAssertionError::new_err)
}

/// Whether this build can switch rules of the seam off.
#[pyfunction]
pub(crate) fn _has_negative_controls() -> bool {
    cfg!(feature = "negative-controls")
}
