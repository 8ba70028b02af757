//! Doubly linked lists through a column: no allocation, every step O(1). Several lists may share
//! one column, where no slot is in two of them.

use crate::column::Column;
use crate::slot::Slot;

/// The neighbours of a slot in the list it is in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Links {
    previous: Slot,
    next: Slot,
}

/// The two ends of a list.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct List {
    front: Slot,
    back: Slot,
}

impl List {
    #[inline(always)]
    pub(crate) fn front(&self) -> Option<Slot> {
        self.front.some()
    }

    pub(crate) fn back(&self) -> Option<Slot> {
        self.back.some()
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.front.is_nil()
    }

    #[inline(always)]
    pub(crate) fn next(links: &Column<Links>, slot: Slot) -> Option<Slot> {
        links.get(slot).next.some()
    }

    /// The slots from front to back.
    pub(crate) fn iter(self, links: &Column<Links>) -> impl Iterator<Item = Slot> {
        std::iter::successors(self.front(), |&slot| Self::next(links, slot))
    }

    #[inline(always)]
    pub(crate) fn push_back(&mut self, links: &mut Column<Links>, slot: Slot) {
        links.set(slot, Links { previous: self.back, next: Slot::NIL });
        match self.back.some() {
            Some(back) => links.get_mut(back).next = slot,
            None => self.front = slot,
        }
        self.back = slot;
    }

    /// Takes out a slot that is in this list.
    #[inline(always)]
    pub(crate) fn unlink(&mut self, links: &mut Column<Links>, slot: Slot) {
        let Links { previous, next } = links.get(slot);
        match previous.some() {
            Some(previous) => links.get_mut(previous).next = next,
            None => self.front = next,
        }
        match next.some() {
            Some(next) => links.get_mut(next).previous = previous,
            None => self.back = previous,
        }
    }

    /// Moves a slot that is in this list to its end.
    #[inline(always)]
    pub(crate) fn move_to_back(&mut self, links: &mut Column<Links>, slot: Slot) {
        let old_back = self.back;
        if old_back == slot {
            return;
        }
        // Not the last, so there is a next.
        let place = links.get_mut(slot);
        let Links { previous, next } = *place;
        *place = Links { previous: old_back, next: Slot::NIL };
        links.get_mut(next).previous = previous;
        match previous.some() {
            Some(previous) => links.get_mut(previous).next = next,
            None => self.front = next,
        }
        links.get_mut(old_back).next = slot;
        self.back = slot;
    }

    /// Puts all of `other` behind this list and leaves `other` empty.
    pub(crate) fn append(&mut self, links: &mut Column<Links>, other: &mut Self) {
        let other = std::mem::take(other);
        match (self.back.some(), other.front.some()) {
            (_, None) => {}
            (None, _) => *self = other,
            (Some(back), Some(front)) => {
                links.get_mut(back).next = front;
                links.get_mut(front).previous = back;
                self.back = other.back;
            }
        }
    }

    /// Counts the slots and checks every link; `None` where one is wrong.
    pub(crate) fn count(&self, links: &Column<Links>, limit: usize) -> Option<usize> {
        let (mut count, mut previous, mut at) = (0, Slot::NIL, self.front);
        while let Some(slot) = at.some() {
            let found = links.get(slot);
            count += 1;
            if found.previous != previous || count > limit {
                return None;
            }
            (previous, at) = (slot, found.next);
        }
        (self.back == previous).then_some(count)
    }
}
