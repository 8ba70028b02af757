//! Keeps two copies of SQLite in one process from opening the same database.
//!
//! POSIX record locks belong to the process. Two copies of SQLite in one process therefore do not exclude
//! each other, and each loses its locks when the other closes a file descriptor. So only one copy may have
//! a database open. This module finds another copy's descriptors before it opens a database, and
//! [`is_open_here`] tells other code which databases this copy has open.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// Device and inode, which identify a file under any of its names.
pub(crate) type File = (u64, u64);

/// An identity that no file has, as inodes begin with 1.
pub(crate) const NO_FILE: File = (0, 0);

/// The number of open connections of this library, by database.
static OPEN: LazyLock<Mutex<HashMap<File, usize>>> = LazyLock::new(Mutex::default);

fn open() -> MutexGuard<'static, HashMap<File, usize>> {
    // Nothing inside can panic half-way.
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(unix)]
pub(crate) fn identity(path: &Path) -> Option<File> {
    use std::os::unix::fs::MetadataExt;

    fs::metadata(path).ok().map(|data| (data.dev(), data.ino()))
}

/// Whether a path that had an identity leads nowhere now: somebody has deleted the file or a directory above it.
pub(crate) fn is_gone(path: &Path) -> bool {
    cfg!(unix) && fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

#[cfg(not(unix))]
pub(crate) fn identity(_path: &Path) -> Option<File> {
    // Elsewhere locks belong to the open file.
    None
}

/// Counts one connection as open for as long as it lives.
#[derive(Debug)]
pub(crate) struct Claim(Option<File>);

impl Claim {
    /// Registers a connection. Make it before the connection is opened, and drop it after the connection is closed.
    ///
    /// # Errors
    ///
    /// [`Error::OpenedByAnother`].
    pub(crate) fn on(database: &Path) -> Result<Self> {
        // A file that does not exist has no identity, so it is created here. If that fails, SQLite reports
        // it.
        Self::on_file(database, || {
            identity(database).or_else(|| {
                fs::OpenOptions::new().create(true).append(true).open(database).ok()?;
                identity(database)
            })
        })
    }

    /// The same for a database that exists.
    pub(crate) fn on_existing(database: &Path) -> Result<Self> {
        Self::on_file(database, || identity(database))
    }

    fn on_file(database: &Path, find: impl FnOnce() -> Option<File>) -> Result<Self> {
        let mut open = open();
        let file = find();
        let Some(file) = file else { return Ok(Self(None)) };
        let count = open.get(&file).copied().unwrap_or(0);
        if count == 0 && has_descriptor(file) {
            return Err(Error::OpenedByAnother(database.to_owned()));
        }
        open.insert(file, count + 1);
        Ok(Self(Some(file)))
    }
}

impl Claim {
    /// The file that is open.
    pub(crate) fn file(&self) -> Option<File> {
        self.0
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Some(file) = self.0 else { return };
        let mut open = open();
        match open.get_mut(&file) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.remove(&file)),
        }
    }
}

/// Whether this process has a descriptor of the file.
fn has_descriptor(file: File) -> bool {
    // Linux has the first of these directories, macOS the second.
    let descriptors = fs::read_dir("/proc/self/fd").or_else(|_| fs::read_dir("/dev/fd"));
    descriptors.is_ok_and(|descriptors| {
        descriptors.flatten().any(|descriptor| identity(&descriptor.path()) == Some(file))
    })
}

/// Whether this library has a database open in this process, so that no other library may open it.
#[must_use]
pub fn is_open_here(database: &Path) -> bool {
    identity(database).is_some_and(|file| open().contains_key(&file))
}

/// Forgets all connections. Runs in a forked child, where the parent's connections are not open.
pub(crate) fn forget_all() {
    if let Ok(mut open) = OPEN.try_lock() {
        open.clear();
    }
}
