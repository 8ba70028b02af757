//! Memory of the process in place of a file's, and the number of the last error, for a signal handler.
//!
//! The system calls are made directly: the wrappers of a C library may take a lock (musl).

#![expect(unsafe_code, reason = "it calls the kernel")]

use std::ffi::{c_int, c_long, c_void};
use std::ptr;

use libc::{MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE};

/// The number of the last error of a call of the C library in this thread.
pub(crate) fn errno() -> c_int {
    // SAFETY: a variable of this thread.
    unsafe { *libc::__errno_location() }
}

pub(crate) fn set_errno(number: c_int) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = number };
}

fn map(address: *mut c_void, bytes: usize, flags: c_int) -> Option<*mut c_void> {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags;
    let none: c_long = -1;
    // SAFETY: a new mapping, or one at a place that the caller of `replace` may change.
    let mapped = unsafe {
        libc::syscall(
            libc::SYS_mmap,
            address,
            bytes,
            PROT_READ | PROT_WRITE,
            flags,
            none,
            c_long::from(0_i32),
        )
    };
    (mapped != none).then(|| ptr::with_exposed_provenance_mut(mapped.cast_unsigned() as usize))
}

/// Puts zeros, as `fill` changes them, in place of mapped memory. Other threads see them as soon as they see any of the
/// new memory. Returns whether that was possible. May be called in a signal handler.
///
/// # Safety
///
/// The memory must be a mapping whose content may change at any time, and that does not end during this call.
pub(crate) unsafe fn replace(start: *mut c_void, bytes: usize, fill: impl Fn(*mut c_void)) -> bool {
    if let Some(filled) = map(ptr::null_mut(), bytes, 0) {
        fill(filled);
        // Until this call ends, an access to a page that is not filled waits.
        // SAFETY: `filled` is ours alone, and the caller allows the rest.
        let moved = unsafe {
            libc::syscall(
                libc::SYS_mremap,
                filled,
                bytes,
                bytes,
                libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
                start,
            )
        };
        if moved != -1 {
            return true;
        }
        // SAFETY: nobody else knows it.
        unsafe { libc::syscall(libc::SYS_munmap, filled, bytes) };
    }
    // There are not enough addresses for a moment. Another thread may see the memory before it is filled.
    let placed = map(start, bytes, MAP_FIXED);
    if let Some(placed) = placed {
        fill(placed);
    }
    placed.is_some()
}
