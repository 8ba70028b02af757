//! Waiting for a word in the segment to change.

#![expect(unsafe_code, reason = "a futex is half of a word of ours")]

use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use rustix::thread::futex::{self, Flags, Timespec};

/// The half of the word that the kernel looks at: the low one, as all targets of this crate are little endian.
fn low_half(word: &AtomicU64) -> &AtomicU32 {
    // SAFETY: the first four bytes of the word, aligned to eight. Both halves are only ever used atomically, and the
    // word outlives the reference.
    unsafe { &*std::ptr::from_ref(word).cast::<AtomicU32>() }
}

/// Wakes every process and thread that waits for the word.
pub(crate) fn wake_all(word: &AtomicU64) {
    // Nobody waits, or the mapping is gone: neither is the caller's concern.
    let _ = futex::wake(low_half(word), Flags::empty(), i32::MAX.cast_unsigned());
}

/// Waits until the word is woken, at most `limit`, and not at all if its low half is no longer that of `seen`. A signal
/// also ends it.
pub(crate) fn wait(word: &AtomicU64, seen: u64, limit: Duration) {
    let limit = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    // Whatever ends it, the caller looks again.
    let _ = futex::wait(low_half(word), Flags::empty(), (seen & 0xFFFF_FFFF) as u32, Some(&limit));
}
