//! A directory and the files in it. They belong to whom the system's access control lists say.
//!
//! A file that is open or mapped can be renamed, but a mapped one cannot be removed. So a file that must leave its name gets a
//! temporary one, under which it is removed now or, by the next process that locks the directory, later.

#![expect(unsafe_code, reason = "it asks the system")]

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::windows::ffi::OsStrExt;
use std::os::windows::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr;
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_LOCK_VIOLATION, ERROR_SHARING_VIOLATION};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_ATTRIBUTE_DIRECTORY, FILE_ATTRIBUTE_REPARSE_POINT, FILE_FLAG_BACKUP_SEMANTICS,
    FILE_FLAG_OPEN_REPARSE_POINT, FILE_SHARE_READ, FILE_SHARE_WRITE, GetDiskFreeSpaceExW,
};

use super::files::{filesystem_name, is_remote, lock_exclusively, status_of, unlock};
use crate::directory::{is_temporary, temporary_name};
use crate::error::{Error, Result};
use crate::system::{Filesystem, Status};

/// The file whose lock is the directory's.
const LOCK: &str = ".flexcache-lock";

/// A path, ended by a zero.
fn wide(path: &Path) -> Vec<u16> {
    path.as_os_str().encode_wide().chain([0]).collect()
}

/// Repeats a call for a second, as long as another program has the file open in a way that does not allow it. Scanners and
/// backups do that for a moment.
fn patiently(mut call: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    const IN_USE: [u32; 3] = [ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION];
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        match call() {
            Err(error)
                if error.raw_os_error().is_some_and(|code| IN_USE.contains(&code.cast_unsigned()))
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            done => return done,
        }
    }
}

/// A directory.
pub(crate) struct OpenDirectory {
    path: PathBuf,
    lock: File,
}

impl OpenDirectory {
    /// Opens a directory, and creates it if it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let attributes = || fs::symlink_metadata(path).map(|found| found.file_attributes());
        let attributes = match (fs::create_dir(path), attributes()) {
            (_, Ok(attributes)) => attributes,
            // What is missing is the directory above.
            (Err(error), _) if error.kind() == ErrorKind::NotFound => {
                return Err(Error::file(path.parent().unwrap_or(path), error));
            }
            (Err(error), _) | (Ok(()), Err(error)) => return Err(Error::file(path, error)),
        };
        if attributes & (FILE_ATTRIBUTE_DIRECTORY | FILE_ATTRIBUTE_REPARSE_POINT) != FILE_ATTRIBUTE_DIRECTORY
        {
            return Err(Error::NotOurs {
                path: path.to_owned(),
                what: "it is not a directory, or a link to one".into(),
            });
        }
        let lock = path.join(LOCK);
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // Nobody may remove it: others would lock another one.
            .share_mode(FILE_SHARE_READ | FILE_SHARE_WRITE)
            .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT)
            .open(&lock)
            .map_err(|error| Error::file(&lock, error))?;
        Ok(Self { path: path.to_owned(), lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn filesystem(&self) -> io::Result<Filesystem> {
        if is_remote(&self.lock) {
            return Ok(Filesystem::Network);
        }
        let has_identities = !filesystem_name(&self.lock)?.to_ascii_uppercase().contains("FAT");
        Ok(if has_identities { Filesystem::Other } else { Filesystem::WithoutIdentities })
    }

    /// The bytes that are free in the file system.
    pub(crate) fn free(&self) -> u64 {
        let (path, mut free) = (wide(&self.path), 0);
        // SAFETY: the path ends with zero, and one number is stored.
        let code =
            unsafe { GetDiskFreeSpaceExW(path.as_ptr(), &raw mut free, ptr::null_mut(), ptr::null_mut()) };
        if code == 0 { u64::MAX } else { free }
    }

    /// The same as [`open_file`](Self::open_file), as there are no owners to check.
    pub(crate) fn open_whatever(&self, name: &OsStr) -> Result<Option<(File, Status)>> {
        self.open_file(name)
    }

    /// Opens a file in the directory; `None` if it does not exist.
    pub(crate) fn open_file(&self, name: &OsStr) -> Result<Option<(File, Status)>> {
        let path = self.path.join(name);
        let not_ours = |what: &str| Err(Error::NotOurs { path: path.clone(), what: what.into() });
        let file =
            OpenOptions::new().read(true).write(true).custom_flags(FILE_FLAG_OPEN_REPARSE_POINT).open(&path);
        let file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(_) if path.is_dir() => return not_ours("it is no regular file but a Directory"),
            Err(error) => return Err(Error::file(&path, error)),
        };
        let found = file.metadata().and_then(|found| Ok((found.file_attributes(), status_of(&file)?)));
        let (attributes, status) = found.map_err(|error| Error::file(&path, error))?;
        if attributes & FILE_ATTRIBUTE_REPARSE_POINT != 0 {
            return not_ours("it is no regular file but a Symlink");
        }
        Ok(Some((file, status)))
    }

    /// The status of a name, without following a link.
    pub(crate) fn status(&self, name: &OsStr) -> io::Result<Option<Status>> {
        let opened = OpenOptions::new()
            .access_mode(0)
            .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT | FILE_FLAG_BACKUP_SEMANTICS)
            .open(self.path.join(name));
        match opened {
            Ok(file) => status_of(&file).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// There are no unnamed files.
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "other systems have them")]
    pub(crate) fn unnamed_file(&self) -> io::Result<Option<File>> {
        Ok(None)
    }

    /// Never called, as there are no unnamed files.
    #[expect(clippy::unused_self, reason = "other systems have them")]
    pub(crate) fn link(&self, _file: &File, _name: &OsStr) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    /// Creates a file.
    pub(crate) fn create(&self, name: &OsStr) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(self.path.join(name))
    }

    /// Renames a file to a name that another one may have, which loses it first. The directory is locked. If this process
    /// dies in between, no file has the name.
    pub(crate) fn rename(&self, name: &OsStr, to: &OsStr) -> io::Result<()> {
        match self.unlink(to) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        patiently(|| fs::rename(self.path.join(name), self.path.join(to)))
    }

    /// Removes a name. A process that has the file open or mapped keeps it.
    pub(crate) fn unlink(&self, name: &OsStr) -> io::Result<()> {
        let path = self.path.join(name);
        if is_temporary(name) {
            // If the file is mapped, it is left to a later call.
            let _ = fs::remove_file(path);
            return Ok(());
        }
        let temporary = temporary_name().map_err(io::Error::other)?;
        patiently(|| fs::rename(&path, self.path.join(&temporary)))?;
        self.unlink(&temporary)
    }

    /// The names in the directory.
    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        fs::read_dir(&self.path)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
    }

    /// Locks the directory. The error is of the kind `WouldBlock` if it is locked.
    pub(crate) fn try_lock(&self) -> io::Result<()> {
        lock_exclusively(&self.lock)
    }

    pub(crate) fn unlock(&self) {
        unlock(&self.lock);
    }
}
