//! What values may do when they come and go: `item_size`, `close`, `aclose`.
//!
//! Hooks are looked up on the value's type, as Python does with its own special methods: an
//! instance attribute, a `__getattr__` that answers to every name, or a class stored as a value
//! are no hooks.

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::running_python::call_method;

/// Which hooks a type has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HookSet(u8);

impl HookSet {
    const NONE: Self = Self(0);
    const ITEM_SIZE: u8 = 1;
    const CLOSE: u8 = 2;
    const ACLOSE: u8 = 4;

    #[inline]
    pub(crate) fn item_size(self) -> bool {
        self.0 & Self::ITEM_SIZE != 0
    }

    #[inline]
    pub(crate) fn close(self) -> bool {
        self.0 & Self::CLOSE != 0
    }

    #[inline]
    pub(crate) fn aclose(self) -> bool {
        self.0 & Self::ACLOSE != 0
    }

    /// Whether a value of this type has anything to do when it leaves.
    #[inline]
    pub(crate) fn on_leaving(self) -> bool {
        self.0 & (Self::CLOSE | Self::ACLOSE) != 0
    }
}

/// The types of most values; unless it is a class of the user's, such a type has no hooks.
const COMMON_BUILTIN: std::ffi::c_ulong = ffi::Py_TPFLAGS_LONG_SUBCLASS
    | ffi::Py_TPFLAGS_LIST_SUBCLASS
    | ffi::Py_TPFLAGS_TUPLE_SUBCLASS
    | ffi::Py_TPFLAGS_BYTES_SUBCLASS
    | ffi::Py_TPFLAGS_UNICODE_SUBCLASS
    | ffi::Py_TPFLAGS_DICT_SUBCLASS;

const REMEMBERED: usize = 512;

/// What was found on types, by version tag: the interpreter gives every state of every type a
/// tag of its own, so that a type that changes is looked at again. Tag and hooks share a word,
/// which can only be read whole.
static SEEN: [AtomicU64; REMEMBERED] = [const { AtomicU64::new(0) }; REMEMBERED];

/// The hooks of a value. Reads attributes of its type the first time, which may run code of its
/// metaclass.
///
/// # Errors
///
/// What such code raises.
#[inline]
pub(crate) fn of(value: &Borrowed<'_, '_, PyAny>) -> PyResult<HookSet> {
    // SAFETY: `value` is a valid object, its type lives as long, and this thread is attached.
    let (flags, of) = unsafe {
        let of = ffi::Py_TYPE(value.as_ptr());
        // The flags that matter here never change.
        ((&raw const (*of).tp_flags).cast::<std::ffi::c_ulong>().read_volatile(), of)
    };
    if flags & COMMON_BUILTIN != 0 && flags & ffi::Py_TPFLAGS_HEAPTYPE == 0 {
        return Ok(HookSet::NONE);
    }
    // SAFETY: as above.
    let tag = unsafe { version_tag(of) };
    let place = &SEEN[tag as usize % REMEMBERED];
    let seen = place.load(Ordering::Relaxed);
    if tag != 0 && seen >> 8 == u64::from(tag) {
        #[expect(clippy::cast_possible_truncation, reason = "the lowest byte is the hooks")]
        return Ok(HookSet(seen as u8));
    }
    look(&value.get_type()).inspect(|hooks| {
        // SAFETY: as above.
        if tag != 0 && unsafe { version_tag(of) } == tag {
            place.store(u64::from(tag) << 8 | u64::from(hooks.0), Ordering::Relaxed);
        }
    })
}

/// The tag of the type's present state, 0 where it has none.
///
/// # Safety
///
/// `of` must be a valid type and the thread attached.
#[inline]
unsafe fn version_tag(of: *mut ffi::PyTypeObject) -> u32 {
    // SAFETY: the caller's promise. The tag is a plain number that only attached threads change,
    // and a stale one is the tag of a state that the type had during this call.
    let tag = unsafe { (&raw const (*of).tp_version_tag).read_volatile() };
    #[cfg(not(Py_3_12))]
    // SAFETY: the caller's promise.
    if unsafe { ffi::PyType_GetFlags(of) } & ffi::Py_TPFLAGS_VALID_VERSION_TAG == 0 {
        return 0;
    }
    tag
}

#[cold]
fn look(of: &Bound<'_, PyType>) -> PyResult<HookSet> {
    let py = of.py();
    let names = [intern!(py, "item_size"), intern!(py, "close"), intern!(py, "aclose")];
    // A look-up by the interpreter gives the type its tag, if it has none yet.
    of.hasattr(names[0])?;
    let mut found = 0;
    for (bit, name) in [HookSet::ITEM_SIZE, HookSet::CLOSE, HookSet::ACLOSE].into_iter().zip(names) {
        for class in of.mro().iter() {
            let class = class.cast_into::<PyType>()?;
            if class.getattr(intern!(py, "__dict__"))?.contains(name)? {
                found |= bit;
                break;
            }
        }
    }
    Ok(HookSet(found))
}

/// What a value weighs: 1, unless it says otherwise. Runs its `item_size`.
///
/// # Errors
///
/// What `item_size` raises; `TypeError` where it returns no integer, `ValueError` where that is
/// negative or does not fit 64 bits.
#[inline]
pub(crate) fn weight(value: &Borrowed<'_, '_, PyAny>) -> PyResult<u64> {
    if of(value)?.item_size() { weigh(value) } else { Ok(1) }
}

#[cold]
fn weigh(value: &Borrowed<'_, '_, PyAny>) -> PyResult<u64> {
    let size = call_method(value, intern!(value.py(), "item_size"))?;
    let of_value = value.get_type().name()?;
    // SAFETY: `size` is a valid object and this thread is attached.
    if unsafe { ffi::PyIndex_Check(size.as_ptr()) } == 0 {
        return Err(PyTypeError::new_err(format!(
            "item_size() of {of_value} must return an integer, not {}",
            size.get_type().name()?
        )));
    }
    let size = call_method(&size, intern!(value.py(), "__index__"))?;
    size.extract::<u64>().map_err(|_| {
        let shown = size.repr().map_or_else(|_| "a huge one".to_owned(), |text| text.to_string());
        PyValueError::new_err(format!(
            "item_size() of {of_value} must return an integer from 0 to 2**64 - 1, not {shown}"
        ))
    })
}
