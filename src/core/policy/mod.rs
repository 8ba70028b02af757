//! Eviction policies: which entry is evicted when there is no room.
//!
//! A policy sees slots and hashes, never keys or values, and keeps its data on each entry in columns of its
//! own. Every call is O(1). Each policy has a file. The store is generic over the policy; a program that
//! chooses one at run time writes a policy that dispatches to several. Parts that several policies share have
//! files of their own: `ghosts` and `sketch` remember keys that are not present, `slru` is a window before a
//! segmented main space, and `tuner` finds the best configuration by miniature simulations.

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
    /// Its weight.
    fn weight(&self, slot: Slot) -> u64;
    /// Whether there may be entries of different weights.
    fn are_weighted(&self) -> bool;
}

/// What a policy maximizes, in a store whose entries have different weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Goal {
    /// The number of hits: many light entries rather than few heavy ones.
    #[default]
    Hits,
    /// The sum of the weights of the entries that are hit.
    Bytes,
}

/// Decides which entry is evicted next.
///
/// The store promises that every slot it passes has an entry, and that for each entry it calls
/// [`on_insert`](Self::on_insert) first and [`on_remove`](Self::on_remove) or [`on_evict`](Self::on_evict)
/// last. Only the store removes entries. Slots are small numbers, given out from 0 on and reused once they
/// are vacant. Hashes are those of the caller. A policy that remembers hashes mixes in its seed, so that no
/// user of the cache can choose hashes that collide.
pub trait Policy {
    /// A policy for an empty store. Its data on the first `capacity` entries may be contiguous (0: none).
    /// `seed` seeds its random choices. Allocates nothing: memory grows with the entries.
    fn new(capacity: usize, seed: u64) -> Self;

    /// Forgets everything, so that the policy is as [`new`](Self::new) makes it.
    fn reset(&mut self, capacity: usize, seed: u64)
    where
        Self: Sized,
    {
        *self = Self::new(capacity, seed);
    }

    /// Makes room for the policy's data on an entry at `slot`, so that [`on_insert`](Self::on_insert) cannot
    /// fail. This does not include what a policy remembers of keys that are not present: if there is no
    /// memory for that, the policy remembers less.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`].
    fn try_reserve(&mut self, slot: Slot, entries: &impl Entries) -> Result<(), OutOfMemory> {
        let _ = (slot, entries);
        Ok(())
    }

    /// From now on the store holds at most `entries` entries (`usize::MAX`: any number).
    fn set_bound(&mut self, entries: usize) {
        let _ = entries;
    }

    /// Sets what to maximize. Most policies ignore weights, and this.
    fn set_goal(&mut self, goal: Goal) {
        let _ = goal;
    }

    /// An entry was inserted. *Policy leaves:* `slot` in its structure.
    fn on_insert(&mut self, slot: Slot, hash: u64);

    /// An entry was read. *Policy leaves:* the order changed as the policy says.
    fn on_access(&mut self, slot: Slot, hash: u64);

    /// Whether [`on_access`](Self::on_access) of this entry would change anything.
    #[inline(always)]
    fn notices_access(&self, slot: Slot) -> bool {
        let _ = slot;
        true
    }

    /// Whether accesses lead to the same state in any order, as long as no other call comes in between.
    fn accesses_commute(&self) -> bool {
        false
    }

    /// A key that is not present was looked up. An insertion follows if the program stores what it does not find. *Policy
    /// leaves:* the order as it is.
    #[inline(always)]
    fn on_miss(&mut self, hash: u64) {
        let _ = hash;
    }

    /// Whether [`on_miss`](Self::on_miss) may change anything.
    #[inline(always)]
    fn notices_misses(&self) -> bool {
        false
    }

    /// The value of an entry was replaced. *Policy leaves:* the order changed as the policy says.
    #[inline(always)]
    fn on_replace(&mut self, slot: Slot, hash: u64) {
        self.on_access(slot, hash);
    }

    /// The store removes an entry after this call, not to make room. *Policy leaves:* no trace of `slot`.
    fn on_remove(&mut self, slot: Slot);

    /// The store evicts an entry after this call. *Policy leaves:* no trace of `slot`; it may remember
    /// `hash`.
    #[inline(always)]
    fn on_evict(&mut self, slot: Slot, hash: u64) {
        let _ = hash;
        self.on_remove(slot);
    }

    /// The entry at `slot`, whose hash was `evicted`, was evicted for another with hash `hash`, which takes
    /// the same slot.
    #[inline(always)]
    fn on_reuse(&mut self, slot: Slot, evicted: u64, hash: u64) {
        self.on_evict(slot, evicted);
        self.on_insert(slot, hash);
    }

    /// Chooses the next victim, which stays the same until something changes. `None` only when the store is
    /// empty. Amortized O(1).
    fn victim(&mut self, entries: &impl Entries) -> Option<Slot>;

    /// Every entry once: the next victim first, and the others in about the order in which they would be
    /// evicted if nothing else happened. O(n) in all.
    fn order(&self, entries: impl Entries) -> impl Iterator<Item = Slot>;

    /// Every entry once, in the order in which a user sees them. O(n) in all.
    fn listing(&self, entries: impl Entries) -> impl Iterator<Item = Slot> {
        self.order(entries)
    }

    /// The first entry of [`listing`](Self::listing). `None` for a policy that cannot tell it in O(1).
    fn first_listed(&self) -> Option<Slot> {
        None
    }

    /// The entry after one that is present, for the same policies. O(1).
    fn listed_after(&self, slot: Slot) -> Option<Slot> {
        let _ = slot;
        None
    }

    /// What the policy knows of an entry beyond its place in the order, such as its frequency, for
    /// [`restore`](Self::restore); 0 if there is nothing else.
    fn rank(&self, slot: Slot, hash: u64) -> u64 {
        let _ = (slot, hash);
        0
    }

    /// Gives the newest entry the rank it had in another store.
    fn restore(&mut self, slot: Slot, hash: u64, rank: u64) {
        let _ = (slot, hash, rank);
    }

    /// The entry with a rank, if no two entries have the same one.
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
    /// A description of the inconsistency that was found.
    fn check(&self, len: usize) -> Result<(), String>;
}
