//! The Python bindings of the crates.
//!
//! Each folder imports only from those above it in this list: `process`, `object`, `removal`, `disk`, `shared`,
//! `remote`, `sessions`, `store`, `memory`, `memoize`. `tests/test_structure.py` checks that.

pub(crate) mod disk;
pub(crate) mod memoize;
pub(crate) mod memory;
pub(crate) mod object;
pub(crate) mod process;
pub(crate) mod remote;
mod removal;
pub(crate) mod replay;
pub(crate) mod sessions;
#[cfg(has_shared_cache)]
pub(crate) mod shared;
pub(crate) mod store;
pub(crate) mod testing;
