//! What a transaction has changed besides its rows: files and counters.
//!
//! Counters are kept by triggers for whoever writes to the database. Here triggers are off, and
//! each transaction adds up what it has changed: a hundred writes change a counter once, and a
//! write that leaves them as they were spares a page of the log.

use rusqlite::Connection;

use crate::error::Result;

/// Files and counters that change with a transaction.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// To be removed once the transaction has held.
    pub(crate) dead: Vec<String>,
    /// To be removed if it does not.
    pub(crate) born: Vec<String>,
    count: i64,
    size: i64,
}

impl Changes {
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
