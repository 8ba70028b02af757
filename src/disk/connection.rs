//! A connection to a database, and what a store keeps along with it.

use std::cell::{Cell, OnceCell};
use std::ops::Deref;
use std::path::{Path, PathBuf};

use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags};

use crate::error::Result;
use crate::log_frames;
use crate::patience::busy_handler;
use crate::sqlite_guard::{Claim, File};
use crate::unchanged::Unchanged;
use crate::vacuum;
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

/// Returns the length of the log that this thread's last transaction left, and resets it. 0 if it added
/// nothing, or if there is no log.
pub(crate) fn take_log_pages() -> i32 {
    LOG_PAGES.take()
}

/// A connection that is counted among the open ones of this process. Its `extension` is data that the store
/// keeps with it, such as compiled statements.
pub(crate) struct PooledConnection<C> {
    // Fields are dropped in this order: statements, then their connection, then the claim.
    extension: C,
    connection: Connection,
    header: OnceCell<Option<Header>>,
    /// Whether commits of others cannot be noticed.
    is_opaque: OnceCell<bool>,
    /// The state of the file, if it was opened as one that nobody changes.
    unchanged: Option<Unchanged>,
    claim: Claim,
}

impl<C: Default> PooledConnection<C> {
    /// Opens a database, which is created if there is none.
    pub(crate) fn open(database: &Path) -> Result<Self> {
        Self::open_with(Claim::on(database)?, database, OpenFlags::SQLITE_OPEN_CREATE)
    }

    /// Opens an existing database.
    pub(crate) fn open_existing(database: &Path) -> Result<Self> {
        Self::open_with(Claim::on_existing(database)?, database, OpenFlags::empty())
    }

    /// Opens a database without locks, as one that nobody changes. If somebody does change it, reads may
    /// return a mixture of states.
    pub(crate) fn open_unchanged(database: &Path, unchanged: Unchanged) -> Result<Self> {
        let claim = Claim::on_existing(database)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let opened = Self::open_as(claim, &immutable_uri(database), flags)?;
        Ok(Self { unchanged: Some(unchanged), ..opened })
    }

    fn open_with(claim: Claim, database: &Path, flags: OpenFlags) -> Result<Self> {
        Self::open_as(claim, &plain_name(database), flags | OpenFlags::SQLITE_OPEN_READ_WRITE)
    }

    fn open_as(claim: Claim, name: &Path, flags: OpenFlags) -> Result<Self> {
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
        log_frames::install();
        let connection = Connection::open_with_flags(name, flags)?;
        connection.busy_handler(Some(busy_handler))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.wal_hook(Some(after_commit));
        vacuum::attend(&connection)?;
        let (header, is_opaque) = (OnceCell::new(), OnceCell::new());
        Ok(Self { extension: C::default(), connection, header, is_opaque, unchanged: None, claim })
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
            None if self.is_opaque() => None,
            None => change_counter(&self.connection),
        }
    }

    /// Whether commits of others cannot be noticed: there is a log whose index cannot be mapped, or the file
    /// was opened as one that nobody changes.
    pub(crate) fn is_opaque(&self) -> bool {
        *self.is_opaque.get_or_init(|| {
            let mode = || self.connection.pragma_query_value(None, "journal_mode", |row| row.get(0));
            let has_log = || mode().is_ok_and(|mode: String| mode == "wal");
            self.unchanged.is_some() || (self.header().is_none() && has_log())
        })
    }

    /// Whether the file was opened as one that nobody changes, and somebody has changed it.
    #[inline]
    pub(crate) fn is_outdated(&self) -> bool {
        self.unchanged.as_ref().is_some_and(Unchanged::is_over)
    }
}

impl<C> Deref for PooledConnection<C> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

/// The name with which SQLite opens a database as one that nobody changes.
fn immutable_uri(database: &Path) -> PathBuf {
    let mut uri = "file:".to_owned();
    for &byte in plain_name(database).as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b':' => uri.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => uri.push(byte.into()),
            _ => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    uri.push_str("?immutable=1");
    uri.into()
}

/// The path in a form that SQLite takes as a file name, since a name that begins with `file:` would be a URI.
fn plain_name(database: &Path) -> PathBuf {
    if database.is_relative() { Path::new(".").join(database) } else { database.to_owned() }
}
