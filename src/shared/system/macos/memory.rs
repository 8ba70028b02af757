//! Memory of the process in place of a file's, and the number of the last error, for a signal handler.

#![expect(unsafe_code, reason = "it calls the kernel")]

use std::ffi::{c_int, c_void};

use libc::{MAP_ANON, MAP_FAILED, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE};

/// The number of the last error of a call of the C library in this thread.
pub(crate) fn errno() -> c_int {
    // SAFETY: a variable of this thread.
    unsafe { *libc::__error() }
}

pub(crate) fn set_errno(number: c_int) {
    // SAFETY: as above.
    unsafe { *libc::__error() = number };
}

/// Whether other threads see filled memory only.
pub(crate) const REPLACES_AT_ONCE: bool = false;

/// Puts zeros in place of mapped memory, and calls `fill` with them. Another thread may see the zeros before they are
/// filled; the lock here is a word, for which zero is a valid state. Returns whether that was possible. May be called in a
/// signal handler.
///
/// # Safety
///
/// The memory must be a mapping whose content may change at any time, and that does not end during this call.
pub(crate) unsafe fn replace(start: *mut c_void, bytes: usize, fill: impl Fn(*mut c_void)) -> bool {
    // SAFETY: the caller allows it.
    let placed = unsafe {
        libc::mmap(start, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON | MAP_FIXED, -1, 0)
    };
    if placed == MAP_FAILED {
        return false;
    }
    fill(placed);
    true
}
