//! Files of values that are too large for the table.
//!
//! A file is complete before its row is written, and removed after its row is gone. So a reader that finds a
//! row without its file has a miss: the entry was removed after the row was read.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
#[cfg(unix)]
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

pub use crate::background::finish_removals;
pub use crate::directory::is_inside;
use crate::directory::{
    create_file, file_size, is_directory, is_missing, open_file, remove_file, remove_file_soon, rename_file,
};
use crate::error::{Error, Result};
use crate::faults;

/// How often to try to create a file: another process may remove an empty directory between its making and
/// its use.
const MOST_ATTEMPTS: u32 = 10;

const SUFFIX: &str = ".val";

/// The suffix of a file that is being written.
const PARTIAL: &str = ".part";

/// The bytes of a file that are read at a time to check it.
const PIECE: usize = 1 << 14;

/// The character between a name and its checksum.
const MARK: char = '-';

/// The levels of directories above a file that are removed with it.
const LEVELS: usize = 2;

/// The number of files that a process puts into one directory before it chooses the next.
const FILES_TOGETHER: u8 = 255;

/// Names for new files, relative to a cache's directory.
///
/// There are two levels of directories, so that none grows large. Files that are made one after another are
/// put into the same directory, as making a directory costs more than making a file. Each process chooses
/// directories at random, so that they seldom share one.
#[derive(Debug, Default)]
pub struct Names {
    /// The directory's two bytes, and the number of files that may still be put into it, which is 0 at first.
    place: AtomicU32,
}

impl Names {
    /// A name that no other file has.
    ///
    /// # Errors
    ///
    /// The system has no random bytes to give.
    pub fn next(&self) -> Result<String> {
        let mut random = [0_u8; 16];
        getrandom::fill(&mut random).map_err(|error| Error::file(Path::new("random bytes"), error.into()))?;
        let [upper, lower, ..] = random;
        let elsewhere = [upper, lower, FILES_TOGETHER];
        // If two threads read the same value, a few more files are put into the directory.
        let [upper, lower, _, left] = self.place.load(Ordering::Relaxed).to_be_bytes();
        let [upper, lower, left] = if left == 0 { elsewhere } else { [upper, lower, left] };
        self.place.store(u32::from_be_bytes([upper, lower, 0, left - 1]), Ordering::Relaxed);
        (random[0], random[1]) = (upper, lower);
        Ok(named(random))
    }
}

fn named(bytes: [u8; 16]) -> String {
    let mut name = String::with_capacity(2 * bytes.len() + 2 + SUFFIX.len());
    for (place, byte) in bytes.iter().enumerate() {
        if place == 1 || place == 2 {
            name.push(std::path::MAIN_SEPARATOR);
        }
        for digit in [byte >> 4, byte & 15] {
            name.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    name.push_str(SUFFIX);
    name
}

/// Creates a file, and its directories. `name` is relative to `directory`.
///
/// # Errors
///
/// The file exists, cannot be made, or would not be inside the directory.
pub fn create(directory: &Path, name: &str) -> Result<File> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match create_file(directory, name) {
            Ok(file) => return Ok(file),
            Err(error) if error.kind() == ErrorKind::NotFound && attempt < MOST_ATTEMPTS => {
                // The cache's directory itself may be gone.
                let _ = fs::create_dir_all(directory);
            }
            Err(error) => return Err(Error::file(&directory.join(name), error)),
        }
    }
}

/// Writes a new file. If that fails, there is no file afterwards.
///
/// # Errors
///
/// As for [`create`], and if the bytes cannot be written.
pub fn write(directory: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    match write_once(directory, name, bytes) {
        // The space of removed files is freed now.
        Err(Error::File { source, .. })
            if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
                && finish_removals() =>
        {
            write_once(directory, name, bytes)
        }
        done => done,
    }
}

fn write_once(directory: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let written = faults::write_all(&mut create(directory, name)?, bytes);
    written.map_err(|error| {
        remove(directory, name);
        Error::file(&directory.join(name), error)
    })
}

/// Writes a new file atomically: others see it whole or not at all, even on other machines. If `name` ends
/// like the names of [`Names`], a checksum is added to it. Returns the name and the size in bytes.
///
/// # Errors
///
/// As for [`write()`].
pub fn write_whole(
    directory: &Path,
    name: String,
    fill: impl FnOnce(&mut (dyn Write + Send)) -> io::Result<()>,
) -> Result<(String, u64)> {
    // `fill` can be called only once, so there is no second attempt if the disk is full.
    finish_removals();
    let partial = format!("{name}{PARTIAL}");
    let mut summing =
        Summing { file: create(directory, &partial)?, sum: crc32fast::Hasher::new(), length: 0 };
    let whole = fill(&mut summing).and_then(|()| faults::synchronize(&summing.file)).and_then(|()| {
        let name = match name.strip_suffix(SUFFIX) {
            Some(stem) => format!("{stem}{MARK}{:08x}{SUFFIX}", summing.sum.finalize()),
            None => name,
        };
        rename_file(directory, &partial, &name).map(|()| (name, summing.length))
    });
    whole.map_err(|error| {
        remove(directory, &partial);
        Error::file(&directory.join(&partial), error)
    })
}

/// A file, and the checksum of what is written to it.
struct Summing {
    file: File,
    sum: crc32fast::Hasher,
    length: u64,
}

impl Write for Summing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        faults::write_all(&mut self.file, bytes)?;
        self.sum.update(bytes);
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Whether the content of a file matches the checksum in its name. Without a checksum, it counts as intact.
#[must_use]
pub fn is_intact(name: &str, content: &[u8]) -> bool {
    sum_in(name).is_none_or(|sum| crc32fast::hash(content) == sum)
}

/// The checksum in a name.
fn sum_in(name: &str) -> Option<u32> {
    let (_, sum) = name.strip_suffix(SUFFIX)?.rsplit_once(MARK)?;
    if sum.len() == 8 { u32::from_str_radix(sum, 16).ok() } else { None }
}

/// Whether the content of a file matches the checksum in its name. Reads it piece by piece. A file without a
/// checksum, or a missing file, counts as intact.
///
/// # Errors
///
/// The file cannot be read.
pub(crate) fn is_file_intact(directory: &Path, name: &str) -> Result<bool> {
    let Some(sum) = sum_in(name) else { return Ok(true) };
    let failed = |error| Error::file(&directory.join(name), error);
    let (mut file, _) = match open_file(directory, name) {
        Err(error) if is_missing(&error) => return Ok(true),
        opened => opened.map_err(failed)?,
    };
    let mut hasher = crc32fast::Hasher::new();
    let mut piece = [0; PIECE];
    loop {
        match file.read(&mut piece).map_err(failed)? {
            0 => return Ok(hasher.finalize() == sum),
            length => hasher.update(&piece[..length]),
        }
    }
}

/// Opens a file of at least `size` bytes. Returns it with its size, or `None` if it is not there, is not inside the
/// directory, or was cut short by a crash.
///
/// # Errors
///
/// The file exists and cannot be read.
pub fn open(directory: &Path, name: &str, size: i64) -> Result<Option<(File, u64)>> {
    match open_file(directory, name) {
        Ok((_, length)) if length < u64::try_from(size).unwrap_or(0) => Ok(None),
        Ok(found) => Ok(Some(found)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(Error::file(&directory.join(name), error)),
    }
}

/// Reads a file of at least `size` bytes, or `None` as for [`open`]. The checksum in the name is not checked.
///
/// # Errors
///
/// As for [`open`]; [`Error::OutOfMemory`].
pub fn read(directory: &Path, name: &str, size: i64) -> Result<Option<Vec<u8>>> {
    let Some((mut file, _)) = open(directory, name, size)? else { return Ok(None) };
    let mut content = Vec::new();
    // `read_to_end` reports a failed allocation as an error.
    file.read_to_end(&mut content).map_err(|error| Error::file(&directory.join(name), error))?;
    Ok(Some(content))
}

/// Fills `room` from a file. All of it is initialized afterwards.
///
/// # Errors
///
/// The file ends before, or cannot be read.
#[cfg(unix)]
pub fn read_exactly(file: &File, room: &mut [MaybeUninit<u8>]) -> io::Result<()> {
    use rustix::io::{Errno, read};

    let mut at = 0;
    while at < room.len() {
        match read(file, &mut room[at..]) {
            Ok(([], _)) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok((bytes, _)) => at += bytes.len(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The size of a file in bytes, or `None` if it is not there or not inside the directory.
///
/// # Errors
///
/// The directory cannot be read.
pub fn size(directory: &Path, name: &str) -> Result<Option<u64>> {
    match file_size(directory, name) {
        Ok(size) => Ok(Some(size)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(Error::file(&directory.join(name), error)),
    }
}

/// Whether there is a file of this name inside the directory, or a directory with the ending of a value. Programs have disk
/// objects that keep a value as a directory. The directories in which files of values are have no such ending.
///
/// # Errors
///
/// The directory cannot be read.
pub fn is_there(directory: &Path, name: &str) -> Result<bool> {
    if size(directory, name)?.is_some() {
        return Ok(true);
    }
    if !name.ends_with(SUFFIX) {
        return Ok(false);
    }
    match is_directory(directory, name) {
        Err(error) if !is_missing(&error) => Err(Error::file(&directory.join(name), error)),
        found => Ok(found.unwrap_or(false)),
    }
}

/// The users, other than this one and root, who can write a directory or its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherWriters {
    /// Everybody, by the permissions.
    Everybody,
    /// The user of this number, who owns the directory.
    Owner(u32),
}

/// Who else can write a directory or its database, apart from members of its group.
#[must_use]
pub fn other_writers(directory: &Path) -> Option<OtherWriters> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};

        const ROOT: u32 = 0;
        const WRITE_BY_OTHERS: u32 = 0o002;
        let this = rustix::process::geteuid().as_raw();
        let data = fs::metadata(directory).ok()?;
        let may = |data: &fs::Metadata| data.permissions().mode() & WRITE_BY_OTHERS != 0;
        if may(&data) || fs::metadata(directory.join(crate::directory::DATABASE)).is_ok_and(|data| may(&data))
        {
            return Some(OtherWriters::Everybody);
        }
        // The owner of the database may be any member of the group.
        (![ROOT, this].contains(&data.uid())).then_some(OtherWriters::Owner(data.uid()))
    }
    #[cfg(not(unix))]
    {
        let _ = directory;
        None
    }
}

/// Removes a file inside the directory, and the directories that are empty without it. A file that cannot be
/// removed stays, and `check` finds it.
pub fn remove(directory: &Path, name: &str) {
    let _ = remove_file(directory, name, LEVELS);
}

/// Like [`remove`], but if many files are removed in quick succession, the background thread does it soon.
/// Until then no row refers to the file. [`finish_removals`] completes all such removals.
pub fn remove_soon(directory: &Path, name: &str) {
    let _ = remove_file_soon(directory, name, LEVELS);
}
