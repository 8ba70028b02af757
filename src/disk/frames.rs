//! A transaction's pages go to the log in one call of the system.
//!
//! To commit, SQLite writes each changed page to its log as two pieces: a header of 24 bytes, and the page. On a
//! small transaction these ten calls or so are a third of the time. Here they are gathered while a thread commits,
//! and written at once with the last of them, whose header says that it is the last.
//!
//! This replaces `pwrite` in the table of system calls that SQLite's `unix` file system goes through, for the copy of
//! SQLite that this crate is linked with. Other writes pass through.

#![expect(unsafe_code, reason = "SQLite's interface is C")]

use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::slice;
use std::sync::Once;

use libc::{off_t, size_t, ssize_t};
use rusqlite::ffi;

/// The header of a page in the log.
const HEADER: usize = 24;

/// Where a header has the size of the database, if its page is the last of a transaction, or 0.
const LAST: std::ops::Range<usize> = 4..8;

/// More is written before the end.
const MOST: usize = 1 << 20;

/// What is gathered.
#[derive(Default)]
struct Gathered {
    /// Whether this thread commits.
    commits: bool,
    descriptor: c_int,
    offset: off_t,
    bytes: Vec<u8>,
    /// A header has come, and its page is the next.
    awaits_page: bool,
    /// That page is the last.
    is_last: bool,
}

thread_local! {
    static GATHERED: RefCell<Gathered> = RefCell::default();
}

impl Gathered {
    /// Whether a write goes on where the last one ended.
    fn is_continued(&self, descriptor: c_int, offset: off_t) -> bool {
        let end = off_t::try_from(self.bytes.len()).ok().and_then(|length| self.offset.checked_add(length));
        self.descriptor == descriptor && end == Some(offset)
    }

    /// Writes what there is. Whether it could (`errno` says why not).
    fn write(&mut self) -> bool {
        let mut rest = self.bytes.as_slice();
        let mut offset = self.offset;
        while !rest.is_empty() {
            // SAFETY: `rest` is memory that can be read, of the length given.
            let written = unsafe { libc::pwrite(self.descriptor, rest.as_ptr().cast(), rest.len(), offset) };
            match usize::try_from(written) {
                Ok(length) if length > 0 => {
                    rest = &rest[length..];
                    offset += off_t::try_from(length).unwrap_or(0);
                }
                Err(_) if interrupted() => {}
                _ => {
                    self.bytes.clear();
                    return false;
                }
            }
        }
        self.bytes.clear();
        self.bytes.shrink_to(MOST);
        true
    }

    /// Takes part in a write, or leaves it to the caller.
    fn take(&mut self, descriptor: c_int, data: &[u8], offset: off_t) -> Taken {
        if !self.commits {
            return Taken::Not;
        }
        let continued = !self.bytes.is_empty() && self.is_continued(descriptor, offset);
        let is_page = self.awaits_page && continued;
        let is_header = data.len() == HEADER && !self.awaits_page;
        self.awaits_page = false;
        if !is_page && !is_header {
            return if self.write() { Taken::Not } else { Taken::Failed };
        }
        if is_header {
            if !continued && !self.write() {
                return Taken::Failed;
            }
            if self.bytes.is_empty() {
                (self.descriptor, self.offset) = (descriptor, offset);
            }
            self.awaits_page = true;
            self.is_last = data[LAST] != [0; 4];
        }
        self.bytes.extend_from_slice(data);
        let is_complete = is_page && (self.is_last || self.bytes.len() > MOST);
        if is_complete && !self.write() { Taken::Failed } else { Taken::All }
    }
}

enum Taken {
    /// All of it.
    All,
    /// It is the caller's to write.
    Not,
    Failed,
}

fn interrupted() -> bool {
    std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted
}

/// What SQLite calls in place of `pwrite`.
unsafe extern "C" fn pwrite(
    descriptor: c_int,
    data: *const c_void,
    length: size_t,
    offset: off_t,
) -> ssize_t {
    // SAFETY: the caller passes `length` bytes that can be read, as for `pwrite`.
    let bytes = unsafe { slice::from_raw_parts(data.cast::<u8>(), length) };
    let taken = GATHERED.try_with(|gathered| gathered.borrow_mut().take(descriptor, bytes, offset));
    match taken {
        Ok(Taken::All) => length.cast_signed(),
        Ok(Taken::Failed) => -1,
        // At the end of a thread there may be nothing to gather in.
        // SAFETY: as above.
        Ok(Taken::Not) | Err(_) => unsafe { libc::pwrite(descriptor, data, length, offset) },
    }
}

/// Runs `commit`, which commits a transaction of this thread's.
pub(crate) fn gathering<R>(commit: impl FnOnce() -> R) -> R {
    struct Over;

    impl Drop for Over {
        fn drop(&mut self) {
            GATHERED.with_borrow_mut(|gathered| {
                gathered.commits = false;
                // Something is left only where the commit has failed. It is not to be written later.
                gathered.bytes.clear();
                gathered.awaits_page = false;
            });
        }
    }

    GATHERED.with_borrow_mut(|gathered| gathered.commits = true);
    let _over = Over;
    commit()
}

/// Does so for every database that is opened from now on. To be called before the first is.
pub(crate) fn gather() {
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
