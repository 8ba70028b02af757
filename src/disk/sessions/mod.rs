//! Typed values in a directory: `sessions.db`, a database of its own.
//!
//! It shares the pool, the retries and the handling of forks with the database of caches, and nothing else.
//! The methods of `Asked` run the statements; the files beside this one have them by kind.

mod head;
mod keyspace;
mod lists;
mod maps;
mod pages;
mod schema;
mod sharing;
mod sorted;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::Duration;

use flexcache_containers::operation::{Op, Reply};
use rusqlite::Connection;

use crate::connection::PooledConnection;
use crate::database_file::DatabaseFile;
use crate::error::{Error, Result};
use crate::log_upkeep::LogUpkeep;
use crate::patience::Patience;
use crate::pool::{Checkout, Pool};
use crate::read_only::not_opened;
use crate::sql::{execute, roll_back};
use crate::thread_end::OnThreadEnd;
use crate::version::Version;
use crate::waiting_frames;

/// The name of the database in its directory.
pub const SESSIONS_DATABASE: &str = "sessions.db";

type Link = PooledConnection<()>;

const PATIENCE_TO_OPEN: Duration = Duration::from_secs(60);
const PATIENCE_TO_FORK: Duration = Duration::from_secs(1);
const PATIENCE_TO_ROLL_BACK: Duration = Duration::from_secs(1);

/// Why a call failed. Nothing of it is stored then.
#[derive(Debug)]
pub enum SessionError {
    /// The database.
    Disk(Error),
    /// The operation.
    Operation(flexcache_containers::Error),
    /// The tables are those of another version of this library or, if the number is -1, of another program.
    Version(i32),
}

impl From<Error> for SessionError {
    fn from(error: Error) -> Self {
        Self::Disk(error)
    }
}

impl From<rusqlite::Error> for SessionError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Disk(error.into())
    }
}

impl From<flexcache_containers::Error> for SessionError {
    fn from(error: flexcache_containers::Error) -> Self {
        Self::Operation(error)
    }
}

/// The result of calls.
pub type Outcome<T> = std::result::Result<T, SessionError>;

/// A time in microseconds since 1970.
pub type Micros = i64;

/// The number of nested transactions that this thread is in.
#[derive(Debug, Default)]
struct Depth(usize);

/// The typed values of a directory.
pub struct SessionStore {
    database: PathBuf,
    file: DatabaseFile,
    pool: Arc<Pool<(), Depth>>,
}

/// The context of an operation: connection, namespace and time.
struct Asked<'a> {
    connection: &'a Connection,
    namespace: &'a [u8],
    now: Micros,
}

impl Asked<'_> {
    fn apply_and_tidy(&self, op: &Op) -> Outcome<Reply> {
        let reply = self.apply(op)?;
        self.tidy(op.elements())?;
        Ok(reply)
    }
}

/// Makes a connection wait for the disk wherever the database could be damaged otherwise.
fn set_safety(connection: &Connection) -> Result<()> {
    Ok(connection.pragma_update(None, "synchronous", "normal")?)
}

impl SessionStore {
    /// A store over a database, which the first call creates.
    #[must_use]
    pub fn of(database: &Path) -> Self {
        let log = LogUpkeep::in_background(database, set_safety);
        let pool = Arc::new(Pool::with_log(log));
        Self { database: database.to_owned(), file: DatabaseFile::default(), pool }
    }

    fn connect(&self) -> Result<Link> {
        // The log and its index are opened by the first statement.
        self.connected().map_err(|error| not_opened(&self.database, error))
    }

    fn connected(&self) -> Result<Link> {
        let connection = Link::open(&self.database)?;
        self.file.opened(connection.file());
        set_safety(&connection)?;
        let _patience = Patience::of(PATIENCE_TO_OPEN);
        schema::create(&connection, PATIENCE_TO_OPEN)?;
        Ok(connection)
    }

    /// If the database was deleted, or replaced by another file, closes the connections to the one before.
    fn look_for_another_file(&self) {
        if let Some(file) = self.file.another(&self.database) {
            self.pool.use_file(file);
        }
    }

    /// Creates the database if there is none, and checks that its tables are of this version.
    ///
    /// # Errors
    ///
    /// [`SessionError::Version`]; the database cannot be opened.
    pub fn open(&self) -> Outcome<()> {
        let _patience = Patience::of(PATIENCE_TO_OPEN);
        let checkout = self.pool.reader(|| self.connect())?;
        match schema::create(checkout.connection(), PATIENCE_TO_OPEN)? {
            schema::VERSION => Ok(()),
            other => Err(SessionError::Version(other)),
        }
    }

    /// The version of the database, which changes with every write of any process.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn version(&self, patience: Duration) -> Outcome<Version> {
        self.look_for_another_file();
        let _patience = Patience::of(patience);
        let checkout = self.pool.reader(|| self.connect())?;
        let version = checkout.connection().version();
        version.ok_or_else(|| Error::Sqlite(rusqlite::Error::QueryReturnedNoRows).into())
    }

    /// Runs an operation, in the thread's transaction if it is in one. The clock is read once the call has
    /// the lock to write, so that calls which wait for each other agree on their order.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] after `patience`, and other [`SessionError`]s. Nothing has changed then, except in the
    /// case of [`Error::InDoubt`].
    pub fn apply(
        &self,
        namespace: &[u8],
        op: &Op,
        clock: fn() -> Micros,
        patience: Duration,
    ) -> Outcome<Reply> {
        self.look_for_another_file();
        let _patience = Patience::of(patience);
        if !op.writes() {
            let checkout = self.pool.reader(|| self.connect())?;
            return read(checkout.connection(), namespace, op, clock());
        }
        let mut checkout = self.pool.writer(patience, || self.connect())?;
        if let Some((connection, _)) = checkout.transaction()? {
            return alone(connection, || Asked { connection, namespace, now: clock() }.apply_and_tidy(op));
        }
        in_transaction(&mut checkout, |connection| {
            Asked { connection, namespace, now: clock() }.apply_and_tidy(op)
        })
    }

    /// Runs several operations: first those that write, in one transaction, and after its commit those that
    /// only read. An operation that fails undoes only itself, unless the transaction fails. The thread must
    /// not be in a transaction.
    ///
    /// # Errors
    ///
    /// Errors of the transaction. No write is stored then, except in the case of [`Error::InDoubt`].
    /// [`Error::Busy`] after `patience`.
    pub fn apply_writes(
        &self,
        namespace: &[u8],
        ops: &[&Op],
        clock: fn() -> Micros,
        patience: Duration,
    ) -> Outcome<Vec<Outcome<Reply>>> {
        self.look_for_another_file();
        let _patience = Patience::of(patience);
        let mut checkout = self.pool.writer(patience, || self.connect())?;
        if checkout.transaction()?.is_some() {
            return Err(Error::Busy.into());
        }
        in_transaction(&mut checkout, |connection| {
            let asked = Asked { connection, namespace, now: clock() };
            let mut replies = Vec::with_capacity(ops.len());
            for op in ops {
                let reply = alone(connection, || asked.apply(op));
                if connection.is_autocommit() {
                    // SQLite has rolled back the whole transaction.
                    return Err(reply.err().unwrap_or(SessionError::Disk(Error::TransactionLost)));
                }
                replies.push(reply);
            }
            asked.tidy(ops.iter().map(|op| op.elements()).sum())?;
            Ok(replies)
        })
    }

    /// Makes room on a full disk, like the method of `DiskStore`.
    #[must_use]
    pub fn make_room(&self, patience: Duration) -> bool {
        let _patience = Patience::of(patience);
        self.pool.make_room(patience, || self.connect())
    }

    /// Begins a transaction of this thread, or one nested in it.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] after `patience`; errors of SQLite.
    pub fn begin(&self, patience: Duration) -> Outcome<()> {
        self.look_for_another_file();
        let _patience = Patience::of(patience);
        let mut checkout = self.pool.writer(patience, || self.connect())?;
        if let Some((connection, depth)) = checkout.transaction()? {
            execute(connection, &format!("SAVEPOINT inner_{}", depth.0))?;
            depth.0 += 1;
            return Ok(());
        }
        execute(checkout.connection(), "BEGIN IMMEDIATE")?;
        checkout.begin(&self.pool, Depth(0))?;
        Ok(())
    }

    /// Commits this thread's transaction. If it is nested, its writes become part of the outer one.
    ///
    /// # Errors
    ///
    /// [`Error::NoTransaction`]; after any other error nothing is stored, except as [`Error::InDoubt`] says.
    pub fn commit(&self, patience: Duration) -> Outcome<()> {
        let _patience = Patience::of(patience);
        let mut checkout = self.pool.own_transaction()?;
        let committed = match checkout.transaction() {
            Ok(Some((connection, depth))) if depth.0 > 0 => {
                depth.0 -= 1;
                return Ok(execute(connection, &format!("RELEASE inner_{}", depth.0))?);
            }
            Ok(_) => commit(checkout.connection()),
            Err(error) => Err(error),
        };
        if committed.is_err() {
            roll_back(checkout.connection());
        }
        checkout.leave();
        checkout.end_turn();
        drop(checkout);
        if committed.as_ref().is_err_and(Error::is_disk_full) {
            // Only the caller can repeat the transaction, which then finds room if there is any.
            let _ = self.make_room(patience);
        }
        Ok(committed?)
    }

    /// Rolls back this thread's innermost transaction.
    ///
    /// # Errors
    ///
    /// [`Error::NoTransaction`].
    pub fn rollback(&self) -> Outcome<()> {
        let _patience = Patience::of(PATIENCE_TO_ROLL_BACK);
        let mut checkout = self.pool.own_transaction()?;
        if let Ok(Some((connection, depth))) = checkout.transaction()
            && depth.0 > 0
        {
            depth.0 -= 1;
            let level = depth.0;
            return Ok(connection
                .execute_batch(&format!("ROLLBACK TO inner_{level}; RELEASE inner_{level}"))
                .map_err(Error::from)?);
        }
        roll_back(checkout.connection());
        checkout.leave();
        checkout.end_turn();
        Ok(())
    }

    /// Rolls back the transaction of another thread, between two of its calls.
    pub fn abandon(&self, owner: ThreadId) {
        self.pool.thread_ends(owner);
    }

    /// The number of nested transactions that this thread is in.
    #[must_use]
    pub fn depth(&self) -> usize {
        let Ok(mut checkout) = self.pool.own_transaction() else { return 0 };
        match checkout.transaction() {
            Ok(Some((_, depth))) => depth.0 + 1,
            // SQLite has rolled it back, but the thread has not left it yet.
            _ => 1,
        }
    }

    /// Whether some thread of this process is in a transaction.
    #[must_use]
    pub fn has_transaction(&self) -> bool {
        self.pool.has_transaction()
    }

    /// Closes the connections that no call is using.
    pub fn close(&self) {
        self.pool.close();
    }

    /// Runs before a fork, like the method of `DiskStore`.
    pub fn before_fork(&self) {
        self.pool.pause(PATIENCE_TO_FORK);
    }

    /// Runs after a fork, in the parent.
    pub fn after_fork_in_parent(&self) {
        self.pool.resume();
    }

    /// Runs after a fork, in the child. Afterwards the store must be forgotten, not dropped.
    pub fn after_fork_in_child(&self) {
        self.pool.forget_in_child();
    }
}

fn commit(connection: &Connection) -> Result<()> {
    waiting_frames::commit(connection).map_err(|error| {
        // As for the database of caches: SQLite may have written the commit and have failed after it.
        let is_certain = error.is_disk_full() || !connection.is_autocommit() || matches!(error, Error::Busy);
        if is_certain { error } else { Error::InDoubt(Box::new(error)) }
    })
}

/// Runs `step` in a transaction of its own.
fn in_transaction<R>(
    checkout: &mut Checkout<'_, (), Depth>,
    step: impl FnOnce(&Connection) -> Outcome<R>,
) -> Outcome<R> {
    execute(checkout.connection(), "BEGIN IMMEDIATE")?;
    let done = step(checkout.connection())
        .and_then(|result| commit(checkout.connection()).map(|()| result).map_err(SessionError::from));
    if done.is_err() {
        roll_back(checkout.connection());
    }
    checkout.end_turn();
    done
}

/// Runs `step` in an open transaction. If it fails, only its own changes are undone.
fn alone<R>(connection: &Connection, step: impl FnOnce() -> Outcome<R>) -> Outcome<R> {
    execute(connection, "SAVEPOINT call")?;
    let done = step();
    if done.is_err() && !connection.is_autocommit() {
        execute(connection, "ROLLBACK TO call")?;
    }
    if !connection.is_autocommit() {
        execute(connection, "RELEASE call")?;
    }
    done
}

/// Runs an operation that only reads, on one state of the database.
fn read(connection: &Connection, namespace: &[u8], op: &Op, now: Micros) -> Outcome<Reply> {
    let asked = Asked { connection, namespace, now };
    if !connection.is_autocommit() {
        return asked.apply(op);
    }
    execute(connection, "BEGIN")?;
    let reply = asked.apply(op);
    if reply.is_err() {
        roll_back(connection);
    } else {
        execute(connection, "COMMIT")?;
    }
    reply
}
