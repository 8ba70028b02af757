//! The database of leases, `cache.db-gates`, beside the database of entries.
//!
//! It is a database of its own because a lease in the database of entries would be a commit there, which
//! invalidates all copies in memory. It is made when a lease is first granted. Nothing in it is worth
//! keeping: if it is damaged, it is removed, and with it all leases, so that no result which is being
//! computed is stored.
//!
//! Both databases have a number (`PRAGMA user_version`). Leases are valid only while the two are equal. If a
//! process finds them different, because the file is new or was replaced, it removes the leases and gives
//! both databases the next number, which is a commit in the database of entries. So a writer of entries has
//! to look for the file only after a commit that was not its own. A write that cannot void leases changes the
//! number of the entries in its own transaction instead.
//!
//! Connections never write the log back when they are closed: SQLite would then delete the log by its name,
//! which may be the log of another file by now.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::connection::PooledConnection;
use crate::error::{Error, Result};
use crate::faults::{Call, On, reach};
use crate::patience::Patience;
use crate::pool::{Checkout, Pool};
use crate::sql::{execute, roll_back};
use crate::sqlite_guard::{File, identity};
use crate::version::Version;
use crate::waiting_frames;

/// The suffix to the name of the other database. python-diskcache does not touch files whose names contain
/// that name.
const SUFFIX: &str = "-gates";

/// The table of leases. A failure stays in the row after another caller has got the lease, for callers that
/// waited for the failed computation.
pub(crate) const TABLES: &str = "\
    CREATE TABLE IF NOT EXISTS Lease (key, raw INTEGER, token BLOB, owner TEXT, expires REAL NOT NULL, \
        seconds REAL NOT NULL, tag, evictions INTEGER NOT NULL, failed BLOB, failure BLOB, failed_until REAL, \
        PRIMARY KEY (key, raw)); \
    CREATE TABLE IF NOT EXISTS Eviction (tag PRIMARY KEY, number INTEGER NOT NULL)";

/// How often the file may be replaced while a connection to it is taken.
const ATTEMPTS: usize = 4;

pub(crate) type Link = PooledConnection<()>;

/// The number of a database, 0 in a new one.
pub(crate) fn number_of(connection: &Connection) -> Result<i32> {
    Ok(connection.prepare_cached("PRAGMA user_version")?.query_row([], |row| row.get(0))?)
}

/// Changes the number of a database, in the open transaction.
pub(crate) fn set_number(connection: &Connection, number: i32) -> Result<()> {
    Ok(connection.execute_batch(&format!("PRAGMA user_version = {number}"))?)
}

/// The number after another one.
pub(crate) fn next_number(number: i32) -> i32 {
    number.checked_add(1).filter(|next| *next > 0).unwrap_or(1)
}

/// The knowledge of writers of entries about the file.
#[derive(Default)]
struct Known {
    /// The version of the entries at which they last looked for the file.
    at: Option<Version>,
    /// A connection to the file, if it was there. This keeps the header of its log mapped, and its inode from
    /// being reused.
    watch: Option<Link>,
    /// Whether the header of its log cannot be read, so that its version is not known.
    is_opaque: bool,
    /// The version of the file at which it had no leases.
    empty: Option<Version>,
}

/// The database of leases of a store.
pub(crate) struct Gates {
    entries: PathBuf,
    database: PathBuf,
    pool: Arc<Pool<(), ()>>,
    /// Whether the database of entries has a log that its users share, as of the last transaction.
    has_log: AtomicBool,
    /// The file that was there last.
    file: Mutex<Option<File>>,
    known: Mutex<Known>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing inside can panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gates {
    pub(crate) fn beside(entries: &Path) -> Self {
        let mut database = entries.as_os_str().to_owned();
        database.push(SUFFIX);
        Self {
            entries: entries.to_owned(),
            database: database.into(),
            pool: Arc::default(),
            has_log: AtomicBool::new(true),
            file: Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// Takes note of whether the database of entries has a shared log. Then this database has one as well.
    #[inline]
    pub(crate) fn note_log(&self, has_log: bool) {
        self.has_log.store(has_log, Ordering::Relaxed);
    }

    /// Whether the file exists. Closes the connections to an earlier file of the same name.
    pub(crate) fn exists(&self) -> bool {
        let there = identity(&self.database);
        let mut known = lock(&self.file);
        if *known != there {
            *known = there;
            drop(known);
            match there {
                Some(file) => self.pool.use_file(file),
                None => self.pool.close(),
            }
        }
        // On systems without file identities, an open file cannot be replaced.
        there.is_some() || (cfg!(not(unix)) && self.database.exists())
    }

    fn open(&self) -> Result<Link> {
        let connection = Link::open_existing(&self.database)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // Leases need not survive a crash of the system.
        connection.pragma_update(None, "synchronous", "off")?;
        Ok(connection)
    }

    /// Opens the database, and creates it if there is none. The caller has the lock to write entries, so
    /// nobody removes the file meanwhile.
    fn open_or_create(&self) -> Result<Link> {
        let is_new = !self.database.exists();
        let connection = Link::open(&self.database)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "synchronous", "off")?;
        if is_new && let Ok(entries) = fs::metadata(&self.entries) {
            // A process that may write entries may write leases. If this fails, the permissions are those of
            // the umask.
            let _ = fs::set_permissions(&self.database, entries.permissions());
        }
        if is_new {
            connection.pragma_update(None, "auto_vacuum", "none")?;
        }
        if is_new && self.has_log.load(Ordering::Relaxed) {
            // The mode is never changed later: other processes that have the file open tell its version by
            // the log.
            connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        }
        Ok(connection)
    }

    /// Takes a connection to the current file.
    fn current<'a>(
        &'a self,
        take: impl Fn() -> Result<Checkout<'a, (), ()>>,
    ) -> Result<Checkout<'a, (), ()>> {
        for _ in 0..ATTEMPTS {
            let checkout = take()?;
            if checkout.connection().file() == identity(&self.database) || cfg!(not(unix)) {
                return Ok(checkout);
            }
            self.exists();
            if let Some(file) = identity(&self.database) {
                self.pool.use_file(file);
            }
            drop(checkout);
            if !self.exists() {
                self.pool.close();
            }
        }
        Err(Error::Busy)
    }

    pub(crate) fn read<R>(&self, step: impl FnOnce(&Link) -> Result<R>) -> Result<R> {
        let checkout = self.current(|| self.pool.reader(|| self.open()))?;
        step(checkout.connection())
    }

    /// Runs `step` in a transaction, for which it waits as long as the thread's [`Patience`] allows.
    pub(crate) fn write<R>(&self, step: impl FnOnce(&Link) -> Result<R>) -> Result<R> {
        Self::transact(self.current(|| self.pool.writer(Patience::begin(), || self.open()))?, step)
    }

    /// Like [`Gates::write`], but creates the database if there is none. The caller has the lock to write
    /// entries.
    pub(crate) fn write_or_create<R>(&self, step: impl FnOnce(&Link) -> Result<R>) -> Result<R> {
        let take = || self.pool.writer(Patience::begin(), || self.open_or_create());
        let checkout = self.current(take)?;
        let mut known = lock(&self.known);
        if known.watch.is_none() {
            // The file exists now. The commit in progress must not carry over the knowledge that it did not.
            known.at = None;
        }
        drop(known);
        Self::transact(checkout, step)
    }

    fn transact<R>(mut checkout: Checkout<'_, (), ()>, step: impl FnOnce(&Link) -> Result<R>) -> Result<R> {
        execute(checkout.connection(), "BEGIN IMMEDIATE")?;
        let done = step(checkout.connection())
            .and_then(|result| waiting_frames::commit(checkout.connection()).map(|()| result));
        if done.is_err() {
            roll_back(checkout.connection());
        }
        checkout.end_turn();
        done
    }

    /// Whether there may be leases. The caller has the lock to write entries, whose version is `entries`, so
    /// none is granted meanwhile.
    pub(crate) fn has_leases(&self, entries: Option<Version>) -> Result<bool> {
        let mut known = lock(&self.known);
        if entries.is_none() || known.at != entries {
            known.at = None;
            let there = match fs::metadata(&self.database) {
                Ok(_) => Some(identity(&self.database)),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(Error::file(&self.database, error)),
            };
            if known.watch.as_ref().map(Link::file) != there {
                *known = Known::default();
                if there.is_some() {
                    let watch = self.open()?;
                    // Opens the log, and with it the index, if there is one.
                    watch.query_row("SELECT COUNT(*) FROM sqlite_master", [], |_| Ok(()))?;
                    let mode: String = watch.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
                    known.is_opaque = mode == "wal" && watch.header().is_none();
                    known.watch = Some(watch);
                }
            }
            known.at = entries;
        }
        let Some(watch) = &known.watch else { return Ok(false) };
        let version = if known.is_opaque { None } else { watch.version() };
        if version.is_some() && known.empty == version {
            return Ok(false);
        }
        let any: bool =
            watch.prepare_cached("SELECT EXISTS (SELECT 1 FROM Lease)")?.query_row([], |row| row.get(0))?;
        if !any {
            known.empty = version;
        }
        Ok(any)
    }

    /// Carries the knowledge about the file from the version before a commit of this store over to the
    /// version after it.
    #[inline]
    pub(crate) fn note_own_commit(&self, before: Option<Version>, left: Option<Version>) {
        let mut known = lock(&self.known);
        if before.is_some() && known.at == before {
            known.at = left;
        }
    }

    /// Ends all leases in the transaction of entries, without their own database.
    pub(crate) fn withdraw(entries: &Connection) -> Result<()> {
        let number = number_of(entries)?;
        // 0 means that no lease was ever granted.
        if number == 0 { Ok(()) } else { set_number(entries, next_number(number)) }
    }

    /// Removes the database, and with it all leases. Returns whether it is gone. The caller has the lock to write entries.
    pub(crate) fn remove(&self) -> bool {
        self.close();
        let removed = reach(On::Gates, Call::Unlink).and_then(|()| fs::remove_file(&self.database));
        if removed.is_err_and(|error| error.kind() != ErrorKind::NotFound) {
            return false;
        }
        // SQLite ignores leftover files of these names, because a new database is empty.
        for suffix in ["-wal", "-shm", "-journal"] {
            let mut path = self.database.as_os_str().to_owned();
            path.push(suffix);
            let _ = fs::remove_file(path);
        }
        self.exists();
        true
    }

    /// Closes the connections that no call is using.
    pub(crate) fn close(&self) {
        let _in_use = self.pool.in_use();
        *lock(&self.known) = Known::default();
        self.pool.close();
    }

    pub(crate) fn before_fork(&self, patience: Duration) {
        self.pool.pause(patience);
        // A call that still holds the lock after the wait for calls is stuck. The child forgets the store and
        // the connection with it.
        if let Ok(mut known) = self.known.try_lock() {
            *known = Known::default();
        }
    }

    pub(crate) fn after_fork_in_parent(&self) {
        self.pool.resume();
    }

    pub(crate) fn after_fork_in_child(&self) {
        self.pool.forget_in_child();
    }
}
