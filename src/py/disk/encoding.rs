//! Encodes and decodes keys and values with the cache's disk object.

use std::sync::atomic::{AtomicBool, Ordering};

use flexcache_disk::{Entry, Error, Key, Label, OwnedKey, Record, ValueRef, files};
use pyo3::exceptions::{PyException, PyMemoryError, PyOSError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::cache::DiskCache;
use super::codec::{EncodedValue, native, put_key};
use super::datum::{Datum, to_object};
use super::errors;
use super::uninterrupted::Uninterrupted;
use super::value_files::remove;
use crate::py::process::logging;
use crate::py::process::wall_clock::now;

/// The owner of the file of a value, which is written before its row.
#[derive(Debug, Default)]
pub(super) struct ValueFile {
    is_with_store: AtomicBool,
}

impl ValueFile {
    /// Runs a call that stores the row. From then on the store owns the file. If the call fails, it may be
    /// repeated, so the file goes back to the caller; but after a commit in doubt the row may be stored, so
    /// the store keeps the file.
    pub(super) fn lend<R>(&self, call: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
        self.is_with_store.store(true, Ordering::Relaxed);
        let called = call();
        let comes_back = called.as_ref().is_err_and(|error| !error.is_in_doubt());
        self.is_with_store.store(!comes_back, Ordering::Relaxed);
        called
    }
}

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

    /// Prepares a value, and writes its file if it gets one.
    pub(super) fn prepare<'py>(
        &self,
        value: &Bound<'py, PyAny>,
        read: bool,
        key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<EncodedValue<'py>> {
        // Checked before the value's file is written, as that error would name the file.
        self.require_writable(value.py())?;
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

    /// Runs a call that stores a value, and lends the value's file to the store. If the store does not own
    /// the file in the end, the file is removed.
    pub(super) fn storing<R>(
        &self,
        py: Python<'_>,
        stored: &EncodedValue<'_>,
        call: impl FnOnce(Record<'_>, &ValueFile) -> PyResult<R>,
    ) -> PyResult<R> {
        let filename = stored.filename.as_deref();
        self.lending(
            py,
            filename,
            || false,
            |file| {
                let value = stored.value.borrow()?;
                call(Record { size: stored.size, mode: stored.mode, filename, value }, file)
            },
        )
    }

    /// Runs a call that lends the file of a value to the store. If the store does not own the file in the
    /// end, it is removed, unless `stays` returns true.
    fn lending<R>(
        &self,
        py: Python<'_>,
        filename: Option<&str>,
        stays: impl FnOnce() -> bool,
        call: impl FnOnce(&ValueFile) -> PyResult<R>,
    ) -> PyResult<R> {
        let file = ValueFile::default();
        let called = call(&file);
        let is_ours = !file.is_with_store.load(Ordering::Relaxed);
        if let (true, Some(name), Some(open)) = (is_ours, filename, self.open.get())
            && !stays()
        {
            py.detach(|| remove(&open.remover, &open.directory, name));
        }
        called
    }

    /// The value of an entry; `None` if its file is gone, or if it cannot be read and that counts as missing.
    pub(super) fn fetch<'py>(
        &self,
        py: Python<'py>,
        entry: &Entry,
        read: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.fetch_or_raise(py, entry, read) {
            Err(error)
                if self.opened()?.unreadable_is_missing.load(Ordering::Relaxed)
                    && error.is_instance_of::<PyException>(py)
                    && !error.is_instance_of::<PyMemoryError>(py) =>
            {
                logging::error(py, &format_args!("a value that cannot be read counts as missing: {error}"));
                Ok(None)
            }
            fetched => fetched,
        }
    }

    fn fetch_or_raise<'py>(
        &self,
        py: Python<'py>,
        entry: &Entry,
        read: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let disk = self.disk(py)?;
        if let Some(disk) = native(disk) {
            return disk.fetch_value(py, entry, read);
        }
        // A disk object of the user would open any name, so the name is checked here.
        if let Some(name) = &entry.filename {
            let directory = &self.opened()?.directory;
            let is_there = py.detach(|| files::is_there(directory, name));
            if !is_there.map_err(|error| errors::raised(py, error))? {
                return Ok(None);
            }
        }
        let value = to_object(py, &entry.value)?;
        match disk.call_method1("fetch", (entry.mode, &entry.filename, value, read)) {
            Err(error) if error.is_instance_of::<PyOSError>(py) => Ok(None),
            fetched => fetched.map(Some),
        }
    }

    /// Stores a popped entry again whose value could not be read. If another entry was stored meanwhile, that
    /// stays.
    pub(super) fn put_back(&self, py: Python<'_>, key: Key<'_>, entry: &Entry) -> PyResult<()> {
        let _uninterrupted = Uninterrupted::begin();
        let (now, rules) = (now(py)?, self.rules(py)?);
        let tag = ValueRef::from(&entry.tag);
        let label = Label { now, expire_time: entry.expire_time, tag };
        let filename = entry.filename.as_deref();
        let value = ValueRef::from(&entry.value);
        let record = Record { size: entry.size, mode: entry.mode, filename, value };
        // A rollback of the transaction may still restore the entry.
        let stays = || self.is_in_transaction(py).unwrap_or(true);
        self.lending(py, filename, stays, |file| {
            self.write(py, true, |store, patience| {
                file.lend(|| store.put_back(key, record, label, &rules, patience))
            })
        })?;
        Ok(())
    }

    /// Deletes an entry whose value is gone or cannot be read, unless the key has been written again.
    pub(super) fn forget(&self, py: Python<'_>, key: &OwnedKey, entry: &Entry) -> PyResult<()> {
        if entry.filename.is_some() {
            // The name of its file identifies the entry.
            return self.write(py, true, |store, patience| store.forget(entry, patience));
        }
        let key = Key { datum: ValueRef::from(&key.datum), raw: key.raw };
        self.delete_if(py, key, |found| found.mode == entry.mode && found.value == entry.value).map(|_| ())
    }

    /// Deletes a key if `is_right` accepts its entry. Returns whether it did.
    pub(super) fn delete_if(
        &self,
        py: Python<'_>,
        key: Key<'_>,
        is_right: impl Fn(&Entry) -> bool,
    ) -> PyResult<bool> {
        self.in_transaction(py, || {
            let (now, rules) = (now(py)?, self.rules(py)?);
            let found = self.wait(py, true, |store, patience| store.value(key, now, &rules, patience))?;
            let is_there = found.is_some_and(|entry| is_right(&entry));
            if is_there {
                self.write(py, true, |store, patience| store.delete(key, now, patience))?;
            }
            Ok(is_there)
        })
    }

    /// Removes the file of a popped entry, which is no longer needed.
    pub(super) fn discard(&self, py: Python<'_>, entry: &Entry) -> PyResult<()> {
        if entry.filename.is_none() {
            return Ok(());
        }
        let store = self.store(py)?;
        py.detach(|| store.get().map(|store| store.discard(entry)));
        Ok(())
    }
}
