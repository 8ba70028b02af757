//! Keeps `sqlite3` away from a database that is open here: see `flexcache_disk::is_open_here`.
//!
//! python-diskcache and all other users of the module `sqlite3` announce each database to audit hooks before
//! they open it, and a hook may refuse.
//!
//! A hook slows down other audited calls (`id`, `sys._getframe`), and cannot be removed. So it is added only
//! when the module is imported: a finder in `sys.meta_path` waits for that.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use percent_encoding::percent_decode_str;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

/// The files that `sqlite3.connect` may be about to open. There may be two, as the event does not tell
/// whether a name that begins with `file:` is a URI. Empty for a database in memory.
fn named(database: &Bound<'_, PyAny>) -> Vec<PathBuf> {
    let Some(path) = path_of(database) else { return Vec::new() };
    let as_uri = from_uri(&path);
    [Some(path), as_uri].into_iter().flatten().collect()
}

fn path_of(database: &Bound<'_, PyAny>) -> Option<PathBuf> {
    match database.extract() {
        Ok(path) => Some(path),
        Err(_) => Some(PathBuf::from(String::from_utf8(database.extract().ok()?).ok()?)),
    }
}

fn from_uri(path: &Path) -> Option<PathBuf> {
    let uri = path.to_str()?.strip_prefix("file:")?;
    let path = uri.split(['?', '#']).next()?;
    // "file:///path", "file://localhost/path" or "file:path".
    let path = path.strip_prefix("//").map_or(path, |rest| rest.strip_prefix("localhost").unwrap_or(rest));
    percent_decode_str(path).decode_utf8().ok().map(|path| PathBuf::from(path.as_ref()))
}

fn refuse(arguments: &Bound<'_, PyAny>) -> PyResult<()> {
    let database = arguments.cast::<PyTuple>()?.get_item(0)?;
    match named(&database).into_iter().find(|path| flexcache_disk::is_open_here(path)) {
        Some(path) => Err(PyRuntimeError::new_err(format!(
            "{} is open in this process by flexcache_rs.disk, and sqlite3 (or python-diskcache) would not see its \
             locks: close() the cache first, or use sqlite3 in another process",
            path.display()
        ))),
        None => Ok(()),
    }
}

/// Called by the interpreter for every event.
unsafe extern "C" fn hook(event: *const c_char, arguments: *mut ffi::PyObject, _: *mut c_void) -> c_int {
    // SAFETY: the interpreter passes a C string.
    if unsafe { CStr::from_ptr(event) } != c"sqlite3.connect" || !IS_WANTED.load(Ordering::Relaxed) {
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

/// Whether `sqlite3` is kept away.
static IS_WANTED: AtomicBool = AtomicBool::new(true);

fn add_hook(py: Python<'_>) {
    static IS_ADDED: AtomicBool = AtomicBool::new(false);
    if IS_ADDED.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: the interpreter runs, and `hook` lives as long as the process.
    let added = unsafe { PySys_AddAuditHook(hook, std::ptr::null_mut()) };
    if added != 0 {
        // Another hook has refused this one. Then the other library is not kept away.
        drop(PyErr::take(py));
    }
}

/// The module in which all of `sqlite3` opens its databases.
const MODULE: &str = "_sqlite3";

/// A finder of modules that finds none. It notices when `sqlite3` is imported.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct SqliteFinder;

#[pymethods]
impl SqliteFinder {
    #[pyo3(signature = (name, _path=None, _target=None))]
    #[expect(clippy::unused_self, reason = "the protocol of finders")]
    fn find_spec(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        _path: Option<&Bound<'_, PyAny>>,
        _target: Option<&Bound<'_, PyAny>>,
    ) {
        // The finder is not removed, because the list of finders is being iterated over.
        if name.cast::<PyString>().is_ok_and(|name| name == MODULE) {
            add_hook(py);
        }
    }
}

fn wait_for_import(py: Python<'_>) -> PyResult<()> {
    let sys = py.import("sys")?;
    let finder = Bound::new(py, SqliteFinder)?;
    sys.getattr("meta_path")?.call_method1("insert", (0, finder))?;
    // It may have been imported before the finder was there.
    if sys.getattr("modules")?.contains(MODULE)? {
        add_hook(py);
    }
    Ok(())
}

/// Whether a database has been opened.
static IS_OPEN: AtomicBool = AtomicBool::new(false);

/// Starts watching: once in a process, when the first database is opened.
pub(super) fn watch(py: Python<'_>) {
    static WATCHES: AtomicBool = AtomicBool::new(false);
    IS_OPEN.store(true, Ordering::Relaxed);
    if WATCHES.load(Ordering::Relaxed)
        || !IS_WANTED.load(Ordering::Relaxed)
        || WATCHES.swap(true, Ordering::Relaxed)
    {
        return;
    }
    if let Err(error) = wait_for_import(py) {
        // The list of finders was replaced, so the hook is added at once in spite of its cost.
        drop(error);
        add_hook(py);
    }
}

/// Set whether `sqlite3` gets a RuntimeError for a database that is open here.
#[pyfunction]
pub(crate) fn guard_sqlite3(py: Python<'_>, wanted: bool) {
    IS_WANTED.store(wanted, Ordering::Relaxed);
    if IS_OPEN.load(Ordering::Relaxed) {
        watch(py);
    }
}
