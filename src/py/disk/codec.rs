//! `Disk`: converts keys and values to what the table and the files store, and back.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use flexcache_disk::{Compression, Entry, Error, OwnedKey, Value, compression, files, mode};
use pyo3::exceptions::{PyFileNotFoundError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString};

use super::datum::{Datum, integer, text_object, to_object};
use super::value_files::{file_object, read_all};
use super::{errors, pickled_key};
use crate::py::object::bytes::bytes_object;
use crate::py::object::running_python;

/// The bytes that `read=True` copies at a time.
const CHUNK: usize = 1 << 22;

static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static OPTIMIZE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

fn imported<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyAny>>,
    module: &str,
    name: &str,
) -> PyResult<&'py Bound<'py, PyAny>> {
    let object = cell.get_or_try_init(py, || Ok::<_, PyErr>(py.import(module)?.getattr(name)?.unbind()))?;
    Ok(object.bind(py))
}

/// A value as it will be stored.
pub(super) struct EncodedValue<'py> {
    pub(super) size: i64,
    pub(super) mode: i64,
    pub(super) filename: Option<String>,
    pub(super) value: Datum<'py>,
}

/// Converts keys and values to what the table and the files store, and back.
///
/// A subclass may replace `put` and `get` (keys), `store` and `fetch` (values), `filename` and `remove` (files).
/// Pass the class to a cache: `Cache(directory, disk=MyDisk)`. The class gets the settings of the cache that begin
/// with `disk_`, without this prefix.
///
/// Args:
///     directory: The directory of the cache.
///     min_file_size: The number of bytes (characters of a `str`) from which a value gets its own file.
///     pickle_protocol: The protocol with which objects are pickled.
///     serializer: Converts objects to bytes and back, instead of pickle. It has `dumps(object, protocol)` and
///         `loads(data)`. It may have `dumps_key` and `loads_key`, which convert keys.
///     compression: "zstd", "lz4" or None. Values of 256 bytes and more are compressed if this makes them smaller.
///     whole_files: Whether a file appears only when it is complete on the disk. Its name then contains a
///         checksum. Other machines may then read the directory.
///
/// >>> from flexcache_rs.disk import Disk
/// >>> Disk("/tmp").put("a string is a key as it is")
/// ('a string is a key as it is', True)
#[pyclass(frozen, subclass, module = "flexcache_rs.disk")]
pub(crate) struct Disk {
    made: OnceLock<Made>,
    min_file_size: AtomicI64,
    pickle_protocol: AtomicI64,
}

/// The arguments of the constructor. `__init__` takes them, not `__new__`, because a subclass may have an
/// `__init__` with other arguments, which `__new__` gets as well.
#[derive(Default)]
struct Made {
    directory: PathBuf,
    serializer: Option<Serializer>,
    compression: Option<Compression>,
    whole_files: bool,
    names: files::Names,
}

/// The user's replacement for pickle.
struct Serializer {
    object: Py<PyAny>,
    /// Whether it has its own methods for keys.
    has_key_methods: bool,
}

impl Serializer {
    fn new(object: Bound<'_, PyAny>) -> PyResult<Self> {
        let has_key_methods = object.hasattr("dumps_key")?;
        Ok(Self { object: object.unbind(), has_key_methods })
    }

    fn method<'py>(&self, py: Python<'py>, of_key: bool, name: [&str; 2]) -> PyResult<Bound<'py, PyAny>> {
        self.object.bind(py).getattr(name[usize::from(of_key && self.has_key_methods)])
    }
}

impl Disk {
    fn made(&self) -> &Made {
        self.made.get_or_init(Made::default)
    }

    /// Whether the constructor has run, which a subclass may have omitted.
    pub(super) fn is_made(&self) -> bool {
        self.made.get().is_some()
    }

    fn path(&self, filename: &str) -> PathBuf {
        self.made().directory.join(filename)
    }

    pub(super) fn dumps<'py>(
        &self,
        py: Python<'py>,
        object: &Bound<'py, PyAny>,
        is_key: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let protocol = integer(py, self.pickle_protocol.load(Ordering::Relaxed));
        let dumped = match &self.made().serializer {
            None => running_python::call(imported(py, &DUMPS, "_pickle", "dumps")?, [object, &protocol])?,
            Some(serializer) => {
                let dumps = serializer.method(py, is_key, ["dumps", "dumps_key"])?;
                running_python::call(&dumps, [object, &protocol])?
            }
        };
        dumped.cast_into::<PyBytes>().map_err(|error| {
            let kind = error.into_inner().get_type();
            PyTypeError::new_err(format!("the serializer's dumps() must return bytes, not {kind}"))
        })
    }

    pub(super) fn loads<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
        is_key: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        match &self.made().serializer {
            None => running_python::call(imported(py, &LOADS, "_pickle", "loads")?, [data]),
            Some(serializer) => {
                running_python::call(&serializer.method(py, is_key, ["loads", "loads_key"])?, [data])
            }
        }
    }

    pub(super) fn put_key<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<(Datum<'py>, bool)> {
        if let Some(datum) = Datum::exactly(key) {
            return Ok((datum, true));
        }
        let py = key.py();
        if self.made().serializer.is_none()
            && let Some(pickle) = pickled_key::of_tuple(key, self.pickle_protocol.load(Ordering::Relaxed))
        {
            return Ok((Datum::Blob(bytes_object(py, &pickle)?), false));
        }
        let dumped = self.dumps(py, key, true)?;
        if self.made().serializer.is_some() {
            return Ok((Datum::Blob(dumped), false));
        }
        if let Some(optimized) = pickled_key::optimize(dumped.as_bytes()) {
            return Ok((Datum::Blob(bytes_object(py, &optimized)?), false));
        }
        let optimize = imported(py, &OPTIMIZE, "pickletools", "optimize")?;
        let optimized = running_python::call(optimize, [dumped.as_any()])?;
        Ok((Datum::Blob(optimized.cast_into()?), false))
    }

    pub(super) fn get_key<'py>(&self, py: Python<'py>, key: &OwnedKey) -> PyResult<Bound<'py, PyAny>> {
        let datum = to_object(py, &key.datum)?;
        if key.raw { Ok(datum) } else { self.loads(py, &datum, true) }
    }

    /// Whether a value of `length` bytes or characters stays in the table.
    fn is_small(&self, length: usize) -> bool {
        i64::try_from(length).is_ok_and(|length| length < self.min_file_size.load(Ordering::Relaxed))
    }

    /// Prepares a value. If it gets a file, calls `to_file` with the value's bytes to write it.
    pub(super) fn prepare<'py>(
        &self,
        value: &Bound<'py, PyAny>,
        to_file: impl FnOnce(&[u8]) -> PyResult<String>,
    ) -> PyResult<EncodedValue<'py>> {
        let py = value.py();
        let (mode, datum) = match Datum::exactly(value) {
            Some(datum @ Datum::Blob(_)) => (mode::BINARY, datum),
            Some(datum @ Datum::Text(_)) => (mode::TEXT, datum),
            Some(datum) => {
                return Ok(EncodedValue { size: 0, mode: mode::RAW, filename: None, value: datum });
            }
            None => (mode::PICKLE, Datum::Blob(self.dumps(py, value, false)?)),
        };
        let (length, bytes) = match &datum {
            // The limit counts characters, but the file has bytes.
            Datum::Text(text) => (text.len()?, text.to_str()?.as_bytes()),
            Datum::Blob(bytes) => (bytes.as_bytes().len(), bytes.as_bytes()),
            _ => unreachable!("numbers have returned above"),
        };
        if let Some(compression) = self.made().compression {
            let (stored, mode) = py.detach(|| compression.compress(bytes, mode));
            if compression::is_compressed(mode) {
                if self.is_small(stored.len()) {
                    let value = Datum::Blob(bytes_object(py, &stored)?);
                    return Ok(EncodedValue { size: 0, mode, filename: None, value });
                }
                let size = i64::try_from(stored.len()).unwrap_or(i64::MAX);
                return Ok(EncodedValue {
                    size,
                    mode,
                    filename: Some(to_file(&stored)?),
                    value: Datum::Null,
                });
            }
        }
        if self.is_small(length) {
            let mode = if mode == mode::PICKLE { mode } else { mode::RAW };
            return Ok(EncodedValue { size: 0, mode, filename: None, value: datum });
        }
        let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        Ok(EncodedValue { size, mode, filename: Some(to_file(bytes)?), value: Datum::Null })
    }

    fn name_of_file(&self, given: Option<String>) -> flexcache_disk::Result<String> {
        given.map_or_else(|| self.made().names.next(), Ok)
    }

    /// Writes a file, with a new name if none is given. Returns the name.
    fn write_file(&self, py: Python<'_>, name: Option<String>, bytes: &[u8]) -> PyResult<String> {
        py.detach(|| {
            let name = self.name_of_file(name)?;
            if self.made().whole_files {
                let fill = |file: &mut (dyn Write + Send)| file.write_all(bytes);
                return files::write_whole(&self.made().directory, name, fill).map(|(name, _)| name);
            }
            files::write(&self.made().directory, &name, bytes)?;
            Ok(name)
        })
        .map_err(|error| errors::raised(py, error))
    }

    /// Copies an open file to one with the given name or a new one. Returns the name and the number of bytes.
    fn copy_file(
        &self,
        py: Python<'_>,
        from: &Bound<'_, PyAny>,
        name: Option<String>,
    ) -> PyResult<(String, i64)> {
        let failed = |error| errors::raised(py, error);
        let copy = |to: &mut (dyn Write + Send)| -> PyResult<()> {
            loop {
                let chunk = from.call_method1("read", (CHUNK,))?.cast_into::<PyBytes>().map_err(|error| {
                    let kind = error.into_inner().get_type();
                    PyTypeError::new_err(format!("read() must return bytes, not {kind}"))
                })?;
                if chunk.as_bytes().is_empty() {
                    return Ok(());
                }
                let bytes = chunk.as_bytes();
                py.detach(|| to.write_all(bytes))?;
            }
        };
        let name = self.name_of_file(name).map_err(failed)?;
        let (name, size) = if self.made().whole_files {
            // An exception of Python code is passed around the core.
            let mut raised = None;
            let fill = |to: &mut (dyn Write + Send)| {
                copy(to).map_err(|error| {
                    raised = Some(error);
                    std::io::ErrorKind::Other.into()
                })
            };
            let written = files::write_whole(&self.made().directory, name, fill);
            match raised {
                Some(error) => return Err(error),
                None => written.map_err(failed)?,
            }
        } else {
            let directory = &self.made().directory;
            let mut to = py.detach(|| files::create(directory, &name)).map_err(failed)?;
            let copied = copy(&mut to).and_then(|()| Ok(to.metadata()?.len()));
            if copied.is_err() {
                files::remove(directory, &name);
            }
            (name, copied?)
        };
        Ok((name, i64::try_from(size).unwrap_or(i64::MAX)))
    }

    pub(super) fn store_value<'py>(
        &self,
        value: &Bound<'py, PyAny>,
        read: bool,
    ) -> PyResult<EncodedValue<'py>> {
        let py = value.py();
        if read && Datum::exactly(value).is_none() {
            let (name, size) = self.copy_file(py, value, None)?;
            return Ok(EncodedValue { size, mode: mode::BINARY, filename: Some(name), value: Datum::Null });
        }
        self.prepare(value, |bytes| self.write_file(py, None, bytes))
    }

    /// The value of an entry; `None` if its file is gone, or was cut short by a crash.
    pub(super) fn fetch_value<'py>(
        &self,
        py: Python<'py>,
        entry: &Entry,
        read: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if compression::is_compressed(entry.mode) {
            return self.fetch_compressed(py, entry, read);
        }
        let Some(filename) = &entry.filename else {
            let datum = to_object(py, &entry.value)?;
            let pickled = entry.mode == mode::PICKLE;
            return if pickled { self.loads(py, &datum, false) } else { Ok(datum) }.map(Some);
        };
        let (directory, path) = (&self.made().directory, self.path(filename));
        if read && entry.mode == mode::BINARY {
            // A file that is cut off counts as missing, here as below.
            let whole = py.detach(|| files::open(directory, filename, entry.size));
            return match whole.map_err(|error| errors::raised(py, error))? {
                Some((file, _)) => file_object(py, file, &path).map(Some),
                None => Ok(None),
            };
        }
        let opened = py
            .detach(|| files::open(directory, filename, entry.size))
            .map_err(|error| errors::raised(py, error))?;
        let Some((file, length)) = opened else { return Ok(None) };
        let content = read_all(py, file, &path, length, entry.mode == mode::TEXT)?;
        let bytes = match content.cast::<PyString>() {
            Ok(text) => text.to_str()?.as_bytes(),
            Err(_) => content.cast::<PyBytes>()?.as_bytes(),
        };
        if !py.detach(|| files::is_intact(filename, bytes)) {
            return Ok(None);
        }
        if entry.mode == mode::PICKLE { self.loads(py, &content, false) } else { Ok(content) }.map(Some)
    }
}

impl Disk {
    /// The value of an entry that is compressed.
    fn fetch_compressed<'py>(
        &self,
        py: Python<'py>,
        entry: &Entry,
        read: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let failed = |error| errors::raised(py, error);
        let bytes = py.detach(|| -> Result<Option<Vec<u8>>, Error> {
            match (&entry.filename, &entry.value) {
                (Some(filename), _) => match files::read(&self.made().directory, filename, entry.size)? {
                    Some(content) if files::is_intact(filename, &content) => {
                        compression::decompress(&content, entry.mode).map(Some)
                    }
                    _ => Ok(None),
                },
                (None, Value::Blob(stored)) => compression::decompress(stored, entry.mode).map(Some),
                _ => Err(Error::DamagedValue),
            }
        });
        let Some(bytes) = bytes.map_err(failed)? else { return Ok(None) };
        let content = match entry.mode & mode::BASE {
            mode::TEXT => {
                std::str::from_utf8(&bytes).map_err(|_| failed(Error::DamagedValue))?;
                text_object(py, &bytes)?.into_any()
            }
            _ => bytes_object(py, &bytes)?.into_any(),
        };
        Ok(Some(match entry.mode & mode::BASE {
            mode::PICKLE => self.loads(py, &content, false)?,
            mode::BINARY if read => py.import("io")?.call_method1("BytesIO", (content,))?,
            _ => content,
        }))
    }
}

#[pymethods]
impl Disk {
    /// Takes whatever the constructor of a subclass takes.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self { made: OnceLock::new(), min_file_size: AtomicI64::new(0), pickle_protocol: AtomicI64::new(0) }
    }

    #[pyo3(signature = (directory, min_file_size=0, pickle_protocol=0, serializer=None, compression=None, whole_files=false))]
    fn __init__(
        &self,
        directory: PathBuf,
        min_file_size: i64,
        pickle_protocol: i64,
        serializer: Option<Bound<'_, PyAny>>,
        compression: Option<&str>,
        whole_files: bool,
    ) -> PyResult<()> {
        let compression = compression
            .map(|name| {
                Compression::named(name).ok_or_else(|| {
                    PyValueError::new_err(format!("compression must be 'zstd', 'lz4' or None, not '{name}'"))
                })
            })
            .transpose()?;
        let serializer = serializer.map(Serializer::new).transpose()?;
        self.min_file_size.store(min_file_size, Ordering::Relaxed);
        self.pickle_protocol.store(pickle_protocol, Ordering::Relaxed);
        self.made
            .set(Made { directory, serializer, compression, whole_files, names: files::Names::default() })
            .map_err(|_| PyRuntimeError::new_err("a disk is made once"))
    }

    /// The directory of the cache.
    #[getter]
    fn _directory(&self) -> &OsStr {
        self.made().directory.as_os_str()
    }

    /// The number of bytes (characters of a `str`) from which a value gets its own file.
    #[getter]
    fn min_file_size(&self) -> i64 {
        self.min_file_size.load(Ordering::Relaxed)
    }

    #[setter]
    fn set_min_file_size(&self, value: i64) {
        self.min_file_size.store(value, Ordering::Relaxed);
    }

    /// The pickle protocol for objects.
    #[getter]
    fn pickle_protocol(&self) -> i64 {
        self.pickle_protocol.load(Ordering::Relaxed)
    }

    #[setter]
    fn set_pickle_protocol(&self, value: i64) {
        self.pickle_protocol.store(value, Ordering::Relaxed);
    }

    /// The serializer that replaces pickle, or None.
    #[getter]
    fn serializer(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.made().serializer.as_ref().map(|serializer| serializer.object.clone_ref(py))
    }

    /// Return a number for a key that is the same in every process. FanoutCache uses it to choose a shard.
    ///
    /// >>> from flexcache_rs.disk import Disk
    /// >>> Disk("/tmp").hash("key")
    /// 42402122
    #[pyo3(signature = (key, /))]
    fn hash(slf: &Bound<'_, Self>, key: &Bound<'_, PyAny>) -> PyResult<u64> {
        let (datum, _) = put_key(slf.as_any(), native(slf.as_any()), key)?;
        datum.shard_hash()
    }

    /// Return the stored form of a key, and whether it is the key itself.
    #[pyo3(signature = (key, /))]
    fn put<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, bool)> {
        let (datum, raw) = self.put_key(key)?;
        Ok((datum.into_object(key.py()), raw))
    }

    /// Return the key for a stored form.
    #[pyo3(signature = (key, raw, /))]
    fn get<'py>(&self, key: &Bound<'py, PyAny>, raw: bool) -> PyResult<Bound<'py, PyAny>> {
        if raw { Ok(key.clone()) } else { self.loads(key.py(), key, true) }
    }

    /// Prepare a value, and write its file if it gets one. Returns (size, mode, filename, value).
    #[pyo3(signature = (value, read=false, key=None))]
    fn store<'py>(
        slf: &Bound<'py, Self>,
        value: &Bound<'py, PyAny>,
        read: bool,
        key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(i64, i64, Option<String>, Bound<'py, PyAny>)> {
        let (py, disk) = (slf.py(), slf.get());
        // A subclass may choose the file's name.
        let name = || -> PyResult<String> {
            let (name, _): (String, Bound<'_, PyAny>) = match key {
                Some(key) => slf.call_method1("filename", (key, value))?,
                None => slf.call_method0("filename")?,
            }
            .extract()?;
            Ok(name)
        };
        let stored = if read && Datum::exactly(value).is_none() {
            let (name, size) = disk.copy_file(py, value, Some(name()?))?;
            EncodedValue { size, mode: mode::BINARY, filename: Some(name), value: Datum::Null }
        } else {
            disk.prepare(value, |bytes| disk.write_file(py, Some(name()?), bytes))?
        };
        Ok((stored.size, stored.mode, stored.filename, stored.value.into_object(py)))
    }

    /// Return the value for what `store` returned. If it has a file and `read` is true, return the open file.
    ///
    /// Raises:
    ///     OSError: The file does not exist.
    #[pyo3(signature = (mode, filename, value, read=false, /))]
    fn fetch<'py>(
        &self,
        py: Python<'py>,
        mode: i64,
        filename: Option<String>,
        value: &Bound<'py, PyAny>,
        read: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        if filename.is_none() && !compression::is_compressed(mode) {
            return if mode == mode::PICKLE { self.loads(py, value, false) } else { Ok(value.clone()) };
        }
        let path = self.path(filename.as_deref().unwrap_or_default());
        let value = match &filename {
            None => {
                let stored = value.cast::<PyBytes>()?.as_bytes();
                let mut copy = Vec::new();
                copy.try_reserve_exact(stored.len()).map_err(|_| errors::raised(py, Error::OutOfMemory))?;
                copy.extend_from_slice(stored);
                Value::Blob(copy)
            }
            Some(_) => Value::Null,
        };
        let entry = Entry { rowid: 0, expire_time: None, tag: Value::Null, size: 0, mode, filename, value };
        self.fetch_value(py, &entry, read)?
            .ok_or_else(|| PyFileNotFoundError::new_err((2, "No such file or directory", path)))
    }

    /// Return a name for a new file, relative to the directory and as a full path.
    #[pyo3(signature = (key=None, value=None))]
    fn filename(
        &self,
        py: Python<'_>,
        key: Option<&Bound<'_, PyAny>>,
        value: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<(String, OsString)> {
        let _ = (key, value);
        let name = self.name_of_file(None).map_err(|error| errors::raised(py, error))?;
        let full = self.path(&name).into_os_string();
        Ok((name, full))
    }

    /// Remove a file inside the directory, and the directories that are then empty. It is no error if the file
    /// does not exist. A file outside the directory is not removed.
    #[pyo3(signature = (file_path, /))]
    fn remove(&self, py: Python<'_>, file_path: PathBuf) {
        let directory = &self.made().directory;
        let name = file_path.strip_prefix(directory).unwrap_or(&file_path);
        py.detach(|| files::remove(directory, &name.to_string_lossy()));
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        let serializer = self.made.get().and_then(|made| made.serializer.as_ref());
        visit.call(serializer.map(|serializer| &serializer.object))
    }
}

/// The disk itself, unless a subclass may have changed something.
pub(super) fn native<'a>(disk: &'a Bound<'_, PyAny>) -> Option<&'a Disk> {
    disk.cast_exact::<Disk>().ok().map(Bound::get)
}

/// A key as the table has it.
#[inline]
pub(super) fn put_key<'py>(
    disk: &Bound<'py, PyAny>,
    native: Option<&Disk>,
    key: &Bound<'py, PyAny>,
) -> PyResult<(Datum<'py>, bool)> {
    if let Some(disk) = native {
        return disk.put_key(key);
    }
    let (datum, raw): (Bound<'py, PyAny>, bool) = disk.call_method1("put", (key,))?.extract()?;
    Ok((Datum::any("what Disk.put() returned for the key", &datum)?, raw))
}
