//! The seam between a cache and the store behind it, and the loads that compute values which neither has.

pub(crate) mod cached_result;
pub(crate) mod exception_copy;
pub(crate) mod lease;
pub(crate) mod lease_failure;
pub(crate) mod load_circle;
pub(crate) mod loads;
pub(crate) mod object;
pub(crate) mod push_tracker;
mod return_threads;
pub(crate) mod rule_switch;
pub(crate) mod seam;
pub(crate) mod shard_loads;
pub(crate) mod tracked;
pub(crate) mod tracked_lease;
pub(crate) mod tracked_writes;
pub(crate) mod watches;
