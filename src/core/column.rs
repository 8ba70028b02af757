//! One value a slot, beside the nodes, for what only some stores need.
//!
//! A column costs nothing until a slot is written, and grows piece by piece.

use crate::slot::Slot;

/// Values in a piece.
const PIECE: usize = 1 << 12;

#[derive(Clone, Debug, Default)]
pub(crate) struct Column<T> {
    pieces: Vec<Option<Box<[T]>>>,
}

impl<T: Copy + Default> Column<T> {
    pub(crate) const fn new() -> Self {
        Self { pieces: Vec::new() }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The value of `slot`, or the default where none was written.
    #[inline]
    pub(crate) fn get(&self, slot: Slot) -> T {
        match self.pieces.get(slot.index() / PIECE) {
            Some(Some(piece)) => piece[slot.index() % PIECE],
            _ => T::default(),
        }
    }

    /// The place of `slot`, which was written before.
    #[inline]
    pub(crate) fn get_ref(&self, slot: Slot) -> &T {
        match &self.pieces[slot.index() / PIECE] {
            Some(piece) => &piece[slot.index() % PIECE],
            None => unreachable!("{slot:?} was never written"),
        }
    }

    /// The place of `slot`, made where it is missing.
    #[inline]
    pub(crate) fn get_mut(&mut self, slot: Slot) -> &mut T {
        let at = slot.index() / PIECE;
        if self.pieces.len() <= at {
            self.pieces.resize_with(at + 1, || None);
        }
        let piece = self.pieces[at].get_or_insert_with(|| vec![T::default(); PIECE].into_boxed_slice());
        &mut piece[slot.index() % PIECE]
    }

    pub(crate) fn allocated_bytes(&self) -> usize {
        self.pieces.capacity() * size_of::<Option<Box<[T]>>>()
            + self.pieces.iter().flatten().count() * PIECE * size_of::<T>()
    }
}
