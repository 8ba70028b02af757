//! The arguments `tag` and `tags`.

use pyo3::exceptions::{PyMemoryError, PyTypeError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::PyString;

use super::argument::{iterate, text};
use super::running_python::next;

/// A tag of an entry.
pub(crate) fn tag(value: &Borrowed<'_, '_, PyAny>) -> PyResult<PyBackedStr> {
    text("a tag", "a str", value)
}

/// The tags of an entry: none, or those of an iterable.
pub(crate) fn tags(value: Option<Borrowed<'_, '_, PyAny>>) -> PyResult<Vec<PyBackedStr>> {
    let Some(value) = value.filter(|value| !value.is_none()) else { return Ok(Vec::new()) };
    if value.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err(format!(
            "tags must be an iterable of str, such as ({},), not a str",
            value.repr()?
        )));
    }
    let each = iterate("tags", "an iterable of str", &value)?;
    let mut tags = Vec::new();
    while let Some(value) = next(&each)? {
        tags.try_reserve(1).map_err(|error| PyMemoryError::new_err(error.to_string()))?;
        tags.push(tag(&value.as_borrowed())?);
    }
    Ok(tags)
}
