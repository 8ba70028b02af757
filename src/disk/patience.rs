//! The time for which SQLite waits for locks that other processes hold.
//!
//! Every call into SQLite runs under a [`Patience`]. Without one, SQLite does not wait at all.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

const SHORTEST_PAUSE: Duration = Duration::from_micros(50);

/// How long SQLite may wait on this thread.
#[derive(Clone, Copy)]
enum Wait {
    Never,
    /// For this long from the moment when it first has to wait.
    For(Duration),
    Until(Instant),
    Always,
}

thread_local! {
    static WAIT: Cell<Wait> = const { Cell::new(Wait::Never) };
}

/// SQLite's busy handler: waits a little and returns true, or returns false if the time is over.
///
/// SQLite's own handler pauses for up to a tenth of a second, while others may make a thousand writes. These
/// pauses are short enough for waiting to be nearly fair. They are also long enough for a process to write
/// more than once in a row: after a write of another process, it has to read the pages that it keeps in
/// memory again.
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
    // A caller with little time left tries more often.
    thread::sleep(pause.min((left / 4).max(SHORTEST_PAUSE)).min(left));
    true
}

/// Lets SQLite wait on this thread for as long as `patience`, until this is dropped.
pub(crate) struct Patience(Wait);

impl Patience {
    pub(crate) fn of(patience: Duration) -> Self {
        Self(WAIT.replace(Wait::For(patience)))
    }

    /// The time that this thread may still wait, counted from now if it has not waited yet. From now on, time
    /// that it spends outside SQLite counts as well.
    pub(crate) fn begin() -> Duration {
        let now = Instant::now();
        match WAIT.get() {
            Wait::Never => Duration::ZERO,
            Wait::For(patience) => {
                WAIT.set(now.checked_add(patience).map_or(Wait::Always, Wait::Until));
                patience
            }
            Wait::Until(deadline) => deadline.saturating_duration_since(now),
            Wait::Always => Duration::MAX,
        }
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        WAIT.set(self.0);
    }
}
