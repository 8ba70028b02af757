//! The kinds of objects that `store=` accepts, and the [`Store`] for each.

use std::sync::Arc;

use pyo3::prelude::*;

use super::memory_store::MemoryStore;
use super::state::FlexCache;
use crate::py::disk::directory_store::DirectoryStore;
#[cfg(has_shared_cache)]
use crate::py::shared::shared_store::SharedStore;
use crate::py::store::object::ObjectStore;
use crate::py::store::seam::{Coherence, Store};
use crate::py::store::tracked::TrackedStore;

/// The store for the argument `store`.
///
/// # Errors
///
/// `TypeError` for an object that is not a store, or does not support `coherence`; `ValueError` for a chain
/// of caches that is too long.
pub(super) fn open(given: &Bound<'_, PyAny>, coherence: Coherence) -> PyResult<Arc<dyn Store>> {
    if let Ok(cache) = given.cast::<FlexCache>() {
        return Ok(Arc::new(MemoryStore::new(cache, coherence)?));
    }
    if let Some(store) = DirectoryStore::of(given, coherence)? {
        return Ok(Arc::new(store));
    }
    #[cfg(has_shared_cache)]
    if let Some(store) = SharedStore::of(given)? {
        return Ok(Arc::new(store));
    }
    if let Some(store) = TrackedStore::of(given)? {
        return Ok(Arc::new(store));
    }
    Ok(ObjectStore::shared(given, coherence)?)
}
