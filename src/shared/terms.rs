//! The types of arguments and results: places, options, entries, stamps, sums.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::layout::Geometry;
use crate::lease::Token;
use crate::lookup::Seen;
use crate::open::{Place, Wanted, file_name, temporary_name};
use crate::record::{Content, MOST_TAGS, Tag, ValueRef, kind};
use crate::system;

/// Where a cache is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A name, in a directory of the user's own in memory. Processes of other pid namespaces and other layouts have
    /// caches of their own under the same name.
    Name(String),
    /// A file of its own beside those of the names, which is removed when the last process that has it open closes it or ends.
    /// Other processes open it by its path.
    Temporary,
    /// A file. Its directory is made if it is missing, must be the user's, and must not be writable by others.
    Path(PathBuf),
}

/// How a cache is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The bytes of the segment, all included. A segment that is already there keeps its size.
    pub max_bytes: usize,
    /// The bytes of an average entry: key, value and 24. Half of it or twice as much costs little.
    pub expected_item: usize,
    /// The bytes of the largest entry. `None`: a quarter of a stripe's main log, at most 1 MiB.
    pub max_item: Option<usize>,
    /// How long a call waits for a stripe's lock.
    pub lock_timeout: Duration,
    /// Replace a segment of another size by a new, empty one.
    pub resize: bool,
    /// Create a segment where there is none. Otherwise opening fails, also later, after the segment was removed.
    pub create: bool,
    /// Asked every 50 ms while a call waits, with no lock held: whether it may go on. If not, it ends with
    /// [`Error::Interrupted`], and nothing has changed.
    pub goes_on: fn() -> bool,
    /// For tests: act as if the file system had no files without a name.
    #[doc(hidden)]
    pub named_files_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 20,
            expected_item: 128,
            max_item: None,
            lock_timeout: Duration::from_secs(1),
            resize: false,
            create: true,
            goes_on: || true,
            named_files_only: false,
        }
    }
}

/// An entry to be stored.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// What the bytes are, for the caller. Below [`kind::FIRST_RESERVED`](crate::kind::FIRST_RESERVED), or
    /// [`kind::INTEGER`](crate::kind::INTEGER) with eight bytes.
    pub kind: u8,
    /// The value.
    pub value: &'a [u8],
    /// The time at which it expires, in terms of [`now`](crate::now). 0: never.
    pub deadline: u64,
    /// What [`SharedCache::tag`](crate::SharedCache::tag) said before the value was made.
    pub tags: &'a [Tag],
}

/// Under which condition an entry is stored.
#[derive(Clone, Copy)]
pub struct Condition<'a> {
    /// Only if the key has no live value.
    pub if_absent: bool,
    /// Only if the key still has this lease, which ends with the write.
    pub lease: Option<&'a Token>,
    /// Not if this returns true. It is called under the stripe's lock, so it must neither wait nor allocate.
    pub unless: &'a (dyn Fn() -> bool + Sync),
}

impl Default for Condition<'_> {
    fn default() -> Self {
        Self { if_absent: false, lease: None, unless: &|| false }
    }
}

/// What [`SharedCache::put_if`](crate::SharedCache::put_if) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// Stored, where there was no live value.
    Inserted,
    /// Stored, in place of a live value.
    Replaced,
    /// Nothing: there is a live value.
    Present,
    /// Nothing: the lease is gone, or `unless` said so.
    Refused,
}

/// Says until when a copy of a key's value, kept elsewhere, is current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub(crate) segment: usize,
    pub(crate) hash: u64,
    pub(crate) version: u64,
}

/// What a write did, and the stamp of what it stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written<T> {
    /// What the call returns.
    pub result: T,
    /// The stamp of the key after the write. `None` if nothing was written.
    pub stamp: Option<Stamp>,
}

/// What was read, with its deadline, and the stamp under which it may be kept.
pub type Stamped<R> = (Option<(R, u64)>, Option<Stamp>);

/// A value that was read, as [`SharedCache::replace`](crate::SharedCache::replace) recognizes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    pub(crate) segment: usize,
    pub(crate) seen: Seen,
}

/// Sums over a cache, by all processes, since it was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Entries, those included that have expired and were not met yet.
    pub entries: u64,
    /// Leases of keys without a value.
    pub leases: u64,
    /// Bytes of live records.
    pub live_bytes: u64,
    /// Bytes of the logs, which records can take.
    pub capacity: u64,
    /// Bytes of the segment.
    pub bytes: u64,
    /// Hits and misses that were reported by [`SharedCache::count`](crate::SharedCache::count).
    pub hits: u64,
    /// See `hits`.
    pub misses: u64,
    /// Entries that were evicted, expired ones included.
    pub evicted: u64,
    /// Entries that moved to the head of the main log because they were used.
    pub moved: u64,
    /// Entries that moved from probation to the main log.
    pub promoted: u64,
    /// Entries that had to go because their buckets were full: `expected_item` is too large.
    pub crowded: u64,
    /// Used entries that had to go because too many were to be moved at once.
    pub forced: u64,
    /// Stripes that were emptied because a process died in them, or because of damage.
    pub resets: u64,
    /// Damage that was found.
    pub damaged: u64,
    /// Stripes.
    pub stripes: u64,
    /// Bytes of the largest possible entry.
    pub largest_item: u64,
}

impl Stats {
    /// What follows from the geometry alone, as of an empty segment.
    pub(crate) fn of(geometry: &Geometry) -> Self {
        Self {
            capacity: (geometry.stripes * (geometry.logs[0] + geometry.logs[1]) * 8) as u64,
            bytes: geometry.words() as u64 * 8,
            stripes: geometry.stripes as u64,
            largest_item: geometry.largest as u64 * 8,
            ..Self::default()
        }
    }
}

/// Refuses more tags than a record can count.
#[inline]
pub(crate) fn check_tags(tags: &[Tag]) -> Result<()> {
    if tags.len() > MOST_TAGS {
        return Err(Error::OutOfRange {
            argument: "tags",
            value: format!("{} tags", tags.len()),
            allowed: format!("at most {MOST_TAGS}"),
        });
    }
    Ok(())
}

impl Entry<'_> {
    /// Refuses what is no entry. Whether it is too large, the segment says.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        check_tags(self.tags)?;
        if self.kind >= kind::FIRST_RESERVED && !(self.kind == kind::INTEGER && self.value.len() == 8) {
            return Err(Error::OutOfRange {
                argument: "kind",
                value: self.kind.to_string(),
                allowed: format!("below {}, or INTEGER with 8 bytes", kind::FIRST_RESERVED),
            });
        }
        Ok(())
    }

    /// What the record has that this entry is stored as.
    #[inline(always)]
    pub(crate) fn content(&self) -> Content<'_> {
        Content {
            kind: self.kind,
            value: ValueRef::Bytes(self.value),
            deadline: self.deadline,
            tags: self.tags,
            lease: None,
        }
    }
}

pub(crate) fn wanted(options: &Options) -> Result<Wanted> {
    Ok(Wanted {
        geometry: Geometry::new(options.max_bytes, options.expected_item, options.max_item)?,
        lock_timeout: options.lock_timeout,
        resize: options.resize,
        create: options.create,
        goes_on: options.goes_on,
        named_files_only: options.named_files_only,
    })
}

/// The directory of all named caches of this user.
#[must_use]
pub fn directory_of_names() -> PathBuf {
    system::directory_of_names()
}

pub(crate) fn place_of(location: &Location) -> Result<Place> {
    match location {
        Location::Name(name) => {
            let is_good = (1..=100).contains(&name.len())
                && !name.starts_with('.')
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
            if !is_good {
                return Err(Error::BadName(name.clone()));
            }
            let file = file_name(name, system::namespace()?);
            Ok(Place { directory: directory_of_names(), name: file.into(), own_name: Some(name.clone()) })
        }
        Location::Temporary => {
            let name = temporary_name()?;
            let file = file_name(&name, system::namespace()?);
            Ok(Place { directory: directory_of_names(), name: file.into(), own_name: Some(name) })
        }
        Location::Path(path) => {
            let name = path.file_name().ok_or_else(|| Error::BadName(path.display().to_string()))?;
            let directory = match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
                _ => PathBuf::from("."),
            };
            // A later change of the working directory must not change the place.
            let directory =
                std::path::absolute(&directory).map_err(|error| Error::file(&directory, error))?;
            Ok(Place { directory, name: OsString::from(name), own_name: None })
        }
    }
}
