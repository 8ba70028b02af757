//! The entries in their order.

use super::{EntryStore, Present};
use crate::policy::Policy;
use crate::slot::Slot;

impl<K, V, P: Policy> EntryStore<K, V, P> {
    /// The slots of all entries, the next victim first. O(n) in all.
    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        self.policy.order(Present(&self.hashes, &self.weights))
    }

    /// The slots of all entries in the order in which a user sees them: that of [`slots`](Self::slots),
    /// unless the policy keeps another for this. O(n) in all.
    pub fn listing(&self) -> impl Iterator<Item = Slot> {
        self.policy.listing(Present(&self.hashes, &self.weights))
    }

    /// The first entry of [`listing`](Self::listing). `None` if there is none, or if the policy cannot tell it
    /// in O(1).
    #[inline]
    #[must_use]
    pub fn first_listed(&self) -> Option<Slot> {
        self.policy.first_listed()
    }

    /// The entry after one that is present, for the same policies. O(1).
    #[inline(always)]
    #[must_use]
    pub fn listed_after(&self, slot: Slot) -> Option<Slot> {
        self.policy.listed_after(slot)
    }

    /// What the policy knows of an entry beyond its place in the order, such as its frequency, for
    /// [`restore`](Self::restore) to put back.
    #[must_use]
    pub fn rank(&self, slot: Slot) -> u64 {
        self.policy.rank(slot, self.hash(slot))
    }

    /// Gives the newest entry the rank it had in another store.
    pub fn restore(&mut self, slot: Slot, rank: u64) {
        self.policy.restore(slot, self.hash(slot), rank);
    }

    /// The entry with a [`rank`](Self::rank), if the policy gives each entry a different one. O(1).
    #[must_use]
    pub fn at_rank(&self, rank: u64) -> Option<Slot> {
        self.policy.at_rank(rank)
    }
}
