//! Writes: storing, incrementing and deleting entries.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, params};

use crate::effects::TransactionEffects;
use crate::error::{Error, Result};
use crate::evict::Incoming;
use crate::eviction_rules::Rules;
use crate::files;
use crate::leases::LeaseToken;
use crate::patience::Patience;
use crate::read::{bind, delete_row, find, live, touch_by_policy};
use crate::row::{Entry, FileName, Key, Label, Owned, Record, StoredSize};
use crate::store::DiskStore;
use crate::tracker::Written;

macro_rules! insert {
    () => {
        "INSERT INTO Cache (key, raw, store_time, expire_time, access_time, tag, size, mode, filename, value) \
         VALUES (?1, ?2, ?3, ?4, ?3, ?5, ?6, ?7, ?8, ?9)"
    };
}

/// Inserts an entry whose key must be new.
pub(crate) const INSERT: &str = insert!();

/// Inserts an entry if its key is new.
const INSERT_NEW: &str = concat!(insert!(), " ON CONFLICT (key, raw) DO NOTHING");

macro_rules! replace {
    () => {
        "UPDATE Cache SET store_time = ?3, expire_time = ?4, access_time = ?3, access_count = 0, tag = ?5, size = ?6, \
         mode = ?7, filename = ?8, value = ?9 WHERE key = ?1 AND raw = ?2"
    };
}

/// Replaces an entry that exists.
const REPLACE: &str = replace!();

/// Replaces an entry if it has no file.
const REPLACE_INLINE: &str = concat!(replace!(), " AND filename IS NULL AND size = 0");

const FILE_OF: &str = "SELECT size, filename FROM Cache WHERE key = ?1 AND raw = ?2";
const LIFE_OF: &str = "SELECT expire_time, size, filename FROM Cache WHERE key = ?1 AND raw = ?2";
const NUMBER_OF: &str = "SELECT rowid, expire_time, filename, value FROM Cache WHERE key = ?1 AND raw = ?2";
const TOUCH: &str = "UPDATE Cache SET expire_time = ?4 WHERE key = ?1 AND raw = ?2 \
                     AND (expire_time IS NULL OR expire_time > ?3)";
/// Deletes an entry if it has no file, as most have none. A statement that returns the rows it deletes would
/// need a temporary table.
const DELETE_INLINE: &str = concat!("DELETE", live!(), " AND filename IS NULL AND size = 0");
const TO_DELETE: &str = concat!("SELECT rowid, size, filename", live!());

impl DiskStore {
    /// Makes room on a full disk for what a write adds to the log, so that the write can be repeated: removes the files
    /// that wait to be removed, and writes the log back, which needs no room unless the database becomes longer.
    /// Returns whether it is worth while.
    #[must_use]
    pub fn make_room(&self, patience: Duration) -> bool {
        let has_removed = files::finish_removals();
        let _patience = Patience::of(patience);
        self.pool.make_room(patience, || self.connect()) || has_removed
    }
}

/// A number that `increment` adds, or the sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// An exact integer. A table stores 64 bits; the number to add may have more.
    Integer(i128),
    /// A float.
    Real(f64),
}

impl Number {
    /// Adds two numbers. As in Python, the sum is a float if one of them is.
    #[expect(clippy::cast_precision_loss, reason = "so does Python")]
    fn plus(self, other: Self) -> Result<Self> {
        let sum = match (self, other) {
            (Self::Integer(left), Self::Integer(right)) => {
                let sum = left.checked_add(right).and_then(|sum| i64::try_from(sum).ok());
                Self::Integer(sum.ok_or(Error::Overflow)?.into())
            }
            (Self::Integer(left), Self::Real(right)) => Self::Real(left as f64 + right),
            (Self::Real(left), Self::Integer(right)) => Self::Real(left + right as f64),
            (Self::Real(left), Self::Real(right)) => Self::Real(left + right),
        };
        // A table would store NULL for it.
        if matches!(sum, Self::Real(sum) if sum.is_nan()) { Err(Error::NoSum) } else { Ok(sum) }
    }
}

/// The result of an increment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Counted {
    /// The new sum, which has been stored.
    Sum(Number),
    /// There was no live entry; the initial value has been stored.
    Began,
    /// There was no live entry, and no initial value was given.
    Missing,
}

/// Runs a statement with the columns of a row. Returns whether it wrote a row.
pub(crate) fn write_row(
    connection: &Connection,
    statement: &str,
    key: Key<'_>,
    record: &Record<'_>,
    label: &Label<'_>,
) -> Result<bool> {
    let written = connection.prepare_cached(statement)?.execute(params![
        bind(key.datum),
        key.raw,
        label.now,
        label.expire_time,
        bind(label.tag),
        record.size,
        record.mode,
        record.filename,
        bind(record.value)
    ])?;
    Ok(written > 0)
}

fn put(
    connection: &Connection,
    effects: &mut TransactionEffects,
    key: Key<'_>,
    record: &Record<'_>,
    label: &Label<'_>,
    hint: &AtomicBool,
) -> Result<bool> {
    effects.written.add(key);
    effects.stored(record.filename);
    let insert = |effects: &mut TransactionEffects| -> Result<bool> {
        let inserted = write_row(connection, INSERT_NEW, key, record, label)?;
        if inserted {
            effects.inserted(record.size);
        }
        Ok(inserted)
    };
    let replace = |effects: &mut TransactionEffects| -> Result<bool> {
        let replaced = write_row(connection, REPLACE_INLINE, key, record, label)?;
        if replaced {
            effects.resized(0, record.size);
        }
        Ok(replaced)
    };
    // If the last write was of a new key, this one probably is, too.
    let new = hint.load(Ordering::Relaxed);
    if if new { insert(effects)? } else { replace(effects)? } {
        return Ok(!new);
    }
    hint.store(!new, Ordering::Relaxed);
    if if new { replace(effects)? } else { insert(effects)? } {
        return Ok(new);
    }
    let (StoredSize(size), FileName(filename)): (StoredSize, FileName) = connection
        .prepare_cached(FILE_OF)?
        .query_row(params![bind(key.datum), key.raw], |row| Ok((row.get(0)?, row.get(1)?)))?;
    write_row(connection, REPLACE, key, record, label)?;
    effects.resized(size, record.size);
    effects.old_files.extend(filename);
    Ok(true)
}

/// The outcome of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The key was new.
    Inserted,
    /// There was a row of the key, live or expired.
    Replaced,
    /// Nothing was stored: the key had a live entry, and `only_new` was set.
    Present,
    /// Nothing was stored: `unless` was true when the write's turn came.
    Discarded,
}

impl DiskStore {
    fn put_and_evict(
        &self,
        connection: &Connection,
        effects: &mut TransactionEffects,
        key: Key<'_>,
        record: &Record<'_>,
        label: &Label<'_>,
        rules: &Rules,
    ) -> Result<bool> {
        let incoming = Incoming::of(label, record);
        let evicts = self.may_evict(effects, &incoming, rules);
        if evicts {
            effects.several(connection)?;
        }
        let replaced = put(connection, effects, key, record, label, &self.new_keys)?;
        if evicts {
            self.evict_some(connection, effects, &incoming, rules)?;
        }
        Ok(replaced)
    }

    /// Whether a key has a live entry. An entry whose file is missing is none, as it is for reads: otherwise the key would
    /// have no value, and yet none could be added.
    fn has_live(&self, connection: &Connection, key: Key<'_>, now: f64) -> Result<bool> {
        let found: Option<(Option<f64>, StoredSize, FileName)> = connection
            .prepare_cached(LIFE_OF)?
            .query_row(params![bind(key.datum), key.raw], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((expires, StoredSize(size), FileName(filename))) = found else { return Ok(false) };
        if expires.is_some_and(|time| time <= now) {
            return Ok(false);
        }
        match filename {
            // What cannot be opened for another reason may be read later, or by others.
            Some(name) if self.has_own_files.load(Ordering::Relaxed) => {
                Ok(!matches!(files::is_there(&self.directory, &name), Ok(false)))
            }
            Some(name) => Ok(!matches!(files::open(&self.directory, &name, size), Ok(None))),
            None => Ok(true),
        }
    }

    /// Stores an entry. With `only_new`, it is stored only if the key has no live entry. It is not stored if
    /// `unless` returns true; this is asked when the write's turn comes, and no other write of this store
    /// comes between that and the commit. With a `lease`, the entry is stored only if the lease still exists,
    /// and the lease ends. If nothing is stored, the record's file is removed. If the call fails, the file
    /// belongs to the caller, who may try again or remove it, unless the error is [`Error::InDoubt`].
    ///
    /// # Errors
    ///
    /// [`Error::Busy`]; the database cannot be written.
    #[expect(clippy::too_many_arguments, reason = "a row, and when to store it")]
    pub fn put(
        &self,
        key: Key<'_>,
        record: Record<'_>,
        label: Label<'_>,
        only_new: bool,
        unless: &(dyn Fn() -> bool + Sync),
        lease: Option<&LeaseToken>,
        rules: &Rules,
        patience: Duration,
    ) -> Result<Written<Put>> {
        self.write(patience, |connection, effects| {
            let has_lease =
                lease.map_or(Ok(true), |token| self.may_land(connection, key, token, label.tag))?;
            let refused = if !has_lease || unless() {
                Some(Put::Discarded)
            } else if only_new && self.has_live(connection, key, label.now)? {
                Some(Put::Present)
            } else {
                None
            };
            if refused != Some(Put::Discarded) {
                // Also if an entry was present: no result that was computed before this call may be stored
                // after it.
                self.void(effects, key)?;
            }
            if let Some(refused) = refused {
                effects.refused(record.filename);
                return Ok(refused);
            }
            let replaced = self.put_and_evict(connection, effects, key, &record, &label, rules)?;
            Ok(if replaced { Put::Replaced } else { Put::Inserted })
        })
    }

    /// Stores or replaces an entry, then evicts as the rules say.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`]; the database cannot be written.
    pub fn set(
        &self,
        key: Key<'_>,
        record: Record<'_>,
        label: Label<'_>,
        rules: &Rules,
        patience: Duration,
    ) -> Result<Written<()>> {
        let put = self.put(key, record, label, false, &|| false, None, rules, patience)?;
        Ok(put.map(|_| ()))
    }

    /// Stores only if the key has no live entry. Returns whether it did; if not, the record's file is removed.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`]; the database cannot be written.
    pub fn add(
        &self,
        key: Key<'_>,
        record: Record<'_>,
        label: Label<'_>,
        rules: &Rules,
        patience: Duration,
    ) -> Result<Written<bool>> {
        if self.adds_find_entries.load(Ordering::Relaxed)
            && self.is_surely_present(key, label.now, patience)?
        {
            self.remove_all(record.filename.map(str::to_owned).as_slice());
            return Ok(Written { result: false, commit: None });
        }
        let put = self.put(key, record, label, true, &|| false, None, rules, patience)?;
        self.adds_find_entries.store(put.result == Put::Present, Ordering::Relaxed);
        Ok(put.map(|put| put != Put::Present))
    }

    /// Whether a key has a live entry, and no lease exists that an attempt to write would have to void. Does
    /// not take the lock to write.
    fn is_surely_present(&self, key: Key<'_>, now: f64, patience: Duration) -> Result<bool> {
        if self.pool.in_transaction() {
            return Ok(false);
        }
        self.read(patience, |connection| {
            let Some(header) = connection.header() else { return Ok(false) };
            // In this order, a lease that was given before the entry was seen is seen as well.
            Ok(self.has_live(connection, key, now)?
                && matches!(self.gates.has_leases(Some(header.version())), Ok(false)))
        })
    }

    /// Stores an entry again that was popped, unless its key has a live one by now. Returns whether it did.
    /// If not, its file is removed after the commit. A rollback leaves the file, since the row is there
    /// again.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`]; the database cannot be written.
    pub fn put_back(
        &self,
        key: Key<'_>,
        record: Record<'_>,
        label: Label<'_>,
        rules: &Rules,
        patience: Duration,
    ) -> Result<Written<bool>> {
        self.write(patience, |connection, effects| {
            self.void(effects, key)?;
            if self.has_live(connection, key, label.now)? {
                effects.old_files.extend(record.filename.map(str::to_owned));
                return Ok(false);
            }
            self.put_and_evict(connection, effects, key, &record, &label, rules)?;
            // This block did not create the file.
            effects.new_files.retain(|name| Some(&**name) != record.filename);
            Ok(true)
        })
    }

    /// Adds to a number, or stores `begin` where there is no live entry.
    ///
    /// # Errors
    ///
    /// [`Error::NotANumber`], [`Error::Overflow`], [`Error::NoSum`], [`Error::Busy`]; the database cannot be written.
    pub fn increment(
        &self,
        key: Key<'_>,
        delta: Number,
        begin: Option<Record<'_>>,
        now: f64,
        rules: &Rules,
        patience: Duration,
    ) -> Result<Written<Counted>> {
        self.write(patience, |connection, effects| {
            self.void(effects, key)?;
            let found: Option<(i64, Option<f64>, FileName, Owned)> = connection
                .prepare_cached(NUMBER_OF)?
                .query_row(params![bind(key.datum), key.raw], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                })
                .optional()?;
            let label = Label { now, expire_time: None, tag: ValueRef::Null };
            match (found, &begin) {
                (Some((rowid, expires, FileName(None), Owned(value))), _)
                    if expires.is_none_or(|time| time >= now) =>
                {
                    let sum = match value {
                        Value::Integer(number) => Number::Integer(number.into()),
                        Value::Real(number) => Number::Real(number),
                        _ => return Err(Error::NotANumber),
                    }
                    .plus(delta)?;
                    effects.written.add(key);
                    if let Some(begin) = &begin {
                        effects.refused(begin.filename);
                    }
                    if rules.policy.get.is_some() {
                        effects.several(connection)?;
                    }
                    let mut update = connection
                        .prepare_cached("UPDATE Cache SET store_time = ?2, value = ?3 WHERE rowid = ?1")?;
                    match sum {
                        Number::Integer(sum) => {
                            let sum = i64::try_from(sum).map_err(|_| Error::Overflow)?;
                            update.execute((rowid, now, sum))?
                        }
                        Number::Real(sum) => update.execute((rowid, now, sum))?,
                    };
                    if let Some(fragment) = &rules.policy.get {
                        touch_by_policy(connection, fragment, rowid, now)?;
                    }
                    Ok(Counted::Sum(sum))
                }
                (Some((_, expires, FileName(Some(_)), _)), _) if expires.is_none_or(|time| time >= now) => {
                    Err(Error::NotANumber)
                }
                (_, None) => Ok(Counted::Missing),
                (_, Some(record)) => {
                    self.put_and_evict(connection, effects, key, record, &label, rules)?;
                    Ok(Counted::Began)
                }
            }
        })
    }

    /// Changes when a live entry expires. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`]; the database cannot be written.
    pub fn touch(
        &self,
        key: Key<'_>,
        now: f64,
        expire_time: Option<f64>,
        patience: Duration,
    ) -> Result<Written<bool>> {
        self.write(patience, |connection, effects| {
            let columns = params![bind(key.datum), key.raw, now, expire_time];
            self.forecast().expect_expiry(expire_time);
            let touched = connection.prepare_cached(TOUCH)?.execute(columns)? > 0;
            if touched {
                effects.written.add(key);
            }
            Ok(touched)
        })
    }

    /// Deletes a live entry. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`]; the database cannot be written.
    pub fn delete(&self, key: Key<'_>, now: f64, patience: Duration) -> Result<Written<bool>> {
        self.write(patience, |connection, effects| {
            self.void(effects, key)?;
            let columns = params![bind(key.datum), key.raw, now];
            // If the last deleted entry had a file, this one probably has one, too.
            let may_be_inline = !self.files_deleted.load(Ordering::Relaxed);
            if may_be_inline && connection.prepare_cached(DELETE_INLINE)?.execute(columns)? > 0 {
                effects.written.add(key);
                effects.taken(0);
                return Ok(true);
            }
            let found: Option<(i64, StoredSize, FileName)> = connection
                .prepare_cached(TO_DELETE)?
                .query_row(columns, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()?;
            let Some((rowid, StoredSize(size), FileName(filename))) = found else { return Ok(false) };
            delete_row(connection, rowid)?;
            self.files_deleted.store(filename.is_some(), Ordering::Relaxed);
            effects.written.add(key);
            effects.deleted(size, filename);
            Ok(true)
        })
    }

    /// Removes a live entry and returns it. Its file stays until [`DiskStore::discard`].
    ///
    /// # Errors
    ///
    /// [`Error::Busy`]; the database cannot be written.
    pub fn pop(&self, key: Key<'_>, now: f64, patience: Duration) -> Result<Written<Option<Entry>>> {
        self.write(patience, |connection, effects| {
            self.void(effects, key)?;
            let taken = find(connection, key, now)?;
            if let Some(entry) = &taken {
                delete_row(connection, entry.rowid)?;
                effects.written.add(key);
                effects.taken(entry.size);
            }
            Ok(taken)
        })
    }

    /// Removes the file of an entry that was popped: now, or after the thread's transaction has committed.
    pub fn discard(&self, entry: &Entry) {
        let Some(filename) = &entry.filename else { return };
        match self.pool.own_transaction() {
            Ok(mut checkout) => {
                if let Ok(Some((_, effects))) = checkout.transaction() {
                    effects.old_files.push(filename.clone());
                }
            }
            Err(_) => self.remove_all(std::slice::from_ref(filename)),
        }
    }
}
