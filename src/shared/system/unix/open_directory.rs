//! An open directory, and the files in it. It belongs to this user alone, and is used through a descriptor.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::system::{self, Filesystem, Status};

/// Checks that a file or directory belongs to this user, and that others have none of the permissions
/// `others`.
fn check_owner(path: &Path, status: &Stat, others: u32) -> Result<()> {
    let me = rustix::process::geteuid().as_raw();
    let not_ours = |what| Err(Error::NotOurs { path: path.to_owned(), what });
    if status.st_uid != me {
        return not_ours(format!("it belongs to user {}, and this process is of user {me}", status.st_uid));
    }
    #[expect(clippy::useless_conversion, reason = "its type depends on the target")]
    let mode = u32::from(status.st_mode);
    if mode & others != 0 {
        return not_ours(format!(
            "its mode {:o} lets other users in; it must not have any of the bits {others:o}",
            mode & 0o7777
        ));
    }
    Ok(())
}

fn status_from(status: &Stat) -> Status {
    #[expect(
        clippy::useless_conversion,
        clippy::unnecessary_cast,
        reason = "their types depend on the target"
    )]
    let identity = (u64::from(status.st_dev as u64), u64::from(status.st_ino as u64));
    Status {
        identity,
        size: u64::try_from(status.st_size).unwrap_or(0),
        allocated: u64::try_from(status.st_blocks).unwrap_or(0).saturating_mul(512),
    }
}

/// The status of an open file.
pub(crate) fn status_of(file: &File) -> io::Result<Status> {
    Ok(status_from(&rustix::fs::fstat(file)?))
}

/// Locks a file together with other processes that do so. The error is of the kind `WouldBlock` if one has it alone.
pub(crate) fn lock_shared(file: &File) -> io::Result<()> {
    Ok(rustix::fs::flock(file, FlockOperation::NonBlockingLockShared)?)
}

/// Locks a file alone. The error is of the kind `WouldBlock` if another process has locked it.
pub(crate) fn lock_exclusively(file: &File) -> io::Result<()> {
    Ok(rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)?)
}

/// Writes bytes to a place in a file. Returns how many it wrote.
pub(crate) fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    Ok(rustix::io::pwrite(file, bytes, at)?)
}

/// An open directory.
pub(crate) struct OpenDirectory {
    fd: OwnedFd,
    path: PathBuf,
}

impl OpenDirectory {
    /// Opens a directory, and creates it if it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            // What is missing is the directory above, such as /dev/shm.
            Err(error @ Errno::NOENT) => return Err(Error::file(path.parent().unwrap_or(path), error)),
            Err(error) => return Err(Error::file(path, error)),
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| match error {
            Errno::LOOP | Errno::NOTDIR => Error::NotOurs {
                path: path.to_owned(),
                what: "it is not a directory, or a link to one".into(),
            },
            error => Error::file(path, error),
        })?;
        let status = rustix::fs::fstat(&fd).map_err(|error| Error::file(path, error))?;
        check_owner(path, &status, 0o022)?;
        Ok(Self { fd, path: path.to_owned() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn error(&self, name: &OsStr, error: Errno) -> Error {
        Error::file(&self.path.join(name), error)
    }

    pub(crate) fn filesystem(&self) -> io::Result<Filesystem> {
        Ok(system::filesystem_of(self.fd.as_fd())?)
    }

    /// The bytes that are free in the file system.
    pub(crate) fn free(&self) -> u64 {
        rustix::fs::fstatvfs(&self.fd)
            .map_or(u64::MAX, |status| status.f_bavail.saturating_mul(status.f_frsize))
    }

    /// Opens a file in the directory, which must belong to this user alone; `None` if it does not exist.
    pub(crate) fn open_file(&self, name: &OsStr) -> Result<Option<(File, Status)>> {
        let Some((file, status)) = self.open_regular(name)? else { return Ok(None) };
        check_owner(&self.path.join(name), &status, 0o077)?;
        Ok(Some((file, status_from(&status))))
    }

    /// Opens a file in the directory, whose permissions may be any; `None` if it does not exist.
    pub(crate) fn open_whatever(&self, name: &OsStr) -> Result<Option<(File, Status)>> {
        Ok(self.open_regular(name)?.map(|(file, status)| (file, status_from(&status))))
    }

    fn open_regular(&self, name: &OsStr) -> Result<Option<(File, Stat)>> {
        // Without O_NONBLOCK, opening a device could block.
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(error @ (Errno::LOOP | Errno::ISDIR | Errno::NXIO | Errno::ACCESS)) => {
                let found = self.found(name).map_err(|error| self.error(name, error))?;
                return match found.map(|status| FileType::from_raw_mode(status.st_mode)) {
                    None => Ok(None),
                    Some(FileType::RegularFile) => Err(self.error(name, error)),
                    Some(kind) => Err(Error::NotOurs {
                        path: self.path.join(name),
                        what: format!("it is no regular file but a {kind:?}"),
                    }),
                };
            }
            Err(error) => return Err(self.error(name, error)),
        };
        let status = rustix::fs::fstat(&fd).map_err(|error| self.error(name, error))?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(Error::NotOurs { path: self.path.join(name), what: "it is no regular file".into() });
        }
        Ok(Some((fd.into(), status)))
    }

    /// What has a name, without following a link.
    fn found(&self, name: &OsStr) -> rustix::io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) => Ok(Some(status)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The status of a name, without following a link.
    pub(crate) fn status(&self, name: &OsStr) -> io::Result<Option<Status>> {
        Ok(self.found(name)?.as_ref().map(status_from))
    }

    /// A new unnamed file. `None` if the file system has no such files.
    pub(crate) fn unnamed_file(&self) -> io::Result<Option<File>> {
        Ok(system::unnamed_file(self.fd.as_fd())?)
    }

    /// Gives an unnamed file a name.
    pub(crate) fn link(&self, file: &File, name: &OsStr) -> io::Result<()> {
        Ok(system::link(file, self.fd.as_fd(), name)?)
    }

    /// Creates a file.
    pub(crate) fn create(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    /// Renames a file to a name that another one may have. A process that has the other one open keeps it.
    pub(crate) fn rename(&self, name: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.fd, name, &self.fd, to)?)
    }

    /// Removes a name. A process that has the file open keeps it.
    pub(crate) fn unlink(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())?)
    }

    /// The names in the directory.
    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd)? {
            names.push(OsString::from_vec(entry?.file_name().to_bytes().to_vec()));
        }
        Ok(names)
    }

    /// Locks the directory. The error is of the kind `WouldBlock` if another process has locked it.
    pub(crate) fn try_lock(&self) -> io::Result<()> {
        Ok(rustix::fs::flock(&self.fd, FlockOperation::NonBlockingLockExclusive)?)
    }

    pub(crate) fn unlock(&self) {
        let _ = rustix::fs::flock(&self.fd, FlockOperation::Unlock);
    }
}
