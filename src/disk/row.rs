//! Keys and values as the table stores them.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, Value, ValueRef};
use rusqlite::{Result, Row};

use crate::compression::with_room;
use crate::error::OutOfMemory;

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
    /// Added to one of the modes above: compressed with LZ4, without a checksum. Such values are read, but no
    /// longer written.
    pub const LZ4: i64 = 32;
    /// Added to one of the modes above: compressed with LZ4, and a checksum of the compressed bytes comes after them.
    pub const LZ4_SUMMED: i64 = 64;
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

/// The longest name of a file, in bytes; no system takes longer ones.
const LONGEST_NAME: usize = 4096;

/// The column `filename`. A value that is not a text names no file: it becomes the empty name, which is not
/// inside the directory.
#[derive(Clone, Debug)]
pub(crate) struct FileName(pub(crate) Option<String>);

impl FromSql for FileName {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(Self(match value {
            ValueRef::Null => None,
            ValueRef::Text(name) if name.len() <= LONGEST_NAME => {
                Some(std::str::from_utf8(name).unwrap_or_default().to_owned())
            }
            _ => Some(String::new()),
        }))
    }
}

/// A column, copied into memory of its own. Fails if memory runs out: a column may be as large as the
/// database.
#[derive(Clone, Debug)]
pub(crate) struct Owned(pub(crate) Value);

impl FromSql for Owned {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let copy = |bytes: &[u8]| -> FromSqlResult<Vec<u8>> {
            let mut copy = with_room(bytes.len()).map_err(|_| FromSqlError::Other(Box::new(OutOfMemory)))?;
            copy.extend_from_slice(bytes);
            Ok(copy)
        };
        Ok(Self(match value {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => Value::Integer(number),
            ValueRef::Real(number) => Value::Real(number),
            ValueRef::Text(text) => {
                let text = String::from_utf8(copy(text)?);
                Value::Text(text.map_err(|error| FromSqlError::Other(Box::new(error)))?)
            }
            ValueRef::Blob(bytes) => Value::Blob(copy(bytes)?),
        }))
    }
}

/// The column `size`. A value that is no size of a file counts as 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredSize(pub(crate) i64);

/// The largest size that a file can have, about. Sums of such sizes are exact as floats, too.
const LARGEST_SIZE: i64 = 1 << 53;

impl FromSql for StoredSize {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let size = value.as_i64().unwrap_or(0);
        Ok(Self(if (0..=LARGEST_SIZE).contains(&size) { size } else { 0 }))
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
        Ok(Self { datum: row.get::<_, Owned>(first)?.0, raw: row.get(first + 1)? })
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

/// The columns that are stored along with a value.
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
        let (rowid, expire_time, Owned(tag)) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(Self { rowid, expire_time, tag, ..Self::from_value(row, 3)? })
    }

    /// Reads, from a column on: size, mode, filename, value.
    pub(crate) fn from_value(row: &impl Columns, first: usize) -> Result<Self> {
        Ok(Self {
            rowid: 0,
            expire_time: None,
            tag: Value::Null,
            size: row.get::<StoredSize>(first)?.0,
            mode: row.get::<Option<i64>>(first + 1)?.unwrap_or(0),
            filename: row.get::<FileName>(first + 2)?.0,
            value: row.get::<Owned>(first + 3)?.0,
        })
    }

    /// Whether the entry has expired. An entry whose time is exactly `now` has not.
    pub(crate) fn expired(&self, now: f64) -> bool {
        self.expire_time.is_some_and(|expires| expires < now)
    }
}
