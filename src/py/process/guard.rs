//! The lock around data that several threads use.
//!
//! # The rule
//!
//! Inside [`Guard::with`] no Python code runs and no reference is dropped: only reference counts go up,
//! objects are compared by identity or natively, and Rust allocates. Objects that are removed inside are
//! returned to the caller, which drops them.
//!
//! # The lock
//!
//! With a GIL the GIL is the lock: by the rule nothing inside can release it, so all that is left
//! to do is to notice a mistake. Without a GIL it is a plain mutex that is taken while attached:
//! to detach while waiting would mean to attach again while holding it, and a holder could then
//! be stopped by the collector or by fork. By the rule a holder never waits for anything. Before a
//! fork the interpreter waits until every other thread is detached or stopped between two
//! instructions, so a fork finds no thread that has the lock or waits for it.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// The lock is held by another call, and the caller cannot or must not wait.
#[derive(Debug)]
pub(crate) struct Busy;

impl From<Busy> for PyErr {
    fn from(_: Busy) -> Self {
        PyRuntimeError::new_err("this cache was made with thread_safe=False and is in use by another thread")
    }
}

#[cfg(Py_GIL_DISABLED)]
mod lock {
    use super::Busy;
    use pyo3::Python;

    /// A value that one thread at a time may use.
    pub(crate) struct Guard<T> {
        value: parking_lot::Mutex<T>,
        waits: bool,
    }

    /// How often a waiting thread checks whether the lock is free before it sleeps.
    const LOOKS: u32 = 20;
    /// The number of pauses between two checks, each of about ten nanoseconds.
    const PAUSES: u32 = 50;

    /// The value of a [`Guard`], until dropped.
    pub(crate) type Locked<'a, T> = parking_lot::MutexGuard<'a, T>;

    impl<T> Guard<T> {
        /// A guard. With `waits`, calls wait for it; otherwise they fail if they would have to.
        pub(crate) fn new(value: T, waits: bool) -> Self {
            Self { value: parking_lot::Mutex::new(value), waits }
        }

        /// Runs `step` with the value. See the module for what `step` may not do.
        #[inline(always)]
        pub(crate) fn with<R>(&self, py: Python<'_>, step: impl FnOnce(&mut T) -> R) -> Result<R, Busy> {
            self.lock(py).map(|mut value| step(&mut value))
        }

        /// [`with`](Self::with) as a guard object, for calls that must be inlined.
        #[inline(always)]
        pub(crate) fn lock<'a>(&'a self, _py: Python<'a>) -> Result<Locked<'a, T>, Busy> {
            match self.value.try_lock() {
                Some(value) => Ok(value),
                None if self.waits => Ok(self.wait()),
                None => Err(Busy),
            }
        }

        /// Waits for the lock. What it guards has to move from one core to another each time that another thread takes it, so a
        /// thread that finds it taken stays away for the time of some calls.
        #[inline(never)]
        fn wait(&self) -> Locked<'_, T> {
            for _ in 0..LOOKS {
                (0..PAUSES).for_each(|_| std::hint::spin_loop());
                if let Some(value) = self.value.try_lock() {
                    return value;
                }
            }
            self.value.lock()
        }

        /// [`lock`](Self::lock), unless the value is in use.
        #[inline(always)]
        pub(crate) fn try_lock<'a>(&'a self, _py: Python<'a>) -> Result<Locked<'a, T>, Busy> {
            self.value.try_lock().ok_or(Busy)
        }

        /// Runs `step` unless the value is in use.
        #[inline(always)]
        pub(crate) fn try_with<R>(&self, _py: Python<'_>, step: impl FnOnce(&mut T) -> R) -> Result<R, Busy> {
            self.value.try_lock().map(|mut value| step(&mut value)).ok_or(Busy)
        }

        pub(crate) fn get_mut(&mut self) -> &mut T {
            self.value.get_mut()
        }
    }
}

#[cfg(not(Py_GIL_DISABLED))]
mod lock {
    use std::cell::{Cell, UnsafeCell};
    use std::ops::{Deref, DerefMut};

    use super::Busy;
    use pyo3::Python;

    /// A value that one thread at a time may use: the one that holds the GIL.
    pub(crate) struct Guard<T> {
        value: UnsafeCell<T>,
        busy: Cell<bool>,
    }

    // SAFETY: `value` and `busy` are touched only by a thread that holds the GIL, as the token that every
    // call takes proves. `busy` rejects a second call, such as that of a thread that got the GIL because a
    // step let go of it.
    unsafe impl<T: Send> Sync for Guard<T> {}

    /// The value of a [`Guard`], until dropped. It does not leave its thread, as the token does not.
    pub(crate) struct Locked<'a, T> {
        guard: &'a Guard<T>,
        _py: Python<'a>,
    }

    impl<T> Deref for Locked<'_, T> {
        type Target = T;

        #[inline(always)]
        fn deref(&self) -> &T {
            // SAFETY: the GIL is held, and `busy` was false, so no other reference exists.
            unsafe { &*self.guard.value.get() }
        }
    }

    impl<T> DerefMut for Locked<'_, T> {
        #[inline(always)]
        fn deref_mut(&mut self) -> &mut T {
            // SAFETY: as for `deref`.
            unsafe { &mut *self.guard.value.get() }
        }
    }

    impl<T> Drop for Locked<'_, T> {
        #[inline(always)]
        fn drop(&mut self) {
            self.guard.busy.set(false);
        }
    }

    impl<T> Guard<T> {
        /// A guard. With a GIL, calls never have to wait.
        pub(crate) fn new(value: T, _waits: bool) -> Self {
            Self { value: UnsafeCell::new(value), busy: Cell::new(false) }
        }

        /// Runs `step` with the value. See the module for what `step` may not do.
        #[inline(always)]
        pub(crate) fn with<R>(&self, py: Python<'_>, step: impl FnOnce(&mut T) -> R) -> Result<R, Busy> {
            self.try_with(py, step)
        }

        /// Runs `step` unless the value is in use.
        #[inline(always)]
        pub(crate) fn try_with<R>(&self, py: Python<'_>, step: impl FnOnce(&mut T) -> R) -> Result<R, Busy> {
            self.lock(py).map(|mut value| step(&mut value))
        }

        /// [`with`](Self::with) as a guard object, for calls that must be inlined.
        #[inline(always)]
        pub(crate) fn lock<'a>(&'a self, py: Python<'a>) -> Result<Locked<'a, T>, Busy> {
            if self.busy.replace(true) { Err(Busy) } else { Ok(Locked { guard: self, _py: py }) }
        }

        pub(crate) fn get_mut(&mut self) -> &mut T {
            self.value.get_mut()
        }
    }
}

pub(crate) use lock::{Guard, Locked};
