//! Removing many entries: expired ones, evicted ones, those with a tag, or all.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Rows, params};

use crate::effects::TransactionEffects;
use crate::error::Result;
use crate::eviction_rules::Rules;
use crate::read::{bind, bind_named};
use crate::row::{FileName, Label, Record, StoredSize};
use crate::store::DiskStore;
use crate::tracker::Written;
use crate::version::Version;

/// The number of entries that one transaction of `clear_some`, `expire_some` or `evict_tag_some` removes.
/// Other writers can write between two of them.
const BATCH: i64 = 1000;

/// The number of entries that one transaction of `cull_some` removes.
const FEW: u64 = 10;

/// The volume is measured again after writes have filled this fraction (one part in `SHARES`) of the room that was
/// left. The size of a write is only an estimate, so this leaves a margin.
const SHARES: f64 = 4.0;

/// An upper estimate of what a row takes besides its key and value, with its places in the indexes, in bytes.
const ROW: usize = 512;

const NEXT_EXPIRY: &str =
    "SELECT expire_time FROM Cache WHERE expire_time IS NOT NULL ORDER BY expire_time LIMIT 1";
const DELETE_EXPIRED: &str = "DELETE FROM Cache WHERE rowid IN \
     (SELECT rowid FROM Cache WHERE expire_time < ?1 ORDER BY expire_time LIMIT ?2) RETURNING size, filename";

/// The facts about a write on which eviction depends.
pub(crate) struct Incoming {
    now: f64,
    expire_time: Option<f64>,
    bytes: f64,
}

impl Incoming {
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

/// The result of the last check for expired entries and for the limit. It is valid until another process
/// writes, and saves most writes the check.
#[derive(Debug, Default)]
pub(crate) struct Forecast {
    /// The version that our last transaction left, if nobody else has written since.
    version: Option<Version>,
    next_expiry: f64,
    size_limit: f64,
    room: f64,
}

impl Forecast {
    /// Whether a write can skip the check.
    #[expect(clippy::float_cmp, reason = "it is the same number or another one")]
    fn covers(&mut self, version: Option<Version>, incoming: &Incoming, rules: &Rules) -> bool {
        self.room -= incoming.bytes;
        self.expect_expiry(incoming.expire_time);
        version.is_some()
            && self.version == version
            && self.room > 0.0
            && incoming.now <= self.next_expiry
            && self.size_limit == rules.size_limit
    }

    /// Takes note of an entry that expires at `time`.
    pub(crate) fn expect_expiry(&mut self, time: Option<f64>) {
        self.next_expiry = time.map_or(self.next_expiry, |time| time.min(self.next_expiry));
    }

    /// Takes note of a transaction of ours: the version before it, and the version that it left if nobody else has
    /// written.
    pub(crate) fn note_own_write(&mut self, before: Option<Version>, left: Option<Version>) {
        self.version = if self.version == before { left } else { None };
    }
}

fn rows(limit: u64) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Deletes up to `limit` expired entries, the oldest first. Returns their number.
fn delete_expired(
    connection: &Connection,
    effects: &mut TransactionEffects,
    now: f64,
    limit: u64,
) -> Result<u64> {
    let mut delete = connection.prepare_cached(DELETE_EXPIRED)?;
    note_deleted(effects, delete.query((now, rows(limit)))?)
}

/// Deletes up to `limit` entries in the order of a policy. Returns their number.
fn delete_by_policy(
    connection: &Connection,
    effects: &mut TransactionEffects,
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
    note_deleted(effects, delete.raw_query())
}

impl DiskStore {
    /// Whether a write has to look for entries to evict.
    pub(crate) fn may_evict(&self, effects: &TransactionEffects, incoming: &Incoming, rules: &Rules) -> bool {
        if rules.cull_limit == 0 {
            self.forecast().version = None;
            return false;
        }
        !self.forecast().covers(effects.version, incoming, rules)
    }

    /// Removes expired entries, and evicts while the volume exceeds the limit, as the rules say. Part of every write for
    /// which it may be needed.
    #[expect(clippy::cast_precision_loss, reason = "a volume is far below 2^53")]
    pub(crate) fn evict_some(
        &self,
        connection: &Connection,
        effects: &mut TransactionEffects,
        incoming: &Incoming,
        rules: &Rules,
    ) -> Result<()> {
        let next_expiry: Option<f64> =
            connection.prepare_cached(NEXT_EXPIRY)?.query_row([], |row| row.get(0)).optional()?;
        let next_expiry = next_expiry.unwrap_or(f64::INFINITY);
        let mut left = rules.cull_limit;
        if next_expiry < incoming.now {
            left -= delete_expired(connection, effects, incoming.now, left)?;
        }
        let room = match &rules.policy.cull {
            None => f64::INFINITY,
            Some(_) if left == 0 => 0.0,
            Some(cull) => {
                let room = rules.size_limit - self.volume_of(connection, effects)? as f64;
                if room <= 0.0 {
                    delete_by_policy(connection, effects, incoming.now, cull, left)?;
                }
                room
            }
        };
        *self.forecast() = Forecast {
            version: effects.version,
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

    /// Deletes a batch of the entries that expired before `now`. Returns their number; 0 means that none is left.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy); the database cannot be written.
    pub fn expire_some(&self, now: f64, patience: Duration) -> Result<Written<u64>> {
        self.write(patience, |connection, effects| {
            effects.several(connection)?;
            delete_expired(connection, effects, now, BATCH.unsigned_abs())
        })
    }

    /// Evicts a few entries if the volume exceeds the limit. Returns their number; 0 means that the volume is within
    /// the limit.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy); the database cannot be written.
    #[expect(clippy::cast_precision_loss, reason = "a volume is far below 2^53")]
    pub fn cull_some(&self, now: f64, rules: &Rules, patience: Duration) -> Result<Written<u64>> {
        let Some(cull) = &rules.policy.cull else { return Ok(Written { result: 0, commit: None }) };
        self.write(patience, |connection, effects| {
            if self.volume_of(connection, effects)? as f64 <= rules.size_limit {
                return Ok(0);
            }
            effects.several(connection)?;
            // Few at a time, since the last ones may be large; no more than a write removes.
            let few = if rules.cull_limit == 0 { FEW } else { FEW.min(rules.cull_limit) };
            delete_by_policy(connection, effects, now, cull, few)
        })
    }

    /// Deletes a batch of the entries with a tag, in rows up to `last`. Returns their number; 0 means that none is
    /// left.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy); the database cannot be written.
    pub fn evict_tag_some(&self, tag: ValueRef<'_>, last: i64, patience: Duration) -> Result<Written<u64>> {
        self.write(patience, |connection, effects| {
            effects.several(connection)?;
            let mut delete = connection.prepare_cached(
                "DELETE FROM Cache WHERE rowid IN \
                 (SELECT rowid FROM Cache WHERE tag = ?1 AND rowid <= ?2 ORDER BY rowid LIMIT ?3) RETURNING size, filename",
            )?;
            effects.written.add_all();
            self.void_tagged(effects, tag)?;
            note_deleted(effects, delete.query(params![bind(tag), last, BATCH])?)
        })
    }

    /// Deletes a batch of entries in rows up to `last`. Returns their number; 0 means that none is left.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy); the database cannot be written.
    pub fn clear_some(&self, last: i64, patience: Duration) -> Result<Written<u64>> {
        self.write(patience, |connection, effects| {
            effects.several(connection)?;
            let mut delete = connection.prepare_cached(
                "DELETE FROM Cache WHERE rowid IN \
                 (SELECT rowid FROM Cache WHERE rowid <= ?1 ORDER BY rowid LIMIT ?2) RETURNING size, filename",
            )?;
            effects.written.add_all();
            self.void_all(effects)?;
            note_deleted(effects, delete.query((last, BATCH))?)
        })
    }
}

/// Takes note of deleted rows, which the statement returns as (size, filename). Returns their number.
///
/// They are deleted before the first of them is returned, and stay so if one cannot be read: see
/// [`TransactionEffects::several`].
fn note_deleted(effects: &mut TransactionEffects, mut deleted: Rows<'_>) -> Result<u64> {
    effects.has_removed_many = true;
    let mut count = 0;
    while let Some(row) = deleted.next()? {
        effects.deleted(row.get::<_, StoredSize>(0)?.0, row.get::<_, FileName>(1)?.0);
        count += 1;
    }
    Ok(count)
}
