//! The bindings of the shared cache: what `flexcache_rs.shared` stands on.

mod arguments;
mod errors;
mod key;
mod segment;
mod value;

pub(crate) use segment::{SharedSegment, SharedVersion};
