//! Writing the log back to the database, at a time when no other writer waits for it.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use rusqlite::Connection;

use crate::patience::Patience;

/// The log is written back whenever it has grown by this many pages, which is SQLite's own number.
const LONG_LOG: i32 = 1000;

/// The log should not grow longer than this many pages.
const VERY_LONG_LOG: i32 = 4 * LONG_LOG;

/// How long to wait for readers while no other writer may write.
const PATIENCE_TO_FINISH_LOG: Duration = Duration::from_millis(100);

/// What is known of the log.
#[derive(Default)]
pub(crate) struct LogUpkeep {
    /// Its length in pages when it was last written back.
    pages: AtomicI32,
    /// Whether all of it has been written back, but for what was added during and after that.
    is_nearly_written_back: AtomicBool,
}

impl LogUpkeep {
    /// Runs after a transaction that left a log of `pages` pages, while its writer still has the turn.
    ///
    /// SQLite begins the log anew only when a transaction finds all of it written back, and where many write that does
    /// not happen by itself. So if the log has become very long, what was added since it was last written back is
    /// written back now, before another writer can add to it.
    pub(crate) fn before_turn_ends(&self, connection: &Connection, pages: i32) {
        if pages >= VERY_LONG_LOG && self.is_nearly_written_back.swap(false, Ordering::Relaxed) {
            let _patience = Patience::of(PATIENCE_TO_FINISH_LOG);
            write_back(connection, "PRAGMA wal_checkpoint(FULL)");
        }
    }

    /// Runs after the turn has ended. No other writer waits for it.
    pub(crate) fn after_turn(&self, connection: &Connection, pages: i32) {
        if self.has_grown_to(pages) {
            write_back(connection, "PRAGMA wal_checkpoint(PASSIVE)");
            self.is_nearly_written_back.store(pages >= VERY_LONG_LOG, Ordering::Relaxed);
        }
    }

    /// Whether it is time to write the log back, after a transaction that left `pages` pages, or 0 if it added nothing.
    fn has_grown_to(&self, pages: i32) -> bool {
        if pages == 0 {
            return false;
        }
        let last = self.pages.load(Ordering::Relaxed);
        // A shorter log has been begun anew.
        let last = if pages < last { 0 } else { last };
        let is_time = pages - last >= LONG_LOG;
        self.pages.store(if is_time { pages } else { last }, Ordering::Relaxed);
        is_time
    }
}

fn write_back(connection: &Connection, how: &str) {
    let done = connection.query_row(how, [], |_| Ok(()));
    // What fails is tried again when the log has grown.
    drop(done);
}
