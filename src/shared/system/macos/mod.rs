//! macOS. It has no robust mutexes, no unnamed files, and no namespaces.

mod files;
mod memory;
mod process;

use crate::error::Result;
use crate::system::Room;

pub(crate) use crate::owner_lock::OwnerLock as Lock;
pub(crate) use crate::polling::{wait, wake_all};
pub(crate) use files::{allocate, directory_of_names, file_to_map, filesystem_of, link, unnamed_file};
pub(crate) use memory::{REPLACES_AT_ONCE, errno, replace, set_errno};
pub(crate) use process::{boot, start_of};

/// A file that is mapped can be removed.
pub(crate) const MAPPED_FILES_STAY: bool = false;

/// Process ids are below 2^22.
pub(crate) const ID_BITS: u32 = 22;

/// There are no namespaces.
#[expect(clippy::unnecessary_wraps, reason = "other systems cannot always tell")]
pub(crate) fn namespace() -> Result<u64> {
    Ok(1)
}

/// There are no control groups.
pub(crate) fn room() -> Option<Room> {
    None
}

/// The nanoseconds since the machine booted, including the time that it sleeps.
pub(crate) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}
