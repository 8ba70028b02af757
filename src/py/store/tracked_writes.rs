//! The tracker of a store whose writes this process makes one by one.

use std::ops::Deref;
use std::sync::Arc;

use flexcache_core::tracker::{Stamp, Tracker};
use pyo3::Python;

use super::rule_switch::is_off;
use crate::py::process::fork::{self, Forkable};

/// A tracker that forgets in a forked child which writes of its parent were in flight.
#[derive(Debug, Default)]
pub(crate) struct TrackedWrites(Tracker);

impl TrackedWrites {
    pub(crate) fn new(py: Python<'_>) -> Arc<Self> {
        let made = Arc::new(Self::default());
        fork::register(py, &made);
        made
    }

    /// Runs a write of a key of the stripe. Returns its result, and the stamp of the value that it left.
    pub(crate) fn run<R>(&self, stripe: usize, write: impl FnOnce() -> R) -> (R, Stamp) {
        if is_off("epoch_before_commit") {
            return (write(), self.write(stripe).end());
        }
        if is_off("epoch_after_commit") {
            let stamp = self.write(stripe).end();
            return (write(), stamp);
        }
        if is_off("no_stamp_in_flight") {
            drop(self.write(stripe));
            return (write(), self.write(stripe).end());
        }
        let writing = self.write(stripe);
        (write(), writing.end())
    }
}

impl Deref for TrackedWrites {
    type Target = Tracker;

    fn deref(&self) -> &Tracker {
        &self.0
    }
}

impl Forkable for TrackedWrites {
    fn before_fork(&self) -> bool {
        false
    }

    fn after_fork_in_parent(&self) {}

    fn after_fork_in_child(&self) {
        self.0.forget_writes();
    }
}
