//! Allocation that can fail. Everything whose size depends on what is stored, or on an argument, is
//! allocated through these, so that a lack of memory is an error and not the end of the process.

use std::collections::TryReserveError;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// Memory could not be allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory could not be allocated")
    }
}

impl std::error::Error for OutOfMemory {}

impl From<TryReserveError> for OutOfMemory {
    fn from(_: TryReserveError) -> Self {
        Self
    }
}

impl From<hashbrown::TryReserveError> for OutOfMemory {
    fn from(_: hashbrown::TryReserveError) -> Self {
        Self
    }
}

/// A type whose values can be copied fallibly.
pub trait TryClone: Sized {
    /// Copies the value.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`].
    fn try_clone(&self) -> Result<Self, OutOfMemory>;
}

impl<T: TryClone> TryClone for Option<T> {
    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        self.as_ref().map(T::try_clone).transpose()
    }
}

/// `len` copies of a value.
pub(crate) fn filled<T: Copy>(value: T, len: usize) -> Result<Box<[T]>, OutOfMemory> {
    let mut values = Vec::new();
    values.try_reserve_exact(len)?;
    values.resize(len, value);
    Ok(values.into_boxed_slice())
}

/// A copy of values.
pub(crate) fn copied<T: Copy>(values: &[T]) -> Result<Vec<T>, OutOfMemory> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(values.len())?;
    copy.extend_from_slice(values);
    Ok(copy)
}

/// A copy of a text.
pub(crate) fn copied_str(text: &str) -> Result<Box<str>, OutOfMemory> {
    let mut copy = String::new();
    copy.try_reserve_exact(text.len())?;
    copy.push_str(text);
    Ok(copy.into_boxed_str())
}

/// The capacity to grow to, from a capacity that is too small: twice as much, but no more than `most`.
pub(crate) fn grown(capacity: usize, needed: usize, most: usize) -> usize {
    needed.max(capacity.saturating_mul(2)).min(most)
}

/// A box that can be made fallibly.
#[derive(Debug)]
pub struct TryBox<T>(Box<[T; 1]>);

impl<T> TryBox<T> {
    /// Moves a value into a box.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]; the value is dropped.
    pub fn new(value: T) -> Result<Self, OutOfMemory> {
        let mut place = Vec::new();
        place.try_reserve_exact(1)?;
        place.push(value);
        place.into_boxed_slice().try_into().map(Self).map_err(|_| OutOfMemory)
    }
}

impl<T> Deref for TryBox<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0[0]
    }
}

impl<T> DerefMut for TryBox<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0[0]
    }
}

impl<T: TryClone> TryClone for TryBox<T> {
    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        Self::new((**self).try_clone()?)
    }
}
