//! Files: unnamed files, locations, file systems and allocation.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::{Errno, Result};

use crate::system::Filesystem;

/// File systems on which locks or mappings do not reach all processes that have the file open.
const NETWORK: [i64; 8] = [
    0x6969,      // NFS
    0xFF53_4D42, // CIFS
    0xFE53_4D42, // SMB2
    0x517B,      // SMB
    0x0102_1997, // 9p
    0x00C3_6400, // Ceph
    0x5346_414F, // AFS
    0x0BD0_0BD0, // Lustre
];
const TMPFS: i64 = 0x0102_1994;
const RAMFS: i64 = 0x8584_58F6;

/// The directory of all named caches of this user.
pub(crate) fn directory_of_names() -> PathBuf {
    Path::new("/dev/shm").join(format!("flexcache-rs-{}", rustix::process::geteuid().as_raw()))
}

/// The file system of an open directory.
pub(crate) fn filesystem_of(directory: BorrowedFd<'_>) -> Result<Filesystem> {
    let kind = rustix::fs::fstatfs(directory)?.f_type as i64 & 0xFFFF_FFFF;
    Ok(match kind {
        TMPFS | RAMFS => Filesystem::Memory,
        kind if NETWORK.contains(&kind) => Filesystem::Network,
        _ => Filesystem::Other,
    })
}

/// A new unnamed file. `None` if the file system has no such files.
pub(crate) fn unnamed_file(directory: BorrowedFd<'_>) -> Result<Option<File>> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, ".", flags, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => Ok(Some(fd.into())),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => Ok(None),
        Err(error) => Err(error),
    }
}

fn path_of(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Gives an unnamed file a name.
pub(crate) fn link(file: &File, directory: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    rustix::fs::linkat(rustix::fs::CWD, path_of(file), directory, name, AtFlags::SYMLINK_FOLLOW)
}

/// The file to map. It is opened once more, because a mapping keeps the open file that it was made from,
/// together with its locks.
pub(crate) fn file_to_map(file: &File) -> Result<File> {
    rustix::fs::open(path_of(file), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map(File::from)
}

/// Allocates a part of a file, so that no store to it fails later. Returns false if the file system cannot.
pub(crate) fn allocate(file: &File, at: u64, bytes: u64) -> io::Result<bool> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), at, bytes) {
        Ok(()) => Ok(true),
        Err(Errno::NOSYS | Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
