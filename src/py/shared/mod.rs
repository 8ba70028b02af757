//! The bindings of the shared cache: what `flexcache_rs.shared` stands on.

mod arguments;
mod container;
mod counts;
mod decode;
mod errors;
mod fast;
mod key;
mod known_keys;
mod mapping;
mod read;
mod segment;
mod shared_lease;
pub(crate) mod shared_store;
mod value;

pub(crate) use fast::install;
pub(crate) use segment::{SharedSegment, SharedToken, SharedVersion};
