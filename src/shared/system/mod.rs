//! The code that differs between systems. Each has a folder with the same names; this module re-exports those
//! of the target.
//!
//! For features that a system lacks there are portable replacements: a lock in a word (`owner_lock.rs`), and
//! waiting by polling (`polling.rs`).

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;

#[cfg(target_os = "linux")]
use linux as target;
#[cfg(target_os = "macos")]
use macos as target;

pub(crate) use target::{
    Lock, REPLACES_AT_ONCE, allocate, boot, directory_of_names, errno, file_to_map, filesystem_of, link,
    namespace, now, replace, room, set_errno, start_of, unnamed_file, wait, wake_all,
};

/// A number for a text of the system, such as the identity of a boot. It is not 0.
fn number_of(text: &[u8]) -> u64 {
    use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
    rapidhash_v3_seeded(text, &RapidSecrets::seed(0)).max(1)
}

/// The file system of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filesystem {
    /// In memory, where no file outlives a boot.
    Memory,
    /// On another machine. Locks or mappings do not reach all processes that have a file open.
    Network,
    Other,
}

/// A limit of memory, and the bytes that are free below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) limit: u64,
    pub(crate) free: u64,
}
