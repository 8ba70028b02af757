//! Simulates the contents of SQLite's files after a power loss: for tests, with the feature
//! `fault-injection`.
//!
//! Each write to a file that was not synchronized since may be kept, lost, or kept in part. A file that was
//! made and never synchronized may be missing. A file that was deleted may be back, if the directory was not
//! synchronized. The index of the log is gone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Default)]
struct Written {
    /// The content that certainly survives; `None` if the file may be missing.
    durable: Option<Vec<u8>>,
    pending: Vec<Change>,
    is_deleted: bool,
    /// The content of an earlier file of the same name whose deletion may not be on the disk yet.
    before: Option<Vec<u8>>,
}

/// The files that are recorded.
static FILES: Mutex<Option<BTreeMap<PathBuf, Written>>> = Mutex::new(None);

fn files() -> MutexGuard<'static, Option<BTreeMap<PathBuf, Written>>> {
    // Nothing inside can panic half-way.
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, bytes } => {
            let end = offset + bytes.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[*offset..end].copy_from_slice(bytes);
        }
        Change::Truncate(length) => content.truncate(*length),
    }
}

/// Begins to record, for files that are opened from now on.
pub fn watch() {
    *files() = Some(BTreeMap::new());
}

/// A file is opened.
pub(crate) fn opened(path: &Path) {
    if let Some(files) = files().as_mut() {
        let file = files.entry(path.to_owned()).or_insert_with(|| Written {
            durable: fs::read(path).ok().filter(|content| !content.is_empty()),
            ..Written::default()
        });
        if file.is_deleted {
            // It is a new one.
            *file = Written { before: file.durable.take(), ..Written::default() };
        }
    }
}

fn change(path: &Path, change: Change) {
    if let Some(file) = files().as_mut().and_then(|files| files.get_mut(path)) {
        file.pending.push(change);
    }
}

/// A file is written.
pub(crate) fn wrote(path: &Path, offset: usize, bytes: &[u8]) {
    change(path, Change::Write { offset, bytes: bytes.to_owned() });
}

/// A file is cut.
pub(crate) fn truncated(path: &Path, length: usize) {
    change(path, Change::Truncate(length));
}

/// A file is synchronized. SQLite synchronizes the directory as well where the file is a new one.
pub(crate) fn synchronized(path: &Path) {
    let mut files = files();
    let Some(files) = files.as_mut() else { return };
    let Some(file) = files.get_mut(path) else { return };
    let is_new = file.durable.is_none();
    let mut content = file.durable.take().unwrap_or_default();
    file.pending.drain(..).for_each(|change| apply(&mut content, &change));
    file.durable = Some(content);
    if is_new {
        synchronize_names(files);
    }
}

/// The directory is synchronized: what was deleted stays so.
fn synchronize_names(files: &mut BTreeMap<PathBuf, Written>) {
    files.retain(|_, file| !file.is_deleted);
    for file in files.values_mut() {
        file.before = None;
    }
}

/// A file is deleted; its directory is synchronized as well if `for_certain`.
pub(crate) fn deleted(path: &Path, for_certain: bool) {
    if let Some(files) = files().as_mut() {
        if let Some(file) = files.get_mut(path) {
            file.is_deleted = true;
        }
        if for_certain {
            synchronize_names(files);
        }
    }
}

/// Pseudo-random numbers that depend only on the seed.
struct Chance(u64);

impl Chance {
    fn of(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// Ends recording, and changes the files to what a power loss leaves.
///
/// # Errors
///
/// The files cannot be written.
pub fn lose(seed: u64) -> std::io::Result<()> {
    let mut chance = Chance(seed);
    for (path, file) in files().take().unwrap_or_default() {
        let mut index = path.clone().into_os_string();
        index.push("-shm");
        let _ = fs::remove_file(PathBuf::from(index));
        if let Some(before) = file.before.filter(|_| chance.of(2) == 0) {
            fs::write(&path, before)?;
            continue;
        }
        let is_missing = match file.durable {
            None => chance.of(2) == 0,
            Some(_) => file.is_deleted && chance.of(2) == 0,
        };
        if is_missing {
            let _ = fs::remove_file(&path);
            continue;
        }
        let mut content = file.durable.unwrap_or_default();
        for change in &file.pending {
            match (chance.of(3), change) {
                (0, _) => {}
                (1, Change::Write { offset, bytes }) => {
                    let bytes = bytes[..bytes.len() / 2].to_owned();
                    apply(&mut content, &Change::Write { offset: *offset, bytes });
                }
                _ => apply(&mut content, change),
            }
        }
        fs::write(&path, content)?;
    }
    Ok(())
}
