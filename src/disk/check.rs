//! Compares table, files and counters, and repairs differences.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::types::Value;

use crate::compression;
use crate::directory::DATABASES;
use crate::effects::TransactionEffects;
use crate::error::{Error, Result};
use crate::faults::{Call, On, reach};
use crate::files;
use crate::read::delete_row;
use crate::row::{Entry, FileName, StoredSize};
use crate::settings::setting;
use crate::sql::retry_while_busy;
use crate::store::DiskStore;

/// An inconsistency.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// SQLite says that the database is damaged.
    Damaged(String),
    /// A row's file is missing, or its name does not lead to a file or directory inside the directory. Repaired
    /// by deleting the row.
    MissingFile(PathBuf),
    /// A row's file has another size than the row says. Repaired in the row.
    WrongSize {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        actual: u64,
        /// The size in the row.
        recorded: i64,
    },
    /// A value whose checksum does not match its bytes. Repaired by deleting the row, since the value is
    /// lost.
    DamagedValue {
        /// The row's id.
        rowid: i64,
        /// The file, if the value has one.
        path: Option<PathBuf>,
    },
    /// A file that no row refers to. Repaired by removing it.
    UnknownFile(PathBuf),
    /// An empty directory. Repaired by removing it.
    EmptyDirectory(PathBuf),
    /// A counter that does not match the rows. Repaired.
    WrongCounter {
        /// `count` or `size`.
        name: &'static str,
        /// The recorded number.
        recorded: i64,
        /// The number according to the rows.
        actual: i64,
    },
}

impl DiskStore {
    /// Looks for every kind of [`Finding`], and repairs what it finds if `fix` is true.
    ///
    /// This holds the lock to write meanwhile. A file that another process has written and not yet entered
    /// into the table looks unknown, so repair only while nobody writes large values.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`]; the database or the directory cannot be read or written.
    pub fn check(&self, fix: bool, patience: Duration) -> Result<Vec<Finding>> {
        // Files whose removal is pending would look unknown.
        files::finish_removals();
        let mut findings = self.read(patience, |connection| damages(connection))?;
        if fix {
            self.require_writable()?;
            retry_while_busy(patience, |patience| {
                self.read(patience, |connection| Ok(connection.execute_batch("VACUUM")?))
            })?;
        }
        if self.is_read_only() && !fix {
            let mut effects = TransactionEffects::default();
            self.read(patience, |connection| {
                let reading = connection.unchecked_transaction()?;
                let known = self.check_rows(&reading, &mut effects, false, &mut findings)?;
                self.check_values(&reading, &mut effects, false, &mut findings)?;
                self.check_files(&known, false, &mut findings)?;
                check_counter(&reading, "count", "SELECT COUNT(key) FROM Cache", false, &mut findings)?;
                check_counter(&reading, "size", SUM_OF_SIZES, false, &mut findings)
            })?;
            return Ok(findings);
        }
        self.write(patience, |connection, effects| {
            effects.several(connection)?;
            let known = self.check_rows(connection, effects, fix, &mut findings)?;
            self.check_values(connection, effects, fix, &mut findings)?;
            self.check_files(&known, fix, &mut findings)?;
            effects.write_counters(connection)?;
            check_counter(connection, "count", "SELECT COUNT(key) FROM Cache", fix, &mut findings)?;
            check_counter(connection, "size", SUM_OF_SIZES, fix, &mut findings)
        })?;
        if fix {
            self.tracker.start_incarnation();
        }
        Ok(findings)
    }

    /// Compares the rows with their files, and returns the files.
    fn check_rows(
        &self,
        connection: &Connection,
        effects: &mut TransactionEffects,
        fix: bool,
        findings: &mut Vec<Finding>,
    ) -> Result<HashSet<PathBuf>> {
        let mut select =
            connection.prepare("SELECT rowid, size, filename FROM Cache WHERE filename IS NOT NULL")?;
        let mut found = select.query([])?;
        let mut rows: Vec<(i64, StoredSize, FileName)> = Vec::new();
        while let Some(row) = found.next()? {
            rows.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
            rows.push((row.get(0)?, row.get(1)?, row.get(2)?));
        }
        let mut known = HashSet::new();
        known.try_reserve(rows.len()).map_err(|_| Error::OutOfMemory)?;
        for (rowid, StoredSize(recorded), FileName(filename)) in rows {
            let filename = filename.unwrap_or_default();
            let path = self.directory().join(&filename);
            match files::size(self.directory(), &filename)? {
                Some(actual) if i64::try_from(actual) != Ok(recorded) => {
                    if fix {
                        let size = i64::try_from(actual).unwrap_or(i64::MAX);
                        connection
                            .prepare_cached("UPDATE Cache SET size = ? WHERE rowid = ?")?
                            .execute((size, rowid))?;
                        effects.written.add_all();
                        effects.resized(recorded, size);
                    }
                    findings.push(Finding::WrongSize { path: path.clone(), actual, recorded });
                }
                Some(_) => {}
                // The value of a program's own disk object, whose contents only that object knows.
                None if files::is_there(self.directory(), &filename)? => {}
                None => {
                    if fix {
                        connection.prepare_cached("DELETE FROM Cache WHERE rowid = ?")?.execute([rowid])?;
                        effects.written.add_all();
                        effects.taken(recorded);
                    }
                    findings.push(Finding::MissingFile(path));
                    continue;
                }
            }
            known.insert(path);
        }
        Ok(known)
    }

    /// Looks for damaged values among those that have checksums.
    fn check_values(
        &self,
        connection: &Connection,
        effects: &mut TransactionEffects,
        fix: bool,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        let mut select = connection.prepare(
            "SELECT rowid, size, mode, filename, value FROM Cache WHERE filename IS NOT NULL OR mode & ?1 != 0",
        )?;
        let mut found = select.query([compression::MARKS])?;
        let mut damaged = Vec::new();
        while let Some(row) = found.next()? {
            let (rowid, entry) = (row.get(0)?, Entry::from_value(row, 1)?);
            if !self.is_value_intact(&entry)? {
                damaged.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
                damaged.push((rowid, entry.size, entry.filename));
            }
        }
        for (rowid, size, filename) in damaged {
            let path = filename.as_ref().map(|name| self.directory().join(name));
            if fix {
                delete_row(connection, rowid)?;
                effects.deleted(size, filename);
            }
            findings.push(Finding::DamagedValue { rowid, path });
        }
        Ok(())
    }

    /// Whether a value matches its checksums. A missing file counts as intact here; `check_rows` finds it.
    fn is_value_intact(&self, entry: &Entry) -> Result<bool> {
        if let Some(name) = &entry.filename
            && !files::is_file_intact(self.directory(), name)?
        {
            return Ok(false);
        }
        if !compression::is_compressed(entry.mode) {
            return Ok(true);
        }
        match (&entry.filename, &entry.value) {
            (Some(name), _) => match files::read(self.directory(), name, entry.size)? {
                Some(content) => compression::is_intact(&content, entry.mode),
                None => Ok(true),
            },
            (None, Value::Blob(stored)) => compression::is_intact(stored, entry.mode),
            _ => Ok(false),
        }
    }

    fn check_files(&self, known: &HashSet<PathBuf>, fix: bool, findings: &mut Vec<Finding>) -> Result<()> {
        let mut empty = Vec::new();
        walk(self.directory(), &mut |path, is_empty_directory| {
            if path.ancestors().any(|each| known.contains(each)) {
                return;
            }
            if is_empty_directory {
                empty.push(path.to_owned());
                return;
            }
            // Databases, their logs and whatever is named after them.
            let inside = path.strip_prefix(self.directory()).unwrap_or(path).to_string_lossy();
            if !DATABASES.iter().any(|database| inside.contains(database)) {
                if fix {
                    // A file that cannot be removed is found again next time.
                    let _ = reach(On::UnknownFile, Call::Unlink).and_then(|()| fs::remove_file(path));
                    if path.parent().is_some_and(is_empty) {
                        empty.extend(path.parent().map(Path::to_owned));
                    }
                }
                findings.push(Finding::UnknownFile(path.to_owned()));
            }
        })?;
        for directory in empty {
            if fix {
                let mut next = Some(directory.as_path());
                while let Some(emptied) = next.filter(|path| *path != self.directory()) {
                    let removed = reach(On::Directory, Call::Unlink).and_then(|()| fs::remove_dir(emptied));
                    if removed.is_err() {
                        break;
                    }
                    next = emptied.parent();
                }
            }
            findings.push(Finding::EmptyDirectory(directory));
        }
        Ok(())
    }
}

/// The sum of the sizes in the column `size`; reads ignore other values, too, see [`StoredSize`]. `SUM` would fail if they
/// exceed 64 bits together. `TOTAL` is exact for all that a disk can have.
const SUM_OF_SIZES: &str = "SELECT CAST(TOTAL(size) AS INTEGER) FROM Cache \
     WHERE typeof(size) = 'integer' AND size BETWEEN 0 AND 9007199254740992";

/// The value that is reported for a counter which is not a number.
const NO_NUMBER: i64 = -1;

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

/// Shows every file, and every directory that has nothing in it. What is below another directory with a database
/// belongs to that one.
fn walk(directory: &Path, show: &mut impl FnMut(&Path, bool)) -> Result<()> {
    let mut unseen = vec![directory.to_owned()];
    while let Some(next) = unseen.pop() {
        if next != directory && DATABASES.iter().any(|database| next.join(database).exists()) {
            continue;
        }
        let entries = fs::read_dir(&next).map_err(|error| Error::file(&next, error))?;
        let mut count = 0;
        for entry in entries.flatten() {
            count += 1;
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => unseen.push(entry.path()),
                _ => show(&entry.path(), false),
            }
        }
        if count == 0 && next != directory {
            show(&next, true);
        }
    }
    Ok(())
}

fn damages(connection: &Connection) -> Result<Vec<Finding>> {
    let mut check = connection.prepare("PRAGMA integrity_check")?;
    let lines: Vec<String> = check.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").map(Finding::Damaged).collect())
}

fn check_counter(
    connection: &Connection,
    name: &'static str,
    count: &str,
    fix: bool,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let recorded = match setting(connection, name)? {
        Some(Value::Integer(recorded)) => recorded,
        _ => NO_NUMBER,
    };
    let actual: i64 = connection.prepare(count)?.query_row([], |row| row.get(0))?;
    if recorded != actual {
        if fix {
            connection.prepare("UPDATE Settings SET value = ? WHERE key = ?")?.execute((actual, name))?;
        }
        findings.push(Finding::WrongCounter { name, recorded, actual });
    }
    Ok(())
}
