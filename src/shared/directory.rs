//! The directory of a segment, which is locked while a name in it changes.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::system::{Filesystem, OpenDirectory, Status, lock_exclusively};

/// Temporary names begin with this. A file has one only while the directory is locked; and on Windows also after it has left its
/// name, as long as it is mapped.
const TEMPORARY: &str = ".flexcache-temporary-";

/// How long a call waits for another one that creates or removes a segment. Allocating a large one takes seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// An open directory.
pub(crate) struct Directory(OpenDirectory);

impl Directory {
    /// Opens a directory, and creates it if it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        OpenDirectory::open(path).map(Self)
    }

    /// The path of a file in it, for messages.
    pub(crate) fn path_of(&self, name: &OsStr) -> PathBuf {
        self.0.path().join(name)
    }

    fn error(&self, name: &OsStr, error: io::Error) -> Error {
        Error::file(&self.path_of(name), error)
    }

    /// Refuses file systems that cannot hold a segment. Returns whether the file system is in memory.
    pub(crate) fn check_filesystem(&self, knows_boot: bool) -> Result<bool> {
        let kind = self.0.filesystem().map_err(|error| Error::file(self.0.path(), error))?;
        let refused = |what| Err(Error::Filesystem { path: self.0.path().to_owned(), what });
        let in_memory = kind == Filesystem::Memory;
        if kind == Filesystem::Network {
            return refused("a network file system cannot hold a cache that processes map; use a local one");
        }
        if !knows_boot && !in_memory {
            return refused(
                "the system does not tell one boot from the next (on Linux by /proc/sys/kernel/random/boot_id), so a cache may only \
                 lie in memory (tmpfs), where no file outlives a boot",
            );
        }
        if kind == Filesystem::WithoutIdentities {
            return refused(
                "a FAT file system cannot hold a cache that processes map: its files have no lasting identity",
            );
        }
        Ok(in_memory)
    }

    /// The bytes that are free in the file system.
    pub(crate) fn free(&self) -> u64 {
        self.0.free()
    }

    /// Opens a file in the directory; `None` if it does not exist.
    pub(crate) fn open_file(&self, name: &OsStr) -> Result<Option<(File, Status)>> {
        self.0.open_file(name)
    }

    /// The status of a name, without following a link.
    pub(crate) fn status(&self, name: &OsStr) -> Result<Option<Status>> {
        self.0.status(name).map_err(|error| self.error(name, error))
    }

    /// A new unnamed file. `None` if the file system has no such files.
    pub(crate) fn unnamed_file(&self) -> Result<Option<File>> {
        self.0.unnamed_file().map_err(|error| Error::file(self.0.path(), error))
    }

    /// Locks the directory against changes of names by other processes. Waits as long as `goes_on` returns
    /// true.
    pub(crate) fn lock(&self, goes_on: fn() -> bool) -> Result<DirectoryLock<'_>> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(200);
        loop {
            match self.0.try_lock() {
                Ok(()) => return Ok(DirectoryLock(self)),
                Err(error) if !is_not_free(&error) => return Err(Error::file(self.0.path(), error)),
                Err(_) if Instant::now() < deadline => {
                    if !goes_on() {
                        return Err(Error::Interrupted);
                    }
                    std::thread::sleep(pause);
                }
                Err(_) => return Err(Error::DirectoryBusy(self.0.path().to_owned())),
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
        self.unlink_opened(name, self.open_file(name))
    }

    /// The same for a file with any permissions.
    pub(crate) fn unlink_whatever(&self, name: &OsStr) -> Result<bool> {
        self.unlink_opened(name, self.0.open_whatever(name))
    }

    fn unlink_opened(&self, name: &OsStr, file: Result<Option<(File, Status)>>) -> Result<bool> {
        let Ok(Some((file, opened))) = file else { return Ok(false) };
        if lock_exclusively(&file).is_err() {
            return Ok(false);
        }
        if self.status(name)?.is_none_or(|status| status.identity != opened.identity) {
            return Ok(false);
        }
        self.unlink(name)?;
        Ok(true)
    }

    /// Removes temporary files, unless another process has locked the directory.
    pub(crate) fn sweep_if_free(&self) -> Result<()> {
        match self.0.try_lock() {
            Ok(()) => DirectoryLock(self).sweep(),
            Err(error) if is_not_free(&error) => Ok(()),
            Err(error) => Err(Error::file(self.0.path(), error)),
        }
    }

    /// Removes a name, if it exists.
    fn unlink(&self, name: &OsStr) -> Result<()> {
        match self.0.unlink(name) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.error(name, error)),
            _ => Ok(()),
        }
    }

    /// The names in the directory.
    pub(crate) fn names(&self) -> Result<Vec<OsString>> {
        self.0.names().map_err(|error| Error::file(self.0.path(), error))
    }
}

/// The directory, locked against all processes that change names in it. Dropping it unlocks.
pub(crate) struct DirectoryLock<'a>(&'a Directory);

impl DirectoryLock<'_> {
    /// Creates a file with a temporary name, and returns both.
    pub(crate) fn temporary_file(&self) -> Result<(File, OsString)> {
        let name = temporary_name()?;
        let file = self.0.0.create(&name).map_err(|error| self.0.error(&name, error))?;
        Ok((file, name))
    }

    /// Gives an unnamed file a name. Returns false if the name is taken.
    pub(crate) fn link(&self, file: &File, name: &OsStr) -> Result<bool> {
        match self.0.0.link(file, name) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(self.0.error(name, error)),
        }
    }

    /// Gives an unnamed file a name that another file has now.
    pub(crate) fn replace(&self, file: &File, name: &OsStr) -> Result<()> {
        let temporary = temporary_name()?;
        if !self.link(file, &temporary)? {
            return Err(self.0.error(&temporary, ErrorKind::AlreadyExists.into()));
        }
        self.rename(&temporary, name)
    }

    /// Renames a temporary file to a name that another file may have now.
    pub(crate) fn rename(&self, temporary: &OsStr, name: &OsStr) -> Result<()> {
        self.0.0.rename(temporary, name).map_err(|error| self.0.error(name, error))
    }

    /// Removes a name, if it exists.
    pub(crate) fn unlink(&self, name: &OsStr) -> Result<()> {
        self.0.unlink(name)
    }

    /// Removes the temporary files of processes that died. The caller holds the lock, so none of them is in
    /// use.
    pub(crate) fn sweep(&self) -> Result<()> {
        for name in self.0.names()? {
            if is_temporary(&name) {
                self.unlink(&name)?;
            }
        }
        Ok(())
    }
}

impl Drop for DirectoryLock<'_> {
    fn drop(&mut self) {
        // Unlocked explicitly, as a child that was forked meanwhile shares the lock and would keep it.
        self.0.0.unlock();
    }
}

/// Whether a lock is not free, or the attempt to acquire it was interrupted.
pub(crate) fn is_not_free(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Whether a name is a temporary one.
pub(crate) fn is_temporary(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes())
}

/// A temporary name that no file has.
pub(crate) fn temporary_name() -> Result<OsString> {
    Ok(format!("{TEMPORARY}{:016x}", random()?).into())
}

/// A random number.
pub(crate) fn random() -> Result<u64> {
    getrandom::u64().map_err(|_| Error::Unsupported("the system has no random numbers"))
}
