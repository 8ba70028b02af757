//! Eviction policies: who leaves when there is no room.
//!
//! A policy sees slots, never keys or values, and keeps what it has to know of each entry in
//! columns of its own. Every call is O(1). One file a policy; the store is generic over it, so
//! nothing is dispatched at run time.

mod fifo;
mod lfu;
mod lru;
mod random;

pub use fifo::Fifo;
pub use lfu::Lfu;
pub use lru::Lru;
pub use random::Random;

use crate::slot::Slot;

/// Decides which entry leaves next.
///
/// The store promises that every slot it names is present, that [`on_insert`](Self::on_insert)
/// comes first and [`on_remove`](Self::on_remove) last for each entry, and that it alone removes.
/// Slots are small numbers, given out from 0 on and again after they have become free.
pub trait Policy {
    /// A policy for an empty store that expects up to `capacity` entries (0: any number); `seed`
    /// feeds whatever chance the policy uses.
    fn new(capacity: usize, seed: u64) -> Self;

    /// An entry came in. *Policy leaves:* `slot` known.
    fn on_insert(&mut self, slot: Slot);

    /// An entry was read or replaced. *Policy leaves:* the order changed as the policy says.
    fn on_access(&mut self, slot: Slot);

    /// An entry leaves after this call. *Policy leaves:* no trace of `slot`.
    fn on_remove(&mut self, slot: Slot);

    /// The entry at `slot` left, and another came in at the same slot.
    #[inline(always)]
    fn on_reuse(&mut self, slot: Slot) {
        self.on_remove(slot);
        self.on_insert(slot);
    }

    /// The entry to leave next; the same until something changes. `None` only when empty.
    fn victim(&self) -> Option<Slot>;

    /// The entry that would leave after `slot` if nothing else happened.
    fn after(&self, slot: Slot) -> Option<Slot>;

    /// How well established an entry is, for [`restore`](Self::restore); 0 where the order says
    /// all there is to say.
    fn rank(&self, slot: Slot) -> u64 {
        let _ = slot;
        0
    }

    /// Gives the newest entry the rank it had in another store.
    fn restore(&mut self, slot: Slot, rank: u64) {
        let _ = (slot, rank);
    }

    /// Bytes allocated.
    fn allocated_bytes(&self) -> usize;

    /// Recounts the policy's own structure; `len` entries are present.
    ///
    /// # Errors
    ///
    /// What was found to be wrong, in words.
    fn check(&self, len: usize) -> Result<(), String>;
}
