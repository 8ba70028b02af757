//! Removing files of values.

use std::path::Path;
use std::sync::OnceLock;

use flexcache_disk::files;
use pyo3::prelude::*;

use crate::py::object::running_python;

/// Removes a file of a value, as the disk wants it.
pub(super) fn remove(remover: &OnceLock<Py<PyAny>>, path: &Path) {
    match remover.get() {
        None => files::remove(path),
        Some(disk) => Python::attach(|py| {
            if let Err(error) = disk.bind(py).call_method1("remove", (path.to_string_lossy(),)) {
                running_python::report_unraisable(py, error);
            }
        }),
    }
}
