//! First in, first out: a list in order of insertion. A hit changes nothing.

use super::{Entries, Lru, Policy};
use crate::memory::{OutOfMemory, TryClone};
use crate::slot::Slot;

/// Evicts the entry that was inserted first; replacing a value does not make its entry newer.
#[derive(Debug)]
pub struct Fifo {
    /// The same list as that of least-recently-used, but accesses are not passed on to it.
    order: Lru,
}

impl Policy for Fifo {
    fn new(capacity: usize, seed: u64) -> Self {
        Self { order: Lru::new(capacity, seed) }
    }

    #[inline]
    fn try_reserve(&mut self, slot: Slot, entries: &impl Entries) -> Result<(), OutOfMemory> {
        self.order.try_reserve(slot, entries)
    }

    #[inline]
    fn on_insert(&mut self, slot: Slot, hash: u64) {
        self.order.on_insert(slot, hash);
    }

    #[inline(always)]
    fn on_access(&mut self, _slot: Slot, _hash: u64) {}

    #[inline(always)]
    fn notices_access(&self, _slot: Slot) -> bool {
        false
    }

    fn accesses_commute(&self) -> bool {
        true
    }

    #[inline]
    fn on_remove(&mut self, slot: Slot) {
        self.order.on_remove(slot);
    }

    #[inline(always)]
    fn on_reuse(&mut self, slot: Slot, evicted: u64, hash: u64) {
        self.order.on_reuse(slot, evicted, hash);
    }

    #[inline]
    fn victim(&mut self, entries: &impl Entries) -> Option<Slot> {
        self.order.victim(entries)
    }

    fn order(&self, entries: impl Entries) -> impl Iterator<Item = Slot> {
        self.order.order(entries)
    }

    #[inline]
    fn first_listed(&self) -> Option<Slot> {
        self.order.first_listed()
    }

    #[inline(always)]
    fn listed_after(&self, slot: Slot) -> Option<Slot> {
        self.order.listed_after(slot)
    }

    fn allocated_bytes(&self) -> usize {
        self.order.allocated_bytes()
    }

    fn check(&self, len: usize) -> Result<(), String> {
        self.order.check(len)
    }
}

impl TryClone for Fifo {
    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        Ok(Self { order: self.order.try_clone()? })
    }
}
