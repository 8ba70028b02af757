//! Memoized functions.

pub(crate) mod cached_result;
pub(crate) mod call_key;
pub(crate) mod memoized;
