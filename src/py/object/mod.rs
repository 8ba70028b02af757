//! Python objects as they are: hashing, equality, calls, hooks, numbers and durations.

pub(crate) mod argument;
pub(crate) mod block;
pub(crate) mod bytes;
pub(crate) mod canonical_key;
pub(crate) mod did_you_mean;
pub(crate) mod duration;
pub(crate) mod elements;
pub(crate) mod encoded_key;
pub(crate) mod entered;
pub(crate) mod fallible;
pub(crate) mod fast_call;
pub(crate) mod fast_slots;
pub(crate) mod hooks;
pub(crate) mod imported;
pub(crate) mod int_hash;
pub(crate) mod integer;
pub(crate) mod key;
pub(crate) mod real;
pub(crate) mod running_python;
pub(crate) mod single_use;
pub(crate) mod standing_time;
pub(crate) mod tags;
