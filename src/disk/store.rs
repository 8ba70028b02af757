//! A directory: opening it, its settings, and how every call gets at the database.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::effects::TransactionEffects;
use crate::error::{Error, Result};
use crate::evict::Forecast;
use crate::eviction_rules::Policy;
use crate::files;
use crate::pool::{Checkout, Patience, Pool, PooledConnection, after_commit, busy_handler};
use crate::schema;
use crate::sqlite_guard::Claim;
use crate::version::{Version, Watch};

/// The database in a directory.
pub const DATABASE: &str = "cache.db";

/// How long the first opening waits for others that are just doing the same.
const PATIENCE_TO_OPEN: Duration = Duration::from_secs(60);

/// How long a fork waits for calls of other threads.
const PATIENCE_TO_FORK: Duration = Duration::from_secs(1);

/// Statements that a connection keeps compiled.
const STATEMENTS: usize = 64;

/// Removes a file of the directory that is no longer needed, and never fails.
pub type Remove = Box<dyn Fn(&Path) + Send + Sync>;

/// A cache directory, for any number of threads.
///
/// Calls that may have to wait for other writers take `patience`: the longest they may wait.
/// After that they fail with [`Error::Busy`], having changed nothing.
pub struct DiskStore {
    pub(crate) directory: PathBuf,
    pub(crate) pool: Pool,
    database: PathBuf,
    remove: Remove,
    page_size: OnceLock<i64>,
    watch: Mutex<Option<Watch>>,
    pub(crate) forecast: Mutex<Forecast>,
    /// Whether the key that was written last was a new one.
    pub(crate) new_keys: AtomicBool,
}

impl DiskStore {
    /// A store over a directory that exists. Nothing is opened yet.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self::with_remove(directory, Box::new(files::remove))
    }

    /// As [`DiskStore::new`], with another way to remove files of values. It is called after the
    /// transaction, without any lock.
    #[must_use]
    pub fn with_remove(directory: &Path, remove: Remove) -> Self {
        Self {
            directory: directory.to_owned(),
            database: directory.join(DATABASE),
            pool: Pool::default(),
            remove,
            page_size: OnceLock::new(),
            watch: Mutex::default(),
            forecast: Mutex::default(),
            new_keys: AtomicBool::new(true),
        }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn connect(&self) -> Result<PooledConnection> {
        let claim = Claim::on(&self.database)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let connection = Connection::open_with_flags(&self.database, flags)?;
        connection.busy_handler(Some(busy_handler))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // Counters are kept by `TransactionEffects`.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        for (key, value) in settings(&connection)? {
            set_pragma(&connection, &key, &value)?;
        }
        connection.wal_hook(Some(after_commit));
        Ok(PooledConnection::new(connection, claim))
    }

    /// Runs `step` with a connection, inside the thread's transaction if it is in one.
    pub(crate) fn read<R>(
        &self,
        patience: Duration,
        step: impl FnOnce(&PooledConnection) -> Result<R>,
    ) -> Result<R> {
        let _patience = Patience::of(patience);
        let checkout = self.pool.reader(|| self.connect())?;
        step(checkout.connection())
    }

    /// Runs `step` in a transaction: the thread's, or one of its own.
    pub(crate) fn write<R>(
        &self,
        patience: Duration,
        step: impl FnOnce(&Connection, &mut TransactionEffects) -> Result<R>,
    ) -> Result<R> {
        let _patience = Patience::of(patience);
        let mut checkout = self.pool.writer(patience, || self.connect())?;
        if let Some((connection, effects)) = checkout.transaction() {
            return step(connection, effects);
        }
        let mut effects = begin(checkout.connection())?;
        let done = step(checkout.connection(), &mut effects);
        self.end(checkout, effects, done)
    }

    /// Runs `step`, which reads counters.
    fn read_counters<R>(&self, patience: Duration, step: impl FnOnce(&Connection) -> Result<R>) -> Result<R> {
        let _patience = Patience::of(patience);
        let mut checkout = self.pool.reader(|| self.connect())?;
        if let Some((connection, effects)) = checkout.transaction() {
            effects.write_counters(connection)?;
        }
        step(checkout.connection())
    }

    /// Ends a transaction in which `done` was done: it holds, or all of it is undone.
    fn end<R>(
        &self,
        mut checkout: Checkout<'_>,
        mut effects: TransactionEffects,
        done: Result<R>,
    ) -> Result<R> {
        let connection = checkout.connection();
        let done = done.and_then(|result| {
            effects.write_counters(connection)?;
            commit(connection)?;
            Ok(result)
        });
        match &done {
            Ok(_) => {
                self.forecast().note_own_write(effects.version, effects.version_left(connection));
            }
            Err(_) => roll_back(connection),
        }
        checkout.end_turn();
        drop(checkout);
        self.remove_all(if done.is_ok() { &effects.old_files } else { &effects.new_files });
        done
    }

    /// Removes files of values.
    pub(crate) fn remove_all(&self, names: &[String]) {
        for name in names {
            (self.remove)(&self.directory.join(name));
        }
    }

    /// Begins a transaction of this thread, or goes one level deeper into it.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] after `patience`; errors of SQLite.
    pub fn begin(&self, patience: Duration) -> Result<()> {
        let _patience = Patience::of(patience);
        let mut checkout = self.pool.writer(patience, || self.connect())?;
        let effects = match checkout.transaction() {
            Some(_) => None,
            None => Some(begin(checkout.connection())?),
        };
        checkout.keep(effects);
        Ok(())
    }

    /// Leaves one level of this thread's transaction; the outermost makes it hold.
    ///
    /// # Errors
    ///
    /// [`Error::NoTransaction`]; an error of SQLite, after which nothing of it holds.
    pub fn commit(&self) -> Result<()> {
        let mut checkout = self.pool.own_transaction()?;
        let Some(effects) = checkout.leave() else { return Ok(()) };
        self.end(checkout, effects, Ok(()))
    }

    /// Leaves one level of this thread's transaction; the outermost undoes it.
    ///
    /// # Errors
    ///
    /// [`Error::NoTransaction`].
    pub fn rollback(&self) -> Result<()> {
        let mut checkout = self.pool.own_transaction()?;
        let Some(effects) = checkout.leave() else { return Ok(()) };
        roll_back(checkout.connection());
        drop(checkout);
        self.remove_all(&effects.new_files);
        Ok(())
    }

    /// Whether this thread is in a transaction.
    #[must_use]
    pub fn in_transaction(&self) -> bool {
        self.pool.in_transaction()
    }

    /// The database's version: another one after anybody has written. Costs about as much as a lock that is free.
    ///
    /// # Errors
    ///
    /// The database cannot be opened; without a shared log, it cannot be read.
    pub fn version(&self) -> Result<Version> {
        let mut watch = self.watch();
        let watch = match &mut *watch {
            Some(watch) => watch,
            none => none.insert(Watch::new(self.connect()?)?),
        };
        watch.version()
    }

    /// The same, where nothing has to be opened or asked, nor waited for.
    #[inline]
    #[must_use]
    pub fn version_if_watched(&self) -> Option<Version> {
        self.watch.try_lock().ok()?.as_ref()?.version_in_memory()
    }

    fn watch(&self) -> MutexGuard<'_, Option<Watch>> {
        // Nothing inside can panic half-way.
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes connections that no call uses. The next call opens one again.
    pub fn close(&self) {
        drop(self.watch().take());
        self.pool.close();
    }

    /// Before a fork: waits for the calls of other threads, a second at most, and closes what is
    /// idle. Calls that come now wait for [`DiskStore::after_fork_in_parent`].
    pub fn before_fork(&self) {
        drop(self.watch().take());
        self.pool.pause(PATIENCE_TO_FORK);
    }

    /// After a fork, in the parent: calls go on.
    pub fn after_fork_in_parent(&self) {
        self.pool.resume();
    }

    /// After a fork, in the child: closes what is not the child's. The store must be forgotten
    /// (not dropped) afterwards, for its locks may have been taken by threads that are not here.
    pub fn after_fork_in_child(&self) {
        self.pool.forget_in_child();
    }

    /// The settings in the directory; empty where there are none yet.
    ///
    /// # Errors
    ///
    /// The database cannot be opened or read.
    pub fn settings(&self) -> Result<Vec<(String, Value)>> {
        retry_while_busy(|| self.read(PATIENCE_TO_OPEN, |connection| settings(connection)))
    }

    /// Makes the directory's tables, and writes the settings that differ. Where all is there
    /// already, nothing is written.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn create(&self, settings: &[(String, Value)], policy: &Policy) -> Result<()> {
        retry_while_busy(|| {
            self.read(PATIENCE_TO_OPEN, |connection| {
                for (key, value) in settings {
                    set_pragma(connection, key, value)?;
                }
                Ok(())
            })?;
            if self.read(PATIENCE_TO_OPEN, |connection| is_current(connection, settings))? {
                return Ok(());
            }
            self.write(PATIENCE_TO_OPEN, |connection, _| {
                connection.execute_batch(schema::SETTINGS)?;
                let there = self::settings(connection)?;
                for (key, value) in settings {
                    if !there.iter().any(|(other, stored)| other == key && same(stored, value)) {
                        let mut write = connection
                            .prepare_cached("INSERT OR REPLACE INTO Settings (key, value) VALUES (?, ?)")?;
                        write.execute((key, value))?;
                    }
                }
                for key in schema::METADATA {
                    let mut write = connection
                        .prepare_cached("INSERT OR IGNORE INTO Settings (key, value) VALUES (?, 0)")?;
                    write.execute([key])?;
                }
                schema::create(connection)?;
                index_tags(connection, wants_tag_index(settings))
            })
        })?;
        match &policy.init {
            Some(init) => self.read(PATIENCE_TO_OPEN, |connection| Ok(connection.execute_batch(init)?)),
            None => Ok(()),
        }
    }

    /// The value of a setting or counter, `None` where there is none.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn setting(&self, key: &str, patience: Duration) -> Result<Option<Value>> {
        self.read_counters(patience, |connection| setting(connection, key))
    }

    /// Changes an existing setting. A setting `sqlite_*` takes effect at once for every connection.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`]; the database cannot be written.
    pub fn change_setting(&self, key: &str, value: &Value, update: bool, patience: Duration) -> Result<()> {
        if update {
            self.write(patience, |connection, _| {
                let mut write = connection.prepare_cached("UPDATE Settings SET value = ?2 WHERE key = ?1")?;
                write.execute((key, value))?;
                Ok(())
            })?;
        }
        if key.starts_with("sqlite_") {
            self.read(patience, |connection| set_pragma(connection, key, value))?;
            if update {
                self.close();
            }
        }
        Ok(())
    }

    /// Makes or drops the index of tags.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`]; the database cannot be written.
    pub fn index_tags(&self, wanted: bool, patience: Duration) -> Result<()> {
        self.write(patience, |connection, _| index_tags(connection, wanted))
    }

    /// Entries, expired ones included.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn len(&self, patience: Duration) -> Result<i64> {
        self.read_counters(patience, |connection| counter(connection, "count"))
    }

    /// Bytes on disk: the database and the files of values.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn volume(&self, patience: Duration) -> Result<i64> {
        self.read_counters(patience, |connection| self.volume_of(connection, &TransactionEffects::default()))
    }

    /// Bytes on disk, with what the transaction has changed.
    pub(crate) fn volume_of(&self, connection: &Connection, effects: &TransactionEffects) -> Result<i64> {
        let page_size = match self.page_size.get() {
            Some(&size) => size,
            None => {
                let size = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
                *self.page_size.get_or_init(|| size)
            }
        };
        let pages: i64 = connection.prepare_cached("PRAGMA page_count")?.query_row([], |row| row.get(0))?;
        let files = counter(connection, "size")?.saturating_add(effects.pending_size());
        Ok(page_size.saturating_mul(pages).saturating_add(files))
    }

    /// Hits and misses since they were last reset.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] where they are reset; the database cannot be read or written.
    pub fn stats(&self, reset: bool, patience: Duration) -> Result<(i64, i64)> {
        let both =
            |connection: &Connection| Ok((counter(connection, "hits")?, counter(connection, "misses")?));
        if !reset {
            return self.read(patience, |connection| both(connection));
        }
        self.write(patience, |connection, _| {
            let counted = both(connection)?;
            execute(connection, "UPDATE Settings SET value = 0 WHERE key IN ('hits', 'misses')")?;
            Ok(counted)
        })
    }
}

/// Runs a statement that is kept compiled.
pub(crate) fn execute(connection: &Connection, sql: &str) -> Result<()> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

/// Begins a transaction.
fn begin(connection: &PooledConnection) -> Result<TransactionEffects> {
    execute(connection, "BEGIN IMMEDIATE")?;
    Ok(TransactionEffects::of(connection))
}

fn commit(connection: &Connection) -> Result<()> {
    execute(connection, "COMMIT")
}

/// Undoes the open transaction, unless SQLite has done so itself.
fn roll_back(connection: &Connection) {
    if !connection.is_autocommit() {
        // Where even this fails, the connection is closed when it comes back to the pool.
        let _ = execute(connection, "ROLLBACK");
    }
}

/// Tries again while others are making the same directory: not everything they do can be waited
/// for within SQLite.
fn retry_while_busy<R>(mut attempt: impl FnMut() -> Result<R>) -> Result<R> {
    let deadline = Instant::now() + PATIENCE_TO_OPEN;
    loop {
        match attempt() {
            Err(Error::Busy | Error::NoLock(_)) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            done => return done,
        }
    }
}

fn settings(connection: &Connection) -> Result<Vec<(String, Value)>> {
    if !schema::has(connection, "Settings")? {
        return Ok(Vec::new());
    }
    let mut select = connection.prepare_cached("SELECT key, value FROM Settings ORDER BY key")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn setting(connection: &Connection, key: &str) -> Result<Option<Value>> {
    let mut select = connection.prepare_cached("SELECT value FROM Settings WHERE key = ?")?;
    Ok(select.query_row([key], |row| row.get(0)).optional()?)
}

fn counter(connection: &Connection, key: &str) -> Result<i64> {
    Ok(match setting(connection, key)? {
        Some(Value::Integer(count)) => count,
        _ => 0,
    })
}

/// Whether two values of a setting are one: 1 and 1.0 are not.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Real(left), Value::Real(right)) => left.to_bits() == right.to_bits(),
        _ => left == right,
    }
}

fn wants_tag_index(settings: &[(String, Value)]) -> bool {
    let wanted = settings.iter().find(|(key, _)| key == "tag_index").map(|(_, value)| value);
    !matches!(wanted, None | Some(Value::Null | Value::Integer(0)))
}

const TAG_INDEX: &str = "Cache_tag_rowid";

fn index_tags(connection: &Connection, wanted: bool) -> Result<()> {
    match (wanted, schema::has(connection, TAG_INDEX)?) {
        (true, false) => connection.execute_batch("CREATE INDEX Cache_tag_rowid ON Cache (tag, rowid)")?,
        (false, true) => connection.execute_batch("DROP INDEX Cache_tag_rowid")?,
        _ => {}
    }
    Ok(())
}

fn is_current(connection: &Connection, settings: &[(String, Value)]) -> Result<bool> {
    let there = self::settings(connection)?;
    let holds =
        |key: &str, value: &Value| there.iter().any(|(other, stored)| other == key && same(stored, value));
    Ok(settings.iter().all(|(key, value)| holds(key, value))
        && schema::METADATA.iter().all(|&key| there.iter().any(|(other, _)| other == key))
        && schema::is_complete(connection)?
        && schema::has(connection, TAG_INDEX)? == wants_tag_index(settings))
}

/// Applies a setting `sqlite_*` to a connection, if it is not so already. Others pass.
fn set_pragma(connection: &Connection, key: &str, value: &Value) -> Result<()> {
    let Some(pragma) = key.strip_prefix("sqlite_") else { return Ok(()) };
    let wanted = match value {
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        _ => return Ok(()),
    };
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    if !plain(pragma) || !plain(&wanted) {
        // From a database that somebody else wrote: never a way to run SQL.
        return Ok(());
    }
    let current: Option<Value> =
        connection.prepare(&format!("PRAGMA {pragma}"))?.query_row([], |row| row.get(0)).optional()?;
    let is = |current: &Value| match current {
        Value::Integer(number) => number.to_string() == wanted,
        Value::Text(text) => text.eq_ignore_ascii_case(&wanted),
        _ => false,
    };
    if !current.is_some_and(|current| is(&current)) {
        connection.execute_batch(&format!("PRAGMA {pragma} = {wanted}"))?;
    }
    Ok(())
}
