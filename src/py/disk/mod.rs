//! The bindings of the disk store: what `flexcache_rs.disk` stands on.

mod cache;
mod datum;
mod disk;
mod errors;
mod fork;
mod keys;
mod neighbours;
mod pickled_key;
mod transaction;

pub(crate) use cache::DiskCache;
pub(crate) use disk::Disk;
pub(crate) use errors::Timeout;
pub(crate) use fork::{disk_after_fork_in_child, disk_after_fork_in_parent, disk_before_fork};
pub(crate) use keys::DiskKeys;
pub(crate) use transaction::DiskTransaction;
