//! Seeing whether anyone has written to a database, for the price of reading a few words.
//!
//! Processes that use a database in WAL mode share an index of its log, which begins with a header: each
//! transaction that is committed changes it. SQLite has the index mapped into memory; here its first words are
//! read from there, without a lock and without a call of the system. Where there is no shared index, SQLite is
//! asked, which costs about as much as a read.

#![expect(unsafe_code, reason = "SQLite's interface is C")]

use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering, fence};

use rusqlite::{Connection, ffi};

use crate::error::Result;
use crate::pool::PooledConnection;

/// Which state of a database has been seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// Counts transactions; wraps around.
    pub count: u32,
    /// Differs, almost surely, where the count alone does not.
    pub sum: u32,
}

impl Version {
    /// The version of several databases together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { count: self.count.wrapping_add(other.count), sum: self.sum.wrapping_add(other.sum) }
    }

    /// Whether exactly one transaction lies between an earlier version and this one.
    #[must_use]
    pub fn is_next_after(self, earlier: Self) -> bool {
        self.count == earlier.count.wrapping_add(1)
    }
}

/// The size in bytes of the pieces in which SQLite maps the index.
const PIECE: c_int = 32768;

/// Places in the header, in words: the counter of transactions, and a checksum of the header.
const COUNT: usize = 2;
const SUM: usize = 10;

/// The mapped header of the index that the users of a database's log share.
///
/// Valid as long as the connection is open that it was found with.
#[derive(Debug)]
pub(crate) struct Header(NonNull<AtomicU32>);

// SAFETY: it is memory that other processes write to as well, which is only read as atomics, so by any thread. That it
// stays mapped is up to `PooledConnection`, which owns both the header and the connection.
unsafe impl Send for Header {}

impl Header {
    /// `None` where the database has no shared index.
    pub(crate) fn of(connection: &Connection) -> Option<Self> {
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).ok()?;
        if mode != "wal" {
            return None;
        }
        // SAFETY: the connection is open and used by this thread alone. SQLite hands out its own file, whose methods
        // are called as SQLite does.
        unsafe {
            let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
            let code = ffi::sqlite3_file_control(
                connection.handle(),
                c"main".as_ptr(),
                ffi::SQLITE_FCNTL_FILE_POINTER,
                (&raw mut file).cast(),
            );
            if code != ffi::SQLITE_OK {
                return None;
            }
            let methods = file.as_ref()?.pMethods.as_ref()?;
            if methods.iVersion < 2 {
                return None;
            }
            let mut piece: *mut c_void = ptr::null_mut();
            let code = methods.xShmMap?(file, 0, PIECE, 0, (&raw mut piece).cast());
            if code == ffi::SQLITE_OK { NonNull::new(piece.cast()).map(Self) } else { None }
        }
    }

    #[inline]
    pub(crate) fn version(&self) -> Version {
        // SAFETY: the piece is larger than the header, and mapped, see above; words are aligned.
        let word = |place: usize| unsafe { self.0.add(place).as_ref() }.load(Ordering::Relaxed);
        let version = Version { count: word(COUNT), sum: word(SUM) };
        // What is read from the database after this is at least as new.
        fence(Ordering::Acquire);
        version
    }
}

/// Looks at one database, through a connection that nobody else uses.
pub(crate) struct Watch(PooledConnection);

impl Watch {
    pub(crate) fn new(connection: PooledConnection) -> Result<Self> {
        // Opens the log, and with it the index, if there is one.
        connection.query_row("SELECT COUNT(*) FROM sqlite_master", [], |_| Ok(()))?;
        Ok(Self(connection))
    }

    /// The version, where there is a shared index.
    #[inline]
    pub(crate) fn version_in_memory(&self) -> Option<Version> {
        self.0.header().map(Header::version)
    }

    pub(crate) fn version(&mut self) -> Result<Version> {
        if let Some(version) = self.version_in_memory() {
            return Ok(version);
        }
        let mut ask = self.0.prepare_cached("PRAGMA data_version")?;
        let count: i64 = ask.query_row([], |row| row.get(0))?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it wraps around")]
        Ok(Version { count: count as u32, sum: 0 })
    }
}
