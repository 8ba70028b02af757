//! A doubly linked list through the states of the entries: no allocation, every step O(1).

use crate::policy::States;
use crate::slot::Slot;

/// The neighbours of an entry in the one list it is in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Links {
    previous: Slot,
    next: Slot,
}

/// A state that can stand in a [`List`].
pub(crate) trait Linked {
    fn links(&self) -> &Links;
    fn links_mut(&mut self) -> &mut Links;
}

impl Linked for Links {
    #[inline]
    fn links(&self) -> &Links {
        self
    }

    #[inline]
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
    #[inline]
    pub(crate) fn front(&self) -> Option<Slot> {
        self.front.some()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.front.is_nil()
    }

    #[inline]
    pub(crate) fn next<S: Linked>(states: &impl States<S>, slot: Slot) -> Option<Slot> {
        states.state(slot).links().next.some()
    }

    #[inline]
    pub(crate) fn push_back<S: Linked>(&mut self, states: &mut impl States<S>, slot: Slot) {
        *states.state_mut(slot).links_mut() = Links { previous: self.back, next: Slot::NIL };
        match self.back.some() {
            Some(back) => states.state_mut(back).links_mut().next = slot,
            None => self.front = slot,
        }
        self.back = slot;
    }

    /// Takes out an entry that is in this list.
    #[inline]
    pub(crate) fn unlink<S: Linked>(&mut self, states: &mut impl States<S>, slot: Slot) {
        let Links { previous, next } = *states.state(slot).links();
        match previous.some() {
            Some(previous) => states.state_mut(previous).links_mut().next = next,
            None => self.front = next,
        }
        match next.some() {
            Some(next) => states.state_mut(next).links_mut().previous = previous,
            None => self.back = previous,
        }
    }

    #[inline]
    pub(crate) fn move_to_back<S: Linked>(&mut self, states: &mut impl States<S>, slot: Slot) {
        if self.back != slot {
            self.unlink(states, slot);
            self.push_back(states, slot);
        }
    }

    /// Puts all of `other` behind this list and leaves `other` empty.
    pub(crate) fn append<S: Linked>(&mut self, states: &mut impl States<S>, other: &mut Self) {
        let other = std::mem::take(other);
        match (self.back.some(), other.front.some()) {
            (_, None) => {}
            (None, _) => *self = other,
            (Some(back), Some(front)) => {
                states.state_mut(back).links_mut().next = front;
                states.state_mut(front).links_mut().previous = back;
                self.back = other.back;
            }
        }
    }

    /// Counts the entries and checks every link; `None` where one is wrong.
    pub(crate) fn count<S: Linked>(&self, states: &impl States<S>, limit: usize) -> Option<usize> {
        let (mut count, mut previous, mut at) = (0, Slot::NIL, self.front);
        while let Some(slot) = at.some() {
            let links = states.state(slot).links();
            count += 1;
            if links.previous != previous || count > limit {
                return None;
            }
            (previous, at) = (slot, links.next);
        }
        (self.back == previous).then_some(count)
    }
}
