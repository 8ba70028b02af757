//! The lock around a store, and lookups that never run Python code inside it.
//!
//! # The rule
//!
//! Inside [`Guard::with`] no Python code runs and no reference is dropped: only reference counts
//! go up, objects are compared by identity or natively, and Rust allocates. What leaves the store
//! is carried out and dropped by the caller.
//!
//! # The lock
//!
//! With a GIL the GIL is the lock: by the rule nothing inside can release it, so all that is left
//! to do is to notice a mistake. Without a GIL it is a plain mutex that is taken while attached:
//! to detach while waiting would mean to attach again while holding it, and a holder could then
//! be stopped by the collector or by fork. By the rule a holder never waits for anything.
//!
//! # Lookup
//!
//! Where only Python can say whether two keys are equal, the stored keys in question are borrowed,
//! the lock is left, Python is asked, and the lookup starts over with the answers at hand. Since
//! the answers hold references to the keys they are about, an address means the same object both
//! times. What is to be done with the slot is done in the same locked section that found it, so
//! no two equal keys can get in.

use flexcache_core::Slot;
use hashbrown::HashMap;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::engine::Engine;
use super::key::native_eq;
use super::running_python;

/// Lookups that had to start over this often, because others kept adding keys with the same
/// hash, give up.
const MOST_PASSES: usize = 1000;

/// So many answers are found faster by looking through them than by hashing.
const FEW_ANSWERS: usize = 16;

/// The lock was taken where that cannot be, or must not be waited for.
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

    impl<T> Guard<T> {
        /// A guard that waits for its turn, or (`waits` false) fails where it would have to.
        pub(crate) fn new(value: T, waits: bool) -> Self {
            Self { value: parking_lot::Mutex::new(value), waits }
        }

        /// Runs `step` with the value. See the module for what `step` may not do.
        #[inline(always)]
        pub(crate) fn with<R>(&self, py: Python<'_>, step: impl FnOnce(&mut T) -> R) -> Result<R, Busy> {
            if self.waits { Ok(step(&mut self.value.lock())) } else { self.try_with(py, step) }
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

    use super::Busy;
    use pyo3::Python;

    /// A value that one thread at a time may use: the one that holds the GIL.
    pub(crate) struct Guard<T> {
        value: UnsafeCell<T>,
        busy: Cell<bool>,
    }

    // SAFETY: `value` and `busy` are touched only by a thread that holds the GIL, as the token
    // that every call takes proves. `busy` turns away whoever comes in a second time, such as a
    // thread that got the GIL because a step let go of it.
    unsafe impl<T: Send> Sync for Guard<T> {}

    struct Leave<'a>(&'a Cell<bool>);

    impl Drop for Leave<'_> {
        #[inline]
        fn drop(&mut self) {
            self.0.set(false);
        }
    }

    impl<T> Guard<T> {
        /// A guard; there is never anything to wait for.
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
        pub(crate) fn try_with<R>(&self, _py: Python<'_>, step: impl FnOnce(&mut T) -> R) -> Result<R, Busy> {
            if self.busy.replace(true) {
                return Err(Busy);
            }
            let _leave = Leave(&self.busy);
            // SAFETY: the GIL is held, and `busy` was false, so no other reference exists.
            Ok(step(unsafe { &mut *self.value.get() }))
        }

        pub(crate) fn get_mut(&mut self) -> &mut T {
            self.value.get_mut()
        }
    }
}

pub(crate) use lock::Guard;

/// The stores of a cache: one, or several among which the keys are divided by hash.
pub(crate) struct Shards {
    first: Guard<Engine>,
    rest: Box<[Guard<Engine>]>,
}

impl Shards {
    pub(crate) fn new(mut engines: impl Iterator<Item = Engine>, first: Engine, waits: bool) -> Self {
        Self {
            first: Guard::new(first, waits),
            rest: engines.by_ref().map(|engine| Guard::new(engine, waits)).collect(),
        }
    }

    #[inline(always)]
    pub(crate) fn of(&self, hash: u64) -> &Guard<Engine> {
        if self.rest.is_empty() {
            return &self.first;
        }
        // These bits are used neither to choose a bucket nor to choose a segment, in a table of
        // any size that fits in memory.
        let shard = ((hash >> 46) % (self.rest.len() as u64 + 1)) as usize;
        if shard == 0 { &self.first } else { &self.rest[shard - 1] }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Guard<Engine>> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Guard<Engine>> {
        std::iter::once(&mut self.first).chain(&mut self.rest)
    }

    pub(crate) fn len(&self) -> usize {
        self.rest.len() + 1
    }

    /// Finds `key` and runs `step` with what was found, in one locked section.
    ///
    /// # Errors
    ///
    /// What `__eq__` raises; nothing has changed then.
    #[inline]
    pub(crate) fn find<R>(
        &self,
        key: &Borrowed<'_, '_, PyAny>,
        hash: u64,
        step: impl FnOnce(&mut Engine, Option<Slot>) -> R,
    ) -> PyResult<R> {
        let shard = self.of(hash);
        let mut step = Some(step);
        let done = shard.with(key.py(), |engine| {
            let found = engine.find(hash, |stored| native_eq(stored, key).ok_or(())).ok()?;
            step.take().map(|step| step(engine, found))
        })?;
        match (done, step) {
            (Some(result), _) => Ok(result),
            (None, Some(step)) => find_asking_python(shard, key, hash, step),
            (None, None) => unreachable!("a step that was taken has a result"),
        }
    }
}

#[cold]
fn find_asking_python<R>(
    shard: &Guard<Engine>,
    key: &Borrowed<'_, '_, PyAny>,
    hash: u64,
    step: impl FnOnce(&mut Engine, Option<Slot>) -> R,
) -> PyResult<R> {
    let py = key.py();
    let mut step = Some(step);
    let mut answers = Answers::default();
    for _ in 0..MOST_PASSES {
        let mut unknown = Vec::new();
        let done = shard.with(py, |engine| {
            let found = engine.find(hash, |stored| {
                let equal = native_eq(stored, key).or_else(|| answers.about(stored));
                if equal.is_none() {
                    unknown.push(stored.clone_ref(py));
                }
                Ok::<_, ()>(equal.unwrap_or(false))
            });
            match found {
                Ok(found) if found.is_some() || unknown.is_empty() => {
                    step.take().map(|step| step(engine, found))
                }
                _ => None,
            }
        })?;
        if let Some(result) = done {
            return Ok(result);
        }
        for stored in unknown {
            let equal = running_python::eq(stored.bind(py), key)?;
            answers.add(stored, equal);
            if equal {
                break;
            }
        }
    }
    Err(PyRuntimeError::new_err(format!(
        "gave up after {MOST_PASSES} lookups of one key, during each of which keys with the same hash were added"
    )))
}

/// What Python said about stored keys, each kept alive.
#[derive(Default)]
struct Answers {
    list: Vec<(Py<PyAny>, bool)>,
    by_address: HashMap<usize, bool, std::hash::RandomState>,
}

impl Answers {
    fn about(&self, stored: &Py<PyAny>) -> Option<bool> {
        if self.by_address.is_empty() {
            return self.list.iter().find(|(known, _)| known.is(stored)).map(|&(_, equal)| equal);
        }
        self.by_address.get(&(stored.as_ptr() as usize)).copied()
    }

    fn add(&mut self, stored: Py<PyAny>, equal: bool) {
        self.list.push((stored, equal));
        if self.list.len() == FEW_ANSWERS {
            self.by_address =
                self.list.iter().map(|(known, equal)| (known.as_ptr() as usize, *equal)).collect();
        } else if let Some((known, equal)) = self.list.last().filter(|_| self.list.len() > FEW_ANSWERS) {
            self.by_address.insert(known.as_ptr() as usize, *equal);
        }
    }
}
