//! Waiting for a word in the segment by looking at it again and again. For systems that cannot wait for memory that processes
//! share.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};

/// Between two looks, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_micros(50), Duration::from_millis(2)];

/// Nothing: whoever waits looks again, and sees that the word has changed.
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
