//! The changes of a transaction besides its rows: files and counters.
//!
//! In other writers of the format, triggers keep the counters. This crate switches the triggers off for its
//! own connections; each transaction adds up its changes instead. So a hundred writes update a counter once,
//! and a write that does not change the counters saves a page of the log.

use rusqlite::Connection;

use crate::sql::{execute, roll_back};

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
    /// Files of values that a block of several writes has stored: removed if it is rolled back. In a transaction of one
    /// write the caller owns the file of the value until the commit.
    pub(crate) new_files: Vec<String>,
    /// Whether this is the transaction of a block. In a block, a write that fails is undone alone.
    is_block: bool,
    /// Whether the write in progress has a savepoint.
    has_savepoint: bool,
    /// Whether entries were removed to make room, or many at once.
    pub(crate) has_removed_many: bool,
    count: i64,
    /// Saturates, because any program may have written any size into a row.
    size: i64,
    /// The database's version when the transaction began. No other writer changes it before the transaction ends.
    pub(crate) version: Option<Version>,
    /// The stripes of the keys that were written.
    pub(crate) written: WrittenStripes,
    /// The leases that become void when the transaction commits.
    pub(crate) voided: Voided,
    /// The number of pages that the connection had written when the transaction began.
    pages_before: i32,
}

impl TransactionEffects {
    /// The effects of a transaction that has just begun: none.
    pub(crate) fn of<C>(connection: &PooledConnection<C>) -> Self {
        Self { version: connection.version(), pages_before: pages_written(connection), ..Self::default() }
    }

    /// Marks the transaction as that of a block of several writes.
    pub(crate) fn of_block(self) -> Self {
        Self { is_block: true, ..self }
    }

    /// Prepares a write that makes more than one change. SQLite undoes a single statement that fails, and a
    /// transaction of one write is rolled back. But in a block such a write needs a savepoint, which costs
    /// time that most writes need not spend.
    pub(crate) fn several(&mut self, connection: &Connection) -> Result<()> {
        if self.is_block && !self.has_savepoint {
            execute(connection, "SAVEPOINT one_write")?;
            self.has_savepoint = true;
        }
        Ok(())
    }

    /// Runs a write of a block: all of it happens, or nothing.
    pub(crate) fn whole<R>(
        &mut self,
        connection: &Connection,
        write: impl FnOnce(&mut Self) -> Result<R>,
    ) -> Result<R> {
        let (old, new) = (self.old_files.len(), self.new_files.len());
        let (count, size) = (self.count, self.size);
        let done = write(self).and_then(|result| {
            if self.has_savepoint {
                execute(connection, "RELEASE one_write")?;
            }
            Ok(result)
        });
        if done.is_err() {
            if self.has_savepoint && !connection.is_autocommit() {
                let undone = execute(connection, "ROLLBACK TO one_write")
                    .and_then(|()| execute(connection, "RELEASE one_write"));
                if undone.is_err() {
                    // It is better to lose the whole block than to store a part of a write.
                    roll_back(connection);
                }
            }
            self.old_files.truncate(old);
            self.new_files.truncate(new);
            (self.count, self.size) = (count, size);
        }
        self.has_savepoint = false;
        done
    }

    /// Takes note of the file of a value whose row has been written.
    pub(crate) fn stored(&mut self, filename: Option<&str>) {
        self.new_files.extend(filename.map(str::to_owned));
    }

    /// Takes note of the file of a value that is not stored. It is not needed, whether the transaction
    /// commits or not.
    pub(crate) fn refused(&mut self, filename: Option<&str>) {
        self.old_files.extend(filename.map(str::to_owned));
        self.stored(filename);
    }

    /// Whether the connection has written pages since the transaction began. Rows that were changed do not prove it.
    pub(crate) fn has_written_pages(&self, connection: &Connection) -> bool {
        pages_written(connection) != self.pages_before
    }

    /// Counts a row that was inserted.
    pub(crate) fn inserted(&mut self, size: i64) {
        self.count += 1;
        self.size = self.size.saturating_add(size);
    }

    /// Counts a row that was deleted, whose file is to be removed.
    pub(crate) fn deleted(&mut self, size: i64, filename: Option<String>) {
        self.taken(size);
        self.old_files.extend(filename);
    }

    /// Counts a row that was deleted, whose file stays.
    pub(crate) fn taken(&mut self, size: i64) {
        self.count -= 1;
        self.size = self.size.saturating_sub(size);
    }

    /// Counts a row whose file has another size now.
    pub(crate) fn resized(&mut self, from: i64, to: i64) {
        self.size = self.size.saturating_add(to.saturating_sub(from));
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
