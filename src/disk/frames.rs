//! One call of the system for each page of the log, not two.
//!
//! SQLite writes a page to its log as two pieces, a header of 24 bytes and the page, with nothing in
//! between. On a small transaction half of the calls, and a quarter of the time, go into the headers.
//! Here the header waits for the page, and both are written at once.
//!
//! This replaces `pwrite` in the table of system calls that SQLite's `unix` file system goes through,
//! for the copy of SQLite that this crate is linked with.

#![expect(unsafe_code, reason = "SQLite's interface is C")]

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::Once;

use libc::{iovec, off_t, size_t, ssize_t};
use rusqlite::ffi;

/// The header of a page in the log.
const HEADER: usize = 24;
const HEADER_LENGTH: off_t = 24;

/// A header that waits for its page.
#[derive(Clone, Copy)]
struct Header {
    descriptor: c_int,
    offset: off_t,
    bytes: [u8; HEADER],
}

thread_local! {
    static WAITING: Cell<Option<Header>> = const { Cell::new(None) };
}

/// Writes all of a header, or says that it could not (`errno` says why).
fn write_header(header: &Header, from: usize) -> bool {
    let mut done = from;
    while let Some(left) = header.bytes.get(done..).filter(|left| !left.is_empty()) {
        let Ok(shift) = off_t::try_from(done) else { return false };
        // SAFETY: `left` is memory that can be read, of the length given.
        let written = unsafe {
            libc::pwrite(header.descriptor, left.as_ptr().cast(), left.len(), header.offset + shift)
        };
        match usize::try_from(written) {
            Ok(written) if written > 0 => done += written,
            _ => return false,
        }
    }
    true
}

/// What SQLite calls in place of `pwrite`.
///
/// A thread that writes a header writes its page next: `sqlite3WalFrames` does the one right after the other,
/// on one thread. Should it ever do something else, the header is written first.
unsafe extern "C" fn pwrite(
    descriptor: c_int,
    data: *const c_void,
    length: size_t,
    offset: off_t,
) -> ssize_t {
    let waiting = WAITING.take();
    if length == HEADER && waiting.is_none() {
        let mut bytes = [0; HEADER];
        // SAFETY: the caller passes `length` bytes that can be read, as for `pwrite`.
        unsafe { ptr::copy_nonoverlapping(data.cast::<u8>(), bytes.as_mut_ptr(), HEADER) };
        WAITING.set(Some(Header { descriptor, offset, bytes }));
        return HEADER.cast_signed();
    }
    if let Some(header) = waiting {
        // Of the header.
        let mut done = 0;
        if header.descriptor == descriptor && header.offset.checked_add(HEADER_LENGTH) == Some(offset) {
            let both = [
                iovec { iov_base: header.bytes.as_ptr().cast_mut().cast(), iov_len: HEADER },
                iovec { iov_base: data.cast_mut(), iov_len: length },
            ];
            // SAFETY: both parts are memory that can be read, of the lengths given; nothing is written to them.
            let written = unsafe { libc::pwritev(descriptor, both.as_ptr(), 2, header.offset) };
            match usize::try_from(written) {
                Err(_) => return written,
                Ok(written) if written > HEADER => return (written - HEADER).cast_signed(),
                // Very little room: what is left of the header, and then the page.
                Ok(written) => done = written,
            }
        }
        if !write_header(&header, done) {
            return -1;
        }
    }
    // SAFETY: the caller passes `length` bytes that can be read, as for `pwrite`.
    unsafe { libc::pwrite(descriptor, data, length, offset) }
}

/// Does it for every database that is opened from now on. To be called before the first is.
pub(crate) fn join_headers_and_pages() {
    static DONE: Once = Once::new();
    const NAME: *const c_char = c"pwrite".as_ptr();
    DONE.call_once(|| {
        // SAFETY: the default file system is static once SQLite is initialised, which this does. Where it has a
        // table of system calls, the one named is called with these arguments.
        unsafe {
            let Some(system) = ffi::sqlite3_vfs_find(ptr::null()).as_mut() else { return };
            let (Some(get), Some(set)) = (system.xGetSystemCall, system.xSetSystemCall) else { return };
            if get(system, NAME).is_some() {
                let own = std::mem::transmute::<
                    unsafe extern "C" fn(c_int, *const c_void, size_t, off_t) -> ssize_t,
                    unsafe extern "C" fn(),
                >(pwrite);
                // Where it cannot be replaced all works as it does without.
                let _ = set(system, NAME, Some(own));
            }
        }
    });
}
