//! Files: locations and file systems. There are no unnamed files, and the only way to allocate a file is
//! writing to it.

#![expect(unsafe_code, reason = "it asks the C library for a directory")]

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::{Errno, Result};

use crate::system::Filesystem;

/// The directory of all named caches of this user. It is in the user's directory of temporary files,
/// independent of the environment.
pub(crate) fn directory_of_names() -> PathBuf {
    let mut bytes = [0_u8; 1024];
    // SAFETY: at most `bytes.len()` bytes are written.
    let length =
        unsafe { libc::confstr(libc::_CS_DARWIN_USER_TEMP_DIR, bytes.as_mut_ptr().cast(), bytes.len()) };
    // The length includes the zero at the end. It also shows whether the directory did not fit (more than
    // 1024) or is unknown (0).
    let directory = match length {
        2..=1024 => Path::new(OsStr::from_bytes(&bytes[..length - 1])),
        _ => Path::new("/tmp"),
    };
    directory.join(format!("flexcache-rs-{}", rustix::process::geteuid().as_raw()))
}

/// The file system of an open directory.
pub(crate) fn filesystem_of(directory: BorrowedFd<'_>) -> Result<Filesystem> {
    let is_local = rustix::fs::fstatfs(directory)?.f_flags & libc::MNT_LOCAL.cast_unsigned() != 0;
    Ok(if is_local { Filesystem::Other } else { Filesystem::Network })
}

/// There are no unnamed files.
#[expect(clippy::unnecessary_wraps, reason = "other systems may fail")]
pub(crate) fn unnamed_file(_directory: BorrowedFd<'_>) -> Result<Option<File>> {
    Ok(None)
}

/// Never called, as there are no unnamed files.
pub(crate) fn link(_file: &File, _directory: BorrowedFd<'_>, _name: &OsStr) -> Result<()> {
    Err(Errno::NOTSUP)
}

/// The file to map. A mapping keeps the file, but neither the descriptor nor its locks.
pub(crate) fn file_to_map(file: &File) -> io::Result<File> {
    file.try_clone()
}

/// Reports that zeros must be written instead: the preallocation of macOS counts from the end of the file.
#[expect(clippy::unnecessary_wraps, reason = "other systems may fail")]
pub(crate) fn allocate(_file: &File, _at: u64, _bytes: u64) -> io::Result<bool> {
    Ok(false)
}
