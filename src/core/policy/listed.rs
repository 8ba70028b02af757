//! A policy that lists its entries in the order of insertion, as a `dict` does, whatever the order of
//! eviction is.

use super::{Entries, Lru, Policy};
use crate::memory::{OutOfMemory, TryClone};
use crate::slot::Slot;

/// Evicts as `P` does, and lists entries in the order of insertion.
#[derive(Debug)]
pub struct Listed<P> {
    policy: P,
    /// The same list as that of least-recently-used, but accesses are not passed on to it.
    inserted: Lru,
}

impl<P: Policy> Policy for Listed<P> {
    fn new(capacity: usize, seed: u64) -> Self {
        Self { policy: P::new(capacity, seed), inserted: Lru::new(capacity, seed) }
    }

    #[inline]
    fn try_reserve(&mut self, slot: Slot, entries: &impl Entries) -> Result<(), OutOfMemory> {
        self.inserted.try_reserve(slot, entries)?;
        self.policy.try_reserve(slot, entries)
    }

    fn set_bound(&mut self, entries: usize) {
        self.policy.set_bound(entries);
    }

    #[inline]
    fn on_insert(&mut self, slot: Slot, hash: u64) {
        self.inserted.on_insert(slot, hash);
        self.policy.on_insert(slot, hash);
    }

    #[inline(always)]
    fn on_access(&mut self, slot: Slot, hash: u64) {
        self.policy.on_access(slot, hash);
    }

    #[inline(always)]
    fn notices_access(&self, slot: Slot) -> bool {
        self.policy.notices_access(slot)
    }

    fn accesses_commute(&self) -> bool {
        self.policy.accesses_commute()
    }

    #[inline(always)]
    fn on_replace(&mut self, slot: Slot, hash: u64) {
        self.policy.on_replace(slot, hash);
    }

    #[inline]
    fn on_remove(&mut self, slot: Slot) {
        self.inserted.on_remove(slot);
        self.policy.on_remove(slot);
    }

    #[inline]
    fn on_evict(&mut self, slot: Slot, hash: u64) {
        self.inserted.on_remove(slot);
        self.policy.on_evict(slot, hash);
    }

    #[inline]
    fn on_reuse(&mut self, slot: Slot, evicted: u64, hash: u64) {
        self.inserted.on_reuse(slot, evicted, hash);
        self.policy.on_reuse(slot, evicted, hash);
    }

    #[inline]
    fn victim(&mut self, entries: &impl Entries) -> Option<Slot> {
        self.policy.victim(entries)
    }

    fn order(&self, entries: impl Entries) -> impl Iterator<Item = Slot> {
        self.policy.order(entries)
    }

    fn listing(&self, entries: impl Entries) -> impl Iterator<Item = Slot> {
        self.inserted.order(entries)
    }

    #[inline]
    fn first_listed(&self) -> Option<Slot> {
        self.inserted.first_listed()
    }

    #[inline(always)]
    fn listed_after(&self, slot: Slot) -> Option<Slot> {
        self.inserted.listed_after(slot)
    }

    fn rank(&self, slot: Slot, hash: u64) -> u64 {
        self.policy.rank(slot, hash)
    }

    fn restore(&mut self, slot: Slot, hash: u64, rank: u64) {
        self.policy.restore(slot, hash, rank);
    }

    fn at_rank(&self, rank: u64) -> Option<Slot> {
        self.policy.at_rank(rank)
    }

    fn allocated_bytes(&self) -> usize {
        self.policy.allocated_bytes() + self.inserted.allocated_bytes()
    }

    fn check(&self, len: usize) -> Result<(), String> {
        self.inserted.check(len)?;
        self.policy.check(len)
    }
}

impl<P: TryClone> TryClone for Listed<P> {
    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        Ok(Self { policy: self.policy.try_clone()?, inserted: self.inserted.try_clone()? })
    }
}
