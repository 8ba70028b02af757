//! The hooks of values: `item_size`, `close`, `aclose`.
//!
//! Hooks are looked up on the value's type, as Python does with its own special methods: an
//! instance attribute, a `__getattr__` that answers to every name, or a class stored as a value
//! are no hooks.

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::exceptions::{PyAttributeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyType};

use super::integer::{integer, shown};
use super::running_python::call;

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

    /// Whether a value of this type has anything to do when it is removed.
    #[inline]
    pub(crate) fn on_removal(self) -> bool {
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

/// The hooks of a value, which are looked for the first time that a value of this class is seen.
///
/// # Errors
///
/// Where memory runs out.
#[inline]
pub(crate) fn of(value: &Borrowed<'_, '_, PyAny>) -> PyResult<HookSet> {
    if is_common_builtin(value) { Ok(HookSet::NONE) } else { of_its_type(value) }
}

/// Whether the value may say what it weighs.
#[inline(always)]
pub(crate) fn may_have_size(value: &Borrowed<'_, '_, PyAny>) -> bool {
    !is_common_builtin(value) && of_its_type(value).map_or(true, HookSet::item_size)
}

/// Whether the value may have something to do when it is removed.
#[inline(always)]
pub(crate) fn may_act_on_removal(value: &Borrowed<'_, '_, PyAny>) -> bool {
    !is_common_builtin(value) && of_its_type(value).map_or(true, HookSet::on_removal)
}

#[inline(always)]
fn is_common_builtin(value: &Borrowed<'_, '_, PyAny>) -> bool {
    // SAFETY: `value` is a valid object, its type lives as long, and this thread is attached. The flags that matter
    // here never change.
    let flags = unsafe {
        (&raw const (*ffi::Py_TYPE(value.as_ptr())).tp_flags).cast::<std::ffi::c_ulong>().read_volatile()
    };
    flags & COMMON_BUILTIN != 0 && flags & ffi::Py_TPFLAGS_HEAPTYPE == 0
}

#[inline(never)]
fn of_its_type(value: &Borrowed<'_, '_, PyAny>) -> PyResult<HookSet> {
    // SAFETY: `value` is a valid object, its type lives as long, and this thread is attached.
    let (of, tag) = unsafe {
        let of = ffi::Py_TYPE(value.as_ptr());
        (of, version_tag(of))
    };
    let place = &SEEN[tag as usize % REMEMBERED];
    let seen = place.load(Ordering::Relaxed);
    if tag != 0 && seen >> 8 == u64::from(tag) {
        #[expect(clippy::cast_possible_truncation, reason = "the lowest byte is the hooks")]
        return Ok(HookSet(seen as u8));
    }
    look(value).inspect(|hooks| {
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
fn look(value: &Borrowed<'_, '_, PyAny>) -> PyResult<HookSet> {
    let py = value.py();
    // A look-up by the interpreter gives the type its tag, if it has none yet.
    // SAFETY: both are valid objects and the thread is attached. This looks at the type and the
    // value for a name that nothing has, which runs no code of theirs.
    unsafe {
        let nothing = ffi::PyObject_GenericGetAttr(value.as_ptr(), intern!(py, "no such hook").as_ptr());
        // Cleared here and now: the exception refers to the value.
        ffi::PyErr_Clear();
        ffi::Py_XDECREF(nothing);
    }
    let mut found = 0;
    for (bit, name) in [
        (HookSet::ITEM_SIZE, intern!(py, "item_size")),
        (HookSet::CLOSE, intern!(py, "close")),
        (HookSet::ACLOSE, intern!(py, "aclose")),
    ] {
        if find(&value.get_type(), name)?.is_some() {
            found |= bit;
        }
    }
    Ok(HookSet(found))
}

/// What a class has under a name, itself or from its bases, as the interpreter looks for special
/// methods; `None` also where that is None, which switches a method off.
fn find<'py>(of: &Bound<'py, PyType>, name: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
    for class in of.mro().iter() {
        let class = class.cast_into::<PyType>()?;
        // SAFETY: the class is a valid type and the thread attached; it keeps its dict alive.
        let dict = unsafe {
            #[cfg(Py_3_12)]
            let dict = Bound::from_owned_ptr_or_err(of.py(), ffi::PyType_GetDict(class.as_type_ptr()))?;
            #[cfg(not(Py_3_12))]
            let dict = Bound::from_borrowed_ptr_or_err(of.py(), (*class.as_type_ptr()).tp_dict)?;
            dict
        };
        if let Some(found) = dict.cast::<PyDict>()?.get_item(name)? {
            return Ok((!found.is_none()).then_some(found));
        }
    }
    Ok(None)
}

/// Calls a value's hook, as it is found on the class.
///
/// # Errors
///
/// What the hook raises; `AttributeError` where it is gone meanwhile.
pub(crate) fn run<'py>(
    value: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    let (py, of) = (value.py(), value.get_type());
    let hook = find(&of, name)?.ok_or_else(|| PyAttributeError::new_err(name.clone().unbind()))?;
    // SAFETY: the slot of a valid type is null or such a function, which takes an object, the value
    // it is found on, and the value's type, and returns a new reference, or null with an exception.
    let bound = unsafe {
        let bind = ffi::PyType_GetSlot(hook.get_type_ptr(), ffi::Py_tp_descr_get);
        if bind.is_null() {
            hook
        } else {
            let bind = std::mem::transmute::<*mut std::ffi::c_void, ffi::descrgetfunc>(bind);
            Bound::from_owned_ptr_or_err(py, bind(hook.as_ptr(), value.as_ptr(), of.as_ptr()))?
        }
    };
    call(&bound, [])
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
    let size = run(value, intern!(value.py(), "item_size"))?;
    let of_value = value.get_type().name()?;
    let number = integer(&size.as_borrowed())?.ok_or_else(|| {
        let of_size = size.get_type().name().map_or_else(|_| "that".into(), |name| name.to_string());
        PyTypeError::new_err(format!("item_size() of {of_value} must return an integer, not {of_size}"))
    })?;
    number.extract::<u64>().map_err(|_| {
        PyValueError::new_err(format!(
            "item_size() of {of_value} must return an integer from 0 to 2**64 - 1, not {}",
            shown(&number.as_any().as_borrowed())
        ))
    })
}
