//! SQLite's file system, in which a small commit is one write to the log.
//!
//! SQLite writes the header of a frame, which has 24 bytes, and then the page, which follows it in the file.
//! Here the header waits for the page, and both are written at once. This saves half of a commit's writes.
//!
//! A header must never wait for a page that does not come: the commit would be complete for SQLite, but not
//! in the file. SQLite writes 24 bytes to a log in two places. `walWriteOneFrame` writes the page next.
//! `walRewriteChecksums`, which corrects the headers of a transaction that has written a page twice, writes
//! no page; but before every header it reads the frame from the same file. So a header waits only if the call
//! before it has completed a frame, and it begins where that frame ends. Any other call, such as a read,
//! first writes a waiting header, and makes the next header be written at once.
//!
//! Inside a commit, frames wait as well, see [`waiting_frames`].
//!
//! Files are those of SQLite's own file system. Only the table of methods of logs is replaced. The state of a
//! log ([`Log`]) is in memory behind SQLite's own data of the file.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::{Mutex, OnceLock, PoisonError};

use rusqlite::ffi;

use crate::waiting_frames::{self, Added, HEADER};

const HEADER_LENGTH: i64 = 24;

/// The size of python-diskcache's pages. Larger pages are not copied, but written after their headers.
const LARGEST_PAGE: usize = 4096;

/// Stands for no offset.
const NOWHERE: i64 = -1;

/// The state of a log that a connection has open.
struct Log {
    methods: &'static ffi::sqlite3_io_methods,
    /// The end of the frame that the last call has completed.
    frame_end: i64,
    /// The end of the header that the last call has written.
    header_end: i64,
    /// The offset of the waiting header.
    waits_at: i64,
    header: [u8; HEADER],
}

/// SQLite's own file system.
struct Original {
    vfs: *mut ffi::sqlite3_vfs,
    /// The offset of [`Log`] in the memory of a file.
    place: usize,
}

// SAFETY: a file system may be called from any thread, and is never unregistered.
unsafe impl Sync for Original {}
// SAFETY: as above.
unsafe impl Send for Original {}

static ORIGINAL: OnceLock<Original> = OnceLock::new();

/// A table of methods, and the one that it replaces. There is one for each table that SQLite has for logs:
/// one, or a few.
struct Table {
    gathering: ffi::sqlite3_io_methods,
    original: &'static ffi::sqlite3_io_methods,
}

static TABLES: Mutex<Vec<&'static Table>> = Mutex::new(Vec::new());

/// Makes this the file system of all databases that are opened from now on. SQLite is linked into this
/// extension, so no other database is affected.
pub(crate) fn install() {
    ORIGINAL.get_or_init(|| {
        // SAFETY: the default file system exists and is never unregistered. The copy lives as long as the process, and
        // its methods take their data from the fields that are copied.
        unsafe {
            let vfs = ffi::sqlite3_vfs_find(ptr::null());
            assert!(!vfs.is_null(), "SQLite has a default file system");
            let own = usize::try_from((*vfs).szOsFile).unwrap_or(0);
            let place = own.next_multiple_of(align_of::<Log>());
            let size = c_int::try_from(place + size_of::<Log>()).unwrap_or(c_int::MAX);
            let copy = ffi::sqlite3_vfs {
                zName: c"flexcache".as_ptr(),
                pNext: ptr::null_mut(),
                szOsFile: size,
                xOpen: Some(open),
                ..*vfs
            };
            let code = ffi::sqlite3_vfs_register(Box::leak(Box::new(copy)), 1);
            assert_eq!(code, ffi::SQLITE_OK);
            Original { vfs, place }
        }
    });
}

fn table(original: &'static ffi::sqlite3_io_methods) -> &'static Table {
    let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(table) = tables.iter().find(|table| ptr::eq(table.original, original)) {
        return table;
    }
    let gathering = ffi::sqlite3_io_methods {
        xClose: Some(close),
        xRead: Some(read),
        xWrite: Some(write),
        xTruncate: Some(truncate),
        xSync: Some(sync),
        xFileSize: Some(file_size),
        xFileControl: Some(file_control),
        ..*original
    };
    let made: &'static Table = Box::leak(Box::new(Table { gathering, original }));
    tables.push(made);
    made
}

/// Opens a file as SQLite does, then replaces the table of methods of a log.
///
/// # Safety
///
/// SQLite calls it.
unsafe extern "C" fn open(
    _vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    let Some(original) = ORIGINAL.get() else { return ffi::SQLITE_CANTOPEN };
    // SAFETY: the original is called with SQLite's arguments. Where it succeeds, the file has a table of methods, which
    // is static, as SQLite's documentation asks of every file system. SQLite has given the file as much memory as the
    // file system says, aligned for any type.
    unsafe {
        let Some(open) = (*original.vfs).xOpen else { return ffi::SQLITE_CANTOPEN };
        let code = open(original.vfs, name, file, flags, out);
        if code == ffi::SQLITE_OK
            && flags & ffi::SQLITE_OPEN_WAL != 0
            && let Some(methods) = (*file).pMethods.as_ref()
        {
            let (frame_end, header_end, waits_at) = (NOWHERE, NOWHERE, NOWHERE);
            log_of(file).write(Log { methods, frame_end, header_end, waits_at, header: [0; HEADER] });
            (*file).pMethods = &raw const table(methods).gathering;
        }
        code
    }
}

/// The state of a log.
fn log_of(file: *mut ffi::sqlite3_file) -> *mut Log {
    let place = ORIGINAL.get().map_or(0, |original| original.place);
    file.cast::<u8>().wrapping_add(place).cast()
}

/// The offset at which `bytes` end if they begin at `begin`.
fn end_of(begin: i64, bytes: &[u8]) -> i64 {
    i64::try_from(bytes.len()).map_or(NOWHERE, |length| begin + length)
}

impl Log {
    /// Writes the waiting frames and the waiting header, before a call that is not the write of the next
    /// frame.
    ///
    /// # Safety
    ///
    /// It must be that of the file, which is open.
    unsafe fn settle(&mut self, file: *mut ffi::sqlite3_file) -> c_int {
        (self.frame_end, self.header_end) = (NOWHERE, NOWHERE);
        let at = std::mem::replace(&mut self.waits_at, NOWHERE);
        // SAFETY: the caller's promise.
        unsafe {
            match self.write_frames(file) {
                ffi::SQLITE_OK if at != NOWHERE => self.write_through(file, &self.header, at),
                code => code,
            }
        }
    }

    /// Writes a frame whose header has waited for this page, or lets it wait for the end of the commit.
    ///
    /// # Safety
    ///
    /// It must be that of the file, which is open.
    unsafe fn complete_frame(&self, file: *mut ffi::sqlite3_file, page: &[u8], at: i64) -> c_int {
        let begin = at - HEADER_LENGTH;
        match waiting_frames::add(file.addr(), begin, &self.header, page) {
            Added::Waits => ffi::SQLITE_OK,
            // SAFETY: the caller's promise.
            Added::IsDue => unsafe { self.write_frames(file) },
            // SAFETY: the caller's promise.
            Added::Nothing => unsafe {
                let mut code = self.write_frames(file);
                for (bytes, at) in [(&self.header[..], begin), (page, at)] {
                    if code == ffi::SQLITE_OK {
                        code = self.write_through(file, bytes, at);
                    }
                }
                code
            },
        }
    }

    /// Writes the waiting frames.
    ///
    /// # Safety
    ///
    /// It must be that of the file, which is open.
    unsafe fn write_frames(&self, file: *mut ffi::sqlite3_file) -> c_int {
        // SAFETY: the caller's promise. The original method does not call this one.
        let written =
            waiting_frames::write(file.addr(), |bytes, at| unsafe { self.write_through(file, bytes, at) });
        written.unwrap_or(ffi::SQLITE_OK)
    }

    /// # Safety
    ///
    /// It must be that of the file, which is open.
    unsafe fn write_through(&self, file: *mut ffi::sqlite3_file, bytes: &[u8], at: i64) -> c_int {
        let (Some(write), Ok(length)) = (self.methods.xWrite, c_int::try_from(bytes.len())) else {
            return ffi::SQLITE_IOERR_WRITE;
        };
        // SAFETY: the caller's promise, and the bytes are there.
        unsafe { write(file, bytes.as_ptr().cast(), length, at) }
    }

    /// # Safety
    ///
    /// It must be that of the file, which is open.
    unsafe fn write(&mut self, file: *mut ffi::sqlite3_file, bytes: &[u8], at: i64) -> c_int {
        if self.waits_at != NOWHERE && at == self.waits_at + HEADER_LENGTH && bytes.len() <= LARGEST_PAGE {
            self.waits_at = NOWHERE;
            // SAFETY: the caller's promise.
            let code = unsafe { self.complete_frame(file, bytes, at) };
            self.frame_end = if code == ffi::SQLITE_OK { end_of(at, bytes) } else { NOWHERE };
            return code;
        }
        if let Ok(header) = <[u8; HEADER]>::try_from(bytes)
            && at == self.frame_end
        {
            (self.header, self.waits_at) = (header, at);
            (self.frame_end, self.header_end) = (NOWHERE, NOWHERE);
            return ffi::SQLITE_OK;
        }
        let completes_frame = at == self.header_end && self.waits_at == NOWHERE;
        // SAFETY: the caller's promise.
        let code = unsafe {
            match self.settle(file) {
                ffi::SQLITE_OK => self.write_through(file, bytes, at),
                code => code,
            }
        };
        if code == ffi::SQLITE_OK {
            match bytes.len() {
                HEADER => self.header_end = end_of(at, bytes),
                _ if completes_frame => self.frame_end = end_of(at, bytes),
                _ => {}
            }
        }
        code
    }
}

/// # Safety
///
/// SQLite calls it.
unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    bytes: *const c_void,
    length: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    let Ok(length) = usize::try_from(length) else { return ffi::SQLITE_IOERR_WRITE };
    // SAFETY: the file is one that `open` has opened, and SQLite's bytes are there. A connection makes one call at a time.
    unsafe { (*log_of(file)).write(file, std::slice::from_raw_parts(bytes.cast(), length), at) }
}

/// Settles a log, then calls the original.
///
/// # Safety
///
/// The file must be a log that is open.
unsafe fn settled(
    file: *mut ffi::sqlite3_file,
    call: impl FnOnce(&'static ffi::sqlite3_io_methods) -> Option<c_int>,
    missing: c_int,
) -> c_int {
    // SAFETY: the caller's promise. A connection makes one call at a time.
    unsafe {
        let log = log_of(file);
        match (*log).settle(file) {
            ffi::SQLITE_OK => call((*log).methods).unwrap_or(missing),
            code => code,
        }
    }
}

/// # Safety
///
/// SQLite calls it.
unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: the file is one of ours, and the original takes SQLite's arguments. It is closed even if the
    // header cannot be written.
    unsafe {
        let log = log_of(file);
        let code = (*log).settle(file);
        let closed = (*log).methods.xClose.map_or(ffi::SQLITE_IOERR_CLOSE, |close| close(file));
        if code == ffi::SQLITE_OK { closed } else { code }
    }
}

/// # Safety
///
/// SQLite calls it.
unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    bytes: *mut c_void,
    length: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: the file is one of ours, and the original takes SQLite's arguments.
    unsafe {
        let call = |methods: &ffi::sqlite3_io_methods| Some(methods.xRead?(file, bytes, length, at));
        settled(file, call, ffi::SQLITE_IOERR_READ)
    }
}

/// # Safety
///
/// SQLite calls it.
unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    // SAFETY: as for `read`.
    unsafe { settled(file, |methods| Some(methods.xTruncate?(file, size)), ffi::SQLITE_IOERR_TRUNCATE) }
}

/// # Safety
///
/// SQLite calls it.
unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: as for `read`.
    unsafe { settled(file, |methods| Some(methods.xSync?(file, flags)), ffi::SQLITE_IOERR_FSYNC) }
}

/// # Safety
///
/// SQLite calls it.
unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut ffi::sqlite3_int64) -> c_int {
    // SAFETY: as for `read`.
    unsafe { settled(file, |methods| Some(methods.xFileSize?(file, size)), ffi::SQLITE_IOERR_FSTAT) }
}

/// # Safety
///
/// SQLite calls it.
unsafe extern "C" fn file_control(file: *mut ffi::sqlite3_file, call: c_int, argument: *mut c_void) -> c_int {
    // SAFETY: as for `read`.
    unsafe {
        settled(file, |methods| Some(methods.xFileControl?(file, call, argument)), ffi::SQLITE_NOTFOUND)
    }
}

#[cfg(test)]
mod tests;
