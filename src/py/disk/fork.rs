//! Directories and forks: SQLite's connections must not be carried into another process.

use std::sync::OnceLock;

use flexcache_disk::DiskStore;

use crate::py::process::fork::Forkable;

/// A store that each process makes when it first needs it.
pub(super) type Lazy = OnceLock<DiskStore>;

impl Forkable for Lazy {
    fn before_fork(&self) -> bool {
        self.get().map(DiskStore::before_fork).is_some()
    }

    fn after_fork_in_parent(&self) {
        if let Some(store) = self.get() {
            store.after_fork_in_parent();
        }
    }

    fn after_fork_in_child(&self) {
        if let Some(store) = self.get() {
            store.after_fork_in_child();
        }
    }
}
