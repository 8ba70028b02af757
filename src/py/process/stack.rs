//! The part of a thread's stack that is left.
//!
//! Code of the user's that native code calls may come back to native code, which takes more of the stack each time.
//! The interpreter's own limits do not see how much: before Python 3.12 it counts calls, and a program may set the
//! limit as high as it likes; 3.12 and 3.13 count calls from native code, up to 10,000, as if each took less than a
//! kilobyte. So we look at the stack itself, as Python 3.14 does.

use std::cell::Cell;
use std::hint::black_box;

use pyo3::exceptions::PyRecursionError;
use pyo3::prelude::*;

/// For whom a stack has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// A call that may nest. Half of the reserve is left for what follows when it has ended.
    Nested,
    /// A call by which something ends, or which is like any other.
    Any,
}

/// So many bytes are kept back, or half of the stack where that is less.
const RESERVE: usize = 256 << 10;

/// A thread's stack, as far as it is known.
#[derive(Clone, Copy)]
struct Stack {
    /// Below this there is no room for a call that may nest. The largest number where the stack is not known yet.
    limit: usize,
    /// Below this there is none for any call.
    last: usize,
    low: usize,
}

thread_local! {
    static STACK: Cell<Stack> = const { Cell::new(Stack { limit: usize::MAX, last: 0, low: 0 }) };
}

/// Makes sure that there is room for a call.
///
/// # Errors
///
/// `RecursionError`.
#[inline]
pub(crate) fn check(call: Call) -> PyResult<()> {
    let here = 0_u8;
    let here = black_box(&raw const here).addr();
    if STACK.get().limit <= here { Ok(()) } else { check_closely(here, call) }
}

#[cold]
#[inline(never)]
fn check_closely(here: usize, call: Call) -> PyResult<()> {
    if STACK.get().limit == usize::MAX {
        STACK.set(bounds().map_or(Stack { limit: 0, last: 0, low: 0 }, |(low, size)| {
            let reserve = RESERVE.min(size / 2);
            Stack { limit: low + reserve, last: low + reserve / 2, low }
        }));
    }
    let stack = STACK.get();
    let limit = if call == Call::Nested { stack.limit } else { stack.last };
    // Below the stack: this is another stack, which somebody has switched to.
    if here >= limit || here < stack.low {
        return Ok(());
    }
    Err(PyRecursionError::new_err(
        "maximum recursion depth exceeded: the stack of this thread has no room for another call",
    ))
}

/// Whether so many bytes of the stack are left, as far as it is known.
pub(crate) fn has_room(bytes: usize) -> bool {
    let here = 0_u8;
    let here = black_box(&raw const here).addr();
    // Makes the stack known. What it says of another call is no matter here.
    let _ = check_closely(here, Call::Any);
    let low = STACK.get().low;
    here < low || here - low >= bytes
}

/// The lowest address of this thread's stack and its size.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn bounds() -> Option<(usize, usize)> {
    let (mut low, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: the attributes are initialized by the first call, read by the second, and destroyed by the third.
    unsafe {
        let mut attributes = std::mem::MaybeUninit::uninit();
        if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
            return None;
        }
        let read = libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut low, &raw mut size);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        if read != 0 {
            return None;
        }
    }
    Some((low.addr(), size))
}

/// The lowest address of this thread's stack and its size.
#[cfg(target_os = "macos")]
fn bounds() -> Option<(usize, usize)> {
    // SAFETY: both only read what the thread was made with.
    let (high, size) = unsafe {
        let thread = libc::pthread_self();
        (libc::pthread_get_stackaddr_np(thread).addr(), libc::pthread_get_stacksize_np(thread))
    };
    Some((high.checked_sub(size)?, size))
}

/// The lowest address of this thread's stack and its size.
#[cfg(windows)]
fn bounds() -> Option<(usize, usize)> {
    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn GetCurrentThreadStackLimits(low: *mut usize, high: *mut usize);
    }
    let (mut low, mut high) = (0, 0);
    // SAFETY: writes two numbers, for which there is room.
    unsafe { GetCurrentThreadStackLimits(&raw mut low, &raw mut high) };
    Some((low, high.checked_sub(low)?))
}

/// Elsewhere nothing is known; the interpreter's limits are all there is. musl tells of the main thread's stack how much is
/// in use now.
#[cfg(not(any(all(target_os = "linux", target_env = "gnu"), target_os = "macos", windows)))]
fn bounds() -> Option<(usize, usize)> {
    None
}
