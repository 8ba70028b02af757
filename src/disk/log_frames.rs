//! SQLite's file system, in which a small commit is one write to the log.
//!
//! SQLite writes the header of a frame, which has 24 bytes, and then the page, which follows it in the file. Here the
//! header waits for the page, and both are written at once: half of a commit's writes are saved.
//!
//! A header must never wait for a page that does not come: the commit would be complete for SQLite, and not in the file.
//! SQLite writes 24 bytes to a log in two places. `walWriteOneFrame` writes the page next. `walRewriteChecksums`, which
//! mends the headers of a transaction that has written a page twice, writes none; before every header it reads the frame
//! from the same file. So a header waits only if the call before it has completed a frame, and it begins where that frame
//! ends. Any other call, a read for instance, first writes a header that waits, and has the next one written at once.
//!
//! Inside a commit, frames wait as well, see [`waiting_frames`].
//!
//! Files are those of SQLite's own file system. Only the table of methods of logs is replaced, and what is known of a log
//! lies behind SQLite's own data of the file.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::{Mutex, OnceLock, PoisonError};

use rusqlite::ffi;

use crate::waiting_frames::{self, Added, HEADER};

const HEADER_LENGTH: i64 = 24;

/// Larger pages than python-diskcache's are not copied, but written after their headers.
const LARGEST_PAGE: usize = 4096;

/// No offset of a file.
const NOWHERE: i64 = -1;

/// What is known of a log that a connection has open.
struct Log {
    methods: &'static ffi::sqlite3_io_methods,
    /// Where the frame ends that the last call has completed.
    frame_end: i64,
    /// Where the header ends that the last call has written.
    header_end: i64,
    /// Where the header belongs that waits.
    waits_at: i64,
    header: [u8; HEADER],
}

/// SQLite's own file system.
struct Original {
    vfs: *mut ffi::sqlite3_vfs,
    /// Where [`Log`] lies in the memory of a file.
    place: usize,
}

// SAFETY: a file system may be called from any thread, and is never unregistered.
unsafe impl Sync for Original {}
// SAFETY: as above.
unsafe impl Send for Original {}

static ORIGINAL: OnceLock<Original> = OnceLock::new();

/// A table of methods, and the one that it replaces. There are as many as SQLite has for logs: one, or a few.
struct Table {
    gathering: ffi::sqlite3_io_methods,
    original: &'static ffi::sqlite3_io_methods,
}

static TABLES: Mutex<Vec<&'static Table>> = Mutex::new(Vec::new());

/// Makes this the file system of all databases that are opened from now on. SQLite is linked into this module, so they are
/// ours alone.
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

/// What is known of a log.
fn log_of(file: *mut ffi::sqlite3_file) -> *mut Log {
    let place = ORIGINAL.get().map_or(0, |original| original.place);
    file.cast::<u8>().wrapping_add(place).cast()
}

/// Where bytes end that begin there.
fn end_of(begin: i64, bytes: &[u8]) -> i64 {
    i64::try_from(bytes.len()).map_or(NOWHERE, |length| begin + length)
}

impl Log {
    /// Writes the frames and the header that wait, before a call that is not the write of the next frame.
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

    /// Writes the frames that wait.
    ///
    /// # Safety
    ///
    /// It must be that of the file, which is open.
    unsafe fn write_frames(&self, file: *mut ffi::sqlite3_file) -> c_int {
        // SAFETY: the caller's promise. The original does not come back here.
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
    // SAFETY: the file is one of ours, and the original takes SQLite's arguments. It is closed whatever comes of the header.
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
mod tests {
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
        let all = [
            ("write", 32, 24),
            ("write", 56, PAGE),
            ("write", second, 4120),
            ("write", second + FRAME, 4120),
        ];
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
            let code =
                unsafe { methods.xRead.expect("a method")(file, found.as_mut_ptr().cast(), length, at) };
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
        ("xSync", |file, methods, _| unsafe {
            methods.xSync.expect("a method")(file, ffi::SQLITE_SYNC_NORMAL)
        }),
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
                connection
                    .execute("INSERT INTO entry VALUES (?1, ?2)", (id, [7_u8; 3000]))
                    .expect("a statement");
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
}
