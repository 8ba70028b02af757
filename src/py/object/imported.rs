//! Modules that a program may have imported, and that nothing here imports for it.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyModule, PyString};

/// A module, if the program has imported it. It waits for an import that another thread has begun.
pub(crate) fn imported<'py>(
    py: Python<'py>,
    name: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyModule>>> {
    let modules = py.import(intern!(py, "sys"))?.getattr(intern!(py, "modules"))?;
    if modules.contains(name)? { py.import(name).map(Some) } else { Ok(None) }
}
