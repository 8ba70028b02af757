//! The terms of a write, and its outcome.

use flexcache_core::Nanos;
use pyo3::pybacked::PyBackedStr;

use super::tier::Freshness;
use crate::py::store::loads::Origin;

/// What to do if the key is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfPresent {
    Replace,
    Raise,
    Keep,
}

/// The outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteOutcome {
    /// Nothing was stored: the key was present.
    AlreadyPresent,
    /// Nothing was stored: the value is the result of a load, and the key was written since the load began.
    Discarded,
    Inserted,
    Updated,
}

/// The terms on which an entry is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) weight: u64,
    pub(crate) deadline: Option<Nanos>,
    pub(crate) tags: &'a [PyBackedStr],
    pub(crate) if_present: IfPresent,
    /// When the value was current in the store, if there is one.
    pub(crate) freshness: Freshness,
    pub(crate) origin: Origin<'a>,
}

impl Terms<'_> {
    pub(crate) fn new(weight: u64, if_present: IfPresent) -> Self {
        Self {
            weight,
            deadline: None,
            tags: &[],
            if_present,
            freshness: Freshness::default(),
            origin: Origin::Write,
        }
    }
}
