//! First in, first out: a list in order of insertion. A hit changes nothing.

use super::{Lru, Policy, States};
use crate::list::Links;
use crate::slot::Slot;

/// Evicts the entry that was inserted first; replacing a value does not make its entry newer.
#[derive(Clone, Debug)]
pub struct Fifo {
    /// The same list as least-recently-used keeps; only accesses do not reach it.
    order: Lru,
}

impl Policy for Fifo {
    type State = Links;

    fn new(seed: u64) -> Self {
        Self { order: Lru::new(seed) }
    }

    #[inline]
    fn on_insert(&mut self, states: &mut impl States<Links>, slot: Slot) {
        self.order.on_insert(states, slot);
    }

    #[inline]
    fn on_access(&mut self, _states: &mut impl States<Links>, _slot: Slot) {}

    #[inline]
    fn on_remove(&mut self, states: &mut impl States<Links>, slot: Slot) {
        self.order.on_remove(states, slot);
    }

    #[inline]
    fn victim(&self, states: &impl States<Links>) -> Option<Slot> {
        self.order.victim(states)
    }

    fn after(&self, states: &impl States<Links>, slot: Slot) -> Option<Slot> {
        self.order.after(states, slot)
    }

    fn check(&self, states: &impl States<Links>, len: usize) -> Result<(), String> {
        self.order.check(states, len)
    }
}
