//! LMDB as the benchmark of shared caches calls it: str keys and str values, through the same kind of binding as ours.

use heed::types::Str;
use heed::{Database, Env, EnvFlags, EnvOpenOptions, WithoutTls};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyString;

fn raised(error: heed::Error) -> PyErr {
    PyOSError::new_err(error.to_string())
}

/// An environment with one database.
#[pyclass(frozen)]
struct Lmdb {
    env: Env<WithoutTls>,
    entries: Database<Str, Str>,
}

#[pymethods]
impl Lmdb {
    /// Opens it as LMDB's documentation advises for a cache: no wait for the disk, and a map that is written to.
    #[new]
    fn new(directory: &str, map_size: usize) -> PyResult<Self> {
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(map_size).max_readers(256);
        // SAFETY: what these give up is durability; nobody but the benchmark writes to the file.
        let env = unsafe {
            options.flags(EnvFlags::WRITE_MAP | EnvFlags::NO_SYNC | EnvFlags::NO_META_SYNC | EnvFlags::MAP_ASYNC);
            options.open(directory).map_err(raised)?
        };
        let mut transaction = env.write_txn().map_err(raised)?;
        let entries = env.create_database(&mut transaction, None).map_err(raised)?;
        transaction.commit().map_err(raised)?;
        Ok(Self { env, entries })
    }

    /// The value of a key, in a transaction of its own.
    fn get<'py>(&self, py: Python<'py>, key: &str) -> PyResult<Option<Bound<'py, PyString>>> {
        let transaction = self.env.read_txn().map_err(raised)?;
        let value = self.entries.get(&transaction, key).map_err(raised)?;
        Ok(value.map(|value| PyString::new(py, value)))
    }

    /// Stores a value, in a transaction of its own, which may have to wait for that of another process.
    fn set(&self, py: Python<'_>, key: &str, value: &str) -> PyResult<()> {
        let put = || {
            let mut transaction = self.env.write_txn()?;
            self.entries.put(&mut transaction, key, value)?;
            transaction.commit()
        };
        py.detach(put).map_err(raised)
    }

    /// Removes a key.
    fn delete(&self, py: Python<'_>, key: &str) -> PyResult<bool> {
        let delete = || {
            let mut transaction = self.env.write_txn()?;
            let was_there = self.entries.delete(&mut transaction, key)?;
            transaction.commit()?;
            Ok(was_there)
        };
        py.detach(delete).map_err(raised)
    }
}

#[pymodule]
fn bench_heed(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Lmdb>()
}
