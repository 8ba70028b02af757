//! One value a slot, beside the nodes: what a policy keeps of each entry, and what only some
//! stores need.
//!
//! The first values can be contiguous, for a store with a bound. Beyond them, and in a column
//! made for no bound, values stand in pieces that are made when they are first written, so that
//! a column costs nothing until it is used and grows without copying.

use crate::slot::Slot;

/// Values in a piece.
const PIECE: usize = 1 << 12;

#[derive(Clone, Debug)]
pub(crate) struct Column<T> {
    head: Vec<T>,
    head_capacity: usize,
    tail: Vec<Option<Box<[T]>>>,
}

impl<T: Copy + Default> Column<T> {
    /// A column whose first `capacity` values are contiguous.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { head: Vec::with_capacity(capacity), head_capacity: capacity, tail: Vec::new() }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_empty() && self.tail.is_empty()
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
        let Some(beyond) = slot.index().checked_sub(self.head_capacity) else { return T::default() };
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
            None => Self::place_in_tail(&mut self.tail, slot.index() - self.head_capacity),
        }
    }

    /// Writes the value of `slot`, making its place where it is missing.
    #[inline(always)]
    pub(crate) fn set(&mut self, slot: Slot, value: T) {
        if slot.index() == self.head.len() && slot.index() < self.head_capacity {
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
        match slot.index().checked_sub(self.head_capacity) {
            Some(beyond) => *Self::place_in_tail(&mut self.tail, beyond) = value,
            None => {
                self.head.resize(slot.index(), T::default());
                self.head.push(value);
            }
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
