//! Prepares stores for forks: files and connections must not be carried into another process.
//!
//! Python calls the three functions below on the thread that forks. Several threads may fork at once: each remembers which
//! stores it has told, and the last one lets a store go on.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use pyo3::prelude::*;

use super::mutex::Mutex;

/// A store that must be told of forks.
pub(crate) trait Forkable: Send + Sync {
    /// Closes what is open, and lets no call begin before the end of the fork. Returns false if there is nothing that could be
    /// open: then it is not told of the end.
    fn before_fork(&self) -> bool;

    /// In the parent, calls go on.
    fn after_fork_in_parent(&self);

    /// In the child, closes what belongs to the parent.
    fn after_fork_in_child(&self);
}

/// Every store of this process. Only attached threads take the lock, so none holds it during a fork.
static STORES: Mutex<Vec<Weak<dyn Forkable>>> = Mutex::new(Vec::new());

thread_local! {
    /// The stores that were told of the fork that this thread is making, and of enclosing forks.
    static TOLD: RefCell<Vec<Vec<Arc<dyn Forkable>>>> = const { RefCell::new(Vec::new()) };
}

/// Makes sure that a store is told of forks for as long as it lives.
pub(crate) fn register<S: Forkable + 'static>(_py: Python<'_>, store: &Arc<S>) {
    let store: Weak<S> = Arc::downgrade(store);
    let mut stores = STORES.lock();
    stores.retain(|other| other.strong_count() > 0);
    stores.push(store);
}

fn living() -> Vec<Arc<dyn Forkable>> {
    STORES.lock().iter().filter_map(Weak::upgrade).collect()
}

fn told() -> Vec<Arc<dyn Forkable>> {
    TOLD.with_borrow_mut(Vec::pop).unwrap_or_default()
}

#[pyfunction]
pub(crate) fn stores_before_fork(py: Python<'_>) {
    let stores = living();
    let told = py.detach(|| stores.into_iter().filter(|store| store.before_fork()).collect());
    TOLD.with_borrow_mut(|forks| forks.push(told));
}

#[pyfunction]
pub(crate) fn stores_after_fork_in_parent() {
    for store in told() {
        store.after_fork_in_parent();
    }
}

#[pyfunction]
pub(crate) fn stores_after_fork_in_child() {
    // Their locks may be held by threads that do not exist here.
    std::mem::forget(told());
    for store in living() {
        store.after_fork_in_child();
        std::mem::forget(store);
    }
}
