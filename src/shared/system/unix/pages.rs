//! Mapping a file.

#![expect(unsafe_code, reason = "it maps the file")]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ptr;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::system::file_to_map;

/// Maps the first bytes of a file, at an address that the kernel chooses.
pub(crate) fn map(file: &File, bytes: usize) -> io::Result<*mut c_void> {
    let file = file_to_map(file)?;
    // SAFETY: a new mapping at an address that the kernel chooses.
    let start = unsafe {
        mmap(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0)?
    };
    Ok(start)
}

/// Ends a mapping.
///
/// # Safety
///
/// It is one that `map` made of as many bytes, and no reference into it is left.
pub(crate) unsafe fn unmap(start: *mut c_void, bytes: usize) {
    // SAFETY: the caller's promise. It fails only for other arguments.
    let _ = unsafe { munmap(start, bytes) };
}
