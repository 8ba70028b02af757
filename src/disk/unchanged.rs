//! The file of a database that is opened without locks, because nobody changes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The identity of the file of such a database when it was opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unchanged {
    database: PathBuf,
    length: u64,
    modified: Option<SystemTime>,
}

/// Whether there is a log, which holds commits that are not in the database file yet. A writer has one from
/// its first write on.
fn has_log(database: &Path) -> bool {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    fs::metadata(PathBuf::from(log)).is_ok_and(|data| data.len() > 0)
}

impl Unchanged {
    /// `None` if there is a log, or no database.
    pub(crate) fn now(database: &Path) -> Option<Self> {
        if has_log(database) {
            return None;
        }
        let data = fs::metadata(database).ok()?;
        Some(Self { database: database.to_owned(), length: data.len(), modified: data.modified().ok() })
    }

    /// Whether somebody has written since.
    pub(crate) fn is_over(&self) -> bool {
        Self::now(&self.database).as_ref() != Some(self)
    }
}
