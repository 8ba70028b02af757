//! What settings of a directory there are.

use flexcache_disk::PRAGMAS;
use pyo3::prelude::*;
use pyo3::types::PyFrozenSet;

/// The pragmas that a setting may name, after `sqlite_`.
pub(crate) fn pragmas(py: Python<'_>) -> PyResult<Bound<'_, PyFrozenSet>> {
    PyFrozenSet::new(py, PRAGMAS)
}
