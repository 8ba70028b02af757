//! The hash of an int, without a call into the interpreter if the int is small.
//!
//! An int of one digit is its own hash. Since Python 3.12, such an int can be recognized by its first word.
//! Importing the module checks whether that holds for the running interpreter.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyInt;

/// An int of one digit.
#[repr(C)]
struct OneDigit {
    object: ffi::PyObject,
    /// The sign in the lowest bits (0 for positive, 1 for zero, 2 for negative), then how many digits.
    tag: usize,
    digit: u32,
}

const SIGN: usize = 3;
const BEFORE_COUNT: u32 = 3;

/// Whether ints have the layout of [`OneDigit`].
static LAID_OUT_SO: AtomicBool = AtomicBool::new(false);

/// The hash of an exact int, if no call into the interpreter is needed.
///
/// # Safety
///
/// The object must be one, and the thread attached.
#[inline(always)]
pub(crate) unsafe fn if_quick(int: *mut ffi::PyObject) -> Option<ffi::Py_hash_t> {
    if LAID_OUT_SO.load(Ordering::Relaxed) {
        // SAFETY: the caller's promise; every int has a first digit.
        unsafe { if_one_digit(int) }
    } else {
        None
    }
}

/// # Safety
///
/// As for [`if_quick`], and ints must be laid out as is thought here.
#[inline(always)]
unsafe fn if_one_digit(int: *mut ffi::PyObject) -> Option<ffi::Py_hash_t> {
    let int = int.cast::<OneDigit>();
    // SAFETY: the caller's promise.
    let (tag, digit) = unsafe { ((*int).tag, (*int).digit) };
    if tag >> BEFORE_COUNT > 1 {
        return None;
    }
    #[expect(clippy::cast_possible_wrap, reason = "a digit has 30 bits")]
    let value = (1 - (tag & SIGN).cast_signed()) * digit as isize;
    // -1 stands for an error.
    Some(if value == -1 { -2 } else { value })
}

/// Checks the layout of ints.
pub(crate) fn look(py: Python<'_>) -> PyResult<()> {
    if !cfg!(Py_3_12) || size_of::<usize>() != 8 {
        return Ok(());
    }
    let mut as_thought = true;
    let samples = [0_i64, 1, -1, -2, 7, -300, (1 << 30) - 1, 1 - (1 << 30), 1 << 30, -(1 << 45), i64::MAX];
    for sample in samples {
        let int = PyInt::new(py, sample);
        // SAFETY: every int of these versions has at least these words.
        let guessed = unsafe { if_one_digit(int.as_ptr()) };
        let one_digit = sample.unsigned_abs() < 1 << 30;
        as_thought &= guessed == if one_digit { Some(int.hash()?) } else { None };
    }
    LAID_OUT_SO.store(as_thought, Ordering::Relaxed);
    Ok(())
}
