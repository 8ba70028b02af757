//! Entries that leave in numbers: expired, evicted, by tag, or all.

use std::time::Duration;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, params};

use crate::error::Result;
use crate::pool::Files;
use crate::read::{bind, bind_named};
use crate::rules::Rules;
use crate::store::Store;

/// Entries that one transaction of `clear`, `expire_some` or `evict_tag_some` removes, so that
/// others can write in between.
const BATCH: i64 = 1000;

/// Entries that one transaction of `cull_some` removes.
const FEW: u64 = 10;

const EXPIRED: &str = "SELECT filename FROM Cache WHERE expire_time < ?1 ORDER BY expire_time LIMIT ?2";
const DELETE_EXPIRED: &str = "DELETE FROM Cache WHERE rowid IN \
                              (SELECT rowid FROM Cache WHERE expire_time < ?1 ORDER BY expire_time LIMIT ?2)";

fn rows(limit: u64) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Deletes up to `limit` expired entries, the oldest first. How many.
fn delete_expired(connection: &Connection, files: &mut Files, now: f64, limit: u64) -> Result<u64> {
    let names: Vec<Option<String>> = connection
        .prepare_cached(EXPIRED)?
        .query_map((now, rows(limit)), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    if !names.is_empty() {
        connection.prepare_cached(DELETE_EXPIRED)?.execute((now, rows(limit)))?;
    }
    let deleted = names.len() as u64;
    files.dead.extend(names.into_iter().flatten());
    Ok(deleted)
}

/// Deletes up to `limit` entries in the order of a policy. How many.
fn delete_by_policy(
    connection: &Connection,
    files: &mut Files,
    now: f64,
    cull: &str,
    limit: u64,
) -> Result<u64> {
    let select = cull.replace("{now}", ":now");
    let bound = |statement: &mut rusqlite::CachedStatement<'_>| -> Result<()> {
        bind_named(statement, ":now", &Value::Real(now))?;
        // The one parameter without a name is the limit.
        for index in 1..=statement.parameter_count() {
            if statement.parameter_name(index).is_none() {
                statement.raw_bind_parameter(index, rows(limit))?;
            }
        }
        Ok(())
    };
    let mut names = connection.prepare_cached(&select.replace("{fields}", "filename"))?;
    bound(&mut names)?;
    let mut victims = 0;
    let mut selected = names.raw_query();
    while let Some(row) = selected.next()? {
        victims += 1;
        files.dead.extend(row.get::<_, Option<String>>(0)?);
    }
    drop(selected);
    if victims > 0 {
        let select = select.replace("{fields}", "rowid");
        let mut delete =
            connection.prepare_cached(&format!("DELETE FROM Cache WHERE rowid IN ({select})"))?;
        bound(&mut delete)?;
        delete.raw_execute()?;
    }
    Ok(victims)
}

impl Store {
    /// What a write does about expired entries and the limit.
    pub(crate) fn evict_some(
        &self,
        connection: &Connection,
        files: &mut Files,
        now: f64,
        rules: &Rules,
    ) -> Result<()> {
        if rules.cull_limit == 0 {
            return Ok(());
        }
        let left = rules.cull_limit - delete_expired(connection, files, now, rules.cull_limit)?;
        let Some(cull) = &rules.policy.cull else { return Ok(()) };
        if left > 0 && !self.is_below(connection, rules.size_limit)? {
            delete_by_policy(connection, files, now, cull, left)?;
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "a volume is far below 2^53")]
    fn is_below(&self, connection: &Connection, size_limit: f64) -> Result<bool> {
        Ok((self.volume_of(connection)? as f64) < size_limit)
    }

    /// Deletes a batch of what has expired before `now`. How many; 0 means that it is done.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy); the database cannot be written.
    pub fn expire_some(&self, now: f64, patience: Duration) -> Result<u64> {
        self.write(patience, |connection, files| delete_expired(connection, files, now, BATCH.unsigned_abs()))
    }

    /// Deletes a few entries if the volume is above the limit. How many; 0 means that it is done.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy); the database cannot be written.
    #[expect(clippy::cast_precision_loss, reason = "a volume is far below 2^53")]
    pub fn cull_some(&self, now: f64, rules: &Rules, patience: Duration) -> Result<u64> {
        let Some(cull) = &rules.policy.cull else { return Ok(0) };
        self.write(patience, |connection, files| {
            if self.volume_of(connection)? as f64 <= rules.size_limit {
                return Ok(0);
            }
            delete_by_policy(connection, files, now, cull, FEW)
        })
    }

    /// Deletes a batch of entries with a tag, in rows up to `last`. How many; 0 means that it is
    /// done.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy); the database cannot be written.
    pub fn evict_tag_some(&self, tag: ValueRef<'_>, last: i64, patience: Duration) -> Result<u64> {
        self.write(patience, |connection, files| {
            let mut delete = connection.prepare_cached(
                "DELETE FROM Cache WHERE rowid IN \
                 (SELECT rowid FROM Cache WHERE tag = ?1 AND rowid <= ?2 ORDER BY rowid LIMIT ?3) RETURNING filename",
            )?;
            let deleted = delete.query_map(params![bind(tag), last, BATCH], |row| row.get(0))?;
            bury(files, deleted)
        })
    }

    /// Deletes a batch of entries in rows up to `last`. How many; 0 means that it is done.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy); the database cannot be written.
    pub fn clear_some(&self, last: i64, patience: Duration) -> Result<u64> {
        self.write(patience, |connection, files| {
            let mut delete = connection.prepare_cached(
                "DELETE FROM Cache WHERE rowid IN \
                 (SELECT rowid FROM Cache WHERE rowid <= ?1 ORDER BY rowid LIMIT ?2) RETURNING filename",
            )?;
            let deleted = delete.query_map((last, BATCH), |row| row.get(0))?;
            bury(files, deleted)
        })
    }
}

/// Notes the files of deleted rows. How many rows.
fn bury(files: &mut Files, deleted: impl Iterator<Item = rusqlite::Result<Option<String>>>) -> Result<u64> {
    let mut count = 0;
    for filename in deleted {
        files.dead.extend(filename?);
        count += 1;
    }
    Ok(count)
}
