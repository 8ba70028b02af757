//! The directory of a segment: it belongs to this user alone, is used through a descriptor, and is locked
//! while a name in it changes.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::system::{self, Filesystem};

/// Temporary names begin with this. They exist only while the directory is locked.
const TEMPORARY: &str = ".flexcache-temporary-";

/// How long a call waits for another one that creates or removes a segment. Allocating a large one takes seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// An open directory.
pub(crate) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

/// Checks that a file or directory belongs to this user, and that others have none of the permissions
/// `others`.
pub(crate) fn check_owner(path: &Path, status: &Stat, others: u32) -> Result<()> {
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

impl Directory {
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
        let directory = Self { fd, path: path.to_owned() };
        let status = rustix::fs::fstat(&directory.fd).map_err(|error| Error::file(path, error))?;
        check_owner(path, &status, 0o022)?;
        Ok(directory)
    }

    /// The path of a file in it, for messages.
    pub(crate) fn path_of(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    fn error(&self, name: &OsStr, error: Errno) -> Error {
        Error::file(&self.path_of(name), error)
    }

    /// Refuses file systems that cannot hold a segment. Returns whether the file system is in memory.
    pub(crate) fn check_filesystem(&self, knows_boot: bool) -> Result<bool> {
        let kind = system::filesystem_of(self.fd.as_fd()).map_err(|error| Error::file(&self.path, error))?;
        let refused = |what| Err(Error::Filesystem { path: self.path.clone(), what });
        let in_memory = kind == Filesystem::Memory;
        if kind == Filesystem::Network {
            return refused("a network file system cannot hold a cache that processes map; use a local one");
        }
        if !knows_boot && !in_memory {
            return refused(
                "without /proc/sys/kernel/random/boot_id a cache may only lie in memory (tmpfs), where no file outlives a boot",
            );
        }
        Ok(in_memory)
    }

    /// The bytes that are free in the file system.
    pub(crate) fn free(&self) -> u64 {
        rustix::fs::fstatvfs(&self.fd)
            .map_or(u64::MAX, |status| status.f_bavail.saturating_mul(status.f_frsize))
    }

    /// Opens a file in the directory; `None` if it does not exist.
    pub(crate) fn open_file(&self, name: &OsStr) -> Result<Option<(OwnedFd, Stat)>> {
        // Without O_NONBLOCK, opening a device could block.
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(error @ (Errno::LOOP | Errno::ISDIR | Errno::NXIO | Errno::ACCESS)) => {
                return match self.status(name)?.map(|status| FileType::from_raw_mode(status.st_mode)) {
                    None => Ok(None),
                    Some(FileType::RegularFile) => Err(self.error(name, error)),
                    Some(kind) => Err(Error::NotOurs {
                        path: self.path_of(name),
                        what: format!("it is no regular file but a {kind:?}"),
                    }),
                };
            }
            Err(error) => return Err(self.error(name, error)),
        };
        let status = rustix::fs::fstat(&fd).map_err(|error| self.error(name, error))?;
        let path = self.path_of(name);
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(Error::NotOurs { path, what: "it is no regular file".into() });
        }
        check_owner(&path, &status, 0o077)?;
        Ok(Some((fd, status)))
    }

    /// The status of a name, without following a link.
    pub(crate) fn status(&self, name: &OsStr) -> Result<Option<Stat>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) => Ok(Some(status)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.error(name, error)),
        }
    }

    /// A new unnamed file. `None` if the file system has no such files.
    pub(crate) fn unnamed_file(&self) -> Result<Option<OwnedFd>> {
        system::unnamed_file(self.fd.as_fd()).map_err(|error| Error::file(&self.path, error))
    }

    /// Locks the directory against changes of names by other processes. Waits as long as `goes_on` returns
    /// true.
    pub(crate) fn lock(&self, goes_on: fn() -> bool) -> Result<DirectoryLock<'_>> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(200);
        loop {
            match rustix::fs::flock(&self.fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(DirectoryLock(self)),
                Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < deadline => {
                    if !goes_on() {
                        return Err(Error::Interrupted);
                    }
                    std::thread::sleep(pause);
                }
                Err(Errno::WOULDBLOCK | Errno::INTR) => return Err(Error::DirectoryBusy(self.path.clone())),
                Err(error) => return Err(Error::file(&self.path, error)),
            }
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Removes a segment's file if no process has it open. Returns whether it did. A file that cannot be
    /// opened is left alone.
    ///
    /// Every process that has the file open holds a shared lock on it, which the creator takes before the
    /// file has its name. A process that opens the file during this call finds it locked, and tries again. So
    /// the name belongs to this file until it is removed.
    pub(crate) fn unlink_unused(&self, name: &OsStr) -> Result<bool> {
        let Ok(Some((file, opened))) = self.open_file(name) else { return Ok(false) };
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(false);
        }
        let is_same = |status: Stat| (status.st_dev, status.st_ino) == (opened.st_dev, opened.st_ino);
        if !self.status(name)?.is_some_and(is_same) {
            return Ok(false);
        }
        self.unlink(name)?;
        Ok(true)
    }

    /// Removes a name, if it exists.
    fn unlink(&self, name: &OsStr) -> Result<()> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.error(name, error)),
        }
    }

    /// The names in the directory.
    pub(crate) fn names(&self) -> Result<Vec<Vec<u8>>> {
        let read = || -> io::Result<Vec<Vec<u8>>> {
            let mut names = Vec::new();
            for entry in Dir::read_from(&self.fd)? {
                names.push(entry?.file_name().to_bytes().to_vec());
            }
            Ok(names)
        };
        read().map_err(|error| Error::file(&self.path, error))
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The directory, locked against all processes that change names in it. Dropping it unlocks.
pub(crate) struct DirectoryLock<'a>(&'a Directory);

impl DirectoryLock<'_> {
    /// Creates a file with a temporary name, and returns both.
    pub(crate) fn temporary_file(&self) -> Result<(OwnedFd, String)> {
        let name = temporary_name()?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(&self.0.fd, &name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| self.0.error(OsStr::new(&name), error))?;
        Ok((fd, name))
    }

    /// Gives an unnamed file a name. Returns false if the name is taken.
    pub(crate) fn link(&self, file: &OwnedFd, name: &OsStr) -> Result<bool> {
        match system::link(file, self.0.fd.as_fd(), name) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(self.0.error(name, error)),
        }
    }

    /// Gives an unnamed file a name that another file has now.
    pub(crate) fn replace(&self, file: &OwnedFd, name: &OsStr) -> Result<()> {
        let temporary = temporary_name()?;
        if !self.link(file, OsStr::new(&temporary))? {
            return Err(self.0.error(OsStr::new(&temporary), Errno::EXIST));
        }
        self.rename(&temporary, name)
    }

    /// Renames a temporary file to a name that another file may have now.
    pub(crate) fn rename(&self, temporary: &str, name: &OsStr) -> Result<()> {
        rustix::fs::renameat(&self.0.fd, temporary, &self.0.fd, name)
            .map_err(|error| self.0.error(name, error))
    }

    /// Removes a name, if it exists.
    pub(crate) fn unlink(&self, name: &OsStr) -> Result<()> {
        self.0.unlink(name)
    }

    /// Removes the temporary files of processes that died. The caller holds the lock, so none of them is in
    /// use.
    pub(crate) fn sweep(&self) -> Result<()> {
        use std::os::unix::ffi::OsStrExt;
        for name in self.0.names()? {
            if name.starts_with(TEMPORARY.as_bytes()) {
                self.unlink(OsStr::from_bytes(&name))?;
            }
        }
        Ok(())
    }
}

impl Drop for DirectoryLock<'_> {
    fn drop(&mut self) {
        // Unlocked explicitly, as a child that was forked meanwhile shares the lock and would keep it.
        let _ = rustix::fs::flock(&self.0.fd, FlockOperation::Unlock);
    }
}

fn temporary_name() -> Result<String> {
    Ok(format!("{TEMPORARY}{:016x}", random()?))
}

/// A random number.
pub(crate) fn random() -> Result<u64> {
    getrandom::u64().map_err(|_| Error::Unsupported("the system has no random numbers"))
}
