//! Windows. It has no robust mutexes, no unnamed files, no namespaces and no forks, and a mapped file cannot be removed.

mod files;
pub(crate) mod lost_file;
mod open_directory;
mod process;
mod time;

use crate::error::Result;
use crate::system::Room;

pub(crate) use crate::owner_lock::OwnerLock as Lock;
pub(crate) use crate::polling::{wait, wake_all};
pub(crate) use files::{
    allocate, directory_of_names, is_a_device, lock_exclusively, lock_shared, map, status_of, unmap, write_at,
};
pub(crate) use open_directory::OpenDirectory;
#[cfg(feature = "stall-points")]
pub(crate) use process::kill_this_process;
pub(crate) use process::{exists, start_of};
pub(crate) use time::{boot, now};

/// Process ids have 32 bits.
pub(crate) const ID_BITS: u32 = 32;

/// A file that is mapped cannot be removed, and it leaves its name before another one gets it.
pub(crate) const MAPPED_FILES_STAY: bool = true;

/// Nothing is ever replaced.
pub(crate) const REPLACES_AT_ONCE: bool = true;

/// There are no forks.
pub(crate) fn hears_of_forks(_in_child: extern "C" fn()) -> bool {
    true
}

/// There are no namespaces.
#[expect(clippy::unnecessary_wraps, reason = "other systems cannot always tell")]
pub(crate) fn namespace() -> Result<u64> {
    Ok(1)
}

/// Limits of jobs are not looked at.
pub(crate) fn room() -> Option<Room> {
    None
}
