//! The bindings of the shared cache: the base of `flexcache_rs.shared`.

mod arguments;
mod container;
mod counts;
mod decode;
mod errors;
mod fast;
mod key;
mod known_keys;
mod locks;
mod mapping;
mod read;
mod segment;
mod shared_lease;
pub(crate) mod shared_store;
mod value;
mod version;
mod waiting;

pub(crate) use fast::install;
pub(crate) use locks::SharedHold;
pub(crate) use segment::SharedSegment;
pub(crate) use version::SharedVersion;
