//! What a transaction changes besides the rows: files and counters.
//!
//! In other writers of the format, triggers keep the counters. This crate switches the triggers off
//! for its own connections, and each transaction adds up its changes instead: a hundred writes update
//! a counter once, and a write that leaves the counters as they were saves a page of the log.

use rusqlite::Connection;

use crate::error::Result;
use crate::pool::PooledConnection;
use crate::version::{Header, Version};

/// The files and counters that change with a transaction.
#[derive(Debug, Default)]
pub(crate) struct TransactionEffects {
    /// Files to remove after the transaction has committed.
    pub(crate) old_files: Vec<String>,
    /// Files to remove if the transaction is rolled back.
    pub(crate) new_files: Vec<String>,
    count: i64,
    size: i64,
    /// The database's version when the transaction began, or `None` without a shared log. No other writer
    /// changes it before the transaction ends.
    pub(crate) version: Option<Version>,
    /// The connection's total of changed rows when the transaction began.
    rows_before: u64,
}

impl TransactionEffects {
    /// The effects of a transaction that has just begun: none.
    pub(crate) fn of(connection: &PooledConnection) -> Self {
        let version = connection.header().map(Header::version);
        Self { version, rows_before: connection.total_changes(), ..Self::default() }
    }

    /// After the transaction has ended: the version that it left, or `None` if another writer has written as well.
    pub(crate) fn version_left(&self, connection: &PooledConnection) -> Option<Version> {
        let (before, after) = (self.version?, connection.header()?.version());
        let has_written = connection.total_changes() != self.rows_before;
        let is_ours = if has_written { after.is_next_after(before) } else { after == before };
        is_ours.then_some(after)
    }

    /// Counts a row that was inserted.
    pub(crate) fn inserted(&mut self, size: i64) {
        self.count += 1;
        self.size += size;
    }

    /// Counts a row that was deleted, whose file is to be removed.
    pub(crate) fn deleted(&mut self, size: i64, filename: Option<String>) {
        self.taken(size);
        self.old_files.extend(filename);
    }

    /// Counts a row that was deleted, whose file stays.
    pub(crate) fn taken(&mut self, size: i64) {
        self.count -= 1;
        self.size -= size;
    }

    /// Counts a row whose file has another size now.
    pub(crate) fn resized(&mut self, from: i64, to: i64) {
        self.size += to - from;
    }

    /// The change of the counter `size` that has not been written yet.
    pub(crate) fn pending_size(&self) -> i64 {
        self.size
    }

    /// Writes the counters. Runs before they are read, and before the transaction commits.
    pub(crate) fn write_counters(&mut self, connection: &Connection) -> Result<()> {
        for (name, change) in [("count", &mut self.count), ("size", &mut self.size)] {
            if *change != 0 {
                let mut update =
                    connection.prepare_cached("UPDATE Settings SET value = value + ?1 WHERE key = ?2")?;
                update.execute((*change, name))?;
                *change = 0;
            }
        }
        Ok(())
    }
}
