//! Waits for a word in the segment to change.

#![expect(unsafe_code, reason = "a futex is half of a word of ours")]

use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use rustix::thread::futex::{self, Flags, Timespec};

/// The half of the word that the kernel compares: the low one, as all targets of this crate are little
/// endian.
fn low_half(word: &AtomicU64) -> &AtomicU32 {
    // SAFETY: the first four bytes of the word, aligned to eight. Both halves are only ever used atomically, and the
    // word outlives the reference.
    unsafe { &*std::ptr::from_ref(word).cast::<AtomicU32>() }
}

/// Wakes every process and thread that waits for the word.
pub(crate) fn wake_all(word: &AtomicU64) {
    // An error means that the mapping is gone, which does not concern the caller.
    let _ = futex::wake(low_half(word), Flags::empty(), i32::MAX.cast_unsigned());
}

/// Waits up to `limit` until the word is woken. Does not wait if the low half of the word differs from that
/// of `seen`. A signal also ends the wait.
pub(crate) fn wait(word: &AtomicU64, seen: u64, limit: Duration) {
    let limit = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    // Whatever ends the wait, the caller checks again.
    let _ = futex::wait(low_half(word), Flags::empty(), (seen & 0xFFFF_FFFF) as u32, Some(&limit));
}
