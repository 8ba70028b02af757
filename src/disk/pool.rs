//! The connections of a store, and the queue of threads that want to write.
//!
//! SQLite lets one connection write at a time, and the others have to poll. Within a process, writers queue
//! up instead and are woken one by one, so only one of them competes with other processes. Readers need no
//! turn. Each takes an idle connection or opens one, so there are never more connections than concurrent
//! calls.
//!
//! A thread that has begun a transaction keeps its connection until the end, and reads through it. If the thread ends
//! first, the transaction is rolled back.
//!
//! The pool knows nothing of tables. A store chooses what is kept with each connection (`C`) and with each
//! transaction (`T`). `forks.rs` prepares the pool for a fork. `held.rs` finds writers that would wait for
//! themselves.

mod forks;
mod held;

use std::collections::VecDeque;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread, ThreadId};
use std::time::{Duration, Instant};

use crate::connection::{PooledConnection, take_log_pages};
use crate::error::{Error, Result};
use crate::log_upkeep::LogUpkeep;
use crate::patience::Patience;
use crate::sql::roll_back;
use crate::sqlite_guard::File;
use crate::thread_end::{self, OnThreadEnd};

use held::Held;

/// A new writer may go ahead of a waiting one until that has waited for this long. Waking a thread takes
/// longer than a write, and a thread that is awake can do many writes meanwhile.
const HEAD_START: Duration = Duration::from_millis(2);

/// How long the rollback for a thread that has ended waits for locks. It needs none in most cases.
const PATIENCE_TO_ROLL_BACK: Duration = Duration::from_secs(1);

/// Names a transaction. The name is unique among all stores of this process and of the processes forked from
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionId {
    process: u32,
    number: u64,
}

impl TransactionId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { process: process::id(), number: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    /// Whether the transaction was begun by this process, not by the one that it was forked from.
    #[must_use]
    pub fn is_of_this_process(self) -> bool {
        self.process == process::id()
    }
}

/// The state of an open transaction, besides its connection.
struct Within<T> {
    id: TransactionId,
    /// The number of blocks that its thread has entered and not left.
    depth: usize,
    /// Whether it was rolled back because one of its blocks will never be left.
    is_lost: bool,
    /// Present while SQLite keeps the lock to write for it.
    held: Option<Held>,
    data: T,
}

/// A transaction between two calls of its thread.
struct Transaction<C, T> {
    owner: ThreadId,
    connection: Box<PooledConnection<C>>,
    within: Within<T>,
}

/// A writer that sleeps until it is its turn.
struct Waiting {
    number: u64,
    since: Instant,
    thread: Thread,
}

struct State<C, T> {
    /// Boxed, since a connection is large and moves at each call.
    idle: Vec<Box<PooledConnection<C>>>,
    /// The number of connections that calls are using.
    in_use: usize,
    writer: Option<ThreadId>,
    /// Waiting writers, in the order of arrival.
    queue: VecDeque<Waiting>,
    next: u64,
    transaction: Option<Transaction<C, T>>,
    /// The transaction that is open, including one that a call of its thread is using.
    open: Option<TransactionId>,
    /// The number of blocks of the open transaction that will never be left and have not been taken off its
    /// depth yet.
    dropped: usize,
    /// Data of transactions whose threads have ended.
    abandoned: Vec<T>,
    /// The file of the database. Connections to another file are closed: the database was replaced while they
    /// were open.
    file: Option<File>,
    /// The file of the connection that was given back last.
    latest: Option<File>,
    /// The number of forks in progress, during which no connection may be taken. Several threads may fork at
    /// once.
    forks: usize,
}

/// The connections of one store.
pub(crate) struct Pool<C, T> {
    state: Mutex<State<C, T>>,
    changed: Condvar,
    /// Whether some thread is in a transaction.
    has_transaction: AtomicBool,
    log: LogUpkeep,
}

/// A connection that a call is using.
pub(crate) struct Checkout<'a, C, T> {
    pool: &'a Pool<C, T>,
    /// Present until the checkout is dropped.
    connection: Option<Box<PooledConnection<C>>>,
    /// The thread's transaction, if the connection belongs to it.
    within: Option<Within<T>>,
    /// Whether this thread has the turn to write, without a transaction that keeps it.
    writes: bool,
}

impl<C, T> Checkout<'_, C, T> {
    pub(crate) fn connection(&self) -> &PooledConnection<C> {
        match &self.connection {
            Some(connection) => connection,
            None => unreachable!("a checkout has its connection until it is dropped"),
        }
    }

    /// The connection and the data of the transaction that this checkout is part of.
    ///
    /// # Errors
    ///
    /// [`Error::TransactionLost`] if the transaction has been rolled back, by SQLite or by [`Pool::abandon`].
    pub(crate) fn transaction(&mut self) -> Result<Option<(&PooledConnection<C>, &mut T)>> {
        match (&self.connection, &mut self.within) {
            (Some(connection), Some(within)) if within.is_lost || connection.is_autocommit() => {
                Err(Error::TransactionLost)
            }
            (Some(connection), Some(within)) => Ok(Some((connection, &mut within.data))),
            _ => Ok(None),
        }
    }

    /// Begins the thread's transaction, which keeps the connection and the turn to write.
    ///
    /// # Errors
    ///
    /// [`Error::ThreadEnds`] if the thread is ending, so that its end would not be noticed.
    pub(crate) fn begin(&mut self, pool: &Arc<Pool<C, T>>, data: T) -> Result<TransactionId>
    where
        C: Send + 'static,
        T: Send + 'static,
    {
        thread_end::watch(pool)?;
        let id = TransactionId::next();
        let held = self.connection().file().map(|file| Held::by_this_thread(file, id));
        self.within = Some(Within { id, depth: 1, is_lost: false, held, data });
        self.pool.lock().open = Some(id);
        self.pool.has_transaction.store(true, Ordering::Release);
        self.writes = false;
        Ok(id)
    }

    /// Enters one more level of the transaction, if the connection belongs to one.
    pub(crate) fn enter(&mut self) -> Option<TransactionId> {
        let within = self.within.as_mut()?;
        within.depth += 1;
        Some(within.id)
    }

    /// Leaves one level of the transaction, unless it is the outermost. Returns whether it did.
    pub(crate) fn leave_inner(&mut self) -> bool {
        match &mut self.within {
            Some(within) if within.depth > 1 => {
                within.depth -= 1;
                true
            }
            _ => false,
        }
    }

    /// Leaves the transaction. The caller has ended it, or ends it before it drops the checkout.
    pub(crate) fn leave(&mut self) -> Option<T> {
        let within = self.within.take()?;
        self.pool.lock().has_no_transaction();
        self.pool.has_transaction.store(false, Ordering::Release);
        self.writes = true;
        Some(within.data)
    }

    /// Lets the next writer write after a transaction, but keeps the connection. Writes the log back if it has grown.
    pub(crate) fn end_turn(&mut self) {
        let pages = take_log_pages();
        let log = &self.pool.log;
        log.before_turn_ends(self.connection(), pages);
        if std::mem::take(&mut self.writes) {
            Pool::wake_next_writer(self.pool.lock());
        }
        log.after_turn(self.connection(), pages);
    }
}

impl<C, T> Drop for Checkout<'_, C, T> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let Some(mut within) = self.within.take() else {
            return self.pool.give_back(connection, self.writes);
        };
        if connection.is_autocommit() {
            within.held = None;
        }
        let mut state = self.pool.lock();
        let transaction = Transaction { owner: thread::current().id(), connection, within };
        if state.dropped > 0 && state.forks == 0 {
            drop(state);
            return self.pool.undo(transaction, 0);
        }
        state.transaction = Some(transaction);
        self.pool.returned(state, self.writes);
    }
}

impl<C, T> State<C, T> {
    fn has_no_transaction(&mut self) {
        self.open = None;
        self.dropped = 0;
    }
}

impl<C, T> Default for Pool<C, T> {
    fn default() -> Self {
        Self::with_log(LogUpkeep::default())
    }
}

impl<C, T> Pool<C, T> {
    pub(crate) fn with_log(log: LogUpkeep) -> Self {
        let state = State {
            idle: Vec::new(),
            in_use: 0,
            writer: None,
            queue: VecDeque::new(),
            next: 0,
            transaction: None,
            open: None,
            dropped: 0,
            abandoned: Vec::new(),
            file: None,
            latest: None,
            forks: 0,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            has_transaction: AtomicBool::new(false),
            log,
        }
    }

    /// The upkeep of the log.
    pub(crate) fn log(&self) -> &LogUpkeep {
        &self.log
    }

    fn lock(&self) -> MutexGuard<'_, State<C, T>> {
        // No code under this lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the next writer.
    fn wake_next_writer(mut state: MutexGuard<'_, State<C, T>>) {
        state.writer = None;
        let next = state.queue.front().map(|waiting| waiting.thread.clone());
        drop(state);
        if let Some(next) = next {
            next.unpark();
        }
    }

    /// Runs after a call has given back its connection, and the turn to write if it had that.
    fn returned(&self, mut state: MutexGuard<'_, State<C, T>>, had_turn: bool) {
        state.in_use -= 1;
        if state.forks > 0 {
            self.changed.notify_all();
        }
        if had_turn {
            Self::wake_next_writer(state);
        }
    }

    fn lock_outside_forks(&self) -> MutexGuard<'_, State<C, T>> {
        let mut state = self.lock();
        while state.forks > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn check_out(
        &self,
        mut state: MutexGuard<'_, State<C, T>>,
        writes: bool,
        connect: impl FnOnce() -> Result<PooledConnection<C>>,
    ) -> Result<Checkout<'_, C, T>> {
        state.in_use += 1;
        let idle = state.idle.pop();
        drop(state);
        let connection = match idle {
            Some(connection) => connection,
            None => Box::new(connect().inspect_err(|_| self.returned(self.lock(), writes))?),
        };
        Ok(Checkout { pool: self, connection: Some(connection), within: None, writes })
    }

    /// The connection of this thread's transaction, if it is in one.
    fn own<'a>(&'a self, state: &mut State<C, T>) -> Option<Checkout<'a, C, T>> {
        let me = thread::current().id();
        let mine = state.transaction.take_if(|transaction| transaction.owner == me)?;
        state.in_use += 1;
        let within = Some(mine.within);
        Some(Checkout { pool: self, connection: Some(mine.connection), within, writes: false })
    }

    /// The connection of this thread's transaction.
    ///
    /// # Errors
    ///
    /// [`Error::NoTransaction`].
    pub(crate) fn own_transaction(&self) -> Result<Checkout<'_, C, T>> {
        self.own(&mut self.lock_outside_forks()).ok_or(Error::NoTransaction)
    }

    /// A connection to read through.
    pub(crate) fn reader(
        &self,
        connect: impl FnOnce() -> Result<PooledConnection<C>>,
    ) -> Result<Checkout<'_, C, T>> {
        let mut state = self.lock_outside_forks();
        match self.own(&mut state) {
            Some(own) => Ok(own),
            None => self.check_out(state, false, connect),
        }
    }

    /// A connection to write through, as soon as it is this thread's turn.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] after `patience`; [`Error::HeldByThisThread`]; what `connect` returns.
    pub(crate) fn writer(
        &self,
        patience: Duration,
        connect: impl FnOnce() -> Result<PooledConnection<C>>,
    ) -> Result<Checkout<'_, C, T>> {
        let mut state = self.lock_outside_forks();
        if let Some(own) = self.own(&mut state) {
            return Ok(own);
        }
        // Another writer of this pool may wait for the same transaction, so this is checked before the turn.
        if state.latest.is_some_and(held::is_held_by_this_thread) {
            return Err(Error::HeldByThisThread);
        }
        let first_is_owed = state.queue.front().is_some_and(|first| first.since.elapsed() > HEAD_START);
        if state.writer.is_some() || first_is_owed {
            state = self.wait_for_turn(state, patience)?;
        }
        state.writer = Some(thread::current().id());
        let checkout = self.check_out(state, true, connect)?;
        let file = checkout.connection().file();
        if file.is_some_and(held::is_held_by_this_thread) {
            return Err(Error::HeldByThisThread);
        }
        Ok(checkout)
    }

    /// After a write that found the disk full: makes room in the log, outside transactions. Returns whether there is
    /// some now.
    pub(crate) fn make_room(
        &self,
        patience: Duration,
        connect: impl FnOnce() -> Result<PooledConnection<C>>,
    ) -> bool {
        let Ok(mut checkout) = self.writer(patience, connect) else { return false };
        if checkout.within.is_some() {
            return false;
        }
        let has_room = self.log.write_back_all(checkout.connection());
        checkout.end_turn();
        has_room
    }

    fn wait_for_turn<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<C, T>>,
        patience: Duration,
    ) -> Result<MutexGuard<'a, State<C, T>>> {
        let since = Instant::now();
        let deadline = since.checked_add(patience);
        let number = state.next;
        state.next += 1;
        state.queue.push_back(Waiting { number, since, thread: thread::current() });
        let is_first =
            |state: &State<C, T>| state.queue.front().is_some_and(|waiting| waiting.number == number);
        while state.forks > 0 || state.writer.is_some() || !is_first(&state) {
            let left =
                deadline.map_or(patience, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                let was_first = is_first(&state);
                state.queue.retain(|waiting| waiting.number != number);
                if was_first && state.writer.is_none() {
                    // This thread may have been woken just as it gave up, so it wakes the next one.
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

    /// Whether some thread is in a transaction. Takes no lock.
    #[inline]
    pub(crate) fn has_transaction(&self) -> bool {
        self.has_transaction.load(Ordering::Acquire)
    }

    /// Whether this thread is in a transaction.
    pub(crate) fn in_transaction(&self) -> bool {
        let me = thread::current().id();
        self.lock().transaction.as_ref().is_some_and(|transaction| transaction.owner == me)
    }

    /// Undoes a transaction of which one block will never be left, and leaves one level of it. If its thread
    /// is in other blocks of it, it finds the transaction lost until it has left them. Does nothing if the
    /// transaction is over, or belongs to the process that this one was forked from.
    ///
    /// This call never waits: if a call of the thread is using the transaction, that call undoes it when it
    /// ends, and during a fork the end of the fork does so.
    pub(crate) fn abandon(&self, id: TransactionId) {
        if !id.is_of_this_process() {
            return;
        }
        let mut state = self.lock();
        if state.open != Some(id) {
            return;
        }
        state.dropped += 1;
        self.undo_if_dropped(state);
    }

    /// Undoes the open transaction if one of its blocks was dropped and no call is using it.
    fn undo_if_dropped(&self, mut state: MutexGuard<'_, State<C, T>>) {
        if state.dropped == 0 || state.forks > 0 {
            return;
        }
        if let Some(transaction) = state.transaction.take() {
            state.in_use += 1;
            drop(state);
            self.undo(transaction, 0);
        }
    }

    /// Rolls a transaction back, and leaves `levels` of its levels besides those whose blocks were dropped.
    /// Meanwhile its connection counts as in use.
    fn undo(&self, mut transaction: Transaction<C, T>, levels: usize) {
        {
            let _patience = Patience::of(PATIENCE_TO_ROLL_BACK);
            roll_back(&transaction.connection);
        }
        let mut state = self.lock();
        let levels = levels.saturating_add(std::mem::take(&mut state.dropped));
        transaction.within.depth = transaction.within.depth.saturating_sub(levels);
        transaction.within.is_lost = true;
        transaction.within.held = None;
        if transaction.within.depth > 0 {
            state.transaction = Some(transaction);
            return self.returned(state, false);
        }
        let Transaction { connection, within, .. } = transaction;
        state.abandoned.push(within.data);
        state.has_no_transaction();
        self.has_transaction.store(false, Ordering::Release);
        drop(state);
        self.give_back(connection, true);
    }

    /// Keeps the connection of a call that has ended for the next call. With `had_turn`, lets the next writer
    /// write. The connection is closed instead in three cases: a panic left it in the middle of a
    /// transaction, which closing rolls back; its file is no longer the database; or its file was opened as
    /// one that nobody changes, and has changed.
    fn give_back(&self, connection: Box<PooledConnection<C>>, had_turn: bool) {
        let is_usable = connection.is_autocommit() && !connection.is_outdated();
        let mut state = self.lock();
        state.latest = connection.file();
        if is_usable && (state.file.is_none() || connection.file() == state.file) {
            state.idle.push(connection);
        } else {
            drop(state);
            drop(connection);
            state = self.lock();
        }
        self.returned(state, had_turn);
    }

    /// Takes the data of transactions that were rolled back because their threads have ended.
    pub(crate) fn take_abandoned(&self) -> Vec<T> {
        std::mem::take(&mut self.lock().abandoned)
    }

    /// Closes the connections to any other file than `file`: the idle ones now, the others when they come back.
    pub(crate) fn use_file(&self, file: File) {
        let _in_use = self.in_use();
        let mut state = self.lock();
        state.file = Some(file);
        let (idle, outdated): (Vec<_>, _) = std::mem::take(&mut state.idle)
            .into_iter()
            .partition(|connection| connection.file() == Some(file));
        state.idle = idle;
        drop(state);
        self.log.close();
        drop(outdated);
    }

    /// Closes the idle connections.
    pub(crate) fn close(&self) {
        let _in_use = self.in_use();
        // The last connection to be closed writes the log back and removes it. That must happen on this
        // thread.
        self.log.close();
        let idle = std::mem::take(&mut self.lock().idle);
        drop(idle);
    }
}

impl<C: Send, T: Send> OnThreadEnd for Pool<C, T> {
    /// Rolls back the transaction of a thread that ends, and frees its turn. Runs on that thread.
    fn thread_ends(&self, thread: ThreadId) {
        let mut state = self.lock_outside_forks();
        let Some(transaction) = state.transaction.take_if(|transaction| transaction.owner == thread) else {
            return;
        };
        state.in_use += 1;
        drop(state);
        self.undo(transaction, usize::MAX);
    }
}
