//! Waiting by looking again: for a lock, and on systems that cannot wait on shared memory for a word in the segment.

use std::time::Duration;

#[cfg(any(feature = "owner-lock", not(target_os = "linux")))]
pub(crate) use word::{wait, wake_all};

/// The pauses between two looks, each twice as long as the one before, up to a limit.
pub(crate) struct Pauses {
    next: Duration,
    pub(crate) most: Duration,
}

impl Pauses {
    /// The pauses of a thread that waits for a lock.
    pub(crate) fn of_a_lock() -> Self {
        Self { next: Duration::from_micros(20), most: Duration::from_millis(1) }
    }

    /// Sleeps for the next pause, at most for what is left.
    pub(crate) fn sleep(&mut self, left: Duration) {
        std::thread::sleep(self.next.min(left));
        self.next = (self.next * 2).min(self.most);
    }
}

#[cfg(any(feature = "owner-lock", not(target_os = "linux")))]
mod word {
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering::Acquire;
    use std::time::{Duration, Instant};

    use super::Pauses;

    /// Does nothing: a waiting thread polls, and sees that the word has changed.
    pub(crate) fn wake_all(_word: &AtomicU64) {}

    /// Waits until the word is no longer `seen`, at most `limit`.
    pub(crate) fn wait(word: &AtomicU64, seen: u64, limit: Duration) {
        let started = Instant::now();
        let mut pauses = Pauses { next: Duration::from_micros(50), most: Duration::from_millis(2) };
        while word.load(Acquire) == seen {
            let left = limit.saturating_sub(started.elapsed());
            if left.is_zero() {
                return;
            }
            pauses.sleep(left);
        }
    }
}
