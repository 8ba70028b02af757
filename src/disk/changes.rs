//! What a transaction has changed besides its rows: files and counters.
//!
//! Counters are kept by triggers for whoever writes to the database. Here triggers are off, and
//! each transaction adds up what it has changed: a hundred writes change a counter once, and a
//! write that leaves them as they were spares a page of the log.

use rusqlite::Connection;

use crate::error::Result;
use crate::pool::Link;
use crate::version::{Header, Version};

/// Files and counters that change with a transaction.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// To be removed once the transaction has held.
    pub(crate) dead: Vec<String>,
    /// To be removed if it does not.
    pub(crate) born: Vec<String>,
    count: i64,
    size: i64,
    /// The database's version when the transaction began, where it shows: nobody else changes it until it ends.
    pub(crate) version: Option<Version>,
    /// Rows that the connection had changed when the transaction began.
    before: u64,
}

impl Changes {
    /// For a transaction that has just begun.
    pub(crate) fn of(connection: &Link) -> Self {
        let version = connection.header().map(Header::version);
        Self { version, before: connection.total_changes(), ..Self::default() }
    }

    /// After the transaction has ended: the version that it has left, unless somebody else has written as well.
    pub(crate) fn version_left(&self, connection: &Link) -> Option<Version> {
        let (before, after) = (self.version?, connection.header()?.version());
        let has_written = connection.total_changes() != self.before;
        let is_ours = if has_written { after.is_next_after(before) } else { after == before };
        is_ours.then_some(after)
    }

    /// A row has come.
    pub(crate) fn inserted(&mut self, size: i64) {
        self.count += 1;
        self.size += size;
    }

    /// A row has gone, and its file is to go.
    pub(crate) fn deleted(&mut self, size: i64, filename: Option<String>) {
        self.taken(size);
        self.dead.extend(filename);
    }

    /// A row has gone, and its file stays.
    pub(crate) fn taken(&mut self, size: i64) {
        self.count -= 1;
        self.size -= size;
    }

    /// A row's file has another size.
    pub(crate) fn resized(&mut self, from: i64, to: i64) {
        self.size += to - from;
    }

    /// What the counter `size` will be off by, until it is written.
    pub(crate) fn pending_size(&self) -> i64 {
        self.size
    }

    /// Writes the counters: before they are read, and before the transaction ends.
    pub(crate) fn count(&mut self, connection: &Connection) -> Result<()> {
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
