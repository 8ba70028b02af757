//! Linux.

mod boot;
mod files;
#[cfg_attr(feature = "owner-lock", expect(dead_code, reason = "the other form is tested"))]
mod futex;
mod memory;
mod memory_limit;
#[cfg(not(feature = "owner-lock"))]
mod mutex;
mod process;

pub(crate) use boot::{boot, namespace};
pub(crate) use files::{allocate, directory_of_names, file_to_map, filesystem_of, link, unnamed_file};
pub(crate) use memory::{REPLACES_AT_ONCE, errno, replace, set_errno};
pub(crate) use memory_limit::room;
pub(crate) use process::start_of;

#[cfg(not(feature = "owner-lock"))]
pub(crate) use {
    futex::{wait, wake_all},
    mutex::RobustMutex as Lock,
};

#[cfg(feature = "owner-lock")]
pub(crate) use {
    crate::owner_lock::OwnerLock as Lock,
    crate::polling::{wait, wake_all},
};

/// A file that is mapped can be removed.
pub(crate) const MAPPED_FILES_STAY: bool = false;

/// Process ids are below 2^22.
pub(crate) const ID_BITS: u32 = 22;

/// The nanoseconds since the machine booted, including the time that it sleeps.
pub(crate) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}
