//! What the slab holds: an entry and its policy's state.

use crate::arena::Arena;
use crate::policy::States;
use crate::slot::Slot;

/// A stored entry. What only some stores need (weight, deadline) lives in columns, not here.
#[derive(Clone, Debug)]
pub(crate) struct Node<K, V, S> {
    pub(crate) key: K,
    pub(crate) value: V,
    pub(crate) hash: u64,
    pub(crate) state: S,
}

impl<K, V, S> States<S> for Arena<Node<K, V, S>> {
    #[inline]
    fn state(&self, slot: Slot) -> &S {
        &self.get(slot).state
    }

    #[inline]
    fn state_mut(&mut self, slot: Slot) -> &mut S {
        &mut self.get_mut(slot).state
    }
}
