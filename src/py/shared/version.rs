//! Values that were read, and that are replaced or removed if nothing has written to their keys since.

use flexcache_shared::Version;
use pyo3::prelude::*;

use super::decode::RawValue;
use super::key;
use super::segment::{SharedSegment, run};

/// The version of a value that was read, for `_replace`.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct SharedVersion(Version);

#[pymethods]
impl SharedSegment {
    /// The value of a key and what `_replace` needs to know it again.
    fn _read_version<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Option<(Bound<'py, PyAny>, SharedVersion)>> {
        let opened = self.opened()?;
        let encoded = key::encode(key)?;
        let found =
            run(py, opened, |cache, patience| cache.get_version(encoded.as_key(), patience, RawValue::copy))?;
        found
            .map(|(raw, _, version)| Ok((raw.into_object(py, &opened.serializer)?, SharedVersion(version))))
            .transpose()
    }

    /// Stores a value if the key's is still the one that was read.
    fn _replace(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        version: &SharedVersion,
        value: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let ttl = ttl.map(Bound::as_borrowed);
        self.store(py, key.as_borrowed(), value.as_borrowed(), ttl, None, |cache, key, entry, patience| {
            cache.replace(key, &version.0, entry, patience)
        })
    }

    /// Removes the value of a key if it is still the one that was read.
    fn _delete_version(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        version: &SharedVersion,
    ) -> PyResult<bool> {
        let encoded = key::encode(key)?;
        run(py, self.opened()?, |cache, patience| {
            cache.delete_version(encoded.as_key(), &version.0, patience)
        })
    }
}
