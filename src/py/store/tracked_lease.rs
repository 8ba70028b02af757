//! Leases of keys of a tracked store, which is written in Python.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use flexcache_core::{Clock, Nanos, PushTracker, Stamp};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use super::lease::{AwaitedLease, Lease, order_of_bytes};
use super::lease_failure;
use super::loads::Load;
use super::return_threads;
use crate::py::process::clock::SystemClock;

/// The first and the longest pause between two checks of the tracker by a waiting thread.
const PAUSES: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(5));

/// The least time between two questions of a waiting caller to the server while nothing is pushed.
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(20);

fn order(object: &Bound<'_, PyAny>) -> PyResult<u64> {
    let key: PyBackedBytes = object.getattr(intern!(object.py(), "key"))?.extract()?;
    Ok(order_of_bytes(&key))
}

/// The computation that has a lease, for a store that renews the lease. It keeps no object alive.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct LeaseHolder {
    load: Weak<Load>,
    has_failed: AtomicBool,
}

impl LeaseHolder {
    pub(super) fn new(load: &Arc<Load>) -> Self {
        Self { load: Arc::downgrade(load), has_failed: AtomicBool::new(false) }
    }
}

#[pymethods]
impl LeaseHolder {
    /// Whether the computation has ended or was abandoned.
    fn is_over(&self, py: Python<'_>) -> PyResult<bool> {
        if self.has_failed.load(Ordering::Acquire) {
            return Ok(true);
        }
        self.load.upgrade().map_or(Ok(true), |load| load.is_over(py))
    }
}

/// The lease of a key.
pub(super) struct TrackedLease {
    object: Py<PyAny>,
    holder: Py<LeaseHolder>,
    order: u64,
    tracker: Arc<PushTracker>,
    /// The stamps of the key from before the lease was granted.
    stamps: Vec<Stamp>,
    /// Whether a write has ended it, so that it need not be released.
    pub(super) has_ended: AtomicBool,
}

impl std::fmt::Debug for TrackedLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrackedLease").field("order", &self.order).finish_non_exhaustive()
    }
}

impl TrackedLease {
    pub(super) fn new(
        object: &Bound<'_, PyAny>,
        holder: Py<LeaseHolder>,
        tracker: Arc<PushTracker>,
        stamps: Vec<Stamp>,
    ) -> PyResult<Self> {
        let (order, object) = (order(object)?, object.clone().unbind());
        Ok(Self { object, holder, order, tracker, stamps, has_ended: AtomicBool::new(false) })
    }

    pub(super) fn bind<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.object.bind(py)
    }
}

impl Lease for TrackedLease {
    fn order(&self) -> u64 {
        self.order
    }

    fn is_valid(&self, py: Python<'_>) -> PyResult<bool> {
        if self.stamps.iter().all(|stamp| self.tracker.is_live(*stamp, &SystemClock)) {
            return Ok(true);
        }
        self.bind(py).call_method0(intern!(py, "is_valid"))?.is_truthy()
    }

    fn encode_failure(&self, error: &Bound<'_, PyAny>) -> Option<Vec<u8>> {
        let py = error.py();
        let tells = self.bind(py).call_method1(intern!(py, "tells"), (error,));
        if !tells.and_then(|tells| tells.is_truthy()).unwrap_or(false) {
            return None;
        }
        let dumps = intern!(py, "dumps_failure");
        lease_failure::encode(error, |error| {
            let pickled = self.bind(py).call_method1(dumps, (error,))?;
            Ok(pickled.cast_into::<PyBytes>().ok())
        })
        .ok()
    }

    fn fails(&self) {
        self.holder.get().has_failed.store(true, Ordering::Release);
    }

    fn end(self: Arc<Self>, _py: Python<'_>, failure: Option<Vec<u8>>, _may_wait: bool) {
        if self.has_ended.swap(true, Ordering::AcqRel) {
            return;
        }
        // A new thread, where no signal handler can interrupt the client in the middle of its command.
        // Without a thread or an interpreter, the lease expires.
        return_threads::spawn(move |py| {
            let failure = failure.as_deref().map(|failure| PyBytes::new(py, failure));
            let _ = self.bind(py).call_method1(intern!(py, "release"), (failure,));
        });
    }
}

/// The lease of a key that another computation has.
pub(super) struct AwaitedTrackedLease {
    object: Py<PyAny>,
    order: u64,
    tracker: Arc<PushTracker>,
    /// The stamps of the keys that change when it ends.
    stamps: Vec<Stamp>,
    asked: Nanos,
    expires: Nanos,
}

impl std::fmt::Debug for AwaitedTrackedLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AwaitedTrackedLease").field("order", &self.order).finish_non_exhaustive()
    }
}

impl AwaitedTrackedLease {
    pub(super) fn new(
        object: &Bound<'_, PyAny>,
        tracker: Arc<PushTracker>,
        stamps: Vec<Stamp>,
        expires: Nanos,
    ) -> PyResult<Self> {
        let (order, object) = (order(object)?, object.clone().unbind());
        Ok(Self { object, order, tracker, stamps, asked: SystemClock.now(), expires })
    }

    pub(super) fn bind<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.object.bind(py)
    }

    /// Whether it is time to ask the server again.
    fn may_have_ended(&self) -> bool {
        let now = SystemClock.now();
        if now >= self.expires {
            return true;
        }
        if self.tracker.is_believed(&SystemClock)
            && self.stamps.iter().all(|it| self.tracker.is_unchanged(*it))
        {
            return false;
        }
        // If pushes concern another key of the stripe, or if there are none, the server must not be asked
        // without a pause.
        let pause = u64::try_from(BETWEEN_QUESTIONS.as_nanos()).unwrap_or(u64::MAX);
        self.tracker.is_believed(&SystemClock) || now >= self.asked.saturating_add(pause)
    }
}

impl AwaitedLease for AwaitedTrackedLease {
    fn order(&self) -> u64 {
        self.order
    }

    fn sleep(&self, most: Duration) -> bool {
        let end = std::time::Instant::now() + most;
        let mut pause = PAUSES.0;
        while !self.may_have_ended() {
            let left = end.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return false;
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(PAUSES.1);
        }
        true
    }
}
