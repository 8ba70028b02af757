//! A cache directory: opening it, transactions, and how every call reaches the database.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::connection::{PooledConnection, log_pages, take_log_pages};
use crate::database_file::DatabaseFile;
use crate::directory::DATABASE;
use crate::effects::TransactionEffects;
use crate::error::{Error, Result};
use crate::evict::Forecast;
use crate::files;
use crate::gates::Gates;
use crate::log_upkeep::LogUpkeep;
use crate::patience::Patience;
use crate::pool::{Checkout, Pool, TransactionId};
use crate::read::Lookups;
use crate::read_only::{self, Access, UNKNOWN};
use crate::settings::{set_safety, settings};
use crate::sql::{execute, roll_back};
use crate::stripes::{CommitObserver, Observed};
use crate::tracker::{Commit, CommitTracker, Written};
use crate::vacuum;
use crate::version::{Version, change_counter};
use crate::waiting_frames;

/// How long opening a directory should wait for other processes that open it at the same time.
pub const PATIENCE_TO_OPEN: Duration = Duration::from_secs(60);

/// How long a fork waits for calls of other threads.
const PATIENCE_TO_FORK: Duration = Duration::from_secs(1);

/// How long a rollback waits for locks. It needs none in most cases.
const PATIENCE_TO_ROLL_BACK: Duration = Duration::from_secs(1);

/// Removes a file that is no longer needed. The arguments are the directory and the file's name relative to
/// it, which leads to no file outside. The function must not fail.
pub type Remove = Box<dyn Fn(&Path, &str) + Send + Sync>;

/// A connection of this store.
pub(crate) type Link = PooledConnection<Lookups>;

/// A cache directory, for any number of threads.
///
/// Calls that may have to wait for locks take `patience`, the longest time that they may wait. After that they fail
/// with [`Error::Busy`], and have changed nothing.
pub struct DiskStore {
    pub(crate) directory: PathBuf,
    pub(crate) pool: Arc<Pool<Lookups, TransactionEffects>>,
    pub(crate) database: PathBuf,
    /// How this process may access the directory: an index into [`read_only::ACCESS`], or a larger number as
    /// long as the process has not checked.
    pub(crate) access: AtomicU8,
    remove: Remove,
    pub(crate) gates: Gates,
    pub(crate) page_size: OnceLock<i64>,
    pub(crate) tracker: CommitTracker,
    observer: Option<Arc<dyn CommitObserver>>,
    file: DatabaseFile,
    /// The connection that keeps the header of the log mapped for `tracker`.
    watch: Mutex<Option<Link>>,
    pub(crate) forecast: Mutex<Forecast>,
    /// Whether the key that was written last was a new one.
    pub(crate) new_keys: AtomicBool,
    /// Whether the entry that was deleted last had a file.
    pub(crate) files_deleted: AtomicBool,
    /// Whether the last `add` found an entry.
    pub(crate) adds_find_entries: AtomicBool,
    /// Whether files of values have the caller's own form. They may then be directories, or have another size than their row.
    pub(crate) has_own_files: Arc<AtomicBool>,
}

impl DiskStore {
    /// A store over a directory that exists. Nothing is opened yet.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self::with_remove(directory, Box::new(files::remove))
    }

    /// The same as [`DiskStore::new`], with another way to remove files of values. `remove` is called after the
    /// transaction, while no lock is held.
    #[must_use]
    pub fn with_remove(directory: &Path, remove: Remove) -> Self {
        Self {
            directory: directory.to_owned(),
            database: directory.join(DATABASE),
            pool: Arc::new(Pool::with_log(LogUpkeep::in_background(&directory.join(DATABASE), set_safety))),
            gates: Gates::beside(&directory.join(DATABASE)),
            access: AtomicU8::new(UNKNOWN),
            remove,
            page_size: OnceLock::new(),
            tracker: CommitTracker::default(),
            observer: None,
            file: DatabaseFile::default(),
            watch: Mutex::default(),
            forecast: Mutex::default(),
            new_keys: AtomicBool::new(true),
            files_deleted: AtomicBool::new(false),
            adds_find_entries: AtomicBool::new(false),
            has_own_files: Arc::default(),
        }
    }

    /// The same store, with an observer of its commits.
    #[must_use]
    pub fn observed_by(self, observer: Arc<dyn CommitObserver>) -> Self {
        Self { observer: Some(observer), ..self }
    }

    /// The same store, which counts a file of a value whatever its size is, once `has_own_files` is true.
    #[must_use]
    pub fn with_own_files(self, has_own_files: Arc<AtomicBool>) -> Self {
        Self { has_own_files, ..self }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// If the database was deleted, or replaced by another file, closes the connections to the one before.
    fn look_for_another_file(&self) {
        if let Some(file) = self.file.another(&self.database) {
            self.pool.use_file(file);
            self.stop_watching();
            self.gates.close();
            self.tracker.start_incarnation();
            *self.forecast() = Forecast::default();
        }
    }

    pub(crate) fn connect(&self) -> Result<Link> {
        // The log and its index are opened by the first statement.
        self.connected().map_err(|error| read_only::not_opened(&self.database, error))
    }

    fn connected(&self) -> Result<Link> {
        let access = self.access();
        let is_read_only = access != Access::Write;
        let connection = if is_read_only {
            read_only::open(&self.directory, &self.database, access)?
        } else {
            Link::open(&self.database)?
        };
        self.file.opened(connection.file());
        // `TransactionEffects` keeps the counters.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        for (key, value) in settings(&connection)? {
            let set = self.apply(&connection, &key, &value);
            // Some settings write to the database.
            if !is_read_only {
                set?;
            }
        }
        Ok(connection)
    }

    /// Runs `step` with a connection, inside the thread's transaction if it is in one.
    pub(crate) fn read<R>(&self, patience: Duration, step: impl FnOnce(&Link) -> Result<R>) -> Result<R> {
        self.look_for_another_file();
        let _patience = Patience::of(patience);
        let checkout = self.reader()?;
        let done = step(checkout.connection());
        Self::is_of_one_state(&checkout)?;
        done
    }

    fn reader(&self) -> Result<Checkout<'_, Lookups, TransactionEffects>> {
        loop {
            let checkout = self.pool.reader(|| self.connect())?;
            // An outdated connection is closed by dropping it.
            if !checkout.connection().is_outdated() {
                return Ok(checkout);
            }
        }
    }

    /// Fails with [`Error::Busy`], so that the call is repeated, if the database was opened as a file that
    /// nobody changes and has changed all the same.
    #[inline]
    fn is_of_one_state(checkout: &Checkout<'_, Lookups, TransactionEffects>) -> Result<()> {
        if checkout.connection().is_outdated() { Err(Error::Busy) } else { Ok(()) }
    }

    /// Runs `step` in a transaction: the thread's, or one of its own.
    pub(crate) fn write<R>(
        &self,
        patience: Duration,
        step: impl FnOnce(&Connection, &mut TransactionEffects) -> Result<R>,
    ) -> Result<Written<R>> {
        self.look_for_another_file();
        self.require_writable()?;
        let _patience = Patience::of(patience);
        let mut checkout = self.pool.writer(patience, || self.connect())?;
        if let Some((connection, effects)) = checkout.transaction()? {
            let result = effects.whole(connection, |effects| step(connection, effects))?;
            return Ok(Written { result, commit: None });
        }
        let mut effects = self.begin_on(checkout.connection()).map_err(|error| self.explained(error))?;
        let done = step(checkout.connection(), &mut effects);
        let done = done.and_then(|result| {
            let commit = Some(self.commit_on(checkout.connection(), &mut effects)?);
            Ok(Written { result, commit })
        });
        let unneeded = if done.is_ok() {
            effects.old_files
        } else {
            roll_back(checkout.connection());
            // The file of the value belongs to the caller, who may try again.
            Vec::new()
        };
        self.after(checkout, &unneeded);
        done.map_err(|error| self.explained(error))
    }

    /// Runs `step`, which reads counters.
    pub(crate) fn read_counters<R>(
        &self,
        patience: Duration,
        step: impl FnOnce(&Connection) -> Result<R>,
    ) -> Result<R> {
        self.look_for_another_file();
        let _patience = Patience::of(patience);
        let mut checkout = self.reader()?;
        if let Some((connection, effects)) = checkout.transaction()? {
            effects.write_counters(connection)?;
        }
        let done = step(checkout.connection());
        Self::is_of_one_state(&checkout)?;
        done
    }

    fn begin_on(&self, connection: &Link) -> Result<TransactionEffects> {
        execute(connection, "BEGIN IMMEDIATE")?;
        let effects = TransactionEffects::of(connection);
        self.tracker.transaction_began(effects.version);
        self.gates.note_log(connection.header().is_some());
        Ok(effects)
    }

    /// Commits. After [`Error::Busy`] the transaction is still open and can be committed again.
    fn commit_on(&self, connection: &Link, effects: &mut TransactionEffects) -> Result<Commit> {
        effects.write_counters(connection)?;
        self.void_leases(connection, effects)?;
        // Resets the count of log pages of earlier statements of this thread.
        let _ = take_log_pages();
        let committing = self.tracker.committing(effects.version);
        let observed = Observed::begin(self.observer.as_deref(), &effects.written);
        vacuum::give_back_all(effects.has_removed_many);
        match waiting_frames::commit(connection) {
            Ok(()) => {
                let wrote = match connection.header() {
                    Some(_) => log_pages() > 0,
                    None => effects.has_written_pages(connection),
                };
                let mut commit = committing.done(wrote, connection.version());
                commit.moments = observed.committed();
                self.forecast().note_own_write(effects.version, commit.version);
                self.gates.note_own_commit(effects.version, commit.version);
                Ok(commit)
            }
            Err(Error::Busy) if !connection.is_autocommit() => {
                committing.postponed();
                Err(Error::Busy)
            }
            Err(error) => {
                // SQLite cuts and synchronizes files after the commit is on the disk. If that fails it reports an error,
                // and yet the rows are stored, or will be after a crash. Where the disk was full, or the transaction is
                // still open, it has certainly not happened.
                let is_certain = error.is_disk_full() || !connection.is_autocommit();
                Err(match error {
                    error if !is_certain => Error::InDoubt(Box::new(error)),
                    // The transaction is over, so the call must not be repeated, as it would be after
                    // `NoLock`.
                    Error::NoLock(error) => Error::Sqlite(error),
                    error => error,
                })
            }
        }
    }

    /// After a transaction: lets the next writer write, and removes files that nobody needs now.
    fn after(&self, mut checkout: Checkout<'_, Lookups, TransactionEffects>, unneeded: &[String]) {
        checkout.end_turn();
        drop(checkout);
        self.remove_all(unneeded);
        self.remove_abandoned();
    }

    /// Removes files of values. A row may hold any name: those that are not inside the directory are left alone.
    pub(crate) fn remove_all(&self, names: &[String]) {
        for name in names.iter().filter(|name| files::is_inside(name)) {
            (self.remove)(&self.directory, name);
        }
    }

    /// Removes the files of transactions whose threads have ended.
    fn remove_abandoned(&self) {
        for effects in self.pool.take_abandoned() {
            self.remove_all(&effects.new_files);
        }
    }

    /// Begins a transaction of this thread, or enters one more level of it. If the thread ends without ending the
    /// transaction, it is rolled back. Returns the name of the transaction.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] after `patience`; [`Error::TransactionLost`]; errors of SQLite.
    pub fn begin(&self, patience: Duration) -> Result<TransactionId> {
        self.look_for_another_file();
        self.require_writable()?;
        let _patience = Patience::of(patience);
        let mut checkout = self.pool.writer(patience, || self.connect())?;
        if checkout.transaction()?.is_some()
            && let Some(id) = checkout.enter()
        {
            return Ok(id);
        }
        let effects = self.begin_on(checkout.connection()).map_err(|error| self.explained(error))?.of_block();
        checkout.begin(&self.pool, effects)
    }

    /// Leaves one level of this thread's transaction. The outermost one commits it, and returns the commit.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] after `patience`, if another process reads where there is no shared log: the transaction is
    /// still open, and can be committed again or rolled back. [`Error::NoTransaction`]. After any other error nothing
    /// of the transaction is stored, except as [`Error::InDoubt`] says.
    pub fn commit(&self, patience: Duration) -> Result<Option<Commit>> {
        let _patience = Patience::of(patience);
        let mut checkout = self.pool.own_transaction()?;
        if checkout.leave_inner() {
            return Ok(None);
        }
        let done = match checkout.transaction() {
            Ok(Some((connection, effects))) => self.commit_on(connection, effects),
            Ok(None) => Err(Error::NoTransaction),
            Err(error) => Err(error),
        };
        if matches!(done, Err(Error::Busy)) && !checkout.connection().is_autocommit() {
            return done.map(Some);
        }
        if done.is_err() {
            roll_back(checkout.connection());
        }
        if let Some(effects) = checkout.leave() {
            let unneeded = match &done {
                Ok(_) => effects.old_files,
                // Nobody knows which rows are stored, so neither their files nor those before them may go. `check` finds
                // the rest.
                Err(error) if error.is_in_doubt() => Vec::new(),
                Err(_) => effects.new_files,
            };
            self.after(checkout, &unneeded);
        }
        if done.as_ref().is_err_and(Error::is_disk_full) {
            // Only the caller can repeat the transaction, which then finds room if there is any.
            let _ = self.make_room(patience);
        }
        done.map(Some)
    }

    /// Leaves one level of this thread's transaction. The outermost one rolls it back.
    ///
    /// # Errors
    ///
    /// [`Error::NoTransaction`].
    pub fn rollback(&self) -> Result<()> {
        let _patience = Patience::of(PATIENCE_TO_ROLL_BACK);
        let mut checkout = self.pool.own_transaction()?;
        if checkout.leave_inner() {
            return Ok(());
        }
        roll_back(checkout.connection());
        if let Some(effects) = checkout.leave() {
            self.after(checkout, &effects.new_files);
        }
        Ok(())
    }

    /// Whether some thread of this process is in a transaction of this store. Takes no lock.
    #[inline]
    #[must_use]
    pub fn has_transaction(&self) -> bool {
        self.pool.has_transaction()
    }

    /// Undoes the transaction `id`, and leaves one level of it, for a block that its thread will never leave:
    /// the block was dropped, or it is left on another thread than it was entered on. The other levels fail
    /// with [`Error::TransactionLost`] until their thread has left them. Does nothing if the transaction is
    /// over or belongs to another process.
    pub fn abandon(&self, id: TransactionId) {
        self.pool.abandon(id);
        self.remove_abandoned();
    }

    /// Whether this thread is in a transaction.
    #[must_use]
    pub fn in_transaction(&self) -> bool {
        self.pool.in_transaction()
    }

    /// The generation, if the database is as this store knows it: nobody else has committed since the generation
    /// began. `None` means that [`DiskStore::observe`] can tell more.
    ///
    /// Costs a few loads of memory that is mapped, with no lock and no system call.
    #[inline]
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        self.tracker.generation()
    }

    /// Like [`DiskStore::generation`], but cheaper. The callers must exclude each other, as those in an
    /// interpreter with a global lock do.
    ///
    /// # Safety
    ///
    /// No two threads are in this function of one store at the same time.
    #[inline(always)]
    #[must_use]
    #[expect(unsafe_code, reason = "the caller keeps others out")]
    pub unsafe fn generation_alone(&self) -> Option<u64> {
        // SAFETY: the caller's promise.
        unsafe { self.tracker.generation_alone() }
    }

    /// The generation that holds from now on, a new one if somebody else has committed. What is read after this call
    /// is current as long as [`DiskStore::generation`] returns the same number, but for writes through this store.
    ///
    /// `None` while a commit of this store is taking effect, for some microseconds: then a cache must not
    /// keep what it reads. `None` also if nothing shows which commits there were, as in some directories that
    /// cannot be written.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] after `patience`; the database cannot be opened or read.
    pub fn observe(&self, patience: Duration) -> Result<Option<u64>> {
        self.look_for_another_file();
        if let Ok(observed) = self.tracker.observe() {
            return Ok(observed);
        }
        if self.publish_header(patience)?
            && let Ok(observed) = self.tracker.observe()
        {
            return Ok(observed);
        }
        Ok(self.version_of_file(patience)?.and_then(|version| self.tracker.observe_at(version)))
    }

    /// A number that is unique to this store in the process, and changes whenever the store is closed and
    /// used again.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.tracker.incarnation()
    }

    /// The version of the database, which changes with every write of any process.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] after `patience`; the database cannot be opened or read.
    pub fn version(&self, patience: Duration) -> Result<Version> {
        self.look_for_another_file();
        if let Some(version) = self.tracker.version() {
            return Ok(version);
        }
        if self.publish_header(patience)?
            && let Some(version) = self.tracker.version()
        {
            return Ok(version);
        }
        self.version_of_file(patience)?.ok_or(Error::Sqlite(rusqlite::Error::QueryReturnedNoRows))
    }

    /// The version, if it is known without opening a connection, without calling SQLite, and without waiting.
    #[inline]
    #[must_use]
    pub fn version_if_watched(&self) -> Option<Version> {
        self.tracker.version()
    }

    /// Opens a connection that keeps the header of the log mapped. Returns false where there is no shared log.
    fn publish_header(&self, patience: Duration) -> Result<bool> {
        let _patience = Patience::of(patience);
        let _in_use = self.pool.in_use_outside_forks();
        let mut watch = self.watch();
        if watch.as_ref().is_none_or(Link::is_outdated) {
            let connection = self.connect()?;
            // Opens the log, and with it the index, if there is one.
            connection.query_row("SELECT COUNT(*) FROM sqlite_master", [], |_| Ok(()))?;
            if let Some(header) = connection.header() {
                self.tracker.publish(*header);
            }
            *watch = Some(connection);
        }
        Ok(watch.as_ref().is_some_and(|connection| connection.header().is_some()))
    }

    /// The counter in the database's file, read under a lock. `None` if it does not show which commits there
    /// were.
    fn version_of_file(&self, patience: Duration) -> Result<Option<Version>> {
        self.read(patience, |connection| {
            let unread = || Error::Sqlite(rusqlite::Error::QueryReturnedNoRows);
            if connection.is_opaque() {
                return Ok(None);
            }
            if !connection.is_autocommit() || connection.header().is_some() {
                return connection.version().ok_or_else(unread).map(Some);
            }
            let reading = connection.unchecked_transaction()?;
            reading.query_row("SELECT COUNT(*) FROM sqlite_master", [], |_| Ok(()))?;
            change_counter(&reading).ok_or_else(unread).map(Some)
        })
    }

    fn watch(&self) -> MutexGuard<'_, Option<Link>> {
        // No code under this lock can leave it half-way.
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stop_watching(&self) {
        let _in_use = self.pool.in_use();
        let mut watch = self.watch();
        self.tracker.unpublish();
        drop(watch.take());
    }

    /// Closes the connections that no call is using. The next call opens one again.
    pub fn close(&self) {
        self.stop_watching();
        self.tracker.start_incarnation();
        self.gates.close();
        self.pool.close();
        self.access.store(UNKNOWN, Ordering::Relaxed);
        self.remove_abandoned();
        files::finish_removals();
    }

    /// Runs before a fork: waits up to a second for the calls of other threads, and closes the idle connections.
    /// Calls that begin later wait for [`DiskStore::after_fork_in_parent`].
    pub fn before_fork(&self) {
        self.pool.pause(PATIENCE_TO_FORK);
        // Not before the pause, or a reader would open the connection again. A thread that still holds the
        // lock is stuck; the child forgets the store and the connection with it.
        if let Ok(mut watch) = self.watch.try_lock() {
            self.tracker.unpublish();
            drop(watch.take());
        }
        self.gates.before_fork(PATIENCE_TO_FORK);
    }

    /// Runs after a fork, in the parent: calls go on, unless another thread is about to fork as well.
    pub fn after_fork_in_parent(&self) {
        self.gates.after_fork_in_parent();
        self.pool.resume();
    }

    /// Runs after a fork, in the child: closes the connections of the parent. Afterwards the store must be
    /// forgotten, not dropped, because threads that do not exist in the child may have taken its locks.
    pub fn after_fork_in_child(&self) {
        self.pool.forget_in_child();
        self.gates.after_fork_in_child();
    }
}
