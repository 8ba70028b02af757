//! Waits for a word in the segment by polling, for systems that cannot wait on shared memory.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};

/// The first and the longest pause between two polls.
const PAUSES: [Duration; 2] = [Duration::from_micros(50), Duration::from_millis(2)];

/// Does nothing: a waiting thread polls, and sees that the word has changed.
pub(crate) fn wake_all(_word: &AtomicU64) {}

/// Waits until the word is no longer `seen`, at most `limit`.
pub(crate) fn wait(word: &AtomicU64, seen: u64, limit: Duration) {
    let started = Instant::now();
    let [mut pause, most] = PAUSES;
    while word.load(Acquire) == seen {
        let left = limit.saturating_sub(started.elapsed());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(most);
    }
}
