//! The bindings of the disk store: what `flexcache_rs.disk` stands on.

mod arguments;
mod audit_hook;
mod cache;
mod check;
mod codec;
mod commit_tracker;
mod count;
mod datum;
mod directory_lease;
pub(crate) mod directory_store;
mod encoding;
mod errors;
mod fork;
mod hold;
mod keys;
mod pickle_scan;
mod pickled_key;
mod queue;
mod read;
mod remove_many;
mod settings;
mod transaction;
mod uninterrupted;
mod value_files;
mod write;

pub(crate) use audit_hook::{SqliteFinder, guard_sqlite3};
pub(crate) use cache::DiskCache;
pub(crate) use codec::Disk;
pub(crate) use errors::Timeout;
pub(crate) use fork::{disk_after_fork_in_child, disk_after_fork_in_parent, disk_before_fork};
pub(crate) use hold::DiskHold;
pub(crate) use keys::DiskKeys;
pub(crate) use pickle_scan::scan_pickle;
pub(crate) use settings::pragmas;
pub(crate) use transaction::DiskTransaction;
pub(crate) use value_files::{disk_open_value, disk_remove_value};
