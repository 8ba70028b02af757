//! Numbers of a directory: entries, volume, hits and misses.

use std::time::Duration;

use rusqlite::Connection;
use rusqlite::types::Value;

use crate::effects::TransactionEffects;
use crate::error::Result;
use crate::settings::setting;
use crate::sql::execute;
use crate::store::DiskStore;

/// A count below this is trusted, because allocating memory for that many entries does no harm.
const COUNT_TO_DOUBT: i64 = 1_000_000;

/// The least size of a row, including its places in the indexes.
const LEAST_BYTES_OF_ROW: i64 = 16;

impl DiskStore {
    /// The number of entries, including expired ones. The directory keeps the count. If that count is
    /// impossible, because another program has written it, the rows are counted.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn len(&self, patience: Duration) -> Result<i64> {
        self.read_counters(patience, |connection| {
            let count = counter(connection, "count")?;
            if (0..COUNT_TO_DOUBT).contains(&count) {
                return Ok(count);
            }
            let number =
                |sql| -> Result<i64> { Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?) };
            let bytes = number("PRAGMA page_count")?.saturating_mul(number("PRAGMA page_size")?);
            if (0..=bytes / LEAST_BYTES_OF_ROW).contains(&count) {
                return Ok(count);
            }
            number("SELECT COUNT(*) FROM Cache")
        })
    }

    /// The volume in bytes: the database and the files of values.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn volume(&self, patience: Duration) -> Result<i64> {
        self.read_counters(patience, |connection| self.volume_of(connection, &TransactionEffects::default()))
    }

    /// The volume in bytes, including the changes of the transaction.
    pub(crate) fn volume_of(&self, connection: &Connection, effects: &TransactionEffects) -> Result<i64> {
        let page_size = match self.page_size.get() {
            Some(&size) => size,
            None => {
                let size = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
                *self.page_size.get_or_init(|| size)
            }
        };
        let pages: i64 = connection.prepare_cached("PRAGMA page_count")?.query_row([], |row| row.get(0))?;
        let files = counter(connection, "size")?.saturating_add(effects.pending_size());
        Ok(page_size.saturating_mul(pages).saturating_add(files))
    }

    /// The numbers of hits and misses since they were last reset.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy) where they are reset; the database cannot be read or written.
    pub fn stats(&self, reset: bool, patience: Duration) -> Result<(i64, i64)> {
        let both =
            |connection: &Connection| Ok((counter(connection, "hits")?, counter(connection, "misses")?));
        if !reset {
            return self.read(patience, |connection| both(connection));
        }
        let written = self.write(patience, |connection, _| {
            let counted = both(connection)?;
            execute(connection, "UPDATE Settings SET value = 0 WHERE key IN ('hits', 'misses')")?;
            Ok(counted)
        })?;
        Ok(written.result)
    }
}

fn counter(connection: &Connection, key: &str) -> Result<i64> {
    Ok(match setting(connection, key)? {
        Some(Value::Integer(count)) => count,
        _ => 0,
    })
}
