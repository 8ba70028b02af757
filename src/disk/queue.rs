//! Queues: keys that are numbers, with or without a prefix.

use std::time::Duration;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{OptionalExtension, Row};

use crate::error::{Error, Result};
use crate::evict::Incoming;
use crate::eviction_rules::Rules;
use crate::read::delete_row;
use crate::row::{Entry, Key, Label, Owned, OwnedKey, Record};
use crate::store::DiskStore;
use crate::tracker::Written;
use crate::write::{INSERT, write_row};

/// The first key of a queue, so that both ends have room.
const MIDDLE: i64 = 500_000_000_000_000;
const END: i64 = 999_999_999_999_999;

/// An end of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where the smallest key is.
    Front,
    /// Where the largest key is.
    Back,
}

fn key_of(prefix: Option<&str>, number: i64) -> Value {
    match prefix {
        None => Value::Integer(number),
        Some(prefix) => Value::Text(format!("{prefix}-{number:015}")),
    }
}

const LAST: &str = "SELECT rowid, expire_time, tag, size, mode, filename, value, key FROM Cache \
                    WHERE ?1 < key AND key < ?2 AND raw = 1 ORDER BY key DESC LIMIT 1";
const FIRST: &str = "SELECT rowid, expire_time, tag, size, mode, filename, value, key FROM Cache \
                     WHERE ?1 < key AND key < ?2 AND raw = 1 ORDER BY key LIMIT 1";

impl Side {
    /// The statement that finds the entry at this end.
    fn sql(self) -> &'static str {
        match self {
            Self::Front => FIRST,
            Self::Back => LAST,
        }
    }
}

/// The key behind the outermost one, at an end of the queue.
fn next(outermost: Option<&Value>, prefix: Option<&str>, side: Side) -> Result<Value> {
    let step = if side == Side::Back { 1 } else { -1 };
    match outermost {
        None => Ok(key_of(prefix, MIDDLE)),
        Some(Value::Integer(number)) => Ok(key_of(prefix, number + step)),
        #[expect(clippy::cast_precision_loss, reason = "the step is 1 or -1")]
        Some(Value::Real(number)) => Ok(Value::Real(number + step as f64)),
        Some(Value::Text(key)) => {
            let number = key.rsplit('-').next().and_then(|digits| digits.parse::<i64>().ok());
            let next = number.and_then(|number| number.checked_add(step));
            Ok(key_of(prefix, next.ok_or_else(|| Error::NotAQueueKey(key.clone()))?))
        }
        Some(other) => Err(Error::NotAQueueKey(format!("{other:?}"))),
    }
}

impl DiskStore {
    /// Puts a value at an end of the queue. Returns its key.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::NotAQueueKey`]; the database cannot be written.
    pub fn push(
        &self,
        prefix: Option<&str>,
        side: Side,
        record: Record<'_>,
        label: Label<'_>,
        rules: &Rules,
        patience: Duration,
    ) -> Result<Written<Value>> {
        let (low, high) = (key_of(prefix, 0), key_of(prefix, END));
        self.write(patience, |connection, effects| {
            let outermost: Option<Owned> = connection
                .prepare_cached(side.sql())?
                .query_row((&low, &high), |row| row.get(7))
                .optional()?;
            let key = next(outermost.map(|Owned(key)| key).as_ref(), prefix, side)?;
            let incoming = Incoming::of(&label, &record);
            let evicts = self.may_evict(effects, &incoming, rules);
            if evicts {
                effects.several(connection)?;
            }
            effects.stored(record.filename);
            let at = Key { datum: ValueRef::from(&key), raw: true };
            self.void(effects, at)?;
            write_row(connection, INSERT, at, &record, &label)?;
            effects.inserted(record.size);
            effects.written.add_all();
            if evicts {
                self.evict_some(connection, effects, &incoming, rules)?;
            }
            Ok(key)
        })
    }

    /// The entry at an end of the queue, which is removed if `take`. Expired entries on the way are deleted.
    /// The file of a removed entry stays until [`DiskStore::discard`].
    ///
    /// # Errors
    ///
    /// [`Error::Busy`]; the database cannot be written.
    pub fn at_end(
        &self,
        prefix: Option<&str>,
        side: Side,
        take: bool,
        now: f64,
        patience: Duration,
    ) -> Result<Written<Option<(OwnedKey, Entry)>>> {
        let (low, high) = (key_of(prefix, 0), key_of(prefix, END));
        if !take && self.is_read_only() {
            // Expired entries on the way cannot be deleted.
            let sql = side
                .sql()
                .replace("AND raw = 1", "AND raw = 1 AND (expire_time IS NULL OR expire_time >= ?3)");
            let found: Option<(Owned, Entry)> = self.read(patience, |connection| {
                let mut select = connection.prepare_cached(&sql)?;
                let read = |row: &Row<'_>| Ok((row.get(7)?, Entry::from_row(row)?));
                Ok(select.query_row((&low, &high, now), read).optional()?)
            })?;
            let result = found.map(|(Owned(datum), entry)| (OwnedKey { datum, raw: true }, entry));
            return Ok(Written { result, commit: None });
        }
        self.write(patience, |connection, effects| {
            loop {
                let mut select = connection.prepare_cached(side.sql())?;
                let found: Option<(Owned, Entry)> = select
                    .query_row((&low, &high), |row| Ok((row.get(7)?, Entry::from_row(row)?)))
                    .optional()?;
                let Some((Owned(datum), entry)) = found else { return Ok(None) };
                let expired = entry.expired(now);
                if expired {
                    effects.several(connection)?;
                    delete_row(connection, entry.rowid)?;
                    effects.written.add_all();
                    effects.deleted(entry.size, entry.filename);
                    continue;
                }
                if take {
                    self.void(effects, Key { datum: ValueRef::from(&datum), raw: true })?;
                    delete_row(connection, entry.rowid)?;
                    effects.written.add_all();
                    effects.taken(entry.size);
                }
                return Ok(Some((OwnedKey { datum, raw: true }, entry)));
            }
        })
    }
}
