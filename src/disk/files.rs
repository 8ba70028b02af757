//! Files of values that are too large for the table.
//!
//! A file is complete before its row is written, and removed after its row is gone; whoever finds
//! a row without its file came in between, and has missed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, Result};

/// Another process may prune a directory between its making and its use.
const MOST_ATTEMPTS: u32 = 10;

const SUFFIX: &str = ".val";

/// Of a file that is being written.
const PARTIAL: &str = ".part";

/// Between a name and its checksum.
const MARK: char = '-';

/// How many files come into one directory before the next is chosen.
const FILES_TOGETHER: u8 = 255;

/// Names for new files, relative to a cache's directory.
///
/// There are two levels of directories, so that none grows large. Files made one after another come
/// into the same one: to make directories costs more than to make a file. Each process chooses at
/// random, and so they seldom meet.
#[derive(Debug, Default)]
pub struct Names {
    /// The directory's two bytes, and how many files may still come into it, which is 0 at first.
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
        // Where two threads read the same, a few more files come together.
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

/// Makes a file that was not there, and its directories.
///
/// # Errors
///
/// It was there, or cannot be made.
pub fn create(path: &Path) -> Result<File> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let error = match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(file) => return Ok(file),
            Err(error) => error,
        };
        if error.kind() != ErrorKind::NotFound || attempt > MOST_ATTEMPTS {
            return Err(Error::file(path, error));
        }
        if let Some(directory) = path.parent()
            && let Err(error) = fs::create_dir_all(directory)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(Error::file(path, error));
        }
    }
}

/// Writes a new file; where that fails, there is none.
///
/// # Errors
///
/// As for [`create`], and where the bytes cannot be written.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = create(path)?.write_all(bytes);
    written.map_err(|error| {
        remove(path);
        Error::file(path, error)
    })
}

/// Writes a new file so that it is seen whole or not at all, also by other machines. Its name, under
/// `directory`, ends with a checksum, where `name` ends like those of [`Names`].
///
/// # Errors
///
/// As for [`write`].
pub fn write_whole(
    directory: &Path,
    name: String,
    fill: impl FnOnce(&mut (dyn Write + Send)) -> io::Result<()>,
) -> Result<(String, u64)> {
    let partial = directory.join(format!("{name}{PARTIAL}"));
    let mut summing = Summing { file: create(&partial)?, sum: crc32fast::Hasher::new(), length: 0 };
    let whole = fill(&mut summing).and_then(|()| summing.file.sync_all()).and_then(|()| {
        let name = match name.strip_suffix(SUFFIX) {
            Some(stem) => format!("{stem}{MARK}{:08x}{SUFFIX}", summing.sum.finalize()),
            None => name,
        };
        fs::rename(&partial, directory.join(&name)).map(|()| (name, summing.length))
    });
    whole.map_err(|error| {
        remove(&partial);
        Error::file(&partial, error)
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
        let written = self.file.write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Whether the content of a file is what its name says; without a checksum in the name it is.
#[must_use]
pub fn is_intact(name: &str, content: &[u8]) -> bool {
    let sum = name.strip_suffix(SUFFIX).and_then(|stem| stem.rsplit_once(MARK)).map(|(_, sum)| sum);
    match sum.map(|sum| (sum.len(), u32::from_str_radix(sum, 16))) {
        Some((8, Ok(sum))) => crc32fast::hash(content) == sum,
        _ => true,
    }
}

/// Opens a file of at least `size` bytes. `None` where it is not there, or was cut short by a
/// crash.
///
/// # Errors
///
/// It is there and cannot be read.
pub fn open(path: &Path, size: i64) -> Result<Option<(File, u64)>> {
    let opened = File::open(path).and_then(|file| file.metadata().map(|data| (file, data.len())));
    match opened {
        Ok((_, length)) if length < u64::try_from(size).unwrap_or(0) => Ok(None),
        Ok(found) => Ok(Some(found)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(Error::file(path, error)),
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Removes a file and the directories that are empty without it. What cannot be removed stays,
/// and `check` finds it.
pub fn remove(path: &Path) {
    if fs::remove_file(path).is_err() {
        return;
    }
    // Two levels, and never the cache's directory itself: it has the database.
    for directory in path.ancestors().skip(1).take(2) {
        if fs::remove_dir(directory).is_err() {
            return;
        }
    }
}
