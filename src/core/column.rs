//! One value a slot, beside the nodes: what a policy keeps of each entry, and what only some
//! stores need.
//!
//! The first values can be contiguous, for a store with a bound: they double as slots are used. Beyond them,
//! and in a column without a bound, values are in pieces that are made when they are first written, so that
//! a column costs nothing until it is used and grows without copying.

use crate::memory::{OutOfMemory, TryClone, copied, filled, grown};
use crate::slot::Slot;

/// Values in a piece.
const PIECE: usize = 1 << 12;

#[derive(Debug)]
pub(crate) struct Column<T> {
    head: Vec<T>,
    /// The most values of the head.
    contiguous: usize,
    tail: Vec<Option<Box<[T]>>>,
}

impl<T: Copy + Default> Column<T> {
    /// An empty column, whose first `capacity` values will be contiguous. Allocates nothing.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { head: Vec::new(), contiguous: capacity, tail: Vec::new() }
    }

    /// The value of `slot`, or the default where none was written.
    #[inline(always)]
    pub(crate) fn get(&self, slot: Slot) -> T {
        match self.head.get(slot.index()) {
            Some(value) => *value,
            None => self.get_in_tail(slot),
        }
    }

    #[inline]
    fn get_in_tail(&self, slot: Slot) -> T {
        let Some(beyond) = slot.index().checked_sub(self.contiguous) else { return T::default() };
        match self.tail.get(beyond / PIECE) {
            Some(Some(piece)) => piece[beyond % PIECE],
            _ => T::default(),
        }
    }

    /// The place of `slot`, which was written before.
    #[inline(always)]
    pub(crate) fn get_mut(&mut self, slot: Slot) -> &mut T {
        match self.head.get_mut(slot.index()) {
            Some(value) => value,
            None => Self::place_in_tail(&mut self.tail, slot.index() - self.contiguous),
        }
    }

    /// Whether `slot` has a place.
    #[inline(always)]
    pub(crate) fn has_place(&self, slot: Slot) -> bool {
        slot.index() < self.head.len()
            || slot
                .index()
                .checked_sub(self.contiguous)
                .is_some_and(|beyond| matches!(self.tail.get(beyond / PIECE), Some(Some(_))))
    }

    /// Makes the place of `slot`, so that [`set`](Self::set) allocates nothing. O(1), over many calls.
    #[inline(always)]
    pub(crate) fn try_reserve(&mut self, slot: Slot) -> Result<(), OutOfMemory> {
        if slot.index() < self.head.len() { Ok(()) } else { self.try_reserve_beyond(slot) }
    }

    #[inline(never)]
    fn try_reserve_beyond(&mut self, slot: Slot) -> Result<(), OutOfMemory> {
        let Some(beyond) = slot.index().checked_sub(self.contiguous) else {
            if slot.index() >= self.head.capacity() {
                let wanted = grown(self.head.capacity(), slot.index() + 1, self.contiguous);
                self.head.try_reserve_exact(wanted - self.head.len())?;
            }
            return Ok(());
        };
        let at = beyond / PIECE;
        if self.tail.len() <= at {
            self.tail.try_reserve(at + 1 - self.tail.len())?;
            self.tail.resize_with(at + 1, || None);
        }
        if self.tail[at].is_none() {
            self.tail[at] = Some(filled(T::default(), PIECE)?);
        }
        Ok(())
    }

    /// Writes the value of `slot`, making its place where it is missing.
    #[inline(always)]
    pub(crate) fn set(&mut self, slot: Slot, value: T) {
        if slot.index() == self.head.len() && slot.index() < self.contiguous {
            self.head.push(value);
            return;
        }
        match self.head.get_mut(slot.index()) {
            Some(place) => *place = value,
            None => self.set_beyond(slot, value),
        }
    }

    #[inline(never)]
    fn set_beyond(&mut self, slot: Slot, value: T) {
        match slot.index().checked_sub(self.contiguous) {
            Some(beyond) => *Self::place_in_tail(&mut self.tail, beyond) = value,
            None => {
                self.head.resize(slot.index(), T::default());
                self.head.push(value);
            }
        }
    }

    /// Writes the default where another value may have been written.
    #[inline]
    pub(crate) fn reset(&mut self, slot: Slot) {
        if let Some(value) = self.head.get_mut(slot.index()) {
            *value = T::default();
        } else if let Some(beyond) = slot.index().checked_sub(self.contiguous)
            && let Some(Some(piece)) = self.tail.get_mut(beyond / PIECE)
        {
            piece[beyond % PIECE] = T::default();
        }
    }

    #[inline]
    fn place_in_tail(tail: &mut Vec<Option<Box<[T]>>>, beyond: usize) -> &mut T {
        let at = beyond / PIECE;
        if tail.len() <= at {
            tail.resize_with(at + 1, || None);
        }
        let piece = tail[at].get_or_insert_with(|| vec![T::default(); PIECE].into_boxed_slice());
        &mut piece[beyond % PIECE]
    }

    pub(crate) fn allocated_bytes(&self) -> usize {
        self.head.capacity() * size_of::<T>()
            + self.tail.capacity() * size_of::<Option<Box<[T]>>>()
            + self.tail.iter().flatten().count() * PIECE * size_of::<T>()
    }
}

impl<T: Copy> TryClone for Column<T> {
    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        let mut tail = Vec::new();
        tail.try_reserve_exact(self.tail.len())?;
        for piece in &self.tail {
            tail.push(match piece {
                Some(piece) => Some(copied(piece)?.into_boxed_slice()),
                None => None,
            });
        }
        Ok(Self { head: copied(&self.head)?, contiguous: self.contiguous, tail })
    }
}
