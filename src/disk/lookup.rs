//! The statements that find a key's row, compiled once for each connection.
//!
//! In a read this short, finding the statement among the compiled ones, checking its parameters and iterating
//! over its rows takes a tenth of the time. Here the statement is kept at hand and returns one row.

#![expect(unsafe_code, reason = "SQLite's interface is C")]

use std::ffi::{CStr, c_int};
use std::ptr::{self, NonNull};
use std::slice;

use rusqlite::types::{FromSql, ValueRef};
use rusqlite::{Connection, Error, Result, ffi};

use crate::row::{Columns, Key};

/// A statement whose parameters are a key's datum, whether it is raw, and the time.
pub(crate) struct Lookup(NonNull<ffi::sqlite3_stmt>);

// SAFETY: a statement belongs to its connection, and may be used by any thread that uses the connection.
// `PooledConnection` owns both, and only one thread at a time has it.
unsafe impl Send for Lookup {}

impl Lookup {
    /// Compiles a statement. It must be dropped before the connection is.
    pub(crate) fn new(connection: &Connection, sql: &str) -> Result<Self> {
        let length = c_int::try_from(sql.len()).map_err(|_| Error::InvalidQuery)?;
        let mut statement = ptr::null_mut();
        // SAFETY: the connection is open and this thread's; `sql` has `length` bytes.
        let code = unsafe {
            ffi::sqlite3_prepare_v3(
                connection.handle(),
                sql.as_ptr().cast(),
                length,
                ffi::SQLITE_PREPARE_PERSISTENT,
                &raw mut statement,
                ptr::null_mut(),
            )
        };
        match NonNull::new(statement) {
            Some(statement) if code == ffi::SQLITE_OK => Ok(Self(statement)),
            _ => {
                // SAFETY: as above.
                Err(unsafe { failure(connection.handle(), code) })
            }
        }
    }

    /// Runs the statement, and returns the result of `read` for the row that it finds. `read` is a function
    /// pointer: as it captures nothing, it cannot start the statement again.
    pub(crate) fn find<R>(
        &self,
        key: Key<'_>,
        now: f64,
        read: fn(&Found<'_>) -> Result<R>,
    ) -> Result<Option<R>> {
        let run = Run(self);
        run.bind(key, now)?;
        // SAFETY: the statement is compiled, and not running.
        match unsafe { ffi::sqlite3_step(self.0.as_ptr()) } {
            ffi::SQLITE_ROW => read(&Found(&run)).map(Some),
            ffi::SQLITE_DONE => Ok(None),
            code => Err(run.failure(code)),
        }
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        // SAFETY: nobody uses the statement any more. The result code only repeats an earlier error.
        unsafe { ffi::sqlite3_finalize(self.0.as_ptr()) };
    }
}

/// A statement that is running.
struct Run<'a>(&'a Lookup);

impl Run<'_> {
    fn bind(&self, key: Key<'_>, now: f64) -> Result<()> {
        let statement = self.0.0.as_ptr();
        // SAFETY: the statement has these parameters. SQLite does not copy the key's bytes, and reads them
        // until the statement is reset at the end of the run; the key lives longer.
        let codes = unsafe {
            let datum = match key.datum {
                ValueRef::Null => ffi::sqlite3_bind_null(statement, 1),
                ValueRef::Integer(number) => ffi::sqlite3_bind_int64(statement, 1, number),
                ValueRef::Real(number) => ffi::sqlite3_bind_double(statement, 1, number),
                ValueRef::Text(text) => ffi::sqlite3_bind_text64(
                    statement,
                    1,
                    text.as_ptr().cast(),
                    text.len() as u64,
                    ffi::SQLITE_STATIC(),
                    UTF8,
                ),
                ValueRef::Blob(bytes) => ffi::sqlite3_bind_blob64(
                    statement,
                    1,
                    bytes.as_ptr().cast(),
                    bytes.len() as u64,
                    ffi::SQLITE_STATIC(),
                ),
            };
            [
                datum,
                ffi::sqlite3_bind_int(statement, 2, c_int::from(key.raw)),
                ffi::sqlite3_bind_double(statement, 3, now),
            ]
        };
        codes.into_iter().find(|&code| code != ffi::SQLITE_OK).map_or(Ok(()), |code| Err(self.failure(code)))
    }

    fn failure(&self, code: c_int) -> Error {
        // SAFETY: the statement is compiled, so its connection is open.
        unsafe { failure(ffi::sqlite3_db_handle(self.0.0.as_ptr()), code) }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let statement = self.0.0.as_ptr();
        // SAFETY: the statement is compiled. Resetting it ends the read; the key's bytes are not read again.
        unsafe {
            ffi::sqlite3_reset(statement);
            ffi::sqlite3_bind_null(statement, 1);
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it is 1")]
const UTF8: u8 = ffi::SQLITE_UTF8 as u8;

/// The row that was found.
pub(crate) struct Found<'a>(&'a Run<'a>);

impl Columns for Found<'_> {
    fn get<T: FromSql>(&self, place: usize) -> Result<T> {
        let value = self.value(place)?;
        T::column_result(value)
            .map_err(|error| Error::FromSqlConversionFailure(place, value.data_type(), Box::new(error)))
    }
}

impl Found<'_> {
    fn value(&self, place: usize) -> Result<ValueRef<'_>> {
        let statement = self.0.0.0.as_ptr();
        let column = c_int::try_from(place).map_err(|_| Error::InvalidColumnIndex(place))?;
        // SAFETY: the statement is at a row, and returns NULL for a column that it does not have. The memory
        // that it points to stays until the statement is reset, when `Run` is dropped. For an empty value the
        // pointer may be null.
        unsafe {
            let bytes = |start: *const u8| {
                let length = usize::try_from(ffi::sqlite3_column_bytes(statement, column)).unwrap_or(0);
                match NonNull::new(start.cast_mut()) {
                    Some(start) => Ok(slice::from_raw_parts(start.as_ptr(), length)),
                    None if length == 0 => Ok(&[][..]),
                    // SQLite had no memory left.
                    None => Err(self.0.failure(ffi::SQLITE_NOMEM)),
                }
            };
            Ok(match ffi::sqlite3_column_type(statement, column) {
                ffi::SQLITE_INTEGER => ValueRef::Integer(ffi::sqlite3_column_int64(statement, column)),
                ffi::SQLITE_FLOAT => ValueRef::Real(ffi::sqlite3_column_double(statement, column)),
                ffi::SQLITE_TEXT => ValueRef::Text(bytes(ffi::sqlite3_column_text(statement, column))?),
                ffi::SQLITE_BLOB => {
                    ValueRef::Blob(bytes(ffi::sqlite3_column_blob(statement, column).cast())?)
                }
                _ => ValueRef::Null,
            })
        }
    }
}

/// The error that a connection reports for a failure.
///
/// # Safety
///
/// The connection must be open.
#[cold]
unsafe fn failure(connection: *mut ffi::sqlite3, code: c_int) -> Error {
    // SAFETY: the connection is open, and its message is a text that stays until its next call.
    let message = unsafe { CStr::from_ptr(ffi::sqlite3_errmsg(connection)) };
    Error::SqliteFailure(ffi::Error::new(code), Some(message.to_string_lossy().into_owned()))
}
