//! Keys and values as the table stores them.

use rusqlite::types::{FromSql, Value, ValueRef};
use rusqlite::{Result, Row};

/// How a value is encoded: the table's column `mode`.
pub mod mode {
    /// The value is in the table as it is.
    pub const RAW: i64 = 1;
    /// The value is the bytes of a file.
    pub const BINARY: i64 = 2;
    /// The value is the UTF-8 text of a file.
    pub const TEXT: i64 = 3;
    /// The value is serialized, in the table or in a file.
    pub const PICKLE: i64 = 4;
    /// Added to one of the modes above: compressed with zstd.
    pub const ZSTD: i64 = 16;
    /// Added to one of the modes above: compressed with LZ4.
    pub const LZ4: i64 = 32;
    /// The mask that leaves the mode without its compression.
    pub const BASE: i64 = 15;
}

/// The columns of a row.
pub(crate) trait Columns {
    /// Reads a column.
    fn get<T: FromSql>(&self, place: usize) -> Result<T>;
}

impl Columns for Row<'_> {
    fn get<T: FromSql>(&self, place: usize) -> Result<T> {
        Row::get(self, place)
    }
}

/// A key as the table stores it.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The column `key`.
    pub datum: ValueRef<'a>,
    /// Whether `datum` is the key itself, not a serialized key.
    pub raw: bool,
}

/// A key read from the table.
#[derive(Clone, Debug)]
pub struct OwnedKey {
    /// The column `key`.
    pub datum: Value,
    /// Whether `datum` is the key itself, not a serialized key.
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

/// A value to store. Its file, if it has one, already exists.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The size of the file in bytes, 0 without a file.
    pub size: i64,
    /// How the value is encoded, see [`mode`].
    pub mode: i64,
    /// The file's name, relative to the directory.
    pub filename: Option<&'a str>,
    /// The column `value`.
    pub value: ValueRef<'a>,
}

/// What is stored along with a value.
#[derive(Clone, Copy, Debug)]
pub struct Label<'a> {
    /// The time of the call, in seconds since the epoch.
    pub now: f64,
    /// When the entry expires, in seconds since the epoch; `None` for never.
    pub expire_time: Option<f64>,
    /// The tag; [`DiskStore::evict_tag_some`](crate::DiskStore::evict_tag_some) removes the entries of one tag.
    pub tag: ValueRef<'a>,
}

/// A value read from the table.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The row's id. Ids grow in the order in which keys were added.
    pub rowid: i64,
    /// When the entry expires, in seconds since the epoch; `None` for never.
    pub expire_time: Option<f64>,
    /// The tag; [`DiskStore::evict_tag_some`](crate::DiskStore::evict_tag_some) removes the entries of one tag.
    pub tag: Value,
    /// The size of the file in bytes, 0 without a file.
    pub size: i64,
    /// How the value is encoded, see [`mode`].
    pub mode: i64,
    /// The file's name, relative to the directory.
    pub filename: Option<String>,
    /// The column `value`.
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

    /// Whether the entry has expired. An entry whose time is exactly `now` has not.
    pub(crate) fn expired(&self, now: f64) -> bool {
        self.expire_time.is_some_and(|expires| expires < now)
    }
}
