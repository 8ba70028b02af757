//! Connections, and whose turn it is to write.
//!
//! SQLite lets one connection write at a time, and lets the others ask again and again. Within a
//! process we can do better: writers queue up and are woken one by one, so only one of them
//! competes with other processes. Readers need no turn; each takes an idle connection or opens
//! one, so there are never more connections than calls at one time.
//!
//! A thread that has begun a transaction keeps its connection until the end, and reads through it.

use std::cell::{Cell, OnceCell};
use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread, ThreadId};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::hooks::Wal;

use crate::effects::TransactionEffects;
use crate::error::{Error, Result};
use crate::lookup::Lookup;
use crate::read::{CONTAINS, VALUE};
use crate::sqlite_guard::{self, Claim};
use crate::version::Header;

/// For so long a writer may come in before those that wait: to wake one takes longer than a write, and a thread that
/// is awake can do many meanwhile.
const HEAD_START: Duration = Duration::from_millis(2);

const LEAST_PAUSE: Duration = Duration::from_micros(50);

/// The log is written back to the database whenever it has become longer by so many pages; SQLite's own number.
const LONG_LOG: i32 = 1000;

/// It should not become longer.
const VERY_LONG_LOG: i32 = 4 * LONG_LOG;

/// How long others are waited for while nobody may write.
const PATIENCE_TO_FINISH_LOG: Duration = Duration::from_millis(100);

/// What is known of the log.
#[derive(Default)]
struct Log {
    /// Its pages when it was last written back.
    pages: AtomicI32,
    /// All but what has come since the last time it was.
    is_nearly_written_back: AtomicBool,
}

impl Log {
    /// Whether it is time to write it back, after a transaction that left so many pages, or 0 if it changed nothing.
    fn has_grown_to(&self, pages: i32) -> bool {
        if pages == 0 {
            return false;
        }
        let last = self.pages.load(Ordering::Relaxed);
        // It is shorter where it was begun anew.
        let last = if pages < last { 0 } else { last };
        let is_time = pages - last >= LONG_LOG;
        self.pages.store(if is_time { pages } else { last }, Ordering::Relaxed);
        is_time
    }
}

thread_local! {
    /// Pages of the log after this thread's last transaction, 0 where that has been seen to.
    static LOG_PAGES: Cell<i32> = const { Cell::new(0) };
}

/// SQLite calls this after a transaction in place of writing the log back, for which others would wait.
#[expect(clippy::unnecessary_wraps, reason = "it is SQLite's hook")]
pub(crate) fn after_commit(_: &Wal, pages: i32) -> rusqlite::Result<()> {
    LOG_PAGES.set(pages);
    Ok(())
}

/// How long SQLite may wait for another process on this thread: from when it first has to.
#[derive(Clone, Copy)]
enum Wait {
    Never,
    For(Duration),
    Until(Instant),
    Always,
}

thread_local! {
    static WAIT: Cell<Wait> = const { Cell::new(Wait::Never) };
}

/// SQLite asks this whether to try again. Its own pauses grow to a tenth of a second, in which a thousand writes of
/// others pass. These stay short enough for waiting to be nearly fair, and long enough for a process to write more than
/// once while the pages it keeps in memory are current: after a write of another they have to be read again.
pub(crate) fn busy_handler(attempt: i32) -> bool {
    let now = Instant::now();
    let left = match WAIT.get() {
        Wait::Never => None,
        Wait::For(patience) => {
            WAIT.set(now.checked_add(patience).map_or(Wait::Always, Wait::Until));
            (!patience.is_zero()).then_some(patience)
        }
        Wait::Until(deadline) => deadline.checked_duration_since(now),
        Wait::Always => Some(Duration::MAX),
    };
    let Some(left) = left else { return false };
    let pause = Duration::from_micros(match attempt {
        0 => 50,
        1 => 1000,
        2 | 3 => 3000,
        4..8 => 5000,
        _ => 10_000,
    });
    // Who will not wait for long tries often.
    thread::sleep(pause.min((left / 4).max(LEAST_PAUSE)).min(left));
    true
}

/// Lets SQLite wait on this thread for so long, while it lives.
pub(crate) struct Patience(Wait);

impl Patience {
    pub(crate) fn of(patience: Duration) -> Self {
        Self(WAIT.replace(Wait::For(patience)))
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        WAIT.set(self.0);
    }
}

/// A connection, and its place among those that are open in this process.
pub(crate) struct PooledConnection {
    // Dropped in this order: statements, then their connection, then its place.
    value: OnceCell<Lookup>,
    contains: OnceCell<Lookup>,
    connection: Connection,
    header: OnceCell<Option<Header>>,
    _claim: Claim,
}

impl PooledConnection {
    pub(crate) fn new(connection: Connection, claim: Claim) -> Self {
        let (value, contains) = (OnceCell::new(), OnceCell::new());
        Self { value, contains, connection, header: OnceCell::new(), _claim: claim }
    }

    /// The statement that reads a key's live entry.
    #[inline]
    pub(crate) fn value(&self) -> Result<&Lookup> {
        self.lookup(&self.value, VALUE)
    }

    /// The statement that says whether a key has a live entry.
    #[inline]
    pub(crate) fn contains(&self) -> Result<&Lookup> {
        self.lookup(&self.contains, CONTAINS)
    }

    #[inline]
    fn lookup<'a>(&'a self, place: &'a OnceCell<Lookup>, sql: &str) -> Result<&'a Lookup> {
        match place.get() {
            Some(there) => Ok(there),
            None => {
                let compiled = Lookup::new(&self.connection, sql)?;
                Ok(place.get_or_init(|| compiled))
            }
        }
    }

    /// The header of the log's index, as long as the connection is open.
    #[inline]
    pub(crate) fn header(&self) -> Option<&Header> {
        self.header.get_or_init(|| Header::of(&self.connection)).as_ref()
    }
}

impl Deref for PooledConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

/// What a thread keeps between the beginning and the end of its transaction.
struct Transaction {
    owner: ThreadId,
    connection: PooledConnection,
    depth: usize,
    effects: TransactionEffects,
}

/// A writer that waits, and sleeps.
struct Waiting {
    number: u64,
    since: Instant,
    thread: Thread,
}

#[derive(Default)]
struct State {
    idle: Vec<PooledConnection>,
    /// Connections in the hands of calls.
    out: usize,
    writer: Option<ThreadId>,
    /// Writers that wait, the first come first.
    queue: VecDeque<Waiting>,
    next: u64,
    transaction: Option<Transaction>,
    /// A fork is under way: nothing may be taken.
    paused: bool,
}

/// The connections of one store.
#[derive(Default)]
pub(crate) struct Pool {
    state: Mutex<State>,
    changed: Condvar,
    log: Log,
}

/// A connection in the hands of a call.
pub(crate) struct Checkout<'a> {
    pool: &'a Pool,
    /// Always there until the checkout is dropped.
    connection: Option<PooledConnection>,
    /// Of the thread's transaction, where the connection is its own.
    within: Option<(usize, TransactionEffects)>,
    /// Whether it is this thread's turn to write, outside of a transaction.
    writes: bool,
}

impl Checkout<'_> {
    pub(crate) fn connection(&self) -> &PooledConnection {
        match &self.connection {
            Some(connection) => connection,
            None => unreachable!("a checkout has its connection until it is dropped"),
        }
    }

    /// The connection and the effects of the transaction that this checkout is part of.
    pub(crate) fn transaction(&mut self) -> Option<(&Connection, &mut TransactionEffects)> {
        match (&self.connection, &mut self.within) {
            (Some(connection), Some((_, effects))) => Some((connection, effects)),
            _ => None,
        }
    }

    /// Enters one more level of the transaction, or the first level of the one that has begun with `effects`.
    pub(crate) fn keep(mut self, effects: Option<TransactionEffects>) {
        if let Some(effects) = effects {
            self.within = Some((0, effects));
        }
        if let Some((depth, _)) = &mut self.within {
            *depth += 1;
        }
        self.writes = false;
    }

    /// Leaves one level. On leaving the outermost level it returns the effects, and the caller must end the transaction.
    pub(crate) fn leave(&mut self) -> Option<TransactionEffects> {
        let (depth, _) = self.within.as_mut()?;
        *depth -= 1;
        if *depth > 0 {
            return None;
        }
        self.writes = true;
        self.within.take().map(|(_, effects)| effects)
    }

    /// After a transaction: lets the next one write, and keeps the connection. The log is written back, if it has
    /// become long.
    ///
    /// Nobody waits for that. But the log is begun anew only when a transaction finds all of it written back, and where
    /// many write that does not happen by itself. So if it has become very long, the little that came meanwhile is
    /// written back before anybody else may write.
    pub(crate) fn end_turn(&mut self) {
        let pages = LOG_PAGES.take();
        let log = &self.pool.log;
        if pages >= VERY_LONG_LOG && log.is_nearly_written_back.swap(false, Ordering::Relaxed) {
            let _patience = Patience::of(PATIENCE_TO_FINISH_LOG);
            self.write_log_back("PRAGMA wal_checkpoint(FULL)");
        }
        if std::mem::take(&mut self.writes) {
            Pool::wake_next_writer(self.pool.lock());
        }
        if log.has_grown_to(pages) {
            self.write_log_back("PRAGMA wal_checkpoint(PASSIVE)");
            log.is_nearly_written_back.store(pages >= VERY_LONG_LOG, Ordering::Relaxed);
        }
    }

    fn write_log_back(&self, how: &str) {
        let done = self.connection().query_row(how, [], |_| Ok(()));
        // What has failed is tried again when the log is longer.
        drop(done);
    }
}

impl Drop for Checkout<'_> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let within = self.within.take();
        // What a panic left in the middle of a transaction is closed, which rolls it back.
        let usable = within.is_some() || connection.is_autocommit();
        let mut broken = None;
        let mut state = self.pool.lock();
        state.out -= 1;
        if let Some((depth, effects)) = within {
            let owner = thread::current().id();
            state.transaction = Some(Transaction { owner, connection, depth, effects });
        } else if usable {
            state.idle.push(connection);
        } else {
            broken = Some(connection);
        }
        if state.paused {
            self.pool.changed.notify_all();
        }
        if self.writes {
            Pool::wake_next_writer(state);
        } else {
            drop(state);
        }
        drop(broken);
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing inside can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the next one write.
    fn wake_next_writer(mut state: MutexGuard<'_, State>) {
        state.writer = None;
        let next = state.queue.front().map(|waiting| waiting.thread.clone());
        drop(state);
        if let Some(next) = next {
            next.unpark();
        }
    }

    fn lock_unless_paused(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        while state.paused {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn checkout(
        &self,
        mut state: MutexGuard<'_, State>,
        writes: bool,
        connect: impl FnOnce() -> Result<PooledConnection>,
    ) -> Result<Checkout<'_>> {
        state.out += 1;
        let idle = state.idle.pop();
        drop(state);
        let mut checkout = Checkout { pool: self, connection: idle, within: None, writes };
        if checkout.connection.is_none() {
            match connect() {
                Ok(connection) => checkout.connection = Some(connection),
                Err(error) => {
                    // This checkout has no connection to return.
                    let mut state = self.lock();
                    state.out -= 1;
                    self.changed.notify_all();
                    if writes {
                        Self::wake_next_writer(state);
                    }
                    return Err(error);
                }
            }
        }
        Ok(checkout)
    }

    /// The connection of this thread's transaction, if it is in one.
    fn own<'a>(&'a self, state: &mut State) -> Option<Checkout<'a>> {
        let is_mine = |transaction: &mut Transaction| transaction.owner == thread::current().id();
        let mine = state.transaction.take_if(is_mine)?;
        state.out += 1;
        let within = Some((mine.depth, mine.effects));
        Some(Checkout { pool: self, connection: Some(mine.connection), within, writes: false })
    }

    /// The connection of this thread's transaction.
    pub(crate) fn own_transaction(&self) -> Result<Checkout<'_>> {
        self.own(&mut self.lock_unless_paused()).ok_or(Error::NoTransaction)
    }

    /// A connection to read through.
    pub(crate) fn reader(&self, connect: impl FnOnce() -> Result<PooledConnection>) -> Result<Checkout<'_>> {
        let mut state = self.lock_unless_paused();
        match self.own(&mut state) {
            Some(own) => Ok(own),
            None => self.checkout(state, false, connect),
        }
    }

    /// A connection to write through, when it is this thread's turn.
    pub(crate) fn writer(
        &self,
        patience: Duration,
        connect: impl FnOnce() -> Result<PooledConnection>,
    ) -> Result<Checkout<'_>> {
        let mut state = self.lock_unless_paused();
        if let Some(own) = self.own(&mut state) {
            return Ok(own);
        }
        let first_is_owed = state.queue.front().is_some_and(|first| first.since.elapsed() > HEAD_START);
        if state.writer.is_some() || first_is_owed {
            state = self.wait_for_turn(state, patience)?;
        }
        state.writer = Some(thread::current().id());
        self.checkout(state, true, connect)
    }

    fn wait_for_turn<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        patience: Duration,
    ) -> Result<MutexGuard<'a, State>> {
        let since = Instant::now();
        let deadline = since.checked_add(patience);
        let number = state.next;
        state.next += 1;
        state.queue.push_back(Waiting { number, since, thread: thread::current() });
        let is_first = |state: &State| state.queue.front().is_some_and(|waiting| waiting.number == number);
        while state.paused || state.writer.is_some() || !is_first(&state) {
            let left =
                deadline.map_or(patience, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                let was_first = is_first(&state);
                state.queue.retain(|waiting| waiting.number != number);
                if was_first && state.writer.is_none() {
                    // It may have been woken in vain.
                    Self::wake_next_writer(state);
                }
                return Err(Error::Busy);
            }
            drop(state);
            thread::park_timeout(left);
            state = self.lock();
        }
        state.queue.pop_front();
        Ok(state)
    }

    /// Whether this thread is in a transaction.
    pub(crate) fn in_transaction(&self) -> bool {
        let me = thread::current().id();
        self.lock().transaction.as_ref().is_some_and(|transaction| transaction.owner == me)
    }

    /// Closes what is idle.
    pub(crate) fn close(&self) {
        let idle = std::mem::take(&mut self.lock().idle);
        drop(idle);
    }

    /// Before a fork: nothing new is begun, what is under way ends (or `patience` does), and what
    /// is idle is closed. SQLite's connections must not be carried into another process.
    pub(crate) fn pause(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        state.paused = true;
        while state.out > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        drop(idle);
    }

    /// After a fork, in the parent.
    pub(crate) fn resume(&self) {
        let mut state = self.lock();
        state.paused = false;
        self.changed.notify_all();
        if state.writer.is_none() {
            Self::wake_next_writer(state);
        }
    }

    /// After a fork, in the child: a transaction is the parent's. Its connection is between two
    /// calls and can be closed; left open, it would hold the turn to write in here for ever.
    pub(crate) fn forget_in_child(&self) {
        sqlite_guard::forget_all();
        let Ok(mut state) = self.state.try_lock() else { return };
        if let Some(transaction) = state.transaction.take() {
            let closing = &transaction.connection;
            // To write the log back is for a process that has the locks.
            if closing.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).is_err() {
                std::mem::forget(transaction);
            }
        }
    }
}
