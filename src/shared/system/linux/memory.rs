//! Memory of the process in place of a file's, and the number of the last error, for a signal handler.
//!
//! The system calls are made directly: the wrappers of a C library may take a lock (musl).

#![expect(unsafe_code, reason = "it calls the kernel")]

use std::ffi::{c_int, c_long, c_void};
use std::ptr;

use libc::{MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_READ, PROT_WRITE};

/// The number of the last error of a call of the C library in this thread.
pub(crate) fn errno() -> c_int {
    // SAFETY: a variable of this thread.
    unsafe { *libc::__errno_location() }
}

pub(crate) fn set_errno(number: c_int) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = number };
}

/// Whether other threads see filled memory only.
pub(crate) const REPLACES_AT_ONCE: bool = true;

/// Puts zeros, as `fill` changes them, in place of mapped memory. Other threads see what was filled as soon as they see any of
/// the new memory. Returns false if it was not possible, for example because there are not enough addresses for a
/// moment. May be called in a signal handler.
///
/// # Safety
///
/// The memory must be a mapping whose content may change at any time, and that does not end during this call.
pub(crate) unsafe fn replace(start: *mut c_void, bytes: usize, fill: impl Fn(*mut c_void)) -> bool {
    const NONE: c_long = -1;
    let (protection, flags) = (PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    let anywhere = ptr::null_mut::<c_void>();
    // SAFETY: a new mapping at an address that the kernel chooses.
    let filled = unsafe { libc::syscall(libc::SYS_mmap, anywhere, bytes, protection, flags, NONE, NONE + 1) };
    if filled == NONE {
        return false;
    }
    let filled = ptr::with_exposed_provenance_mut::<c_void>(filled.cast_unsigned() as usize);
    fill(filled);
    // Until this call ends, an access to a page that was not filled waits.
    // SAFETY: `filled` is ours alone, and the caller allows the rest.
    let moved = unsafe {
        libc::syscall(libc::SYS_mremap, filled, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, start)
    };
    if moved == NONE {
        // SAFETY: nobody else knows it.
        unsafe { libc::syscall(libc::SYS_munmap, filled, bytes) };
    }
    moved != NONE
}
