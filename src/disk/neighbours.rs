//! Whether another SQLite library in this process has a database open.
//!
//! Record locks belong to the process: two copies of SQLite in one process do not exclude each
//! other, and each loses its locks when the other closes a descriptor. So before this process
//! opens a database for the first time, its descriptors are looked through.

use std::path::Path;

use crate::error::Result;

#[cfg(target_os = "linux")]
mod seen {
    use std::collections::HashSet;
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;
    use std::sync::{LazyLock, Mutex, PoisonError};

    use crate::error::{Error, Result};

    type File = (u64, u64);

    /// Databases that this library has opened here before: of these the descriptors may be ours.
    static OURS: LazyLock<Mutex<HashSet<File>>> = LazyLock::new(Mutex::default);

    fn identity(path: &Path) -> Option<File> {
        fs::metadata(path).ok().map(|data| (data.dev(), data.ino()))
    }

    pub(super) fn refuse(database: &Path) -> Result<()> {
        let Some(file) = identity(database) else { return Ok(()) };
        let mut ours = OURS.lock().unwrap_or_else(PoisonError::into_inner);
        if ours.contains(&file) {
            return Ok(());
        }
        if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
            let mut open = descriptors.flatten().map(|descriptor| identity(&descriptor.path()));
            if open.any(|other| other == Some(file)) {
                return Err(Error::OpenedByAnother(database.to_owned()));
            }
        }
        ours.insert(file);
        Ok(())
    }

    pub(super) fn claim(database: &Path) {
        if let Some(file) = identity(database) {
            OURS.lock().unwrap_or_else(PoisonError::into_inner).insert(file);
        }
    }
}

/// Fails where another library has the database open; to be asked before it is opened here.
pub(crate) fn refuse(database: &Path) -> Result<()> {
    #[cfg(target_os = "linux")]
    seen::refuse(database)?;
    #[cfg(not(target_os = "linux"))]
    let _ = database;
    Ok(())
}

/// Remembers a database that was made here.
pub(crate) fn claim(database: &Path) {
    #[cfg(target_os = "linux")]
    seen::claim(database);
    #[cfg(not(target_os = "linux"))]
    let _ = database;
}
