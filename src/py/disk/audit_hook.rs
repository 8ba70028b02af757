//! Keeps `sqlite3` away from a database that is open here: see `flexcache_disk::is_open_here`.
//!
//! python-diskcache and whoever else uses the module `sqlite3` announce each database to audit hooks
//! before they open it, and a hook may refuse.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use percent_encoding::percent_decode_str;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// The file that `sqlite3.connect` would open; none for a database in memory.
fn named(database: &Bound<'_, PyAny>) -> Option<PathBuf> {
    let path: PathBuf = match database.extract() {
        Ok(path) => path,
        Err(_) => PathBuf::from(String::from_utf8(database.extract().ok()?).ok()?),
    };
    let Some(uri) = path.to_str().and_then(|path| path.strip_prefix("file:")) else { return Some(path) };
    let path = uri.split(['?', '#']).next()?;
    // "file:///path", "file://localhost/path" or "file:path".
    let path = path.strip_prefix("//").map_or(path, |rest| rest.strip_prefix("localhost").unwrap_or(rest));
    percent_decode_str(path).decode_utf8().ok().map(|path| PathBuf::from(path.as_ref()))
}

fn refuse(arguments: &Bound<'_, PyAny>) -> PyResult<()> {
    let database = arguments.cast::<PyTuple>()?.get_item(0)?;
    match named(&database) {
        Some(path) if flexcache_disk::is_open_here(&path) => Err(PyRuntimeError::new_err(format!(
            "{} is open in this process by flexcache_rs.disk, and sqlite3 (or python-diskcache) would not see its \
             locks: close() the cache first, or use sqlite3 in another process",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// Called by the interpreter for every event.
unsafe extern "C" fn hook(event: *const c_char, arguments: *mut ffi::PyObject, _: *mut c_void) -> c_int {
    // SAFETY: the interpreter passes a C string.
    if unsafe { CStr::from_ptr(event) } != c"sqlite3.connect" {
        return 0;
    }
    // A panic here would end the process; nothing below does.
    let refused = Python::attach(|py| {
        // SAFETY: the interpreter passes a tuple that lives through the call.
        let arguments = unsafe { Bound::from_borrowed_ptr_or_opt(py, arguments) }?;
        let error = refuse(&arguments).err()?;
        error.restore(py);
        Some(())
    });
    if refused.is_some() { -1 } else { 0 }
}

type Hook = unsafe extern "C" fn(*const c_char, *mut ffi::PyObject, *mut c_void) -> c_int;

unsafe extern "C" {
    fn PySys_AddAuditHook(hook: Hook, data: *mut c_void) -> c_int;
}

/// Starts watching. Once for a process, with the first database that is opened: a hook cannot be
/// taken back, and every event costs a call of it.
pub(super) fn watch(py: Python<'_>) {
    static WATCHES: AtomicBool = AtomicBool::new(false);
    if WATCHES.load(Ordering::Relaxed) || WATCHES.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: the interpreter runs, and `hook` lives as long as the process.
    let added = unsafe { PySys_AddAuditHook(hook, std::ptr::null_mut()) };
    if added != 0 {
        // Another hook wants no more of them. Then the other library is not kept away.
        drop(PyErr::take(py));
    }
}
