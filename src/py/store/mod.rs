//! The store behind a cache.

pub(crate) mod tier;
