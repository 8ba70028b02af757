//! Leases of keys of a directory, as a cache in memory asks for them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use flexcache_disk::{DiskStore, LeaseToken, OwnedKey, Value};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::cache::DiskCache;
use super::codec::native;
use super::fork::Lazy;
use crate::py::object::running_python::detached;
use crate::py::process::mutex::Mutex;
use crate::py::store::lease::{AwaitedLease, Lease, order_of_bytes};
use crate::py::store::lease_failure;

/// How long the return of a lease waits for other writers of leases. Otherwise it expires.
const PATIENCE: Duration = Duration::from_secs(1);

/// The number of seconds for which waiting callers can get a failure.
const FAILURE: f64 = 1.0;

/// The leases of loads of this process that have failed, until they have been given back. Held attached and shortly.
static FAILING: Mutex<Vec<(LeaseToken, Weak<()>)>> = Mutex::new(Vec::new());

/// The leases of failed loads of this process that are not released yet. A call that asks for a lease takes this list
/// first: a lease in it can be released between the answer and a later look.
pub(super) fn failing() -> Vec<LeaseToken> {
    let alive = |(token, mark): &(LeaseToken, Weak<()>)| (mark.strong_count() > 0).then_some(*token);
    FAILING.lock().iter().filter_map(alive).collect()
}

/// The place of a key in the order of all leases. Numbers that the table takes for equal have the same place.
fn order_of(key: &OwnedKey) -> u64 {
    #[expect(clippy::cast_precision_loss, reason = "equal numbers stay equal")]
    let number = match &key.datum {
        Value::Integer(number) => (*number as f64).to_bits(),
        Value::Real(number) => (number + 0.0).to_bits(),
        _ => 0,
    };
    let number = number.to_le_bytes();
    order_of_bytes(match &key.datum {
        Value::Text(text) => text.as_bytes(),
        Value::Blob(bytes) => bytes,
        _ => &number,
    })
}

/// What a lease is about.
#[derive(Clone)]
pub(super) struct LeasePlace {
    /// Of this process.
    store: Arc<Lazy>,
    key: Arc<OwnedKey>,
    pub(super) token: LeaseToken,
}

impl std::fmt::Debug for LeasePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeasePlace").field("key", &self.key).finish_non_exhaustive()
    }
}

impl LeasePlace {
    pub(super) fn new(store: Arc<Lazy>, key: Arc<OwnedKey>, token: LeaseToken) -> Self {
        Self { store, key, token }
    }

    fn end(&self, failure: Option<&[u8]>, seconds: f64) {
        if let Some(store) = self.store.get() {
            let failure = failure.map(|failure| (failure, seconds.min(FAILURE)));
            // One that cannot be given back expires.
            let _ = store.release(self.key.borrow(), &self.token, failure, PATIENCE);
        }
    }
}

/// The lease of a key.
#[derive(Debug)]
pub(super) struct DirectoryLease {
    pub(super) place: LeasePlace,
    pub(super) cache: Py<DiskCache>,
    /// After how many seconds it expires.
    pub(super) seconds: f64,
    /// Whether a write has ended it: there is nothing to give back.
    pub(super) has_ended: AtomicBool,
    /// Set when its load has failed; lives until it has been given back.
    pub(super) failing: OnceLock<Arc<()>>,
}

impl Lease for DirectoryLease {
    fn order(&self) -> u64 {
        order_of(&self.place.key)
    }

    fn is_valid(&self, py: Python<'_>) -> PyResult<bool> {
        let LeasePlace { key, token, .. } = &self.place;
        self.cache.get().wait(py, true, |store, patience| store.has_lease(key.borrow(), token, patience))
    }

    fn encode_failure(&self, error: &Bound<'_, PyAny>) -> Option<Vec<u8>> {
        let cache = self.cache.get();
        lease_failure::encode(error, |error| {
            let py = error.py();
            native(cache.disk(py)?).map(|disk| disk.dumps(py, error, false)).transpose()
        })
        .ok()
    }

    fn fails(&self) {
        let mark = self.failing.get_or_init(Arc::default);
        let mut failing = FAILING.lock();
        failing.retain(|(_, mark)| mark.strong_count() > 0);
        failing.push((self.place.token, Arc::downgrade(mark)));
    }

    fn end(self: Arc<Self>, py: Python<'_>, failure: Option<Vec<u8>>, may_wait: bool) {
        if self.has_ended.load(Ordering::Acquire) {
            return;
        }
        let (place, seconds) = (self.place.clone(), self.seconds);
        if may_wait {
            detached(py, || place.end(failure.as_deref(), seconds));
        } else {
            let thread = std::thread::Builder::new().name("flexcache-lease".into());
            // Without a thread it expires.
            let failing = self.failing.get().cloned();
            let _ = thread.spawn(move || {
                place.end(failure.as_deref(), seconds);
                drop(failing);
            });
        }
    }
}

/// The lease of a key, which another computation has.
#[derive(Debug)]
pub(super) struct AwaitedDirectoryLease {
    place: LeasePlace,
    /// Whether its load had failed when it was asked for: then its failure is for others.
    has_failed: bool,
}

impl AwaitedDirectoryLease {
    pub(super) fn new(place: LeasePlace, has_failed: bool) -> Self {
        Self { place, has_failed }
    }

    /// The lease whose failure concerns the callers that wait for it.
    pub(super) fn token(&self) -> Option<LeaseToken> {
        (!self.has_failed).then_some(self.place.token)
    }
}

impl AwaitedLease for AwaitedDirectoryLease {
    fn order(&self) -> u64 {
        order_of(&self.place.key)
    }

    fn sleep(&self, most: Duration) -> bool {
        let LeasePlace { store, key, token } = &self.place;
        // What is wrong with the directory comes up when the lease is asked for.
        store
            .get()
            .is_none_or(|store: &DiskStore| store.wait_for_lease(key.borrow(), token, most).unwrap_or(true))
    }
}

/// The exception with which a computation of another process has failed.
pub(super) fn failure(cache: &DiskCache, key: &Bound<'_, PyAny>, encoded: &[u8]) -> PyErr {
    lease_failure::decode(key, encoded, |pickled| {
        // The serializer decides whether it may be loaded.
        let py = key.py();
        native(cache.disk(py)?)
            .map(|disk| disk.loads(py, PyBytes::new(py, pickled).as_any(), false))
            .transpose()
    })
}
