//! What other libraries have compressed.

use flexcache_disk::{compression, mode};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::datum::bytes_object;
use super::errors;

/// The content of a block of LZ4, whose length is in front of it, as four bytes.
#[pyfunction]
pub(crate) fn disk_decompress_lz4<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let content = py.detach(|| compression::decompress(data, mode::LZ4));
    bytes_object(py, &content.map_err(|error| errors::raised(py, error))?)
}
