//! Reading a database's version: from the header of its log's index, or from the file.
//!
//! Processes that use a database in WAL mode share an index of its log. It begins with a header, which each committed
//! transaction changes. SQLite has the index mapped into memory, and this module reads the header there, without a lock
//! and without a system call. Where there is no shared index, the file of the database has a counter of transactions.

#![expect(unsafe_code, reason = "SQLite's interface is C")]

use std::ffi::{CStr, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering, fence};

use rusqlite::{Connection, ffi};

/// A state of a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// Counts the transactions that changed the database, and wraps around. Recovery after a crash begins at 0 again.
    pub count: u32,
    /// A checksum over the log's header, with random bytes in it. 0 without a log.
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

    /// Both numbers in one.
    pub(crate) fn packed(self) -> u64 {
        u64::from(self.count) << 32 | u64::from(self.sum)
    }
}

/// The size in bytes of the pieces in which SQLite maps the index.
const PIECE: c_int = 32768;

/// Offsets in the header, in words: the counter of transactions, and a checksum of the header.
const COUNT: usize = 2;
const SUM: usize = 10;

/// The offset of the counter of transactions in the file of a database, in bytes.
const CHANGE_COUNTER: i64 = 24;

/// The mapped header of the index that the users of a database's log share.
///
/// Valid as long as a connection of this process to the database is open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header(NonNull<AtomicU32>);

// SAFETY: the memory is only read, as atomics, so any thread may read it. Other processes write it. Those who keep a
// `Header` keep a connection open along with it, so that the memory stays mapped.
unsafe impl Send for Header {}
// SAFETY: as above.
unsafe impl Sync for Header {}

impl Header {
    /// `None` where the database has no shared index.
    pub(crate) fn of(connection: &Connection) -> Option<Self> {
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).ok()?;
        if mode != "wal" {
            return None;
        }
        let file = file_of(connection)?;
        // SAFETY: the file belongs to the open connection, which this thread alone uses. The methods are called as
        // SQLite calls them.
        unsafe {
            let methods = file.as_ref().pMethods.as_ref()?;
            if methods.iVersion < 2 {
                return None;
            }
            let mut piece: *mut c_void = ptr::null_mut();
            let code = methods.xShmMap?(file.as_ptr(), 0, PIECE, 0, (&raw mut piece).cast());
            // If the index can only be read, SQLite reports that, but maps it all the same.
            let is_mapped = code == ffi::SQLITE_OK || code == ffi::SQLITE_READONLY;
            if is_mapped { NonNull::new(piece.cast()).map(Self) } else { None }
        }
    }

    /// The same header from its address.
    ///
    /// # Safety
    ///
    /// The address comes from [`Header::address`], and the memory is still mapped.
    pub(crate) unsafe fn at(address: NonNull<AtomicU32>) -> Self {
        Self(address)
    }

    pub(crate) fn address(self) -> NonNull<AtomicU32> {
        self.0
    }

    #[inline(always)]
    pub(crate) fn version(&self) -> Version {
        // SAFETY: the piece is larger than the header, and mapped, see above; words are aligned.
        let word = |place: usize| unsafe { self.0.add(place).as_ref() }.load(Ordering::Relaxed);
        let version = Version { count: word(COUNT), sum: word(SUM) };
        // Later reads of the database see a state that is at least as new.
        fence(Ordering::Acquire);
        version
    }
}

/// The counter of transactions in the file of a database. `None` if it cannot be read, or the file is empty.
///
/// It is exact while the connection has a lock on the file.
pub(crate) fn change_counter(connection: &Connection) -> Option<Version> {
    let file = file_of(connection)?;
    let mut bytes = [0_u8; 4];
    // SAFETY: the file belongs to the open connection, which this thread alone uses. The buffer has the length given.
    let code = unsafe {
        file.as_ref().pMethods.as_ref()?.xRead?(file.as_ptr(), bytes.as_mut_ptr().cast(), 4, CHANGE_COUNTER)
    };
    (code == ffi::SQLITE_OK).then(|| Version { count: u32::from_be_bytes(bytes), sum: 0 })
}

/// The number of pages that a connection has written to its database or its log.
pub(crate) fn pages_written(connection: &Connection) -> i32 {
    let (mut current, mut highest) = (0, 0);
    // SAFETY: the connection is open and used by this thread alone, and both places can be written.
    unsafe {
        ffi::sqlite3_db_status(
            connection.handle(),
            ffi::SQLITE_DBSTATUS_CACHE_WRITE,
            &raw mut current,
            &raw mut highest,
            0,
        );
    }
    current
}

/// SQLite's own file of a connection's database.
fn file_of(connection: &Connection) -> Option<NonNull<ffi::sqlite3_file>> {
    const MAIN: &CStr = c"main";
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    // SAFETY: the connection is open and used by this thread alone. SQLite hands out its own file.
    let code = unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            MAIN.as_ptr(),
            ffi::SQLITE_FCNTL_FILE_POINTER,
            (&raw mut file).cast(),
        )
    };
    if code == ffi::SQLITE_OK { NonNull::new(file) } else { None }
}
