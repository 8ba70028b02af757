//! The findings of a check of the directory.

use flexcache_disk::Finding;
use pyo3::prelude::*;

use super::cache::DiskCache;

#[pymethods]
impl DiskCache {
    /// What `check` found: kind, text, path.
    fn _check(&self, py: Python<'_>, fix: bool, retry: bool) -> PyResult<Vec<(&'static str, String)>> {
        // A second check would not find what the first one has mended.
        let found = self.wait_once(py, retry, |store, patience| store.check(fix, patience))?;
        Ok(found.iter().map(described).collect())
    }
}

/// A finding as its kind and a message.
fn described(finding: &Finding) -> (&'static str, String) {
    match finding {
        Finding::Damaged(what) => ("damaged", what.clone()),
        Finding::MissingFile(path) => ("missing_file", format!("file not found: {}", path.display())),
        Finding::WrongSize { path, actual, recorded } => {
            ("wrong_size", format!("wrong file size: {}, {actual} != {recorded}", path.display()))
        }
        Finding::DamagedValue { rowid, path: None } => {
            ("damaged_value", format!("damaged value: row {rowid} of the table"))
        }
        Finding::DamagedValue { path: Some(path), .. } => {
            ("damaged_value", format!("damaged value: {}", path.display()))
        }
        Finding::UnknownFile(path) => ("unknown_file", format!("unknown file: {}", path.display())),
        Finding::EmptyDirectory(path) => ("empty_directory", format!("empty directory: {}", path.display())),
        Finding::WrongCounter { name, recorded, actual } => {
            ("wrong_counter", format!("Settings.{name} is {recorded}, and should be {actual}"))
        }
        _ => ("other", format!("{finding:?}")),
    }
}
