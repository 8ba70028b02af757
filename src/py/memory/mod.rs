//! `FlexCache`: the cache in memory.

pub(crate) mod any_store;
pub(crate) mod cache;
pub(crate) mod constructor;
pub(crate) mod core_errors;
pub(crate) mod custom_policy;
pub(crate) mod entries;
pub(crate) mod expiry;
pub(crate) mod fast;
pub(crate) mod finish_removal;
pub(crate) mod lifecycle;
pub(crate) mod limits;
pub(crate) mod lookup;
pub(crate) mod observe;
pub(crate) mod options;
pub(crate) mod pickle;
pub(crate) mod policy_turn;
pub(crate) mod read;
pub(crate) mod remove;
pub(crate) mod repr;
pub(crate) mod state;
pub(crate) mod stats;
pub(crate) mod terms;
pub(crate) mod through;
pub(crate) mod ttl;
pub(crate) mod views;
pub(crate) mod write;
