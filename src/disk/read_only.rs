//! Directories that cannot be written, because permission is missing or their file system is mounted
//! read-only.
//!
//! SQLite reads such a database by itself in most cases: always with a rollback journal, and with a log if
//! the index of the log exists. Without a log its index is missing as well, and cannot be made. Then the
//! database is opened as one that nobody changes (`immutable`), and this module finds out whether somebody
//! has changed it: each read checks the file before and afterwards.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::connection::PooledConnection;
use crate::error::{Error, Result};
use crate::store::DiskStore;
use crate::unchanged::Unchanged;

/// Whether this process can write the directory of a database, and the database itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// It can write both.
    Write,
    /// It can write only the directory, so that SQLite can make files beside the database.
    ReadBesideWrite,
    /// It can write neither.
    Read,
}

impl Access {
    pub(crate) fn of(directory: &Path, database: &Path) -> Self {
        if !system::can_write(directory) {
            Self::Read
        } else if !system::can_write(database) {
            Self::ReadBesideWrite
        } else {
            Self::Write
        }
    }
}

#[cfg(unix)]
mod system {
    use std::io;
    use std::path::Path;

    use rustix::fs::{Access, AtFlags, CWD, accessat};
    use rustix::io::Errno;

    /// A file that is not there can be written.
    pub(super) fn can_write(path: &Path) -> bool {
        let is_refused = |error| matches!(error, Errno::ACCESS | Errno::PERM | Errno::ROFS);
        !accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_err_and(is_refused)
    }

    /// The error for a file that must not be read. A file that is not there has none.
    pub(super) fn refusal_to_read(path: &Path) -> Option<io::Error> {
        let refused = accessat(CWD, path, Access::READ_OK, AtFlags::EACCESS).err()?;
        (refused == Errno::ACCESS).then(|| refused.into())
    }
}

#[cfg(not(unix))]
mod system {
    use std::io;
    use std::path::Path;

    /// A file that is not there can be written.
    pub(super) fn can_write(path: &Path) -> bool {
        !path.metadata().is_ok_and(|data| data.permissions().readonly() && data.is_file())
    }

    pub(super) fn refusal_to_read(_: &Path) -> Option<io::Error> {
        None
    }
}

/// The meaning of the numbers in `DiskStore::access`.
pub(crate) const ACCESS: [Access; 3] = [Access::Write, Access::ReadBesideWrite, Access::Read];

/// The value of `DiskStore::access` before the first check.
pub(crate) const UNKNOWN: u8 = u8::MAX;

/// The error for a database that could not be opened. SQLite does not say that a file of it must not be read.
pub(crate) fn not_opened(database: &Path, error: Error) -> Error {
    if !error.needs_to_write() {
        return error;
    }
    let files = ["", "-wal", "-shm"].map(|end| {
        let mut path = database.as_os_str().to_owned();
        path.push(end);
        PathBuf::from(path)
    });
    let refused = |path: PathBuf| system::refusal_to_read(&path).map(|source| Error::File { path, source });
    files.into_iter().find_map(refused).unwrap_or(error)
}

/// Opens a database that cannot be written.
///
/// # Errors
///
/// [`Error::ReadOnly`] if there is no database, or a log that cannot be read.
pub(crate) fn open<C: Default>(
    directory: &Path,
    database: &Path,
    access: Access,
) -> Result<PooledConnection<C>> {
    if !database.try_exists().map_err(|error| Error::file(database, error))? {
        return Err(Error::ReadOnly { directory: directory.to_owned(), why: " and has no cache in it" });
    }
    let connection = PooledConnection::open_existing(database)?;
    let failed = match connection.query_row("SELECT COUNT(*) FROM sqlite_master", [], |_| Ok(())) {
        Ok(()) => return Ok(connection),
        Err(error) => Error::from(error),
    };
    if access != Access::Read || !failed.needs_to_write() {
        return Err(failed);
    }
    drop(connection);
    if let Some(unchanged) = Unchanged::now(database) {
        return PooledConnection::open_unchanged(database, unchanged);
    }
    Err(match not_opened(database, failed) {
        refused @ Error::File { .. } => refused,
        _ => Error::ReadOnly {
            directory: directory.to_owned(),
            why: " and not be read without: its log cache.db-wal was not written back, and the file cache.db-shm that \
                  this takes is missing. Open the cache once where it can be written",
        },
    })
}

impl DiskStore {
    /// How this process may access the directory.
    pub(crate) fn access(&self) -> Access {
        match ACCESS.get(usize::from(self.access.load(Ordering::Relaxed))) {
            Some(access) => *access,
            None => self.look_at_access(),
        }
    }

    fn look_at_access(&self) -> Access {
        let access = Access::of(&self.directory, &self.database);
        let number = ACCESS.iter().position(|other| *other == access);
        let number = number.and_then(|number| u8::try_from(number).ok()).unwrap_or(UNKNOWN);
        if ACCESS
            .get(usize::from(self.access.swap(number, Ordering::Relaxed)))
            .is_some_and(|known| *known != access)
        {
            // Open connections were opened for the other kind of access.
            self.stop_watching();
            self.pool.close();
        }
        access
    }

    /// Whether the directory could be read but not written at the last check. The store checks when it is
    /// opened, and when a write fails.
    #[inline]
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.access() != Access::Write
    }

    /// Checks whether the directory can be written.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`].
    pub fn require_writable(&self) -> Result<()> {
        if self.is_read_only() && self.look_at_access() != Access::Write {
            return Err(self.refused());
        }
        Ok(())
    }

    /// Checks again whether the directory can be written, after SQLite could not.
    pub(crate) fn explained(&self, error: Error) -> Error {
        if error.needs_to_write() && self.look_at_access() != Access::Write {
            return self.refused();
        }
        error
    }

    /// The error for a write to a directory that cannot be written.
    fn refused(&self) -> Error {
        let why = match self.access() {
            Access::ReadBesideWrite => ": its file cache.db cannot be written",
            _ => "",
        };
        Error::ReadOnly { directory: self.directory.clone(), why }
    }
}
