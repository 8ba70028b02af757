//! Forks of the process: no connection may be carried into a child, where it would drop the locks of the parent.
//!
//! Calls that use a connection are counted. A fork lets no call begin, waits for those in progress, and then
//! closes the idle connections. Other things that are opened or closed can be counted as well, see [`InUse`].

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;

use super::Pool;
use crate::background;
use crate::sqlite_guard;

/// Something besides the connections of a pool that a fork waits for, see [`Pool::in_use`].
pub(crate) struct InUse<'a, C, T>(&'a Pool<C, T>);

impl<C, T> Drop for InUse<'_, C, T> {
    fn drop(&mut self) {
        self.0.returned(self.0.lock(), false);
    }
}

impl<C, T> Pool<C, T> {
    /// Counts something that the caller is closing as in use until this is dropped. A fork waits for it, or
    /// the child would inherit a half-closed connection.
    pub(crate) fn in_use(&self) -> InUse<'_, C, T> {
        self.lock().in_use += 1;
        InUse(self)
    }

    /// The same for something that the caller opens. Waits while a fork is in progress.
    pub(crate) fn in_use_outside_forks(&self) -> InUse<'_, C, T> {
        self.lock_outside_forks().in_use += 1;
        InUse(self)
    }

    /// Runs before a fork: lets no call begin, waits up to `patience` for those under way, and closes the
    /// idle connections. SQLite's connections must not be carried into another process. The background thread
    /// of the process ends as well, so that Python finds no thread to warn of.
    pub(crate) fn pause(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        state.forks += 1;
        while state.in_use > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        self.log.close_until(deadline);
        drop(idle);
        background::stop(deadline.saturating_duration_since(Instant::now()));
    }

    /// Runs after a fork, in the parent. Calls go on after the last of several concurrent forks.
    pub(crate) fn resume(&self) {
        let mut state = self.lock();
        state.forks = state.forks.saturating_sub(1);
        if state.forks > 0 {
            return;
        }
        self.changed.notify_all();
        if state.writer.is_none() {
            Self::wake_next_writer(state);
        } else {
            self.undo_if_dropped(state);
        }
    }

    /// Runs after a fork, in the child. A transaction of the parent must not go on there, and would keep the
    /// turn to write for ever. Its connection is between two calls, so it can be closed.
    pub(crate) fn forget_in_child(&self) {
        sqlite_guard::forget_all();
        let Ok(mut state) = self.state.try_lock() else { return };
        if let Some(transaction) = state.transaction.take() {
            let closing = &transaction.connection;
            // Only a process that has the locks may write the log back.
            if closing.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).is_err() {
                std::mem::forget(transaction);
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::sync::OnceLock;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;

    use super::*;
    use crate::connection::PooledConnection;
    use crate::sqlite_guard::identity;

    /// Kept along with a connection, so that it takes its time to be closed.
    #[derive(Default)]
    struct Slow(OnceLock<(Sender<()>, Receiver<()>)>);

    impl Drop for Slow {
        fn drop(&mut self) {
            if let Some((begun, ends)) = self.0.take() {
                begun.send(()).expect("the test waits for it");
                let _ = ends.recv();
            }
        }
    }

    /// How many uses a fork would wait for while `close` closes a connection.
    fn in_use_during(close: impl Fn(&Pool<Slow, ()>) + Sync) -> usize {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let pool = Pool::<Slow, ()>::default();
        let ((begun, has_begun), (end, ends)) = (channel(), channel());
        let checkout = pool
            .reader(|| PooledConnection::open(&directory.path().join("cache.db")))
            .expect("the database can be opened");
        checkout.connection().extension().0.set((begun, ends)).expect("it is new");
        drop(checkout);
        thread::scope(|scope| {
            scope.spawn(|| close(&pool));
            has_begun.recv().expect("it begins");
            let in_use = pool.lock().in_use;
            drop(end);
            in_use
        })
    }

    #[test]
    fn a_fork_waits_for_connections_that_are_being_closed() {
        assert_eq!(in_use_during(Pool::close), 1);
        let other = tempfile::NamedTempFile::new().expect("a temporary file");
        let file = identity(other.path()).expect("it is there");
        assert_eq!(in_use_during(|pool| pool.use_file(file)), 1);
    }
}
