//! What Linux and macOS have in common.

mod open_directory;
mod pages;
mod this_process;

pub(crate) use open_directory::{OpenDirectory, lock_exclusively, lock_shared, status_of, write_at};
pub(crate) use pages::{map, unmap};
pub(crate) use this_process::{exists, hears_of_forks};

/// Names do not decide what a file is.
pub(crate) fn is_a_device(_name: &str) -> bool {
    false
}
