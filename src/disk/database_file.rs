//! The file that the path of a database leads to, which somebody may delete or replace.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::sqlite_guard::{File, NO_FILE, identity, is_gone};

/// For how many milliseconds it is not looked at again.
const RELOOK: u64 = 1000;

/// The file of a database, as it was when it was last looked at.
#[derive(Debug)]
pub(crate) struct DatabaseFile {
    made: Instant,
    /// Milliseconds from then to the last look.
    looked: AtomicU64,
    /// None before the first connection, which creates it.
    file: Mutex<Option<File>>,
}

impl Default for DatabaseFile {
    fn default() -> Self {
        Self { made: Instant::now(), looked: AtomicU64::new(0), file: Mutex::default() }
    }
}

impl DatabaseFile {
    /// Notes the file of a connection that was opened.
    pub(crate) fn opened(&self, file: Option<File>) {
        if let Some(file) = file {
            self.file.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(file);
        }
    }

    /// The file that the path leads to, if it is another one than before: a backup for instance, or [`NO_FILE`] where it
    /// was deleted. What was read from the one before is not current, and nobody would find what is written to it. Looks
    /// at most once in `RELOOK`.
    pub(crate) fn another(&self, path: &Path) -> Option<File> {
        let now = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = self.looked.load(Ordering::Relaxed);
        if now.saturating_sub(last) < RELOOK
            || self.looked.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return None;
        }
        let mut known = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match identity(path) {
            Some(file) => file,
            // The next connection says that it is not there any more.
            None if known.is_some() && is_gone(path) => NO_FILE,
            None => return None,
        };
        known.replace(file).filter(|known| *known != file).map(|_| file)
    }
}
