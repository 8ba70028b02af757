//! Least recently used: a list with the coldest entry in front. A hit moves its entry to the back.

use super::{Policy, States};
use crate::list::{Links, List};
use crate::slot::Slot;

/// Evicts the entry that was not read or replaced for the longest time.
#[derive(Clone, Debug)]
pub struct Lru {
    list: List,
}

impl Policy for Lru {
    type State = Links;

    fn new(_seed: u64) -> Self {
        Self { list: List::default() }
    }

    #[inline]
    fn on_insert(&mut self, states: &mut impl States<Links>, slot: Slot) {
        self.list.push_back(states, slot);
    }

    #[inline]
    fn on_access(&mut self, states: &mut impl States<Links>, slot: Slot) {
        self.list.move_to_back(states, slot);
    }

    #[inline]
    fn on_remove(&mut self, states: &mut impl States<Links>, slot: Slot) {
        self.list.unlink(states, slot);
    }

    #[inline]
    fn victim(&self, _states: &impl States<Links>) -> Option<Slot> {
        self.list.front()
    }

    fn after(&self, states: &impl States<Links>, slot: Slot) -> Option<Slot> {
        List::next(states, slot)
    }

    fn check(&self, states: &impl States<Links>, len: usize) -> Result<(), String> {
        match self.list.count(states, len) {
            Some(count) if count == len => Ok(()),
            counted => Err(format!("the list holds {counted:?} of {len} entries")),
        }
    }
}
