//! Files of values that are too large for the table.
//!
//! A file is complete before its row is written, and removed after its row is gone; whoever finds
//! a row without its file came in between, and has missed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// Another process may prune a directory between its making and its use.
const MOST_ATTEMPTS: u32 = 10;

/// A new name, relative to the directory: two levels of directories, so that none grows large.
///
/// # Errors
///
/// The system has no random bytes to give.
pub fn new_name() -> Result<String> {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random).map_err(|error| Error::file(Path::new("random bytes"), error.into()))?;
    let mut name = String::with_capacity(38);
    for (place, byte) in random.iter().enumerate() {
        if place == 1 || place == 2 {
            name.push(std::path::MAIN_SEPARATOR);
        }
        for digit in [byte >> 4, byte & 15] {
            name.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    name.push_str(".val");
    Ok(name)
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
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        match made.and_then(|()| OpenOptions::new().write(true).create_new(true).open(path)) {
            Err(error) if error.kind() == ErrorKind::NotFound && attempt < MOST_ATTEMPTS => {}
            other => return other.map_err(|error| Error::file(path, error)),
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
