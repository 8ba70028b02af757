//! Eviction policies: who leaves when there is no room.
//!
//! A policy sees slots and its own state of each entry, never keys or values. Every call is
//! O(1). One file a policy; the store is generic over it, so nothing is dispatched at run time.

mod fifo;
mod lfu;
mod lru;
mod random;

pub use fifo::Fifo;
pub use lfu::{Frequency, Lfu};
pub use lru::Lru;
pub use random::{Position, Random};

use crate::slot::Slot;

/// The states of the entries, as a policy sees them.
pub trait States<S> {
    /// The state of the entry at `slot`.
    fn state(&self, slot: Slot) -> &S;
    /// The state of the entry at `slot`, to be changed.
    fn state_mut(&mut self, slot: Slot) -> &mut S;
}

/// Decides which entry leaves next.
///
/// The store promises that every slot it names is present, that [`on_insert`](Self::on_insert)
/// comes first and [`on_remove`](Self::on_remove) last for each entry, and that it alone removes.
pub trait Policy {
    /// What the policy keeps for each entry, inside its node.
    type State: Clone + Default;

    /// A policy for an empty store; `seed` feeds whatever chance the policy uses.
    fn new(seed: u64) -> Self;

    /// *Store promises:* `slot` is new, its state the default. *Policy leaves:* `slot` known.
    fn on_insert(&mut self, states: &mut impl States<Self::State>, slot: Slot);

    /// An entry was read or replaced. *Policy leaves:* the order changed as the policy says.
    fn on_access(&mut self, states: &mut impl States<Self::State>, slot: Slot);

    /// *Store promises:* `slot` is known and leaves after this call. *Policy leaves:* no trace.
    fn on_remove(&mut self, states: &mut impl States<Self::State>, slot: Slot);

    /// The entry to leave next; the same until something changes. `None` only when empty.
    fn victim(&self, states: &impl States<Self::State>) -> Option<Slot>;

    /// The entry that would leave after `slot` if nothing else happened.
    fn after(&self, states: &impl States<Self::State>, slot: Slot) -> Option<Slot>;

    /// How well established an entry is, for [`restore`](Self::restore); 0 where the order says
    /// all there is to say.
    fn rank(&self, states: &impl States<Self::State>, slot: Slot) -> u64 {
        let _ = (states, slot);
        0
    }

    /// Gives the newest entry the rank it had in another store.
    fn restore(&mut self, states: &mut impl States<Self::State>, slot: Slot, rank: u64) {
        let _ = (states, slot, rank);
    }

    /// Bytes allocated beside the states.
    fn allocated_bytes(&self) -> usize {
        0
    }

    /// Recounts the policy's own structure and says what is wrong; `len` entries are present.
    ///
    /// # Errors
    ///
    /// What was found to be wrong, in words.
    fn check(&self, states: &impl States<Self::State>, len: usize) -> Result<(), String>;
}
