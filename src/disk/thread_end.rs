//! Tells pools when a thread ends, so that they can roll back a transaction that it left open.
//!
//! No other thread can end such a transaction, and it blocks all writers of the database, also in other
//! processes. The thread itself reports its end: its thread-local storage is dropped when it ends, however it
//! ends.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::{Arc, Weak};
use std::thread::{self, ThreadId};

use crate::error::{Error, Result};

/// Something that must know when a thread ends.
pub(crate) trait OnThreadEnd: Send + Sync {
    /// Runs on the thread while its thread-local storage is being dropped. It must not panic or use such
    /// storage.
    fn thread_ends(&self, thread: ThreadId);
}

struct Watched {
    thread: ThreadId,
    /// The process that made this: a forked child inherits the storage of its parent's thread, but not its
    /// transactions.
    process: u32,
    pools: Vec<Weak<dyn OnThreadEnd>>,
}

thread_local! {
    static WATCHED: RefCell<Watched> = RefCell::new(Watched {
        thread: thread::current().id(),
        process: process::id(),
        pools: Vec::new(),
    });
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.process != process::id() {
            return;
        }
        for pool in self.pools.drain(..).filter_map(|pool| pool.upgrade()) {
            // A panic in this destructor would abort the process.
            let _ = catch_unwind(AssertUnwindSafe(|| pool.thread_ends(self.thread)));
        }
    }
}

/// Tells `pool` when this thread ends.
///
/// # Errors
///
/// [`Error::ThreadEnds`] if the thread is ending already.
pub(crate) fn watch<P: OnThreadEnd + 'static>(pool: &Arc<P>) -> Result<()> {
    WATCHED
        .try_with(|watched| {
            let mut watched = watched.borrow_mut();
            if watched.process != process::id() {
                watched.process = process::id();
                watched.pools.clear();
            }
            let address = Arc::as_ptr(pool).cast::<()>();
            if !watched.pools.iter().any(|other| other.as_ptr().cast::<()>() == address) {
                watched.pools.retain(|other| other.strong_count() > 0);
                let pool: Weak<P> = Arc::downgrade(pool);
                watched.pools.push(pool);
            }
        })
        .map_err(|_| Error::ThreadEnds)
}
