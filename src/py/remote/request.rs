//! Encodes commands of Python objects.

use flexcache_remote::Request;
use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

use super::reply;

/// Adds a command to a request. Bytes are sent as they are, text as UTF-8, anything else as its text.
pub(super) fn add(request: &mut Request, parts: &Bound<'_, PyTuple>) -> PyResult<()> {
    if parts.is_empty() {
        return Err(PyValueError::new_err("a command must have a name"));
    }
    request.begin(parts.len());
    for part in parts.iter_borrowed() {
        let added = if let Ok(bytes) = part.cast::<PyBytes>() {
            request.try_part(bytes.as_bytes())
        } else if let Ok(text) = part.cast::<PyString>() {
            request.try_part(text.to_str()?.as_bytes())
        } else {
            request.try_part(part.str()?.to_str()?.as_bytes())
        };
        added.map_err(|_| no_memory())?;
    }
    Ok(())
}

/// The bytes of a command.
#[pyfunction]
#[pyo3(name = "_remote_command", signature = (*parts))]
pub(crate) fn command<'py>(parts: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    let mut request = Request::new();
    add(&mut request, parts)?;
    reply::bytes(parts.py(), request.as_bytes())
}

/// The bytes of several commands.
#[pyfunction]
#[pyo3(name = "_remote_commands")]
pub(crate) fn commands<'py>(commands: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    reply::bytes(commands.py(), request_of(commands)?.as_bytes())
}

/// A request of several commands, each of which is a sequence.
pub(super) fn request_of(commands: &Bound<'_, PyAny>) -> PyResult<Request> {
    let mut request = Request::new();
    for command in commands.try_iter()? {
        let command = command?;
        match command.cast::<PyTuple>() {
            Ok(parts) => add(&mut request, parts)?,
            Err(_) => {
                let parts = command.extract::<Vec<Bound<'_, PyAny>>>()?;
                add(&mut request, &PyTuple::new(commands.py(), parts)?)?;
            }
        }
    }
    Ok(request)
}

pub(super) fn no_memory() -> PyErr {
    PyMemoryError::new_err("there is not enough memory for a command")
}
