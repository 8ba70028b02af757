//! Stores and forks: SQLite's connections must not be carried into another process.

use std::sync::{Arc, LazyLock, OnceLock, Weak};

use flexcache_disk::DiskStore;
use pyo3::prelude::*;

use crate::py::process::guard::Guard;

/// A store that is made when it is first needed, in each process anew.
pub(super) type Lazy = OnceLock<DiskStore>;

/// Every store of this process.
static STORES: LazyLock<Guard<Vec<Weak<Lazy>>>> = LazyLock::new(|| Guard::new(Vec::new(), true));

/// Remembers a store for the time of a fork.
pub(super) fn register(py: Python<'_>, store: &Arc<Lazy>) {
    let store = Arc::downgrade(store);
    let registered = STORES.with(py, |stores| {
        stores.retain(|other| other.strong_count() > 0);
        stores.push(store);
    });
    debug_assert!(registered.is_ok(), "nothing above comes back here");
}

fn living(py: Python<'_>) -> Vec<Arc<Lazy>> {
    STORES.with(py, |stores| stores.iter().filter_map(Weak::upgrade).collect()).unwrap_or_default()
}

#[pyfunction]
pub(crate) fn disk_before_fork(py: Python<'_>) {
    let stores = living(py);
    py.detach(|| stores.iter().filter_map(|store| store.get()).for_each(DiskStore::before_fork));
}

#[pyfunction]
pub(crate) fn disk_after_fork_in_parent(py: Python<'_>) {
    living(py).iter().filter_map(|store| store.get()).for_each(DiskStore::after_fork_in_parent);
}

#[pyfunction]
pub(crate) fn disk_after_fork_in_child(py: Python<'_>) {
    for store in living(py) {
        if let Some(store) = store.get() {
            store.after_fork_in_child();
        }
        // Its locks may be held by threads that are not here.
        std::mem::forget(store);
    }
}
