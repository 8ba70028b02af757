//! What reaches the file of a log, and when.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use rusqlite::Connection;

use super::*;

thread_local! {
    /// The calls that reached the file: offset and length of a write, or the name of another one.
    static CALLS: RefCell<Vec<(&'static str, i64, usize)>> = const { RefCell::new(Vec::new()) };
    static ANSWER: RefCell<c_int> = const { RefCell::new(ffi::SQLITE_OK) };
}

fn note(name: &'static str, at: i64, length: usize) -> c_int {
    CALLS.with_borrow_mut(|calls| calls.push((name, at, length)));
    ANSWER.with_borrow(|answer| *answer)
}

unsafe extern "C" fn noted_write(
    _: *mut ffi::sqlite3_file,
    _: *const c_void,
    length: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    note("write", at, usize::try_from(length).expect("a length"))
}

/// A log of which the calls are noted.
fn log() -> Log {
    // SAFETY: a table without methods is all zeros.
    let none: ffi::sqlite3_io_methods = unsafe { std::mem::zeroed() };
    let methods = Box::leak(Box::new(ffi::sqlite3_io_methods { xWrite: Some(noted_write), ..none }));
    let (frame_end, header_end, waits_at) = (NOWHERE, NOWHERE, NOWHERE);
    Log { methods, frame_end, header_end, waits_at, header: [0; HEADER] }
}

fn write(log: &mut Log, at: i64, length: usize) -> c_int {
    // SAFETY: the noted calls look at no file.
    unsafe { log.write(ptr::null_mut(), &vec![7; length], at) }
}

/// What another call does first.
fn settle(log: &mut Log) -> c_int {
    // SAFETY: as above.
    unsafe { log.settle(ptr::null_mut()) }
}

fn calls() -> Vec<(&'static str, i64, usize)> {
    CALLS.take()
}

const PAGE: usize = 4096;
const FRAME: i64 = 4120;

#[test]
fn frames_after_the_first_are_one_write() {
    let mut log = log();
    for frame in 0..3 {
        assert_eq!(write(&mut log, 32 + frame * FRAME, HEADER), 0);
        assert_eq!(write(&mut log, 56 + frame * FRAME, PAGE), 0);
    }
    let second = 32 + FRAME;
    let all =
        [("write", 32, 24), ("write", 56, PAGE), ("write", second, 4120), ("write", second + FRAME, 4120)];
    assert_eq!(calls(), all);
}

#[test]
fn a_header_without_its_page_does_not_wait() {
    let mut log = log();
    write(&mut log, 32, HEADER);
    write(&mut log, 56, PAGE);
    // A read: the header of any frame is written at once, also of one that would come next.
    settle(&mut log);
    calls();
    for at in [32, 32 + FRAME] {
        write(&mut log, at, HEADER);
        assert_eq!(calls(), [("write", at, 24)]);
    }
}

#[test]
fn any_other_call_writes_a_header_that_waits() {
    let begun = || {
        let mut log = log();
        write(&mut log, 32, HEADER);
        write(&mut log, 56, PAGE);
        write(&mut log, 32 + FRAME, HEADER);
        assert_eq!(calls().len(), 2, "the second header waits");
        log
    };
    let mut log = begun();
    settle(&mut log);
    assert_eq!(calls(), [("write", 32 + FRAME, 24)]);
    let mut log = begun();
    write(&mut log, 0, 32);
    assert_eq!(calls(), [("write", 32 + FRAME, 24), ("write", 0, 32)]);
    let mut log = begun();
    write(&mut log, 56 + FRAME, 2 * PAGE);
    assert_eq!(calls(), [("write", 32 + FRAME, 24), ("write", 56 + FRAME, 2 * PAGE)]);
}

#[test]
fn a_write_that_fails_is_reported_and_leaves_nothing() {
    for answer in [ffi::SQLITE_FULL, ffi::SQLITE_IOERR_WRITE] {
        let mut log = log();
        write(&mut log, 32, HEADER);
        write(&mut log, 56, PAGE);
        write(&mut log, 32 + FRAME, HEADER);
        ANSWER.set(answer);
        assert_eq!(write(&mut log, 56 + FRAME, PAGE), answer);
        ANSWER.set(ffi::SQLITE_OK);
        calls();
        settle(&mut log);
        write(&mut log, 32 + FRAME, HEADER);
        assert_eq!(calls(), [("write", 32 + FRAME, 24)]);
    }
    let mut log = log();
    write(&mut log, 32, HEADER);
    write(&mut log, 56, PAGE);
    write(&mut log, 32 + FRAME, HEADER);
    ANSWER.set(ffi::SQLITE_FULL);
    assert_eq!(settle(&mut log), ffi::SQLITE_FULL);
    ANSWER.set(ffi::SQLITE_OK);
}

fn open(directory: &Path) -> Connection {
    install();
    let connection = Connection::open(directory.join("cache.db")).expect("a database");
    connection
        .execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0")
        .expect("a statement");
    connection
}

/// A call of SQLite's on the log of a database: what it returned.
type Act = fn(*mut ffi::sqlite3_file, &ffi::sqlite3_io_methods, i64) -> c_int;

/// What each method of a log does with a header that waits, at some place: the log has it when the method is done.
const ACTS: [(&str, Act); 3] = [
    ("xRead", |file, methods, at| {
        let mut found = [0_u8; HEADER];
        let length = c_int::try_from(HEADER).expect("a length");
        // SAFETY: the file is open, and the bytes are ours.
        let code = unsafe { methods.xRead.expect("a method")(file, found.as_mut_ptr().cast(), length, at) };
        assert_eq!(found, [7; HEADER], "what was written is what is read");
        code
    }),
    ("xFileSize", |file, methods, at| {
        let mut size = 0;
        // SAFETY: as above.
        let code = unsafe { methods.xFileSize.expect("a method")(file, &raw mut size) };
        assert_eq!(size, at + HEADER_LENGTH, "what was written is part of the file");
        code
    }),
    // SAFETY: as above.
    ("xSync", |file, methods, _| unsafe { methods.xSync.expect("a method")(file, ffi::SQLITE_SYNC_NORMAL) }),
];

/// Has a header wait at the end of the log of a database. Where, and its file.
fn waiting(connection: &Connection) -> (*mut ffi::sqlite3_file, &ffi::sqlite3_io_methods, i64) {
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    // SAFETY: SQLite gives the file of the log, which is open as long as the connection.
    unsafe {
        let (name, call) = (c"main".as_ptr(), ffi::SQLITE_FCNTL_JOURNAL_POINTER);
        ffi::sqlite3_file_control(connection.handle(), name, call, (&raw mut file).cast());
        let methods = (*file).pMethods.as_ref().expect("methods");
        let write = methods.xWrite.expect("a method");
        let mut end = 0;
        assert_eq!(methods.xFileSize.expect("a method")(file, &raw mut end), ffi::SQLITE_OK);
        let page = [7_u8; PAGE];
        for (length, at) in [(HEADER, end), (PAGE, end + HEADER_LENGTH), (HEADER, end + FRAME)] {
            let length = c_int::try_from(length).expect("a length");
            assert_eq!(write(file, page.as_ptr().cast(), length, at), ffi::SQLITE_OK);
        }
        (file, methods, end + FRAME)
    }
}

#[test]
fn every_method_of_a_log_finds_the_header_that_waits() {
    for (name, act) in ACTS {
        let place = tempfile::tempdir().expect("a directory");
        let connection = open(place.path());
        connection.execute_batch("CREATE TABLE entry (id)").expect("a statement");
        let (file, methods, at) = waiting(&connection);
        let length = || fs::metadata(place.path().join("cache.db-wal")).expect("a log").len();
        assert_eq!(i64::try_from(length()).expect("a length"), at, "it waits");
        assert_eq!(act(file, methods, at), ffi::SQLITE_OK, "{name}");
        assert_eq!(i64::try_from(length()).expect("a length"), at + HEADER_LENGTH, "{name}");
    }
}

#[test]
fn a_header_that_waits_does_not_come_after_the_log_was_cut_off() {
    let place = tempfile::tempdir().expect("a directory");
    let connection = open(place.path());
    connection.execute_batch("CREATE TABLE entry (id)").expect("a statement");
    let (file, methods, at) = waiting(&connection);
    // SAFETY: the file is open.
    let codes = unsafe {
        let cut = methods.xTruncate.expect("a method")(file, at);
        (cut, methods.xSync.expect("a method")(file, ffi::SQLITE_SYNC_NORMAL))
    };
    assert_eq!(codes, (ffi::SQLITE_OK, ffi::SQLITE_OK));
    let length = fs::metadata(place.path().join("cache.db-wal")).expect("a log").len();
    assert_eq!(i64::try_from(length).expect("a length"), at);
}

#[test]
fn a_log_that_is_closed_has_the_header_that_waits() {
    let place = tempfile::tempdir().expect("a directory");
    let connection = open(place.path());
    connection.execute_batch("CREATE TABLE entry (id)").expect("a statement");
    let call = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(call, true).expect("a setting");
    let (_, _, at) = waiting(&connection);
    drop(connection);
    let log = fs::read(place.path().join("cache.db-wal")).expect("a log");
    assert_eq!(i64::try_from(log.len()).expect("a length"), at + HEADER_LENGTH);
}

fn rows(connection: &Connection) -> Vec<(i64, Vec<u8>)> {
    let mut select = connection.prepare("SELECT id, value FROM entry ORDER BY id").expect("a statement");
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
    rows.collect::<rusqlite::Result<_>>().expect("rows")
}

/// What another process would recover from the files.
fn recovered(place: &Path) -> (tempfile::TempDir, Connection) {
    let copy = tempfile::tempdir().expect("a directory");
    for name in ["cache.db", "cache.db-wal"] {
        fs::copy(place.join(name), copy.path().join(name)).expect("a copy");
    }
    let connection = open(copy.path());
    (copy, connection)
}

/// A transaction that is rolled back has written some frames before. Another process writes over them.
#[test]
fn frames_of_a_rolled_back_transaction_do_not_come_after_those_of_another() {
    let place = tempfile::tempdir().expect("a directory");
    let connection = open(place.path());
    connection
        .execute_batch(
            "CREATE TABLE entry (id INTEGER PRIMARY KEY, value BLOB); PRAGMA cache_size=10; PRAGMA cache_spill=1;
             PRAGMA wal_checkpoint(TRUNCATE)",
        )
        .expect("a statement");
    // Each row takes a page. There are a few more of them than the cache holds.
    let insert = |connection: &Connection| {
        connection.execute_batch("BEGIN IMMEDIATE").expect("a statement");
        for id in 0..16_i64 {
            connection.execute("INSERT INTO entry VALUES (?1, ?2)", (id, [7_u8; 3000])).expect("a statement");
        }
    };
    insert(&connection);
    connection.execute_batch("ROLLBACK").expect("a statement");
    // On another thread, where nothing that waits on this one is known.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let other = open(place.path());
            insert(&other);
            waiting_frames::commit(&other).expect("a commit");
        });
    });
    assert_eq!(rows(&connection).len(), 16);
    assert_eq!(rows(&recovered(place.path()).1).len(), 16);
}

/// Transactions that do not fit in the page cache write their pages to the log before they commit, some of them
/// twice, and then mend the headers. What is in the files after each commit is what another process would recover.
#[test]
fn every_commit_is_in_the_files() {
    let place = tempfile::tempdir().expect("a directory");
    let connection = open(place.path());
    connection
        .execute_batch(
            "CREATE TABLE entry (id INTEGER PRIMARY KEY, value BLOB); CREATE INDEX by_value ON entry (value);
             PRAGMA cache_size=10; PRAGMA cache_spill=1",
        )
        .expect("a statement");
    for number in 0..30_i64 {
        connection.execute_batch("BEGIN IMMEDIATE").expect("a statement");
        // Small ones, ones that spill, and ones that come back to the same pages.
        for step in 0..=number * number {
            let id = (step * 37) % (1 + number * 5);
            let value = vec![u8::try_from((number + step) % 251).expect("a byte"); 700];
            connection
                .execute("INSERT OR REPLACE INTO entry VALUES (?1, ?2)", (id, value))
                .expect("a statement");
        }
        if number % 7 == 6 {
            connection.execute_batch("ROLLBACK").expect("a statement");
        } else {
            waiting_frames::commit(&connection).expect("a commit");
        }
        let (_copy, recovered) = recovered(place.path());
        assert_eq!(rows(&recovered), rows(&connection), "after transaction {number}");
        let intact: String =
            recovered.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a statement");
        assert_eq!(intact, "ok");
        if number % 10 == 9 {
            connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).expect("a statement");
        }
    }
}
