//! Opening, creating, replacing and removing a segment.
//!
//! A file is complete before it gets its name. Names change only while the directory is locked, and only
//! after a check of the file that has the name. A segment is retired before it is replaced: its flag is set,
//! and then each stripe's lock is taken once, so that no writer still uses it when its successor appears.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::{Duration, Instant};

use rapidhash::v3::RapidSecrets;

use crate::directory::{Directory, DirectoryLock, is_not_free, random};
use crate::error::{Error, Result};
use crate::layout::{Geometry, LAYOUT, MAGIC, MOST_BYTES, header};
use crate::mapping::Mapping;
use crate::segment::{Segment, hash, secrets};
use crate::stall::{self, Point};
use crate::stripe::{Parts, Stripe};
use crate::system::{self, Status};
use crate::writers_lock::WritersLock;

/// How often a call opens a segment that was lost before it gives up.
const ATTEMPTS: u32 = 100;
/// How long a retiring process waits for each stripe's lock. A writer checks the flag again under the lock.
const STRIPE_PATIENCE: Duration = Duration::from_millis(50);
/// A segment is allocated in pieces of this size, so that a signal does not have to wait for all of it.
const CHUNK: u64 = 16 << 20;

/// The location of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) name: OsString,
    /// The cache's name, if it is in the directory of named caches. There any file with that name may be
    /// replaced.
    pub(crate) own_name: Option<String>,
}

impl Place {
    fn is_own(&self) -> bool {
        self.own_name.is_some()
    }

    /// Whether the segment is removed when no process has it open any more.
    pub(crate) fn is_temporary(&self) -> bool {
        is_temporary(&self.name) && self.is_among_names()
    }

    /// Whether it is in the directory of named caches.
    pub(crate) fn is_among_names(&self) -> bool {
        self.directory == system::directory_of_names()
    }
}

/// The prefix of the names of temporary segments' files. A user's names must not begin with it.
const TEMPORARY: &str = "~";

fn is_temporary(file: &OsStr) -> bool {
    file.as_encoded_bytes().starts_with(TEMPORARY.as_bytes())
}

/// A unique name for a temporary segment.
pub(crate) fn temporary_name() -> Result<String> {
    Ok(format!("{TEMPORARY}{:016x}", random()?))
}

/// Removes the temporary caches of this user that no process has open any more, because the last one was
/// killed. Returns their number. Opening any cache by its name does this too.
///
/// # Errors
///
/// [`Error::File`], [`Error::NotOurs`].
pub fn remove_left() -> Result<usize> {
    let directory = Directory::open(&system::directory_of_names())?;
    let mut removed = 0;
    for file in directory.names()?.into_iter().filter(|file| is_temporary(file)) {
        removed += usize::from(directory.unlink_unused(&file)?);
    }
    if system::MAPPED_FILES_STAY {
        directory.sweep_if_free()?;
    }
    Ok(removed)
}

/// Removes the files that left their names while processes mapped them, when it is dropped.
#[cfg(windows)]
pub(crate) struct Leftovers(pub(crate) PathBuf);

#[cfg(windows)]
impl Drop for Leftovers {
    fn drop(&mut self) {
        // If this fails, another cache of the directory does it.
        if self.0.is_dir() {
            let _ = Directory::open(&self.0).and_then(|directory| directory.sweep_if_free());
        }
    }
}

/// Removes a file from the directory of caches with a name, whatever is in it, if no process has it open as a cache. Returns
/// whether it did. Processes of other versions and pid namespaces also lock the files that they have open.
///
/// # Errors
///
/// As [`remove_left`].
pub fn remove_unused(file: &OsStr) -> Result<bool> {
    let directory = Directory::open(&system::directory_of_names())?;
    let _lock = directory.lock(|| true)?;
    directory.unlink_whatever(file)
}

/// The name of a named cache's file.
pub(crate) fn file_name(name: &str, namespace: u64) -> String {
    format!("{name}.{LAYOUT:x}.{namespace:x}")
}

/// The layout and the namespace in the name of a named cache's file.
fn name_parts(file: &str, name: &str) -> Option<(u64, u64)> {
    let (layout, namespace) = file.strip_prefix(name)?.strip_prefix('.')?.split_once('.')?;
    Some((u64::from_str_radix(layout, 16).ok()?, u64::from_str_radix(namespace, 16).ok()?))
}

/// The properties of the segment to open or create.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) geometry: Geometry,
    pub(crate) lock_timeout: Duration,
    /// Whether to replace a segment of another geometry.
    pub(crate) resize: bool,
    /// Whether to create a segment if there is none.
    pub(crate) create: bool,
    /// Asked whether a call that waits may continue.
    pub(crate) goes_on: fn() -> bool,
    /// Whether to act as if the file system had no unnamed files.
    pub(crate) named_files_only: bool,
}

/// What was found under a name.
enum Present {
    Nothing,
    Usable(Segment),
    /// A retired segment, or one whose geometry must change.
    ToReplace(Segment),
    /// A file that is not a usable segment, and may be replaced.
    Remains((u64, u64)),
    /// A file that another process is cleaning up.
    InMotion,
}

/// The values that this process expects in a header.
struct Surroundings {
    boot: u64,
    namespace: u64,
}

/// Opens the segment at a place, and creates it if there is none. Returns whether it created it.
pub(crate) fn open(place: &Place, wanted: &Wanted) -> Result<(Segment, bool)> {
    let surroundings = Surroundings { boot: system::boot(), namespace: system::namespace()? };
    let directory = Directory::open(&place.directory)?;
    let in_memory = directory.check_filesystem(surroundings.boot != 0)?;
    for _ in 0..ATTEMPTS {
        let replaced = match look(&directory, place, wanted, &surroundings)? {
            Present::Usable(segment) => return Ok((segment, false)),
            Present::Nothing if !wanted.create && system::MAPPED_FILES_STAY => {
                // Nothing has the name for a moment while another process replaces the file.
                let _lock = directory.lock(wanted.goes_on)?;
                if let Present::Usable(segment) = look(&directory, place, wanted, &surroundings)? {
                    return Ok((segment, false));
                }
                None
            }
            Present::Nothing => None,
            Present::ToReplace(segment) => Some((segment.identity, Some(segment))),
            Present::Remains(identity) => Some((identity, None)),
            Present::InMotion => {
                if !(wanted.goes_on)() {
                    return Err(Error::Interrupted);
                }
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
        };
        if !wanted.create {
            let path = directory.path_of(&place.name);
            return Err(match replaced {
                Some((_, None)) => {
                    Error::NotASegment { path, what: "it is damaged, or from before the last boot" }
                }
                // A retired file counts as removed.
                _ => Error::file(&path, io::Error::from_raw_os_error(system::NOT_FOUND)),
            });
        }
        let creation = Creation { directory: &directory, place, wanted, surroundings: &surroundings };
        if system::MAPPED_FILES_STAY {
            directory.sweep_if_free()?;
        }
        creation.check_room(in_memory)?;
        if let Some(segment) = creation.create(replaced)? {
            return Ok((segment, true));
        }
    }
    Err(Error::Retired)
}

/// Removes the segment's name, if it still has it, and makes all its users leave. Returns whether it still
/// had the name.
pub(crate) fn unlink(place: &Place, segment: &Segment) -> Result<bool> {
    let directory = Directory::open(&place.directory)?;
    let lock = directory.lock(segment.goes_on)?;
    match directory.status(&place.name)? {
        Some(status) if status.identity == segment.identity => {}
        // A successor of the segment must not be removed.
        _ => return Ok(false),
    }
    retire(segment);
    if segment.is_lost() {
        retire_rest(&directory, place)?;
    }
    lock.unlink(&place.name)?;
    Ok(true)
}

/// Retires what is left of a file whose pages this process has lost: others may not have found out.
fn retire_rest(directory: &Directory, place: &Place) -> Result<()> {
    if let Some((file, status)) = directory.open_file(&place.name)?
        && status.size >= (header::WORDS * 8) as u64
    {
        let mapping = Mapping::new(&file, header::WORDS)
            .map_err(|error| Error::file(&directory.path_of(&place.name), error))?;
        mapping.words()[header::RETIRED].store(1, Release);
    }
    Ok(())
}

fn retire(segment: &Segment) {
    segment.retire();
    for stripe in segment.stripes() {
        // A writer that holds the lock for longer than this checks the flag before its next write.
        if stripe.lock().lock_until(Instant::now() + STRIPE_PATIENCE).is_ok() {
            stripe.lock().unlock();
        }
    }
    stall::at(Point::AfterRetired);
}

/// Examines the file that has the name.
fn look(
    directory: &Directory,
    place: &Place,
    wanted: &Wanted,
    surroundings: &Surroundings,
) -> Result<Present> {
    let path = || directory.path_of(&place.name);
    let Some((file, status)) = directory.open_file(&place.name)? else { return Ok(Present::Nothing) };
    let identity = status.identity;
    match system::lock_shared(&file) {
        Ok(()) => {}
        Err(error) if is_not_free(&error) => return Ok(Present::InMotion),
        Err(error) => return Err(Error::file(&path(), error)),
    }
    // A clean-up may have removed the name since the file was opened.
    if directory.status(&place.name)?.is_none_or(|status| status.identity != identity) {
        return Ok(Present::InMotion);
    }
    let remains = |what| {
        if place.is_own() {
            Ok(Present::Remains(identity))
        } else {
            Err(Error::NotASegment { path: path(), what })
        }
    };
    let size = status.size;
    if size < (header::WORDS * 8) as u64 || size > MOST_BYTES as u64 {
        return remains("its size is none that a cache has");
    }
    let words =
        usize::try_from(size / 8).map_err(|_| Error::Unsupported("the cache needs a 64-bit system"))?;
    let mapping =
        Mapping::new(&file, words).map_err(|error| not_allocated(directory, path(), size, error))?;
    let read = |word: usize| mapping.words()[word].load(Relaxed);
    if read(header::MAGIC) != MAGIC {
        return remains("it does not begin as one");
    }
    if read(header::LAYOUT) != LAYOUT {
        if place.is_own() {
            // By its name the file has our layout, so it is damaged, and others may still use it.
            mapping.words()[header::RETIRED].store(1, Release);
            return Ok(Present::Remains(identity));
        }
        return Err(Error::OtherLayout { path: path(), found: read(header::LAYOUT), ours: LAYOUT });
    }
    let geometry = Geometry::from_header(read).filter(|geometry| (geometry.words() as u64) * 8 == size);
    let is_whole = geometry.is_some() && read(header::CHECK) == check_of(read);
    // From here on, the file is certainly that of a cache, and may be replaced if anything is wrong with it.
    let Some(geometry) = geometry.filter(|_| is_whole && read(header::BOOT) == surroundings.boot) else {
        mapping.words()[header::RETIRED].store(1, Release);
        return Ok(Present::Remains(identity));
    };
    if read(header::NAMESPACE) != surroundings.namespace {
        return Err(Error::OtherNamespace(path()));
    }
    allocate_holes(&file, &status).map_err(|error| not_allocated(directory, path(), size, error))?;
    let segment = Segment::new(mapping, geometry, wanted, file, identity);
    if segment.is_retired() || (wanted.resize && geometry != wanted.geometry) {
        return Ok(Present::ToReplace(segment));
    }
    Ok(Present::Usable(segment))
}

/// The check word of a header: a keyed hash of all words before it.
fn check_of(read: impl Fn(usize) -> u64) -> u64 {
    let mut bytes = [0; header::CHECK * 8];
    for (word, chunk) in bytes.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&read(word).to_le_bytes());
    }
    let secrets: RapidSecrets = secrets([read(header::KEY_0), read(header::KEY_1)]);
    hash(&bytes, &secrets)
}

/// A segment that is being created.
struct Creation<'a> {
    directory: &'a Directory,
    place: &'a Place,
    wanted: &'a Wanted,
    surroundings: &'a Surroundings,
}

impl Creation<'_> {
    fn bytes(&self) -> u64 {
        self.wanted.geometry.words() as u64 * 8
    }

    fn path(&self) -> PathBuf {
        self.directory.path_of(&self.place.name)
    }

    /// Checks, before anything is allocated, that the segment neither exceeds the memory limit nor fills the
    /// file system.
    fn check_room(&self, in_memory: bool) -> Result<()> {
        if in_memory
            && let Some(room) = system::room()
            && room.free < self.bytes()
        {
            return Err(Error::MemoryLimit { needed: self.bytes(), free: room.free, limit: room.limit });
        }
        if self.directory.free() < self.bytes() {
            return Err(no_space(self.directory, self.path(), self.bytes()));
        }
        Ok(())
    }

    /// Creates the segment and replaces the one that was found. `None` if another process was faster.
    fn create(&self, replaced: Option<((u64, u64), Option<Segment>)>) -> Result<Option<Segment>> {
        let unnamed = if self.wanted.named_files_only { None } else { self.directory.unnamed_file()? };
        if let Some(file) = unnamed {
            // Other processes do not wait for this: they create segments of their own, and only the first
            // gets the name.
            let mapping = self.fill(&file, self.wanted.goes_on)?;
            stall::at(Point::BeforeLink);
            let lock = self.directory.lock(self.wanted.goes_on)?;
            lock.sweep()?;
            self.remove_other_layouts()?;
            if !self.clear_the_way(&lock, replaced.as_ref())? {
                return Ok(None);
            }
            if replaced.is_some() {
                lock.replace(&file, &self.place.name)?;
            } else if !lock.link(&file, &self.place.name)? {
                return Ok(None);
            }
            return self.segment(file, mapping).map(Some);
        }
        let lock = self.directory.lock(self.wanted.goes_on)?;
        lock.sweep()?;
        self.remove_other_layouts()?;
        if !self.is_unchanged(replaced.as_ref())? {
            return Ok(None);
        }
        let (file, temporary) = lock.temporary_file()?;
        // `goes_on` is not asked while the directory is locked.
        let made = self.fill(&file, || true).and_then(|mapping| {
            stall::at(Point::BeforeLink);
            self.clear_the_way(&lock, replaced.as_ref())?;
            lock.rename(&temporary, &self.place.name)?;
            Ok(mapping)
        });
        match made {
            Ok(mapping) => self.segment(file, mapping).map(Some),
            Err(error) => {
                lock.unlink(&temporary)?;
                Err(error)
            }
        }
    }

    /// Removes segments of the same name that other versions of this crate have left, if no process has them
    /// open.
    fn remove_other_layouts(&self) -> Result<()> {
        let Some(name) = self.place.own_name.as_deref() else { return Ok(()) };
        for file in self.directory.names()? {
            let parts = file.to_str().and_then(|file| name_parts(file, name));
            let Some((layout, namespace)) = parts else { continue };
            if layout == LAYOUT || namespace != self.surroundings.namespace {
                continue;
            }
            self.directory.unlink_unused(&file)?;
        }
        Ok(())
    }

    /// Whether the name still has the file that was examined.
    fn is_unchanged(&self, replaced: Option<&((u64, u64), Option<Segment>)>) -> Result<bool> {
        let present = self.directory.status(&self.place.name)?.map(|status| status.identity);
        Ok(present == replaced.map(|&(identity, _)| identity))
    }

    /// Retires the segment that has the name, if it is still the same. The directory is locked.
    fn clear_the_way(
        &self,
        _lock: &DirectoryLock<'_>,
        replaced: Option<&((u64, u64), Option<Segment>)>,
    ) -> Result<bool> {
        if !self.is_unchanged(replaced)? {
            return Ok(false);
        }
        if let Some((_, Some(segment))) = replaced {
            retire(segment);
        }
        Ok(true)
    }

    fn segment(&self, file: File, mapping: Mapping) -> Result<Segment> {
        let status = system::status_of(&file).map_err(|error| Error::file(&self.path(), error))?;
        Ok(Segment::new(mapping, self.wanted.geometry, self.wanted, file, status.identity))
    }

    /// Allocates the whole file and makes it a segment. Stops if `goes_on` returns false.
    fn fill(&self, file: &File, goes_on: fn() -> bool) -> Result<Mapping> {
        let bytes = self.bytes();
        let failed = |error| not_allocated(self.directory, self.path(), bytes, error);
        let mut at = 0;
        while at < bytes {
            if !goes_on() {
                return Err(Error::Interrupted);
            }
            let piece = CHUNK.min(bytes - at);
            match system::allocate(file, at, piece) {
                Ok(true) => at += piece,
                Ok(false) => at += write_zeros(file, at, piece).map_err(failed)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let geometry = &self.wanted.geometry;
        let mapping = Mapping::new(file, geometry.words()).map_err(failed)?;
        let words = mapping.words();
        let parts = Parts::of(geometry);
        for number in 0..geometry.stripes {
            Stripe::new(words, &parts, number)
                .init()
                .map_err(|code| Error::file(&self.path(), std::io::Error::from_raw_os_error(code)))?;
        }
        let values = [
            (header::MAGIC, MAGIC),
            (header::LAYOUT, LAYOUT),
            (header::STRIPES, geometry.stripes as u64),
            (header::BUCKETS, geometry.buckets as u64),
            (header::LOG_0, geometry.logs[0] as u64),
            (header::LOG_1, geometry.logs[1] as u64),
            (header::VERSIONS, geometry.versions as u64),
            (header::LARGEST, geometry.largest as u64),
            (header::KEY_0, random()?),
            (header::KEY_1, random()?),
            (header::BOOT, self.surroundings.boot),
            (header::NAMESPACE, self.surroundings.namespace),
        ];
        for (word, value) in values {
            words[word].store(value, Relaxed);
        }
        words[header::CHECK].store(check_of(|word| words[word].load(Relaxed)), Release);
        // The lock is taken before the file has a name. It only shows a clean-up that the file is in use.
        let _ = system::lock_shared(file);
        Ok(mapping)
    }
}

/// The error which says how much room a file needs and how much its file system has.
fn no_space(directory: &Directory, path: PathBuf, needed: u64) -> Error {
    Error::NoSpace { path, needed, free: directory.free() }
}

/// The error for a file of `needed` bytes that could not be allocated or mapped.
fn not_allocated(directory: &Directory, path: PathBuf, needed: u64, error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => no_space(directory, path, needed),
        ErrorKind::OutOfMemory => Error::NotMapped { path, needed },
        _ => Error::file(&path, error),
    }
}

/// Allocates the holes of a file. A copy of a segment may have holes, as programs that copy may leave them
/// for zeros; and if the file system is full, a store to a hole kills the process.
fn allocate_holes(file: &File, status: &Status) -> io::Result<()> {
    if status.allocated >= status.size {
        return Ok(());
    }
    loop {
        match system::allocate(file, 0, status.size) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // If the file system cannot allocate, for example because it compresses, the holes stay.
            done => return done.map(drop),
        }
    }
}

/// Writes zeros, for a file system that cannot allocate. Returns their number.
fn write_zeros(file: &File, at: u64, bytes: u64) -> io::Result<u64> {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    let piece = usize::try_from(bytes).unwrap_or(ZEROS.len()).min(ZEROS.len());
    loop {
        match system::write_at(file, &ZEROS[..piece], at) {
            Ok(0) => return Err(ErrorKind::StorageFull.into()),
            Ok(written) => return Ok(written as u64),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
