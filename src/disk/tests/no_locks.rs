//! File systems that cannot lock: what the calls that open a directory say, and how long they wait.

#![cfg(target_os = "linux")]
#![expect(unsafe_code, reason = "SQLite's call of the system is replaced")]

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::transmute;
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use flexcache_disk::{DiskStore, Error, Policy, Value};
use rusqlite::ffi;

/// No test waits for this. It is also longer than any time that the clock can show.
const LONG: Duration = Duration::MAX;
const SHORT: Duration = Duration::from_millis(20);

thread_local! {
    /// The error number of all calls of this thread that lock, or 0 if they succeed.
    static NUMBER: Cell<c_int> = const { Cell::new(0) };
    /// How many of them fail, before the next ones succeed.
    static LEFT: Cell<u32> = const { Cell::new(0) };
}

/// The system's `fcntl`, except that locks fail as `NUMBER` says.
extern "C" fn locks_fail(file: c_int, command: c_int, argument: *mut c_void) -> c_int {
    let number = NUMBER.get();
    let left = LEFT.get();
    if number != 0 && left != 0 && matches!(command, libc::F_SETLK | libc::F_GETLK) {
        LEFT.set(left - 1);
        // SAFETY: it is this thread's.
        unsafe { *libc::__errno_location() = number };
        return -1;
    }
    // SAFETY: SQLite calls this as it would call the system.
    unsafe { libc::fcntl(file, command, argument) }
}

/// Lets the locks of this thread fail with this number from now on.
fn fail_with(number: c_int) {
    static REPLACED: Once = Once::new();
    REPLACED.call_once(|| {
        // SAFETY: SQLite's file system is never unregistered. On Linux, a function with three arguments can be called as
        // one that takes any number.
        unsafe {
            let system = ffi::sqlite3_vfs_find(c"unix".as_ptr());
            let replace = (*system).xSetSystemCall.expect("it has this method");
            let call = transmute::<extern "C" fn(c_int, c_int, *mut c_void) -> c_int, unsafe extern "C" fn()>(
                locks_fail,
            );
            assert_eq!(replace(system, c"fcntl".as_ptr(), Some(call)), ffi::SQLITE_OK);
        }
    });
    NUMBER.set(number);
    LEFT.set(u32::MAX);
}

fn settings(mode: &str) -> Vec<(String, Value)> {
    vec![("sqlite_journal_mode".to_owned(), Value::Text(mode.to_owned()))]
}

fn create(directory: &Path, mode: &str, patience: Duration) -> Result<(), Error> {
    DiskStore::new(directory).create(&settings(mode), &Policy::default(), patience)
}

/// What both calls that open a directory return.
fn opened(directory: &Path, mode: &str, patience: Duration) -> [Error; 2] {
    let read = DiskStore::new(directory).settings(patience).expect_err("it cannot lock");
    [read, create(directory, mode, patience).expect_err("it cannot lock")]
}

#[test]
fn a_file_system_without_locks_is_named_at_once() {
    for (number, text) in [
        (libc::ENOSYS, "Function not implemented"),
        (libc::EOPNOTSUPP, "Operation not supported"),
        (libc::EINVAL, "Invalid argument"),
    ] {
        for mode in ["wal", "delete"] {
            for is_new in [true, false] {
                let directory = tempfile::tempdir().expect("a directory");
                if !is_new {
                    create(directory.path(), mode, LONG).expect("a new directory");
                }
                fail_with(number);
                for error in opened(directory.path(), mode, LONG) {
                    assert!(matches!(error, Error::Sqlite(_)), "{error:?}");
                    assert_eq!(error.to_string(), format!("the file system cannot lock files ({text})"));
                }
                fail_with(0);
                create(directory.path(), mode, LONG).expect("it can lock again");
            }
        }
    }
}

#[test]
fn a_lock_that_fails_for_now_is_tried_again() {
    for number in [libc::ENOLCK, libc::EIO] {
        for mode in ["wal", "delete"] {
            let directory = tempfile::tempdir().expect("a directory");
            fail_with(number);
            LEFT.set(5);
            create(directory.path(), mode, LONG).expect("it can lock soon");
            assert_eq!(LEFT.get(), 0);
            fail_with(0);
        }
    }
}

/// SQLite takes this for another process that has the lock.
#[test]
fn a_lock_that_fails_all_the_time_is_named() {
    for mode in ["wal", "delete"] {
        let directory = tempfile::tempdir().expect("a directory");
        fail_with(libc::ENOLCK);
        for error in opened(directory.path(), mode, SHORT) {
            assert!(error.is_failed_lock(), "{error:?}");
            assert_eq!(error.to_string(), "the file system cannot lock files (No locks available)");
        }
        fail_with(0);
        create(directory.path(), mode, LONG).expect("it can lock again");
    }
}

#[test]
fn another_process_that_has_the_lock_is_no_failed_lock() {
    let directory = tempfile::tempdir().expect("a directory");
    create(directory.path(), "delete", LONG).expect("a new directory");
    for number in [libc::EAGAIN, libc::EACCES] {
        fail_with(number);
        for error in opened(directory.path(), "delete", SHORT) {
            assert!(matches!(error, Error::Busy), "{error:?}");
        }
        fail_with(0);
    }
}
