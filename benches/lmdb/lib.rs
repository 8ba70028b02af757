//! LMDB through heed, called from Python as directly as `SharedCache`: what a cache of processes would cost on it. Nothing is
//! evicted and nothing expires.

use std::path::PathBuf;

use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyString;

fn raised(error: heed::Error) -> PyErr {
    PyOSError::new_err(error.to_string())
}

/// An environment with one database.
#[pyclass(frozen)]
struct Lmdb {
    environment: Env,
    database: Database<Bytes, Bytes>,
}

#[pymethods]
impl Lmdb {
    /// As LMDB's documentation advises for a cache: no wait for the disk, and a map that is written to.
    #[new]
    fn new(directory: PathBuf, map_size: usize) -> PyResult<Self> {
        let mut options = EnvOpenOptions::new();
        options.map_size(map_size).max_readers(126);
        // SAFETY: nobody opens the directory in another way or changes its files. After a crash of the machine, of which there is
        // none, the file might be damaged.
        let environment = unsafe {
            options.flags(EnvFlags::WRITE_MAP | EnvFlags::MAP_ASYNC | EnvFlags::NO_SYNC | EnvFlags::NO_META_SYNC);
            options.open(directory).map_err(raised)?
        };
        let mut transaction = environment.write_txn().map_err(raised)?;
        let database = environment.create_database(&mut transaction, None).map_err(raised)?;
        transaction.commit().map_err(raised)?;
        Ok(Self { environment, database })
    }

    /// The value of a key, or None.
    #[pyo3(signature = (key, /))]
    fn get<'py>(&self, py: Python<'py>, key: &str) -> PyResult<Option<Bound<'py, PyString>>> {
        let transaction = self.environment.read_txn().map_err(raised)?;
        let found = self.database.get(&transaction, key.as_bytes()).map_err(raised)?;
        Ok(found.map(|value| PyString::from_bytes(py, value)).transpose()?)
    }

    /// Stores a value.
    #[pyo3(signature = (key, value, /))]
    fn set(&self, key: &str, value: &str) -> PyResult<()> {
        let mut transaction = self.environment.write_txn().map_err(raised)?;
        self.database.put(&mut transaction, key.as_bytes(), value.as_bytes()).map_err(raised)?;
        transaction.commit().map_err(raised)
    }

    /// Removes a key. Whether it was there.
    #[pyo3(signature = (key, /))]
    fn delete(&self, key: &str) -> PyResult<bool> {
        let mut transaction = self.environment.write_txn().map_err(raised)?;
        let was_there = self.database.delete(&mut transaction, key.as_bytes()).map_err(raised)?;
        transaction.commit().map_err(raised)?;
        Ok(was_there)
    }
}

/// LMDB for the benchmark.
#[pymodule]
mod flexcache_bench_lmdb {
    #[pymodule_export]
    use super::Lmdb;
}
