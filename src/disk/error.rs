//! The errors of this crate, each with the data that is needed to act on it. A miss is not an error.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use rusqlite::ffi;

/// Why a call failed. Unless it says otherwise, nothing has changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The lock was not acquired within the time that the caller was willing to wait.
    Busy,
    /// The calling thread has the lock itself, in a transaction that it began through another object of the same
    /// directory.
    HeldByThisThread,
    /// The filesystem could not lock. On a network filesystem, the next attempt may succeed. If the file system has no
    /// locks at all, the error is [`Error::Sqlite`].
    NoLock(rusqlite::Error),
    /// SQLite failed.
    Sqlite(rusqlite::Error),
    /// A commit failed, for this reason, but SQLite may have written it: either all of the transaction is
    /// stored or nothing, and only reading shows which. The files of its values must not be removed.
    InDoubt(Box<Error>),
    /// A file or directory could not be read, written or made.
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another SQLite library in this process has the database open. Their locks do not exclude each other,
    /// so going on could destroy the database.
    OpenedByAnother(PathBuf),
    /// The directory cannot be written, because permission is missing or its file system is mounted
    /// read-only.
    ReadOnly {
        /// Which.
        directory: PathBuf,
        /// Further explanation, or an empty text.
        why: &'static str,
    },
    /// The value is not a number that can be incremented.
    NotANumber,
    /// The sum does not fit 64 bits.
    Overflow,
    /// The sum is not a number, such as that of infinity and minus infinity.
    NoSum,
    /// A key among those of a queue does not end in a number.
    NotAQueueKey(String),
    /// A value's compressed bytes are damaged.
    DamagedValue,
    /// There is not enough memory for the stored data.
    OutOfMemory,
    /// The calling thread has no transaction to end.
    NoTransaction,
    /// SQLite has rolled the thread's transaction back, because of an earlier error.
    TransactionLost,
    /// The thread is ending and cannot begin a transaction.
    ThreadEnds,
}

/// The result of the calls of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The error for a file.
    #[must_use]
    pub fn file(path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::OutOfMemory {
            return Self::OutOfMemory;
        }
        Self::File { path: path.to_owned(), source }
    }

    /// The error after waiting for the database while it was opened. SQLite takes a file system that could not lock for
    /// another process that has the lock.
    pub(crate) fn busy_while_opening() -> Self {
        let Some(reason) = busy_reason::get() else { return Self::Busy };
        let failure = ffi::Error::new(ffi::SQLITE_BUSY);
        Self::NoLock(rusqlite::Error::SqliteFailure(failure, Some(cannot_lock(&reason))))
    }

    /// Whether the file system failed to lock, for a reason that has nothing to do with other processes.
    #[must_use]
    pub fn is_failed_lock(&self) -> bool {
        matches!(self, Self::NoLock(_)) && self.sqlite_code() != Some(ffi::SQLITE_PROTOCOL)
    }

    /// Whether SQLite found the disk full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull))
    }

    /// Whether the error means that SQLite would have had to write.
    #[must_use]
    pub fn needs_to_write(&self) -> bool {
        matches!(
            self.sqlite_code().map(|code| code & 0xff),
            Some(ffi::SQLITE_READONLY | ffi::SQLITE_CANTOPEN)
        )
    }

    /// Whether the call's write may be stored all the same.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Self::InDoubt(_))
    }

    /// SQLite's extended result code, where SQLite failed.
    #[must_use]
    pub fn sqlite_code(&self) -> Option<i32> {
        match self {
            Self::InDoubt(error) => error.sqlite_code(),
            Self::Sqlite(rusqlite::Error::SqliteFailure(failure, _))
            | Self::NoLock(rusqlite::Error::SqliteFailure(failure, _)) => Some(failure.extended_code),
            _ => None,
        }
    }
}

/// The reason for which a column could not be read: there was no memory to copy it.
#[derive(Debug)]
pub(crate) struct OutOfMemory;

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Error::OutOfMemory.fmt(f)
    }
}

impl std::error::Error for OutOfMemory {}

/// Adds the system's reason to SQLite's message if that does not say it: "disk I/O error" may be a limit of the process
/// or a broken disk. A quota or a limit that stops a write is a full disk, as `ENOSPC` is for SQLite. Runs right after
/// the failure, when `errno` is still that of the call that failed, as SQLite's own `sqlite3_system_errno` does.
#[cfg(unix)]
fn with_reason(error: rusqlite::Error) -> rusqlite::Error {
    let reason = io::Error::last_os_error();
    if let rusqlite::Error::SqliteFailure(failure, _) = error
        && CANNOT_LOCK.contains(&failure.extended_code)
    {
        return rusqlite::Error::SqliteFailure(failure, Some(cannot_lock(&reason)));
    }
    let Some(number) = reason.raw_os_error().filter(|number| REASONS.contains(number)) else { return error };
    match error {
        rusqlite::Error::SqliteFailure(failure, Some(message))
            if matches!(failure.extended_code & 0xff, ffi::SQLITE_IOERR | ffi::SQLITE_CANTOPEN) =>
        {
            let is_full = failure.extended_code == ffi::SQLITE_IOERR_WRITE
                && [libc::EDQUOT, libc::EFBIG].contains(&number);
            let (failure, message) = if is_full {
                (ffi::Error::new(ffi::SQLITE_FULL), "database or disk is full".to_owned())
            } else {
                (failure, message)
            };
            rusqlite::Error::SqliteFailure(failure, Some(format!("{message} ({})", text_of(&reason))))
        }
        error => error,
    }
}

#[cfg(not(unix))]
fn with_reason(error: rusqlite::Error) -> rusqlite::Error {
    error
}

/// What the system may have against opening or writing a file. SQLite causes other error numbers itself, when it looks
/// for files and locks.
#[cfg(unix)]
const REASONS: [i32; 9] = [
    libc::ENOSPC,
    libc::EDQUOT,
    libc::EFBIG,
    libc::EMFILE,
    libc::ENFILE,
    libc::ENOMEM,
    libc::EROFS,
    libc::EIO,
    libc::ESTALE,
];

/// The system's reasons for which locks never work on a file system.
#[cfg(unix)]
const NEVER_LOCKS: [i32; 4] = [libc::ENOSYS, libc::EOPNOTSUPP, libc::ENOTSUP, libc::EINVAL];

/// Whether a file system has no locks at all, after a call that failed to lock.
#[cfg(unix)]
fn has_no_locks() -> bool {
    io::Error::last_os_error().raw_os_error().is_some_and(|number| NEVER_LOCKS.contains(&number))
}

#[cfg(not(unix))]
fn has_no_locks() -> bool {
    false
}

/// The system's text for an error, without its number.
fn text_of(reason: &io::Error) -> String {
    reason.to_string().split(" (os error").next().unwrap_or_default().to_owned()
}

fn cannot_lock(reason: &io::Error) -> String {
    format!("the file system cannot lock files ({})", text_of(reason))
}

/// The system's reason for which SQLite last reported to this thread that the database is locked.
mod busy_reason {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static NUMBER: Cell<Option<i32>> = const { Cell::new(None) };
    }

    /// Notes the reason, right after the failure.
    pub(super) fn note() {
        NUMBER.set(io::Error::last_os_error().raw_os_error());
    }

    /// The reason, if the file system could not lock.
    #[cfg(unix)]
    pub(super) fn get() -> Option<io::Error> {
        NUMBER.get().filter(|&number| number == libc::ENOLCK).map(io::Error::from_raw_os_error)
    }

    #[cfg(not(unix))]
    pub(super) fn get() -> Option<io::Error> {
        None
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        // What asks for the system's error number comes first, before anything can change it.
        let error = with_reason(error);
        if let rusqlite::Error::FromSqlConversionFailure(_, _, source) = &error
            && source.is::<OutOfMemory>()
        {
            return Self::OutOfMemory;
        }
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::OutOfMemory) => Self::OutOfMemory,
            Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
                busy_reason::note();
                Self::Busy
            }
            _ => match error.sqlite_error().map(|failure| failure.extended_code) {
                Some(code) if CANNOT_LOCK.contains(&code) && !has_no_locks() => Self::NoLock(error),
                Some(ffi::SQLITE_PROTOCOL) => Self::NoLock(error),
                _ => Self::Sqlite(error),
            },
        }
    }
}

/// Result codes of SQLite for a lock that the system refused for another reason than that somebody else has it.
const CANNOT_LOCK: [i32; 4] = [
    ffi::SQLITE_IOERR_LOCK,
    ffi::SQLITE_IOERR_RDLOCK,
    ffi::SQLITE_IOERR_CHECKRESERVEDLOCK,
    ffi::SQLITE_IOERR_UNLOCK,
];

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => write!(f, "database is locked"),
            Self::HeldByThisThread => write!(
                f,
                "this thread would wait for itself: it is in a transaction of the same directory, which it began through \
                 another object; write through that object, or leave the transaction first"
            ),
            Self::Sqlite(rusqlite::Error::SqliteFailure(_, Some(message)))
            | Self::NoLock(rusqlite::Error::SqliteFailure(_, Some(message))) => write!(f, "{message}"),
            Self::Sqlite(error) | Self::NoLock(error) => write!(f, "{error}"),
            Self::InDoubt(error) => error.fmt(f),
            Self::File { path, source } => write!(f, "{}: {source}", path.display()),
            Self::OpenedByAnother(path) => write!(
                f,
                "{} is open in this process through another SQLite library (python-diskcache or the sqlite3 module): \
                 the two do not see each other's locks; close it there, or use one of them in another process",
                path.display()
            ),
            Self::ReadOnly { directory, why } => {
                write!(f, "the cache directory {} cannot be written{why}", directory.display())
            }
            Self::NotANumber => write!(f, "the value is not a number"),
            Self::Overflow => write!(f, "the sum does not fit 64 bits"),
            Self::NoSum => write!(f, "the sum is not a number (NaN), which cannot be counted with"),
            Self::NotAQueueKey(key) => {
                write!(f, "the key {key:?} lies in a queue and does not end in a number")
            }
            Self::OutOfMemory => write!(f, "there is not enough memory for what is stored"),
            Self::DamagedValue => write!(f, "the value's compressed bytes are damaged"),
            Self::NoTransaction => write!(f, "this thread is in no transaction"),
            Self::TransactionLost => {
                write!(
                    f,
                    "the transaction was rolled back because of an earlier error, and nothing of it is stored"
                )
            }
            Self::ThreadEnds => write!(f, "this thread is ending, and can begin no transaction"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Sqlite(error) | Self::NoLock(error) => Some(error),
            Self::InDoubt(error) => Some(error),
            Self::File { source, .. } => Some(source),
            _ => None,
        }
    }
}
