//! Leases of keys of a directory, as a cache in memory asks for them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use flexcache_disk::{DiskStore, LeaseToken, OwnedKey, Value};
use parking_lot::Mutex;
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple, PyType};

use super::cache::DiskCache;
use super::codec::native;
use super::fork::Lazy;
use crate::py::object::running_python::{call, detached};
use crate::py::store::lease::{AwaitedLease, Lease};
use crate::py::store::loads::{LoadFailedElsewhere, shown};

/// How long a lease that is given back waits for others who write leases. It expires otherwise.
const PATIENCE: Duration = Duration::from_secs(1);

/// For how many seconds those who wait can learn of a failure.
const FAILURE: f64 = 1.0;

/// The text of an exception is handed on up to so many bytes, its pickle up to as many.
const LONGEST: usize = 1 << 16;

/// The leases of loads of this process that have failed, until they have been given back. Held attached and shortly.
static FAILING: Mutex<Vec<(LeaseToken, Weak<()>)>> = Mutex::new(Vec::new());

/// Whether a lease is that of a load of this process which has failed.
fn is_failing(token: &LeaseToken) -> bool {
    FAILING.lock().iter().any(|(failing, mark)| failing == token && mark.strong_count() > 0)
}

/// The place of a key in the order of all leases: the same in every process, so nothing of this machine or build goes
/// into it. It is the hash FNV-1a. Numbers that the table takes for equal have the same place.
fn order_of(key: &OwnedKey) -> u64 {
    #[expect(clippy::cast_precision_loss, reason = "equal numbers stay equal")]
    let number = match &key.datum {
        Value::Integer(number) => (*number as f64).to_bits(),
        Value::Real(number) => (number + 0.0).to_bits(),
        _ => 0,
    };
    let bytes: &[u8] = match &key.datum {
        Value::Text(text) => text.as_bytes(),
        Value::Blob(bytes) => bytes,
        _ => &number.to_le_bytes(),
    };
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What a lease is about.
#[derive(Clone)]
pub(super) struct LeasePlace {
    /// Of this process.
    store: Arc<Lazy>,
    key: Arc<OwnedKey>,
    pub(super) token: LeaseToken,
}

impl std::fmt::Debug for LeasePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeasePlace").field("key", &self.key).finish_non_exhaustive()
    }
}

impl LeasePlace {
    pub(super) fn new(store: Arc<Lazy>, key: Arc<OwnedKey>, token: LeaseToken) -> Self {
        Self { store, key, token }
    }

    fn end(&self, failure: Option<&[u8]>, seconds: f64) {
        if let Some(store) = self.store.get() {
            let failure = failure.map(|failure| (failure, seconds.min(FAILURE)));
            // One that cannot be given back expires.
            let _ = store.release(self.key.borrow(), &self.token, failure, PATIENCE);
        }
    }
}

/// The lease of a key.
#[derive(Debug)]
pub(super) struct DirectoryLease {
    pub(super) place: LeasePlace,
    pub(super) cache: Py<DiskCache>,
    /// After how many seconds it expires.
    pub(super) seconds: f64,
    /// Whether a write has ended it: there is nothing to give back.
    pub(super) has_ended: AtomicBool,
    /// Set when its load has failed; lives until it has been given back.
    pub(super) failing: OnceLock<Arc<()>>,
}

impl Lease for DirectoryLease {
    fn order(&self) -> u64 {
        order_of(&self.place.key)
    }

    fn is_valid(&self, py: Python<'_>) -> PyResult<bool> {
        let LeasePlace { key, token, .. } = &self.place;
        self.cache.get().wait(py, true, |store, patience| store.has_lease(key.borrow(), token, patience))
    }

    fn encode_failure(&self, error: &Bound<'_, PyAny>) -> Option<Vec<u8>> {
        encode(self.cache.get(), error).ok()
    }

    fn fails(&self) {
        let mark = self.failing.get_or_init(Arc::default);
        let mut failing = FAILING.lock();
        failing.retain(|(_, mark)| mark.strong_count() > 0);
        failing.push((self.place.token, Arc::downgrade(mark)));
    }

    fn end(self: Arc<Self>, py: Python<'_>, failure: Option<Vec<u8>>, may_wait: bool) {
        if self.has_ended.load(Ordering::Acquire) {
            return;
        }
        let (place, seconds) = (self.place.clone(), self.seconds);
        if may_wait {
            detached(py, || place.end(failure.as_deref(), seconds));
        } else {
            let thread = std::thread::Builder::new().name("flexcache-lease".into());
            // Without a thread it expires.
            let failing = self.failing.get().cloned();
            let _ = thread.spawn(move || {
                place.end(failure.as_deref(), seconds);
                drop(failing);
            });
        }
    }
}

/// The lease of a key, which another computation has.
#[derive(Debug)]
pub(super) struct AwaitedDirectoryLease {
    place: LeasePlace,
    /// Whether its load had failed when it was asked for: then its failure is for others.
    has_failed: bool,
}

impl AwaitedDirectoryLease {
    pub(super) fn new(place: LeasePlace) -> Self {
        let has_failed = is_failing(&place.token);
        Self { place, has_failed }
    }

    /// The lease whose failure concerns who waits for it.
    pub(super) fn token(&self) -> Option<LeaseToken> {
        (!self.has_failed).then_some(self.place.token)
    }
}

impl AwaitedLease for AwaitedDirectoryLease {
    fn order(&self) -> u64 {
        order_of(&self.place.key)
    }

    fn sleep(&self, most: Duration) -> bool {
        let LeasePlace { store, key, token } = &self.place;
        // What is wrong with the directory comes up when the lease is asked for.
        store
            .get()
            .is_none_or(|store: &DiskStore| store.wait_for_lease(key.borrow(), token, most).unwrap_or(true))
    }
}

/// An exception for other processes: whether its only argument is its text, module and name of its class, the text, and
/// the exception as the disk stores values, if it can. The parts have their length before them.
fn encode(cache: &DiskCache, error: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let py = error.py();
    let class = error.get_type();
    let arguments = error.getattr(intern!(py, "args"))?.cast_into::<PyTuple>()?;
    let only: Option<String> =
        (arguments.len() == 1).then(|| arguments.get_item(0)).transpose()?.and_then(|one| one.extract().ok());
    let text = match &only {
        Some(text) => text.clone(),
        None => error.str()?.to_string(),
    };
    let pickled = match native(cache.disk(py)?) {
        Some(disk) => disk.dumps(py, error, false).ok().filter(|bytes| bytes.as_bytes().len() <= LONGEST),
        None => None,
    };
    let module: String = class.getattr(intern!(py, "__module__"))?.extract()?;
    let name: String = class.qualname()?.extract()?;
    let mut text = text;
    while text.len() > LONGEST {
        text.pop();
    }
    let mut encoded = vec![u8::from(only.is_some())];
    let pickled = pickled.as_ref().map_or(&[][..], |bytes| bytes.as_bytes());
    for part in [module.as_bytes(), name.as_bytes(), text.as_bytes(), pickled] {
        encoded.extend(u32::try_from(part.len()).unwrap_or(0).to_le_bytes());
        encoded.extend(part);
    }
    Ok(encoded)
}

fn parts(mut encoded: &[u8]) -> Option<[&[u8]; 4]> {
    let mut parts = [&[][..]; 4];
    for part in &mut parts {
        let (length, rest) = encoded.split_first_chunk()?;
        let (this, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        (*part, encoded) = (this, rest);
    }
    Some(parts)
}

/// The exception with which a computation of another process has failed.
pub(super) fn failure(cache: &DiskCache, key: &Bound<'_, PyAny>, encoded: &[u8]) -> PyErr {
    let py = key.py();
    let Some((is_only_text, [module, name, text, pickled])) =
        encoded.split_first().and_then(|(first, rest)| Some((*first != 0, parts(rest)?)))
    else {
        return elsewhere(key, "an exception that cannot be read");
    };
    let [module, name, text] = [module, name, text].map(String::from_utf8_lossy);
    unpickled(py, cache, pickled)
        .or_else(|| if is_only_text && module == "builtins" { built_in(py, &name, &text) } else { None })
        .unwrap_or_else(|| {
            let class = if module == "builtins" { name.to_string() } else { format!("{module}.{name}") };
            elsewhere(key, &format!("{class}: {text}"))
        })
}

fn elsewhere(key: &Bound<'_, PyAny>, what: &str) -> PyErr {
    LoadFailedElsewhere::new_err(format!(
        "computing the value of {} failed in another process: {what}",
        shown(key)
    ))
}

/// What the serializer makes of it, which decides whether it may be loaded.
fn unpickled(py: Python<'_>, cache: &DiskCache, pickled: &[u8]) -> Option<PyErr> {
    if pickled.is_empty() {
        return None;
    }
    let disk = native(cache.disk(py).ok()?)?;
    let loaded = disk.loads(py, PyBytes::new(py, pickled).as_any(), false).ok()?;
    loaded.is_instance_of::<PyException>().then(|| PyErr::from_value(loaded))
}

fn built_in(py: Python<'_>, name: &str, text: &str) -> Option<PyErr> {
    let class = py.import(intern!(py, "builtins")).ok()?.getattr(name).ok()?.cast_into::<PyType>().ok()?;
    if !class.is_subclass_of::<PyException>().ok()? {
        return None;
    }
    let text = text.into_pyobject(py).ok()?;
    let made = call(class.as_any(), [text.as_any()]).ok()?;
    made.is_instance_of::<PyException>().then(|| PyErr::from_value(made))
}
