//! Reading entries, and iterating over keys.

use std::cell::OnceCell;
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, params};

use crate::error::{Error, Result};
use crate::eviction_rules::Rules;
use crate::lookup::Lookup;
use crate::row::{Entry, Key, OwnedKey};
use crate::sql::execute;
use crate::store::DiskStore;
use crate::tracker::Written;

/// Keys that one query of an iteration reads.
const PAGE: i64 = 100;

/// A row is a hit if it is live. An entry whose time to expire is exactly now has expired.
macro_rules! live {
    () => {
        " FROM Cache WHERE key = ?1 AND raw = ?2 AND (expire_time IS NULL OR expire_time > ?3)"
    };
}
pub(crate) use live;

const GET: &str = concat!("SELECT rowid, expire_time, tag, size, mode, filename, value", live!());
const VALUE: &str = concat!("SELECT size, mode, filename, value", live!());
const CONTAINS: &str = concat!("SELECT 1", live!());

/// The statements of the shortest reads, which each connection compiles once.
#[derive(Default)]
pub(crate) struct Lookups {
    value: OnceCell<Lookup>,
    contains: OnceCell<Lookup>,
}

#[inline]
fn compiled<'a>(place: &'a OnceCell<Lookup>, connection: &Connection, sql: &str) -> Result<&'a Lookup> {
    match place.get() {
        Some(lookup) => Ok(lookup),
        None => {
            let lookup = Lookup::new(connection, sql)?;
            Ok(place.get_or_init(|| lookup))
        }
    }
}

/// The parameter for a datum that is not copied.
pub(crate) fn bind(datum: ValueRef<'_>) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(datum)
}

pub(crate) fn find(connection: &Connection, key: Key<'_>, now: f64) -> Result<Option<Entry>> {
    let mut select = connection.prepare_cached(GET)?;
    Ok(select.query_row(params![bind(key.datum), key.raw, now], Entry::from_row).optional()?)
}

/// The direction of an iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

impl DiskStore {
    /// The value of a key's live entry. If the read writes nothing, the other fields of the [`Entry`] may be
    /// left empty (0 or none).
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy), only if the rules make reads write; the database cannot be read.
    pub fn value(&self, key: Key<'_>, now: f64, rules: &Rules, patience: Duration) -> Result<Option<Entry>> {
        if rules.reads_write() && !self.is_read_only() {
            return self.get(key, now, rules, patience);
        }
        self.read(patience, |connection| {
            let value = compiled(&connection.extension().value, connection, VALUE)?;
            Ok(value.find(key, now, |row| Entry::from_value(row, 0))?)
        })
    }

    /// The live entry of a key. If the rules make reads write and the disk is full, the read is not recorded.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy), only if the rules make reads write; the database cannot be read.
    pub fn get(&self, key: Key<'_>, now: f64, rules: &Rules, patience: Duration) -> Result<Option<Entry>> {
        if !rules.reads_write() || self.is_read_only() {
            return self.read(patience, |connection| find(connection, key, now));
        }
        let written = self.write(patience, |connection, effects| {
            let found = find(connection, key, now)?;
            if rules.statistics {
                effects.several(connection)?;
                let counter = if found.is_some() { "hits" } else { "misses" };
                execute(
                    connection,
                    &format!("UPDATE Settings SET value = value + 1 WHERE key = '{counter}'"),
                )?;
            }
            if let (Some(entry), Some(fragment)) = (&found, &rules.policy.get) {
                touch_by_policy(connection, fragment, entry.rowid, now)?;
            }
            Ok(found)
        });
        match written {
            Err(error) if self.is_without_room(&error) => {
                self.read(patience, |connection| find(connection, key, now))
            }
            written => Ok(written?.result),
        }
    }

    /// The live entry of a key whose file was gone, if the key has been written again since. Does not count
    /// as an access.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn written_again(
        &self,
        key: Key<'_>,
        gone: &Entry,
        now: f64,
        patience: Duration,
    ) -> Result<Option<Entry>> {
        let found = self.read(patience, |connection| find(connection, key, now))?;
        Ok(found.filter(|entry| entry.filename != gone.filename))
    }

    /// Counts a hit as a miss: the entry's file was gone.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy); the database cannot be written.
    pub fn count_as_miss(&self, rules: &Rules, patience: Duration) -> Result<()> {
        if !rules.statistics || self.is_read_only() {
            return Ok(());
        }
        let written = self.write(patience, |connection, effects| {
            effects.several(connection)?;
            execute(connection, "UPDATE Settings SET value = value - 1 WHERE key = 'hits'")?;
            execute(connection, "UPDATE Settings SET value = value + 1 WHERE key = 'misses'")
        });
        match written {
            Err(error) if self.is_without_room(&error) => Ok(()),
            written => written.map(|written| written.result),
        }
    }

    /// Whether the disk was too full to record a read. It can be read all the same, unless it is part of a transaction,
    /// which may be lost.
    fn is_without_room(&self, error: &Error) -> bool {
        error.is_disk_full() && !self.in_transaction()
    }

    /// Whether a key has a live entry. Does not count as an access.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn contains(&self, key: Key<'_>, now: f64, patience: Duration) -> Result<bool> {
        self.read(patience, |connection| {
            let contains = compiled(&connection.extension().contains, connection, CONTAINS)?;
            Ok(contains.find(key, now, |_| Ok(()))?.is_some())
        })
    }

    /// The row that was added last, `None` where there is none.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn last_row(&self, patience: Duration) -> Result<Option<i64>> {
        self.read(patience, |connection| {
            Ok(connection.prepare_cached("SELECT MAX(rowid) FROM Cache")?.query_row([], |row| row.get(0))?)
        })
    }

    /// The next keys after (or before) a row, in the order of insertion.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn keys_by_row(
        &self,
        beyond: i64,
        limit: i64,
        order: Order,
        patience: Duration,
    ) -> Result<Vec<(i64, OwnedKey)>> {
        let sql = match order {
            Order::Ascending => {
                "SELECT key, raw, rowid FROM Cache WHERE rowid > ?1 AND rowid <= ?2 ORDER BY rowid LIMIT ?3"
            }
            Order::Descending => {
                "SELECT key, raw, rowid FROM Cache WHERE rowid < ?1 AND rowid >= ?2 ORDER BY rowid DESC LIMIT ?3"
            }
        };
        self.read(patience, |connection| {
            let mut select = connection.prepare_cached(sql)?;
            let rows = select
                .query_map((beyond, limit, PAGE), |row| Ok((row.get(2)?, OwnedKey::from_row(row, 0)?)))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// The next keys after (or before) one, in the order of keys: numbers, texts, bytes.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn keys_by_key(
        &self,
        beyond: Option<&OwnedKey>,
        order: Order,
        patience: Duration,
    ) -> Result<Vec<OwnedKey>> {
        let sql = match (beyond.is_some(), order) {
            (false, Order::Ascending) => {
                "SELECT key, raw FROM Cache WHERE key IS NOT NULL ORDER BY key, raw LIMIT ?1"
            }
            (false, Order::Descending) => {
                "SELECT key, raw FROM Cache WHERE key IS NOT NULL ORDER BY key DESC, raw DESC LIMIT ?1"
            }
            (true, Order::Ascending) => {
                "SELECT key, raw FROM Cache WHERE (key, raw) > (?2, ?3) ORDER BY key, raw LIMIT ?1"
            }
            (true, Order::Descending) => {
                "SELECT key, raw FROM Cache WHERE key IS NOT NULL AND (key, raw) < (?2, ?3) \
                 ORDER BY key DESC, raw DESC LIMIT ?1"
            }
        };
        self.read(patience, |connection| {
            let mut select = connection.prepare_cached(sql)?;
            let read = |row: &rusqlite::Row<'_>| OwnedKey::from_row(row, 0);
            let keys = match beyond {
                Some(key) => select.query_map(params![PAGE, key.datum, key.raw], read)?.collect(),
                None => select.query_map([PAGE], read)?.collect::<rusqlite::Result<_>>(),
            };
            Ok(keys?)
        })
    }

    /// The first or last row that is not expired; expired ones on the way are deleted.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy); the database cannot be read.
    pub fn peek_row(
        &self,
        last: bool,
        now: f64,
        patience: Duration,
    ) -> Result<Written<Option<(OwnedKey, Entry)>>> {
        let sql = if last {
            "SELECT rowid, expire_time, tag, size, mode, filename, value, key, raw \
             FROM Cache ORDER BY rowid DESC LIMIT 1"
        } else {
            "SELECT rowid, expire_time, tag, size, mode, filename, value, key, raw \
             FROM Cache ORDER BY rowid LIMIT 1"
        };
        if self.is_read_only() {
            return self.peek_row_only(last, now, patience).map(|result| Written { result, commit: None });
        }
        let written = self.write(patience, |connection, effects| {
            loop {
                let mut select = connection.prepare_cached(sql)?;
                let found = select
                    .query_row([], |row| Ok((OwnedKey::from_row(row, 7)?, Entry::from_row(row)?)))
                    .optional()?;
                match found {
                    Some((_, entry)) if entry.expired(now) => {
                        effects.several(connection)?;
                        delete_row(connection, entry.rowid)?;
                        effects.written.add_all();
                        effects.deleted(entry.size, entry.filename);
                    }
                    found => return Ok(found),
                }
            }
        });
        match written {
            Err(error) if self.is_without_room(&error) => {
                self.peek_row_only(last, now, patience).map(|result| Written { result, commit: None })
            }
            written => written,
        }
    }

    /// [`DiskStore::peek_row`] for a directory in which nothing can be deleted.
    fn peek_row_only(&self, last: bool, now: f64, patience: Duration) -> Result<Option<(OwnedKey, Entry)>> {
        let order = if last { "DESC" } else { "ASC" };
        let sql = format!(
            "SELECT rowid, expire_time, tag, size, mode, filename, value, key, raw FROM Cache \
             WHERE expire_time IS NULL OR expire_time >= ? ORDER BY rowid {order} LIMIT 1"
        );
        self.read(patience, |connection| {
            let mut select = connection.prepare_cached(&sql)?;
            let read = |row: &rusqlite::Row<'_>| Ok((OwnedKey::from_row(row, 7)?, Entry::from_row(row)?));
            Ok(select.query_row([now], read).optional()?)
        })
    }

    /// Deletes a row whose file is gone, unless the row has been written again. A row without a valid name is deleted in
    /// any case.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy); the database cannot be written.
    pub fn forget(&self, entry: &Entry, patience: Duration) -> Result<Written<()>> {
        if self.is_read_only() {
            return Ok(Written { result: (), commit: None });
        }
        self.write(patience, |connection, effects| {
            let mut delete = connection
                .prepare_cached("DELETE FROM Cache WHERE rowid = ?1 AND (filename IS ?2 OR ?2 = '')")?;
            if delete.execute((entry.rowid, &entry.filename))? > 0 {
                effects.written.add_all();
                effects.taken(entry.size);
            }
            Ok(())
        })
    }
}

pub(crate) fn delete_row(connection: &Connection, rowid: i64) -> Result<()> {
    connection.prepare_cached("DELETE FROM Cache WHERE rowid = ?")?.execute([rowid])?;
    Ok(())
}

/// Updates a row as the policy demands on a read.
pub(crate) fn touch_by_policy(connection: &Connection, fragment: &str, rowid: i64, now: f64) -> Result<()> {
    let sql = format!("UPDATE Cache SET {} WHERE rowid = :rowid", fragment.replace("{now}", ":now"));
    let mut update = connection.prepare_cached(&sql)?;
    bind_named(&mut update, ":rowid", &Value::Integer(rowid))?;
    bind_named(&mut update, ":now", &Value::Real(now))?;
    update.raw_execute()?;
    Ok(())
}

/// Binds a parameter, if the statement has it.
pub(crate) fn bind_named(
    statement: &mut rusqlite::CachedStatement<'_>,
    name: &str,
    value: &Value,
) -> Result<()> {
    if let Some(index) = statement.parameter_index(name)? {
        statement.raw_bind_parameter(index, value)?;
    }
    Ok(())
}
