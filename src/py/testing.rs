//! The base of `flexcache_rs.testing`.

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

/// A panic in the background thread, in builds that can show what comes of it.
#[cfg(feature = "negative-controls")]
#[pyfunction]
#[expect(clippy::panic, reason = "that is what it is for")]
pub(crate) fn _panic_in_background(py: Python<'_>) {
    drop(background::run(py, Box::new(|_| panic!("a panic on purpose"))));
}
