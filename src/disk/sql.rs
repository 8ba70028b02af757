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
/// itself. Passes how long the attempt may wait.
pub(crate) fn retry_while_busy<R>(
    patience: Duration,
    mut attempt: impl FnMut(Duration) -> Result<R>,
) -> Result<R> {
    let begin = Instant::now();
    loop {
        let left = patience.saturating_sub(begin.elapsed());
        match attempt(left) {
            Err(Error::Busy | Error::NoLock(_)) if begin.elapsed() < patience => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
}

/// As [`retry_while_busy`], for the calls that open a directory. They also tell a file system that could not lock
/// from other processes that have the database locked, which SQLite does not.
pub(crate) fn retry_to_open<R>(patience: Duration, attempt: impl FnMut(Duration) -> Result<R>) -> Result<R> {
    match retry_while_busy(patience, attempt) {
        Err(Error::Busy) => Err(Error::busy_while_opening()),
        done => done,
    }
}

/// Rolls back the open transaction, unless SQLite has done so itself.
pub(crate) fn roll_back(connection: &Connection) {
    if !connection.is_autocommit() {
        // If this fails, the pool closes the connection.
        let _ = connection.execute_batch("ROLLBACK");
    }
}
