//! The errors of this crate, each with the data that is needed to act on it. A miss is not an error.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, io};

/// Why a call failed. Unless it says otherwise, nothing has changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The stripe's lock is not free, and the caller did not want to wait.
    Busy,
    /// The stripe's lock was not free within the time limit.
    Timeout {
        /// How long the call waited. Zero shortly after another call timed out on the same stripe.
        waited: Duration,
        /// The process that holds the lock, if that is known.
        holder: Option<u32>,
    },
    /// The caller's [`goes_on`](crate::Options::goes_on) returned false, so the call stopped waiting.
    Interrupted,
    /// Another process is creating, replacing or removing a segment in the directory.
    DirectoryBusy(PathBuf),
    /// The entry is larger than the largest one that the segment takes.
    TooLarge {
        /// The entry's bytes in the segment: key, value and record head.
        size: usize,
        /// The largest such number.
        limit: usize,
    },
    /// An argument is outside its range.
    OutOfRange {
        /// Its name.
        argument: &'static str,
        /// Its value.
        value: String,
        /// The allowed values.
        allowed: String,
    },
    /// The name cannot be a file name.
    BadName(String),
    /// The value is not a number of the kind that the call changes.
    NotANumber,
    /// The sum does not fit 64 bits.
    Overflow,
    /// There is not enough memory for a copy of the value.
    OutOfMemory,
    /// The process has not enough memory, or addresses, to map the segment.
    NotMapped {
        /// The segment.
        path: PathBuf,
        /// Its bytes.
        needed: u64,
    },
    /// Damage was found in the stripe twice in one call. The stripe was reset.
    Damaged,
    /// The segment was replaced or removed while the call was running, and every attempt to open its
    /// successor failed.
    Retired,
    /// A file or directory could not be opened, read, made or removed.
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file system has no room for the segment.
    NoSpace {
        /// The segment.
        path: PathBuf,
        /// Its bytes.
        needed: u64,
        /// The bytes that were free.
        free: u64,
    },
    /// The memory limit of the process's control group has no room for the segment. Otherwise the kernel
    /// would kill the process.
    MemoryLimit {
        /// The segment's bytes.
        needed: u64,
        /// The bytes that were free below the limit.
        free: u64,
        /// The limit.
        limit: u64,
    },
    /// The file or directory belongs to another user, or others may change it.
    NotOurs {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The file is not a segment, so it is neither used nor replaced.
    NotASegment {
        /// Which.
        path: PathBuf,
        /// The reason.
        what: &'static str,
    },
    /// Another program has truncated the segment's file while it was open. Nobody replaces the file.
    Truncated {
        /// Which.
        path: PathBuf,
        /// Its bytes now.
        size: u64,
        /// The segment's bytes.
        expected: u64,
    },
    /// The segment was made by a version with another layout, or on another architecture or C library.
    OtherLayout {
        /// Which.
        path: PathBuf,
        /// Its layout.
        found: u64,
        /// Ours.
        ours: u64,
    },
    /// The segment belongs to processes of another pid or time namespace, whose locks do not exclude ours.
    OtherNamespace(PathBuf),
    /// The file system cannot hold a segment.
    Filesystem {
        /// The directory.
        path: PathBuf,
        /// Why not.
        what: &'static str,
    },
    /// The system lacks something that the cache needs.
    Unsupported(&'static str),
}

/// The result of the calls of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The error for a file.
    #[must_use]
    pub(crate) fn file(path: &Path, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        if source.kind() == io::ErrorKind::OutOfMemory {
            return Self::OutOfMemory;
        }
        Self::File { path: path.to_owned(), source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => write!(f, "another thread or process is writing to this part of the cache"),
            Self::Timeout { waited, holder } => {
                write!(
                    f,
                    "the lock of this part of the cache was not free within {} s",
                    waited.as_secs_f64()
                )?;
                match holder {
                    Some(pid) => write!(f, "; process {pid} holds it"),
                    None => Ok(()),
                }
            }
            Self::Interrupted => write!(f, "the call was interrupted while it waited; nothing was changed"),
            Self::DirectoryBusy(path) => {
                write!(f, "{}: another process is creating or removing a cache there", path.display())
            }
            Self::TooLarge { size, limit } => {
                write!(f, "an entry of {size} bytes is larger than the largest possible one, {limit} bytes")
            }
            Self::OutOfRange { argument, value, allowed } => {
                write!(f, "{argument} is {value}, but must be {allowed}")
            }
            Self::BadName(name) => write!(
                f,
                "{name:?} cannot name a cache: a name has 1 to 100 letters, digits, '_', '-' or '.', does not begin with '.', and is \
                 no device such as NUL on Windows"
            ),
            Self::NotANumber => write!(f, "the value is not an integer"),
            Self::Overflow => write!(f, "the sum does not fit 64 bits"),
            Self::OutOfMemory => write!(f, "there is not enough memory for a copy of the value"),
            Self::NotMapped { path, needed } => write!(
                f,
                "{}: the process cannot map the {needed} bytes of the cache; a smaller max_bytes, or a higher limit \
                 of its address space (ulimit -v)",
                path.display()
            ),
            Self::Damaged => write!(f, "this part of the cache was damaged, and was emptied"),
            Self::Retired => write!(f, "the cache was replaced again and again while it was opened"),
            Self::File { path, source } => write!(f, "{}: {source}", path.display()),
            Self::NoSpace { path, needed, free } => write!(
                f,
                "{}: the cache needs {needed} bytes, and the file system has {free} free; a smaller max_bytes, or more \
                 room (in a container: --shm-size)",
                path.display()
            ),
            Self::MemoryLimit { needed, free, limit } => write!(
                f,
                "the cache needs {needed} bytes, and the memory limit of {limit} bytes leaves {free}; a smaller \
                 max_bytes, or a higher limit"
            ),
            Self::NotOurs { path, what } => write!(f, "{}: {what}", path.display()),
            Self::NotASegment { path, what } => {
                write!(f, "{}: not a cache ({what}); it was left as it is", path.display())
            }
            Self::Truncated { path, size, expected } => write!(
                f,
                "{}: another program has truncated the file of the open cache: it has {size} bytes, and the cache \
                 {expected}; remove it, and the next call begins an empty cache",
                path.display()
            ),
            Self::OtherLayout { path, found, ours } => write!(
                f,
                "{}: the cache has the layout {found:#x}, and this version reads {ours:#x}; another path, or remove it",
                path.display()
            ),
            Self::OtherNamespace(path) => write!(
                f,
                "{}: the cache belongs to processes of another pid or time namespace; let the containers share one \
                 (--pid, or shareProcessNamespace: true), or use another path",
                path.display()
            ),
            Self::Filesystem { path, what } => write!(f, "{}: {what}", path.display()),
            Self::Unsupported(what) => write!(f, "{what}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            _ => None,
        }
    }
}
