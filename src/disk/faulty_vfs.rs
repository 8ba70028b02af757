//! SQLite's file system, with faults: it asks the plan of [`crate::faults`] before every call that changes a file.
//!
//! Files are those of SQLite's own file system. Only their table of methods is replaced, by a copy in which
//! the calls that write, synchronize and truncate ask first. Everything else, such as the shared memory of
//! the log, works as before. Nothing is really synchronized: the system keeps written data when a process
//! ends, and the power is never cut here.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use rusqlite::ffi;

use crate::faults::{Call, On, Verdict, ask};
use crate::log_frames;
use crate::power_loss;

/// The exit status of a process that was ended by a fault.
const STATUS: c_int = 86;

/// SQLite's own file system.
static ORIGINAL: AtomicPtr<ffi::sqlite3_vfs> = AtomicPtr::new(ptr::null_mut());

/// A table of methods, and the one that it replaces. SQLite sees the first field.
#[repr(C)]
struct Methods {
    asking: ffi::sqlite3_io_methods,
    original: &'static ffi::sqlite3_io_methods,
    on: On,
}

// SAFETY: tables are never changed, and the functions in them may be called from any thread.
unsafe impl Sync for Methods {}
// SAFETY: as above.
unsafe impl Send for Methods {}

/// The tables that were made. There are a few: one for each kind of file.
static TABLES: Mutex<Vec<&'static Methods>> = Mutex::new(Vec::new());

/// The names of open files, by the addresses that SQLite gives them.
static NAMES: Mutex<Option<HashMap<usize, PathBuf>>> = Mutex::new(None);

/// The path that SQLite gives for a file.
///
/// # Safety
///
/// The name ends with a zero.
unsafe fn path_of(name: *const c_char) -> PathBuf {
    // SAFETY: see above. The text comes from the system, so it is valid for it.
    let name = unsafe { OsStr::from_encoded_bytes_unchecked(CStr::from_ptr(name).to_bytes()) };
    Path::new(name).to_owned()
}

/// Calls `call` with the name of an open file, if it has one.
fn named(file: *mut ffi::sqlite3_file, call: impl FnOnce(&Path)) {
    let names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = names.as_ref().and_then(|names| names.get(&file.addr())) {
        call(path);
    }
}

/// Makes the file system with faults the default one.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // This file system calls the other one: SQLite must see first the table of methods that replaces
        // another.
        log_frames::install();
        // SAFETY: the default file system exists and is never unregistered. The copy lives as long as the process, and
        // its methods take their data from the fields that are copied.
        unsafe {
            let original = ffi::sqlite3_vfs_find(ptr::null());
            assert!(!original.is_null(), "SQLite has a default file system");
            ORIGINAL.store(original, Ordering::Release);
            let copy = ffi::sqlite3_vfs {
                zName: c"faults".as_ptr(),
                pNext: ptr::null_mut(),
                xOpen: Some(open),
                xDelete: Some(delete),
                ..*original
            };
            let code = ffi::sqlite3_vfs_register(Box::leak(Box::new(copy)), 1);
            assert_eq!(code, ffi::SQLITE_OK);
        }
    });
}

/// Ends the process at once, as if it were killed: no destructor and no handler runs.
pub(crate) fn end_process() -> ! {
    unsafe extern "C" {
        fn _exit(status: c_int) -> !;
    }
    // SAFETY: it takes any status and does not return.
    unsafe { _exit(STATUS) }
}

fn table(original: &'static ffi::sqlite3_io_methods, on: On) -> &'static Methods {
    // Nothing inside can panic half-way.
    let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(table) = tables.iter().find(|table| ptr::eq(table.original, original) && table.on == on) {
        return table;
    }
    let asking = ffi::sqlite3_io_methods {
        xWrite: Some(write),
        xSync: Some(sync),
        xTruncate: Some(truncate),
        xShmMap: original.xShmMap.and(Some(map)),
        xShmLock: original.xShmLock.and(Some(lock)),
        ..*original
    };
    let made: &'static Methods = Box::leak(Box::new(Methods { asking, original, on }));
    tables.push(made);
    made
}

/// Whether a file is the database of leases, its journal or its log.
///
/// # Safety
///
/// The name ends with a zero.
unsafe fn is_of_leases(name: *const c_char) -> bool {
    const NAME: &[u8] = b"cache.db-gates";
    // SAFETY: see above.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
    name.windows(NAME.len()).any(|part| part == NAME)
}

/// Opens a file as SQLite does, then replaces its table of methods.
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
    // SAFETY: a name is null or ends with a zero.
    let is_of_leases = !name.is_null() && unsafe { is_of_leases(name) };
    let on = match flags {
        _ if is_of_leases => On::Gates,
        _ if flags & ffi::SQLITE_OPEN_MAIN_DB != 0 => On::Database,
        _ if flags & ffi::SQLITE_OPEN_MAIN_JOURNAL != 0 => On::Journal,
        _ if flags & ffi::SQLITE_OPEN_WAL != 0 => On::Log,
        _ => On::Temporary,
    };
    // SAFETY: the original is called with SQLite's arguments. Where it succeeds, the file has a table of methods, which
    // is static, as SQLite's documentation asks of every file system.
    unsafe {
        let original = ORIGINAL.load(Ordering::Acquire);
        let Some(open) = (*original).xOpen else { return ffi::SQLITE_CANTOPEN };
        if on == On::Temporary && flags & ffi::SQLITE_OPEN_DELETEONCLOSE != 0 {
            match ask(on, Call::Create) {
                Verdict::Go => {}
                Verdict::Exit => end_process(),
                Verdict::Fail | Verdict::Full => {
                    // Without methods, SQLite does not close the file.
                    (*file).pMethods = ptr::null();
                    return ffi::SQLITE_CANTOPEN;
                }
            }
        }
        let code = open(original, name, file, flags, out);
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        let names = names.get_or_insert_default();
        names.remove(&file.addr());
        if code == ffi::SQLITE_OK && !name.is_null() && flags & ffi::SQLITE_OPEN_DELETEONCLOSE == 0 {
            let path = path_of(name);
            power_loss::opened(&path);
            names.insert(file.addr(), path);
        }
        if let Some(methods) = (*file).pMethods.as_ref() {
            (*file).pMethods = &raw const table(methods, on).asking;
        }
        code
    }
}

/// # Safety
///
/// SQLite calls it.
unsafe extern "C" fn delete(_vfs: *mut ffi::sqlite3_vfs, name: *const c_char, directory: c_int) -> c_int {
    // SAFETY: SQLite gives the name, which ends with a zero.
    let (is_of_leases, is_log) =
        unsafe { (is_of_leases(name), CStr::from_ptr(name).to_bytes().ends_with(b"-wal")) };
    let on = match is_log {
        _ if is_of_leases => On::Gates,
        true => On::Log,
        false => On::Journal,
    };
    let original = ORIGINAL.load(Ordering::Acquire);
    // SAFETY: the original is called with SQLite's arguments.
    unsafe {
        // SQLite also deletes files that may not exist. That changes nothing, so it does not count as a call.
        let mut is_there = 0;
        if let Some(access) = (*original).xAccess {
            access(original, name, ffi::SQLITE_ACCESS_EXISTS, &raw mut is_there);
        }
        if is_there != 0 {
            match ask(on, Call::Unlink) {
                Verdict::Go => {}
                Verdict::Exit => end_process(),
                Verdict::Fail | Verdict::Full => return ffi::SQLITE_IOERR_DELETE,
            }
        }
        let code = (*original).xDelete.map_or(ffi::SQLITE_IOERR_DELETE, |delete| delete(original, name, 0));
        if code == ffi::SQLITE_OK {
            power_loss::deleted(&path_of(name), false);
        }
        if code != ffi::SQLITE_OK || directory == 0 {
            return code;
        }
        match ask(On::Directory, Call::Sync) {
            Verdict::Go => {
                power_loss::deleted(&path_of(name), true);
                code
            }
            Verdict::Fail | Verdict::Full => ffi::SQLITE_IOERR_DIR_FSYNC,
            Verdict::Exit => end_process(),
        }
    }
}

/// The methods behind a file.
///
/// # Safety
///
/// [`open`] has opened the file, and it is not closed.
unsafe fn methods_of<'a>(file: *mut ffi::sqlite3_file) -> &'a Methods {
    // SAFETY: the table is the first field of a `Methods`, which lives as long as the process.
    unsafe { &*(*file).pMethods.cast::<Methods>() }
}

/// # Safety
///
/// SQLite calls it.
unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    bytes: *const c_void,
    length: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: the file is one of ours; the original takes SQLite's arguments, and half of the bytes are there as well.
    unsafe {
        let methods = methods_of(file);
        let Some(write) = methods.original.xWrite else { return ffi::SQLITE_IOERR_WRITE };
        match ask(methods.on, Call::Write) {
            Verdict::Go => {
                if let (Ok(offset), Ok(length)) = (usize::try_from(offset), usize::try_from(length)) {
                    let bytes = std::slice::from_raw_parts(bytes.cast::<u8>(), length);
                    named(file, |path| power_loss::wrote(path, offset, bytes));
                }
                write(file, bytes, length, offset)
            }
            Verdict::Fail => ffi::SQLITE_IOERR_WRITE,
            Verdict::Full => {
                write(file, bytes, length / 2, offset);
                ffi::SQLITE_FULL
            }
            Verdict::Exit => {
                write(file, bytes, length / 2, offset);
                end_process()
            }
        }
    }
}

/// # Safety
///
/// SQLite calls it.
unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: the file is one of ours.
    match ask(unsafe { methods_of(file) }.on, Call::Sync) {
        Verdict::Go => {
            named(file, power_loss::synchronized);
            ffi::SQLITE_OK
        }
        // SQLite's own file system returns the same code if the disk is full.
        Verdict::Fail | Verdict::Full => ffi::SQLITE_IOERR_FSYNC,
        Verdict::Exit => end_process(),
    }
}

/// # Safety
///
/// SQLite calls it.
unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    // SAFETY: the file is one of ours; the original takes SQLite's arguments.
    unsafe {
        let methods = methods_of(file);
        match ask(methods.on, Call::Truncate) {
            Verdict::Go => {
                if let Ok(size) = usize::try_from(size) {
                    named(file, |path| power_loss::truncated(path, size));
                }
                methods.original.xTruncate.map_or(ffi::SQLITE_IOERR_TRUNCATE, |truncate| truncate(file, size))
            }
            Verdict::Fail | Verdict::Full => ffi::SQLITE_IOERR_TRUNCATE,
            Verdict::Exit => end_process(),
        }
    }
}

/// The kind of file that the index of a database's log counts as.
fn index_of(methods: &Methods) -> On {
    if methods.on == On::Gates { On::Gates } else { On::Index }
}

/// # Safety
///
/// SQLite calls it.
unsafe extern "C" fn map(
    file: *mut ffi::sqlite3_file,
    piece: c_int,
    length: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: the file is one of ours; the original takes SQLite's arguments.
    unsafe {
        let methods = methods_of(file);
        match ask(index_of(methods), Call::Map) {
            Verdict::Go => methods
                .original
                .xShmMap
                .map_or(ffi::SQLITE_IOERR_SHMMAP, |map| map(file, piece, length, extend, out)),
            Verdict::Fail => ffi::SQLITE_IOERR_SHMMAP,
            Verdict::Full => ffi::SQLITE_IOERR_SHMSIZE,
            Verdict::Exit => end_process(),
        }
    }
}

/// # Safety
///
/// SQLite calls it.
unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, offset: c_int, count: c_int, flags: c_int) -> c_int {
    // SAFETY: the file is one of ours; the original takes SQLite's arguments.
    unsafe {
        let methods = methods_of(file);
        // Unlocking does not fail.
        let verdict =
            if flags & ffi::SQLITE_SHM_LOCK == 0 { Verdict::Go } else { ask(index_of(methods), Call::Lock) };
        match verdict {
            Verdict::Go => methods
                .original
                .xShmLock
                .map_or(ffi::SQLITE_IOERR_SHMLOCK, |lock| lock(file, offset, count, flags)),
            Verdict::Fail | Verdict::Full => ffi::SQLITE_IOERR_SHMLOCK,
            Verdict::Exit => end_process(),
        }
    }
}
