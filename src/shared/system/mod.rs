//! What differs between systems. Each has a folder with the same names, and this module takes those of the target.
//!
//! What a system cannot do has a form that all can: a lock that is a word (`owner_lock.rs`), and waiting by looking again
//! (`polling.rs`).

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;

#[cfg(target_os = "linux")]
use linux as target;
#[cfg(target_os = "macos")]
use macos as target;

pub(crate) use target::{
    Lock, allocate, boot, directory_of_names, file_to_map, filesystem_of, link, namespace, now, room,
    start_of, unnamed_file, wait, wake_all,
};

/// Stands for a text that the system has, such as the identity of a boot. It is not 0.
fn number_of(text: &[u8]) -> u64 {
    use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
    rapidhash_v3_seeded(text, &RapidSecrets::seed(0)).max(1)
}

/// Where a directory lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filesystem {
    /// In memory, where no file outlives a boot.
    Memory,
    /// On another machine: locks or mappings do not reach all processes that have a file open.
    Network,
    Other,
}

/// A limit of memory, and what is free below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) limit: u64,
    pub(crate) free: u64,
}
