//! Helpers for a connection which do not depend on its tables.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::error::{Error, Result};

/// The pause between two attempts when SQLite does not wait by itself.
const PAUSE: Duration = Duration::from_millis(1);

/// Runs a statement that is kept compiled.
pub(crate) fn execute(connection: &Connection, sql: &str) -> Result<()> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

/// Repeats `attempt` while others have the database locked, for calls in which SQLite does not always wait by
/// itself.
pub(crate) fn retry_while_busy<R>(patience: Duration, mut attempt: impl FnMut() -> Result<R>) -> Result<R> {
    let deadline = Instant::now() + patience;
    loop {
        match attempt() {
            Err(Error::Busy | Error::NoLock(_)) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
}

/// Rolls back the open transaction, unless SQLite has done so itself.
pub(crate) fn roll_back(connection: &Connection) {
    if !connection.is_autocommit() {
        // If this fails, the pool closes the connection.
        let _ = connection.execute_batch("ROLLBACK");
    }
}
