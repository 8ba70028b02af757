//! Leases of keys of shared memory, for a cache in memory in front of it.

use std::sync::Arc;
use std::time::Duration;

use flexcache_shared::{Entry, Key, Patience, SharedCache, Tag, Token, Wait};
use pyo3::prelude::*;

use super::errors;
use super::key::own_kind;
use super::segment::{Opened, run};
use crate::py::object::running_python::detached;
use crate::py::store::lease::{AwaitedLease, Lease, order_of_bytes};
use crate::py::store::lease_failure;

/// How long waiting callers can get a failure.
const FAILURE: Duration = Duration::from_secs(1);

/// A key as it is stored, which a lease keeps.
#[derive(Clone, Debug)]
pub(super) struct OwnedKey {
    pub(super) kind: u8,
    pub(super) bytes: Arc<[u8]>,
}

impl OwnedKey {
    pub(super) fn of(key: Key<'_>) -> Self {
        Self { kind: key.kind, bytes: key.bytes.into() }
    }

    pub(super) fn as_key(&self) -> Key<'_> {
        Key { kind: self.kind, bytes: &self.bytes }
    }

    fn order(&self) -> u64 {
        order_of_bytes(&self.bytes)
    }
}

/// The key under which a lease's failure is stored: its words identify the lease within the segment.
pub(super) fn failure_key(words: [u64; 2]) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&words[0].to_le_bytes());
    key[8..].copy_from_slice(&words[1].to_le_bytes());
    key
}

/// The lease of a key.
pub(super) struct SharedLease {
    pub(super) opened: Arc<Opened>,
    pub(super) key: OwnedKey,
    pub(super) token: Token,
    /// The known tags of the value, as they were when the lease was granted.
    pub(super) tags: Vec<(Box<str>, Tag)>,
    /// The number of evictions of tags at that time.
    pub(super) evictions: u64,
}

impl std::fmt::Debug for SharedLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedLease").field("key", &self.key).finish_non_exhaustive()
    }
}

impl SharedLease {
    /// The tag as it was when the lease was granted, or `None` if it may have been evicted since.
    pub(super) fn tag(&self, py: Python<'_>, name: &str) -> PyResult<Option<Tag>> {
        if let Some((_, tag)) = self.tags.iter().find(|(known, _)| &**known == name) {
            return Ok(Some(*tag));
        }
        // The version is read before the count, since an eviction changes the count first.
        let tag = run(py, &self.opened, |cache, patience| cache.tag(name.as_bytes(), patience))?;
        let evictions = run(py, &self.opened, SharedCache::evictions)?;
        Ok((evictions == self.evictions).then_some(tag))
    }

    fn release(&self, failure: Option<&[u8]>, patience: Patience) -> flexcache_shared::Result<()> {
        let cache = &self.opened.cache;
        if let Some(failure) = failure {
            let nanoseconds = u64::try_from(FAILURE.as_nanos()).unwrap_or(0);
            let deadline = flexcache_shared::now().saturating_add(nanoseconds);
            let entry = Entry { kind: 0, value: failure, deadline, tags: &[] };
            let key = failure_key(self.token.words());
            // If it cannot be passed on, waiting callers compute themselves.
            let told = cache.put(Key { kind: own_kind::FAILURE, bytes: &key }, &entry, patience);
            if let Err(flexcache_shared::Error::Busy) = told {
                return Err(flexcache_shared::Error::Busy);
            }
        }
        cache.release(self.key.as_key(), &self.token, patience).map(drop)
    }
}

impl Lease for SharedLease {
    fn order(&self) -> u64 {
        self.key.order()
    }

    fn is_valid(&self, py: Python<'_>) -> PyResult<bool> {
        let call = |cache: &SharedCache, patience| cache.has_lease(self.key.as_key(), &self.token, patience);
        let result = match call(&self.opened.cache, Patience::Try) {
            Err(flexcache_shared::Error::Busy) => detached(py, || call(&self.opened.cache, Patience::Wait)),
            result => result,
        };
        result.map_err(|error| errors::raised_in(py, error, &self.opened.serializer.path))
    }

    fn encode_failure(&self, error: &Bound<'_, PyAny>) -> Option<Vec<u8>> {
        lease_failure::encode(error, |error| self.opened.serializer.dumps(error).map(Some)).ok()
    }

    fn end(self: Arc<Self>, py: Python<'_>, failure: Option<Vec<u8>>, may_wait: bool) {
        if let Err(flexcache_shared::Error::Busy) = self.release(failure.as_deref(), Patience::Try) {
            if may_wait {
                detached(py, || drop(self.release(failure.as_deref(), Patience::Wait)));
            } else {
                let thread = std::thread::Builder::new().name("flexcache-lease".into());
                // Without a thread it expires. The thread may drop the last reference to what is open; the interpreter gets the
                // objects among it with the next call.
                let lease = Arc::clone(&self);
                let _ = thread.spawn(move || drop(lease.release(failure.as_deref(), Patience::Wait)));
            }
        }
    }
}

/// The lease of a key that another computation has.
pub(super) struct AwaitedSharedLease {
    pub(super) opened: Arc<Opened>,
    pub(super) key: OwnedKey,
    pub(super) wait: Wait,
}

impl std::fmt::Debug for AwaitedSharedLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AwaitedSharedLease").field("key", &self.key).finish_non_exhaustive()
    }
}

impl AwaitedLease for AwaitedSharedLease {
    fn order(&self) -> u64 {
        self.key.order()
    }

    fn sleep(&self, most: Duration) -> bool {
        self.opened.cache.wait_for_end(self.key.as_key(), &self.wait, most)
    }
}
