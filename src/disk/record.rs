//! Keys and values as they lie in the table.

use rusqlite::types::{FromSql, Value, ValueRef};
use rusqlite::{Result, Row};

/// How a value is to be read back; the table's column `mode`.
pub mod mode {
    /// As it is in the table.
    pub const RAW: i64 = 1;
    /// The bytes of a file.
    pub const BINARY: i64 = 2;
    /// The UTF-8 text of a file.
    pub const TEXT: i64 = 3;
    /// Serialized, in the table or in a file.
    pub const PICKLE: i64 = 4;
    /// Added to one of the others: compressed with zstd.
    pub const ZSTD: i64 = 16;
    /// Added to one of the others: compressed with LZ4.
    pub const LZ4: i64 = 32;
    /// Removes what was added.
    pub const BASE: i64 = 15;
}

/// A row that was found.
pub(crate) trait Columns {
    /// What a column holds.
    fn get<T: FromSql>(&self, place: usize) -> Result<T>;
}

impl Columns for Row<'_> {
    fn get<T: FromSql>(&self, place: usize) -> Result<T> {
        Row::get(self, place)
    }
}

/// A key as the table has it.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// Its datum.
    pub datum: ValueRef<'a>,
    /// Whether the datum is the key itself, not the key serialized.
    pub raw: bool,
}

/// A key read from the table.
#[derive(Clone, Debug)]
pub struct OwnedKey {
    /// Its datum.
    pub datum: Value,
    /// Whether the datum is the key itself, not the key serialized.
    pub raw: bool,
}

impl OwnedKey {
    /// The same key, borrowed.
    #[must_use]
    pub fn borrow(&self) -> Key<'_> {
        Key { datum: ValueRef::from(&self.datum), raw: self.raw }
    }

    pub(crate) fn from_row(row: &Row<'_>, first: usize) -> Result<Self> {
        Ok(Self { datum: row.get(first)?, raw: row.get(first + 1)? })
    }
}

/// A value to be stored. Its file, if it has one, is there already.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Bytes of the file, 0 without one.
    pub size: i64,
    /// How to read it back, see [`mode`].
    pub mode: i64,
    /// The file, relative to the directory.
    pub filename: Option<&'a str>,
    /// What the table holds.
    pub value: ValueRef<'a>,
}

/// What is stored beside a value.
#[derive(Clone, Copy, Debug)]
pub struct Label<'a> {
    /// Seconds since the epoch, the moment of the call.
    pub now: f64,
    /// Seconds since the epoch; `None` is never.
    pub expire_time: Option<f64>,
    /// The group that `evict` removes.
    pub tag: ValueRef<'a>,
}

/// A value read from the table.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its row, which says when its key came.
    pub rowid: i64,
    /// Seconds since the epoch; `None` is never.
    pub expire_time: Option<f64>,
    /// The group that `evict` removes.
    pub tag: Value,
    /// Bytes of the file, 0 without one.
    pub size: i64,
    /// How to read it back, see [`mode`].
    pub mode: i64,
    /// The file, relative to the directory.
    pub filename: Option<String>,
    /// What the table holds.
    pub value: Value,
}

impl Entry {
    /// Reads a row of: rowid, expire_time, tag, size, mode, filename, value.
    pub(crate) fn from_row(row: &Row<'_>) -> Result<Self> {
        let (rowid, expire_time, tag) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(Self { rowid, expire_time, tag, ..Self::from_value(row, 3)? })
    }

    /// Reads, from a column on: size, mode, filename, value.
    pub(crate) fn from_value(row: &impl Columns, first: usize) -> Result<Self> {
        Ok(Self {
            rowid: 0,
            expire_time: None,
            tag: Value::Null,
            size: row.get::<Option<i64>>(first)?.unwrap_or(0),
            mode: row.get::<Option<i64>>(first + 1)?.unwrap_or(0),
            filename: row.get(first + 2)?,
            value: row.get(first + 3)?,
        })
    }

    /// Whether its time is over; what ends this very moment is still there.
    pub(crate) fn expired(&self, now: f64) -> bool {
        self.expire_time.is_some_and(|expires| expires < now)
    }
}
