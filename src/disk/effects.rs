//! What a transaction changes besides the rows: files and counters.
//!
//! In other writers of the format, triggers keep the counters. This crate switches the triggers off
//! for its own connections, and each transaction adds up its changes instead: a hundred writes update
//! a counter once, and a write that leaves the counters as they were saves a page of the log.

use rusqlite::Connection;

use crate::connection::PooledConnection;
use crate::error::Result;
use crate::leases::Voided;
use crate::stripes::WrittenStripes;
use crate::version::{Version, pages_written};

/// The files and counters that change with a transaction.
#[derive(Debug, Default)]
pub(crate) struct TransactionEffects {
    /// Files to remove after the transaction has committed.
    pub(crate) old_files: Vec<String>,
    /// Files to remove if the transaction is rolled back.
    pub(crate) new_files: Vec<String>,
    count: i64,
    size: i64,
    /// The database's version when the transaction began. No other writer changes it before the transaction ends.
    pub(crate) version: Option<Version>,
    /// The keys whose entries are no longer what they were.
    pub(crate) written: WrittenStripes,
    /// The leases that are void when it commits.
    pub(crate) voided: Voided,
    /// Whether the commit failed in such a way that nobody knows whether it happened.
    pub(crate) is_in_doubt: bool,
    /// The number of pages that the connection had written when the transaction began.
    pages_before: i32,
}

impl TransactionEffects {
    /// The effects of a transaction that has just begun: none.
    pub(crate) fn of<C>(connection: &PooledConnection<C>) -> Self {
        Self { version: connection.version(), pages_before: pages_written(connection), ..Self::default() }
    }

    /// Whether the connection has written pages since the transaction began. Rows that were changed do not prove it.
    pub(crate) fn has_written_pages(&self, connection: &Connection) -> bool {
        pages_written(connection) != self.pages_before
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
