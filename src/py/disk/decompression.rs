//! Decompression of values that other libraries have compressed, and of values of caches on servers.

use std::borrow::Cow;

use flexcache_disk::{Compression, compression, mode};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::errors;
use crate::py::object::bytes::bytes_object;

/// Decompress a block of LZ4. Its length comes first, in four bytes.
#[pyfunction]
pub(crate) fn disk_decompress_lz4<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let content = py.detach(|| compression::decompress(data, mode::LZ4));
    bytes_object(py, &content.map_err(|error| errors::raised(py, error))?)
}

fn named(name: &str) -> PyResult<Compression> {
    Compression::named(name).ok_or_else(|| PyValueError::new_err(format!("there is no compression {name:?}")))
}

/// The data compressed, with a checksum, or None where that does not make it smaller.
#[pyfunction]
pub(crate) fn _compress<'py>(
    py: Python<'py>,
    data: &[u8],
    name: &str,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let compression = named(name)?;
    match py.detach(|| compression.compress(data, 0).0) {
        Cow::Borrowed(_) => Ok(None),
        Cow::Owned(compressed) => bytes_object(py, &compressed).map(Some),
    }
}

/// What was compressed. Raises where it is damaged.
#[pyfunction]
pub(crate) fn _decompress<'py>(py: Python<'py>, data: &[u8], name: &str) -> PyResult<Bound<'py, PyBytes>> {
    let mode = match named(name)? {
        Compression::Zstd => mode::ZSTD,
        Compression::Lz4 => mode::LZ4_SUMMED,
    };
    let content = py.detach(|| compression::decompress(data, mode));
    bytes_object(py, &content.map_err(|error| errors::raised(py, error))?)
}
