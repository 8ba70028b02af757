//! SIEVE (Zhang et al., NSDI 2024): a queue in order of insertion and a hand that goes round it, from old to new. A hit
//! only marks its entry; the hand takes marks away and evicts the first entry that has none.
//!
//! The queue is two lists: the entries that the hand has passed in this round, and those ahead of it. When
//! none is ahead, the two lists change places. So some entry is ahead unless the cache is empty.

use super::{Entries, Policy};
use crate::column::Column;
use crate::list::{Links, List};
use crate::memory::{OutOfMemory, TryClone};
use crate::slot::Slot;

const VISITED: u8 = 1;
/// Which list an entry is in. Its meaning is swapped in every round.
const SIDE: u8 = 2;

/// Evicts the oldest entry that was not hit since the hand last passed it.
#[derive(Debug)]
pub struct Sieve {
    links: Column<Links>,
    marks: Column<u8>,
    /// The entries from the hand to the newest one.
    ahead: List,
    /// The entries from the oldest one to the hand.
    passed: List,
    /// The side of the entries in `ahead`: 0 or [`SIDE`].
    side: u8,
}

impl Sieve {
    /// Begins a new round if no entry is ahead of the hand. This is not put off to the next eviction, so that
    /// a new entry is the last of the new round, not the first.
    #[inline]
    fn turn(&mut self) {
        if self.ahead.is_empty() {
            std::mem::swap(&mut self.ahead, &mut self.passed);
            self.side ^= SIDE;
        }
    }

    /// The marked or the unmarked entries of a list, in order.
    fn some_of(&self, list: List, visited: u8) -> impl Iterator<Item = Slot> + '_ {
        list.iter(&self.links).filter(move |&slot| self.marks.get(slot) & VISITED == visited)
    }
}

impl Policy for Sieve {
    fn new(capacity: usize, _seed: u64) -> Self {
        Self {
            links: Column::new(capacity),
            marks: Column::new(capacity),
            ahead: List::default(),
            passed: List::default(),
            side: 0,
        }
    }

    #[inline]
    fn try_reserve(&mut self, slot: Slot, _entries: &impl Entries) -> Result<(), OutOfMemory> {
        self.links.try_reserve(slot)?;
        self.marks.try_reserve(slot)
    }

    #[inline]
    fn on_insert(&mut self, slot: Slot, _hash: u64) {
        self.marks.set(slot, self.side);
        self.ahead.push_back(&mut self.links, slot);
    }

    #[inline(always)]
    fn on_access(&mut self, slot: Slot, _hash: u64) {
        *self.marks.get_mut(slot) |= VISITED;
    }

    #[inline(always)]
    fn notices_access(&self, slot: Slot) -> bool {
        self.marks.get(slot) & VISITED == 0
    }

    fn accesses_commute(&self) -> bool {
        true
    }

    #[inline]
    fn on_remove(&mut self, slot: Slot) {
        let list = if self.marks.get(slot) & SIDE == self.side { &mut self.ahead } else { &mut self.passed };
        list.unlink(&mut self.links, slot);
        self.turn();
    }

    #[inline]
    fn victim(&mut self, _entries: &impl Entries) -> Option<Slot> {
        while let Some(slot) = self.ahead.front() {
            if self.marks.get(slot) & VISITED == 0 {
                return Some(slot);
            }
            self.marks.set(slot, self.side ^ SIDE);
            self.ahead.unlink(&mut self.links, slot);
            self.passed.push_back(&mut self.links, slot);
            self.turn();
        }
        None
    }

    /// Exactly the order in which the entries would be evicted.
    fn order(&self, _entries: impl Entries) -> impl Iterator<Item = Slot> {
        (self.some_of(self.ahead, 0).chain(self.some_of(self.passed, 0)))
            .chain(self.some_of(self.ahead, VISITED))
            .chain(self.some_of(self.passed, VISITED))
    }

    fn rank(&self, slot: Slot, _hash: u64) -> u64 {
        u64::from(self.marks.get(slot) & VISITED)
    }

    fn restore(&mut self, slot: Slot, _hash: u64, rank: u64) {
        if rank != 0 {
            *self.marks.get_mut(slot) |= VISITED;
        }
    }

    fn allocated_bytes(&self) -> usize {
        self.links.allocated_bytes() + self.marks.allocated_bytes()
    }

    fn check(&self, len: usize) -> Result<(), String> {
        let mut total = 0;
        for (list, side) in [(self.ahead, self.side), (self.passed, self.side ^ SIDE)] {
            total += list.count(&self.links, len).ok_or("a list is broken")?;
            if let Some(slot) = list.iter(&self.links).find(|&slot| self.marks.get(slot) & SIDE != side) {
                return Err(format!("{slot:?} is in the wrong list"));
            }
        }
        if total == len { Ok(()) } else { Err(format!("the lists hold {total} of {len} entries")) }
    }
}

impl TryClone for Sieve {
    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        Ok(Self {
            links: self.links.try_clone()?,
            marks: self.marks.try_clone()?,
            ahead: self.ahead,
            passed: self.passed,
            side: self.side,
        })
    }
}
