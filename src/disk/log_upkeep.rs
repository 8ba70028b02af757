//! Writes the log back to the database (a checkpoint), at a time when no writer waits for it.
//!
//! The background thread does it, with a connection of its own, whenever the log has grown by some pages.
//! SQLite lets others write meanwhile, and restarts the log when a transaction finds all of it written back.
//! If many threads write, that does not happen by itself. So when the log has become long, a writer writes
//! back the rest, which is little by then, before the next writer can add to it. If there is no thread, or if
//! it is far behind, a writer writes back everything. So the length of the log is bounded.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, InterruptHandle};

use crate::background::{self, Chore};
use crate::connection::PooledConnection;
use crate::error::Result;
use crate::patience::Patience;
use crate::sqlite_guard::identity;

/// The log is written back whenever it has grown by this many pages, which is SQLite's own number.
const LONG_LOG: i32 = 1000;

/// A log of this many times that length is long: a writer writes back what the thread has left.
const LONG: i32 = 8;

/// A log of this many times that length is too long: a writer waits for the thread.
const TOO_LONG: i32 = 16;

/// How long to wait for readers while no other writer may write.
const PATIENCE_TO_FINISH_LOG: Duration = Duration::from_millis(100);

/// How long the thread waits for locks to open the database.
const PATIENCE_TO_OPEN: Duration = Duration::from_millis(100);

/// The pause between two checks whether the thread has stopped.
const PAUSE: Duration = Duration::from_millis(1);

/// Prepares a connection, so that it synchronizes as the directory's settings demand.
pub(crate) type Prepare = fn(&Connection) -> Result<()>;

/// The connection with which the thread writes the log back.
type Link = PooledConnection<()>;

/// The upkeep of one log.
pub(crate) struct LogUpkeep {
    shared: Arc<Shared>,
    /// The length of the log in pages when it was last written back, or when the thread was last asked to.
    pages: AtomicI32,
}

/// The state that is shared with the thread.
struct Shared {
    /// How the thread opens the database. `None` if the thread does not write this log back.
    open: Option<(PathBuf, Prepare)>,
    /// Whether the thread was asked to write the log back.
    is_wanted: AtomicBool,
    /// The number of pages by which the log grows before it is written back. If it is not positive, it never
    /// is.
    every: AtomicI32,
    /// Whether all of the log has been written back, except what was added since that began.
    is_nearly_written_back: AtomicBool,
    /// Locked while the thread uses it.
    link: Mutex<Option<Link>>,
    interrupt: Mutex<Option<InterruptHandle>>,
}

impl Default for LogUpkeep {
    /// Upkeep by writers alone.
    fn default() -> Self {
        Self::of(None)
    }
}

impl LogUpkeep {
    /// Upkeep of the log of `database` by the thread of the process.
    pub(crate) fn in_background(database: &Path, prepare: Prepare) -> Self {
        Self::of(Some((database.to_owned(), prepare)))
    }

    fn of(open: Option<(PathBuf, Prepare)>) -> Self {
        let shared = Shared {
            open,
            is_wanted: AtomicBool::new(false),
            every: AtomicI32::new(LONG_LOG),
            is_nearly_written_back: AtomicBool::new(false),
            link: Mutex::default(),
            interrupt: Mutex::default(),
        };
        Self { shared: Arc::new(shared), pages: AtomicI32::new(0) }
    }

    /// Sets the number of pages by which the log grows before it is written back. If it is not positive, it
    /// never is.
    pub(crate) fn set_interval(&self, pages: i64) {
        let pages = i32::try_from(pages.max(0)).unwrap_or(i32::MAX);
        self.shared.every.store(pages, Ordering::Relaxed);
    }

    /// Runs after a transaction that left a log of `pages` pages, while its writer still has the turn.
    pub(crate) fn before_turn_ends(&self, connection: &Connection, pages: i32) {
        let every = self.shared.every.load(Ordering::Relaxed);
        if every <= 0 || pages < every.saturating_mul(LONG) {
            if pages > 0 && self.shared.is_nearly_written_back.load(Ordering::Relaxed) {
                // The log has been restarted since.
                self.shared.is_nearly_written_back.store(false, Ordering::Relaxed);
            }
            return;
        }
        let is_late = pages >= every.saturating_mul(TOO_LONG) && self.has_grown_to(pages, every);
        if !self.shared.is_nearly_written_back.swap(false, Ordering::Relaxed) && !is_late {
            return;
        }
        // Two checkpoints exclude each other, and SQLite does not wait for the other, so the thread is kept
        // out.
        let thread = if is_late { Some(self.shared.link()) } else { self.shared.link_if_free() };
        if thread.is_some() {
            let _patience = Patience::of(PATIENCE_TO_FINISH_LOG);
            let _ = write_back(connection, "PRAGMA wal_checkpoint(FULL)");
        }
    }

    /// Runs after the turn has ended. No other writer waits for it.
    pub(crate) fn after_turn(&self, connection: &Connection, pages: i32) {
        let every = self.shared.every.load(Ordering::Relaxed);
        if every > 0 && self.has_grown_to(pages, every) && !self.shared.ask() {
            let is_long = pages >= every.saturating_mul(LONG);
            let done = write_back(connection, "PRAGMA wal_checkpoint(PASSIVE)");
            self.shared.is_nearly_written_back.store(is_long && done.is_some(), Ordering::Relaxed);
        }
    }

    /// Writes all of the log back, so that the next write overwrites it instead of making it longer. Returns whether
    /// that was done and the log had anything. The caller has the turn to write.
    pub(crate) fn write_back_all(&self, connection: &Connection) -> bool {
        let _thread = self.shared.link();
        let _patience = Patience::of(PATIENCE_TO_FINISH_LOG);
        let done = write_back(connection, "PRAGMA wal_checkpoint(FULL)");
        done.is_some_and(|done| done.pages > 0 && done.written_back == done.pages)
    }

    /// Whether it is time to write the log back, after a transaction that left `pages` pages, or 0 if it added nothing.
    fn has_grown_to(&self, pages: i32, every: i32) -> bool {
        if pages == 0 {
            return false;
        }
        let last = self.pages.load(Ordering::Relaxed);
        // A log that is shorter than before has been restarted.
        let last = if pages < last { 0 } else { last };
        let is_time = pages - last >= every;
        self.pages.store(if is_time { pages } else { last }, Ordering::Relaxed);
        is_time
    }

    /// Closes the thread's connection and withdraws the request to write back. If the thread is writing back,
    /// interrupts it and waits until it has stopped; the rest can be written back later.
    pub(crate) fn close(&self) {
        self.shared.close(None);
    }

    /// Like [`LogUpkeep::close`], but waits only until `deadline`: a disk that hangs must not keep a fork
    /// waiting.
    pub(crate) fn close_until(&self, deadline: Instant) {
        self.shared.close(Some(deadline));
    }
}

impl Drop for LogUpkeep {
    fn drop(&mut self) {
        // The thread must not be the last to close the database, at an unknown moment.
        self.close();
    }
}

impl Shared {
    fn link(&self) -> MutexGuard<'_, Option<Link>> {
        // A panic leaves the connection usable.
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, if the thread is not using the connection.
    fn link_if_free(&self) -> Option<MutexGuard<'_, Option<Link>>> {
        match self.link.try_lock() {
            Ok(link) => Some(link),
            Err(TryLockError::Poisoned(link)) => Some(link.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn interrupt(&self) -> MutexGuard<'_, Option<InterruptHandle>> {
        self.interrupt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the thread to write the log back. Returns false if it will not.
    fn ask(self: &Arc<Self>) -> bool {
        if self.open.is_none() {
            return false;
        }
        if self.is_wanted.swap(true, Ordering::AcqRel) {
            // The thread has not handled the last request yet.
            return true;
        }
        let is_taken = background::hand(self);
        if !is_taken {
            self.is_wanted.store(false, Ordering::Release);
        }
        is_taken
    }

    fn close(&self, deadline: Option<Instant>) {
        self.is_wanted.store(false, Ordering::Release);
        let mut link = self.link_if_free();
        if link.is_none()
            && let Some(handle) = &*self.interrupt()
        {
            handle.interrupt();
        }
        while link.is_none() {
            match deadline {
                None => link = Some(self.link()),
                Some(deadline) if Instant::now() < deadline => {
                    thread::sleep(PAUSE);
                    link = self.link_if_free();
                }
                Some(_) => return,
            }
        }
        *self.interrupt() = None;
        if let Some(mut link) = link {
            // Under the lock, so that another thread that closes it too returns after that.
            drop(link.take());
        }
    }

    /// The connection, opened if it is not, or opened anew if the file was replaced.
    fn connected<'a>(&self, link: &'a mut Option<Link>) -> Option<&'a Link> {
        let (database, prepare) = self.open.as_ref()?;
        if link.as_ref().is_some_and(|link| link.file() != identity(database)) {
            *self.interrupt() = None;
            drop(link.take());
        }
        if link.is_none() {
            let _patience = Patience::of(PATIENCE_TO_OPEN);
            let opened = Link::open_existing(database).ok()?;
            prepare(&opened).ok()?;
            // SQLite does not know of the log before it has read.
            opened.query_row("SELECT COUNT(*) FROM sqlite_master", [], |_| Ok(())).ok()?;
            *self.interrupt() = Some(opened.get_interrupt_handle());
            *link = Some(opened);
        }
        link.as_ref()
    }
}

impl Chore for Shared {
    /// Writes the log back as far as nobody has to wait for it.
    fn run(&self) {
        let mut link = self.link();
        // If little is left, a writer does it, which must find the log free.
        if !self.is_wanted.swap(false, Ordering::AcqRel)
            || self.is_nearly_written_back.load(Ordering::Relaxed)
        {
            return;
        }
        let Some(link) = self.connected(&mut link) else { return };
        let every = self.every.load(Ordering::Relaxed);
        let done = write_back(link, "PRAGMA wal_checkpoint(PASSIVE)");
        let is_nearly = done.is_some_and(|done| {
            done.pages >= every.saturating_mul(LONG) && done.pages - done.written_back <= every
        });
        self.is_nearly_written_back.store(is_nearly, Ordering::Relaxed);
    }

    fn put_off(&self) {
        self.is_wanted.store(false, Ordering::Release);
    }
}

/// How far a log has been written back.
#[derive(Clone, Copy)]
struct Done {
    pages: i32,
    written_back: i32,
}

/// `None` where somebody else does it, or where it fails. What fails is tried again when the log has grown.
fn write_back(connection: &Connection, how: &str) -> Option<Done> {
    let done = connection.query_row(how, [], |row| {
        Ok((row.get::<_, bool>(0)?, Done { pages: row.get(1)?, written_back: row.get(2)? }))
    });
    done.ok().filter(|(is_busy, _)| !is_busy).map(|(_, done)| done)
}
