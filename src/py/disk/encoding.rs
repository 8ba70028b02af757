//! Keys and values on their way to the store and back, through the cache's disk.

use flexcache_disk::{Entry, OwnedKey, Record, files};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::cache::DiskCache;
use super::codec::{EncodedValue, native, put_key};
use super::datum::{Datum, to_object};
use super::errors;
use super::value_files::remove;

impl DiskCache {
    #[inline]
    pub(super) fn encode_key<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<(Datum<'py>, bool)> {
        let disk = self.disk(key.py())?;
        put_key(disk, native(disk), key)
    }

    pub(super) fn decode_key<'py>(&self, py: Python<'py>, key: &OwnedKey) -> PyResult<Bound<'py, PyAny>> {
        let disk = self.disk(py)?;
        match native(disk) {
            Some(disk) => disk.get_key(py, key),
            None => disk.call_method1("get", (to_object(py, &key.datum)?, key.raw)),
        }
    }

    /// Prepares a value; its file is there afterwards.
    pub(super) fn prepare<'py>(
        &self,
        value: &Bound<'py, PyAny>,
        read: bool,
        key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<EncodedValue<'py>> {
        let disk = self.disk(value.py())?;
        if let Some(disk) = native(disk) {
            return disk.store_value(value, read);
        }
        let named = PyDict::new(value.py());
        if let Some(key) = key {
            named.set_item("key", key)?;
        }
        let stored = disk.call_method("store", (value, read), Some(&named))?;
        let (size, mode, filename, value): (i64, i64, Option<String>, Bound<'py, PyAny>) =
            stored.extract()?;
        let value = Datum::any("what Disk.store() returned for the value", &value)?;
        Ok(EncodedValue { size, mode, filename, value })
    }

    /// Runs a call that stores a value; where it fails, the value's file goes.
    pub(super) fn storing<R>(
        &self,
        py: Python<'_>,
        stored: &EncodedValue<'_>,
        call: impl FnOnce(Record<'_>) -> PyResult<R>,
    ) -> PyResult<R> {
        let filename = stored.filename.as_deref();
        let called = stored
            .value
            .borrow()
            .and_then(|value| call(Record { size: stored.size, mode: stored.mode, filename, value }));
        if let (Err(_), Some(name), Some(open)) = (&called, filename, self.open.get()) {
            py.detach(|| remove(&open.remover, &open.directory, name));
        }
        called
    }

    /// The value of an entry; `None` where its file is gone.
    pub(super) fn fetch<'py>(
        &self,
        py: Python<'py>,
        entry: &Entry,
        read: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let disk = self.disk(py)?;
        if let Some(disk) = native(disk) {
            return disk.fetch_value(py, entry, read);
        }
        // A disk of the user's opens any name.
        if let Some(name) = &entry.filename {
            let directory = &self.opened()?.directory;
            let size = py.detach(|| files::size(directory, name));
            if size.map_err(|error| errors::raised(py, error))?.is_none() {
                return Ok(None);
            }
        }
        let value = to_object(py, &entry.value)?;
        match disk.call_method1("fetch", (entry.mode, &entry.filename, value, read)) {
            Err(error) if error.is_instance_of::<PyOSError>(py) => Ok(None),
            fetched => fetched.map(Some),
        }
    }

    /// The file of an entry that was taken out is needed no longer.
    pub(super) fn discard(&self, py: Python<'_>, entry: &Entry) -> PyResult<()> {
        if entry.filename.is_none() {
            return Ok(());
        }
        let store = self.store(py)?;
        py.detach(|| store.get().map(|store| store.discard(entry)));
        Ok(())
    }
}
