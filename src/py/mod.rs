//! The bindings: what Python sees of the core.

mod aclose;
pub(crate) mod background;
pub(crate) mod cache;
mod clock;
mod custom_policy;
mod departures;
mod duration;
mod engine;
mod errors;
mod expire;
pub(crate) mod fast;
mod guard;
mod hooks;
mod key;
mod leave;
pub(crate) mod logging;
mod options;
pub(crate) mod pickle;
mod read;
mod running_python;
pub(crate) mod stats;
pub(crate) mod testing;
pub(crate) mod views;
mod whole;
mod write;
