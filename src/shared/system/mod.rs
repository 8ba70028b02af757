//! The code that differs between systems. Each has a folder with the same names; this module re-exports those
//! of the target.
//!
//! For features that a system lacks there are portable replacements: a lock in a word (`owner_lock.rs`), and
//! waiting by polling (`polling.rs`).

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
use linux as target;
#[cfg(target_os = "macos")]
use macos as target;
#[cfg(windows)]
use windows as target;

pub(crate) use target::{
    ID_BITS, Lock, MAPPED_FILES_STAY, REPLACES_AT_ONCE, allocate, boot, directory_of_names, namespace, now,
    room, start_of, wait, wake_all,
};
#[cfg(unix)]
pub(crate) use target::{errno, file_to_map, filesystem_of, link, replace, set_errno, unnamed_file};
#[cfg(unix)]
pub(crate) use unix::{
    OpenDirectory, exists, hears_of_forks, is_a_device, lock_exclusively, lock_shared, map, status_of, unmap,
    write_at,
};
#[cfg(all(windows, feature = "stall-points"))]
pub(crate) use windows::kill_this_process;
#[cfg(windows)]
pub(crate) use windows::{
    OpenDirectory, exists, hears_of_forks, is_a_device, lock_exclusively, lock_shared, lost_file, map,
    status_of, unmap, write_at,
};

/// A number for a text of the system, such as the identity of a boot. It is not 0.
fn number_of(text: &[u8]) -> u64 {
    use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
    rapidhash_v3_seeded(text, &RapidSecrets::seed(0)).max(1)
}

/// The number of the error for a file that does not exist.
pub(crate) const NOT_FOUND: i32 = 2;

/// The file system of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filesystem {
    /// In memory, where no file outlives a boot.
    Memory,
    /// On another machine. Locks or mappings do not reach all processes that have a file open.
    Network,
    /// Nothing tells a file from another one that takes its place.
    WithoutIdentities,
    Other,
}

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// A number that no other file of its directory has while it exists.
    pub(crate) identity: (u64, u64),
    /// Its bytes.
    pub(crate) size: u64,
    /// The bytes that the file system has allocated for it.
    pub(crate) allocated: u64,
}

/// A limit of memory, and the bytes that are free below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) limit: u64,
    pub(crate) free: u64,
}
