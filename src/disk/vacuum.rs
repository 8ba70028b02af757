//! Decides when a database gives back its free pages.
//!
//! python-diskcache lets its databases shrink by themselves: at the end of each transaction SQLite moves
//! pages from the end of the file to the free ones, and truncates the file. So a `delete` writes pages that
//! it does not change, and the next `set` makes the file longer again. Here a few free pages stay, which the
//! next writes use. A transaction that evicts, or removes many entries, gives back all of them, since the
//! size of the file decides whether there is room.

use std::cell::Cell;
use std::ffi::{c_char, c_uint, c_void};
use std::ptr;

use rusqlite::{Connection, ffi};

/// If there are at least this many free pages, all are given back: a quarter of a megabyte.
const MANY: c_uint = 64;

thread_local! {
    /// Whether the transaction that this thread commits gives back all free pages.
    static ALL: Cell<bool> = const { Cell::new(false) };
}

/// Says whether the transaction that this thread commits next gives back all free pages.
pub(crate) fn give_back_all(all: bool) {
    ALL.set(all);
}

/// SQLite's callback: returns how many of the free pages a transaction gives back.
unsafe extern "C" fn pages(_: *mut c_void, _: *const c_char, _: c_uint, free: c_uint, _: c_uint) -> c_uint {
    if free >= MANY || ALL.get() { free } else { 0 }
}

/// Installs the callback on a connection. SQLite never calls it for a database that does not shrink by
/// itself.
pub(crate) fn attend(connection: &Connection) -> rusqlite::Result<()> {
    // SAFETY: the connection is open. The callback has no context, so there is nothing to destroy.
    let code =
        unsafe { ffi::sqlite3_autovacuum_pages(connection.handle(), Some(pages), ptr::null_mut(), None) };
    match code {
        ffi::SQLITE_OK => Ok(()),
        code => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)),
    }
}
