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

/// The value of a column for a slot in a list: its links, alone or with other data that are used together
/// with them.
pub(crate) trait Linked: Copy + Default {
    fn links(&self) -> Links;
    fn links_mut(&mut self) -> &mut Links;
}

impl Linked for Links {
    #[inline(always)]
    fn links(&self) -> Links {
        *self
    }

    #[inline(always)]
    fn links_mut(&mut self) -> &mut Links {
        self
    }
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
    pub(crate) fn next<L: Linked>(links: &Column<L>, slot: Slot) -> Option<Slot> {
        links.get(slot).links().next.some()
    }

    /// The slots from front to back.
    pub(crate) fn iter<L: Linked>(self, links: &Column<L>) -> impl Iterator<Item = Slot> {
        std::iter::successors(self.front(), |&slot| Self::next(links, slot))
    }

    #[inline(always)]
    pub(crate) fn push_back<L: Linked>(&mut self, links: &mut Column<L>, slot: Slot) {
        let mut place = links.get(slot);
        *place.links_mut() = Links { previous: self.back, next: Slot::NIL };
        links.set(slot, place);
        match self.back.some() {
            Some(back) => links.get_mut(back).links_mut().next = slot,
            None => self.front = slot,
        }
        self.back = slot;
    }

    /// Takes out a slot that is in this list.
    #[inline(always)]
    pub(crate) fn unlink<L: Linked>(&mut self, links: &mut Column<L>, slot: Slot) {
        let Links { previous, next } = links.get(slot).links();
        match previous.some() {
            Some(previous) => links.get_mut(previous).links_mut().next = next,
            None => self.front = next,
        }
        match next.some() {
            Some(next) => links.get_mut(next).links_mut().previous = previous,
            None => self.back = previous,
        }
    }

    /// Moves a slot that is in this list to its end.
    #[inline(always)]
    pub(crate) fn move_to_back<L: Linked>(&mut self, links: &mut Column<L>, slot: Slot) {
        let old_back = self.back;
        if old_back == slot {
            return;
        }
        // Not the last, so there is a next.
        let place = links.get_mut(slot).links_mut();
        let Links { previous, next } = *place;
        *place = Links { previous: old_back, next: Slot::NIL };
        links.get_mut(next).links_mut().previous = previous;
        match previous.some() {
            Some(previous) => links.get_mut(previous).links_mut().next = next,
            None => self.front = next,
        }
        links.get_mut(old_back).links_mut().next = slot;
        self.back = slot;
    }

    /// Puts all of `other` behind this list and leaves `other` empty.
    pub(crate) fn append<L: Linked>(&mut self, links: &mut Column<L>, other: &mut Self) {
        let other = std::mem::take(other);
        match (self.back.some(), other.front.some()) {
            (_, None) => {}
            (None, _) => *self = other,
            (Some(back), Some(front)) => {
                links.get_mut(back).links_mut().next = front;
                links.get_mut(front).links_mut().previous = back;
                self.back = other.back;
            }
        }
    }

    /// Counts the slots and checks every link; `None` where one is wrong.
    pub(crate) fn count<L: Linked>(&self, links: &Column<L>, limit: usize) -> Option<usize> {
        let (mut count, mut previous, mut at) = (0, Slot::NIL, self.front);
        while let Some(slot) = at.some() {
            let found = links.get(slot).links();
            count += 1;
            if found.previous != previous || count > limit {
                return None;
            }
            (previous, at) = (slot, found.next);
        }
        (self.back == previous).then_some(count)
    }
}
