//! The arguments and results of calls: locations, options, entries, stamps, statistics.

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
    /// A name, in a directory in memory that belongs to the user. Processes of other pid namespaces, and
    /// other layouts, have separate caches under the same name.
    Name(String),
    /// A new file beside those of the named caches. It is removed when the last process that has it open
    /// closes it or ends. Other processes open it by its path.
    Temporary,
    /// A file. Its directory is made if it is missing, must be the user's, and must not be writable by others.
    Path(PathBuf),
}

/// How a cache is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The bytes of the whole segment. An existing segment keeps its size.
    pub max_bytes: usize,
    /// The bytes of an average entry: key, value, and 24 more. An estimate that is wrong by a factor of two
    /// costs little.
    pub expected_item: usize,
    /// The bytes of the largest entry. `None`: a quarter of a stripe's main log, at most 1 MiB.
    pub max_item: Option<usize>,
    /// How long a call waits for a stripe's lock.
    pub lock_timeout: Duration,
    /// Whether to replace a segment of another size by a new, empty one.
    pub resize: bool,
    /// Whether to create a segment if there is none. If false, opening fails instead, also later, after the
    /// segment was removed.
    pub create: bool,
    /// Called every 50 ms while a call waits, with no lock held. If it returns false, the call fails with
    /// [`Error::Interrupted`], and nothing has changed.
    pub goes_on: fn() -> bool,
    /// For tests: act as if the file system had no unnamed files.
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
    /// The kind of the bytes, which the caller chooses. Below
    /// [`kind::FIRST_RESERVED`](crate::kind::FIRST_RESERVED), or [`kind::INTEGER`](crate::kind::INTEGER) with
    /// eight bytes.
    pub kind: u8,
    /// The value.
    pub value: &'a [u8],
    /// The time at which it expires, in terms of [`now`](crate::now). 0: never.
    pub deadline: u64,
    /// The tags, as [`SharedCache::tag`](crate::SharedCache::tag) returned them before the value was
    /// computed.
    pub tags: &'a [Tag],
}

/// The condition under which an entry is stored.
#[derive(Clone, Copy)]
pub struct Condition<'a> {
    /// Only if the key has no live value.
    pub if_absent: bool,
    /// Only if the key still has this lease, which ends with the write.
    pub lease: Option<&'a Token>,
    /// The entry is not stored if this returns true. It is called under the stripe's lock, so it must neither
    /// wait nor allocate.
    pub unless: &'a (dyn Fn() -> bool + Sync),
}

impl Default for Condition<'_> {
    fn default() -> Self {
        Self { if_absent: false, lease: None, unless: &|| false }
    }
}

/// The outcome of [`SharedCache::put_if`](crate::SharedCache::put_if).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// Stored, where there was no live value.
    Inserted,
    /// Stored, in place of a live value.
    Replaced,
    /// Not stored: there is a live value.
    Present,
    /// Not stored: the lease is gone, or `unless` returned true.
    Refused,
}

/// Tells whether a copy of a key's value in another cache is still current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub(crate) segment: usize,
    pub(crate) hash: u64,
    pub(crate) version: u64,
}

/// The result of a write, and the stamp of the stored value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written<T> {
    /// What the call returns.
    pub result: T,
    /// The stamp of the key after the write. `None` if nothing was written.
    pub stamp: Option<Stamp>,
}

/// The value that was read, with its deadline, and the stamp under which a copy may be kept.
pub type Stamped<R> = (Option<(R, u64)>, Option<Stamp>);

/// A value that was read, as [`SharedCache::replace`](crate::SharedCache::replace) recognizes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    pub(crate) segment: usize,
    pub(crate) seen: Seen,
}

/// Statistics of a cache since it was created, over all processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Entries, including expired ones that were not removed yet.
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
    /// Entries that were evicted, including expired ones.
    pub evicted: u64,
    /// Entries that moved to the head of the main log because they were used.
    pub moved: u64,
    /// Entries that moved from probation to the main log.
    pub promoted: u64,
    /// Entries that were evicted because their buckets were full: `expected_item` is too large.
    pub crowded: u64,
    /// Used entries that were evicted because a call would have had to move too many.
    pub forced: u64,
    /// Stripes that were emptied because a process died in them, or because of damage.
    pub resets: u64,
    /// How often damage was found.
    pub damaged: u64,
    /// Stripes.
    pub stripes: u64,
    /// Bytes of the largest possible entry.
    pub largest_item: u64,
}

impl Stats {
    /// The statistics of an empty segment, which follow from its geometry.
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
    /// Checks the kind and the tags of the entry. The segment checks its size.
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

    /// The contents of the record in which this entry is stored.
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
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
                && !system::is_a_device(name);
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
            // A later change of the working directory must not change the location.
            let directory =
                std::path::absolute(&directory).map_err(|error| Error::file(&directory, error))?;
            Ok(Place { directory, name: OsString::from(name), own_name: None })
        }
    }
}
