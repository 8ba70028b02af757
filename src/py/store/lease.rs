//! Leases: what makes a computation the only one of its key beyond one cache, and beyond one process.
//!
//! A load asks its store for the lease of its key before it computes. A store that others write to gives one to a
//! single load at a time. A write to the key voids the lease, and the result of a load is stored only while its lease
//! is there. So a write from elsewhere discards the load, as a write of the same cache does.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;

use super::loads::Load;

/// What a load asks for.
#[derive(Clone, Copy)]
pub(crate) struct LeaseRequest<'a> {
    /// Who asks: a store that renews its leases does so until this load is over.
    pub(crate) load: &'a Arc<Load>,
    /// How long others wait for a load that says nothing more.
    pub(crate) seconds: f64,
    /// The tags that the value is known to have.
    pub(crate) tags: &'a [PyBackedStr],
    /// The lease that it has waited for.
    pub(crate) awaited: Option<&'a Arc<dyn AwaitedLease>>,
    /// Whether it takes the lease from its holder.
    pub(crate) takes_over: bool,
}

/// What a store answers.
#[derive(Debug)]
pub(crate) enum LeaseAnswer {
    /// It gives no leases, or none to this caller.
    None,
    Held(Arc<dyn Lease>),
    /// Another load has the lease.
    Elsewhere(Arc<dyn AwaitedLease>),
    /// The load that had the lease which was waited for has failed, with this.
    Failed(PyErr),
}

/// The lease of a key, which a load has. It expires by itself where it is not given back.
pub(crate) trait Lease: Any + Debug + Send + Sync {
    /// Its place in the order of all leases, which is the same in every process.
    fn order(&self) -> u64;

    /// Whether it is still there: nothing has been written to the key, and nobody has taken it over. May wait for the
    /// store; runs no Python code.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    fn is_valid(&self, py: Python<'_>) -> PyResult<bool>;

    /// The form of an exception for callers that wait in other processes. Runs Python code.
    fn encode_failure(&self, _error: &Bound<'_, PyAny>) -> Option<Vec<u8>> {
        None
    }

    /// Its load has failed: whoever asks from now on has not waited for it, and is not told of the failure. Runs no Python
    /// code.
    fn fails(&self) {}

    /// Gives it back. Those who wait are told of the `failure`, if there is one. Runs no Python code. Waits for the
    /// store, shortly, only where it `may_wait`.
    fn end(self: Arc<Self>, py: Python<'_>, failure: Option<Vec<u8>>, may_wait: bool);
}

/// The lease of a key, which another load has.
pub(crate) trait AwaitedLease: Any + Debug + Send + Sync {
    /// Its place in the order of all leases.
    fn order(&self) -> u64;

    /// Sleeps until it has ended, at most for `most`. Whether it has. Runs no Python code, and is called detached.
    fn sleep(&self, most: Duration) -> bool;
}

/// The place of a key's bytes in the order of all leases: the same in every process, so nothing of this machine or build goes
/// into it. It is the hash FNV-1a.
pub(crate) fn order_of_bytes(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
