//! Entries that leave in numbers: expired, evicted, by tag, or all.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Rows, params};

use crate::changes::Changes;
use crate::error::Result;
use crate::read::{bind, bind_named};
use crate::record::{Label, Record};
use crate::rules::Rules;
use crate::store::Store;
use crate::version::Version;

/// Entries that one transaction of `clear`, `expire_some` or `evict_tag_some` removes, so that
/// others can write in between.
const BATCH: i64 = 1000;

/// Entries that one transaction of `cull_some` removes.
const FEW: u64 = 10;

/// Of the room that was left when the volume was last looked at one part in so many may be filled before it is looked
/// at again, since what a write takes is but estimated.
const SHARES: f64 = 4.0;

/// What a row costs beside its key and value, with its places in the indexes; rather too much.
const ROW: usize = 512;

const NEXT_EXPIRY: &str =
    "SELECT expire_time FROM Cache WHERE expire_time IS NOT NULL ORDER BY expire_time LIMIT 1";
const DELETE_EXPIRED: &str = "DELETE FROM Cache WHERE rowid IN \
     (SELECT rowid FROM Cache WHERE expire_time < ?1 ORDER BY expire_time LIMIT ?2) RETURNING size, filename";

/// What a write has brought, as far as it matters to those that leave.
pub(crate) struct Brought {
    now: f64,
    expire_time: Option<f64>,
    bytes: f64,
}

impl Brought {
    #[expect(clippy::cast_precision_loss, reason = "a size is far below 2^53")]
    pub(crate) fn of(label: &Label<'_>, record: &Record<'_>) -> Self {
        let inside = match record.value {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
            _ => 0,
        };
        let bytes = record.size as f64 + (inside + ROW) as f64;
        Self { now: label.now, expire_time: label.expire_time, bytes }
    }
}

/// What was seen when last looked for what must leave. It holds until somebody else writes, and spares most writes
/// the look.
#[derive(Debug, Default)]
pub(crate) struct Forecast {
    /// The version of the database when the last transaction of ours has ended, if nobody else has written.
    version: Option<Version>,
    next_expiry: f64,
    size_limit: f64,
    room: f64,
}

impl Forecast {
    /// Whether a write can do without a look.
    #[expect(clippy::float_cmp, reason = "it is the same number or another one")]
    fn covers(&mut self, version: Option<Version>, brought: &Brought, rules: &Rules) -> bool {
        self.room -= brought.bytes;
        self.expect_expiry(brought.expire_time);
        version.is_some()
            && self.version == version
            && self.room > 0.0
            && brought.now <= self.next_expiry
            && self.size_limit == rules.size_limit
    }

    /// Something is to expire then.
    pub(crate) fn expect_expiry(&mut self, time: Option<f64>) {
        self.next_expiry = time.map_or(self.next_expiry, |time| time.min(self.next_expiry));
    }

    /// A transaction of ours has ended: the version before, and the one that it has left if nobody else has written.
    pub(crate) fn note_own_write(&mut self, before: Option<Version>, left: Option<Version>) {
        self.version = if self.version == before { left } else { None };
    }
}

fn rows(limit: u64) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Deletes up to `limit` expired entries, the oldest first. How many.
fn delete_expired(connection: &Connection, changes: &mut Changes, now: f64, limit: u64) -> Result<u64> {
    let mut delete = connection.prepare_cached(DELETE_EXPIRED)?;
    bury(changes, delete.query((now, rows(limit)))?)
}

/// Deletes up to `limit` entries in the order of a policy. How many.
fn delete_by_policy(
    connection: &Connection,
    changes: &mut Changes,
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
    let select = select.replace("{fields}", "rowid");
    let mut delete = connection
        .prepare_cached(&format!("DELETE FROM Cache WHERE rowid IN ({select}) RETURNING size, filename"))?;
    bound(&mut delete)?;
    bury(changes, delete.raw_query())
}

impl Store {
    /// What a write does about expired entries and the limit.
    #[expect(clippy::cast_precision_loss, reason = "a volume is far below 2^53")]
    pub(crate) fn evict_some(
        &self,
        connection: &Connection,
        changes: &mut Changes,
        brought: &Brought,
        rules: &Rules,
    ) -> Result<()> {
        if rules.cull_limit == 0 {
            self.forecast().version = None;
            return Ok(());
        }
        if self.forecast().covers(changes.version, brought, rules) {
            return Ok(());
        }
        let next_expiry: Option<f64> =
            connection.prepare_cached(NEXT_EXPIRY)?.query_row([], |row| row.get(0)).optional()?;
        let next_expiry = next_expiry.unwrap_or(f64::INFINITY);
        let mut left = rules.cull_limit;
        if next_expiry < brought.now {
            left -= delete_expired(connection, changes, brought.now, left)?;
        }
        let room = match &rules.policy.cull {
            None => f64::INFINITY,
            Some(_) if left == 0 => 0.0,
            Some(cull) => {
                let room = rules.size_limit - self.volume_of(connection, changes)? as f64;
                if room <= 0.0 {
                    delete_by_policy(connection, changes, brought.now, cull, left)?;
                }
                room
            }
        };
        *self.forecast() = Forecast {
            version: changes.version,
            next_expiry,
            size_limit: rules.size_limit,
            room: room / SHARES,
        };
        Ok(())
    }

    pub(crate) fn forecast(&self) -> MutexGuard<'_, Forecast> {
        // Nothing inside can panic.
        self.forecast.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes a batch of what has expired before `now`. How many; 0 means that it is done.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy); the database cannot be written.
    pub fn expire_some(&self, now: f64, patience: Duration) -> Result<u64> {
        self.write(patience, |connection, changes| {
            delete_expired(connection, changes, now, BATCH.unsigned_abs())
        })
    }

    /// Deletes a few entries if the volume is above the limit. How many; 0 means that it is done.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy); the database cannot be written.
    #[expect(clippy::cast_precision_loss, reason = "a volume is far below 2^53")]
    pub fn cull_some(&self, now: f64, rules: &Rules, patience: Duration) -> Result<u64> {
        let Some(cull) = &rules.policy.cull else { return Ok(0) };
        self.write(patience, |connection, changes| {
            if self.volume_of(connection, changes)? as f64 <= rules.size_limit {
                return Ok(0);
            }
            delete_by_policy(connection, changes, now, cull, FEW)
        })
    }

    /// Deletes a batch of entries with a tag, in rows up to `last`. How many; 0 means that it is
    /// done.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy); the database cannot be written.
    pub fn evict_tag_some(&self, tag: ValueRef<'_>, last: i64, patience: Duration) -> Result<u64> {
        self.write(patience, |connection, changes| {
            let mut delete = connection.prepare_cached(
                "DELETE FROM Cache WHERE rowid IN \
                 (SELECT rowid FROM Cache WHERE tag = ?1 AND rowid <= ?2 ORDER BY rowid LIMIT ?3) RETURNING size, filename",
            )?;
            bury(changes, delete.query(params![bind(tag), last, BATCH])?)
        })
    }

    /// Deletes a batch of entries in rows up to `last`. How many; 0 means that it is done.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy); the database cannot be written.
    pub fn clear_some(&self, last: i64, patience: Duration) -> Result<u64> {
        self.write(patience, |connection, changes| {
            let mut delete = connection.prepare_cached(
                "DELETE FROM Cache WHERE rowid IN \
                 (SELECT rowid FROM Cache WHERE rowid <= ?1 ORDER BY rowid LIMIT ?2) RETURNING size, filename",
            )?;
            bury(changes, delete.query((last, BATCH))?)
        })
    }
}

/// Notes rows that are deleted, as they are returned: size, filename. How many.
fn bury(changes: &mut Changes, mut deleted: Rows<'_>) -> Result<u64> {
    let mut count = 0;
    while let Some(row) = deleted.next()? {
        changes.deleted(row.get::<_, Option<i64>>(0)?.unwrap_or(0), row.get(1)?);
        count += 1;
    }
    Ok(count)
}
