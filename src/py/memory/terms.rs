//! What a write is asked for, and what came of it.

use flexcache_core::Nanos;
use pyo3::pybacked::PyBackedStr;

/// What to do where the key is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfPresent {
    Replace,
    Raise,
    Keep,
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteOutcome {
    /// Nothing was stored: the key was present.
    AlreadyPresent,
    Inserted,
    Updated,
}

/// On what terms an entry is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) weight: u64,
    pub(crate) deadline: Option<Nanos>,
    pub(crate) tags: &'a [PyBackedStr],
    pub(crate) if_present: IfPresent,
    /// What the entry is stamped with, see `store::tier`; 0 for nothing.
    pub(crate) stamp: u64,
}

impl Terms<'_> {
    pub(crate) fn new(weight: u64, if_present: IfPresent) -> Self {
        Self { weight, deadline: None, tags: &[], if_present, stamp: 0 }
    }
}
