//! Memoized functions.

pub(crate) mod bound_method;
pub(crate) mod call_key;
pub(crate) mod made_key;
pub(crate) mod memoized;
mod vectorcall;
