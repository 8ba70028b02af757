//! Leases, which make sure that only one of several caches and processes computes the value of a key.
//!
//! A load requests the lease of its key from its store before it computes. A store that other processes write
//! to gives the lease to one load at a time. A write to the key voids the lease, and the result of a load is
//! stored only while its lease exists. So a write of another cache or process discards the load, like a write
//! of the same cache.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;

use super::loads::Load;

/// A load's request for a lease.
#[derive(Clone, Copy)]
pub(crate) struct LeaseRequest<'a> {
    /// The load that requests it. A store that renews its leases does so until this load is over.
    pub(crate) load: &'a Arc<Load>,
    /// The seconds after which the lease expires if it is not renewed.
    pub(crate) seconds: f64,
    /// The tags that the value is known to have.
    pub(crate) tags: &'a [PyBackedStr],
    /// The lease that the load has waited for.
    pub(crate) awaited: Option<&'a Arc<dyn AwaitedLease>>,
    /// Whether to take the lease from its holder.
    pub(crate) takes_over: bool,
}

/// The answer of a store.
#[derive(Debug)]
pub(crate) enum LeaseAnswer {
    /// The store gives no leases, or none to this caller.
    None,
    Held(Arc<dyn Lease>),
    /// Another load has the lease.
    Elsewhere(Arc<dyn AwaitedLease>),
    /// The load that had the awaited lease has failed, with this exception.
    Failed(PyErr),
}

/// The lease of a key that a load has. It expires if it is not released.
pub(crate) trait Lease: Any + Debug + Send + Sync {
    /// Its position in the order of all leases, which is the same in every process.
    fn order(&self) -> u64;

    /// Whether it still exists: the key has not been written, and nobody has taken the lease over. May wait
    /// for the store; runs no Python code.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    fn is_valid(&self, py: Python<'_>) -> PyResult<bool>;

    /// Encodes an exception for waiting callers in other processes. Runs Python code.
    fn encode_failure(&self, _error: &Bound<'_, PyAny>) -> Option<Vec<u8>> {
        None
    }

    /// Records that its load has failed. Callers that request the lease from now on have not waited for the
    /// load, and are not told of the failure. Runs no Python code.
    fn fails(&self) {}

    /// Releases the lease. Waiting callers are told of the `failure`, if there is one. Runs no Python code.
    /// May wait shortly for the store, only if `may_wait`.
    fn end(self: Arc<Self>, py: Python<'_>, failure: Option<Vec<u8>>, may_wait: bool);
}

/// The lease of a key that another load has.
pub(crate) trait AwaitedLease: Any + Debug + Send + Sync {
    /// Its position in the order of all leases.
    fn order(&self) -> u64;

    /// Sleeps until it has ended, at most for `most`. Returns whether it has. Runs no Python code, and is
    /// called detached.
    fn sleep(&self, most: Duration) -> bool;
}

/// The position of a key's bytes in the order of all leases: its FNV-1a hash. It must be the same in every
/// process, so it does not depend on the machine or the build.
pub(crate) fn order_of_bytes(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
