//! Least recently used: a list with the coldest entry in front. A hit moves its entry to the back.

use super::{Entries, Policy};
use crate::column::Column;
use crate::list::{Links, List};
use crate::memory::{OutOfMemory, TryClone};
use crate::slot::Slot;

/// Evicts the entry that was not read or replaced for the longest time.
#[derive(Debug)]
pub struct Lru {
    links: Column<Links>,
    list: List,
}

impl Policy for Lru {
    fn new(capacity: usize, _seed: u64) -> Self {
        Self { links: Column::new(capacity), list: List::default() }
    }

    #[inline]
    fn try_reserve(&mut self, slot: Slot, _entries: &impl Entries) -> Result<(), OutOfMemory> {
        self.links.try_reserve(slot)
    }

    #[inline]
    fn on_insert(&mut self, slot: Slot, _hash: u64) {
        self.list.push_back(&mut self.links, slot);
    }

    #[inline(always)]
    fn on_access(&mut self, slot: Slot, _hash: u64) {
        self.list.move_to_back(&mut self.links, slot);
    }

    #[inline]
    fn on_remove(&mut self, slot: Slot) {
        self.list.unlink(&mut self.links, slot);
    }

    #[inline(always)]
    fn on_reuse(&mut self, slot: Slot, _evicted: u64, _hash: u64) {
        self.list.move_to_back(&mut self.links, slot);
    }

    #[inline(always)]
    fn victim(&mut self, _entries: &impl Entries) -> Option<Slot> {
        self.list.front()
    }

    fn order(&self, _entries: impl Entries) -> impl Iterator<Item = Slot> {
        self.list.iter(&self.links)
    }

    #[inline]
    fn first_listed(&self) -> Option<Slot> {
        self.list.front()
    }

    #[inline(always)]
    fn listed_after(&self, slot: Slot) -> Option<Slot> {
        List::next(&self.links, slot)
    }

    fn restore(&mut self, slot: Slot, _hash: u64, _rank: u64) {
        self.list.move_to_back(&mut self.links, slot);
    }

    fn allocated_bytes(&self) -> usize {
        self.links.allocated_bytes()
    }

    fn check(&self, len: usize) -> Result<(), String> {
        match self.list.count(&self.links, len) {
            Some(count) if count == len => Ok(()),
            counted => Err(format!("the list holds {counted:?} of {len} entries")),
        }
    }
}

impl TryClone for Lru {
    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        Ok(Self { links: self.links.try_clone()?, list: self.list })
    }
}
