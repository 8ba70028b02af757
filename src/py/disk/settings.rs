//! The settings of a directory.

use flexcache_disk::{PRAGMAS, Policy};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFrozenSet};

/// The pragmas that a setting may name, after `sqlite_`.
pub(crate) fn pragmas(py: Python<'_>) -> PyResult<Bound<'_, PyFrozenSet>> {
    PyFrozenSet::new(py, PRAGMAS)
}

/// The eviction policies of the format, in SQL, by their names. Users add their own.
pub(crate) fn eviction_policies(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let policies = PyDict::new(py);
    for name in Policy::NAMES {
        let Policy { init, get, cull } = Policy::named(name).unwrap_or_default();
        let policy = PyDict::new(py);
        for (part, sql) in [("init", init), ("get", get), ("cull", cull)] {
            policy.set_item(part, sql)?;
        }
        policies.set_item(name, policy)?;
    }
    Ok(policies)
}
