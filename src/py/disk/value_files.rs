//! Files of values: opening, reading and removing them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use flexcache_disk::{Error, files};
#[cfg(unix)]
use pyo3::exceptions::PyRuntimeError;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
#[cfg(not(unix))]
use pyo3::types::PyBytes;
#[cfg(unix)]
use pyo3::types::{IntoPyDict, PyCFunction, PyDict, PyTuple};

use super::datum::text_object;
use super::errors;
#[cfg(unix)]
use crate::py::object::bytes::filled;
use crate::py::object::running_python;
use crate::py::process::at_exit::AtExit;
#[cfg(unix)]
use crate::py::process::mutex::Mutex;

/// Removes a file of a value, by the disk object's method if it has its own. A name that does not lead to a
/// file inside the directory, or for that method to a directory, is ignored.
pub(super) fn remove(remover: &OnceLock<Py<PyAny>>, directory: &Path, name: &str) {
    match remover.get() {
        None => files::remove_soon(directory, name),
        // A disk object of the user would follow any name.
        Some(disk) if matches!(files::is_there(directory, name), Ok(true)) => Python::attach(|py| {
            let path = directory.join(name);
            if let Err(error) = disk.bind(py).call_method1("remove", (path.as_os_str(),)) {
                running_python::report_unraisable(py, error);
            }
        }),
        Some(_) => {}
    }
}

/// Makes sure that pending removals of files are completed when the program ends.
pub(super) fn finish_at_exit(py: Python<'_>) {
    static FINISHED: AtExit = AtExit::new();
    // If the interpreter is already ending, closing the cache does it.
    let _ = FINISHED.call(py, |py| {
        py.detach(files::finish_removals);
        Ok(())
    });
}

/// Reads a file of a known length.
pub(super) fn read_all<'py>(
    py: Python<'py>,
    mut file: File,
    path: &Path,
    length: u64,
    text: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let failed = |source| errors::raised(py, Error::file(path, source));
    if text {
        let mut content = String::new();
        py.detach(|| file.read_to_string(&mut content)).map_err(failed)?;
        return Ok(text_object(py, content.as_bytes())?.into_any());
    }
    let length =
        usize::try_from(length).map_err(|_| PyValueError::new_err("the file does not fit memory"))?;
    // Reads directly into the bytes object.
    #[cfg(unix)]
    // SAFETY: the call returns `Ok` when every byte has been read.
    let bytes =
        unsafe { filled(py, length, |room| py.detach(|| files::read_exactly(&file, room)).map_err(failed)) };
    #[cfg(not(unix))]
    let bytes = PyBytes::new_with(py, length, |buffer| py.detach(|| file.read_exact(buffer)).map_err(failed));
    Ok(bytes?.into_any())
}

/// Open the file of a value as a file object of the mode "rb". Returns None if its name does not lead to a regular
/// file inside the directory.
#[pyfunction]
pub(crate) fn disk_open_value(py: Python<'_>, directory: PathBuf, name: &str) -> PyResult<Option<Py<PyAny>>> {
    let opened = py.detach(|| files::open(&directory, name, 0));
    match opened.map_err(|error| errors::raised(py, error))? {
        Some((file, _)) => Ok(Some(file_object(py, file, &directory.join(name))?.unbind())),
        None => Ok(None),
    }
}

/// Remove the file of a value, and the directories that are then empty. Does nothing if its name does not lead to
/// a file inside the directory.
#[pyfunction]
pub(crate) fn disk_remove_value(py: Python<'_>, directory: PathBuf, name: &str) {
    py.detach(|| files::remove(&directory, name));
}

/// An open file as a Python file object, with the path as its name.
pub(super) fn file_object<'py>(py: Python<'py>, file: File, path: &Path) -> PyResult<Bound<'py, PyAny>> {
    let open = py.import("builtins")?.getattr("open")?;
    #[cfg(unix)]
    {
        use std::os::fd::IntoRawFd;

        let opener = PyCFunction::new_closure(py, None, None, {
            let descriptor = Mutex::new(Some(file));
            // A descriptor that is not taken is closed with the closure.
            move |_: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
                let file = descriptor.lock().take();
                file.map(IntoRawFd::into_raw_fd)
                    .ok_or_else(|| PyRuntimeError::new_err("the file was opened before"))
            }
        })?;
        let options = [("opener", opener)].into_py_dict(py)?;
        open.call((path, "rb"), Some(&options))
    }
    #[cfg(not(unix))]
    {
        drop(file);
        open.call1((path, "rb"))
    }
}
