//! A connection to a database, and what a store keeps along with it.

use std::cell::{Cell, OnceCell};
use std::ops::Deref;
use std::path::{Path, PathBuf};

use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags};

use crate::error::Result;
use crate::patience::busy_handler;
use crate::sqlite_guard::{Claim, File};
use crate::version::{Header, Version, change_counter};

/// The number of statements that a connection keeps compiled.
const STATEMENTS: usize = 64;

thread_local! {
    /// The length of the log in pages after the last transaction of this thread that added to it, or 0.
    static LOG_PAGES: Cell<i32> = const { Cell::new(0) };
}

/// SQLite calls this after a transaction that added to the log. Its own hook would write the log back here, and other
/// writers would wait for that.
#[expect(clippy::unnecessary_wraps, reason = "it is SQLite's hook")]
fn after_commit(_: &Wal, pages: i32) -> rusqlite::Result<()> {
    LOG_PAGES.set(pages);
    Ok(())
}

/// The length of the log that this thread's last transaction left, see [`take_log_pages`].
pub(crate) fn log_pages() -> i32 {
    LOG_PAGES.get()
}

/// Takes the length of the log that this thread's last transaction left: 0 if it added nothing, or where there is no log.
pub(crate) fn take_log_pages() -> i32 {
    LOG_PAGES.take()
}

/// A connection that is counted among the open ones of this process, with `extension`, which the store chooses:
/// statements that stay compiled, for instance.
pub(crate) struct PooledConnection<C> {
    // Fields are dropped in this order: statements, then their connection, then the claim.
    extension: C,
    connection: Connection,
    header: OnceCell<Option<Header>>,
    claim: Claim,
}

impl<C: Default> PooledConnection<C> {
    /// Opens a database, which is created if there is none.
    pub(crate) fn open(database: &Path) -> Result<Self> {
        Self::open_with(Claim::on(database)?, database, OpenFlags::SQLITE_OPEN_CREATE)
    }

    /// Opens a database that is there.
    pub(crate) fn open_existing(database: &Path) -> Result<Self> {
        Self::open_with(Claim::on_existing(database)?, database, OpenFlags::empty())
    }

    fn open_with(claim: Claim, database: &Path, flags: OpenFlags) -> Result<Self> {
        let flags = flags
            | OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let connection = Connection::open_with_flags(plain_name(database), flags)?;
        connection.busy_handler(Some(busy_handler))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.wal_hook(Some(after_commit));
        Ok(Self { extension: C::default(), connection, header: OnceCell::new(), claim })
    }
}

impl<C> PooledConnection<C> {
    /// What the store keeps along with the connection.
    #[inline]
    pub(crate) fn extension(&self) -> &C {
        &self.extension
    }

    /// The file that the connection has open.
    pub(crate) fn file(&self) -> Option<File> {
        self.claim.file()
    }

    /// The header of the log's index, which stays mapped as long as the connection is open. `None` without a log.
    #[inline]
    pub(crate) fn header(&self) -> Option<&Header> {
        self.header.get_or_init(|| Header::of(&self.connection)).as_ref()
    }

    /// The version of the database: of the log if there is one, otherwise of the file. `None` if it cannot be read.
    pub(crate) fn version(&self) -> Option<Version> {
        match self.header() {
            Some(header) => Some(header.version()),
            None => change_counter(&self.connection),
        }
    }
}

impl<C> Deref for PooledConnection<C> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

/// The path as SQLite takes it for a file name. It would take a name that begins with `file:` for a URI.
fn plain_name(database: &Path) -> PathBuf {
    if database.is_relative() { Path::new(".").join(database) } else { database.to_owned() }
}
