//! `Tracker`: the core's tracker of pushes, for a store that is written in Python.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flexcache_core::{Clock, PushTracker, Stamp};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::py::process::clock::SystemClock;
use crate::py::process::fork::{self, Forkable};

/// Which copies of a server's entries may still be served.
///
/// A thread that listens to the server calls it. Caches in memory ask it at every hit, without Python.
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

    /// The time in nanoseconds, as `believe_until` takes it.
    #[staticmethod]
    fn now() -> u64 {
        SystemClock.now()
    }

    /// The stamp of what is read of a key after this.
    fn stamp(&self, key: &[u8]) -> u64 {
        self.0.stamp(key).bits()
    }

    /// The stamps of what is read of keys after this.
    fn stamps(&self, keys: Vec<PyBackedBytes>) -> Vec<u64> {
        keys.iter().map(|key| self.0.stamp(key).bits()).collect()
    }

    /// Whether a copy with this stamp may be served.
    fn is_live(&self, stamp: u64) -> bool {
        self.0.is_live(Stamp::from_bits(stamp), &SystemClock)
    }

    /// Whether nothing was written since the stamp was taken, as far as is known.
    fn is_unchanged(&self, stamp: u64) -> bool {
        self.0.is_unchanged(Stamp::from_bits(stamp))
    }

    /// The same, also after the server has fallen silent, until it tells again what is written.
    fn is_last_known(&self, stamp: u64) -> bool {
        self.0.is_last_known(Stamp::from_bits(stamp))
    }

    /// Whether copies may be served at all.
    fn is_believed(&self) -> bool {
        self.0.is_believed(&SystemClock)
    }

    /// Something was written to these keys.
    fn invalidate(&self, keys: Vec<PyBackedBytes>) {
        for key in &keys {
            self.0.invalidate(key);
        }
    }

    /// Around a write of these keys: what is read of them meanwhile is not kept.
    fn write(&self, keys: Vec<PyBackedBytes>) -> WriteInFlight {
        let forgotten = self.0.forgotten();
        for key in &keys {
            self.0.begin_write(key);
        }
        WriteInFlight { tracker: Arc::clone(&self.0), keys, forgotten, has_ended: AtomicBool::new(false) }
    }

    /// Something was written to any number of keys.
    fn start_generation(&self) {
        self.0.start_generation();
    }

    /// Everything written before now is known, and copies may be served until a moment.
    fn believe_until(&self, moment: u64) {
        self.0.believe_until(moment);
    }

    /// What is written from now on is not known. No copy of before is served again.
    fn doubt(&self) {
        self.0.doubt();
    }
}

/// Keys that this process is writing, until the end of a `with` statement, or until nobody has this any more.
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
    /// The write has ended, or what comes of it is unknown.
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
