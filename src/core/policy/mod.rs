//! Eviction policies: which entry is evicted when there is no room.
//!
//! A policy sees slots and hashes, never keys or values, and keeps what it has to know of each
//! entry in columns of its own. Every call is O(1). Each policy has a file. The store is generic over
//! the policy; a program that chooses one at run time makes a policy of several. Several policies share parts, which have
//! files of their own: `ghosts` and `sketch` remember keys that are not present, `slru` is a window before a
//! segmented main space, `tuner` finds the best size of the window by miniature simulations.

mod auto;
mod exact_lfu;
mod fifo;
mod ghosts;
mod lfu;
mod listed;
mod lru;
mod random;
mod requeue;
mod s3fifo;
mod seed;
mod sieve;
mod sketch;
mod slru;
mod tinylfu;
mod tuner;
mod windowed;

pub use auto::Auto;
#[cfg(feature = "untuned")]
pub use auto::{UntunedGhosts, UntunedWindow};
pub use exact_lfu::ExactLfu;
pub use fifo::Fifo;
pub use lfu::Lfu;
pub use listed::Listed;
pub use lru::Lru;
pub use random::Random;
pub use requeue::Requeue;
pub use s3fifo::S3Fifo;
pub use sieve::Sieve;
pub use tinylfu::TinyLfu;

use crate::memory::OutOfMemory;
use crate::slot::Slot;

/// What a policy may ask the store about an entry that is present.
pub trait Entries {
    /// The hash of its key.
    fn hash(&self, slot: Slot) -> u64;
    /// What it weighs.
    fn weight(&self, slot: Slot) -> u64;
    /// Whether there may be entries of different weights.
    fn are_weighted(&self) -> bool;
}

/// What a policy makes the most of, where weights limit the store and entries differ in theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Goal {
    /// The number of hits: many light entries rather than few heavy ones.
    #[default]
    Hits,
    /// The sum of the weights of what is hit.
    Bytes,
}

/// Decides which entry is evicted next.
///
/// The store promises that every slot it names is present, that [`on_insert`](Self::on_insert)
/// comes first and [`on_remove`](Self::on_remove) or [`on_evict`](Self::on_evict) last for each
/// entry, and that it alone removes. Slots are small numbers, given out from 0 on and again after
/// they have become free. Hashes are as the caller made them. A policy that remembers them mixes
/// in its seed, so that no user of the cache can choose hashes that collide.
pub trait Policy {
    /// A policy for an empty store. What it keeps of each entry may be contiguous for up to `capacity`
    /// entries (0: none); `seed` feeds its random choices. Allocates nothing: memory grows with the entries.
    fn new(capacity: usize, seed: u64) -> Self;

    /// Forgets everything: it is the policy of an empty store again, as [`new`](Self::new) makes it.
    fn reset(&mut self, capacity: usize, seed: u64)
    where
        Self: Sized,
    {
        *self = Self::new(capacity, seed);
    }

    /// Makes room for what the policy keeps of an entry at `slot`, so that [`on_insert`](Self::on_insert)
    /// cannot fail. What a policy remembers of keys that are not present is not included: without
    /// memory for it, the policy remembers less.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`].
    fn try_reserve(&mut self, slot: Slot, entries: &impl Entries) -> Result<(), OutOfMemory> {
        let _ = (slot, entries);
        Ok(())
    }

    /// The store holds at most `entries` from now on (`usize::MAX`: any number).
    fn set_bound(&mut self, entries: usize) {
        let _ = entries;
    }

    /// What to make the most of; most policies know nothing of weights, and ignore it.
    fn set_goal(&mut self, goal: Goal) {
        let _ = goal;
    }

    /// An entry came in. *Policy leaves:* `slot` known.
    fn on_insert(&mut self, slot: Slot, hash: u64);

    /// An entry was read. *Policy leaves:* the order changed as the policy says.
    fn on_access(&mut self, slot: Slot, hash: u64);

    /// A key that is not present was looked up. An insertion follows if the program stores what it does not find. *Policy
    /// leaves:* the order as it is.
    #[inline(always)]
    fn on_miss(&mut self, hash: u64) {
        let _ = hash;
    }

    /// The value of an entry was replaced. *Policy leaves:* the order changed as the policy says.
    #[inline(always)]
    fn on_replace(&mut self, slot: Slot, hash: u64) {
        self.on_access(slot, hash);
    }

    /// An entry leaves after this call, not for want of room. *Policy leaves:* no trace of `slot`.
    fn on_remove(&mut self, slot: Slot);

    /// An entry makes room for another. *Policy leaves:* no trace of `slot`; it may remember
    /// `hash`.
    #[inline(always)]
    fn on_evict(&mut self, slot: Slot, hash: u64) {
        let _ = hash;
        self.on_remove(slot);
    }

    /// The entry at `slot` made room for another, whose hash is `hash`, at the same slot.
    #[inline(always)]
    fn on_reuse(&mut self, slot: Slot, evicted: u64, hash: u64) {
        self.on_evict(slot, evicted);
        self.on_insert(slot, hash);
    }

    /// Chooses the next victim; the same until something changes. `None` only when empty. O(1), over many calls.
    fn victim(&mut self, entries: &impl Entries) -> Option<Slot>;

    /// Every entry once, the next victim first, and the others about as they would follow if
    /// nothing else happened. O(n) in all.
    fn order(&self, entries: impl Entries) -> impl Iterator<Item = Slot>;

    /// Every entry once, in the order in which they are shown to the user. O(n) in all.
    fn listing(&self, entries: impl Entries) -> impl Iterator<Item = Slot> {
        self.order(entries)
    }

    /// How well established an entry is, for [`restore`](Self::restore); 0 where the order says
    /// all there is to say.
    fn rank(&self, slot: Slot, hash: u64) -> u64 {
        let _ = (slot, hash);
        0
    }

    /// Gives the newest entry the rank it had in another store.
    fn restore(&mut self, slot: Slot, hash: u64, rank: u64) {
        let _ = (slot, hash, rank);
    }

    /// The entry of a rank, where no two entries have the same.
    fn at_rank(&self, rank: u64) -> Option<Slot> {
        let _ = rank;
        None
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
