//! Keys: hashing, which comes before the lock, and equality without Python code under the lock.

use flexcache_core::HashCheck;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyBytes, PyInt, PyString};

use super::{int_hash, running_python};

/// Tuples nested deeper than this are left to Python to compare.
pub(crate) const DEEPEST_TUPLE: u32 = 4;

/// Spreads Python's hash over all bits, since an int is its own hash. With different `seed`s, caches have
/// different collisions.
#[inline]
pub(crate) fn mix(hash: ffi::Py_hash_t, seed: u64) -> u64 {
    let product = u128::from(hash.cast_unsigned() as u64 ^ seed) * 0xa076_1d64_78bd_642f;
    #[expect(clippy::cast_possible_truncation, reason = "both halves are folded")]
    let folded = (product >> 64) as u64 ^ product as u64;
    folded
}

/// The hash of an object, as Python computes it. Runs its `__hash__`.
///
/// # Errors
///
/// What `__hash__` raises: `TypeError` for an unhashable object.
#[inline(always)]
pub(crate) fn python_hash(object: &Borrowed<'_, '_, PyAny>) -> PyResult<ffi::Py_hash_t> {
    let pointer = object.as_ptr();
    // SAFETY: the object is valid and this thread is attached, as the borrow proves. A `str` begins
    // with a `PyASCIIObject`, whose hash is -1 until it is first computed.
    let known = unsafe {
        if ffi::PyUnicode_CheckExact(pointer) != 0 {
            (*pointer.cast::<ffi::PyASCIIObject>()).hash
        } else if ffi::PyLong_CheckExact(pointer) != 0 {
            int_hash::if_quick(pointer).unwrap_or(-1)
        } else {
            -1
        }
    };
    if known == -1 { computed_hash(*object) } else { Ok(known) }
}

#[inline(never)]
fn computed_hash(object: Borrowed<'_, '_, PyAny>) -> PyResult<ffi::Py_hash_t> {
    let hash = running_python::hash(&object);
    if hash == -1 { Err(PyErr::fetch(object.py())) } else { Ok(hash) }
}

/// The mixed hash of a key, for the table. Runs the key's `__hash__`.
///
/// # Errors
///
/// As for [`python_hash`].
#[inline(always)]
pub(crate) fn hash(key: &Borrowed<'_, '_, PyAny>, seed: u64) -> PyResult<u64> {
    Ok(mix(python_hash(key)?, seed))
}

/// Whether two keys are equal, if that can be decided without running Python code: the same object, or exact
/// `str`, `int`, `bytes`, `float`, `bool`, `None`, and tuples of these. `None` if only Python code can tell.
#[inline(always)]
pub(crate) fn native_eq(stored: &Py<PyAny>, key: &Borrowed<'_, '_, PyAny>) -> Option<bool> {
    let (stored, key) = (stored.as_ptr(), key.as_ptr());
    if stored == key {
        return Some(true);
    }
    // SAFETY: both are valid objects, the first owned by the table that is locked or by the
    // caller, the second borrowed, and this thread is attached.
    unsafe { compare(stored, key, DEEPEST_TUPLE) }
}

/// [`native_eq`] of a stored key that may have another hash: equal keys are the same key only where their hashes agree,
/// as in a dict. Those of text and ints always do, so that nothing need be looked at.
#[inline(always)]
pub(crate) fn native_eq_by_hash(
    stored: &Py<PyAny>,
    key: &Borrowed<'_, '_, PyAny>,
    hash: &HashCheck<'_>,
) -> Option<bool> {
    let equal = native_eq(stored, key)?;
    Some(equal && (has_lasting_hash(key) || hash.agrees()))
}

#[inline(always)]
fn has_lasting_hash(key: &Borrowed<'_, '_, PyAny>) -> bool {
    let pointer = key.as_ptr();
    // SAFETY: the object is valid and this thread is attached, as the borrow proves.
    unsafe { ffi::PyUnicode_CheckExact(pointer) != 0 || ffi::PyLong_CheckExact(pointer) != 0 }
}

/// Tuples with more texts and bytes than this are not plain.
const MOST_TEXTS: usize = 8;

/// Tells whether a tuple is serialized to the same bytes as every tuple that is equal to it. That is so where it consists
/// of exact ints, text, bytes and None, and no two of its texts are equal: a pickle holds one object once.
#[derive(Default)]
pub(crate) struct PlainParts<'a, 'py> {
    texts: [Option<Borrowed<'a, 'py, PyAny>>; MOST_TEXTS],
    count: usize,
}

impl<'a, 'py> PlainParts<'a, 'py> {
    /// Adds a part. Returns whether the tuple is still plain. Runs no Python code.
    pub(crate) fn add(&mut self, part: Borrowed<'a, 'py, PyAny>) -> bool {
        if part.is_exact_instance_of::<PyInt>() || part.is_none() {
            return true;
        }
        if !(part.is_exact_instance_of::<PyString>() || part.is_exact_instance_of::<PyBytes>()) {
            return false;
        }
        // SAFETY: both objects are valid, and the thread is attached.
        let is_equal = |other: &Borrowed<'_, '_, PyAny>| unsafe {
            compare(other.as_ptr(), part.as_ptr(), DEEPEST_TUPLE) != Some(false)
        };
        if self.count == MOST_TEXTS || self.texts.iter().flatten().any(is_equal) {
            return false;
        }
        self.texts[self.count] = Some(part);
        self.count += 1;
        true
    }
}

/// # Safety
///
/// Both objects must be valid and the thread attached.
#[inline(never)]
pub(crate) unsafe fn compare(
    left: *mut ffi::PyObject,
    right: *mut ffi::PyObject,
    depth: u32,
) -> Option<bool> {
    // SAFETY: the caller's promise covers reading the types, and tuples keep their items alive.
    unsafe {
        if left == right {
            return Some(true);
        }
        let (of_left, of_right) = (ffi::Py_TYPE(left), ffi::Py_TYPE(right));
        if is_scalar(left, of_left) && is_scalar(right, of_right) {
            if of_left != of_right && (is_text(of_left) || is_text(of_right)) {
                return Some(false);
            }
            return scalars_eq(left, right);
        }
        if ffi::PyTuple_CheckExact(left) == 0 || ffi::PyTuple_CheckExact(right) == 0 || depth == 0 {
            return None;
        }
        let length = ffi::PyTuple_GET_SIZE(left);
        if ffi::PyTuple_GET_SIZE(right) != length {
            return Some(false);
        }
        for at in 0..length {
            let (left, right) = (ffi::PyTuple_GET_ITEM(left, at), ffi::PyTuple_GET_ITEM(right, at));
            match compare(left, right, depth - 1) {
                Some(true) => {}
                unequal_or_unknown => return unequal_or_unknown,
            }
        }
        Some(true)
    }
}

/// # Safety
///
/// `object` must be valid and `of` its type.
#[inline]
unsafe fn is_scalar(object: *mut ffi::PyObject, of: *mut ffi::PyTypeObject) -> bool {
    is_text(of)
        || of == &raw mut ffi::PyLong_Type
        || of == &raw mut ffi::PyFloat_Type
        || of == &raw mut ffi::PyBool_Type
        // SAFETY: `None` lives as long as the interpreter.
        || object == unsafe { ffi::Py_None() }
}

/// Whether the type is `str` or `bytes`, which must not be compared with each other: with `-b` that warns.
#[inline]
fn is_text(of: *mut ffi::PyTypeObject) -> bool {
    of == &raw mut ffi::PyUnicode_Type || of == &raw mut ffi::PyBytes_Type
}

/// # Safety
///
/// Both must be valid objects of the types of [`is_scalar`], and the thread attached. Their
/// comparison runs no code but the interpreter's own and allocates nothing the collector tracks.
#[inline]
unsafe fn scalars_eq(left: *mut ffi::PyObject, right: *mut ffi::PyObject) -> Option<bool> {
    // SAFETY: the caller's promise.
    match unsafe { ffi::PyObject_RichCompareBool(left, right, ffi::Py_EQ) } {
        0 => Some(false),
        1 => Some(true),
        _ => {
            // This can only be lack of memory. Python may try again without the lock. SAFETY: the thread is
            // attached.
            unsafe { ffi::PyErr_Clear() };
            None
        }
    }
}
