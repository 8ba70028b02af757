//! `Tracker`: the core's tracker of pushes, for a store that is written in Python.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flexcache_core::{Clock, PushTracker, Stamp};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::py::process::clock::SystemClock;
use crate::py::process::fork::{self, Forkable};

/// Decides which copies of a server's entries are valid.
///
/// The thread that listens to the server calls it. Caches in memory ask it at every hit, without Python code.
#[pyclass(frozen, module = "flexcache_rs._core", name = "PushTracker")]
pub(crate) struct TrackerHandle(pub(crate) Arc<PushTracker>);

impl Forkable for PushTracker {
    fn before_fork(&self) -> bool {
        false
    }

    fn after_fork_in_parent(&self) {}

    fn after_fork_in_child(&self) {
        self.forget_writes();
    }
}

#[pymethods]
impl TrackerHandle {
    #[new]
    fn new(py: Python<'_>, copies: usize) -> Self {
        let tracker = Arc::new(PushTracker::new(copies));
        fork::register(py, &tracker);
        Self(tracker)
    }

    /// Return the time in nanoseconds, for `believe_until`.
    #[staticmethod]
    fn now() -> u64 {
        SystemClock.now()
    }

    /// Return the stamp for a read of a key that begins after this call.
    fn stamp(&self, key: &[u8]) -> u64 {
        self.0.stamp(key).bits()
    }

    /// Return the stamps for reads of keys that begin after this call.
    fn stamps(&self, keys: Vec<PyBackedBytes>) -> Vec<u64> {
        keys.iter().map(|key| self.0.stamp(key).bits()).collect()
    }

    /// Whether a copy with this stamp is valid.
    fn is_live(&self, stamp: u64) -> bool {
        self.0.is_live(Stamp::from_bits(stamp), &SystemClock)
    }

    /// Whether no write after the stamp is known.
    fn is_unchanged(&self, stamp: u64) -> bool {
        self.0.is_unchanged(Stamp::from_bits(stamp))
    }

    /// The same, and still true after the server has become silent, until it reports writes again.
    fn is_last_known(&self, stamp: u64) -> bool {
        self.0.is_last_known(Stamp::from_bits(stamp))
    }

    /// Whether any copy is valid.
    fn is_believed(&self) -> bool {
        self.0.is_believed(&SystemClock)
    }

    /// Record a write to these keys.
    fn invalidate(&self, keys: Vec<PyBackedBytes>) {
        for key in &keys {
            self.0.invalidate(key);
        }
    }

    /// Return a block for a write to these keys. Memory keeps nothing that is read of them during the block.
    fn write(&self, keys: Vec<PyBackedBytes>) -> WriteInFlight {
        let forgotten = self.0.forgotten();
        for key in &keys {
            self.0.begin_write(key);
        }
        WriteInFlight { tracker: Arc::clone(&self.0), keys, forgotten, has_ended: AtomicBool::new(false) }
    }

    /// Record a write to any number of keys.
    fn start_generation(&self) {
        self.0.start_generation();
    }

    /// Record that all writes before now are known, and that copies are valid until a moment.
    fn believe_until(&self, moment: u64) {
        self.0.believe_until(moment);
    }

    /// Record that later writes are not known. No copy from before is valid again.
    fn doubt(&self) {
        self.0.doubt();
    }
}

/// Keys that this process is writing. The write ends with the `with` block, or when this object is collected.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct WriteInFlight {
    tracker: Arc<PushTracker>,
    keys: Vec<PyBackedBytes>,
    /// What [`PushTracker::forgotten`] was: a forked child forgets the writes in flight, and yet drops this.
    forgotten: u32,
    has_ended: AtomicBool,
}

#[pymethods]
impl WriteInFlight {
    /// Record that the write has ended, or that its outcome is unknown.
    fn end(&self) {
        if !self.has_ended.swap(true, Ordering::Relaxed) {
            let is_forgotten = self.tracker.forgotten() != self.forgotten;
            for key in &self.keys {
                if is_forgotten { self.tracker.invalidate(key) } else { self.tracker.end_write(key) }
            }
        }
    }

    fn __enter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __exit__(&self, _type: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>, _traceback: &Bound<'_, PyAny>) {
        self.end();
    }
}

impl Drop for WriteInFlight {
    fn drop(&mut self) {
        self.end();
    }
}
