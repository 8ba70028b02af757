//! One value for each slot, kept beside the nodes: data of a policy, or data that only some stores need.
//!
//! The first values can be contiguous, for a store with a bound: they double as slots are used. Beyond them,
//! and in a column without a bound, values are in pieces that are made when they are first written, so that a
//! column costs nothing until it is used, and grows without copying.

use std::alloc::{Layout, handle_alloc_error};

use crate::memory::{OutOfMemory, TryBox, TryClone, copied, filled, grown};
use crate::slot::Slot;

/// Values in a piece.
const PIECE: usize = 1 << 12;

type Pieces<T> = Vec<Option<Box<[T]>>>;

/// A column itself is small, since even a cache of one entry has several.
#[derive(Debug)]
pub(crate) struct Column<T> {
    head: Vec<T>,
    /// Made with the first piece.
    tail: Option<TryBox<Pieces<T>>>,
    /// The most values of the head.
    contiguous: u32,
}

impl<T: Copy + Default> Column<T> {
    /// An empty column, whose first `capacity` values will be contiguous. Allocates nothing.
    pub(crate) fn new(capacity: usize) -> Self {
        let contiguous = u32::try_from(capacity).unwrap_or(u32::MAX);
        Self { head: Vec::new(), tail: None, contiguous }
    }

    /// The most values of the head.
    #[inline(always)]
    fn contiguous(&self) -> usize {
        self.contiguous as usize
    }

    /// The place of a slot in the tail, if it is beyond the head.
    #[inline]
    fn beyond(&self, slot: Slot) -> Option<usize> {
        slot.index().checked_sub(self.contiguous())
    }

    fn piece(&self, at: usize) -> Option<&[T]> {
        self.tail.as_ref()?.get(at)?.as_deref()
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
        let Some(beyond) = self.beyond(slot) else { return T::default() };
        self.piece(beyond / PIECE).map_or_else(T::default, |piece| piece[beyond % PIECE])
    }

    /// The place of `slot`, which was written before.
    #[inline(always)]
    pub(crate) fn get_mut(&mut self, slot: Slot) -> &mut T {
        match self.head.get_mut(slot.index()) {
            Some(value) => value,
            None => Self::place_in_tail(&mut self.tail, slot.index() - self.contiguous as usize),
        }
    }

    /// Whether `slot` has a place.
    #[inline(always)]
    pub(crate) fn has_place(&self, slot: Slot) -> bool {
        slot.index() < self.head.len()
            || self.beyond(slot).is_some_and(|beyond| self.piece(beyond / PIECE).is_some())
    }

    /// Makes a place for `slot`, so that [`set`](Self::set) allocates nothing. Amortized O(1).
    #[inline(always)]
    pub(crate) fn try_reserve(&mut self, slot: Slot) -> Result<(), OutOfMemory> {
        if slot.index() < self.head.len() { Ok(()) } else { self.try_reserve_beyond(slot) }
    }

    #[inline(never)]
    fn try_reserve_beyond(&mut self, slot: Slot) -> Result<(), OutOfMemory> {
        let Some(beyond) = self.beyond(slot) else {
            if slot.index() >= self.head.capacity() {
                let wanted = grown(self.head.capacity(), slot.index() + 1, self.contiguous());
                self.head.try_reserve_exact(wanted - self.head.len())?;
            }
            return Ok(());
        };
        let at = beyond / PIECE;
        let tail = match &mut self.tail {
            Some(tail) => tail,
            none => none.insert(TryBox::new(Pieces::new())?),
        };
        if tail.len() <= at {
            let missing = at + 1 - tail.len();
            tail.try_reserve(missing)?;
            tail.resize_with(at + 1, || None);
        }
        if tail[at].is_none() {
            tail[at] = Some(filled(T::default(), PIECE)?);
        }
        Ok(())
    }

    /// Writes the value of `slot`, and makes its place if it is missing.
    #[inline(always)]
    pub(crate) fn set(&mut self, slot: Slot, value: T) {
        if slot.index() == self.head.len() && slot.index() < self.contiguous() {
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
        match self.beyond(slot) {
            Some(beyond) => *Self::place_in_tail(&mut self.tail, beyond) = value,
            None => {
                self.head.resize(slot.index(), T::default());
                self.head.push(value);
            }
        }
    }

    /// Resets the value of `slot` to the default.
    #[inline]
    pub(crate) fn reset(&mut self, slot: Slot) {
        if let Some(value) = self.head.get_mut(slot.index()) {
            *value = T::default();
        } else if let Some(beyond) = self.beyond(slot)
            && let Some(tail) = &mut self.tail
            && let Some(Some(piece)) = tail.get_mut(beyond / PIECE)
        {
            piece[beyond % PIECE] = T::default();
        }
    }

    #[inline]
    fn place_in_tail(tail: &mut Option<TryBox<Pieces<T>>>, beyond: usize) -> &mut T {
        let at = beyond / PIECE;
        let tail = tail.get_or_insert_with(|| match TryBox::new(Pieces::new()) {
            Ok(tail) => tail,
            Err(OutOfMemory) => handle_alloc_error(Layout::new::<Pieces<T>>()),
        });
        if tail.len() <= at {
            tail.resize_with(at + 1, || None);
        }
        let piece = tail[at].get_or_insert_with(|| vec![T::default(); PIECE].into_boxed_slice());
        &mut piece[beyond % PIECE]
    }

    pub(crate) fn allocated_bytes(&self) -> usize {
        let of_tail = |tail: &TryBox<Pieces<T>>| {
            size_of::<Pieces<T>>()
                + tail.capacity() * size_of::<Option<Box<[T]>>>()
                + tail.iter().flatten().count() * PIECE * size_of::<T>()
        };
        self.head.capacity() * size_of::<T>() + self.tail.as_ref().map_or(0, of_tail)
    }
}

impl<T: Copy> TryClone for Column<T> {
    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        let mut tail = None;
        if let Some(pieces) = &self.tail {
            let mut copy = Pieces::new();
            copy.try_reserve_exact(pieces.len())?;
            for piece in pieces.iter() {
                copy.push(match piece {
                    Some(piece) => Some(copied(piece)?.into_boxed_slice()),
                    None => None,
                });
            }
            tail = Some(TryBox::new(copy)?);
        }
        Ok(Self { head: copied(&self.head)?, contiguous: self.contiguous, tail })
    }
}
