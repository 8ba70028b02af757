//! The boot, when a process started, and whether it is dead.

#![expect(unsafe_code, reason = "it asks the kernel")]

use std::mem::{MaybeUninit, size_of};
use std::ptr;

use crate::system::number_of;

/// Stands for the present boot, or 0 if that cannot be told.
pub(crate) fn boot() -> u64 {
    let mut text = [0_u8; 64];
    let mut length = text.len();
    // SAFETY: at most `length` bytes are written, and `length` becomes their number.
    let code = unsafe {
        libc::sysctlbyname(
            c"kern.bootsessionuuid".as_ptr(),
            text.as_mut_ptr().cast(),
            &raw mut length,
            ptr::null_mut(),
            0,
        )
    };
    match text.get(..length) {
        Some(text) if code == 0 && !text.is_empty() => number_of(text),
        _ => 0,
    }
}

/// When the process started, in microseconds; `None` if it is dead or a zombie, an error if that cannot be told.
pub(crate) fn start_of(id: u32) -> Result<Option<u64>, ()> {
    let mut found = MaybeUninit::<libc::proc_bsdinfo>::zeroed();
    let size = size_of::<libc::proc_bsdinfo>() as i32;
    // SAFETY: at most `size` bytes are written.
    let written = unsafe {
        libc::proc_pidinfo(id.cast_signed(), libc::PROC_PIDTBSDINFO, 0, found.as_mut_ptr().cast(), size)
    };
    if written != size {
        return match rustix::io::Errno::from_io_error(&std::io::Error::last_os_error()) {
            Some(rustix::io::Errno::SRCH) => Ok(None),
            _ => Err(()),
        };
    }
    // SAFETY: numbers only, of which all are written, and were zero before.
    let found = unsafe { found.assume_init() };
    let start = found.pbi_start_tvsec.wrapping_mul(1_000_000).wrapping_add(found.pbi_start_tvusec);
    Ok((found.pbi_status != libc::SZOMB).then_some(start))
}
